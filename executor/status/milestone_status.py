"""The state of a milestone, computed from facts.

``planned -> in progress -> (paused, blocked) -> complete -> released``. Only a pause and a release are
stored, both in git.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from executor.git.trailers import decode
from executor.model.hints import all_landed
from executor.process.files import local_time
from executor.state.marks import PausedTrailers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.git.refs import Kept
    from executor.git.trailers import Released
    from executor.status.reader import Observer

__all__ = [
    "PAUSED",
    "MilestoneFacts",
    "MilestoneStatus",
    "Pause",
    "Standing",
    "pause_in",
    "standing",
    "unblocked_by",
    "unblocked_now",
]

PAUSED = "refs/executor/paused"
"""Paused milestones: `<milestone>` below this."""
_RESTING = frozenset({"blocked", "review", "skipped", "failed"})
"""Issues with these statuses are advanced by a person or another issue, not by a run."""


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
    """The pause of a milestone by a person.

    Attributes:
        since: ISO-8601 time.
        reason: one sentence; empty if not given.
    """

    since: str
    reason: str = ""

    def sentence(self, milestone: str) -> str:
        """Return the pause as a sentence."""
        return f"milestone {milestone} is paused since {local_time(self.since)}" + (
            f": {self.reason}" if self.reason else ""
        )


@dataclass(frozen=True, slots=True)
class MilestoneFacts:
    """The facts that decide the state of a milestone.

    Attributes:
        id: id of the milestone.
        total: number of its issues.
        landed: number of landed issues.
        waiting: status words of the others, by id.
        started: an issue has landed or been attempted.
        held: a live process runs the milestone.
        pause: its pause; None if it is not paused.
        needs: needed milestones: number of landed issues, and of all issues.
        release: its latest release.
        current: that release contains all landings.
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
        """Return whether all issues have landed."""
        return self.landed == self.total


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a milestone, the reason, and a command that advances it (or empty)."""

    status: MilestoneStatus
    reason: str
    hint: str = ""


def standing(facts: MilestoneFacts) -> Standing:
    """Return the state of a milestone."""
    if facts.complete and facts.release is not None and facts.current:
        return Standing(MilestoneStatus.RELEASED, f"released as {facts.release.commit[:10]}")
    if facts.pause is not None:
        return Standing(MilestoneStatus.PAUSED, facts.pause.sentence(facts.id), f"doit unpause {facts.id}")
    if facts.complete:
        return Standing(MilestoneStatus.COMPLETE, _complete(facts), f"doit release:{facts.id}")
    return _incomplete(facts)


def _incomplete(facts: MilestoneFacts) -> Standing:
    run = f"doit milestone:{facts.id}"
    missing = {need: counts for need, counts in facts.needs.items() if counts[0] < counts[1]}
    if facts.held:
        return Standing(MilestoneStatus.IN_PROGRESS, f"is being run; {facts.landed} of {facts.total} landed")
    if missing:
        text = ", ".join(f"{need} ({landed} of {total} landed)" for need, (landed, total) in missing.items())
        return Standing(MilestoneStatus.BLOCKED, f"needs {text}", f"doit milestone:{next(iter(missing))}")
    if not facts.started:
        return Standing(MilestoneStatus.PLANNED, "not started", run)
    if all(word in _RESTING for word in facts.waiting.values()):
        return Standing(MilestoneStatus.BLOCKED, _stuck(facts), f"doit status {facts.id}")
    return Standing(MilestoneStatus.IN_PROGRESS, f"{facts.landed} of {facts.total} landed", run)


def unblocked_now(observer: Observer, name: str) -> list[str]:
    """Return milestones that a completed one blocked and that can start now."""
    from executor.state.decide import Status

    views = observer.views
    complete = frozenset(
        other
        for other, view in views.items()
        if all(observer.decision(f"{other}/{issue.id}").status is Status.LANDED for issue in view.milestone.issues)
    )
    if name not in complete:
        return []
    return unblocked_by(name, {other: view.milestone.needs for other, view in views.items()}, complete)


def unblocked_by(done: str, needs: Mapping[str, Sequence[str]], complete: frozenset[str]) -> list[str]:
    """Return incomplete milestones that need `done` and whose needs are now all complete, in the order given."""
    return [
        name
        for name, wanted in needs.items()
        if done in wanted and name not in complete and all(need in complete for need in wanted)
    ]


def _complete(facts: MilestoneFacts) -> str:
    if facts.release is None:
        return all_landed(facts.total)
    missing = "it is not" if facts.total == 1 else "not all are"
    return f"{all_landed(facts.total)}, but {missing} in the release {facts.release.commit[:10]}"


def _stuck(facts: MilestoneFacts) -> str:
    first = {issue: word for issue, word in facts.waiting.items() if word != "blocked"} or facts.waiting
    return f"waits for a person: {_some([f'{issue} ({word})' for issue, word in first.items()])}"


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")  # noqa: PLR2004


def pause_in(kept: Kept) -> Pause:
    """Return the pause that a ref below `PAUSED` stores."""
    found = decode(PausedTrailers, kept.trailers) or PausedTrailers()
    return Pause(found.since, found.reason)
