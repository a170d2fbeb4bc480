"""The life of one issue: observe, decide and act in a loop until it lands or cannot continue."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.engine.attempt import Attempts
from executor.engine.landing.land import Landings
from executor.engine.stops import Stops, find_obstacle, record_obstacle
from executor.errors import ExecutorError, InterruptedRunError
from executor.state.decide import Act, Decision, Status
from executor.state.model import QUESTION

if TYPE_CHECKING:
    from executor.engine.issue import IssueRun

__all__ = ["IssueLife"]

_MOST_STEPS = 100


class IssueLife:
    """The life of one issue in a run."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def bring_to_rest(self) -> Decision:
        """Run an issue until it lands or cannot continue in this run; returns the final decision.

        Raises:
            InterruptedRunError: the run is being stopped.
            ExecutorError: a required operation failed; the journal has the state of the issue.
        """
        try:
            decision = self._bring_to_rest()
        finally:
            self._session.working.pop(self._issue.ref, None)
            self._session.places.leave(self._issue.ref, ended=True)
        self._session.rested(self._issue.ref, decision)
        return decision

    def _bring_to_rest(self) -> Decision:
        for step in range(_MOST_STEPS):
            # The merge queue releases the place while a result waits in it. An issue with nothing to do needs none.
            idle = self._issue.decision.act is Act.REST
            placed = idle or self._session.places.take(self._issue.ref, self._session.stopping)
            if not placed or self._session.stopping.is_set():
                raise InterruptedRunError(f"{self._issue.ref}: the run was stopped", 130)
            if not step:
                self._begin()
            self._run.look_for_pause()
            decision = self._issue.decision
            held = Stops(self._issue).held(decision, begun=step > 0)
            self._session.hold(self._issue.ref, held)
            decision = held or decision
            if idle and decision.act is not Act.REST:
                continue
            if decision.act is Act.REST:
                self._run.ensure_receipts([self._issue.id])
                if decision.status is Status.LANDED:
                    self._session.plugins.workflow.forget(self._issue)
                stop = self._issue.facts.state.stop
                if decision.status is Status.REVIEW and stop is not None and stop.rule == QUESTION:
                    self._session.plugins.publisher.show_question(self._issue)
                return decision
            self._act(decision)
        raise ExecutorError(
            f"{self._issue.ref} did not finish within {_MOST_STEPS} actions; its journal shows the repetition"
        )

    def _begin(self) -> None:
        self._session.working[self._issue.ref] = time.monotonic()
        for told in self._session.beginning:
            told(self._issue.ref)

    def _act(self, decision: Decision) -> None:
        match decision.act:
            case Act.IMPLEMENT if self._issue.flow.steps:
                self._session.plugins.workflow.implement(self._issue)
            case Act.IMPLEMENT:
                obstacle = find_obstacle(self._issue, decision)
                if obstacle is not None:
                    record_obstacle(self._issue, obstacle)
                else:
                    Attempts(self._issue).implement(decision)
            case Act.JUDGE:
                Landings(self._issue).land(decision)
            case Act.VERIFY:
                self._issue.verify_again()
