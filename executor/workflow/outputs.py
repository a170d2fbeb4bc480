"""Scores the declared criteria of a gate in files. Exact: 74 % is less than 75 %. Pure.

Examines a step's outputs: files, handoff, failing tests. Code decides, not the agent's claims.

Handoffs outlive an issue's steps; the refs of the steps are removed after the landing.

The roadmap of a milestone as issues: tasks, dependencies and batches from the planning steps. Pure.

Batches keep their order: a task needs its dependencies and, if a gate lies between, every task of the previous batch.
The command of a gate is part of the acceptance of the tasks before it.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from executor.checks.spec import CommandProof
from executor.config.schema import file_faults
from executor.engine.agent_work import Failure
from executor.errors import ExecutorError
from executor.git.diff import parse_diff
from executor.git.refs import HANDOFFS, STEPS, Move
from executor.git.trailers import encode
from executor.model.milestone import Claim, FileCheck, RunCheck
from executor.model.paths import is_test_file
from executor.model.workflow import TREE
from executor.process.files import HANDOFF, left_file
from executor.state.marks import HandoffTrailers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.engine.agent_work import Work
    from executor.engine.issue import IssueRun
    from executor.model.milestone import Issue
    from executor.model.workflow import Criterion, Gate, Step
    from executor.state.steps import Flow, FlowStep, StepRecord

__all__ = [
    "FILES",
    "PLAN",
    "KeptOutputs",
    "RoadmapError",
    "Score",
    "criteria_texts",
    "has_section",
    "issues_of",
    "left_by",
    "score",
]


_MOST_CHARACTERS = 2_000_000  # characters of an output; bounds the brief of the next step
_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")


@dataclass(frozen=True, slots=True)
class Score:
    """The score of a gate.

    Attributes:
        share: fraction of the criteria that is met, by weight, 0 to 1.
        missing: missing parts by the step that must supply them; empty name: any.
        coverage: what its checks reported, in per cent; None if they did not, or were not asked.
    """

    share: Fraction
    missing: Mapping[str, tuple[str, ...]]
    coverage: float | None = None

    @property
    def percent(self) -> int:
        """Return the score in whole per cent, rounded down."""
        return int(self.share * 100)

    def opens(self, gate: Gate) -> bool:
        """Whether the score reaches the threshold."""
        return self.share * 100 >= gate.threshold

    def sentence(self) -> str:
        """Return the missing parts as one sentence; empty without any."""
        texts = [text for own in self.missing.values() for text in own]
        more = len(texts) - 3
        return "; ".join(texts[:3]) + (f"; and {more} more" if more > 0 else "")


def score(gate: Gate, files: Mapping[str, bytes], criteria: Sequence[str]) -> Score:
    """Score all criteria of a gate.

    Args:
        gate: its declaration.
        files: content of its files, without missing ones.
        criteria: the issue's acceptance criteria, for `covers`.
    """
    whole = earned = Fraction(0)
    missing: dict[str, list[str]] = {}
    for criterion in gate.criteria.values():
        parts = _parts(criterion, files.get(criterion.file), criteria)
        whole += criterion.weight
        earned += Fraction(sum(not problem for problem in parts), len(parts)) * criterion.weight
        step = "" if criterion.file.startswith(TREE) else criterion.file.partition("/")[0]
        own = list(dict.fromkeys(problem for problem in parts if problem))
        if own:
            missing.setdefault(step, []).extend(own)
    share = earned / whole if whole else Fraction(1)
    return Score(share, {step: tuple(dict.fromkeys(texts)) for step, texts in missing.items()})


def criteria_texts(issue: Issue) -> tuple[str, ...]:
    """Return the issue's acceptance criteria in the wording by which they are recognised."""
    texts = []
    for item in issue.accept:
        match item:
            case Claim():
                texts.append(item.text)
            case RunCheck():
                texts.append(item.run)
            case FileCheck():
                texts.append(item.file)
    return tuple(texts)


def has_section(text: str, heading: str) -> bool:
    """Return whether a Markdown text has this heading, at any level and in any case, with text below it.

    The heading may have further words; text in a fenced block is no heading.
    """
    wanted = _plain(heading)
    depth, fence, inside = 0, "", False
    for line in text.splitlines():
        fenced = _FENCE.match(line)
        if fence:
            fence = "" if fenced and fenced[1].startswith(fence) else fence
        elif fenced:
            fence = fenced[1]
        elif found := _HEADING.match(line):
            level = len(found[1])
            if inside and level <= depth:
                inside = False
            if not inside and _begins(_plain(found[2]), wanted):
                inside, depth = True, level
            continue
        if inside and line.strip():
            return True
    return False


def _begins(title: str, wanted: str) -> bool:
    return title == wanted or title.startswith((f"{wanted} ", f"{wanted}:"))


