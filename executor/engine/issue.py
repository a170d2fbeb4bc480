"""One issue in one run: its declaration, facts and decision, and the operations that every part of its life needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.state.steps import Flow, compiled_flow

if TYPE_CHECKING:
    import threading

    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session
    from executor.model.milestone import Issue
    from executor.state.decide import Decision, Facts
    from executor.state.model import Attempt, IssueState

__all__ = ["IssueRun"]


@dataclass(frozen=True, slots=True)
class IssueRun:
    """An issue while a run works on its milestone.

    Attributes:
        run: the run of its milestone, the only writer of journal and branch.
        ref: its qualified id.
    """

    run: MilestoneRun
    ref: str

    @property
    def session(self) -> Session:
        """The session of the run."""
        return self.run.session

    @property
    def declared(self) -> Issue:
        """Its declaration."""
        return self.run.session.compiled.plan.nodes[self.ref].issue

    @property
    def id(self) -> str:
        """Its id within the milestone."""
        return self.declared.id

    @property
    def flow(self) -> Flow:
        """The steps of its workflow; none for the direct one."""
        return compiled_flow(self.session.policy.workflow_of(self.declared), self.declared.type)

    @property
    def facts(self) -> Facts:
        """Its facts now."""
        return self.run.session.observer.facts(self.ref)

    @property
    def decision(self) -> Decision:
        """The decision on it now."""
        return self.run.session.observer.decision(self.ref)

    @property
    def state(self) -> IssueState:
        """What the journal says of it; there is an entry once anything was recorded."""
        return self.run.view.states[self.id]

    @property
    def lock(self) -> threading.RLock:
        """Held while its steps change its attempts side by side."""
        return self.run.issue_lock(self.ref)

    def attempt(self, number: int) -> Attempt:
        """One of its attempts as it is now."""
        return self.state.attempts[number]
