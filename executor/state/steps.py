"""The steps of one issue: a workflow compiled for its task type, and which of its steps are done. Pure.

A step is done if a stored result has the key of its current inputs. Agent, model and the wording of a prompt are not
part of the key; its inputs and its required outputs are.

The state of an issue's steps in the journal; part of the fold in `executor.state.fold`. Pure.

Results of steps are stored in git; this state has only running steps, failures, and work that a gate sent back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from executor.git.trailers import decode
from executor.model.fingerprint import digest
from executor.model.workflow import GATE, TREE
from executor.state.events import GateHeld, GateOpened, StepDone, StepFailed, StepStarted
from executor.state.marks import StepTrailers
from executor.state.model import AttemptState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from executor.git.refs import Kept
    from executor.model.workflow import Gate, Step, Workflow
    from executor.state.model import IssueState
    from executor.state.record import Record

__all__ = [
    "Flow",
    "FlowStep",
    "StepFacts",
    "StepRecord",
    "StepState",
    "apply_step",
    "compiled_flow",
    "done_steps",
    "forget_rounds",
    "pinned_base",
    "refused_at",
    "step_in",
    "step_trailers",
]


@dataclass(frozen=True, slots=True)
class FlowStep:
    """A step, or a phase's gate, in the flow of one issue.

    Attributes:
        id: ``phase.step``; a gate's is ``phase.gate``.
        phase: its phase.
        step: its declaration; None for a gate.
        gate: its declaration; None for a step.
        needs: steps of its phase whose results it receives or waits for.
        after: all steps that must be done before it: its needs, and the previous phase.
        inputs: files that it receives, without those of steps that do not apply to the issue.
        tree_from: step whose tree it starts from; empty: the issue's base.
        schemas: digest of the JSON Schemas of its outputs; empty without any.
    """

    id: str
    phase: str
    step: Step | None
    gate: Gate | None
    needs: tuple[str, ...]
    after: tuple[str, ...]
    inputs: tuple[str, ...]
    tree_from: str
    schemas: str = ""

    @property
    def keeps_tree(self) -> bool:
        """Return whether its changes to the tree are kept."""
        return self.step is not None and self.step.tree


@dataclass(frozen=True, slots=True)
class Flow:
    """The steps of one issue in executable order; without any, its workflow is the direct one."""

    workflow: Workflow
    steps: tuple[FlowStep, ...] = ()

    def __getitem__(self, name: str) -> FlowStep:
        return next(step for step in self.steps if step.id == name)

    @property
    def last_tree(self) -> str:
        """The step whose tree is the issue's result; empty if none keeps its tree."""
        return next((step.id for step in reversed(self.steps) if step.keeps_tree), "")


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The stored result of a step, or of a gate that opened.

    Attributes:
        step: ``phase.step``.
        commit: the commit that stores it, with the folders `out` and, for a step that keeps its tree, `tree`.
        key: key of its inputs.
        spec_key: key of its spec.
        revision: revision of the issue.
        attempt: the attempt that produced it.
        base: commit that the issue's work started from.
        tree: its tree; empty for steps that keep none.
        files: name -> digest of each output file.
        seconds: working time of its agent.
    """

    step: str
    commit: str
    key: str
    spec_key: str
    revision: int
    attempt: int
    base: str
    tree: str
    files: Mapping[str, str]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class StepFacts:
    """The facts that decide which steps of an issue are done.

    Attributes:
        spec_key: key of the current declaration.
        revision: the revision that the issue would land as.
        refused: number of the last attempt whose result was refused, 0 for none; after it the tree is built again.
        base_tree: tree that the issue's work starts from.
        records: stored results.
        wanted: steps that a gate sends back.
        criteria: digest of the acceptance criteria, which gates use.
        content: returns the digest of a file of a tree; empty if it does not exist.
    """

    spec_key: str
    revision: int
    refused: int
    base_tree: str
    records: Mapping[str, StepRecord]
    wanted: frozenset[str] = frozenset()
    criteria: str = ""
    content: Callable[[str, str], str] = field(default=lambda _tree, _path: "")


def compiled_flow(workflow: Workflow, issue_type: str) -> Flow:
    """Return the workflow for issues of a type."""
    kind = workflow.task_type(issue_type).lower()
    steps: list[FlowStep] = []
    before: tuple[str, ...] = ()
    tree = ""
    for phase, rule in workflow.phases.items():
        own = {
            f"{phase}.{name}": step
            for name, step in rule.steps.items()
            if not step.types or kind in {item.lower() for item in step.types}
        }
        if not own:
            continue
        made: list[FlowStep] = []
        known = {item.id for item in steps} | own.keys()
        start = tree
        waiting = dict(own)
        while waiting:
            name = next(name for name, step in waiting.items() if not _needs(step, phase, own.keys()) & waiting.keys())
            step = waiting.pop(name)
            needs = _needs(step, phase, own.keys())
            if step.tree and tree != start:
                needs = needs | {tree}
            ordered = tuple(item.id for item in made if item.id in needs)
            earlier = _with_theirs(ordered, made)
            tree_from = next((item.id for item in reversed(made) if item.keeps_tree and item.id in earlier), start)
            inputs = tuple(file for file in step.inputs if file.startswith(TREE) or file.partition("/")[0] in known)
            schemas = json.dumps(workflow.schemas_of(step), sort_keys=True).encode() if step.schemas else b""
            key = digest(schemas) if schemas else ""
            made.append(FlowStep(name, phase, step, None, ordered, (*before, *ordered), inputs, tree_from, key))
            tree = name if step.tree else tree
        names = tuple(item.id for item in made)
        steps += made
        before = names
        if rule.gate is not None:
            files = tuple(dict.fromkeys(item.file for item in rule.gate.criteria.values()))
            inputs = tuple(file for file in files if file.startswith(TREE) or file.partition("/")[0] in known)
            gate = FlowStep(f"{phase}.{GATE}", phase, None, rule.gate, names, names, inputs, tree)
            steps.append(gate)
            before = (gate.id,)
    return Flow(workflow, tuple(steps))


def done_steps(flow: Flow, facts: StepFacts) -> dict[str, StepRecord]:
    """Return the steps that are done, with their results; a step that depends on an unfinished one is not done."""
    done: dict[str, StepRecord] = {}
    for step in flow.steps:
        record = facts.records.get(step.id)
        if record is not None and step.id not in facts.wanted and record.key == step_key(step, facts, done):
            done[step.id] = record
    return done


def step_key(step: FlowStep, facts: StepFacts, done: Mapping[str, StepRecord]) -> str:
    """Return the key of a step's inputs; empty while an earlier step is not done."""
    if any(name not in done for name in step.after):
        return ""
    tree = tree_before(step, facts, done)
    value: dict[str, object] = {
        "spec": facts.spec_key,
        "revision": facts.revision,
        "step": step.id,
        "inputs": {name: _content(name, tree, facts, done) for name in step.inputs},
        "needs": {name: [sorted(done[name].files.items()), done[name].tree] for name in step.needs},
    }
    if step.keeps_tree:
        value |= {"tree": tree, "refused": facts.refused}
    elif step.tree_from:
        value["tree"] = tree
    if step.step is not None:
        value |= {"outputs": sorted(step.step.outputs), "handoff": step.step.handoff, "shows": step.step.shows}
    if step.schemas:
        value["schemas"] = step.schemas
    if step.gate is not None:
        without = {"rounds"} if step.gate.checks else {"rounds", "checks"}
        rule = step.gate.model_dump(mode="json", exclude=without)
        value |= {"gate": rule, "criteria": facts.criteria}
    return digest(json.dumps(value, sort_keys=True).encode())


