"""`doit digest`: work that landed, waits or failed since last night, its cost, and the next commands.

`doit nightly`: the command of the nightly entry: every milestone in turn, with a log, a deadline and a digest.

It prints nothing unless the executor or the declarations have a fault, so cron sends mail only then.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from executor.agents.command import secrets_of
from executor.commands.admin.cron import ENV_FILE, read_env_file
from executor.commands.base import JSON_OPTION, Command, Options, Output, none_but_options, option, print_json, safe
from executor.commands.output import drain
from executor.commands.run import UNTIL
from executor.config.project import compile_project, open_project, prepare_cache
from executor.errors import BusyError, ExecutorError, UsageError
from executor.model.clock import clock_time, deadline_of, zone_time
from executor.notify.phase_hook import Notice, of_digest
from executor.notify.queue import Teller, require_channels, sent_before
from executor.process.files import LOCAL, utcnow, write_atomic
from executor.process.locks import try_lock
from executor.report.nights import Digest, Nights, Schedule, digest_of, due_before, night_deadline
from executor.state import segments
from executor.state.events import MilestoneNight, NightEnded, NightStarted, Notified
from executor.state.journal import Journal
from executor.state.record import now as stamp
from executor.status.summary_cache import index_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from executor.config.project import Project
    from executor.process.locks import Held

__all__ = ["DigestCommand", "Nightly", "digest_since"]


_SINCE = option("since", "start time, for example 2030-01-31T18:00 (default: the last nightly run, or else a day ago)")


class DigestCommand(Command):
    """Shows the digest."""

    name = "digest"
    output = Output.VIEW
    doc_purpose = "summarize landings, waiting and failed issues, and cost since the last nightly run"
    doc_usage = ""
    cmd_options = (_SINCE, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the digest."""
        none_but_options(self, arguments)
        project = open_project()
        digest = digest_since(project, _since(project, options["since"]))
        if options["json"]:
            print_json(digest.data())
        else:
            sys.stdout.write("".join(f"{safe(line)}\n" for line in digest.text().splitlines()))
        return 0


def digest_since(project: Project, since: datetime) -> Digest:
    """Return the digest of everything since a given time."""
    index = index_of(project)
    moment = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    events = {item["id"]: segments.read(project.state(item["id"])) for item in index.milestones}
    return digest_of(moment, zone_time(since, LOCAL), index.milestones, index.rows(), events)


def _since(project: Project, asked: str) -> datetime:
    now = utcnow()
    if asked:
        try:
            return deadline_of(asked, now - timedelta(days=1), LOCAL)
        except ValueError as error:
            raise UsageError(f"--since: {error}") from error
    nights = Nights(project.cache).nights()
    return nights[-1].started if nights else now - timedelta(days=1)


_AT = option("at", "time at which the entry is due; a late run keeps the deadline of its night")
_CATCH_UP = option("catch-up", "run only if a night was missed", bool)
_BUSY = BusyError.exit_code
_BROKEN = frozenset({2, 3, 74})
_INTERRUPTED = frozenset({129, 130, 143})
_DONE = frozenset({"complete", "released", "paused"})
_WORST = (2, 74, 3, 1, 4, 75, 0)


