"""The compiled plan as doit tasks: `issue:m4/4.1` with file dependencies and a target, `milestone:m4` as their group.

Steps of a workflow are tasks too: `step:m4/4.1/build.plan`. The action of a task runs an issue or a step as far as
possible, or releases a milestone. A request connects the tasks of one `doit run` to the session.

Landed, unchanged issues become tasks only if the request names them. A dodo.py needs one line:
`from executor.tasks import DOIT_CONFIG, task_milestones`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from doit import get_initial_workdir
from doit.action import BaseAction
from doit.exceptions import TaskError, TaskFailed

from executor.errors import (
    ExecutorError,
    ForgeUnavailableError,
    GitKilledError,
    PersonNeededError,
    StateBrokenError,
    StateFullError,
    UnsignedError,
)
from executor.model.fingerprint import IssueRef
from executor.state.decide import Act, Decision, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session
    from executor.release.criteria import Outcome
    from executor.state.steps import FlowStep
    from executor.status.reader import Observer

__all__ = [
    "DOIT_CONFIG",
    "IssueAction",
    "NotReleased",
    "ReleaseAction",
    "Request",
    "StepAction",
    "Task",
    "Waiting",
    "requested_tasks",
    "selected",
    "task_milestones",
]


class Task(TypedDict, total=False):
    """A task in the format of doit's task creators; the keys are doit's."""

    basename: str
    name: str | None
    doc: str
    actions: Sequence[Callable[[], Any]] | None
    file_dep: list[str]
    targets: list[str]
    task_dep: list[str]
    uptodate: list[Callable[[], bool]]


@dataclass(slots=True)
class Request:
    """The request of one command.

    Attributes:
        session: an open session that holds the locks of the milestones.
        wanted: task names: ``milestone:m4``, ``issue:m4/4.1``, ``release:m4``.
        releases: results of the releases so far, by milestone.
    """

    session: Session
    wanted: tuple[str, ...]
    releases: dict[str, Outcome] = field(default_factory=dict)


_UNUSUAL = (
    "name it on the command line, as in `doit milestone:m4`; if you did, [tool.doit.plugins.command] of this project "
    "lacks the executor's run"
)
_BELOW = "plain doit has this command only at the top of the project; from a folder below: make-for-milestones {task}"


class Waiting(TaskFailed):
    """The issue ended without a landing; doit skips the issues that need it and continues with the others."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason, report=False)
        self.decision = decision


class _Action(BaseAction):
    """An action for a milestone. Prints nothing and does not touch the output streams."""

    def __init__(self, request: Request | None, milestone: str, name: str) -> None:
        self.request = request
        self.milestone = milestone
        self.name = name
        """Its name in error messages."""
        self.task: Any = None
        self.out = self.err = None
        self.result: Any = None
        self.values: dict[str, object] = {}

    def execute(self, out: object = None, err: object = None) -> object:
        """Run by doit in one of its threads; None means that no work remains."""
        _ = out, err
        if self.request is None:
            below = os.path.realpath(get_initial_workdir()) != os.path.realpath(os.curdir)
            task = self.name if ":" in self.name else f"issue:{self.name}"
            return TaskError(_BELOW.format(task=task) if below else _UNUSUAL)
        session = self.request.session
        try:
            return self.act(self.request, session.run_of(self.milestone))
        except Exception as error:  # noqa: BLE001  (a thread must answer)
            return _fail(session, self.name, error)

    def act(self, request: Request, run: MilestoneRun) -> TaskFailed | None:
        """Run the action; returns why work remains, if it does."""
        raise NotImplementedError


