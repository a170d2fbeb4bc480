"""A session of this program with everything that plugs into the engine.

The tasks of a session: the project's own loader, with the milestones' tasks bound to the request.

Signals during a run: the first one ends it gracefully, the second one kills its children.

The record of a run has an end, whatever ends the run: an error, a signal, a fault in the user's dodo.py.

A run that OpenTelemetry's variables ask to trace is exported once it has ended, from its journals.

Writes the issues of a milestone's roadmap into its declaration, once its planning issue has landed.
"""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doit.cmd_base import NamespaceTaskLoader

from executor.agents.command import trace_of, traces
from executor.commands.base import ending_of, safe
from executor.commands.output import complain
from executor.config.edit_toml import edited_plan
from executor.engine.landing.milestone_branch import LocalPublisher
from executor.engine.session import Plugins, Session
from executor.errors import (
    ExecutorError,
    GitKilledError,
    InterruptedRunError,
    StateBrokenError,
    StateFullError,
    UsageError,
)
from executor.model.hints import counted
from executor.process.files import write_atomic
from executor.state import segments
from executor.state.record import How
from executor.tasks.compile import requested_tasks, task_milestones
from executor.workflow.outputs import FILES, PLAN, RoadmapError, issues_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from executor.cluster.lead import Led
    from executor.config.project import Compiled
    from executor.engine.milestone_run import MilestoneRun
    from executor.errors import TakenOverError
    from executor.model.milestone import Milestone
    from executor.status.load import MilestoneView
    from executor.tasks.compile import Request, Task

__all__ = [
    "CODES",
    "Declared",
    "RequestLoader",
    "RunRecords",
    "announced",
    "declare_roadmaps",
    "leading",
    "mending",
    "notified",
    "open_session",
    "recorded",
    "signals_heeded",
    "signals_raised",
    "traced",
    "tracked",
]


@contextmanager
def mending(session: Session) -> Iterator[None]:
    """Recover again at the end if one of our git processes was killed; the next run may do nothing and not look."""
    try:
        yield
    except GitKilledError:
        session.git_killed = True
        raise
    finally:
        if session.git_killed:
            session.store.close()  # while a git process runs, its locks do not count as stale
            for run in session.runs():
                with suppress(ExecutorError):
                    run.recover()


def open_session(compiled: Compiled) -> Session:
    """Open a session with workflows and, if the rules declare a remote or a forge, its publisher.

    Raises:
        ForgeRefusedError: the forge needs a token and none is set.
    """
    from executor.workflow.flow import StepWorkflow

    rules = compiled.policy.forge
    if rules.pushes_to is None and rules.kind == "local":
        return Session(compiled, plugins=Plugins(StepWorkflow(), LocalPublisher()))
    from executor.forge.connect import ForgePublisher

    return Session(compiled, plugins=Plugins(StepWorkflow(), ForgePublisher(compiled)))


@contextmanager
def leading(session: Session, *, asked: bool) -> Iterator[Callable[[], None]]:
    """Lead the session's milestones on the remote, if workers of other hosts take their orders from it.

    The block calls the function once the session has the locks of its milestones. If another machine takes over, the
    session stops at once and moves nothing more.

    Args:
        session: the session.
        asked: take over, although another machine may still lead.

    Raises:
        UsageError: `asked`, and no other machine can lead.
    """
    paces = [runner.beat_s for runner in session.policy.runners.values() if runner.claimed]
    name = session.policy.forge.pushes_to
    if name is None or not paces:
        if asked:
            raise UsageError(
                "--take-over: only this machine runs these milestones; expected a runner of another kind than "
                '"prefix" in rules/runners.toml and a remote in rules/forge.toml'
            )
        yield _nothing
        return
    led = _led(session, name, min(paces))
    session.push_through(led)

    def begin() -> None:
        folders = {run.name: run.folder for run in session.runs()}
        for line in led.begin(list(folders), session.run_id, folders.__getitem__, asked=asked):
            sys.stdout.write(f"note: {safe(line)}\n")

    try:
        yield begin
    finally:
        led.end()


