"""Pull requests of a repository on GitHub: found, opened, changed, closed.

Issues and milestones of the repository: read, edited, closed; comments.

The expected shapes of GitHub's answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.errors import ForgeRefusedError
from executor.forge.base import ForgeIssue
from executor.forge.hosts.rest import Needed, effect
from executor.forge.pull_request import PullRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.forge.base import NewPull
    from executor.forge.hosts.rest import Answer, Api

__all__ = [
    "ANNOTATION",
    "BLOCKER",
    "BRANCH",
    "COMMENT",
    "DRAFT",
    "ISSUE",
    "MILESTONE",
    "PULL",
    "READY",
    "RULE",
    "RUN",
    "STATE",
    "STATUS",
    "Issues",
    "Pulls",
    "labels_of",
]


_LABELS = [(str, {"name": str})]
PULL = {
    "number": Needed(int),
    "state": Needed(str),
    "draft": bool,
    "merged_at": str,
    "head": Needed({"ref": Needed(str), "sha": Needed(str), "repo": {"full_name": str}}),
    "base": Needed({"ref": Needed(str)}),
    "title": str,
    "body": str,
    "html_url": str,
    "merge_commit_sha": str,
    "user": {"login": str},
    "labels": _LABELS,
    "node_id": str,
}
ISSUE = {
    "number": Needed(int),
    "title": Needed(str),
    "body": str,
    "state": Needed(str),
    "labels": _LABELS,
    "html_url": str,
}
BLOCKER = {"number": Needed(int)}
NUMBERED = {"id": Needed(int)}
"""Shape of an issue if only GitHub's own id of it is needed."""
MILESTONE = {"number": Needed(int), "title": str}
STATE = {"state": Needed(str)}
"""Shape of an issue or a milestone if only its state is needed."""
STATUS = {"context": str, "state": str, "description": str, "target_url": str}
COMMENT = {"id": Needed(int), "body": str}
ANNOTATION = {"path": str, "start_line": int, "message": str, "title": str}
RUN = {"id": int, "name": str, "status": str, "conclusion": str, "html_url": str}
"""Shape of a check run."""
BRANCH = {"protection": {"required_status_checks": {"contexts": [str], "checks": [{}]}}}
RULE = {"type": str, "parameters": {}}


class Issues:
    """The issues and milestones of one repository; `executor.forge.base.Forge` documents the methods."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._at = f"/repos/{repository}"

    def of_milestone(self, milestone: str) -> list[ForgeIssue]:
        """Return the issues of a milestone given by title or number, with their blockers, without pull requests."""
        number = self._milestone(milestone)["number"]
        asked = {"milestone": str(number), "state": "all", "sort": "created", "direction": "asc"}
        found = self._api.pages(f"{self._at}/issues", asked, ISSUE)
        return [self._issue(item) for item in found if "pull_request" not in item]

    def get(self, number: int) -> ForgeIssue | None:
        """Return an issue; None if the number does not exist."""
        found = self._api.get(f"{self._at}/issues/{number}", ISSUE)
        return None if found is None else self._issue(found)

    def edit(self, number: int, body: str) -> None:
        """Replace the text of an issue."""
        path = f"{self._at}/issues/{number}"

        def probe() -> bool | None:
            return True if str((self._api.get(path, ISSUE) or {}).get("body") or "") == body else None

        effect(self._api, "edit an issue", probe, lambda: self._api.write("PATCH", path, {"body": body}))

    def block(self, number: int, by: Sequence[int]) -> None:
        """Record that an issue is blocked by others; only missing ones are added."""
        path = f"{self._at}/issues/{number}/dependencies/blocked_by"

        def known() -> set[int]:
            return {int(item["number"]) for item in self._api.pages(path, {}, BLOCKER)}

        for other in sorted(set(by) - known()):
            found = self._api.get(f"{self._at}/issues/{other}", NUMBERED)
            if found is None:
                raise ForgeRefusedError(f"the forge has no issue #{other}, which #{number} needs")
            body = {"issue_id": int(found["id"])}

            def probe(other: int = other) -> bool | None:
                return True if other in known() else None

            def write(body: dict[str, int] = body) -> Answer:
                return self._api.write("POST", path, body)

            effect(self._api, "add a dependency", probe, write)

    def comment(self, number: int, mark: str, text: str) -> None:
        """Maintain one comment that starts with the mark."""
        path = f"{self._at}/issues/{number}/comments"

        def ours() -> dict[str, Any] | None:
            comments = self._api.pages(path, {}, COMMENT)
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

    def close(self, number: int) -> bool:
        """Close an issue; returns whether it was open."""
        return self._closed(f"{self._at}/issues/{number}", {"state": "closed", "state_reason": "completed"}, "issue")

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; returns whether it was open."""
        number = self._milestone(title)["number"]
        return self._closed(f"{self._at}/milestones/{number}", {"state": "closed"}, "milestone")

    def _milestone(self, wanted: str) -> dict[str, Any]:
        for item in self._api.pages(f"{self._at}/milestones", {"state": "all"}, MILESTONE):
            if wanted in {str(item.get("title")), str(item.get("number"))}:
                return item
        raise ForgeRefusedError(f'the forge has no milestone "{wanted}"')

    def _issue(self, item: dict[str, Any]) -> ForgeIssue:
        number = int(item["number"])
        blocking = self._api.pages(f"{self._at}/issues/{number}/dependencies/blocked_by", {}, BLOCKER)
        return ForgeIssue(
            number=number,
            title=str(item.get("title", "")),
            body=str(item.get("body") or ""),
            state=str(item.get("state", "")),
            labels=labels_of(item),
            needs=tuple(int(other["number"]) for other in blocking),
            url=str(item.get("html_url", "")),
        )

    def _closed(self, path: str, body: dict[str, str], what: str) -> bool:
        before = self._api.get(path, STATE)
        if before is None:
            raise ForgeRefusedError(f"the forge has no such {what}: {path}")
        if before.get("state") == "closed":
            return False

        def probe() -> bool | None:
            return True if (self._api.get(path, STATE) or {}).get("state") == "closed" else None

        return effect(self._api, f"close a {what}", probe, lambda: self._api.write("PATCH", path, body))


