"""One step of a workflow: receives its inputs, runs in a slot, is examined, and its result is stored in git.

A failed step fails the attempt at its issue; stored results of other steps are reused.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.agents import brief as briefs
from executor.engine.agent_work import Failure, Work, produce
from executor.engine.attempt import Attempts, brief_facts
from executor.engine.issue import IssueRun
from executor.errors import ExecutorError
from executor.git.refs import STEPS, Move
from executor.git.trailers import encode
from executor.model.fingerprint import combined_key, digest
from executor.model.workflow import TREE
from executor.process.files import question_in, write_atomic, write_json
from executor.state.events import StepDone, StepFailed, StepStarted
from executor.state.model import AttemptState, IssueState
from executor.state.steps import (
    Flow,
    FlowStep,
    StepFacts,
    StepRecord,
    compiled_flow,
    done_steps,
    pinned_base,
    refused_at,
    step_key,
    step_trailers,
    tree_before,
)
from executor.workflow.contract import contract_of, contract_text, readable_paths, write_self_check
from executor.workflow.outputs import criteria_texts, left_by

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from executor.git.objects import Store
    from executor.model.agent_profile import Agent
    from executor.state.model import Attempt
    from executor.status.reader import Observer

__all__ = ["Steps", "flow_of", "input_files", "keep_result"]

RECEIPT = "step.json"
_OUT = "out"
_TREE = "tree"


def flow_of(observer: Observer, ref: str) -> Flow:
    """Return the steps of an issue; none for the direct workflow."""
    issue = observer.compiled.plan.nodes[ref].issue
    return compiled_flow(observer.compiled.policy.workflow_of(issue), issue.type)


class Steps:
    """Runs steps of one issue and stores their results."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def step_facts(self) -> StepFacts:
        """Return the facts that decide which steps of an issue are done."""
        facts = self._issue.facts
        state = facts.state
        records = self._run.view.steps.get(self._issue.id, {})
        revision = 1 if facts.landing is None else facts.landing.trailers.revision + 1
        last = state.attempts.get(state.last())
        base = last.base if last is not None and last.state is AttemptState.STARTED else ""
        base = base or pinned_base(records, state, facts.spec_key, revision) or self._run.view.tip
        return StepFacts(
            spec_key=facts.spec_key,
            revision=revision,
            refused=refused_at(state, facts.spec_key, revision),
            base_tree=self._session.store.tree_of(base),
            records=dict(records),
            wanted=frozenset(name for name, item in state.steps.items() if item.missing),
            criteria=combined_key(criteria_texts(self._issue.declared)),
            content=lambda tree, path: _digest(self._session.store.blob(tree, path)),
        )

    def done_of(self) -> dict[str, StepRecord]:
        """Return the finished steps of an issue."""
        return done_steps(flow_of(self._session.observer, self._issue.ref), self.step_facts())

    def perform(self, step: FlowStep, attempt: Attempt) -> bool:
        """Run a step once within an attempt; returns whether its result is good.

        Raises:
            InterruptedRunError: the run is being stopped; the caller must settle the attempt.
        """
        issue = self._issue.declared
        work = self.step_work(step, attempt)
        self._issue.tell("step", f"{step.id}: {work.agent.name}")
        self._run.record(StepStarted(attempt=attempt.number, step=step.id), issue.id)
        began = time.monotonic()
        with self._run.resources.taken(issue.resources):
            return produce(work, lambda made: keep_result(work, step, made, round(time.monotonic() - began, 3)))

    def step_work(self, step: FlowStep, attempt: Attempt, *, fresh: bool = True) -> Work:
        """The work of a step; `fresh` recreates its folders and its brief."""
        assert step.step is not None  # noqa: S101  (a gate is not run)
        issue = self._issue.declared
        facts = self.step_facts()
        done = done_steps(flow_of(self._session.observer, self._issue.ref), facts)
        home = self._session.project.logs(self._run.name, issue.id, attempt.number) / "steps" / step.id
        policy = self._session.policy
        work = Work(
            issue=self._issue,
            number=attempt.number,
            revision=attempt.revision,
            base=attempt.base,
            base_tree=tree_before(step, facts, done),
            agent=policy.agents[step.step.agent] if step.step.agent is not None else self.attempt_agent(attempt),
            logs=home,
            brief=home / "brief.md",
            out=home / _OUT,
            step=step.id,
            inputs=home / "in",
            readable=readable_paths(),
            own_options=step.step.options if step.step.agent is not None or step.step.options else None,
        )
        if fresh:
            shutil.rmtree(home, ignore_errors=True)
            work.out.mkdir(parents=True)
            contract = contract_of(flow_of(self._session.observer, self._issue.ref), step, criteria_texts(issue))
            write_self_check(home / "in", contract)
            given = input_files(self._run.store, step, done, work.base_tree)
            where = [(name, _give(home / "in", name, data)) for name, data in given.items()]
            found = replace(self._facts_of(step, tuple(where), tuple(done)), contract=contract_text(contract))
            text = briefs.brief(replace(brief_facts(self._issue, attempt.number, attempt.revision), step=found))
            work.brief.write_text(text, encoding="utf-8", errors="surrogateescape")
        return work

    def attempt_agent(self, attempt: Attempt) -> Agent:
        """Return the agent of an attempt."""
        policy = self._session.policy
        return policy.agents.get(attempt.agent) or policy.agent_for(self._issue.declared)

    def keep(self, record: StepRecord, files: Mapping[str, bytes]) -> StepRecord:
        """Store a result under its ref; from then on the step is done."""
        store = self._session.store
        folders = {_OUT: store.files_tree(files)} if files else {}
        if record.tree:
            folders[_TREE] = record.tree
        issue = self._issue.id
        trailers = step_trailers(record, self._run.name, issue)
        text = f"{record.step} of {self._issue.ref}\n\n{encode(trailers)}\n"
        tree = store.folders_tree(folders)
        commit = store.commit(tree, [record.base], text, self._session.identity, int(time.time()))
        with self._issue.lock:
            known = self._run.view.steps.setdefault(issue, {})
            name = f"{STEPS}/{self._issue.ref}/{record.step}"
            before = known[record.step].commit if record.step in known else None
            # Compare-and-swap: another process may have stored its own result of the step meanwhile.
            if not self._session.refs.move([Move(name, before, commit)], f"{record.step} done"):
                raise ExecutorError(f"{name} was changed by another process; run again")
            known[record.step] = replace(record, commit=commit)
            return known[record.step]

    def restore(self, record: StepRecord) -> None:
        """Restore a step's outputs in `.cache/`, where they are doit's targets."""
        folder = self._session.project.step(self._run.name, self._issue.id, record.step)
        folder.mkdir(parents=True, exist_ok=True)
        for name, key in record.files.items():
            path = folder / name
            if not path.is_file() or _digest(path.read_bytes()) != key:
                data = self._session.store.blob(record.commit, f"{_OUT}/{name}")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, data or b"", durable=False)
        values = {"step": record.step, "key": record.key, "commit": record.commit, "tree": record.tree}
        if not (folder / RECEIPT).is_file() or json.loads((folder / RECEIPT).read_bytes()) != values:
            write_json(folder / RECEIPT, values, durable=False)

    def _facts_of(self, step: FlowStep, given: tuple[tuple[str, str], ...], done: tuple[str, ...]) -> briefs.StepFacts:
        assert step.step is not None  # noqa: S101  (a gate has no brief)
        issue = self._issue.declared
        state = self._run.view.states.get(issue.id) or IssueState()
        known = state.steps.get(step.id)
        return briefs.StepFacts(
            id=step.id,
            does=step.step.does,
            inputs=given,
            outputs=step.step.outputs,
            handoff=(step.step.handoff or "").replace("{issue}", issue.id),
            tree=step.step.tree,
            tests=step.step.shows is not None,
            missing=known.missing if known is not None else (),
            done=done,
        )


