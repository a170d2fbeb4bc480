"""A forge in memory, as the smallest one that keeps what the protocol promises."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from executor.forge.base import CheckReport, Checks, MergeAnswer, standing
from executor.forge.pull_request import PullRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.forge.base import CheckState, Forge, ForgeIssue, NewPull
    from executor.forge.connect import Target

__all__ = ["ExampleForge", "connect"]


class ExampleForge:
    """Pull requests that live as long as the process; nothing is ever merged."""

    kind = "example"

    def __init__(self) -> None:
        self._pulls: dict[int, PullRequest] = {}

    def find(self, head: str) -> list[PullRequest]:
        """Every pull request of a branch."""
        return [pull for pull in self._pulls.values() if pull.head == head]

    def pulls(self, base: str) -> list[PullRequest]:
        """Every pull request into a branch."""
        return [pull for pull in self._pulls.values() if pull.base == base]

    def open(self, new: NewPull) -> PullRequest:
        """The open pull request of that branch into that base."""
        found = [pull for pull in self.find(new.head) if pull.state == "open" and pull.base == new.base]
        number = len(self._pulls) + 1
        made = PullRequest(number, "open", new.draft, new.head, "1" * 40, new.base, new.title, new.body)
        return found[0] if found else self._pulls.setdefault(number, made)

    def update(
        self,
        pull: PullRequest,
        *,
        title: str | None = None,
        body: str | None = None,
        draft: bool | None = None,
        labels: Sequence[str] = (),
    ) -> PullRequest:
        """The same with these values."""
        now = self._pulls[pull.number]
        self._pulls[pull.number] = replace(
            now,
            title=now.title if title is None else title,
            body=now.body if body is None else body,
            draft=now.draft if draft is None else draft,
            labels=tuple(dict.fromkeys([*now.labels, *labels])),
        )
        return self._pulls[pull.number]

    def checks(self, sha: str) -> Checks:
        """No checks."""
        _ = sha
        return Checks()

    def request_merge(self, pull: PullRequest, sha: str, title: str, message: str, method: str) -> MergeAnswer:
        """Refused: there is no git behind it."""
        _ = title, message, method
        now = self._pulls[pull.number]
        return standing(now, sha) if now.sha != sha else MergeAnswer("refused", "this forge merges nothing")

    def withdraw(self, pull: PullRequest) -> PullRequest:
        """Nothing is ever scheduled."""
        return self._pulls[pull.number]

    def report(self, check: CheckState) -> CheckReport:
        """Nothing is kept."""
        _ = check
        return CheckReport()

    def comment(self, pull: PullRequest, mark: str, text: str) -> None:
        """Nobody reads comments here."""

    def close(self, pull: PullRequest) -> None:
        """Close it without merging."""
        self._pulls[pull.number] = replace(self._pulls[pull.number], state="closed")

    def issues(self, milestone: str) -> list[ForgeIssue]:
        """No issues."""
        _ = milestone
        return []

    def issue(self, number: int) -> ForgeIssue | None:
        """No issue."""
        _ = number
        return None

    def edit_issue(self, number: int, body: str) -> None:
        """No issue to edit."""

    def close_issue(self, number: int) -> bool:
        """No issue to close."""
        _ = number
        return False

    def close_milestone(self, title: str) -> bool:
        """No milestone to close."""
        _ = title
        return False

    def post_status(self, sha: str, name: str, state: str, description: str) -> bool:
        """It takes none."""
        _ = sha, name, state, description
        return False


def connect(target: Target) -> Forge:
    """Called for `kind = "example"`."""
    _ = target
    return ExampleForge()
