"""The compiled plan as doit tasks: `issue:m4/4.1` with file dependencies and a target, `milestone:m4` as their group.

Landed, unchanged issues do not become tasks unless they are asked for by name. A dodo.py needs one line:
`from executor.tasks import DOIT_CONFIG, task_milestones`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.action import BaseAction
from doit.exceptions import TaskError, TaskFailed

from executor.errors import ExecutorError, ForgeUnavailableError, GitKilledError, StateBrokenError, StateFullError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from executor.core.decide import Decision
    from executor.core.steps import FlowStep
    from executor.milestone_run import MilestoneRun
    from executor.observe import Observer
    from executor.session import Session

__all__ = [
    "DOIT_CONFIG",
    "IssueAction",
    "NotReleased",
    "StepAction",
    "Waiting",
    "current",
    "selected",
    "task_milestones",
]

DOIT_CONFIG = {
    "backend": "json",
    "dep_file": ".cache/doit.json",
    "continue": True,
    "par_type": "thread",
    "verbosity": 0,
}
"""Defaults for doit in a repository with milestones; doit's own database is a cache and may be deleted."""


_UNUSUAL = "run it with `doit run`: [tool.doit.plugins.command] of this project lacks the executor's run"


class _Current:
    """The session of this process, set by `doit run` before tasks are loaded."""

    session: Session | None = None
    wanted: tuple[str, ...] = ()


current = _Current()


class Waiting(TaskFailed):
    """The issue is at rest without having landed; those that need it are passed over, others go on."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason, report=False)
        self.decision = decision


class _Action(BaseAction):
    """Takes something of one issue as far as it goes. Prints nothing and leaves the process's output streams alone."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.task: Any = None
        self.out = self.err = None
        self.result: Any = None
        self.values: dict[str, Any] = {}
        self.decision: Decision | None = None

    def execute(self, out: object = None, err: object = None) -> object:
        """Run by doit in one of its threads; None means that there is nothing left to do."""
        _ = out, err
        session = current.session
        if session is None:
            return TaskError(_UNUSUAL)
        try:
            self.decision = self.act(session.run_of(self.ref.partition("/")[0]))
        except Exception as error:  # noqa: BLE001  (a thread must answer)
            return failed(session, self.ref, error)
        return None if self.decision is None or self.is_landed() else Waiting(self.decision)

    def act(self, run: MilestoneRun) -> Decision | None:
        """Do it; the decision says where the issue has come to rest."""
        raise NotImplementedError

    def is_landed(self) -> bool:
        """Whether the decision says that the issue has landed."""
        return self.decision is not None and str(self.decision.status) == "landed"


class IssueAction(_Action):
    """Takes one issue as far as it goes."""

    def act(self, run: MilestoneRun) -> Decision | None:
        """Until it has landed or is at rest."""
        from executor.issue import bring_to_rest

        return bring_to_rest(run, self.ref)

    def __str__(self) -> str:
        return f"implement, verify and land {self.ref}"


class StepAction(_Action):
    """Takes one step of an issue's workflow, or a gate, as far as it goes."""

    def __init__(self, ref: str, step: str) -> None:
        super().__init__(ref)
        self.step = step

    def act(self, run: MilestoneRun) -> Decision | None:
        """Until it is done or the issue is at rest."""
        from executor.flow import bring_step

        return bring_step(run, self.ref, self.step)

    def __str__(self) -> str:
        return f"{self.step} of {self.ref}"


class NotReleased(TaskFailed):
    """A criterion of the release is not met; nothing was released."""

    def __init__(self, milestone: str) -> None:
        super().__init__(f"{milestone} is not released", report=False)


class ReleaseAction(BaseAction):
    """Releases one milestone; what came of it is kept in the session."""

    def __init__(self, milestone: str) -> None:
        self.milestone = milestone
        self.task: Any = None
        self.out = self.err = None
        self.result: Any = None
        self.values: dict[str, Any] = {}

    def execute(self, out: object = None, err: object = None) -> object:
        """Run by doit in one of its threads; None means released."""
        _ = out, err
        from executor.release import release

        session = current.session
        if session is None:
            return TaskError(_UNUSUAL)
        try:
            outcome = release(session.run_of(self.milestone))
        except Exception as error:  # noqa: BLE001  (a thread must answer)
            return failed(session, f"release:{self.milestone}", error)
        session.releases[self.milestone] = outcome
        return None if outcome.code == 0 else NotReleased(self.milestone)

    def __str__(self) -> str:
        return f"release {self.milestone}"


def failed(session: Session, name: str, error: Exception) -> TaskError:
    """What doit is told of an error; a state store that is full or broken ends the run."""
    from executor.adapters.files import NO_SPACE

    if isinstance(error, OSError) and error.errno in NO_SPACE:
        error = StateFullError(f"{name}: {error}; nothing is lost, free some space and run again")
    if isinstance(error, StateFullError | StateBrokenError | ForgeUnavailableError):
        session.halt(error)
    if isinstance(error, GitKilledError):
        session.git_killed = True
    if isinstance(error, ExecutorError):
        return TaskError(f"{name}: {error}")
    return TaskError(f"{name}: unexpected {type(error).__name__}: {error}", error)


def task_milestones() -> Iterator[dict[str, Any]]:
    """Tasks of every milestone; doit calls this."""
    if current.session is not None:
        yield from _tasks(current.session.observer, current.wanted)
        return
    root = Path.cwd()
    from executor.project import compile_project, has_milestones, open_project

    if not has_milestones(root):
        return
    from executor.adapters.refs import Refs
    from executor.observe import observe

    project = open_project(root)
    observer = observe(compile_project(project), Refs(project.repository))
    yield from _tasks(observer, tuple(f"milestone:{name}" for name in observer.compiled.loaded.milestones))


