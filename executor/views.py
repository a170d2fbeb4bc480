"""What is known of one milestone outside its declaration."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.core.milestone_state import Released

if TYPE_CHECKING:
    from executor.adapters.kept_work import Answer
    from executor.core.blockers import Blocker
    from executor.core.declaration import Milestone
    from executor.core.message import Landing
    from executor.core.milestone_state import Pause
    from executor.core.state import IssueState
    from executor.core.steps import StepRecord

__all__ = ["MilestoneView"]


@dataclass(slots=True)
class MilestoneView:
    """What is known of one milestone outside its declaration.

    Attributes:
        milestone: its declaration.
        branch: full name of its branch.
        base: full name of the branch it starts from.
        tip: commit that work starts from: the branch's tip, or the base's while there is no branch.
        exists: whether the branch exists.
        landings: latest landing of each issue.
        history: positions and result keys of each issue's landings, oldest first.
        states: the fold of its journal.
        blockers: what stood in the way when its journal was read.
        count: landings on the history, of all issues together.
        accepted: issue -> (landing commit, spec keys) that a person accepted.
        approved: issue -> result keys and spec keys that a person approved of.
        base_tip: commit of the base branch.
        pause: set while a person has paused the milestone.
        released: its latest release.
        merged: everything on the branch is reachable from the base.
        steps: issue -> results of its steps that are kept, by ``phase.step``.
        handoffs: issue -> commit that keeps its handoff.
        answers: issue -> questions of its agents with a person's answers, oldest first.
        remote_tip: where the remote's branch was last seen; empty when it never was.
        tag: its declared tag, if there is one of that name.
        delivered: the release of which the remote has everything.
    """

    milestone: Milestone
    branch: str
    base: str
    tip: str
    exists: bool
    landings: dict[str, Landing] = field(default_factory=dict)
    history: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    states: dict[str, IssueState] = field(default_factory=dict)
    blockers: list[Blocker] = field(default_factory=list)
    count: int = 0
    accepted: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)
    approved: dict[str, frozenset[str]] = field(default_factory=dict)
    steps: dict[str, dict[str, StepRecord]] = field(default_factory=dict)
    handoffs: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[Answer, ...]] = field(default_factory=dict)
    remote_tip: str = ""
    base_tip: str = ""
    pause: Pause | None = None
    released: Released | None = None
    merged: bool = False
    tag: str = ""
    delivered: str = ""

    @property
    def release(self) -> Released | None:
        """Its latest release, or what somebody else merged into the base amounts to."""
        if self.released is None and self.merged:
            return Released(self.base_tip, self.tip)
        return self.released

    @property
    def release_current(self) -> bool:
        """Whether everything that has landed is released, with the declared tag."""
        if self.milestone.tag and not self.tag:
            return False
        return self.merged or (self.released is not None and (not self.exists or self.released.tip == self.tip))

    def add(self, landing: Landing) -> None:
        """Take a new landing in."""
        issue = landing.trailers.issue
        self.count += 1
        self.landings[issue] = landing
        self.history.setdefault(issue, []).append((landing.position, landing.trailers.result_key))

    def result_before(self, issue: str, position: int) -> str:
        """Result key that an issue had before a position of the history; empty when it had not landed."""
        known = self.history.get(issue, [])
        place = bisect_left(known, (position, ""))
        return known[place - 1][1] if place else ""