def _led(session: Session, remote: str, beat_s: float) -> Led:
    """Return the lead of a session's milestones on a remote; to lose it ends the session."""
    from executor.cluster.lead import Led, Pace

    def lost(error: TakenOverError) -> None:
        session.halt(error)
        session.stop(kill=True)

    return Led(
        session.project.repository,
        remote,
        session.plugins.publisher.token,
        refs=session.refs,
        objects=session.store,
        who=session.identity,
        pace=Pace(beat_s, _SILENT_BEATS * beat_s),
        stopping=session.stopping,
        lost=lost,
    )


def _nothing() -> None:
    """Lead nothing."""


_SILENT_BEATS = 3
"""Beats that are missing when a machine counts as dead."""
_LONGEST = 500  # characters of a reason in the journal; the terminal had it whole


class RunRecords:
    """The runs of a session that have started and not ended."""

    def __init__(self) -> None:
        self._open: dict[str, MilestoneRun] = {}

    def begin(self, run: MilestoneRun, asked: Sequence[str], workers: int) -> None:
        """Record that a run starts."""
        run.begin(asked, workers)
        self._open[run.name] = run

    def end(self, code: int, how: How, why: str) -> None:
        """Record that all started runs end."""
        for name in list(self._open):
            self._open.pop(name).end(code, how, why[:_LONGEST])


@contextmanager
def recorded(session: Session) -> Iterator[RunRecords]:
    """Start runs in the block; those that it leaves open end with exit code and reason, whatever the cause."""
    records = RunRecords()
    try:
        with signals_raised():
            yield records
    except BaseException as error:
        code, why = ending_of(error, session.project.root)
        records.end(code, _how(error), why)
        raise
    records.end(ExecutorError.exit_code, How.ERROR, "its tasks were not run")


@contextmanager
def announced(session: Session) -> Iterator[Callable[[], list[str]]]:
    """Run the status command for each phase in the block, if the rules have one.

    The block calls the function at its end: it waits briefly for pending calls, and returns the problems.
    """
    if not session.policy.status.command:
        yield list
        return
    from executor.notify.phase_hook import announcing_phases

    with announcing_phases(session) as teller:
        yield teller.finish


@contextmanager
def notified(session: Session) -> Iterator[None]:
    """Send notices about the session's runs in the block, if the rules have a channel.

    Raises:
        UsageError: a channel is unusable.
    """
    if not session.policy.notify:
        yield
        return
    from executor.notify.queue import notifying

    with notifying(session):
        yield


@contextmanager
def tracked(session: Session) -> Iterator[Callable[[], list[str]]]:
    """Keep the tracking files up to date in the block, if there are any.

    The block calls the function at its end: it writes the files once more, and returns the problems.
    """
    milestones = session.compiled.loaded.milestones.values()
    if not (session.policy.status.tracking or any(milestone.tracking for milestone in milestones)):
        yield list
        return
    from executor.report.tracking import keep_tracking, tracking_kept

    with tracking_kept(session):
        yield lambda: keep_tracking(session)


@contextmanager
def traced(session: Session) -> Iterator[None]:
    """Send the trace of the session's runs after the block, if requested. A failure is only a note."""
    try:
        yield
    finally:
        if traces():
            from executor.report.exports import send_trace, spans_of

            trace, parent = trace_of(session.run_id)
            journals = {run.name: segments.read(run.folder) for run in session.runs()}
            problem = send_trace(spans_of(journals, session.run_id, parent), trace)
            if problem:
                complain(f"note: {safe(problem)}\n")


def _how(error: BaseException) -> How:
    if isinstance(error, InterruptedRunError | KeyboardInterrupt):
        return How.INTERRUPTED
    return How.HALTED if isinstance(error, StateFullError | StateBrokenError) else How.ERROR


CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
"""Exit codes of a run that a signal ended."""


@contextmanager
def signals_heeded(session: Session) -> Iterator[list[int]]:
    """Handle signals: the first one starts nothing new and asks children to end, the second one kills them."""
    received: list[int] = []

    def handle(number: int, _frame: object) -> None:
        received.append(number)
        session.stop(kill=len(received) > 1)

    before = {number: signal.signal(number, handle) for number in CODES}
    try:
        yield received
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def signals_raised() -> Iterator[None]:
    """Raise an error in the block for signals that end a run, before and after its tasks, where nothing takes long."""

    def handle(number: int, _frame: object) -> None:
        raise InterruptedRunError(signal.Signals(number).name, CODES[signal.Signals(number)])

    before = {number: signal.signal(number, handle) for number in CODES}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@dataclass(frozen=True, slots=True)
class Declared:
    """A declared roadmap.

    Attributes:
        lines: lines for people.
        asks: a person must look at it before the first issue starts.
    """

    lines: tuple[str, ...]
    asks: bool


def declare_roadmaps(session: Session) -> list[Declared]:
    """Declare the issues of every landed roadmap, and report it."""
    found = [declared for run in session.runs() if (declared := _declare(session, run.milestone, run.view)) is not None]
    sys.stdout.write("".join(f"{safe(line)}\n" for declared in found for line in declared.lines))
    return found


def _declare(session: Session, milestone: Milestone, view: MilestoneView) -> Declared | None:
    """Declare the issues of a landed roadmap; None if there is none, or they are declared already."""
    others = [issue for issue in milestone.issues if issue.id != PLAN]
    if milestone.workflow is None or PLAN not in view.landings or others:
        return None
    plan = next(issue for issue in milestone.issues if issue.id == PLAN)
    folder = session.policy.workflow_of(plan).keeps.replace("{milestone}", milestone.id).replace("{issue}", PLAN)
    tasks, dependencies, roadmap = (session.store.blob(view.tip, f"{folder}/{file}") or b"{}" for file in FILES)
    path = session.project.milestones / f"{milestone.id}.toml"
    shown = f"milestones/{milestone.id}.toml"
    try:
        issues = issues_of(tasks, dependencies, roadmap)
    except (RoadmapError, KeyError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, RoadmapError) else "the roadmap cannot be read"
        message = f"{milestone.id}: {why}; declare the issues in {shown}, or doit retry {milestone.id}/{PLAN}"
        return Declared((message,), asks=True)
    text = edited_plan(path.read_text(encoding="utf-8"), {}, {}, [], issues)
    write_atomic(path, text.encode(), durable=False)
    asks = milestone.roadmap == "ask"
    then = f"review them, then doit milestone:{milestone.id}" if asks else "the run continues with them"
    listed = [f"  {name}  {values['size']}  {values['title']}" for name, values in issues.items()]
    return Declared(
        (f"{milestone.id}: the roadmap declares {counted(len(issues), 'issue')} in {shown}; {then}", *listed), asks
    )


class RequestLoader(NamespaceTaskLoader):
    """Loads the tasks of another loader, but binds the milestones' tasks to one request.

    doit calls task creators without arguments, so the creator that a dodo.py imports cannot know the session.
    """

    def __init__(self, loader: NamespaceTaskLoader, request: Request) -> None:
        super().__init__()
        self._loader = loader
        self._request = request
        self.cmd_options = loader.cmd_options
        self.cmd_names, self.config, self.task_opts = loader.cmd_names, loader.config, loader.task_opts

    def setup(self, opt_values: dict[str, object]) -> None:
        """Read the dodo.py and bind the milestones' tasks to the request."""

        def bound_tasks() -> Iterator[Task]:
            yield from requested_tasks(self._request)

        self._loader.setup(opt_values)
        found = self._loader.namespace or {}
        self.namespace = {name: bound_tasks if item is task_milestones else item for name, item in found.items()}
