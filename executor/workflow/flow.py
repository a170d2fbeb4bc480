"""The path of an issue through its workflow: start an attempt, run steps, close gates, build a candidate.

doit runs steps as separate tasks, in parallel if possible; steps that are left over or must be repeated run here, one
after the other. Both first check whether a step is done already.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.engine.agent_work import Work, tree_left
from executor.engine.attempt import Attempts, keep_candidate
from executor.engine.recover import Recovery
from executor.engine.stops import Stops, find_obstacle, record_obstacle
from executor.errors import ExecutorError, InterruptedRunError
from executor.process.files import question_in
from executor.state.decide import Act, Decision
from executor.state.model import AttemptState
from executor.state.steps import pinned_base
from executor.workflow.gates import Gates
from executor.workflow.outputs import KeptOutputs
from executor.workflow.step_run import Steps, flow_of, keep_result

if TYPE_CHECKING:
    from executor.engine.issue import IssueRun
    from executor.state.model import Attempt
    from executor.state.steps import Flow, FlowStep, StepRecord

__all__ = ["StepFlow", "StepWorkflow"]

_MOST_TRIES = 200


class StepWorkflow:
    """The engine's `Workflow` port for workflows with steps."""

    def implement(self, issue: IssueRun) -> None:
        """Run the unfinished steps and build a candidate, or record why there is none."""
        StepFlow(issue).implement_in_steps()

    def settle(self, issue: IssueRun, attempt: Attempt) -> None:
        """Recover a multi-step attempt of a dead run."""
        StepFlow(issue).settle_steps(attempt)

    def forget(self, issue: IssueRun) -> None:
        """Delete the stored step results of a landed issue."""
        KeptOutputs(issue).forget_steps()


