"""A workflow as data: weighted phases, their steps, and the gate that closes a phase. Pure.

A workflow without phases is the direct one: an agent works once, then the checks judge. Names of steps are
``phase.step``; a file of a step is ``phase.step/name``, a file of the issue's tree ``tree:path``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError

from executor.errors import Fault
from executor.model.agent_profile import regex
from executor.model.hints import Known, found, quoted
from executor.model.milestone import model_faults

__all__ = [
    "DIRECT",
    "GATE",
    "TREE",
    "Criterion",
    "Gate",
    "Phase",
    "Schema",
    "Step",
    "Workflow",
    "progress",
    "read_workflow",
]

DIRECT = "direct"
GATE = "gate"
"""Name of a phase's gate among the names of its steps."""
TREE = "tree:"
"""Prefix of the name of a file in the issue's tree."""
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
M = TypeVar("M", bound=BaseModel)
Schema = dict[str, Any]
"""A JSON Schema."""


def _file(value: str) -> str:
    path = value.removeprefix(TREE)
    if not path or path.startswith("/") or {"", ".", ".."} & set(path.split("/")) or not path.isprintable():
        raise ValueError(f"expected a relative path without .., found {quoted(value)}")
    return value


File = Annotated[str, AfterValidator(_file)]
_Percent = Annotated[StrictInt, Field(ge=0, le=100)]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Criterion(_Rule):
    """A gate's criterion on one file; a missing or empty file does not meet it.

    Attributes:
        file: the file, ``phase.step/name`` or ``tree:path``.
        keys: required keys of its JSON, with a value; ``a.b`` is a key inside an object.
        sections: required Markdown headings, with text below them.
        contains: regular expression that must match in it.
        covers: ``acceptance``: it must name every acceptance criterion of the issue.
        weight: its weight; a partly met criterion counts in part.
    """

    file: File
    keys: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    contains: Annotated[str, AfterValidator(regex)] | None = None
    covers: Literal["acceptance"] | None = None
    weight: Annotated[StrictInt, Field(ge=1, le=1000)] = 1


class Gate(_Rule):
    """The gate that closes a phase.

    Attributes:
        threshold: per cent of the criteria, by weight, at which it opens.
        rounds: how often the steps are repeated with the missing parts before a person is asked.
        reviewer: a profile of agents.toml that also scores; the lower score counts.
        checks: the checks and acceptance commands of the issue must pass on the phase's tree.
        coverage: per cent of the lines that those checks must report as executed; None: no minimum.
        criteria: name -> criterion; the TOML tables ``criterion``.
    """

    threshold: _Percent = 100
    rounds: Annotated[StrictInt, Field(ge=0, le=20)] = 2
    reviewer: str | None = None
    checks: StrictBool = False
    coverage: _Percent | None = None
    criteria: dict[str, Criterion] = Field(default_factory=dict, alias="criterion")


class Step(_Rule):
    """One run of an agent with a fresh context.

    Attributes:
        does: its task, quoted in its brief.
        inputs: files that it receives; a file of another step makes it wait for that step.
        outputs: required files, in its output folder or (``tree:``) in the tree.
        schemas: output -> name of its JSON Schema in ``rules/schemas/``.
        needs: further steps of its phase that it waits for.
        agent: profile that replaces the issue's.
        options: options of that agent (`with`); by default those of the issue.
        types: task types that it applies to; empty: all.
        tree: keep its changes to the tree; such steps run one after another.
        handoff: required heading of its handoff.md, with ``{issue}`` for the issue's id; empty: no handoff is required.
        shows: ``failing-tests``: it must leave tests that fail before the code is written.
    """

    does: str
    inputs: tuple[File, ...] = ()
    outputs: tuple[File, ...] = ()
    schemas: dict[str, str] = Field(default_factory=dict)
    needs: tuple[str, ...] = ()
    agent: str | None = None
    options: dict[str, object] = Field(default_factory=dict, alias="with")
    types: tuple[str, ...] = ()
    tree: StrictBool = False
    handoff: str | None = None
    shows: Literal["failing-tests"] | None = None


class Phase(_Rule):
    """Steps that end with a gate; `weight` is the phase's share of an issue's progress."""

    weight: Annotated[StrictInt, Field(ge=0, le=1000)] = 1
    steps: dict[str, Step] = Field(default_factory=dict)
    gate: Gate | None = None


