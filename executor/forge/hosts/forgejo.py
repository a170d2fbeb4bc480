"""Forgejo and Gitea: pull requests over their common REST interface (version 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field

from executor.errors import ForgeRefusedError, ForgeUnavailableError, UsageError
from executor.forge.base import CheckReport, Checks, CheckState, ForgeIssue, MergeAnswer, red_answer, standing
from executor.forge.hosts.credentials import TIMEOUT
from executor.forge.hosts.rest import TRIES, Api, Comment
from executor.forge.pull_request import PullRequest
from executor.model.validation import Received

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.forge.base import NewPull
    from executor.forge.connect import Target
    from executor.forge.hosts.rest import Answer, Send

__all__ = ["ForgejoForge", "connect", "over_requests"]

_OWN = {"forgejo": "https://codeberg.org", "gitea": "https://gitea.com"}

_DRAFT = "WIP: "
_OURS = "milestone/"
_WORDS = {"success": "success", "warning": "success", "failure": "failure", "error": "failure"}
_NO_ACCESS = frozenset({403, 404})
_CONFLICT, _NOT_ALLOWED = 409, 405
_NOT_GREEN = ("status check", "checks", "not all required")


class _Named(Received):
    """A label; its id is needed only to set it."""

    name: str = ""


class _Label(_Named):
    id: int


class _User(Received):
    login: str = ""


class _Head(Received):
    ref: str
    sha: str = ""
    repo_id: int = 0


class _Base(Received):
    ref: str
    repo_id: int = 0


class _Pull(Received):
    number: int
    state: str
    head: _Head
    base: _Base
    merged: bool = False
    title: str = ""
    body: str = ""
    draft: bool = False
    html_url: str = ""
    merge_commit_sha: str = ""
    user: _User = _User()
    labels: list[_Named] = Field(default_factory=list)


class _Status(Received):
    context: str = ""
    status: str = ""
    description: str = ""
    target_url: str = ""


class _Issue(Received):
    number: int
    state: str
    title: str = ""
    body: str = ""
    labels: list[_Named] = Field(default_factory=list)
    html_url: str = ""


class _Milestone(Received):
    id: int
    title: str = ""


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


class ForgejoForge:
    """A repository on Forgejo or Gitea; `Forge` documents the methods.

    Args:
        api: sends the requests.
        repository: ``owner/name``.
        auto_merge: it may be asked to merge later.
        kind: ``forgejo`` or ``gitea``.
    """

    def __init__(self, api: Api, repository: str, *, auto_merge: bool = True, kind: str = "forgejo") -> None:
        self._api = api
        self._at = f"/repos/{repository}"
        self._auto_merge = auto_merge
        self.kind = kind

    def find(self, head: str) -> list[PullRequest]:
        """Return every pull request of a branch of this repository, oldest first."""
        return [pull for pull in self._list() if pull.head == head]

    def pulls(self, base: str) -> list[PullRequest]:
        """Return every pull request into a branch, oldest first."""
        return [pull for pull in self._list() if pull.base == base]

    def open(self, new: NewPull) -> PullRequest:
        """Open the pull request of that branch into that base, or return the open one."""

        def probe() -> PullRequest | None:
            return next((pull for pull in self.find(new.head) if pull.state == "open" and pull.base == new.base), None)

        body = {"head": new.head, "base": new.base, "title": _titled(new.title, draft=new.draft), "body": new.body}

        def refusal(answer: Answer) -> str:
            return "" if answer.status == _CONFLICT else answer.message or f"status {answer.status}"

        return self._api.effect(
            "open a pull request", probe, lambda: self._api.write("POST", f"{self._at}/pulls", body), refusal
        )

    def update(
        self,
        pull: PullRequest,
        *,
        title: str | None = None,
        body: str | None = None,
        draft: bool | None = None,
        labels: Sequence[str] = (),
    ) -> PullRequest:
        """Set these values; the title marks a draft, and a label must exist in the repository."""
        now = self._get(pull.number)
        title = now.title if title is None else title
        draft = now.draft if draft is None or now.state != "open" else draft
        body = now.body if body is None else body
        changed: dict[str, Any] = {}
        if (title, draft) != (now.title, now.draft):
            changed["title"] = _titled(title, draft=draft)
        if body != now.body:
            changed["body"] = body
        if changed:

            def probe() -> PullRequest | None:
                there = self._get(pull.number)
                return there if (there.title, there.draft, there.body) == (title, draft, body) else None

            path = f"{self._at}/pulls/{pull.number}"
            now = self._api.effect("update a pull request", probe, lambda: self._api.write("PATCH", path, changed))
        missing = [label for label in labels if label not in now.labels]
        return self._add_labels(now, missing) if missing else now

    def retarget(self, pull: PullRequest, base: str) -> PullRequest:
        """Set the branch that it goes to; returns the pull request."""
        n, path = pull.number, f"{self._at}/pulls/{pull.number}"

        def do() -> Answer:
            return self._api.write("PATCH", path, {"base": base})

        return self._api.effect(f"retarget #{n}", lambda: self._get(n).going_to(base), do)

    def checks(self, sha: str) -> Checks:
        """Return the commit's foreign statuses; actions write statuses as well."""
        return Checks(tuple(_check_of(item) for item in self._statuses(sha) if not item.context.startswith(_OURS)))

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Merge it now if nothing is pending; otherwise schedule the merge if the base has a required check."""
        for tries in range(TRIES):
            now = self._get(pull.number)
            if now.state != "open" or (now.sha, now.base) != (sha, pull.base):
                return standing(now, sha)
            checks = self.checks(sha)
            if checks.of("failure"):
                return red_answer(checks)
            waiting = ", ".join(f'"{item.name}"' for item in checks.of("pending"))
            body = {
                "Do": method,
                "head_commit_id": sha,
                "MergeTitleField": title,
                "MergeMessageField": message,
                "delete_branch_after_merge": False,
            }
            answer = self._later(now, body, waiting) if waiting else self._now(now, body)
            if answer is not None:
                return answer
            self._api.wait(tries)
        raise ForgeUnavailableError(f"pull request #{pull.number}: the forge did not report the result of its merge")

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
        raise ForgeUnavailableError(f"pull request #{pull.number}: the forge did not cancel its auto-merge")

    def report(self, check: CheckState) -> CheckReport:
        """Return an empty report: a status has only a description and an address, which the check has already."""
        _ = check
        return CheckReport()

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Maintain one comment that starts with the mark."""
        path = f"{self._at}/issues/{pull.number}/comments"

        def write(known: int | None) -> Answer:
            if known is None:
                return self._api.write("POST", path, {"body": text})
            return self._api.write("PATCH", f"{self._at}/issues/comments/{known}", {"body": text})

        def comments() -> list[Comment]:
            return self._api.get(path, list[Comment]) or []

        self._api.maintain_comment("comment on a pull request", mark, text, comments, write)

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""

        def probe() -> bool | None:
            return True if self._get(pull.number).state != "open" else None

        path = f"{self._at}/pulls/{pull.number}"
        self._api.effect("close a pull request", probe, lambda: self._api.write("PATCH", path, {"state": "closed"}))

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Return the issues of a milestone given by title or number, with their blockers."""
        asked = {"milestones": self._milestone(milestone).title, "state": "all", "type": "issues"}
        found = [self._issue(item) for item in self._api.pages(f"{self._at}/issues", asked, _Issue)]
        return sorted(found, key=lambda item: item.number)

    def issue(self, number: int) -> ForgeIssue | None:
        """Return an issue; None if the number does not exist."""
        found = self._api.get(f"{self._at}/issues/{number}", _Issue)
        return None if found is None else self._issue(found)

    def edit_issue(self, number: int, body: str) -> None:
        """Replace the text of an issue."""
        path = f"{self._at}/issues/{number}"

        def probe() -> bool | None:
            found = self._api.get(path, _Issue)
            return True if (found.body if found is not None else "") == body else None

        self._api.effect("edit an issue", probe, lambda: self._api.write("PATCH", path, {"body": body}))

    def close_issue(self, number: int) -> bool:
        """Close an issue; returns whether it was open."""
        return self._close(f"{self._at}/issues/{number}", "issue")

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; returns whether it was open."""
        number = self._milestone(title).id
        return self._close(f"{self._at}/milestones/{number}", "milestone")

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Post the verdict of one of the executor's checks; False if the token lacks permission."""
        context = f"{_OURS}{name}"[:255]

        def known() -> str | None:
            return {item.context: item.status for item in self._statuses(sha)}.get(context)

        body = {"state": state, "context": context, "description": description[:255], "target_url": ""}
        return self._api.post_status(f"{self._at}/statuses/{sha}", state, known, body, sha)

    def _now(self, pull: PullRequest, body: Mapping[str, Any]) -> MergeAnswer | None:
        """Merge now; None if the outcome is unknown."""
        answer = self._api.write("POST", f"{self._at}/pulls/{pull.number}/merge", body)
        words = answer.message.lower()
        if answer.ok:
            now = self._get(pull.number)
            return MergeAnswer("merged", commit=now.merge_commit) if now.state == "merged" else None
        if answer.lost:
            return None
        if answer.status == _CONFLICT and ("head" in words or "sha" in words):
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
        if answer.ok or (answer.status == _CONFLICT and "already" in answer.message.lower()):
            return MergeAnswer("scheduled", f"waits for {waiting}") if self._get(pull.number).state == "open" else None
        if answer.lost:
            return None
        return MergeAnswer("refused", f"auto-merge cannot be enabled: {answer.message or answer.status}")

    def _has_required(self, base: str) -> bool:
        branch = self._api.get(f"{self._at}/branches/{quote(base, safe='')}", _Branch) or _Branch()
        return branch.enable_status_check and bool(branch.status_check_contexts)

    def _get(self, number: int) -> PullRequest:
        found = self._api.get(f"{self._at}/pulls/{number}", _Pull)
        if found is None:
            raise ForgeRefusedError(f"pull request #{number} is not on the forge")
        return _pull_of(found)

    def _list(self) -> list[PullRequest]:
        found = [
            _pull_of(item)
            for item in self._api.pages(f"{self._at}/pulls", {"state": "all"}, _Pull)
            if item.head.repo_id == item.base.repo_id
        ]
        return sorted(found, key=lambda pull: pull.number)

    def _statuses(self, sha: str) -> list[_Status]:
        """Return the latest status of each context."""
        statuses = self._api.pages(f"{self._at}/commits/{sha}/statuses", {"sort": "oldest"}, _Status)
        return list({item.context: item for item in statuses}.values())

    def _add_labels(self, pull: PullRequest, missing: list[str]) -> PullRequest:
        known = {item.name: item.id for item in self._api.pages(f"{self._at}/labels", {}, _Label)}
        numbers = [known[name] for name in missing if name in known]
        if not numbers:
            return pull
        path = f"{self._at}/issues/{pull.number}/labels"

        def probe() -> PullRequest | None:
            there = self._get(pull.number)
            return there if {name for name in missing if name in known} <= set(there.labels) else None

        return self._api.effect(
            "label a pull request", probe, lambda: self._api.write("POST", path, {"labels": numbers})
        )

    def _milestone(self, wanted: str) -> _Milestone:
        for item in self._api.pages(f"{self._at}/milestones", {"state": "all"}, _Milestone):
            if wanted in {item.title, str(item.id)}:
                return item
        raise ForgeRefusedError(f'the forge has no milestone "{wanted}"')

    def _issue(self, item: _Issue) -> ForgeIssue:
        blocking = self._api.pages(f"{self._at}/issues/{item.number}/dependencies", {}, _Issue)
        return ForgeIssue(
            number=item.number,
            title=item.title,
            body=item.body,
            state=item.state,
            labels=tuple(label.name for label in item.labels),
            needs=tuple(other.number for other in blocking),
            url=item.html_url,
        )

    def _close(self, path: str, what: str) -> bool:
        return self._api.close_once(path, what, lambda: self._api.write("PATCH", path, {"state": "closed"}))