def _parts(criterion: Criterion, data: bytes | None, criteria: Sequence[str]) -> list[str | None]:
    """Return one entry for each part of a criterion: None if the part is met, else the reason.

    A fault of the whole file (missing, not JSON) is repeated for every part that it affects.
    """
    name = criterion.file
    text = (data or b"").decode("utf-8", "replace")[:_MOST_CHARACTERS]
    if not text.strip():
        fault = f"{name} is {'missing' if data is None else 'empty'}"
        count = len(criterion.keys) + len(criterion.sections) + bool(criterion.contains)
        count += len(criteria) if criterion.covers else 0
        return [fault] * max(1, count)
    parts = _key_parts(name, text, criterion.keys) if criterion.keys else []
    parts += [
        None if has_section(text, section) else f'{name} lacks the section "{section}" with text below it'
        for section in criterion.sections
    ]
    if criterion.contains:
        parts.append(None if re.search(criterion.contains, text) else f"{name} does not match {criterion.contains}")
    if criterion.covers:
        plain = _plain(text) + " " + _plain(json.dumps(_json(text), ensure_ascii=False))
        parts += [None if _plain(item) in plain else f'{name} lacks the criterion "{item}"' for item in criteria]
    return parts or [None]


def _key_parts(name: str, text: str, keys: Sequence[str]) -> list[str | None]:
    """Return one entry for each required key of a JSON file."""
    try:
        value = json.loads(text)
    except RecursionError:
        return [f"{name} is nested too deeply"] * len(keys)
    except ValueError as error:
        return [f"{name} is not JSON: {error}"] * len(keys)
    if not isinstance(value, dict):
        return [f"{name}: expected an object with the keys {', '.join(keys)}, found {_kind(value)}"] * len(keys)
    return [_key_fault(name, value, key) for key in keys]


def _key_fault(name: str, value: Any, key: str) -> str | None:
    """Return why a key does not count; None if it does. An empty list or object is a value; "" and null are none."""
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return f"{name} lacks the key {key}"
        value = value[part]
    if value is None or (isinstance(value, str) and not value.strip()):
        return f"{name} has no value for the key {key}: it is {'null' if value is None else 'an empty text'}"
    return None


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _plain(text: str) -> str:
    return " ".join(text.replace("\\", "").replace("`", "").replace("*", "").split()).casefold()


OUTPUTS = "outputs"
"""Class of failure of a step with missing outputs."""
_REPORT = "report.json"


def left_by(work: Work, flow_step: FlowStep, tree: str) -> dict[str, bytes] | Failure:
    """Return the files of a step, or a failure if a required output or proof is missing.

    Args:
        work: the step's run.
        flow_step: its declaration.
        tree: its tree.
    """
    step = flow_step.step
    assert step is not None  # noqa: S101  (a gate leaves nothing)
    files: dict[str, bytes] = {}
    problems = _outputs(work, step, tree, files)
    problem = _handoff(work, step, files)
    problems += [problem] if problem else []
    if problems:
        return Failure(OUTPUTS, "; ".join(problems))
    report = left_file(work.out, _REPORT, work.run.session.secrets)
    if isinstance(report, bytes):
        files.setdefault(_REPORT, report)
    unproved = _unproved(work, step, tree)
    return Failure(OUTPUTS, unproved, tree=tree) if unproved else files


def _outputs(work: Work, step: Step, tree: str, files: dict[str, bytes]) -> list[str]:
    """Read the declared outputs; returns all their problems."""
    workflow = work.run.session.policy.workflow_of(work.run.issue(work.ref))
    schemas = workflow.schemas_of(step)
    problems: list[str] = []
    for name in step.outputs:
        if name.startswith(TREE):
            path = name.removeprefix(TREE)
            there = work.run.session.store.has_path(tree, path)
            problems += [] if there else [f"{path} is not in the tree"]
            continue
        data = left_file(work.out, name, work.run.session.secrets)
        faults = [f"{name} {data}"] if isinstance(data, str) else file_faults(name, data, schemas.get(name))
        problems += [f"its output {fault}" for fault in faults]
        if isinstance(data, bytes):
            files[name] = data
    return problems


def _handoff(work: Work, step: Step, files: dict[str, bytes]) -> str | None:
    """Read the handoff, if any; returns the problem of a required one."""
    data = left_file(work.out, HANDOFF, work.run.session.secrets)
    if isinstance(data, bytes) and data.strip():
        files[HANDOFF] = data
    if step.handoff is None:
        return None
    if isinstance(data, str):
        return f"{HANDOFF} {data}; the step needs a handoff to be complete"
    heading = step.handoff.replace("{issue}", work.run.issue(work.ref).id)
    if not has_section(data.decode("utf-8", "replace"), heading):
        return f'{HANDOFF} has no section "{heading}" with text; the step needs it to be complete'
    return None


def _unproved(work: Work, step: Step, tree: str) -> str | None:
    """Return why a step that must show failing tests has not; None if it has, or need not."""
    if step.shows is None:
        return None
    run = work.run
    change = parse_diff(run.session.store.diff(work.base_tree, tree)) if tree != work.base_tree else None
    if change is None or not any(is_test_file(file.path) for file in change.files):
        return "it wrote no test; tests come before the code"
    proofs = [item for item in run.session.observer.proofs(work.ref).items if isinstance(item, CommandProof)]
    tests = [item for item in proofs if item.is_test_run] or [item for item in proofs if not item.named]
    paths = [file.path for file in change.files]
    for item in tests:
        concerned = item.concerned(paths)
        if item.changed_only and not concerned:
            continue
        given = concerned if item.changed_only else ()
        if not run.checks.verdict_on(tree, item, files=given, log=work.logs / f"{item.slug}.log").ok:
            return None
    return "its tests pass before the code is written; they have to fail first" if tests else None


