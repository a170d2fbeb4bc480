"""Forgejo and Gitea: pull requests over their common REST interface (version 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field

from executor.config.schema import Received
from executor.forge.base import Checks, CheckState, MergeAnswer
from executor.forge.hosts.credentials import TIMEOUT
from executor.forge.hosts.repository import CONFLICT, Comment, RestForge, check_of, issue_of, pull_of
from executor.forge.hosts.rest import TRIES, Api, Issue, Pull, Status, missing_extra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.forge.base import ForgeIssue
    from executor.forge.connect import Target
    from executor.forge.hosts.repository import Milestone
    from executor.forge.hosts.rest import Send
    from executor.forge.pull_request import PullRequest

__all__ = ["ForgejoForge", "connect", "over_requests"]

_OWN = {"forgejo": "https://codeberg.org", "gitea": "https://gitea.com"}
_NO_ACCESS = frozenset({403, 404})
_NOT_ALLOWED = 405  # HTTP: it cannot be merged now
_NOT_GREEN = ("status check", "checks", "not all required")


class _Label(Received):
    id: int
    name: str = ""


class _Branch(Received):
    enable_status_check: bool = False
    status_check_contexts: list[str] = Field(default_factory=list)


def connect(wanted: Target) -> ForgejoForge:
    """Connect to the declared repository on Forgejo or Gitea; `base_url` is the address of the instance.

    Raises:
        UsageError: the library is not installed, or the repository is unknown.
        ForgeRefusedError: no token was found.
    """
    rules = wanted.rules
    base = f"{rules.base_url or _OWN[rules.kind]}/api/v1"
    send = over_requests(base, wanted.token, rules.kind)
    name = f"{rules.kind.capitalize()} at {base}"
    api = Api(send, budget=wanted.budget(base), cache=wanted.cache, forge=name)
    return ForgejoForge(api, wanted.repository(), auto_merge=rules.auto_merge, kind=rules.kind)


class ForgejoForge(RestForge[Pull, Issue]):
    """A repository on Forgejo or Gitea.

    Args:
        api: sends the requests.
        repository: ``owner/name``.
        auto_merge: it may be asked to merge later.
        kind: ``forgejo`` or ``gitea``.
    """

    pull_type, issue_type = Pull, Issue
    blockers = "dependencies"
    draft = "WIP: "

    def __init__(self, api: Api, repository: str, *, auto_merge: bool = True, kind: str = "forgejo") -> None:
        super().__init__(api, f"/repos/{repository}", auto_merge=auto_merge)
        self.kind = kind

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Cancel auto-merge; without one, the forge reports that there is none."""
        for tries in range(TRIES):
            now = self._get(pull.number)
            if now.state != "open":
                return now
            answer = self._api.write("DELETE", f"{self._at}/pulls/{pull.number}/merge")
            if answer.ok or answer.status in _NO_ACCESS:
                return self._get(pull.number)
            self._api.wait(tries)
        raise self._silent(pull, "cancel its auto-merge")

    def _asked(self, *, head: str = "", base: str = "") -> Mapping[str, str]:
        _ = head, base  # it can list neither by branch
        return {"state": "all"}

    def _is_here(self, item: Pull) -> bool:
        return item.head.repo_id == item.base.repo_id

    def _pull(self, item: Pull) -> PullRequest:
        return pull_of(item, self.draft)

    def _in_milestone(self, milestone: Milestone) -> Mapping[str, str]:
        return {"milestones": milestone.title, "state": "all", "type": "issues"}

    def _issue(self, item: Issue) -> ForgeIssue:
        return issue_of(item, self._blocking(item.number))

    def _statuses(self, sha: str) -> list[CheckState]:
        """Return the latest status of each name; actions write statuses as well."""
        statuses = self._api.pages(f"{self._at}/commits/{sha}/statuses", {"sort": "oldest"}, Status)
        return list({item.context: check_of(item) for item in statuses}.values())

    def _comments(self, number: int) -> list[Comment]:
        return self._api.get(self._comments_at(number), list[Comment]) or []  # all at once, without pages

    def _add_labels(self, pull: PullRequest, missing: Sequence[str]) -> PullRequest:
        """Add the labels that the repository has; others cannot be set."""
        ids = {item.name: item.id for item in self._api.pages(f"{self._at}/labels", {}, _Label)}
        known = [name for name in missing if name in ids]
        return self._labelled(pull, known, [ids[name] for name in known]) if known else pull

    def _merge(
        self, pull: PullRequest, item: Pull, checks: Checks, sha: str, title: str, message: str, method: str
    ) -> MergeAnswer | None:
        _ = item
        waiting = ", ".join(f'"{item.name}"' for item in checks.of("pending"))
        body = {
            "Do": method,
            "head_commit_id": sha,
            "MergeTitleField": title,
            "MergeMessageField": message,
            "delete_branch_after_merge": False,
        }
        return self._later(pull, body, waiting) if waiting else self._now(pull, body)

    def _now(self, pull: PullRequest, body: Mapping[str, Any]) -> MergeAnswer | None:
        """Merge now; None if the outcome is unknown."""
        answer = self._api.write("POST", f"{self._at}/pulls/{pull.number}/merge", body)
        words = answer.message.lower()
        if answer.ok:
            now = self._get(pull.number)
            return MergeAnswer("merged", commit=now.merge_commit) if now.state == "merged" else None
        if answer.lost:
            return None
        if answer.status == CONFLICT and ("head" in words or "sha" in words):
            return MergeAnswer("moved", answer.message)
        if answer.status == _NOT_ALLOWED and "try again" in words:
            return None  # it still looks whether the branch can be merged
        if answer.status == _NOT_ALLOWED and any(text in words for text in _NOT_GREEN):
            return self._later(pull, body, "required checks")
        return MergeAnswer("refused", answer.message or f"status {answer.status}")

    def _later(self, pull: PullRequest, body: Mapping[str, Any], waiting: str) -> MergeAnswer | None:
        """Schedule the merge for when its checks are green."""
        required = self._has_required(pull.base)
        if not (self._auto_merge and required):
            why = "; auto-merge is not used, because its base has no required check" if self._auto_merge else ""
            return MergeAnswer("pending", f"waits for {waiting}{why}")
        asked = {**body, "merge_when_checks_succeed": True}
        answer = self._api.write("POST", f"{self._at}/pulls/{pull.number}/merge", asked)
        if answer.ok or (answer.status == CONFLICT and "already" in answer.message.lower()):
            return MergeAnswer("scheduled", f"waits for {waiting}") if self._get(pull.number).state == "open" else None
        if answer.lost:
            return None
        return MergeAnswer("refused", f"auto-merge cannot be enabled: {answer.message or answer.status}")

    def _has_required(self, base: str) -> bool:
        branch = self._api.get(f"{self._at}/branches/{quote(base, safe='')}", _Branch) or _Branch()
        return branch.enable_status_check and bool(branch.status_check_contexts)


def over_requests(base_url: str, token: str, kind: str = "forgejo") -> Send:
    """Send requests with the library `requests`, one at a time; a redirect to another host does not get the token.

    Raises:
        UsageError: the library is not installed.
    """
    try:
        import requests
    except ImportError as error:
        raise missing_extra(kind, "forgejo") from error
    session = requests.Session()
    session.headers.update({"Authorization": f"token {token}", "User-Agent": "make-for-milestones"})

    def send(
        verb: str, path: str, parameters: dict[str, Any] | None, headers: dict[str, str], body: Any
    ) -> tuple[int, Mapping[str, Any], str]:
        given = {("limit" if key == "per_page" else key): value for key, value in (parameters or {}).items()}
        answer = session.request(verb, f"{base_url}{path}", params=given, headers=headers, json=body, timeout=TIMEOUT)
        return answer.status_code, answer.headers, answer.text

    return send
