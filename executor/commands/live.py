"""Progress lines of a run: one complete line with the time for each event, from any thread.

The live view of a run on a terminal: progress lines, and below them the state of active issues.

Snapshots of milestones as lines for a terminal, fitted to its size. The only module that uses rich.

The footer of a terminal: lines that are redrawn below permanent ones. Not thread-safe.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from executor.commands.base import safe
from executor.commands.output import ago, money
from executor.commands.plain import ending, event_line, headline, run_note
from executor.engine.stops import Stops
from executor.model.fingerprint import IssueRef
from executor.report.snapshot import snapshot_of, standing_of
from executor.state.decide import Act
from executor.status.progress import phase_line
from executor.tasks.compile import IssueAction, Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.engine.session import Session
    from executor.report.snapshot import Row, Snapshot, Working

__all__ = ["Drawing", "LiveReporter", "Region", "Reporter", "on_a_terminal", "reporter_for", "terminal_size"]


_WIDEST = 40  # columns of the ids, so that the titles keep some of 80


def on_a_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal that can show redrawn lines."""
    return bool(stream.isatty()) and os.environ.get("TERM", "dumb") != "dumb"


def reporter_for(stream: Any, session: Session, workers: int, *, plain: bool) -> Reporter:
    """Return the live view on a terminal; plain lines elsewhere or on request."""
    if plain or not on_a_terminal(stream):
        return Reporter(stream, session)
    return LiveReporter(stream, session, workers)


class Reporter:
    """A doit reporter that writes plain lines."""

    stamp = "%Y-%m-%d %H:%M:%S %Z"

    def __init__(self, stream: Any, session: Session) -> None:
        self._stream = stream
        self._session = session
        own = {run.name for run in session.runs()}
        refs = (ref for ref in session.compiled.plan.order if IssueRef.parse(ref).milestone in own)
        self._width = min(_WIDEST, max(map(len, refs), default=0))
        self._lock = threading.Lock()

    def say(self, word: str, ref: str, text: str) -> None:
        """Print one line."""
        at = datetime.now().astimezone()
        with self._lock:
            self._put(f"{at:{self.stamp}} {word:<9} {ref:<{self._width}} {safe(text)}")

    def _put(self, line: str) -> None:
        """Write a line; the caller holds the lock."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def initialize(self, _tasks: Any, _selected: Any) -> None:
        """Hook of doit; nothing to prepare."""

    def get_status(self, _task: Any) -> None:
        """Hook of doit; nothing to print."""

    def execute_task(self, _task: Any) -> None:
        """Hook of doit; an issue may still have to wait for a slot."""

    def begin(self, ref: str) -> None:
        """Report that an issue has started."""
        from executor.engine.issue import IssueRun

        issue = IssueRun(self._session.run_of(IssueRef.parse(ref).milestone), ref)
        decision = issue.decision
        if decision.act is not Act.REST and Stops(issue).hold_of(decision, begun=False) is None:
            self.say(str(decision.act), ref, f"{issue.declared.title}: {decision.reason}")

    def add_success(self, task: Any) -> None:
        """Report that an issue has landed, now or earlier."""
        action = _action(task)
        if action is not None and action.decision is not None:
            self.say(str(action.decision.status), action.ref, action.decision.reason)

    def add_failure(self, task: Any, fail: Any) -> None:
        """Report that an issue ended without a landing, or that the executor failed."""
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
        """Hook of doit; nothing to do."""
        action = _action(task)
        if action is not None:
            self.say("landed", action.ref, "up to date")

    def skip_ignore(self, task: Any) -> None:
        """Report that a need of the issue has not landed."""
        action = _action(task)
        if action is not None:
            decision = self._session.decision(action.ref)
            self.say(str(decision.status), action.ref, decision.reason)

    def teardown_task(self, _task: Any) -> None:
        """Hook of doit; nothing to do."""

    def cleanup_error(self, exception: Any) -> None:
        """Report an error of doit's clean-up."""
        self.say("error", "", str(exception.get_msg()))

    def runtime_error(self, message: str) -> None:
        """Report an error of doit itself."""
        self.say("error", "", message)

    def complete_run(self) -> None:
        """Do nothing: the command prints the summary."""