def tree_before(step: FlowStep, facts: StepFacts, done: Mapping[str, StepRecord]) -> str:
    """Return the tree that a step starts from."""
    return done[step.tree_from].tree if step.tree_from else facts.base_tree


def refused_at(state: IssueState, spec_key: str, revision: int) -> int:
    """Return the number of the last attempt whose result was refused at this spec and revision; 0 for none."""
    return max(
        (
            number
            for number, item in state.attempts.items()
            if item.spec_key == spec_key
            and item.revision == revision
            and not item.step
            and (item.state is AttemptState.FAILED or (item.state is AttemptState.BUILT and number <= state.forgiven))
        ),
        default=0,
    )


def pinned_base(records: Mapping[str, StepRecord], state: IssueState, spec_key: str, revision: int) -> str:
    """Return the commit that the work at this spec started from; empty if it has not, or must start from another one.

    Work that conflicts with later landings starts again from the current tip.
    """
    conflicts = {item.base for item in state.attempts.values() if item.kind == "merge-conflict"}
    own = [item for item in records.values() if item.spec_key == spec_key and item.revision == revision]
    latest = max(own, key=lambda item: item.attempt, default=None)
    return latest.base if latest is not None and latest.base not in conflicts else ""


def _content(name: str, tree: str, facts: StepFacts, done: Mapping[str, StepRecord]) -> str:
    if name.startswith(TREE):
        return facts.content(tree, name.removeprefix(TREE))
    step, _, file = name.partition("/")
    return done[step].files.get(file, "") if step in done else ""


