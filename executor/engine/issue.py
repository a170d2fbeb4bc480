"""One issue in one run: its declaration, facts and decision, and its life.

The life of an issue is a loop: observe, decide and act until it lands or cannot continue.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.checks.base import BaseCheck
from executor.checks.verify import Candidate, Verifier
from executor.engine.attempt import Attempts
from executor.engine.landing.land import Landings
from executor.engine.stops import Stops, find_obstacle, record_obstacle
from executor.errors import ExecutorError, InterruptedRunError
from executor.git.diff import parse_diff
from executor.model.fingerprint import IssueRef
from executor.state.decide import Act, Decision, Status
from executor.state.events import Refused, Verified
from executor.state.model import QUESTION
from executor.state.steps import Flow, compiled_flow

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from executor.checks.spec import Proofs
    from executor.checks.verify import Judgement
    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session
    from executor.model.fingerprint import Spec
    from executor.model.milestone import Issue
    from executor.state.decide import Facts
    from executor.state.events import Event
    from executor.state.model import Attempt, IssueState

__all__ = ["IssueLife", "IssueRun"]

_MOST_STEPS = 100  # actions; an attempt takes two or three, so this ends only a loop that is a fault of ours


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
        return IssueRef.parse(self.ref).issue

    @property
    def flow(self) -> Flow:
        """The steps of its workflow; none for the direct one."""
        return compiled_flow(self.session.policy.workflow_of(self.declared), self.declared.type)

    @property
    def has_steps(self) -> bool:
        """Whether its workflow implements it in steps; the direct one has no phases and need not be compiled."""
        return bool(self.session.policy.workflow_of(self.declared).phases) and bool(self.flow.steps)

    @property
    def facts(self) -> Facts:
        """Its current facts."""
        return self.run.session.observer.facts(self.ref)

    @property
    def decision(self) -> Decision:
        """The current decision on it."""
        return self.run.session.observer.decision(self.ref)

    @property
    def state(self) -> IssueState:
        """Its state in the journal; exists once an event was recorded."""
        return self.run.view.states[self.id]

    @property
    def proofs(self) -> Proofs:
        """Its checks and acceptance."""
        return self.run.session.observer.proofs(self.ref)

    @property
    def spec(self) -> Spec:
        """Its canonical spec; `text` is given to agents."""
        return self.run.session.observer.spec(self.ref)

    @property
    def spec_key(self) -> str:
        """Fingerprint of its spec."""
        return self.run.session.observer.spec_key(self.ref)

    @property
    def verifier(self) -> Verifier:
        """Runs its checks and acceptance."""
        return Verifier(self.run.checks, self.proofs, self.declared, self.run.folder / "logs" / "base")

    @property
    def base_check(self) -> BaseCheck:
        """Runs its checks and acceptance on the base."""
        return BaseCheck(self.run.checks, self.proofs, self.run.folder / "logs" / "base")

    def verifier_of(self, only: frozenset[str], *, again: bool) -> Verifier:
        """Return a verifier for some faults (`executor.checks.verify.Judgement.faults`), or for all checks.

        Args:
            only: checks, or failing tests of checks; empty: all checks.
            again: retry failures of this run.
        """
        failing: dict[str, list[str]] = {}
        for fault in sorted(only):
            check, _, test = fault.partition("\n")
            failing.setdefault(check, []).extend([test] if test else [])
        items = tuple(item for item in self.proofs.items if not only or item.name in failing)
        checks = self.run.checks.trying_again() if again else self.run.checks
        logs = self.run.folder / "logs" / "base"
        return Verifier(checks, replace(self.proofs, items=items), self.declared, logs, failing)

    @property
    def lock(self) -> threading.RLock:
        """The lock that parallel steps hold while they change its attempts."""
        return self.run.issue_lock(self.ref)

    def attempt(self, number: int) -> Attempt:
        """Return one of its attempts in its current state."""
        return self.state.attempts[number]

    def record(self, event: Event) -> None:
        """Append an event about the issue to the journal."""
        self.run.record(event, self.id)

    def tell(self, word: str, text: str) -> None:
        """Print a line about the issue."""
        self.run.tell(word, self.ref, text)

    def logs(self, number: int) -> Path:
        """Folder with brief, output and check logs of an attempt."""
        return self.session.project.logs(self.run.name, self.id, number)

    def verify_on(self, tree: str) -> Judgement:
        """Run the proofs of the landed issue on a tree that contains it."""
        landing = self.run.view.landings[self.id]
        change = parse_diff(self.session.store.diff(f"{landing.commit}^", landing.commit))
        return self.verifier.first_failure(Candidate(tree, "", change), self.run.folder / "logs" / self.id / "verify")

    def verify_again(self) -> None:
        """Run the proofs of the landed issue on the current tip and record the result."""
        facts = self.facts
        landing = facts.landing
        if landing is None:
            return
        tip = self.run.view.tip
        result = self.verify_on(self.session.store.tree_of(tip))
        key, revision = facts.check_key, landing.trailers.revision
        needs = {need.ref: need.result_key for need in facts.needs}
        self.run.keep_spec(self.ref)
        if result.ok:
            self.record(Verified(check_key=key, needs=needs, revision=revision, tip=tip))
            self.run.write_receipt(landing)
        else:
            reason, detail = result.reason, result.detail
            self.record(
                Refused(reason=reason, detail=detail, check_key=key, needs=needs, revision=revision, tip=tip),
            )


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
                if decision.status is Status.LANDED and self._issue.id in self._run.view.steps:
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
        for listener in self._session.beginning:
            listener(self._issue.ref)

    def _act(self, decision: Decision) -> None:
        match decision.act:
            case Act.IMPLEMENT if self._issue.has_steps:
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
