"""Steps, answers and other marks in git, read from refs and the trailers of their commits.

Paused milestones, as stored in git without `.cache/`.
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
    """Return the answers that a ref stores, oldest first."""
    found = decode(AnswersTrailers, {"Answers": kept.trailers.get("Answers", "")})
    return found.answers if found is not None else ()


def approved_in(kept: Kept) -> ApprovedTrailers:
    """Return the approvals that a ref stores."""
    return decode(ApprovedTrailers, kept.trailers) or ApprovedTrailers()


def branch_in(kept: Kept | None) -> BranchTrailers:
    """Return the branch of a milestone that a ref stores."""
    return (decode(BranchTrailers, kept.trailers) if kept is not None else None) or BranchTrailers()


def step_in(kept: Kept) -> StepRecord | None:
    """Return the step result that a ref stores; None if its commit is of another form."""
    found = decode(StepTrailers, kept.trailers)
    if found is None:
        return None
    return StepRecord(
        step=found.step,
        commit=kept.commit,
        key=found.key,
        spec_key=found.spec_key,
        revision=found.revision,
        attempt=found.attempt,
        base=found.base,
        tree=found.tree,
        files=found.files,
        seconds=found.seconds,
    )


def step_trailers(record: StepRecord, milestone: str, issue: str) -> StepTrailers:
    """Return the step result as trailers of its commit."""
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
"""Paused milestones: `<milestone>` below this."""


def pause_of(refs: Refs, milestone: str) -> Pause | None:
    """Return the pause of a milestone; None if it is not paused."""
    name = f"{PAUSED}/{milestone}"
    return next(map(pause_in, refs.kept(name)), None) if refs.tip(name) is not None else None


def pause_in(kept: Kept) -> Pause:
    """Return the pause that a ref below `PAUSED` stores."""
    found = decode(PausedTrailers, kept.trailers) or PausedTrailers()
    return Pause(found.since, found.reason)