def _needs(step: Step, phase: str, own: object) -> set[str]:
    named = {f"{phase}.{need}" for need in step.needs}
    named |= {file.partition("/")[0] for file in step.inputs if not file.startswith(TREE)}
    return {name for name in named if name in own}  # type: ignore[operator]  # a view of keys


def _with_theirs(needs: tuple[str, ...], made: list[FlowStep]) -> set[str]:
    """Return steps and all that they need within the phase."""
    found = set(needs)
    for item in reversed(made):
        if item.id in found:
            found |= set(item.needs)
    return found


@dataclass(frozen=True, slots=True)
class StepState:
    """The state of a step, or of a phase's gate.

    Attributes:
        word: ``started``, ``done`` or ``failed``; of a gate ``open`` or ``held``.
        attempt: its attempt.
        reason: why it failed or is held.
        missing: the reasons of a gate that sent it back, until it is done again.
        rounds: how often a gate was held, at one spec and since the last retry.
        percent: score of a gate.
        spec_key: key of the spec of `rounds`.
        started_at: ISO-8601 time of its last start.
    """

    word: str = ""
    attempt: int = 0
    reason: str = ""
    missing: tuple[str, ...] = ()
    rounds: int = 0
    percent: int = 0
    spec_key: str = ""
    started_at: str = ""


def forget_rounds(state: IssueState) -> None:
    """Reset the gates after a person's retry."""
    for name, item in state.steps.items():
        state.steps[name] = replace(item, rounds=0)


StepEvent = StepStarted | StepDone | StepFailed | GateOpened | GateHeld


def apply_step(state: IssueState, record: Record, event: StepEvent) -> None:
    """Apply an event of a step or a gate; part of the fold."""
    match event:
        case StepStarted():
            _change(state, event.step, word="started", attempt=event.attempt, reason="", started_at=record.at)
        case StepDone():
            _change(state, event.step, word="done", attempt=event.attempt, reason="", missing=())
        case StepFailed():
            _change(state, event.step, word="failed", attempt=event.attempt, reason=event.reason)
        case GateOpened():
            _change(state, event.step, word="open", percent=event.percent, reason="", rounds=0)
        case GateHeld():
            _hold(state, event)


def _hold(state: IssueState, event: GateHeld) -> None:
    before = state.steps.get(event.step, StepState())
    rounds = before.rounds if before.spec_key == event.spec_key else 0
    changes = {"percent": event.percent, "reason": event.reason, "rounds": rounds + 1, "spec_key": event.spec_key}
    _change(state, event.step, word="held", **changes)
    for name, texts in event.missing.items():
        state.steps[name] = replace(state.steps.get(name, StepState()), missing=tuple(texts))


def _change(state: IssueState, name: str, /, **changes: object) -> None:
    state.steps[name] = replace(state.steps.get(name, StepState()), **changes)  # type: ignore[arg-type]  # named above


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