class KeptOutputs:
    """The stored outputs of one issue's steps."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def keep_handoff(self, flow: Flow, done: Mapping[str, StepRecord]) -> None:
        """Store the last handoff of an issue's steps for the briefs of later issues."""
        latest = next((done[step.id] for step in reversed(flow.steps) if HANDOFF in done[step.id].files), None)
        if latest is None:
            return
        store = self._session.store
        issue = self._issue.id
        data = store.blob(latest.commit, f"out/{HANDOFF}") or b""
        trailers = HandoffTrailers(self._run.name, issue, latest.spec_key)
        text = f"handoff of {self._issue.ref}\n\n{encode(trailers)}\n"
        tree = store.files_tree({HANDOFF: data})
        before = self._run.view.handoffs.get(issue)
        if before is not None and store.tree_of(before) == tree:
            return
        parents = [before] if before is not None else []
        commit = store.commit(tree, parents, text, self._session.identity, int(time.time()))
        self._session.refs.move(
            [Move(f"{HANDOFFS}/{self._issue.ref}", before, commit)], f"handoff of {self._issue.ref}"
        )
        self._run.view.handoffs[issue] = commit

    def forget_steps(self) -> None:
        """Remove the refs of a landed issue's steps: their results are in its commit."""
        records = self._run.view.steps.pop(self._issue.id, {})
        moves = [Move(f"{STEPS}/{self._issue.ref}/{name}", record.commit, None) for name, record in records.items()]
        if moves:
            self._session.refs.move(moves, f"steps of {self._issue.ref} landed")


PLAN = "plan"
"""Id of the planning issue of a milestone."""
FILES = ("task.breakdown/tasks.json", "task.dependencies/dependencies.json", "task.roadmap/roadmap.json")
_SMALL, _MEDIUM = 2.0, 8.0
"""Maximum hours of a small task, and of a medium one."""


class RoadmapError(ExecutorError):
    """The results of the planning steps are inconsistent."""


def issues_of(tasks_json: bytes, dependencies_json: bytes, roadmap_json: bytes) -> dict[str, Mapping[str, Any]]:
    """Return id -> keys of the declared issue, batch by batch.

    Raises:
        RoadmapError: with every fault.
    """
    tasks = {str(task["id"]): task for task in json.loads(tasks_json)["tasks"]}
    dependencies: dict[str, list[str]] = json.loads(dependencies_json)["dependencies"]
    roadmap = json.loads(roadmap_json)
    batches: list[list[str]] = roadmap["batches"]
    gates = {int(gate["after_batch"]): str(gate.get("run", "")) for gate in roadmap.get("gates", ())}
    faults = _faults(tasks, dependencies, batches)
    if faults:
        raise RoadmapError("the roadmap is inconsistent: " + "; ".join(faults))
    found: dict[str, Mapping[str, Any]] = {}
    for number, batch in enumerate(batches, 1):
        before = batches[number - 2] if number > 1 and number - 1 in gates else []
        for name in batch:
            needs = [*dependencies.get(name, ()), *before]
            found[name] = _issue(tasks[name], list(dict.fromkeys(needs)), gates.get(number, ""))
    return found


def _issue(task: Mapping[str, Any], needs: list[str], gate: str) -> Mapping[str, Any]:
    hours = float(task["estimate_hours"])
    accept = [*task.get("accept", ()), *([{"run": gate}] if gate else [])]
    values = {
        "title": str(task["title"]),
        "type": str(task.get("type", "feature")),
        "size": "S" if hours <= _SMALL else "M" if hours <= _MEDIUM else "L",
        "body": str(task["spec"]),
        "needs": needs,
        "files": list(task.get("files", ())),
        "accept": accept,
    }
    return {key: value for key, value in values.items() if value not in ([], "")}


def _faults(tasks: Mapping[str, Any], dependencies: Mapping[str, Sequence[str]], batches: list[list[str]]) -> list[str]:
    placed = [name for batch in batches for name in batch]
    place = {name: number for number, batch in enumerate(batches) for name in batch}
    faults = [f'"{name}" is in no batch' for name in tasks if name not in placed]
    faults += [f'"{name}" is in two batches' for name in dict.fromkeys(placed) if placed.count(name) > 1]
    faults += [f'batches name "{name}", which is not a task' for name in placed if name not in tasks]
    faults += [f'"{PLAN}" is the id of the planning issue' for name in tasks if name == PLAN]
    for name, needs in dependencies.items():
        for need in needs:
            if name not in tasks or need not in tasks:
                faults.append(f'dependencies name "{need if name in tasks else name}", which is not a task')
            elif place.get(need, -1) >= place.get(name, 0):
                faults.append(f'"{name}" needs "{need}", which is not in an earlier batch')
    return faults
