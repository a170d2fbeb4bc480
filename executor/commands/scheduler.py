"""The scheduler: ready tasks, most urgent first, with limits on parallel issues and steps.

An issue is in progress from its first step to its end; steps of different issues share their limit.

doit's thread runner with our outcomes: dependents of an unlanded issue are skipped, others continue.

A run with nothing else to do waits for an account to become usable again, if that is soon enough.
"""

from __future__ import annotations

import heapq
import time
from bisect import insort
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from doit.control import TaskControl
from doit.runner import JobHold, JobTaskPickle, MThreadRunner
from doit.task import Stream

from executor.commands.live import reporter_for
from executor.forge.reconcile import ForgePatience
from executor.model.fingerprint import IssueRef
from executor.state.budget import time_text
from executor.state.decide import Act
from executor.state.events import Overlap
from executor.status.reader import overlaps_of
from executor.tasks.compile import IssueAction, NotReleased, StepAction, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from executor.commands.live import Reporter
    from executor.engine.session import Session
    from executor.state.budget import Wait
    from executor.state.decide import Decision
    from executor.status.collisions import Overlaps

    _Choose = Callable[[Sequence[str], Sequence[str]], str]

__all__ = ["Outcomes", "Patience", "Turns", "Urgency", "action_of", "run_tasks"]


def action_of(task: Any) -> IssueAction | StepAction | None:
    """Return the action of an issue's or a step's task."""
    return next((action for action in task.actions if isinstance(action, IssueAction | StepAction)), None)


class Turns:
    """Ready tasks and running tasks.

    Args:
        place: qualified id of an issue -> its position in the plan.
        issues: maximum number of issues in progress.
        steps: maximum number of running steps.
        choose: returns the most urgent of the issues that could begin, given those in progress.
    """

    def __init__(self, place: Mapping[str, int], issues: int, steps: int, choose: _Choose) -> None:
        self._place = place
        self._choose = choose
        self._issues, self._steps = issues, steps
        self._ready: list[tuple[int, int, Any]] = []
        self._count = 0
        self._under_way: set[str] = set()
        self._running = 0

    def __bool__(self) -> bool:
        return bool(self._ready)

    def push(self, node: Any) -> None:
        """Add a ready task."""
        self._count += 1
        action = action_of(node.task)
        place = -1 if action is None else self._place.get(action.ref, -1)
        heapq.heappush(self._ready, (place, self._count, node))

    def take(self) -> Any:
        """Start the most urgent task within the limits and return it; None if there is none."""
        passed = []
        taken = None
        while self._ready and taken is None:
            item = heapq.heappop(self._ready)
            if self._may(action_of(item[2].task)):
                taken = item[2]
            else:
                passed.append(item)
        for item in passed:
            heapq.heappush(self._ready, item)
        if taken is not None:
            taken = self._most_urgent(taken)
            self._begin(action_of(taken.task))
        return taken

    def _most_urgent(self, first: Any) -> Any:
        """Return the ready task of the most urgent issue where `first` would begin one; the others stay ready."""
        begins: dict[str, Any] = {}
        for node in (first, *(item[2] for item in heapq.nsmallest(_CHOICE, self._ready))):
            action = action_of(node.task)
            if action is not None and action.ref not in self._under_way and self._may(action):
                begins.setdefault(action.ref, node)
        if len(begins) <= 1 or next(iter(begins.values())) is not first:
            return first
        chosen = begins[self._choose(list(begins), sorted(self._under_way))]
        if chosen is not first:
            self._ready = [item for item in self._ready if item[2] is not chosen]
            heapq.heapify(self._ready)
            self.push(first)
        return chosen

    def ended(self, node: Any) -> None:
        """Remove a finished task; an issue with a failed step is no longer in progress."""
        action = action_of(node.task)
        if isinstance(action, StepAction):
            self._running -= 1
            if action.decision is not None or node.run_status != "successful":
                self._under_way.discard(action.ref)
        elif action is not None:
            self._under_way.discard(action.ref)

    def _may(self, action: IssueAction | StepAction | None) -> bool:
        if action is None:
            return True
        if isinstance(action, StepAction) and self._running >= self._steps:
            return False
        return action.ref in self._under_way or len(self._under_way) < self._issues

    def _begin(self, action: IssueAction | StepAction | None) -> None:
        if action is not None:
            self._under_way.add(action.ref)
            self._running += isinstance(action, StepAction)


