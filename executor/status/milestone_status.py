"""The state of a milestone, computed from facts.

``planned -> in progress -> (paused, blocked) -> complete -> released``. Only a pause and a release are
written down, both in git.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.git.trailers import Released

__all__ = ["MilestoneFacts", "MilestoneStatus", "Pause", "Standing", "standing", "unblocked_by"]

_RESTING = frozenset({"blocked", "review", "skipped", "failed"})
"""Issues with these words are moved on by a person, or by another issue, not by a run."""


class MilestoneStatus(StrEnum):
    """The only status words of a milestone."""

    PLANNED = "planned"
    IN_PROGRESS = "in progress"
    PAUSED = "paused"
    BLOCKED = "blocked"
    COMPLETE = "complete"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Pause:
    """A person paused the milestone.

    Attributes:
        since: ISO-8601 time.
        reason: one sentence; empty when none was given.
    """

    since: str
    reason: str = ""

    def told(self, milestone: str) -> str:
        """As a sentence."""
        return f"milestone {milestone} is paused since {self.since}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class MilestoneFacts:
    """The facts that decide the state of a milestone.

    Attributes:
        id: the milestone.
        total: issues it has.
        landed: issues that have landed.
        waiting: status words of the others, by id.
        started: something has landed, or was tried.
        held: a live process runs it.
        pause: a person paused it.
        needs: milestones it needs: issues landed, and issues they have.
        release: its latest release.
        current: that release has everything that has landed.
    """

    id: str
    total: int
    landed: int
    waiting: Mapping[str, str]
    started: bool = False
    held: bool = False
    pause: Pause | None = None
    needs: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    release: Released | None = None
    current: bool = False

    @property
    def complete(self) -> bool:
        """Whether everything has landed."""
        return self.landed == self.total


@dataclass(frozen=True, slots=True)
class Standing:
    """State of a milestone, why, and what would move it on (a command, or empty)."""

    status: MilestoneStatus
    reason: str
    hint: str = ""


def standing(facts: MilestoneFacts) -> Standing:
    """The state of a milestone."""
    if facts.complete and facts.release is not None and facts.current:
        return Standing(MilestoneStatus.RELEASED, f"released as {facts.release.commit[:10]}")
    if facts.pause is not None:
        return Standing(MilestoneStatus.PAUSED, facts.pause.told(facts.id), f"doit unpause {facts.id}")
    if facts.complete:
        return Standing(MilestoneStatus.COMPLETE, _complete(facts), f"doit release:{facts.id}")
    return _incomplete(facts)


def _incomplete(facts: MilestoneFacts) -> Standing:
    run = f"doit milestone:{facts.id}"
    missing = {need: counts for need, counts in facts.needs.items() if counts[0] < counts[1]}
    if facts.held:
        return Standing(MilestoneStatus.IN_PROGRESS, f"is being run; {facts.landed} of {facts.total} landed")
    if missing:
        told = ", ".join(f"{need} ({landed} of {total} landed)" for need, (landed, total) in missing.items())
        return Standing(MilestoneStatus.BLOCKED, f"needs {told}", f"doit milestone:{next(iter(missing))}")
    if not facts.started:
        return Standing(MilestoneStatus.PLANNED, "not started", run)
    if all(word in _RESTING for word in facts.waiting.values()):
        return Standing(MilestoneStatus.BLOCKED, _stuck(facts), f"doit status {facts.id}")
    return Standing(MilestoneStatus.IN_PROGRESS, f"{facts.landed} of {facts.total} landed", run)


def unblocked_by(done: str, needs: Mapping[str, Sequence[str]], complete: frozenset[str]) -> list[str]:
    """Milestones that need `done` and have everything they need now, in the order given; complete ones are left out."""
    return [
        name
        for name, wanted in needs.items()
        if done in wanted and name not in complete and all(need in complete for need in wanted)
    ]


def _complete(facts: MilestoneFacts) -> str:
    if facts.release is None:
        return f"all {facts.total} issues have landed"
    return f"all {facts.total} issues have landed, not all of it is in the release {facts.release.commit[:10]}"


def _stuck(facts: MilestoneFacts) -> str:
    first = {issue: word for issue, word in facts.waiting.items() if word != "blocked"} or facts.waiting
    return f"waits for a person: {_some([f'{issue} ({word})' for issue, word in first.items()])}"


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")  # noqa: PLR2004
