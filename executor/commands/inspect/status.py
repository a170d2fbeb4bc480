"""The computed status: `doit status` shows it once, `doit watch` follows it.

`doit watch` observes milestones from outside: snapshots of files and git at an interval. It takes no lock and never
disturbs a run.
"""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from executor.commands.base import JSON_OPTION, Command, Options, Output, option, print_json, report_faults, safe, table
from executor.config.project import compile_project, open_project
from executor.errors import DeclarationError, UsageError
from executor.model.fingerprint import IssueRef
from executor.process.files import LOCAL, journal_stamp, segments, stamp, utcnow
from executor.process.locks import read_holder
from executor.report.nights import Nights, night_json, night_lines
from executor.state.record import How
from executor.status.summary_cache import index_of, refs_stamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.config.project import Compiled, Project
    from executor.process.locks import Holder
    from executor.report.snapshot import Snapshot
    from executor.state.record import Record
    from executor.status.reader import Observer
    from executor.status.rows import IssueRow, MilestoneRow, PhaseRow, StatusIssue, StatusMilestone, StatusReport

__all__ = ["Looker", "Status", "Watch", "removed_lines"]


_REFRESH = option("refresh", "first read changes from the remote and the forge", bool)


class Status(Command):
    """Shows milestones and issues with status, reason and the next step."""

    name = "status"
    output = Output.VIEW
    doc_purpose = "show the computed status of milestones and their issues"
    doc_usage = "[MILESTONE ...]"
    cmd_options = (JSON_OPTION, _REFRESH)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the status."""
        project = open_project()
        names = [name.removeprefix("milestone:") for name in arguments]
        if options["refresh"]:
            _refresh(names)
        index = index_of(project)
        index.require(names)
        rows = index.rows()
        shown = [item for item in index.milestones if not names or item["id"] in names]
        drafts = [item for item in index.drafts if not names or item["id"] in names]
        outlook = Nights(project.cache).outlook(utcnow(), LOCAL)
        if options["json"]:
            report: StatusReport = {
                "milestones": [_json(item, _own(rows, item["id"])) for item in shown],
                "drafts": drafts,
                "nightly": night_json(outlook),
            }
            print_json(report)
        else:
            sys.stdout.write("\n".join(_text(item, _own(rows, item["id"])) for item in shown))
            sys.stdout.write("".join(f"{item['id']}: draft: {safe(item['reason'])}\n" for item in drafts))
            sys.stdout.write("".join(f"\n{safe(line)}" for line in night_lines(outlook)) + "\n" * bool(outlook))
        return report_faults(index.faults)


def _refresh(names: list[str]) -> None:
    """Take over changes by others on the remote and the forge; running milestones do so themselves."""
    from executor.commands.sessions import open_session
    from executor.errors import BusyError
    from executor.forge.reconcile import Reconciliation

    compiled = compile_project(open_project())
    if compiled.policy.forge.pushes_to is None:
        return
    with open_session(compiled) as session:
        for name in names or list(compiled.loaded.milestones):
            try:
                session.enter([compiled.milestone(name).id])
            except BusyError as error:
                sys.stderr.write(f"note: {safe(str(error))}\n")
        for run in session.runs():
            Reconciliation(run).take_over()
            for message in run.messages:
                sys.stderr.write(f"note: {safe(message)}\n")


def _own(rows: list[IssueRow], milestone: str) -> list[IssueRow]:
    return [row for row in rows if IssueRef.parse(row["ref"]).milestone == milestone]


def _json(item: MilestoneRow, rows: list[IssueRow]) -> StatusMilestone:
    return {
        "id": item["id"],
        "title": item["title"],
        "status": item["status"],
        "reason": item["reason"],
        "hint": item["hint"],
        "needs": item["needs"],
        "percent": item["percent"],
        "phases": item["phases"],
        "branch": item["branch"],
        "tip": item["tip"],
        "blockers": item["blockers"],
        "removed": item["removed"],
        "issues": [_issue(row) for row in rows],
    }


def _issue(row: IssueRow) -> StatusIssue:
    return {
        "id": row["id"],
        "title": row["title"],
        "status": row["status"],
        "reason": row["reason"],
        "revision": row["revision"],
        "commit": row["commit"],
        "phases": row["phases"],
        "pr": row.get("pr"),
        "attempts": row["attempts"],
        "seconds": row["seconds"],
        "cost_usd": row["cost_usd"],
    }


def _text(item: MilestoneRow, rows: list[IssueRow]) -> str:
    landed = f"{item['landed']} of {item['total']} landed ({item['percent']} %)"
    head = f"{safe(item['id'])}: {safe(item['title'])} - {item['status']}, {landed}"
    if item["status"] in {"paused", "blocked", "released"}:
        head += f"\n{safe(item['reason'])}" + (f"; {item['hint']}" if item["hint"] else "")
    phases = {item["id"]: item["phases"]} | {row["ref"]: row["phases"] for row in rows if _has_line(row, item)}
    head += "".join(f"\n{safe(ref)}: {_phase_line(found)}" for ref, found in phases.items() if found)
    for blocker in item["blockers"]:
        word = "paused by" if blocker["pauses"] else "blocker"
        head += f"\n{word} {blocker['blocker']}: {safe(blocker['reason'])}; {safe(blocker['resume'])}"
    lines = [[row["status"], row["id"], row["title"], _where(row)] for row in rows]
    hints = dict.fromkeys(
        row["hint"] for row in rows if row["status"] in {"failed", "skipped", "review"} and row["hint"]
    )
    after = "".join(f"  {hint}\n" for hint in hints)
    lines += removed_lines(item)
    return f"{head}\n{table(lines)}\n" + (f"next:\n{after}" if after else "")


def _phase_line(phases: list[PhaseRow]) -> str:
    from executor.status.progress import PhaseProgress, phase_line  # `doit status` without phases does without it

    return phase_line([PhaseProgress(**phase) for phase in phases])


def _has_line(row: IssueRow, item: MilestoneRow) -> bool:
    """Return whether the phases of an issue have a line; those of a milestone's planning issue are in the former's."""
    return not (item["phases"] and row["id"] == "plan")


def removed_lines(item: MilestoneRow) -> list[list[str]]:
    """Return table rows of issues that landed and left the declaration."""
    text = "landed as {}; no longer declared"
    return [["landed", safe(gone["id"]), "-", text.format(gone["commit"][:10])] for gone in item["removed"]]


def _where(row: IssueRow) -> str:
    revision = f", revision {row['revision']}" if row["revision"] > 1 else ""
    pull = row.get("pr")
    where = f": {pull['url']}" if pull and pull["url"] and pull["state"] in {"draft", "open"} else ""
    shown = f" (PR #{pull['number']} {pull['state']}{where})" if pull else ""
    return f"{row['reason']}{revision}{shown}"


_SHARE = 4
"""Minimum ratio of the interval to the time that a snapshot takes."""


_INTERVAL = option("interval", "seconds between two refreshes", float, default=1.0)


class Watch(Command):
    """Shows running milestones, or how the latest run of them ended."""

    name = "watch"
    output = Output.VIEW
    doc_purpose = "follow running milestones from another terminal"
    doc_usage = "[MILESTONE ...]"
    cmd_options = (
        option("plain", "plain text, one block for each change", bool),
        option("once", "show it once", bool),
        option("follow", "keep watching when no run is active, until interrupted", bool),
        _INTERVAL,
        JSON_OPTION,
    )

    def run(self, options: Options, arguments: list[str]) -> int:
        """Show it until no run is in progress."""
        if options["interval"] <= 0:
            raise UsageError("--interval: expected a number of seconds above 0")
        from executor.commands.live import on_a_terminal

        looker = Looker(open_project(), [name.removeprefix("milestone:") for name in arguments])
        if not looker.names:
            raise UsageError("milestones/ declares no milestone to watch; `doit init` shows how to start")
        plain = options["plain"] or not on_a_terminal(sys.stdout)
        if options["json"]:
            from executor.commands.plain import snapshot_value

            print_json({"milestones": [snapshot_value(snapshot) for snapshot in looker.snapshots()]})
        elif options["once"] and plain:
            _Blocks().show(looker.snapshots(), "")
        elif options["once"]:
            _Screen().rest(looker.snapshots())
        else:
            _watch(looker, _Blocks() if plain else _Screen(), options["interval"], follow=options["follow"])
        return 0


def _watch(looker: Looker, view: _Blocks | _Screen, interval: float, *, follow: bool) -> None:
    """Show snapshots until no run is in progress, or until interrupted."""
    snapshots: list[Snapshot] = []
    with view.open():
        try:
            while True:
                began = time.monotonic()
                snapshots = looker.snapshots()
                view.show(snapshots, looker.problem)
                if not follow and not any(item.run and item.run.how is How.RUNNING for item in snapshots):
                    break
                time.sleep(max(interval, _SHARE * (time.monotonic() - began)))
        except KeyboardInterrupt:
            pass
    view.rest(snapshots)


class _Blocks:
    """Plain text: everything once, then changes."""

    def __init__(self) -> None:
        self._before: dict[str, Snapshot] = {}
        self._problem = ""

    @contextmanager
    def open(self) -> Iterator[None]:
        yield

    def show(self, snapshots: Sequence[Snapshot], problem: str) -> None:
        from executor.commands.plain import block, change_block

        for snapshot in snapshots:
            before = self._before.get(snapshot.milestone)
            text = block(snapshot) if before is None else change_block(before, snapshot)
            if text:
                self._before[snapshot.milestone] = snapshot
                sys.stdout.write(text)
        if problem != self._problem:
            self._problem = problem
            sys.stdout.write(f"{safe(problem)}\n" if problem else "the declarations are valid again\n")
        sys.stdout.flush()

    def rest(self, snapshots: Sequence[Snapshot]) -> None:
        """Do nothing: everything is printed."""


class _Screen:
    """Full-screen view; the previous screen returns at the end, followed by the last view."""

    def __init__(self) -> None:
        from executor.commands.live import Drawing

        self._drawing = Drawing(sys.stdout)

    @contextmanager
    def open(self) -> Iterator[None]:
        before = signal.signal(signal.SIGTERM, _terminated)
        sys.stdout.write("\x1b[?1049h\x1b[H\x1b[2J")
        try:
            yield
        finally:
            sys.stdout.write("\x1b[?1049l")
            sys.stdout.flush()
            signal.signal(signal.SIGTERM, before)

    def show(self, snapshots: Sequence[Snapshot], problem: str) -> None:
        lines = self._lines(snapshots, 2 if problem else 0)
        lines += ["", safe(problem)] if problem else []
        sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        sys.stdout.flush()

    def rest(self, snapshots: Sequence[Snapshot]) -> None:
        sys.stdout.write("".join(f"{line}\n" for line in self._lines(snapshots, 1)))

    def _lines(self, snapshots: Sequence[Snapshot], less: int) -> list[str]:
        from executor.commands.live import terminal_size

        width, height = terminal_size(sys.stdout)
        return self._drawing.screen(snapshots, max(20, width - 1), max(8, height - less))


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(143)


class Looker:
    """Takes snapshots of milestones; unchanged files are not read again.

    Attributes:
        names: the milestones.
        problem: why the declarations cannot be read now; the last good snapshots then remain. Empty otherwise.
    """

    def __init__(self, project: Project, names: Sequence[str] = ()) -> None:
        """Watch these milestones; without names, the running ones, else the one of the latest run.

        Raises:
            DeclarationError: the declarations are invalid.
            UsageError: an unknown milestone.
        """
        from executor.status.progress import Tail

        self._project = project
        self._compiled = compile_project(project)
        self._declared = self._declaration_stamp()
        known = list(self._compiled.loaded.milestones)
        self.names = [self._compiled.milestone(name).id for name in names] or self._interesting(known)
        self.problem = ""
        self._tails = {name: Tail(project.state(name)) for name in self.names}
        self._events: dict[str, list[Record]] = {name: [] for name in self.names}
        self._observer: Observer | None = None
        self._seen = b""

    def snapshots(self) -> list[Snapshot]:
        """Return current snapshots of the milestones.

        Raises:
            StateBrokenError: a journal is corrupt.
        """
        from executor.report.snapshot import snapshot_of, standing_of

        self._read_declarations()
        holders = {name: self._holder(name) for name in self.names}
        for name, tail in self._tails.items():
            self._events[name] += tail.read()
        observer = self._observed(self._compiled)
        return [
            snapshot_of(
                observer,
                name,
                self._events[name],
                at=time.time(),
                standing=standing_of(observer, name, held=holder is not None),
                alive=holder.run if holder is not None else "",
            )
            for name, holder in holders.items()
        ]

    def _interesting(self, known: list[str]) -> list[str]:
        held = [name for name in known if self._holder(name) is not None]
        if held or not known:
            return held
        return [max(known, key=self._written)]

    def _written(self, name: str) -> float:
        """Return the time of the last write to a journal, seconds since 1970; 0 without a journal."""
        folder = self._project.state(name)
        return max((folder.joinpath(item).stat().st_mtime for item in segments(folder)), default=0.0)

    def _holder(self, name: str) -> Holder | None:
        holder = read_holder(self._project.state(name))
        return holder if holder is not None and holder.alive else None

    def _read_declarations(self) -> None:
        declared = self._declaration_stamp()
        if declared == self._declared:
            return
        try:
            self._compiled = compile_project(self._project)
        except DeclarationError as error:
            self.problem = str(error).splitlines()[0]
        else:
            self._declared, self.problem, self._observer = declared, "", None

    def _observed(self, compiled: Compiled) -> Observer:
        """Return facts and decisions, reloaded if any of their inputs has changed."""
        from executor.git.refs import Refs
        from executor.status.reader import observe

        heads = [f"refs/heads/{item.branch}" for item in compiled.loaded.milestones.values()]
        journals = [journal_stamp(self._project.state(name)) for name in compiled.loaded.milestones]
        named = refs_stamp(self._project, [*heads, "refs/attempts/", "refs/executor/"])
        seen = named + "\n".join(journals).encode()
        if self._observer is None or seen != self._seen:
            self._observer, self._seen = observe(compiled, Refs(self._project.repository)), seen
        return self._observer

    def _declaration_stamp(self) -> str:
        paths = [
            path for folder in (self._project.milestones, self._project.rules) for path in sorted(folder.rglob("*"))
        ]
        return "\n".join(f"{path} {stamp(path)}" for path in paths if path.is_file())
