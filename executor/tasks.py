"""The compiled plan as doit tasks: `issue:m4/4.1` with file dependencies and a target, `milestone:m4` as their group.

Landed, unchanged issues do not become tasks unless they are asked for by name. A dodo.py needs one line:
`from executor.tasks import DOIT_CONFIG, task_milestones`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.action import BaseAction
from doit.exceptions import TaskError, TaskFailed

from executor.errors import ExecutorError, StateBrokenError, StateFullError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from executor.core.decide import Decision
    from executor.observe import Observer
    from executor.session import Session

__all__ = ["DOIT_CONFIG", "IssueAction", "NotReleased", "Waiting", "current", "selected", "task_milestones"]

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


class IssueAction(BaseAction):
    """Takes one issue as far as it goes. Prints nothing and leaves the process's output streams alone."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.task: Any = None
        self.out = self.err = None
        self.result: Any = None
        self.values: dict[str, Any] = {}
        self.decision: Decision | None = None

    def execute(self, out: object = None, err: object = None) -> object:
        """Run by doit in one of its threads; None means landed."""
        _ = out, err
        from executor.core.decide import Status
        from executor.issue import bring_to_rest

        session = current.session
        if session is None:
            return TaskError(_UNUSUAL)
        try:
            self.decision = bring_to_rest(session.run_of(self.ref.partition("/")[0]), self.ref)
        except Exception as error:  # noqa: BLE001  (a thread must answer)
            return failed(session, self.ref, error)
        if self.decision.status is not Status.LANDED:
            return Waiting(self.decision)
        return None

    def __str__(self) -> str:
        return f"implement, verify and land {self.ref}"


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
    if isinstance(error, StateFullError | StateBrokenError):
        session.halt(error)
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
    for ref in refs:
        yield {**_issue_task(observer, ref, chosen), "task_dep": _milestones_before(observer, ref, names)}
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