class StepFlow:
    """Takes one issue through its steps."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def bring_step(self, name: str) -> Decision | None:
        """Run one step as far as possible; None once it is done, otherwise the final decision on its issue.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        self._session.working.setdefault(self._issue.ref, time.monotonic())
        decision = self._bring_step(name)
        if decision is not None:
            self._session.working.pop(self._issue.ref, None)
            self._session.rested(self._issue.ref, decision)
        return decision

    def _bring_step(self, name: str) -> Decision | None:
        flow = flow_of(self._session.observer, self._issue.ref)
        for turn in range(_MOST_TRIES):
            if self._session.stopping.is_set():
                raise InterruptedRunError(f"{self._issue.ref}: the run was stopped", 130)
            self._run.look_for_pause()
            decision = self._issue.decision
            held = Stops(self._issue).held(decision, begun=turn > 0)
            self._session.hold(self._issue.ref, held)
            decision = held or decision
            if decision.act is Act.REST:
                return decision
            if decision.act is not Act.IMPLEMENT:
                return None
            done = Steps(self._issue).done_of()
            if name in done:
                Steps(self._issue).restore(done[name])
                return None
            if any(before not in done for before in flow[name].after):
                return None
            attempt = self._begun()
            if attempt is not None:
                self._do(flow[name], attempt)
        raise ExecutorError(
            f"{self._issue.ref}: step {name} did not come to an end in {_MOST_TRIES} tries; see its journal"
        )

    def implement_in_steps(self) -> None:
        """Run every unfinished step in order, then build the candidate; stops at the first step that fails.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        flow = flow_of(self._session.observer, self._issue.ref)
        attempt = self._begun()
        if attempt is None:
            return
        for step in flow.steps:
            if step.id not in Steps(self._issue).done_of() and not self._do(step, attempt):
                return
        self._candidate(flow, attempt)

    def settle_steps(self, attempt: Attempt) -> None:
        """Recover a multi-step attempt of a dead run: keep finished steps, then interrupt the attempt."""
        issue = self._issue.declared
        flow = flow_of(self._session.observer, self._issue.ref)
        started = {name for name, item in self._issue.state.steps.items() if item.word == "started"}
        _ = self._run.supervisor  # it starts only when every process of the dead run is gone
        for step in flow.steps:
            workspace = self._run.pool.left_by(issue.id, attempt.number, step.id) if step.id in started else None
            ended = Recovery(self._run).agent_end(self._issue.ref, attempt, step.id)
            if workspace is None or ended is None or self._issue.state.steps[step.id].attempt != attempt.number:
                continue
            tree = tree_left(self._issue, workspace)
            work = Steps(self._issue).step_work(step, attempt, fresh=False)
            counts = (ended.ok and isinstance(tree, str)) or question_in(work.out, self._session.secrets)
            if counts and keep_result(work, step, tree, round(ended.seconds, 3)):
                self._run.messages.append(
                    f"{self._issue.ref}: {step.id} had ended when the run before died; its result is used"
                )
        latest = self._issue.state.attempts[attempt.number]
        if latest.state is AttemptState.STARTED:
            Attempts(self._issue).keep_interrupted(latest, "")

    def _begun(self) -> Attempt | None:
        """Return the current attempt or start one; None, which is recorded, if the issue may not start."""
        issue = self._issue.declared
        with self._issue.lock:
            decision = self._issue.decision
            if decision.act is not Act.IMPLEMENT:
                return None
            state = self._issue.facts.state
            last = state.attempts.get(state.last())
            if last is not None and last.state is AttemptState.STARTED:
                return last
            Attempts(self._issue).pause()
            self._session.require_space()
            obstacle = find_obstacle(self._issue, decision)
            if obstacle is not None:
                record_obstacle(self._issue, obstacle)
                return None
            spec_key = self._issue.spec_key
            pinned = pinned_base(self._run.view.steps.get(issue.id, {}), state, spec_key, decision.revision)
            tip = self._run.ensure_branch()
            self._run.keep_spec(self._issue.ref)
            if (
                Attempts(self._issue).begin(
                    decision, pinned or tip, workflow=self._session.policy.workflow_of(issue).name
                )
                is None
            ):
                return None
            return self._issue.state.attempts[decision.attempt]

    def _do(self, step: FlowStep, attempt: Attempt) -> bool:
        """Run a step or close a gate; settles an interrupted attempt."""
        try:
            if step.gate is not None:
                return Gates(self._issue).close_gate(step, attempt)
            return Steps(self._issue).perform(step, attempt)
        except InterruptedRunError:
            issue = self._issue.id
            with self._issue.lock:
                latest = self._run.view.states[issue].attempts[attempt.number]
                if latest.state is AttemptState.STARTED:
                    Attempts(self._issue).keep_interrupted(latest, "")
            raise

    def _candidate(self, flow: Flow, attempt: Attempt) -> None:
        """Use the tree of the last step that keeps one as the attempt's result."""
        issue = self._issue.declared
        done = Steps(self._issue).done_of()
        facts = Steps(self._issue).step_facts()
        logs = self._session.project.logs(self._run.name, issue.id, attempt.number)
        out = logs / "out"
        out.mkdir(parents=True, exist_ok=True)
        tree = done[flow.last_tree].tree if flow.last_tree else self._kept(flow, done, facts.base_tree)
        latest = _latest(flow, done, "report.json")
        if latest is not None:
            data = self._session.store.blob(latest.commit, "out/report.json") or b""
            (out / "report.json").write_bytes(data)
        KeptOutputs(self._issue).keep_handoff(flow, done)
        seconds = round(sum(item.seconds for item in done.values() if item.attempt == attempt.number), 3)
        work = Work(
            issue=self._issue,
            number=attempt.number,
            revision=attempt.revision,
            base=attempt.base,
            base_tree=self._session.store.tree_of(attempt.base),
            agent=Steps(self._issue).attempt_agent(attempt),
            logs=logs,
            brief=logs / "brief.md",
            out=out,
        )
        keep_candidate(work, tree, seconds)

    def _kept(self, flow: Flow, done: dict[str, StepRecord], base_tree: str) -> str:
        """Return the tree with the files of the steps, for a workflow without steps that keep their tree."""
        place = flow.workflow.keeps
        if not place:
            return base_tree
        folder = place.replace("{milestone}", self._run.name).replace("{issue}", self._issue.id)
        store = self._session.store
        contents: dict[str, bytes | None] = {
            f"{folder}/{name}/{file}": store.blob(record.commit, f"out/{file}")
            for name, record in done.items()
            for file in record.files
        }
        with self._run.pool.slot() as slot:
            return store.with_contents(base_tree, contents, slot.scratch)


def _latest(flow: Flow, done: dict[str, StepRecord], file: str) -> StepRecord | None:
    return next((done[step.id] for step in reversed(flow.steps) if file in done[step.id].files), None)