class _IssueAction(_Action):
    """Runs a part of one issue as far as possible."""

    def __init__(self, request: Request | None, ref: str) -> None:
        super().__init__(request, IssueRef.parse(ref).milestone, ref)
        self.ref = ref
        self.decision: Decision | None = None

    def act(self, request: Request, run: MilestoneRun) -> TaskFailed | None:
        """Run it until it has landed or cannot continue."""
        from executor.engine.issue import IssueRun

        try:
            self.decision = self.bring(IssueRun(run, self.ref))
        except PersonNeededError as error:
            if isinstance(error, UnsignedError):
                request.session.paused.setdefault(run.name, str(error))
            self.decision = Decision(Status.BLOCKED, Act.REST, str(error))
            request.session.hold(self.ref, self.decision)
        return None if self.decision is None or self.is_landed() else Waiting(self.decision)

    def bring(self, issue: IssueRun) -> Decision | None:
        """Run it; returns the issue's final decision in this run, if any."""
        raise NotImplementedError

    def is_landed(self) -> bool:
        """Return whether the issue has landed by this decision."""
        return self.decision is not None and str(self.decision.status) == "landed"


class IssueAction(_IssueAction):
    """Runs one issue as far as possible."""

    def bring(self, issue: IssueRun) -> Decision | None:
        """Run until the issue has landed or cannot continue."""
        from executor.engine.issue import IssueLife

        return IssueLife(issue).bring_to_rest()

    def __str__(self) -> str:
        return f"implement, verify and land {self.ref}"


class StepAction(_IssueAction):
    """Runs one step or gate of an issue's workflow as far as possible."""

    def __init__(self, request: Request | None, ref: str, step: str) -> None:
        super().__init__(request, ref)
        self.step = step

    def bring(self, issue: IssueRun) -> Decision | None:
        """Run until the step is done or the issue cannot continue."""
        from executor.workflow.flow import StepFlow

        return StepFlow(issue).bring_step(self.step)

    def __str__(self) -> str:
        return f"{self.step} of {self.ref}"


class NotReleased(TaskFailed):
    """A criterion of the release is not met; nothing was released."""

    def __init__(self, milestone: str) -> None:
        super().__init__(f"{milestone} is not released", report=False)


class ReleaseAction(_Action):
    """Releases one milestone; the outcome is kept in the request."""

    def __init__(self, request: Request | None, milestone: str) -> None:
        super().__init__(request, milestone, f"release:{milestone}")

    def act(self, request: Request, run: MilestoneRun) -> TaskFailed | None:
        """Run until it is released, or a criterion is not met."""
        from executor.release.release import ReleaseRun

        outcome = ReleaseRun(run).release()
        request.releases[self.milestone] = outcome
        return None if outcome.code == 0 else NotReleased(self.milestone)

    def __str__(self) -> str:
        return f"release {self.milestone}"


def _fail(session: Session, name: str, error: Exception) -> TaskError:
    """Return doit's outcome for an error; a full or broken state store ends the run."""
    from executor.process.files import NO_SPACE

    if isinstance(error, OSError) and error.errno in NO_SPACE:
        error = StateFullError(f"{name}: {error}; nothing is lost; free some space and run again")
    if isinstance(error, StateFullError | StateBrokenError | ForgeUnavailableError):
        session.halt(error)
    if isinstance(error, GitKilledError):
        session.git_killed = True
    if isinstance(error, ExecutorError):
        return TaskError(f"{name}: {error}")
    return TaskError(f"{name}: unexpected {type(error).__name__}: {error}", error)


DOIT_CONFIG = {
    "backend": "json",
    "dep_file": ".cache/doit.json",
    "continue": True,
    "par_type": "thread",
    "verbosity": 0,
}
"""Defaults for doit in a repository with milestones; doit's own database is a cache and may be deleted."""


def task_milestones() -> Iterator[Task]:
    """Tasks of every milestone, for doit's own commands; a run loads `requested_tasks` instead."""
    root = Path.cwd()
    from executor.config.project import compile_project, has_milestones, open_project, prepare_cache

    if not has_milestones(root):
        return
    from executor.git.refs import Refs
    from executor.status.reader import observe

    project = open_project(root)
    prepare_cache(project)  # doit's own commands write their database there
    observer = observe(compile_project(project), Refs(project.repository))
    names = [f"milestone:{name}" for name in observer.compiled.loaded.milestones]
    yield from _tasks(observer, (*names, *(f"issue:{ref}" for ref in observer.compiled.plan.order)))


