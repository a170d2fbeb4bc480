"""Steps, answers and other marks in git, read from refs and the trailers of their commits.

Milestones that a person paused, as git keeps it without `.cache/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.git.marks import Answer, AnswersTrailers, ApprovedTrailers, BranchTrailers, PausedTrailers, StepTrailers
from executor.git.trailers import decode
from executor.state.steps import StepRecord
from executor.status.milestone_status import Pause

if TYPE_CHECKING:
    from executor.git.refs import Kept, Refs

__all__ = ["PAUSED", "answers_in", "approved_in", "branch_in", "pause_in", "pause_of", "step_in", "step_trailers"]


def answers_in(kept: Kept) -> tuple[Answer, ...]:
    """The answers that a ref keeps, oldest first."""
    found = decode(AnswersTrailers, {"Answers": kept.trailers.get("Answers", "")})
    return found.answers if found is not None else ()


def approved_in(kept: Kept) -> ApprovedTrailers:
    """The approvals that a ref keeps."""
    return decode(ApprovedTrailers, kept.trailers) or ApprovedTrailers()


def branch_in(kept: Kept | None) -> BranchTrailers:
    """The branch of a milestone as a ref keeps it."""
    return (decode(BranchTrailers, kept.trailers) if kept is not None else None) or BranchTrailers()


def step_in(kept: Kept) -> StepRecord | None:
    """The result of a step that a ref keeps; None when its commit says something else."""
    told = decode(StepTrailers, kept.trailers)
    if told is None:
        return None
    return StepRecord(
        step=told.step,
        commit=kept.commit,
        key=told.key,
        spec_key=told.spec_key,
        revision=told.revision,
        attempt=told.attempt,
        base=told.base,
        tree=told.tree,
        files=told.files,
        seconds=told.seconds,
    )


def step_trailers(record: StepRecord, milestone: str, issue: str) -> StepTrailers:
    """The same as trailers of the commit that keeps it."""
    return StepTrailers(
        milestone=milestone,
        issue=issue,
        step=record.step,
        key=record.key,
        spec_key=record.spec_key,
        revision=record.revision,
        attempt=record.attempt,
        base=record.base,
        files=dict(record.files),
        seconds=record.seconds,
        tree=record.tree,
    )


PAUSED = "refs/executor/paused"
"""A milestone that a person paused: `<milestone>` below this."""


def pause_of(refs: Refs, milestone: str) -> Pause | None:
    """The pause of one milestone, if it is paused."""
    return next(map(pause_in, refs.kept(f"{PAUSED}/{milestone}")), None)


def pause_in(kept: Kept) -> Pause:
    """The pause that a ref below `PAUSED` is."""
    told = decode(PausedTrailers, kept.trailers) or PausedTrailers()
    return Pause(told.since, told.reason)
