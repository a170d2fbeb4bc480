"""Forgejo and Gitea: pull requests over their common REST interface (version 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from executor.errors import ForgeRefusedError, ForgeUnavailableError, UsageError
from executor.forge.base import CheckReport, Checks, CheckState, ForgeIssue, MergeAnswer, NewPull, red_answer, standing
from executor.forge.hosts.rest import TIMEOUT, TRIES, Api, Needed, effect
from executor.forge.pull_request import PullRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.forge.connect import Target
    from executor.forge.hosts.rest import Answer, Send

__all__ = ["ForgejoForge", "connect", "over_requests"]

_OWN = {"forgejo": "https://codeberg.org", "gitea": "https://gitea.com"}

_DRAFT = "WIP: "
_OURS = "milestone/"
_PULL = {
    "number": Needed(int),
    "state": Needed(str),
    "merged": bool,
    "title": str,
    "body": str,
    "draft": bool,
    "html_url": str,
    "merge_commit_sha": str,
    "user": {"login": str},
    "labels": [{"name": str}],
    "head": Needed({"ref": Needed(str), "sha": str, "repo_id": int}),
    "base": Needed({"ref": Needed(str), "repo_id": int}),
}
_STATUS = {"id": int, "context": str, "status": str, "description": str, "target_url": str}
_ISSUE = {
    "number": Needed(int),
    "title": str,
    "body": str,
    "state": Needed(str),
    "labels": [{"name": str}],
    "html_url": str,
}
_MILESTONE = {"id": Needed(int), "title": str, "state": str}
_COMMENT = {"id": Needed(int), "body": str}
_LABEL = {"id": Needed(int), "name": str}
_BRANCH = {"protected": bool, "enable_status_check": bool, "status_check_contexts": [str]}
_WORDS = {"success": "success", "warning": "success", "failure": "failure", "error": "failure"}
_NO_ACCESS = frozenset({403, 404})
_CONFLICT, _NOT_ALLOWED = 409, 405
_NOT_GREEN = ("status check", "checks", "not all required")


def connect(wanted: Target) -> ForgejoForge:
    """Connect to the declared repository on Forgejo or Gitea; `base_url` is the address of the instance.

    Raises:
        UsageError: the library is not installed, or the repository is unknown.
        ForgeRefusedError: no token was found.
    """
    rules = wanted.rules
    base = f"{rules.base_url or _OWN[rules.kind]}/api/v1"
    send = over_requests(base, wanted.token, rules.kind)
    api = Api(send, budget=wanted.budget(base), cache=wanted.cache)
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

        return effect(
            self._api, "open a pull request", probe, lambda: self._api.write("POST", f"{self._at}/pulls", body), refusal
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
            now = effect(self._api, "update a pull request", probe, lambda: self._api.write("PATCH", path, changed))
        missing = [label for label in labels if label not in now.labels]
        return self._labelled(now, missing) if missing else now

    def retarget(self, pull: PullRequest, base: str) -> PullRequest:
        """Set the branch that it goes to; returns the pull request."""
        n, path = pull.number, f"{self._at}/pulls/{pull.number}"

        def do() -> Answer:
            return self._api.write("PATCH", path, {"base": base})

        return effect(self._api, f"retarget #{n}", lambda: self._get(n).going_to(base), do)

    def checks(self, sha: str) -> Checks:
        """Return the commit's foreign statuses; actions write statuses as well."""
        return Checks(tuple(_check_of(item) for item in self._statuses(sha) if not _context(item).startswith(_OURS)))

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
        raise ForgeUnavailableError(f"pull request #{pull.number}: the forge did not say what came of its merge")

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
        raise ForgeUnavailableError(f"pull request #{pull.number}: the forge did not take its auto-merge back")

    def report(self, check: CheckState) -> CheckReport:
        """Return an empty report: a status has only a description and an address, which the check has already."""
        _ = check
        return CheckReport()

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Maintain one comment that starts with the mark."""
        path = f"{self._at}/issues/{pull.number}/comments"

        def ours() -> dict[str, Any] | None:
            comments = self._api.get(path, [_COMMENT]) or []
            return next((item for item in comments if str(item.get("body") or "").startswith(mark)), None)

        def probe() -> bool | None:
            found = ours()
            return True if found is not None and str(found.get("body")) == text else None

        def write() -> Answer:
            found = ours()
            if found is None:
                return self._api.write("POST", path, {"body": text})
            return self._api.write("PATCH", f"{self._at}/issues/comments/{found['id']}", {"body": text})

        effect(self._api, "comment on a pull request", probe, write)

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""

        def probe() -> bool | None:
            return True if self._get(pull.number).state != "open" else None

        path = f"{self._at}/pulls/{pull.number}"
        effect(self._api, "close a pull request", probe, lambda: self._api.write("PATCH", path, {"state": "closed"}))

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """Return the issues of a milestone given by title or number, with their blockers."""
        title = str(self._milestone(milestone).get("title", ""))
        asked = {"milestones": title, "state": "all", "type": "issues"}
        found = [self._issue(item) for item in self._pages(f"{self._at}/issues", asked, _ISSUE)]
        return sorted(found, key=lambda item: item.number)

    def issue(self, number: int) -> ForgeIssue | None:
        """Return an issue; None if the number does not exist."""
        found = self._api.get(f"{self._at}/issues/{number}", _ISSUE)
        return None if found is None else self._issue(found)

    def edit_issue(self, number: int, body: str) -> None:
        """Replace the text of an issue."""
        path = f"{self._at}/issues/{number}"

        def probe() -> bool | None:
            return True if str((self._api.get(path, _ISSUE) or {}).get("body") or "") == body else None

        effect(self._api, "edit an issue", probe, lambda: self._api.write("PATCH", path, {"body": body}))

    def close_issue(self, number: int) -> bool:
        """Close an issue; returns whether it was open."""
        return self._closed(f"{self._at}/issues/{number}", _ISSUE, "issue")

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; returns whether it was open."""
        number = self._milestone(title)["id"]
        return self._closed(f"{self._at}/milestones/{number}", _MILESTONE, "milestone")

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """Post the verdict of one of the executor's checks; False if the token lacks permission."""
        context = f"{_OURS}{name}"[:255]
        for tries in range(TRIES):
            known = {_context(item): str(item.get("status")) for item in self._statuses(sha)}
            if known.get(context) == state:
                return True
            body = {"state": state, "context": context, "description": description[:255], "target_url": ""}
            answer = self._api.write("POST", f"{self._at}/statuses/{sha}", body)
            if answer.status in _NO_ACCESS:
                return False
            if not answer.ok and not answer.lost:
                raise ForgeRefusedError(f"the forge refuses a status for {sha[:10]}: {answer.message}")
            if answer.lost:
                self._api.wait(tries)
        return False

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
        branch = self._api.get(f"{self._at}/branches/{quote(base, safe='')}", _BRANCH) or {}
        return bool(branch.get("enable_status_check") and branch.get("status_check_contexts"))

    def _get(self, number: int) -> PullRequest:
        found = self._api.get(f"{self._at}/pulls/{number}", _PULL)
        if found is None:
            raise ForgeRefusedError(f"pull request #{number} is not on the forge")
        return _pull_of(found)

    def _list(self) -> list[PullRequest]:
        found = [
            _pull_of(item)
            for item in self._pages(f"{self._at}/pulls", {"state": "all"}, _PULL)
            if item["head"].get("repo_id") == item["base"].get("repo_id")
        ]
        return sorted(found, key=lambda pull: pull.number)

    def _pages(self, path: str, parameters: Mapping[str, str], shape: Any) -> list[dict[str, Any]]:
        return list(self._api.pages(path, parameters, shape))

    def _statuses(self, sha: str) -> list[dict[str, Any]]:
        """Return the latest status of each context."""
        found: dict[str, dict[str, Any]] = {}
        for item in self._pages(f"{self._at}/commits/{sha}/statuses", {"sort": "oldest"}, _STATUS):
            found[_context(item)] = item
        return list(found.values())

    def _labelled(self, pull: PullRequest, missing: list[str]) -> PullRequest:
        known = {str(item.get("name")): int(item["id"]) for item in self._pages(f"{self._at}/labels", {}, _LABEL)}
        numbers = [known[name] for name in missing if name in known]
        if not numbers:
            return pull
        path = f"{self._at}/issues/{pull.number}/labels"

        def probe() -> PullRequest | None:
            there = self._get(pull.number)
            return there if {name for name in missing if name in known} <= set(there.labels) else None

        return effect(
            self._api, "label a pull request", probe, lambda: self._api.write("POST", path, {"labels": numbers})
        )

    def _milestone(self, wanted: str) -> dict[str, Any]:
        for item in self._pages(f"{self._at}/milestones", {"state": "all"}, _MILESTONE):
            if wanted in {str(item.get("title")), str(item.get("id"))}:
                return item
        raise ForgeRefusedError(f'the forge has no milestone "{wanted}"')

    def _issue(self, item: Mapping[str, Any]) -> ForgeIssue:
        number = int(item["number"])
        blocking = self._pages(f"{self._at}/issues/{number}/dependencies", {}, _ISSUE)
        return ForgeIssue(
            number=number,
            title=str(item.get("title", "")),
            body=str(item.get("body") or ""),
            state=str(item.get("state", "")),
            labels=_labels(item),
            needs=tuple(int(other["number"]) for other in blocking),
            url=str(item.get("html_url", "")),
        )

    def _closed(self, path: str, shape: Any, what: str) -> bool:
        before = self._api.get(path, shape)
        if before is None:
            raise ForgeRefusedError(f"the forge has no such {what}: {path}")
        if before.get("state") == "closed":
            return False

        def probe() -> bool | None:
            return True if (self._api.get(path, shape) or {}).get("state") == "closed" else None

        return effect(self._api, f"close a {what}", probe, lambda: self._api.write("PATCH", path, {"state": "closed"}))


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


def _context(item: Mapping[str, Any]) -> str:
    return str(item.get("context") or "")


def _labels(item: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(label.get("name", "")) for label in item.get("labels") or [])


def _pull_of(item: Mapping[str, Any]) -> PullRequest:
    merged, title = bool(item.get("merged")), str(item.get("title") or "")
    return PullRequest(
        number=int(item["number"]),
        state="merged" if merged else str(item.get("state", "")),
        draft=title.startswith(_DRAFT) or bool(item.get("draft")),
        head=str(item["head"].get("ref", "")),
        sha=str(item["head"].get("sha") or ""),
        base=str(item["base"].get("ref", "")),
        title=title.removeprefix(_DRAFT),
        body=str(item.get("body") or ""),
        url=str(item.get("html_url") or ""),
        merge_commit=str(item.get("merge_commit_sha") or "") if merged else "",
        author=str((item.get("user") or {}).get("login", "")),
        labels=_labels(item),
    )


def _check_of(item: Mapping[str, Any]) -> CheckState:
    word = str(item.get("status") or "")
    state = _WORDS.get(word, "pending")
    conclusion = word if state == "failure" else ""
    return CheckState(
        _context(item), state, str(item.get("description") or ""), str(item.get("target_url") or ""), conclusion
    )