def selected(observer: Observer, wanted: Iterable[str]) -> list[str]:
    """Issues to become tasks, in plan order.

    They are what is asked for and has not landed, what that needs, and whatever a new landing could invalidate.
    """
    from executor.core.decide import Status

    plan = observer.compiled.plan
    named: set[str] = set()
    for name in wanted:
        kind, _, what = name.partition(":")
        if kind == "issue":
            named |= _closure(observer, what)
        elif kind == "milestone":
            named |= {f"{what}/{issue.id}" for issue in observer.compiled.milestone(what).issues}
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
    """An issue and everything it needs within its milestone."""
    found, waiting = {ref}, [ref]
    while waiting:
        current_ref = waiting.pop()
        node = observer.compiled.plan.nodes[current_ref]
        for need in node.needs:
            if observer.compiled.plan.nodes[need].milestone == node.milestone and need not in found:
                found.add(need)
                waiting.append(need)
    return found


def _tasks(observer: Observer, wanted: Iterable[str]) -> Iterator[dict[str, Any]]:
    refs = selected(observer, wanted)
    chosen = set(refs)
    if refs:
        yield {"basename": "issue", "name": None, "doc": "one issue of a milestone and what it needs"}
    names = [name.partition(":")[2] for name in wanted if name.startswith("milestone:")]
    by_steps = {ref: steps for ref in refs if (steps := _steps_of(observer, ref))}
    if by_steps:
        yield {"basename": "step", "name": None, "doc": "one step of an issue's workflow"}
    for ref in refs:
        task = _issue_task(observer, ref, chosen)
        before = _milestones_before(observer, ref, names)
        steps = by_steps.get(ref, [])
        yield {**task, "task_dep": [*before, *(f"step:{ref}/{step.id}" for step in steps)]}
        for step in steps:
            yield {**_step_task(observer, ref, step, task["file_dep"]), "task_dep": before}
    if names:
        yield {"basename": "milestone", "name": None, "doc": "every issue of a milestone"}
    for name in names:
        title = observer.compiled.milestone(name).title
        own = [f"issue:{ref}" for ref in refs if ref.partition("/")[0] == name and ref in chosen]
        yield {"basename": "milestone", "name": name, "doc": title, "actions": None, "task_dep": own}
    releases = [name.partition(":")[2] for name in wanted if name.startswith("release:")]
    if releases:
        yield {"basename": "release", "name": None, "doc": "a milestone, brought to its base"}
    for name in releases:
        yield {
            "basename": "release",
            "name": name,
            "doc": f"release {observer.compiled.milestone(name).title}",
            "actions": [ReleaseAction(name)],
            "task_dep": [f"milestone:{name}"] if name in names else [],
        }


def _milestones_before(observer: Observer, ref: str, names: list[str]) -> list[str]:
    """Tasks of milestones of this run that have to be complete first."""
    milestone = observer.compiled.milestone(observer.compiled.plan.nodes[ref].milestone)
    return [f"milestone:{need}" for need in milestone.needs if need in names]


def _steps_of(observer: Observer, ref: str) -> list[FlowStep]:
    """The steps that an issue may take in this run; none for one that is at rest or has a result."""
    issue = observer.compiled.plan.nodes[ref].issue
    if not observer.compiled.policy.workflow_of(issue).phases:
        return []
    from executor.core.decide import Act, Status
    from executor.steps import flow_of

    decision = observer.decision(ref)
    waits = decision.act is Act.IMPLEMENT or decision.status is Status.BLOCKED
    return list(flow_of(observer, ref).steps) if waits else []


def _step_task(observer: Observer, ref: str, step: FlowStep, before: list[str]) -> dict[str, Any]:
    """A step as a task: files of other steps, or of the issue's needs, as dependencies; files of its own as targets."""
    from executor.core.workflow import TREE
    from executor.steps import RECEIPT

    project = observer.compiled.project
    milestone, _, issue = ref.partition("/")

    def path(name: str, file: str) -> str:
        return str((project.step(milestone, issue, name) / file).relative_to(project.root))

    given = [path(*name.split("/", 1)) for name in step.inputs if not name.startswith(TREE)]
    outputs = [] if step.step is None else [name for name in step.step.outputs if not name.startswith(TREE)]
    return {
        "basename": "step",
        "name": f"{ref}/{step.id}",
        "doc": step.id if step.step is None else step.step.does,
        "actions": [StepAction(ref, step.id)],
        "file_dep": [*(given or before), *(path(name, RECEIPT) for name in step.after)],
        "targets": [path(step.id, file) for file in (*outputs, RECEIPT)],
        "uptodate": [lambda: _is_done(ref, step.id)],
    }


def _is_done(ref: str, step: str) -> bool:
    if current.session is None:
        return False
    from executor.steps import done_of

    return step in done_of(current.session.run_of(ref.partition("/")[0]), ref)


def _issue_task(observer: Observer, ref: str, chosen: set[str]) -> dict[str, Any]:
    from executor.core.decide import Status

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
        "actions": [IssueAction(ref)],
        "file_dep": [str(path.relative_to(project.root)) for path in (spec, *receipts)],
        "targets": [str(project.receipt(node.milestone, node.issue.id).relative_to(project.root))],
        "uptodate": [lambda: observer.decision(ref).status is Status.LANDED],
    }