def requested_tasks(request: Request) -> Iterator[Task]:
    """Yield the requested tasks that have not landed."""
    yield from _tasks(request.session.observer, request.wanted, request)


def selected(observer: Observer, wanted: Iterable[str]) -> list[str]:
    """Return the issues to turn into tasks, in plan order.

    They are the requested issues that have not landed, their needs, and issues that a new landing could invalidate.
    """
    from executor.state.decide import Status

    plan = observer.compiled.plan
    named: set[str] = set()
    for name in wanted:
        kind, _, what = name.partition(":")
        if kind == "issue":
            named |= _closure(observer, what)
        elif kind == "milestone":
            named |= {str(IssueRef(what, issue.id)) for issue in observer.compiled.milestone(what).issues}
    asked = {name.partition(":")[2] for name in wanted if name.startswith("issue:")}
    named -= observer.passed_over
    active = {ref for ref in named if ref in asked or observer.decision(ref).status is not Status.LANDED}
    waiting = list(active)
    while waiting:
        for dependent in plan.dependents.get(waiting.pop(), ()):
            if dependent in named and dependent not in active:
                active.add(dependent)
                waiting.append(dependent)
    return [ref for ref in plan.order if ref in active]


def _closure(observer: Observer, ref: str) -> set[str]:
    """Return an issue and everything it needs within its milestone."""
    found, waiting = {ref}, [ref]
    while waiting:
        current_ref = waiting.pop()
        node = observer.compiled.plan.nodes[current_ref]
        for need in node.needs:
            if observer.compiled.plan.nodes[need].milestone == node.milestone and need not in found:
                found.add(need)
                waiting.append(need)
    return found


def _tasks(observer: Observer, wanted: Iterable[str], request: Request | None = None) -> Iterator[Task]:
    refs = selected(observer, wanted)
    chosen = set(refs)
    if refs:
        yield {"basename": "issue", "name": None, "doc": "one issue of a milestone and the issues it needs"}
    names = [name.partition(":")[2] for name in wanted if name.startswith("milestone:")]
    by_steps = {ref: steps for ref in refs if (steps := _steps_of(observer, ref))}
    if by_steps:
        yield {"basename": "step", "name": None, "doc": "one step of an issue's workflow"}
    for ref in refs:
        task = _issue_task(observer, ref, chosen, request)
        before = _milestones_before(observer, ref, names)
        steps = by_steps.get(ref, [])
        yield {**task, "task_dep": [*before, *(f"step:{ref}/{step.id}" for step in steps)]}
        for step in steps:
            yield {**_step_task(observer, ref, step, task["file_dep"], request), "task_dep": before}
    if names:
        yield {"basename": "milestone", "name": None, "doc": "every issue of a milestone"}
    for name in names:
        title = observer.compiled.milestone(name).title
        own = [f"issue:{ref}" for ref in refs if IssueRef.parse(ref).milestone == name and ref in chosen]
        yield {"basename": "milestone", "name": name, "doc": title, "actions": None, "task_dep": own}
    releases = [name.partition(":")[2] for name in wanted if name.startswith("release:")]
    if releases:
        yield {"basename": "release", "name": None, "doc": "merge a milestone into its base"}
    for name in releases:
        yield {
            "basename": "release",
            "name": name,
            "doc": f"release {observer.compiled.milestone(name).title}",
            "actions": [ReleaseAction(request, name)],
            "task_dep": [f"milestone:{name}"] if name in names else [],
        }


