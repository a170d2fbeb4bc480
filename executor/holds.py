"""Holds: why this run begins nothing new for an issue that it could begin: the deadline, or a blocker that pauses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from executor.adapters.clock import LOCAL, utcnow
from executor.core.choice import Wait
from executor.core.deadline import too_late
from executor.core.decide import Act, Status
from executor.core.estimate import expected_seconds
from executor.core.state import AttemptState

if TYPE_CHECKING:
    from executor.core.decide import Decision
    from executor.milestone_run import MilestoneRun

__all__ = ["held_back", "hold_of"]


def held_back(run: MilestoneRun, ref: str, decision: Decision, *, begun: bool) -> Decision:
    """The decision on an issue as it is, or, if it may not start now, one that lets it rest, kept in `session.held`."""
    wait = hold_of(run, ref, decision, begun=begun)
    if wait is None:
        run.session.held.pop(ref, None)
        return decision
    status = Status.PENDING if decision.act is Act.IMPLEMENT else decision.status
    held = replace(decision, status=status, act=Act.REST, reason=f"not started: {wait.reason}", wait=wait)
    run.session.held[ref] = held
    return held


def hold_of(run: MilestoneRun, ref: str, decision: Decision, *, begun: bool) -> Wait | None:
    """What keeps this run from doing what would be done next with an issue, if anything does.

    Args:
        run: the milestone's run.
        ref: the issue.
        decision: what would be done next.
        begun: something was done for it in this run; then it may come to its end, but no other attempt begins.
    """
    if decision.act is Act.REST or (begun and decision.act is not Act.IMPLEMENT):
        return None
    session = run.session
    paused = session.paused.get(run.name)
    if paused:
        return Wait(paused, None, kind="pause")
    if session.deadline is None:
        return None
    seconds = _expected(run, ref) if decision.act is Act.IMPLEMENT else 0.0
    reason = too_late(session.deadline, utcnow(), seconds, LOCAL)
    return Wait(reason, session.deadline.timestamp(), kind="deadline") if reason else None


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
