"""doit's thread runner with our outcomes: an issue at rest passes its dependents over and lets the others go on."""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from doit.control import TaskControl
from doit.runner import MThreadRunner
from doit.task import Stream

from executor.commands.base import safe
from executor.core.decide import Act
from executor.tasks import IssueAction, Waiting

if TYPE_CHECKING:
    from executor.session import Session

__all__ = ["Outcomes", "run_tasks"]

_WIDEST = 40


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
            else:
                named |= {f"{what}/{issue.id}" for issue in session.compiled.milestone(what).issues}
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
) -> Outcomes:
    """Run the chosen tasks on a number of threads, most urgent first among those that are ready."""
    control = TaskControl(tasks)
    control.process(chosen)
    dispatcher = control.task_dispatcher()
    place = {f"issue:{ref}": number for number, ref in enumerate(session.compiled.plan.order)}
    dispatcher.ready = _Ready(place)
    outcomes = Outcomes()
    reporter = _Reporter(stream, session)
    session.tell = reporter.say
    runner = _IssueRunner(session, outcomes, database, reporter, True, always, Stream(0), threads)  # noqa: FBT003
    runner.run_all(dispatcher)
    return outcomes


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

    def __init__(self, session: Session, outcomes: Outcomes, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._session = session
        self._outcomes = outcomes

    def get_next_job(self, completed: Any) -> Any:
        """The next task, or none once the run is being stopped."""
        if self._session.stopping.is_set():
            self._stop_running = True
        return super().get_next_job(completed)

    def _handle_task_error(self, node: Any, base_fail: Any) -> None:
        """Called by doit for whatever did not succeed: dependents are passed over, the others go on."""
        node.run_status = "ignore"
        self.dep_manager.remove_success(node.task)
        if not isinstance(base_fail, Waiting) and not self._session.stopping.is_set():
            self._outcomes.errors[node.task.name] = base_fail.get_msg().strip()
        self.reporter.add_failure(node.task, base_fail)


class _Reporter:
    """One line per thing that happened, whole lines only, whatever thread it comes from."""

    def __init__(self, stream: Any, session: Session) -> None:
        self._stream = stream
        self._session = session
        own = {run.name for run in session.runs()}
        refs = (ref for ref in session.compiled.plan.order if ref.partition("/")[0] in own)
        self._width = min(_WIDEST, max(map(len, refs), default=0))
        self._lock = threading.Lock()

    def say(self, word: str, ref: str, text: str) -> None:
        """One line."""
        with self._lock:
            self._stream.write(f"{word:<9} {ref:<{self._width}} {safe(text)}\n")
            self._stream.flush()

    def initialize(self, _tasks: Any, _selected: Any) -> None:
        """Nothing to prepare."""

    def get_status(self, _task: Any) -> None:
        """Nothing to say."""

    def execute_task(self, task: Any) -> None:
        """An issue is being worked on."""
        action = _action(task)
        if action is not None:
            decision = self._session.observer.decision(action.ref)
            if decision.act is not Act.REST:
                self.say(str(decision.act), action.ref, f"{task.doc or ''}: {decision.reason}")

    def add_success(self, task: Any) -> None:
        """An issue has landed, or was found landed."""
        action = _action(task)
        if action is not None and action.decision is not None:
            self.say(str(action.decision.status), action.ref, action.decision.reason)

    def add_failure(self, task: Any, fail: Any) -> None:
        """An issue is at rest without having landed, or the executor erred."""
        action = _action(task)
        if action is None:
            return
        if isinstance(fail, Waiting):
            self.say(str(fail.decision.status), action.ref, fail.decision.reason)
        elif self._session.stopping.is_set():
            self.say("stopped", action.ref, "will be resumed by the next run")
        else:
            self.say("error", action.ref, fail.get_msg().strip().splitlines()[0])

    def skip_uptodate(self, task: Any) -> None:
        """Nothing to do for it."""
        action = _action(task)
        if action is not None:
            self.say("landed", action.ref, "up to date")

    def skip_ignore(self, task: Any) -> None:
        """Something it needs has not landed."""
        action = _action(task)
        if action is not None:
            decision = self._session.observer.decision(action.ref)
            self.say(str(decision.status), action.ref, decision.reason)

    def teardown_task(self, _task: Any) -> None:
        """Nothing is torn down."""

    def cleanup_error(self, exception: Any) -> None:
        """An error of doit's own clean-up."""
        self.say("error", "", str(exception.get_msg()))

    def runtime_error(self, message: str) -> None:
        """An error of doit's own."""
        self.say("error", "", message)

    def complete_run(self) -> None:
        """The summary is printed by the command."""


def _action(task: Any) -> IssueAction | None:
    return next((action for action in task.actions if isinstance(action, IssueAction)), None)
