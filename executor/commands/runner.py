"""doit's thread runner with our outcomes: an issue at rest passes its dependents over and lets the others go on."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from doit.control import TaskControl
from doit.runner import JobHold, JobTaskPickle, MThreadRunner
from doit.task import Stream

from executor.actions import NotReleased, Waiting
from executor.commands.reporter import reporter_for
from executor.commands.turns import Turns

if TYPE_CHECKING:
    from executor.commands.reporter import Reporter
    from executor.session import Session

__all__ = ["Outcomes", "run_tasks"]


@dataclass(slots=True)
class Outcomes:
    """What the runner saw: errors of the executor itself, by task name."""

    errors: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def asked(session: Session, wanted: tuple[str, ...]) -> list[str]:
        """Issues that were asked for, in plan order."""
        named: set[str] = set()
        for name in wanted:
            kind, _, what = name.partition(":")
            if kind == "issue":
                named.add(what)
            elif kind == "milestone":
                named |= {f"{what}/{issue.id}" for issue in session.compiled.milestone(what).issues}
        named -= session.observer.passed_over
        return [ref for ref in session.compiled.plan.order if ref in named]


def run_tasks(
    tasks: list[Any],
    chosen: list[str],
    database: Any,
    session: Session,
    stream: Any,
    threads: int,
    *,
    always: bool,
    plain: bool,
) -> Outcomes:
    """Run the chosen tasks on a number of threads, most urgent first among those that are ready."""
    control = TaskControl(tasks)
    control.process(chosen)
    dispatcher = control.task_dispatcher()
    place = {f"issue:{ref}": number for number, ref in enumerate(session.compiled.plan.order)}
    dispatcher.ready = _Ready(place)
    outcomes = Outcomes()
    reporter = reporter_for(stream, session, threads, plain=plain)
    session.tell = reporter.say
    _take_back_ignored(tasks, database, reporter)
    turns = None
    if any(name.startswith("step:") for name in dispatcher.tasks):
        at_once = session.policy.limits.parallel_steps
        turns = Turns({ref: number for number, ref in enumerate(session.compiled.plan.order)}, threads, at_once)
        threads += at_once
    runner = _IssueRunner(session, outcomes, turns, database, reporter, True, always, Stream(0), threads)  # noqa: FBT003
    try:
        runner.run_all(dispatcher)
    finally:
        reporter.complete_run()
    return outcomes


def _take_back_ignored(tasks: list[Any], database: Any, reporter: Reporter) -> None:
    """`doit ignore` marks tasks in doit's own database, which says nothing about issues."""
    for task in tasks:
        if database.status_is_ignore(task):
            database.remove(task.name)
            reporter.say("note", task.name, "`doit ignore` holds nothing back here and is taken back; see `doit pause`")


class _Ready:
    """The ready tasks as a queue by plan order instead of first come, first served."""

    def __init__(self, place: dict[str, int]) -> None:
        self._place = place
        self._heap: list[tuple[int, int, Any]] = []
        self._count = 0

    def append(self, node: Any) -> None:
        """A task has become ready."""
        self._count += 1
        heapq.heappush(self._heap, (self._place.get(node.task.name, -1), self._count, node))

    def popleft(self) -> Any:
        """The most urgent one."""
        return heapq.heappop(self._heap)[2]

    def __len__(self) -> int:
        return len(self._heap)


class _IssueRunner(MThreadRunner):
    """Failures are outcomes of issues, not of the run."""

    def __init__(self, session: Session, outcomes: Outcomes, turns: Turns | None, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._session = session
        self._outcomes = outcomes
        self._turns = turns

    def get_next_job(self, completed: Any) -> Any:
        """The next task, or none once the run is being stopped."""
        if self._session.stopping.is_set():
            self._stop_running = True
        if self._turns is None or self._stop_running:
            return super().get_next_job(completed)
        return self._next_in_turn(self._turns, completed)

    def _next_in_turn(self, turns: Turns, completed: Any) -> Any:
        """Ask for everything that could run, and take what the limits on issues and steps allow."""
        if completed is not None:
            turns.ended(completed)
        node, exhausted = completed, False
        while True:
            try:
                node = self.task_dispatcher.generator.send(node)
            except StopIteration:
                exhausted = True
                break
            if node == "hold on":
                break
            if self.select_task(node, self.tasks):
                turns.push(node)
                node = None
        taken = turns.take()
        if taken is not None:
            return JobTaskPickle(taken.task)
        if exhausted and not turns:
            return None
        self.free_proc += 1
        return JobHold()

    def _handle_task_error(self, node: Any, base_fail: Any) -> None:
        """Called by doit for whatever did not succeed: dependents are passed over, the others go on."""
        node.run_status = "ignore"
        self.dep_manager.remove_success(node.task)
        if not isinstance(base_fail, Waiting | NotReleased) and not self._session.stopping.is_set():
            self._outcomes.errors[node.task.name] = base_fail.get_msg().strip()
        self.reporter.add_failure(node.task, base_fail)
