"""The way of an issue through its workflow: an attempt is begun, steps done, gates closed, a candidate made.

doit runs steps as tasks of their own, side by side where they may; whatever they left undone, or has to be done again,
is done one after the other here. Both ask the same question first: is it done already?
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.engine.agent_work import Work, taken
from executor.engine.attempt import begin, keep_candidate, keep_interrupted, pause
from executor.engine.issue import IssueRun
from executor.engine.recover import agent_end
from executor.engine.stops import find_obstacle, held_back, record_obstacle
from executor.errors import ExecutorError, InterruptedRunError
from executor.process.untrusted import question_in
from executor.state.decide import Act, Decision
from executor.state.model import AttemptState
from executor.state.steps import pinned_base
from executor.workflow.gates import close_gate
from executor.workflow.outputs import forget_steps, keep_handoff
from executor.workflow.step_run import (
    attempt_agent,
    done_of,
    flow_of,
    keep_result,
    perform,
    restore,
    step_facts,
    step_work,
)

if TYPE_CHECKING:
    from executor.engine.milestone_run import MilestoneRun
    from executor.state.model import Attempt
    from executor.state.steps import Flow, FlowStep, StepRecord

__all__ = ["StepWorkflow", "bring_step", "implement_in_steps", "settle_steps"]

_MOST_TRIES = 200


class StepWorkflow:
    """The engine's `Workflow` port: issues whose workflow declares steps."""

    def implement(self, issue: IssueRun) -> None:
        """Do the steps that are not done and build a candidate, or record why not."""
        implement_in_steps(issue.run, issue.ref)

    def settle(self, issue: IssueRun, attempt: Attempt) -> None:
        """Recover an attempt in steps whose run died."""
        settle_steps(issue.run, issue.ref, attempt)

    def forget(self, issue: IssueRun) -> None:
        """Remove what is kept of the steps of an issue that has landed."""
        forget_steps(issue.run, issue.ref)


def bring_step(run: MilestoneRun, ref: str, name: str) -> Decision | None:
    """Run one step as far as possible; None when it is done, otherwise the final decision on its issue.

    Raises:
        InterruptedRunError: the run is being stopped.
    """
    run.session.working.setdefault(ref, time.monotonic())
    decision = _bring_step(run, ref, name)
    if decision is not None:
        run.session.working.pop(ref, None)
        run.session.rested(ref, decision)
    return decision


def _bring_step(run: MilestoneRun, ref: str, name: str) -> Decision | None:
    flow = flow_of(run.session.observer, ref)
    for turn in range(_MOST_TRIES):
        if run.session.stopping.is_set():
            raise InterruptedRunError(f"{ref}: the run was stopped", 130)
        run.look_for_pause()
        decision = held_back(run, ref, run.decision(ref), begun=turn > 0)
        if decision.act is Act.REST:
            return decision
        if decision.act is not Act.IMPLEMENT:
            return None
        done = done_of(run, ref)
        if name in done:
            restore(run, ref, done[name])
            return None
        if any(before not in done for before in flow[name].after):
            return None
        attempt = _begun(run, ref)
        if attempt is not None:
            _do(run, ref, flow[name], attempt)
    raise ExecutorError(f"{ref}: step {name} did not come to an end in {_MOST_TRIES} tries; see its journal")


def implement_in_steps(run: MilestoneRun, ref: str) -> None:
    """Do every step that is not done, in order, then make the candidate; returns after the first that came to nothing.

    Raises:
        InterruptedRunError: the run is being stopped.
    """
    flow = flow_of(run.session.observer, ref)
    attempt = _begun(run, ref)
    if attempt is None:
        return
    for step in flow.steps:
        if step.id not in done_of(run, ref) and not _do(run, ref, step, attempt):
            return
    _candidate(run, ref, flow, attempt)