@dataclass(slots=True)
class Outcomes:
    """Errors of the executor itself during the run, by task name."""

    errors: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def asked(session: Session, wanted: tuple[str, ...]) -> list[str]:
        """Return the requested issues in plan order."""
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
    """Run the chosen tasks on a number of threads, the most urgent ready tasks first."""
    control = TaskControl(tasks)
    control.process(chosen)
    dispatcher = control.task_dispatcher()
    # doit 0.37 dispatches tasks in the order in which they become ready and has no priorities. It uses only append,
    # popleft and len of this deque (doit/control.py, TaskDispatcher), so a heap can replace it.
    urgency = Urgency(session)
    dispatcher.ready = ready = _Ready(urgency)
    reporter = reporter_for(stream, session, threads, plain=plain)
    session.tell = reporter.say
    _take_back_ignored(tasks, database, reporter)
    turns = _turns_of(session, dispatcher.tasks, threads, urgency)
    if turns is not None:
        threads += session.policy.limits.parallel_steps
    elif threads > 1:
        # One thread for each result that waits in the queue, so that it blocks no agent.
        session.places.limit(threads, urgency.choose)
        threads += session.policy.landing.batch_most
    outcomes = Outcomes()
    runner = _IssueRunner(session, outcomes, turns, database, reporter, threads, always=always)
    begin = _announcer(tasks, reporter, urgency)
    session.beginning.append(begin)
    session.resting.append(ready.ended)
    try:
        runner.run_all(dispatcher)
    finally:
        session.beginning.remove(begin)
        session.resting.remove(ready.ended)
        reporter.complete_run()
    return outcomes


def _turns_of(session: Session, names: Iterable[str], threads: int, urgency: Urgency) -> Turns | None:
    """Return the queue of issues in steps; None if no task is a step."""
    if not any(name.startswith("step:") for name in names):
        return None
    return Turns(urgency.place, threads, session.policy.limits.parallel_steps, urgency.choose)


def _announcer(tasks: list[Any], reporter: Reporter, urgency: Urgency) -> Callable[[str], None]:
    """Return a function that reports that an issue begins; an issue in steps reports its steps itself."""
    stepped = {action.ref for task in tasks if (action := action_of(task)) and _has_steps(task)}

    def begin(ref: str) -> None:
        if ref not in stepped:
            reporter.begin(ref)
        urgency.record_overlap(ref)

    return begin


def _has_steps(task: Any) -> bool:
    return any(name.startswith("step:") for name in task.task_dep)


def _take_back_ignored(tasks: list[Any], database: Any, reporter: Reporter) -> None:
    """Undo `doit ignore` marks in doit's own database, which do not apply to issues."""
    for task in tasks:
        if database.status_is_ignore(task):
            database.remove(task.name)
            reporter.say("note", task.name, "`doit ignore` has no effect on milestones; use `doit pause`")


_CHOICE = 64
"""Number of the most urgent tasks to compare, so that ten thousand ready issues cost no more than these."""


def _ref(node: Any) -> str:
    return str(node.task.name).removeprefix("issue:")


class Urgency:
    """Whose turn it is among issues that could begin: the plan's order, by priority.

    Of equal priority, an issue goes first that is expected to change the fewest files of issues at work. If all do, the
    plan's order decides: an expected conflict is a reason to choose, never a reason to wait.
    """

    def __init__(self, session: Session) -> None:
        plan = session.compiled.plan
        self._session = session
        self._nodes = plan.nodes
        self.place = {ref: number for number, ref in enumerate(plan.order)}

    @cached_property
    def _overlaps(self) -> Overlaps:
        # Two threads may both make it; each result serves.
        return overlaps_of(self._session.observer, self._session.refs)

    def of(self, ref: str) -> tuple[str, int]:
        """Return priority and position; tasks that are no issues come first."""
        return (self._nodes[ref].issue.priority, self.place[ref]) if ref in self.place else ("", 0)

    def choose(self, refs: Sequence[str], begun: Sequence[str]) -> str:
        """Return the most urgent of these, given the started ones."""
        most = min(map(self.of, refs))[0]
        choice = [ref for ref in refs if self.of(ref)[0] == most]
        if not begun:
            return min(choice, key=self.of)
        return min(choice, key=lambda ref: (self._overlaps.cost(ref, begun), self.of(ref)))

    def record_overlap(self, ref: str) -> None:
        """Record the running issues with which a starting issue is expected to overlap."""
        working = list(self._session.working)
        found = self._overlaps.between(ref, working) if len(working) > 1 else []
        if found:
            files = dict.fromkeys(path for item in found for path in item.files)
            event = Overlap(others=tuple(item.other for item in found), files=tuple(files)[:_MOST_FILES])
            milestone, issue = IssueRef.parse(ref)
            self._session.run_of(milestone).record(event, issue)


_MOST_FILES = 20
"""Number of files in the record of an expected overlap."""


class _Ready:
    """The ready tasks by urgency instead of first come, first served."""

    def __init__(self, urgency: Urgency) -> None:
        self._urgency = urgency
        self._waiting: list[tuple[tuple[str, int], int, Any]] = []
        self._count = 0
        self._given: dict[str, None] = {}

    def append(self, node: Any) -> None:
        """Add a ready task."""
        self._count += 1
        insort(self._waiting, (self._urgency.of(_ref(node)), self._count, node))

    def popleft(self) -> Any:
        """Remove and return the most urgent task."""
        refs = [_ref(item[2]) for item in self._waiting[:_CHOICE]]
        chosen = self._urgency.choose(refs, list(self._given)[-_CHOICE:])
        self._given[chosen] = None
        return self._waiting.pop(refs.index(chosen))[2]

    def ended(self, ref: str, _decision: Decision) -> None:
        """Record that an issue is no longer running."""
        self._given.pop(ref, None)

    def __len__(self) -> int:
        return len(self._waiting)