def _milestones_before(observer: Observer, ref: str, names: list[str]) -> list[str]:
    """Return tasks of milestones of this run that must be complete first."""
    milestone = observer.compiled.milestone(observer.compiled.plan.nodes[ref].milestone)
    return [f"milestone:{need}" for need in milestone.needs if need in names]


def _issue_task(observer: Observer, ref: str, chosen: set[str], request: Request | None) -> Task:
    from executor.state.decide import Status

    plan = observer.compiled.plan
    project = observer.compiled.project
    node = plan.nodes[ref]
    spec = project.milestones / (node.issue.spec or f"{node.milestone}.toml")
    made = [need for need in node.needs if need in chosen or observer.decision(need).status is Status.LANDED]
    receipts = [project.receipt(plan.nodes[need].milestone, plan.nodes[need].issue.id) for need in made]
    return {
        "basename": "issue",
        "name": ref,
        "doc": node.issue.title,
        "actions": [IssueAction(request, ref)],
        "file_dep": [str(path.relative_to(project.root)) for path in (spec, *receipts)],
        "targets": [str(project.receipt(node.milestone, node.issue.id).relative_to(project.root))],
        "uptodate": [_Landed(observer, ref)],
    }


def _steps_of(observer: Observer, ref: str) -> list[FlowStep]:
    """Return the steps that an issue may run now; none for one that cannot continue or has a result."""
    issue = observer.compiled.plan.nodes[ref].issue
    if not observer.compiled.policy.workflow_of(issue).phases:
        return []
    from executor.state.decide import Act, Status
    from executor.workflow.step_run import flow_of

    decision = observer.decision(ref)
    waits = decision.act is Act.IMPLEMENT or decision.status is Status.BLOCKED
    return list(flow_of(observer, ref).steps) if waits else []


def _step_task(observer: Observer, ref: str, step: FlowStep, before: list[str], request: Request | None) -> Task:
    """Return a step as a task: dependencies are files of other steps or of the issue's needs; targets are its files."""
    from executor.model.workflow import TREE
    from executor.workflow.step_run import RECEIPT

    project = observer.compiled.project
    milestone, issue = IssueRef.parse(ref)

    def path(name: str, file: str) -> str:
        return str((project.step(milestone, issue, name) / file).relative_to(project.root))

    given = [path(*name.split("/", 1)) for name in step.inputs if not name.startswith(TREE)]
    outputs = [] if step.step is None else [name for name in step.step.outputs if not name.startswith(TREE)]
    return {
        "basename": "step",
        "name": f"{ref}/{step.id}",
        "doc": step.id if step.step is None else step.step.does,
        "actions": [StepAction(request, ref, step.id)],
        "file_dep": [*(given or before), *(path(name, RECEIPT) for name in step.after)],
        "targets": [path(step.id, file) for file in (*outputs, RECEIPT)],
        "uptodate": [_StepDone(request, ref, step.id)],
    }


@dataclass(frozen=True, slots=True)
class _Landed:
    """Whether an issue has landed; as text its decision, for `doit info`."""

    observer: Observer
    ref: str

    def __call__(self) -> bool:
        from executor.state.decide import Status

        return self.observer.decision(self.ref).status is Status.LANDED

    def __str__(self) -> str:
        decision = self.observer.decision(self.ref)
        return f"the issue is {decision.status}: {decision.reason}; `doit explain {self.ref}` says more"


@dataclass(frozen=True, slots=True)
class _StepDone:
    """Whether the result of a step is stored for its current inputs."""

    request: Request | None
    ref: str
    step: str

    def __call__(self) -> bool:
        from executor.engine.issue import IssueRun

        if self.request is None:
            return False
        from executor.workflow.step_run import Steps

        return (
            self.step
            in Steps(IssueRun(self.request.session.run_of(IssueRef.parse(self.ref).milestone), self.ref)).done_of()
        )

    def __str__(self) -> str:
        return f"there is no result for the current inputs; `doit log {self.ref}` shows the attempts"
