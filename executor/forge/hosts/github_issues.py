"""Issues and milestones of a repository on GitHub: read, edited, closed; comments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.errors import ForgeRefusedError
from executor.forge.base import ForgeIssue
from executor.forge.hosts.answers import effect
from executor.forge.hosts.github_answers import BLOCKER, COMMENT, ISSUE, MILESTONE, STATE

if TYPE_CHECKING:
    from executor.forge.hosts.rest import Answer, Api

__all__ = ["Issues", "labels_of"]


class Issues:
    """The issues and milestones of one repository; `executor.forge.base.Forge` says what each method promises."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._at = f"/repos/{repository}"

    def of_milestone(self, milestone: str) -> list[ForgeIssue]:
        """Issues of a milestone given by title or number, with what blocks them; pull requests left out."""
        number = self._milestone(milestone)["number"]
        asked = {"milestone": str(number), "state": "all", "sort": "created", "direction": "asc"}
        found = self._api.pages(f"{self._at}/issues", asked, ISSUE)
        return [self._issue(item) for item in found if "pull_request" not in item]

    def get(self, number: int) -> ForgeIssue | None:
        """One issue; None when there is none of that number."""
        found = self._api.get(f"{self._at}/issues/{number}", ISSUE)
        return None if found is None else self._issue(found)

    def edit(self, number: int, body: str) -> None:
        """Give an issue another text."""
        path = f"{self._at}/issues/{number}"

        def probe() -> bool | None:
            return True if str((self._api.get(path, ISSUE) or {}).get("body") or "") == body else None

        effect(self._api, "edit an issue", probe, lambda: self._api.write("PATCH", path, {"body": body}))

    def comment(self, number: int, mark: str, text: str) -> None:
        """Keep one comment that begins with the mark."""
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
        """Close an issue; whether it was open."""
        return self._closed(f"{self._at}/issues/{number}", {"state": "closed", "state_reason": "completed"}, "issue")

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; whether it was open."""
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
    """The names of the labels of an issue or pull request."""
    labels = item.get("labels") or []
    return tuple(str(label.get("name", "") if isinstance(label, dict) else label) for label in labels)
