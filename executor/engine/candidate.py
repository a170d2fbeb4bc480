"""A candidate: the result of an attempt while it is judged and landed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.git.diff import parse_diff

if TYPE_CHECKING:
    from pathlib import Path

    from executor.engine.issue import IssueRun
    from executor.git.diff import Change
    from executor.state.model import Attempt

__all__ = ["Candidate", "candidate_of"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """The result of an attempt that is to land.

    Attributes:
        issue: the issue.
        attempt: whose result it is.
        change: what it changes on the attempt's base.
        logs: folder for the output of its checks.
    """

    issue: IssueRun
    attempt: Attempt
    change: Change
    logs: Path

    @property
    def base(self) -> str:
        """The commit that the attempt started from."""
        return self.attempt.base or self.issue.session.store.parent_of(self.attempt.commit)


def candidate_of(issue: IssueRun, attempt: Attempt) -> Candidate:
    """The candidate of an attempt that has built a commit."""
    session = issue.session
    change = parse_diff(session.store.diff(f"{attempt.commit}^", attempt.commit))
    return Candidate(issue, attempt, change, session.project.logs(issue.run.name, issue.id, attempt.number))
