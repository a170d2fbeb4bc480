"""Holds: why this run begins nothing new for an issue that it could begin: the deadline, or a blocker that pauses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from executor.adapters.clock import LOCAL, utcnow
from executor.core.deadline import too_late
from executor.core.decide import Act, Status
from executor.core.estimate import expected_seconds
from executor.core.state import AttemptState
from executor.session import Hold

if TYPE_CHECKING:
    from executor.core.decide import Decision
    from executor.milestone_run import MilestoneRun

__all__ = ["held_back"]


def held_back(run: MilestoneRun, ref: str, decision: Decision, *, begun: bool) -> Decision:
    """The decision on an issue as it is, or, if it may not start now, one that lets it rest.

    Args:
        run: the milestone's run.
        ref: the issue.
        decision: what would be done next.
        begun: something was done for it in this run; then it may come to its end, but no other attempt begins.
    """
    if decision.act is Act.REST or (begun and decision.act is not Act.IMPLEMENT):
        return decision
    session = run.session
    reason, by_time = session.paused.get(run.name, ""), False
    if not reason and session.deadline is not None:
        seconds = _expected(run, ref) if decision.act is Act.IMPLEMENT else 0.0
        reason, by_time = too_late(session.deadline, utcnow(), seconds, LOCAL), True
    if not reason:
        return decision
    status = Status.PENDING if decision.act is Act.IMPLEMENT else decision.status
    hold = Hold(replace(decision, status=status, act=Act.REST, reason=f"not started: {reason}"), by_time)
    session.held[ref] = hold
    return hold.decision


def _expected(run: MilestoneRun, ref: str) -> float:
    """Seconds that an attempt is expected to take, from what issues of the milestone have taken."""
    view = run.view
    past = [
        (declared.size, attempt.seconds)
        for declared in view.milestone.issues
        if (state := view.states.get(declared.id)) is not None
        for attempt in state.attempts.values()
        if attempt.state is AttemptState.LANDED and attempt.seconds
    ]
    return expected_seconds(run.issue(ref).size, past)