class Workflow(_Rule):
    """A workflow.

    Attributes:
        name: its name in issues and routes.
        types: its task types; compared with an issue's type in any case.
        default_type: task type of an issue with another type.
        phases: its phases, in order.
        schemas: the JSON Schemas that steps can name.
        keeps: folder of the tree, with ``{milestone}`` and ``{issue}``, for the files of the steps if no step keeps its
            tree; empty: such a workflow has no result.
    """

    name: str
    types: tuple[str, ...] = ()
    default_type: str = ""
    keeps: str = ""
    phases: dict[str, Phase] = Field(default_factory=dict)
    schemas: dict[str, Schema] = Field(default_factory=dict, exclude=True, repr=False)

    def schemas_of(self, step: Step) -> dict[str, Schema]:
        """Return the JSON Schemas of a step's outputs, by output."""
        return {output: self.schemas[name] for output, name in step.schemas.items()}

    def task_type(self, issue_type: str) -> str:
        """Return the task type of an issue type."""
        known = {name.lower(): name for name in self.types}
        return known.get(issue_type.lower(), self.default_type)

    def agent_of(self, step: str) -> str | None:
        """Return the profile that a step (``phase.step``) names; None if it uses the issue's."""
        phase, _, name = step.partition(".")
        rule = self.phases[phase].steps.get(name) if phase in self.phases else None
        return rule.agent if rule is not None else None

    def agents(self) -> Iterator[tuple[str, str]]:
        """Yield every agent that it names, after the position."""
        for name, phase in self.phases.items():
            for step, rule in phase.steps.items():
                if rule.agent is not None:
                    yield f"phase.{name}.step.{step}.agent", rule.agent
            if phase.gate is not None and phase.gate.reviewer is not None:
                yield f"phase.{name}.gate.reviewer", phase.gate.reviewer


def progress(workflow: Workflow, done: Mapping[str, bool]) -> int:
    """Return the progress of an issue in whole per cent, rounded down.

    Args:
        workflow: its workflow.
        done: ``phase.step`` -> whether it is done, for the issue's steps; a phase without steps does not count, and the
            last step of a phase counts only once its gate (``phase.gate``) is open.
    """
    whole = earned = 0
    for name, phase in workflow.phases.items():
        own = [state for step, state in done.items() if step.partition(".")[0] == name]
        if own:
            whole += phase.weight * 1000
            earned += phase.weight * 1000 * sum(own) // len(own)
    return 100 * earned // whole if whole else 0


def read_workflow(
    name: str, document: Mapping[str, Any], file: str, schemas: Mapping[str, Schema] | None = None
) -> tuple[Workflow | None, list[Fault]]:
    """Read a workflow from its parsed and merged TOML, or return all its faults.

    Args:
        name: name of the workflow.
        document: its tables.
        file: their file, for messages.
        schemas: the JSON Schemas that its steps can name.
    """
    faults: list[Fault] = []
    given = dict(document)
    tables = given.pop("phase", {})
    phases: dict[str, Phase] = {}
    for place, table in _tables(tables, "phase", file, faults):
        phase = _phase(table, f"phase.{place}", file, faults)
        if phase is not None:
            phases[place] = phase
    known = [field for field in Workflow.model_fields if field not in {"name", "phases", "schemas"}]
    for key in [key for key in given if key not in known]:
        faults.append(Fault(file, "", f"unknown key {quoted(key)}{Known([*known, 'phase']).advice(key, 'keys')}"))
        del given[key]
    workflow = _model(Workflow, {**given, "name": name}, "", file, faults)
    if faults or workflow is None:
        return None, faults
    workflow = workflow.model_copy(update={"phases": phases, "schemas": dict(schemas or {})})
    faults += (Fault(file, place, problem) for place, problem in _problems(workflow))
    return (None if faults else workflow), faults


def _phase(table: Mapping[str, Any], place: str, file: str, faults: list[Fault]) -> Phase | None:
    given = dict(table)
    steps: dict[str, Step] = {}
    for name, rule in _tables(given.pop("step", {}), f"{place}.step", file, faults):
        step = _model(Step, rule, f"{place}.step.{name}", file, faults)
        if step is not None:
            steps[name] = step
    gate = given.pop("gate", None)
    closed: Gate | None = None
    if gate is not None:
        if isinstance(gate, Mapping):
            closed = _gate(gate, f"{place}.gate", file, faults)
        else:
            faults.append(Fault(file, f"{place}.gate", f"expected a table, found {found(gate)}"))
    for key in [key for key in given if key != "weight"]:
        hint = Known(["weight", "step", "gate"]).advice(key, "keys")
        faults.append(Fault(file, place, f"unknown key {quoted(key)}{hint}"))
        del given[key]
    phase = _model(Phase, given, place, file, faults)
    return None if phase is None else phase.model_copy(update={"steps": steps, "gate": closed})


def _gate(table: Mapping[str, Any], place: str, file: str, faults: list[Fault]) -> Gate | None:
    given = dict(table)
    criteria: dict[str, Criterion] = {}
    for name, rule in _tables(given.pop("criterion", {}), f"{place}.criterion", file, faults, free=True):
        criterion = _model(Criterion, rule, f"{place}.criterion.{name}", file, faults)
        if criterion is not None:
            criteria[name] = criterion
    gate = _model(Gate, given, place, file, faults)
    return None if gate is None else gate.model_copy(update={"criteria": criteria})


