"""Issues and milestones of a repository on GitHub: read, and closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.adapters.forge import ForgeIssue
from executor.adapters.github_effect import effect
from executor.errors import ForgeRefusedError

if TYPE_CHECKING:
    from executor.adapters.github_api import Api

__all__ = ["Issues", "labels_of"]


class Issues:
    """The issues and milestones of one repository; `executor.adapters.forge.Forge` says what each method promises."""

    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._at = f"/repos/{repository}"

    def of_milestone(self, milestone: str) -> list[ForgeIssue]:
        """Issues of a milestone given by title or number, with what blocks them; pull requests left out."""
        number = self._milestone(milestone)["number"]
        found = self._api.pages(
            f"{self._at}/issues", {"milestone": str(number), "state": "all", "sort": "created", "direction": "asc"}
        )
        return [self._issue(item) for item in found if "pull_request" not in item]

    def close(self, number: int) -> bool:
        """Close an issue; whether it was open."""
        return self._closed(f"{self._at}/issues/{number}", {"state": "closed", "state_reason": "completed"}, "issue")

    def close_milestone(self, title: str) -> bool:
        """Close a milestone; whether it was open."""
        number = self._milestone(title)["number"]
        return self._closed(f"{self._at}/milestones/{number}", {"state": "closed"}, "milestone")

    def _milestone(self, wanted: str) -> dict[str, Any]:
        for item in self._api.pages(f"{self._at}/milestones", {"state": "all"}):
            if wanted in {str(item.get("title")), str(item.get("number"))}:
                return item
        raise ForgeRefusedError(f'the forge has no milestone "{wanted}"')

    def _issue(self, item: dict[str, Any]) -> ForgeIssue:
        number = int(item["number"])
        blocking = self._api.pages(f"{self._at}/issues/{number}/dependencies/blocked_by", {})
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
        before = self._api.get(path)
        if before is None:
            raise ForgeRefusedError(f"the forge has no such {what}: {path}")
        if before.get("state") == "closed":
            return False

        def probe() -> bool | None:
            return True if (self._api.get(path) or {}).get("state") == "closed" else None

        return effect(self._api, f"close a {what}", probe, lambda: self._api.write("PATCH", path, body))


def labels_of(item: dict[str, Any]) -> tuple[str, ...]:
    """The names of the labels of an issue or pull request."""
    labels = item.get("labels") or []
    return tuple(str(label.get("name", "") if isinstance(label, dict) else label) for label in labels)