class _IssueRunner(MThreadRunner):
    """A runner for which failures are outcomes of issues, not of the run."""

    def __init__(
        self,
        session: Session,
        outcomes: Outcomes,
        turns: Turns | None,
        database: Any,
        reporter: Reporter,
        threads: int,
        *,
        always: bool,
    ) -> None:
        # `continue_`: one failed issue never ends the run. Stream(0): actions print nothing, and doit must not replace
        # sys.stdout of a process with several working threads.
        super().__init__(
            dep_manager=database,
            reporter=reporter,
            continue_=True,
            always_execute=always,
            stream=Stream(0),
            num_process=threads,
        )
        self._session = session
        self._outcomes = outcomes
        self._turns = turns

    def get_next_job(self, completed: Any) -> Any:
        """Return the next task; None once the run is being stopped."""
        if self._session.stopping.is_set():
            self._stop_running = True
        if self._turns is None or self._stop_running:
            return super().get_next_job(completed)
        return self._next_in_turn(self._turns, completed)

    def _next_in_turn(self, turns: Turns, completed: Any) -> Any:
        """Collect all ready tasks and return one within the limits on issues and steps.

        This is MRunner.get_next_job of doit 0.37 with a queue between the dispatcher and the threads. It depends on
        these facts of doit/runner.py and doit/control.py; check them again before you raise the upper bound on doit:

        - `generator.send(node)` takes the node that has just been selected or completed, and None otherwise. It yields
          the string "hold on" if everything left waits for running tasks.
        - The main loop does not count a thread that gets a JobHold as free (`free_proc`): whoever returns one counts
          it, and the main loop takes it back when a completed task frees others.
        - None ends one thread. The last None ends the run, so it is returned only if the queue is empty.
        """
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
        """Handle a task that did not succeed, called by doit: dependents are skipped, others continue."""
        # doit has no outcome "waits for a person". With "failure" dependents would be reported as errors and the run
        # would end with code 2; with "ignore" doit skips them silently (Runner.select_task).
        node.run_status = "ignore"
        self.dep_manager.remove_success(node.task)
        if not isinstance(base_fail, Waiting | NotReleased) and not self._session.stopping.is_set():
            self._outcomes.errors[node.task.name] = base_fail.get_msg().strip()
        self.reporter.add_failure(node.task, base_fail)


class Patience:
    """The remaining time that a run may wait: `limits.wait_s` in total, for failing services `limits.outage_wait_s`.

    It never waits beyond its deadline.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        limits = session.policy.limits
        self._left = {"outage": limits.outage_wait_s, "": limits.wait_s}
        self._forge = ForgePatience(session) if session.remote is not None else None
        self._rested: dict[str, tuple[Wait | None, float]] = {}
        session.resting.append(self._note)

    def _note(self, ref: str, decision: Decision) -> None:
        """Keep why an issue waits, and since when."""
        self._rested[ref] = decision.wait, time.time()

    def wait(self, refs: Iterable[str]) -> bool:
        """Wait for an account or the forge; returns whether these issues then have something to do."""
        refs = list(refs)
        return self._wait_for_account(refs) or (self._forge is not None and self._forge.wait(refs))

    def _wait_for_account(self, refs: Iterable[str]) -> bool:
        session, now = self._session, time.time()
        decisions = {ref: session.observer.decision(ref) for ref in refs}
        if self._is_over(decisions, now):
            return True
        moments = {ref: item.wait.until for ref, item in decisions.items() if item.wait is not None}
        soon = {ref: until for ref, until in moments.items() if until}
        if not soon or session.stopping.is_set():
            return False
        ref = min(soon, key=lambda ref: soon[ref])
        seconds, purse = max(0.0, soon[ref] - now), _purse(decisions[ref].wait)
        late = session.deadline is not None and soon[ref] >= session.deadline.timestamp()
        if late or seconds > self._left[purse]:
            return False
        self._left[purse] -= seconds
        text = f"nothing else to do: {decisions[ref].reason}; continues at {time_text(soon[ref], now)}"
        session.tell("wait", ref, text)
        return not session.stopping.wait(seconds + 0.05)

    def _is_over(self, decisions: Mapping[str, Decision], now: float) -> bool:
        """Return whether a wait has ended while other issues were running, so its issue can continue."""
        for ref, decision in decisions.items():
            wait, since = self._rested.get(ref, (None, now))
            if wait is None or not wait.until or not since < wait.until <= now or decision.act is Act.REST:
                continue  # a wait that was over when it began is a deadline
            seconds, purse = max(0.0, wait.until - since), _purse(wait)
            if seconds > self._left[purse]:
                return False
            self._left[purse] -= seconds
            return not self._session.stopping.is_set()
        return False


def _purse(wait: Wait | None) -> str:
    return "outage" if wait is not None and wait.kind == "outage" else ""