def labels_of(item: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the labels of an issue or pull request."""
    labels = item.get("labels") or []
    return tuple(str(label.get("name", "") if isinstance(label, dict) else label) for label in labels)


READY = """mutation($id: ID!) {
  markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } }
}"""
DRAFT = """mutation($id: ID!) {
  convertPullRequestToDraft(input: {pullRequestId: $id}) { pullRequest { isDraft } }
}"""


class Pulls:
    """The pull requests of one repository; `executor.forge.base.Forge` documents the methods."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._owner = repository.partition("/")[0]
        self._at = f"/repos/{repository}"

    def get(self, number: int) -> PullRequest:
        """Return a pull request; raises `ForgeRefusedError` if the number does not exist."""
        found = self._api.get(f"{self._at}/pulls/{number}", PULL)
        if found is None:
            raise ForgeRefusedError(f"pull request #{number} is not on the forge")
        return _pull_of(found)

    def find(self, head: str) -> list[PullRequest]:
        """Return every pull request of a branch, oldest first, without those from other repositories."""
        found = self._list({"head": f"{self._owner}:{head}"})
        return [pull for pull in found if pull.head == head]

    def into(self, base: str) -> list[PullRequest]:
        """Return every pull request into a branch, oldest first."""
        return [pull for pull in self._list({"base": base}) if pull.base == base]

    def open(self, new: NewPull) -> PullRequest:
        """Open the pull request of that branch into that base, or return the open one."""

        def probe() -> PullRequest | None:
            return next((pull for pull in self.find(new.head) if pull.state == "open" and pull.base == new.base), None)

        body = {"title": new.title, "head": new.head, "base": new.base, "body": new.body, "draft": new.draft}

        def refusal(answer: Answer) -> str:
            return "" if "already exists" in answer.message else answer.message

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
        """Set these values; returns the pull request."""
        now = self.get(pull.number)
        wanted = {"title": now.title if title is None else title, "body": now.body if body is None else body}
        if wanted != {"title": now.title, "body": now.body}:
            path = f"{self._at}/pulls/{pull.number}"
            changed = {key: value for key, value in wanted.items() if value != getattr(now, key)}

            def probe() -> PullRequest | None:
                there = self.get(pull.number)
                return there if {"title": there.title, "body": there.body} == wanted else None

            now = effect(self._api, "update a pull request", probe, lambda: self._api.write("PATCH", path, changed))
        missing = [label for label in labels if label not in now.labels]
        if missing:
            path = f"{self._at}/issues/{pull.number}/labels"

            def labelled() -> PullRequest | None:
                there = self.get(pull.number)
                return there if set(labels) <= set(there.labels) else None

            now = effect(
                self._api, "label a pull request", labelled, lambda: self._api.write("POST", path, {"labels": missing})
            )
        if draft is not None and now.draft != draft and now.state == "open":
            query = DRAFT if draft else READY

            def turned() -> PullRequest | None:
                there = self.get(pull.number)
                return there if there.draft == draft else None

            node = now.node
            now = effect(self._api, "change a draft", turned, lambda: self._api.graphql(query, {"id": node}))
        return now

    def retarget(self, pull: PullRequest, base: str) -> PullRequest:
        """Set the branch that it goes to; returns the pull request."""
        n, path = pull.number, f"{self._at}/pulls/{pull.number}"

        def do() -> Answer:
            return self._api.write("PATCH", path, {"base": base})

        return effect(self._api, f"retarget #{n}", lambda: self.get(n).going_to(base), do)

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""

        def probe() -> PullRequest | None:
            there = self.get(pull.number)
            return there if there.state != "open" else None

        path = f"{self._at}/pulls/{pull.number}"
        effect(self._api, "close a pull request", probe, lambda: self._api.write("PATCH", path, {"state": "closed"}))

    def _list(self, filters: dict[str, str]) -> list[PullRequest]:
        asked = {"state": "all", "sort": "created", "direction": "asc", **filters}
        found = [_pull_of(item) for item in self._api.pages(f"{self._at}/pulls", asked, PULL) if self._is_here(item)]
        return sorted(found, key=lambda pull: pull.number)

    def _is_here(self, item: dict[str, Any]) -> bool:
        """Return whether the branch of a pull request is in this repository; true if the forge no longer knows."""
        repository = (item.get("head") or {}).get("repo") or {}
        full = str(repository.get("full_name", ""))
        return not full or f"/repos/{full}".lower() == self._at.lower()


def _pull_of(item: dict[str, Any]) -> PullRequest:
    head, base = item.get("head") or {}, item.get("base") or {}
    merged = bool(item.get("merged_at"))
    return PullRequest(
        number=int(item["number"]),
        state="merged" if merged else str(item.get("state", "")),
        draft=bool(item.get("draft")),
        head=str(head.get("ref", "")),
        sha=str(head.get("sha", "")),
        base=str(base.get("ref", "")),
        title=str(item.get("title", "")),
        body=str(item.get("body") or ""),
        url=str(item.get("html_url", "")),
        merge_commit=str(item.get("merge_commit_sha") or "") if merged else "",
        author=str((item.get("user") or {}).get("login", "")),
        waiting=bool(item.get("auto_merge")),
        labels=labels_of(item),
        node=str(item.get("node_id", "")),
    )