def over_requests(base_url: str, token: str, kind: str = "forgejo") -> Send:
    """Send requests with the library `requests`, one at a time; a redirect to another host does not get the token.

    Raises:
        UsageError: the library is not installed.
    """
    try:
        import requests
    except ImportError as error:
        raise UsageError(
            f'kind = "{kind}" in rules/forge.toml needs the extra `forgejo`: '
            "pip install 'make-for-milestones[forgejo]'"
        ) from error
    session = requests.Session()
    session.headers.update({"Authorization": f"token {token}", "User-Agent": "make-for-milestones"})

    def send(
        verb: str, path: str, parameters: dict[str, Any] | None, headers: dict[str, str], body: Any
    ) -> tuple[int, Mapping[str, Any], str]:
        given = {("limit" if key == "per_page" else key): value for key, value in (parameters or {}).items()}
        answer = session.request(verb, f"{base_url}{path}", params=given, headers=headers, json=body, timeout=TIMEOUT)
        return answer.status_code, answer.headers, answer.text

    return send


def _titled(title: str, *, draft: bool) -> str:
    return f"{_DRAFT}{title}" if draft else title


def _pull_of(item: _Pull) -> PullRequest:
    return PullRequest(
        number=item.number,
        state="merged" if item.merged else item.state,
        draft=item.title.startswith(_DRAFT) or item.draft,
        head=item.head.ref,
        sha=item.head.sha,
        base=item.base.ref,
        title=item.title.removeprefix(_DRAFT),
        body=item.body,
        url=item.html_url,
        merge_commit=item.merge_commit_sha if item.merged else "",
        author=item.user.login,
        labels=tuple(label.name for label in item.labels),
    )


def _check_of(item: _Status) -> CheckState:
    state = _WORDS.get(item.status, "pending")
    conclusion = item.status if state == "failure" else ""
    return CheckState(item.context, state, item.description, item.target_url, conclusion)
