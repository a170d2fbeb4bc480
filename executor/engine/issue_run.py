"""The whole life of one issue: observe, decide, act, and again, until it has landed or is at rest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.engine.attempt import implement
from executor.engine.issue import IssueRun
from executor.engine.land import land
from executor.engine.stops import find_obstacle, held_back, record_obstacle
from executor.errors import ExecutorError, InterruptedRunError
from executor.state.decide import Act, Decision, Status

if TYPE_CHECKING:
    from executor.engine.milestone_run import MilestoneRun

__all__ = ["bring_to_rest"]

_MOST_STEPS = 100


def bring_to_rest(run: MilestoneRun, ref: str) -> Decision:
    """Take an issue as far as it goes in this run; the decision returned says where that is.

    Raises:
        InterruptedRunError: the run is being stopped.
        ExecutorError: something that has to work did not; the issue is as the journal says.
    """
    run.session.working[ref] = time.monotonic()
    try:
        decision = _bring_to_rest(run, ref)
    finally:
        run.session.working.pop(ref, None)
    run.session.rested(ref, decision)
    return decision


def _bring_to_rest(run: MilestoneRun, ref: str) -> Decision:
    for step in range(_MOST_STEPS):
        if run.session.stopping.is_set():
            raise InterruptedRunError(f"{ref}: the run was stopped", 130)
        run.look_for_pause()
        decision = held_back(run, ref, run.decision(ref), begun=step > 0)
        if decision.act is Act.REST:
            run.ensure_receipts([run.issue(ref).id])
            if decision.status is Status.LANDED:
                run.session.plugins.workflow.forget(IssueRun(run, ref))
            return decision
        _act(run, ref, decision)
    raise ExecutorError(f"{ref} did not finish within {_MOST_STEPS} actions; its journal shows the repetition")


def _act(run: MilestoneRun, ref: str, decision: Decision) -> None:
    match decision.act:
        case Act.IMPLEMENT if IssueRun(run, ref).flow.steps:
            run.session.plugins.workflow.implement(IssueRun(run, ref))
        case Act.IMPLEMENT:
            obstacle = find_obstacle(IssueRun(run, ref), decision)
            if obstacle is not None:
                record_obstacle(IssueRun(run, ref), obstacle)
            else:
                implement(run, ref, decision)
        case Act.JUDGE:
            land(run, ref, decision)
        case Act.VERIFY:
            IssueRun(run, ref).verify_again()