def _tables(
    value: object, place: str, file: str, faults: list[Fault], *, free: bool = False
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the tables below a position, by name; names that cannot be part of a task's name are faults."""
    if not isinstance(value, Mapping):
        faults.append(Fault(file, place, f"expected tables [{place}.NAME], found {found(value)}"))
        return
    for name, table in value.items():
        if not free and (not _NAME.fullmatch(name) or name == GATE):
            what = "is the name of a phase's gate" if name == GATE else "is no name"
            problem = f"{quoted(name)} {what}; expected small letters, digits, dashes and underscores, at most 32"
            faults.append(Fault(file, place, problem))
        elif not isinstance(table, Mapping):
            faults.append(Fault(file, f"{place}.{name}", f"expected a table, found {found(table)}"))
        else:
            yield name, table


def _model(model: type[M], given: Mapping[str, Any], place: str, file: str, faults: list[Fault]) -> M | None:
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        faults += model_faults(error, model, file, place.split(".") if place else [])
        return None


def _problems(workflow: Workflow) -> Iterator[tuple[str, str]]:
    """Yield contradictions, each with its position."""
    if workflow.phases and not any(phase.weight for phase in workflow.phases.values()):
        yield "phase", "expected at least one phase with a weight above 0"
    if workflow.types and workflow.default_type not in workflow.types:
        yield "default_type", f"expected one of the types, found {quoted(workflow.default_type)}"
    types = Known(name.lower() for name in workflow.types)
    made = {
        f"{phase}.{name}/{output}"
        for phase, rule in workflow.phases.items()
        for name, step in rule.steps.items()
        for output in step.outputs
        if not output.startswith(TREE)
    }
    before: list[str] = []
    for phase, rule in workflow.phases.items():
        if not rule.steps:
            yield f"phase.{phase}", "expected at least one step"
        for name, step in rule.steps.items():
            place = f"phase.{phase}.step.{name}"
            for kind in step.types:
                if kind.lower() not in types.names:
                    yield f"{place}.types", f"unknown type {quoted(kind)}{types.advice(kind.lower(), 'types')}"
            yield from _needs_problems(step, place, phase, rule.steps, made, before)
            yield from _schema_problems(step, place, workflow.schemas)
        yield from _cycle(rule.steps, phase)
        yield from _gate_problems(rule.gate, phase, made, before)
        before.append(phase)


def _needs_problems(
    step: Step, place: str, phase: str, steps: Mapping[str, Step], made: set[str], before: Sequence[str]
) -> Iterator[tuple[str, str]]:
    siblings, files = Known(steps), Known(sorted(made))
    for need in step.needs:
        if need not in steps:
            yield f"{place}.needs", f"unknown step {quoted(need)} of its phase{siblings.advice(need, 'steps')}"
    for name in step.inputs:
        if name.startswith(TREE):
            continue
        if name not in made:
            yield f"{place}.inputs", f"no step writes {quoted(name)}{files.advice(name, 'files')}"
        elif name.partition(".")[0] not in {phase, *before}:
            yield f"{place}.inputs", f"{quoted(name)} is written in a later phase"


def _schema_problems(step: Step, place: str, schemas: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    outputs, known = Known(step.outputs), Known(schemas)
    for output, name in step.schemas.items():
        if output not in step.outputs:
            yield (
                f"{place}.schemas",
                f"{quoted(output)} is not an output of the step{outputs.advice(output, 'outputs')}",
            )
        if name not in schemas:
            problem = f"no file rules/schemas/{name}.json"
            yield f"{place}.schemas.{output}", f"{problem}{known.advice(name, 'schemas')}"


def _gate_problems(gate: Gate | None, phase: str, made: set[str], before: Sequence[str]) -> Iterator[tuple[str, str]]:
    if gate is None:
        return
    files = Known(sorted(made))
    if not gate.criteria and gate.reviewer is None and not gate.checks:
        yield f"phase.{phase}.gate", "expected at least one criterion, a reviewer, or checks = true"
    if gate.coverage is not None and not gate.checks:
        yield f"phase.{phase}.gate.coverage", "needs checks = true: coverage is what the checks report"
    for name, criterion in gate.criteria.items():
        file = criterion.file
        place = f"phase.{phase}.gate.criterion.{name}.file"
        if not file.startswith(TREE) and file not in made:
            yield place, f"no step writes {quoted(file)}{files.advice(file, 'files')}"
        elif not file.startswith(TREE) and file.partition(".")[0] not in {phase, *before}:
            yield place, f"{quoted(file)} is written in a later phase"


def _cycle(steps: Mapping[str, Step], phase: str) -> Iterator[tuple[str, str]]:
    """Yield steps of a phase that wait for each other."""
    waiting = {
        name: {need for need in step.needs if need in steps}
        | {own for file in step.inputs if (own := file.partition("/")[0].removeprefix(f"{phase}.")) in steps}
        for name, step in steps.items()
    }
    while ready := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
        for name in ready:
            del waiting[name]
    if waiting:
        yield f"phase.{phase}.step", f"steps need each other: {', '.join(sorted(waiting))}"