def _action(task: Any) -> IssueAction | None:
    return next((action for action in task.actions if isinstance(action, IssueAction)), None)


_STYLES = {
    "landed": "green",
    "running": "cyan",
    "open": "cyan",
    "failed": "red",
    "skipped": "yellow",
    "review": "yellow",
    "stale": "magenta",
    "blocked": "dim",
}
_NARROW = 60
"""Columns below which titles and bars do not fit."""
_WIDE = 110
"""Columns from which optional parts fit."""
_MOST = 120
"""Maximum columns; related parts would be too far apart beyond."""


class Drawing:
    """Draws for one terminal, in its colours; without colours if NO_COLOR is set."""

    def __init__(self, stream: Any) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)

    def region(self, snapshots: Sequence[Snapshot], width: int, height: int) -> list[str]:
        """Return the footer: progress and active issues."""
        parts: list[RenderableType] = []
        narrow = min(width, _MOST)
        room = max(1, (height - (3 + _MOST_PHASES) * len(snapshots)) // max(1, len(snapshots)))
        for snapshot in snapshots:
            parts += [_head(snapshot), _bar(snapshot, narrow), _working(snapshot.working, room, narrow)]
            parts += _phases(snapshot)
        return self._lines(Group(*parts), narrow)[:height]

    def screen(self, snapshots: Sequence[Snapshot], width: int, height: int) -> list[str]:
        """Return the full screen: progress, as many issues as fit, and the latest events."""
        lines: list[str] = []
        share = height // max(1, len(snapshots))
        for snapshot in snapshots:
            lines += self._screen(snapshot, width, share)
        return lines[:height]

    def _screen(self, snapshot: Snapshot, width: int, height: int) -> list[str]:
        note = run_note(snapshot)
        top: list[RenderableType] = [_head(snapshot), _bar(snapshot, min(width, _MOST))]
        if note:
            style = "red" if snapshot.run is not None and snapshot.run.cut_off else ""
            top.append(Text(safe(note), style))
        events = [_one_line(event_line(event), "dim") for event in snapshot.last]
        narrow = min(width, _MOST)
        head, tail = self._lines(Group(*top), narrow), self._lines(Group(*events), width) if events else []
        drawn = Group(_working(snapshot.working, max(1, height // 4), narrow), *_phases(snapshot))
        active = self._lines(drawn, narrow) if snapshot.working or snapshot.phases else []
        room = height - len(head) - len(active) - len(tail) - 2
        shown, above, below = _window(snapshot.rows, max(1, room))
        parts = [_one_line(f"  ... {above} more above", "dim")] if above else []
        parts_below = [_one_line(f"  ... {below} more below", "dim")] if below else []
        table = self._lines(Group(*parts, _tasks(shown, width), *parts_below), width)
        lines = [*head, *active, "", *table, "", *tail]
        return lines[:height]

    def _lines(self, drawn: RenderableType, width: int) -> list[str]:
        self._console.width = width
        with self._console.capture() as capture:
            self._console.print(drawn)
        return capture.get().rstrip("\n").split("\n")


def _one_line(text: str, style: str = "") -> Text:
    return Text(safe(text), style=style, no_wrap=True, overflow="ellipsis")


def _head(snapshot: Snapshot) -> Table:
    grid = _grid()
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    title = Text.assemble((safe(snapshot.milestone), "bold"), " ", safe(snapshot.title))
    grid.add_row(title, Text(headline(snapshot)))
    return grid


def _bar(snapshot: Snapshot, width: int) -> RenderableType:
    if width < _NARROW:
        return Text(safe("  ".join([f"{snapshot.percent} %", money(snapshot.cost_usd), *ending(snapshot)])))
    grid = _grid()
    grid.add_column(ratio=1)
    facts = [f"{snapshot.percent} %", money(snapshot.cost_usd), *ending(snapshot)]
    bar = ProgressBar(total=100, completed=snapshot.percent, width=max(8, min(60, width // 3)))
    for _ in facts:
        grid.add_column(justify="right", no_wrap=True)
    grid.add_row(bar, *(Text(fact) for fact in facts))
    return grid


def _working(working: Sequence[Working], room: int, width: int) -> RenderableType:
    if width < _NARROW:
        return _narrow_working(working, room)
    grid = _grid()
    grid.add_column(no_wrap=True, max_width=max(12, width // 4), overflow="ellipsis", style="cyan")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True, max_width=max(14, width // 3), overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    shown = working if len(working) <= room else working[: max(1, room - 1)]
    for item in shown:
        who = f"{item.what} {item.agent}" if item.what.startswith("step ") and item.agent else item.what
        tried = f"{who}, attempt {item.attempt}" if item.attempt > 1 or width >= _WIDE else who
        quiet = Text(f"{'stalled' if item.stalled else 'quiet'} {ago(item.quiet)}", "red" if item.stalled else "dim")
        grid.add_row(Text(safe(item.ref)), Text(safe(item.title)), Text(safe(tried)), Text(ago(item.elapsed)), quiet)
    if len(shown) == len(working):
        return grid
    return Group(grid, _one_line(f"  ... and {len(working) - len(shown)} more", "dim"))


def _narrow_working(working: Sequence[Working], room: int) -> RenderableType:
    """Format the active issues for a terminal without room for titles."""
    grid = _grid()
    grid.add_column(no_wrap=True, max_width=12, overflow="ellipsis", style="cyan")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    for item in working[:room]:
        at = Text(f"stalled {ago(item.quiet)}", "red") if item.stalled else Text(ago(item.elapsed))
        grid.add_row(Text(safe(item.ref)), Text(safe(item.what.removeprefix("step "))), at)
    return grid


_MOST_PHASES = 3  # lines; a choice: the issues need the rest of a small terminal


def _phases(snapshot: Snapshot) -> list[RenderableType]:
    """Format the phases of issues with workflow steps, one line each, active ones first."""
    busy = {item.ref for item in snapshot.working}
    refs = sorted(snapshot.phases, key=lambda ref: ref not in busy)[:_MOST_PHASES]
    return [Text(safe(f"  {ref}: {phase_line(snapshot.phases[ref])}"), "dim") for ref in refs]


def _tasks(rows: Sequence[Row], width: int) -> Table:
    grid = _grid()
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, max_width=max(12, width // 4), overflow="ellipsis")
    grid.add_column(no_wrap=True, max_width=max(20, width // 3), overflow="ellipsis")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for row in rows:
        status = Text(row.status, _STYLES.get(row.status, ""))
        grid.add_row(status, Text(safe(row.ref)), Text(safe(row.title)), Text(safe(row.reason), "dim"))
    return grid


def _window(rows: Sequence[Row], room: int) -> tuple[Sequence[Row], int, int]:
    """Return the rows that fit, around the first active one, and the numbers of hidden rows above and below."""
    if len(rows) <= room:
        return rows, 0, 0
    active = next((place for place, row in enumerate(rows) if row.status == "running"), None)
    if active is None:
        active = next((place for place, row in enumerate(rows) if row.status != "landed"), 0)
    room = max(1, room - 2)
    first = max(0, min(active - room // 4, len(rows) - room))
    return rows[first : first + room], first, len(rows) - first - room


def _grid() -> Table:
    return Table.grid(padding=(0, 2, 0, 0), expand=True)


_UP, _WIPE, _HOME = "\x1b[{}A", "\x1b[J", "\x1b[H\x1b[2J"


def terminal_size(stream: Any) -> tuple[int, int]:
    """Return columns and lines of the terminal of a stream."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return (size.columns or 80), (size.lines or 24)


class Region:
    """The footer of one terminal.

    After a change of size the positions of the old lines are unknown: the screen is cleared, and the latest permanent
    lines are printed again; `said` are the lines that were printed before the footer existed.
    """

    def __init__(self, stream: Any, said: Sequence[str] = ()) -> None:
        self._stream = stream
        self._shown: list[str] = []
        self._said: deque[str] = deque(said, maxlen=200)
        self._size = terminal_size(stream)

    def say(self, line: str) -> None:
        """Print a permanent line."""
        self._said.append(line)
        self._put(f"{self._wiped()}{line}\n", self._shown)

    def show(self, lines: Sequence[str]) -> None:
        """Replace the footer."""
        size = terminal_size(self._stream)
        if size != self._size:
            self._size = size
            kept = list(self._said)[-max(0, size[1] - len(lines) - 1) :]
            self._shown = []
            self._put(_HOME + "".join(f"{line}\n" for line in kept), list(lines))
        elif list(lines) != self._shown:
            self._put(self._wiped(), list(lines))

    def _wiped(self) -> str:
        """Erase the footer."""
        return f"\r{_UP.format(len(self._shown))}{_WIPE}" if self._shown else ""

    def _put(self, before: str, lines: list[str]) -> None:
        self._stream.write(before + "".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._shown = lines


_EVERY = 0.5  # seconds between two drawings; a choice
_SHARE = 20
"""Minimum ratio of the interval to the time that a snapshot takes, which is long for a very large milestone."""


class LiveReporter(Reporter):
    """A doit reporter for a terminal; `complete_run` must be called to restore the terminal."""

    stamp = "%H:%M:%S"

    def __init__(self, stream: Any, session: Session, workers: int) -> None:
        super().__init__(stream, session)
        self._workers = workers
        self._region = Region(stream, session.said)
        self._drawing = Drawing(stream)
        self._taken_up: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="live view", daemon=True)

    def initialize(self, _tasks: Any, _selected: Any) -> None:
        """Start the view."""
        self._thread.start()

    def begin(self, ref: str) -> None:
        """Report that an issue has started."""
        self._taken_up[ref] = time.time()
        super().begin(ref)

    def add_success(self, task: Any) -> None:
        """Report that an issue has landed."""
        self._taken_up.pop(task.name.partition(":")[2], None)
        super().add_success(task)

    def add_failure(self, task: Any, fail: Any) -> None:
        """Report that an issue ended without a landing."""
        self._taken_up.pop(task.name.partition(":")[2], None)
        super().add_failure(task, fail)

    def complete_run(self) -> None:
        """Remove the view; the command prints the summary."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._region.show([])

    def _put(self, line: str) -> None:
        self._region.say(line)

    def _draw(self) -> None:
        pause = _EVERY
        while not self._ended.wait(pause):
            began = time.monotonic()
            width, height = terminal_size(self._stream)
            try:
                lines = self._lines(max(20, width - 1), max(3, height // 2))
            except Exception as error:  # noqa: BLE001  (a view must not end what it shows)
                lines = [f"the live view cannot be drawn: {type(error).__name__}"]
            with self._lock:
                self._region.show(lines)
            pause = max(_EVERY, _SHARE * (time.monotonic() - began))

    def _in_hand(self) -> dict[str, float]:
        """Return issue -> start time in this run (seconds since 1970); its steps are separate tasks."""
        since = time.time() - time.monotonic()
        begun = {ref: since + moment for ref, moment in list(self._session.working.items())}
        known = self._session.compiled.plan.nodes
        return {**{ref: at for ref, at in list(self._taken_up.items()) if ref in known}, **begun}

    def _lines(self, width: int, height: int) -> list[str]:
        taken_up = self._in_hand()
        times = [(IssueRef.parse(name), since) for name, since in taken_up.items()]
        snapshots = [
            snapshot_of(
                self._session.observer,
                run.name,
                list(run.journal.events),
                at=time.time(),
                standing=standing_of(self._session.observer, run.name, held=True),
                alive=self._session.run_id,
                workers=self._workers,
                taken_up={ref.issue: since for ref, since in times if ref.milestone == run.name},
            )
            for run in self._session.runs()
        ]
        return self._drawing.region(snapshots, width, height)