def input_files(store: Store, step: FlowStep, done: Mapping[str, StepRecord], tree: str) -> dict[str, bytes]:
    """Return the content of the input files of a step or gate by name, without missing ones."""
    found: dict[str, bytes] = {}
    for name in step.inputs:
        owner, _, file = name.partition("/")
        if name.startswith(TREE):
            data = store.blob(tree, name.removeprefix(TREE))
        else:
            data = store.blob(done[owner].commit, f"{_OUT}/{file}") if owner in done else None
        if data is not None:
            found[name] = data
    return found


def keep_result(work: Work, step: FlowStep, made: str | Failure, seconds: float) -> bool:
    """Examine a step's result and store it, or fail the attempt; returns whether it is good."""
    run = work.run
    question = question_in(work.out, run.session.secrets)
    if question:
        Attempts(IssueRun(run, work.ref)).ask(
            work.number, question, "" if isinstance(made, Failure) else made, work.cost()
        )
        return False
    if isinstance(made, Failure):
        return _fail(work, made, seconds)
    cost = work.cost()
    files = left_by(work, step, made)
    if isinstance(files, Failure):
        return _fail(work, files, seconds)
    facts = Steps(IssueRun(run, work.ref)).step_facts()
    done = done_steps(flow_of(run.session.observer, work.ref), facts)
    key = step_key(step, facts, done)
    if not key:
        return False
    record = StepRecord(
        step=step.id,
        commit="",
        key=key,
        spec_key=facts.spec_key,
        revision=facts.revision,
        attempt=work.number,
        base=work.base,
        tree=made if step.keeps_tree else "",
        files={name: _digest(data) for name, data in sorted(files.items())},
        seconds=seconds,
    )
    record = Steps(IssueRun(run, work.ref)).keep(record, files)
    run.record(StepDone(attempt=work.number, step=step.id, took=seconds, spend=cost), run.issue(work.ref).id)
    Steps(IssueRun(run, work.ref)).restore(record)
    run.session.tell("done", work.ref, step.id)
    return True


def _fail(work: Work, failure: Failure, seconds: float) -> bool:
    """Record a failed step; its attempt fails, unless it has ended already."""
    run = work.run
    reason = f"{work.step}: {failure.reason}"
    issue = run.issue(work.ref).id
    run.record(
        StepFailed(attempt=work.number, step=work.step, reason=reason[:2000], took=seconds, spend=work.cost()), issue
    )
    with run.issue_lock(work.ref):
        if run.view.states[issue].attempts[work.number].state is AttemptState.STARTED:
            whole = replace(failure, reason=reason, step=work.step, tree=failure.tree or work.base_tree)
            Attempts(IssueRun(run, work.ref)).fail(work.number, whole, seconds=seconds)
    return False


def _give(folder: Path, name: str, data: bytes) -> str:
    """Write an input file; returns its path for the agent."""
    if name.startswith(TREE):
        return name.removeprefix(TREE)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"$EXECUTOR_IN/{name}"


def _digest(data: bytes | None) -> str:
    return digest(data) if data is not None else ""