def settle_steps(run: MilestoneRun, ref: str, attempt: Attempt) -> None:
    """Recover an attempt in steps whose run died: keep the steps whose agents had ended, then interrupt the attempt."""
    issue = run.issue(ref)
    flow = flow_of(run.session.observer, ref)
    started = {name for name, item in run.view.states[issue.id].steps.items() if item.word == "started"}
    _ = run.supervisor  # it starts only when every process of the dead run is gone
    for step in flow.steps:
        workspace = run.pool.left_by(issue.id, attempt.number, step.id) if step.id in started else None
        ended = agent_end(run, ref, attempt, step.id)
        if workspace is None or ended is None or run.view.states[issue.id].steps[step.id].attempt != attempt.number:
            continue
        tree = taken(run, workspace, issue)
        work = step_work(run, ref, step, attempt, fresh=False)
        counts = (ended.ok and isinstance(tree, str)) or question_in(work.out, run.session.secrets)
        if counts and keep_result(work, step, tree, round(ended.seconds, 3)):
            run.messages.append(f"{ref}: {step.id} had ended when the run before died; its result is used")
    latest = run.view.states[issue.id].attempts[attempt.number]
    if latest.state is AttemptState.STARTED:
        keep_interrupted(run, issue.id, latest, "")


def _begun(run: MilestoneRun, ref: str) -> Attempt | None:
    """The attempt under way, or a new one; None when the issue may not be begun, which is recorded."""
    issue = run.issue(ref)
    with run.issue_lock(ref):
        decision = run.decision(ref)
        if decision.act is not Act.IMPLEMENT:
            return None
        state = run.facts(ref).state
        last = state.attempts.get(state.last())
        if last is not None and last.state is AttemptState.STARTED:
            return last
        pause(run, ref)
        run.session.require_space()
        obstacle = find_obstacle(IssueRun(run, ref), decision)
        if obstacle is not None:
            record_obstacle(IssueRun(run, ref), obstacle)
            return None
        spec_key = run.session.observer.spec_key(ref)
        pinned = pinned_base(run.view.steps.get(issue.id, {}), state, spec_key, decision.revision)
        tip = run.ensure_branch()
        run.keep_spec(ref)
        if begin(run, ref, decision, pinned or tip, workflow=run.session.policy.workflow_of(issue).name) is None:
            return None
        return run.view.states[issue.id].attempts[decision.attempt]


def _do(run: MilestoneRun, ref: str, step: FlowStep, attempt: Attempt) -> bool:
    """Do a step, or close a gate; an attempt that is cut off is settled."""
    try:
        if step.gate is not None:
            return close_gate(run, ref, step, attempt)
        return perform(run, ref, step, attempt)
    except InterruptedRunError:
        issue = run.issue(ref).id
        with run.issue_lock(ref):
            latest = run.view.states[issue].attempts[attempt.number]
            if latest.state is AttemptState.STARTED:
                keep_interrupted(run, issue, latest, "")
        raise


def _candidate(run: MilestoneRun, ref: str, flow: Flow, attempt: Attempt) -> None:
    """Make the tree of the last step that keeps one the attempt's result."""
    issue = run.issue(ref)
    done = done_of(run, ref)
    facts = step_facts(run, ref)
    logs = run.session.project.logs(run.name, issue.id, attempt.number)
    out = logs / "out"
    out.mkdir(parents=True, exist_ok=True)
    tree = done[flow.last_tree].tree if flow.last_tree else facts.base_tree
    latest = _latest(flow, done, "report.json")
    if latest is not None:
        data = run.session.store.blob(latest.commit, "out/report.json") or b""
        (out / "report.json").write_bytes(data)
    keep_handoff(run, ref, flow, done)
    seconds = round(sum(item.seconds for item in done.values() if item.attempt == attempt.number), 3)
    work = Work(
        run=run,
        ref=ref,
        number=attempt.number,
        revision=attempt.revision,
        base=attempt.base,
        base_tree=run.session.store.tree_of(attempt.base),
        agent=attempt_agent(run, ref, attempt),
        logs=logs,
        brief=logs / "brief.md",
        out=out,
    )
    keep_candidate(work, tree, seconds)


def _latest(flow: Flow, done: dict[str, StepRecord], file: str) -> StepRecord | None:
    return next((done[step.id] for step in reversed(flow.steps) if file in done[step.id].files), None)