class Nightly(Command):
    """Runs milestones with unlanded issues."""

    name = "nightly"
    doc_purpose = "run milestones like the nightly entry: quietly, with log, deadline and digest"
    doc_usage = "[MILESTONE ...]"
    cmd_options = (_AT, UNTIL, _CATCH_UP, ENV_FILE)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Run one night; 75 if another is still running, or it is too late for this one."""
        project = open_project()
        # cron starts commands without a locale; git and the tools of checks would fall back to ASCII.
        os.environ.setdefault("LANG", "C.UTF-8")
        os.environ.update(read_env_file(options["env-file"]) if options["env-file"] else {})
        prepare_cache(project)
        nights = Nights(project.cache)
        nights.prepare()
        started = utcnow()
        deadline = _deadline(options, started)
        names = tuple(name.removeprefix("milestone:") for name in arguments)
        lock = _lock(nights)
        if lock is None:
            nights.note(f"{stamp()} another nightly run started and exited: this one is still active")
            return _BUSY
        try:
            if options["at"] and nights.schedule() is None:  # an entry of the crontab that has no record here
                nights.keep(Schedule(options["at"], options["until"], names, started))
            if options["catch-up"] and not _is_missed(nights, started):
                return 0
            if deadline is not None and started >= deadline:
                nights.note(
                    f"{stamp()} too late: this night ended at {zone_time(deadline, LOCAL)}; the next one does it"
                )
                return _BUSY
            return _night(project, nights, names, deadline, started)
        finally:
            lock.release()


def _night(
    project: Project, nights: Nights, names: tuple[str, ...], deadline: datetime | None, started: datetime
) -> int:
    log = nights.log(started)
    run_id = f"{started:%Y%m%dT%H%M%S}-{os.getpid()}"
    # The start is durable before any work: a night without an end counts as one that died.
    journal = Journal.open(nights.folder, run=run_id, now=stamp)
    try:
        journal.record(NightStarted(milestones=tuple(names), until=deadline.isoformat() if deadline else ""))
        results: dict[str, int] = {}
        with _output_to(log):
            code = _milestones(project, names, deadline, results, journal)
            if code not in _INTERRUPTED:
                _digest(project, nights, journal, started, run_id)
        journal.record(NightEnded(code=code))
    finally:
        journal.close()
    if code in _BROKEN:
        outcome = ", ".join(f"{name} ended with {result}" for name, result in results.items()) or "nothing ran"
        sys.stderr.write(f"nightly run of {safe(str(project.root))}: {outcome}; see {safe(str(log))}\n")
    return code


def _milestones(
    project: Project, names: tuple[str, ...], deadline: datetime | None, results: dict[str, int], journal: Journal
) -> int:
    """Run one milestone after the other; returns the exit code of the worst."""
    from doit.doit_cmd import DoitMain

    chosen = names or _incomplete(project)
    if not chosen:
        sys.stdout.write("all issues have landed; nothing to do\n")
    for name in chosen:
        sys.stdout.write(f"== milestone {safe(name)}, {stamp()}\n")
        words = ["run", f"milestone:{name}"]
        if deadline is not None:
            words += ["--until", deadline.isoformat()]
        code = int(DoitMain().run(words) or 0)
        sys.stdout.write(f"== exit {code}, {stamp()}\n")
        results[name] = code
        journal.record(MilestoneNight(milestone=name, code=code))
        if code in _INTERRUPTED:
            return code
    return next((code for code in _WORST if code in results.values()), 0)


def _digest(project: Project, nights: Nights, journal: Journal, started: datetime, run_id: str) -> None:
    """Write the digest and send it; errors are logged."""
    try:
        policy = compile_project(project).policy
        digest = digest_since(project, started)
        require_channels(policy.notify)
    except ExecutorError as error:
        sys.stdout.write(f"no digest: {safe(str(error))}\n")
        return
    write_atomic(nights.digest, digest.text().encode(), durable=False)

    def record(notice: Notice, channel: str) -> None:
        journal.record(Notified(channel=channel, of=notice.event))

    def note(problem: str) -> None:
        sys.stdout.write("".join(f"{safe(line)}\n" for line in f"note: {problem}".split("\n")))

    teller = Teller(policy.notify, secrets_of(name for agent in policy.agents.values() for name in agent.env), note)
    title = f"Night of {zone_time(started, LOCAL)}: {digest.title}"
    teller.say(of_digest(run_id, title, digest.text()), sent_before(journal.events), record)
    teller.close()
    sys.stdout.write(digest.text())


def _incomplete(project: Project) -> tuple[str, ...]:
    """Return unfinished milestones, needed ones first."""
    items = {item["id"]: item for item in index_of(project).milestones}
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in items and name not in ordered:
            for need in items[name]["needs"]:
                visit(need)
            ordered.append(name)

    for name in items:
        visit(name)
    return tuple(name for name in ordered if items[name]["status"] not in _DONE)


def _is_missed(nights: Nights, now: datetime) -> bool:
    """Return whether a night is over that did not run."""
    outlook = nights.outlook(now, LOCAL)
    return outlook is not None and bool(outlook.missed)


def _deadline(options: Options, started: datetime) -> datetime | None:
    try:
        due = due_before(f"{clock_time(options['at']):%H:%M}", started, LOCAL) if options["at"] else started
    except ValueError as error:
        raise UsageError(f"--at: {error}") from error
    try:
        return night_deadline(options["until"], due, LOCAL)
    except ValueError as error:
        raise UsageError(f"--until: {error}") from error


def _lock(nights: Nights) -> Held | None:
    """Take the lock of the nights; a process that only probes it holds it briefly."""
    for _ in range(5):
        lock = try_lock(nights.folder / "lock")
        if lock is not None:
            return lock
        time.sleep(0.1)
    return None


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Redirect the output of this process and its children to a file."""
    drain()
    kept = os.dup(1), os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        yield
    finally:
        drain()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (log, *kept):
            os.close(descriptor)
