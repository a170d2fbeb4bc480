"""Nights: due times of the nightly entry, its runs, and missed ones. Current time and zone are parameters.

The record of the nights in `.cache/_nightly`: the schedule, a journal of the runs, one log each, the last digest.

The nightly entry: one marked line in the user's crontab, or a systemd service and timer. The crontab is read, checked
and replaced as a whole, and foreign lines stay as they are, byte for byte: the crontab library would reformat them, so
it only validates our line. Variables that cron does not set come from a file of NAME=VALUE lines.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError, UsageError
from executor.model.clock import clock_time, deadline_of, next_at
from executor.process.files import is_locked, read_json, write_json
from executor.state import segments
from executor.state.events import MilestoneNight, NightEnded, NightStarted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import tzinfo

    from executor.state.record import Record

__all__ = [
    "LATE",
    "MOST",
    "Night",
    "Nights",
    "Outlook",
    "Schedule",
    "cron_line",
    "daemon_runs",
    "due_before",
    "marker",
    "missed",
    "night_deadline",
    "nights_of",
    "ours",
    "read",
    "read_env_file",
    "spliced",
    "systemd_units",
    "valid",
    "write",
]


LATE = timedelta(minutes=2)
"""Tolerance of a due time: a night counts as missed only after it."""
_LOOKED_AT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The nightly entry.

    Attributes:
        at: time of day, ``01:30``.
        until: deadline as for `--until`, or empty.
        milestones: ids; empty for all incomplete ones.
        since: time of installation.
    """

    at: str
    until: str
    milestones: tuple[str, ...]
    since: datetime

    def data(self) -> dict[str, object]:
        """Return the schedule as JSON."""
        return {
            "at": self.at,
            "until": self.until,
            "milestones": list(self.milestones),
            "since": self.since.isoformat(),
        }

    @classmethod
    def read(cls, data: Any) -> Schedule | None:
        """Read a schedule from JSON; None if it is invalid."""
        try:
            clock_time(data["at"])
            since = datetime.fromisoformat(data["since"]).astimezone(UTC)
            return cls(data["at"], str(data["until"]), tuple(map(str, data["milestones"])), since)
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Night:
    """A run of the nightly entry.

    Attributes:
        run: its id.
        started: its start time.
        ended: its end time; None if it died or is still running.
        code: its exit code once it has ended.
        results: exit code of each milestone that ran.
    """

    run: str
    started: datetime
    ended: datetime | None = None
    code: int | None = None
    results: tuple[tuple[str, int], ...] = ()


def nights_of(events: Iterable[Record]) -> list[Night]:
    """Return the nights in a journal, oldest first."""
    nights: dict[str, Night] = {}
    for event in events:
        night = nights.get(event.run)
        match event.event:
            case NightStarted():
                nights[event.run] = Night(event.run, datetime.fromisoformat(event.at))
            case MilestoneNight(milestone=milestone, code=code) if night is not None:
                nights[event.run] = replace(night, results=(*night.results, (milestone, code)))
            case NightEnded(code=code) if night is not None:
                nights[event.run] = replace(night, ended=datetime.fromisoformat(event.at), code=code)
    return list(nights.values())


def due_before(at: str, moment: datetime, zone: tzinfo) -> datetime:
    """Return the last due time at or before a given time."""
    return _dues(at, moment - timedelta(days=3), moment, zone)[-1]


def missed(schedule: Schedule, nights: Sequence[Night], now: datetime, zone: tzinfo, *, alive: bool) -> list[datetime]:
    """Return due times of the last 30 days without a run before the next one, oldest first.

    Args:
        schedule: the installed entry.
        nights: its runs.
        now: the current time.
        zone: time zone of the schedule.
        alive: the last run is still in progress.
    """
    after = max(schedule.since, now - _LOOKED_AT)
    dues = _dues(schedule.at, after, now - LATE, zone)
    following = [*dues, now + timedelta(days=1)][1:]
    last = nights[-1] if nights else None
    spans = [(night.started, now if alive and night is last else night.ended or night.started) for night in nights]
    return [
        due
        for due, after_it in zip(dues, following, strict=True)
        if not any(due - LATE <= start < after_it - LATE or start <= due <= end for start, end in spans)
    ]


def night_deadline(until: str, due: datetime, zone: tzinfo) -> datetime | None:
    """Return the deadline of a run by its due time; a late run does not get the next morning instead."""
    return deadline_of(until, due, zone) if until else None


def _dues(at: str, after: datetime, before: datetime, zone: tzinfo) -> list[datetime]:
    """Return the due times between two times; once a day, even if the clock shows the time twice."""
    clock = clock_time(at)
    dues: dict[Any, datetime] = {}
    moment = next_at(clock, after, zone)
    while moment <= before:
        dues.setdefault(moment.astimezone(zone).date(), moment)
        moment = next_at(clock, moment, zone)
    return list(dues.values())


_KEPT_LOGS = 30  # logs; about a month of nights


@dataclass(frozen=True, slots=True)
class Outlook:
    """The nights up to now.

    Attributes:
        schedule: the installed entry.
        last: the last run; None without one.
        alive: it is still running.
        missed: due times without a run since the last one, oldest first.
    """

    schedule: Schedule
    last: Night | None
    alive: bool
    missed: list[datetime]


class Nights:
    """The folder of the nights."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "_nightly"
        self.digest = self.folder / "digest.md"

    def prepare(self) -> None:
        """Create the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def schedule(self) -> Schedule | None:
        """Return the installed entry by our record; the crontab takes precedence."""
        return Schedule.read(read_json(self.folder / "schedule.json"))

    def keep(self, schedule: Schedule | None) -> None:
        """Store the installed entry."""
        path = self.folder / "schedule.json"
        if schedule is None:
            path.unlink(missing_ok=True)
            return
        self.prepare()
        write_json(path, schedule.data())

    def nights(self) -> list[Night]:
        """Return the known runs, oldest first; none if their journal, which is only a cache, is unreadable."""
        try:
            return nights_of(segments.read(self.folder))
        except ExecutorError:
            return []

    def outlook(self, now: datetime, zone: tzinfo) -> Outlook | None:
        """Return the outlook on the nights; None without an installed entry."""
        schedule = self.schedule()
        if schedule is None:
            return None
        nights = self.nights()
        last = nights[-1] if nights else None
        alive = last is not None and last.ended is None and self.held()
        found = missed(schedule, nights, now, zone, alive=alive)
        return Outlook(schedule, last, alive, [due for due in found if last is None or due > last.started])

    def held(self) -> bool:
        """Return whether a nightly run is in progress."""
        return is_locked(self.folder / "lock")

    def log(self, started: datetime) -> Path:
        """Create the log of a new run; removes the oldest ones."""
        kept = sorted(self.folder.glob("*.log"))
        for path in kept[: max(0, len(kept) - _KEPT_LOGS + 1)]:
            path.unlink(missing_ok=True)
        return self.folder / f"{started:%Y%m%dT%H%M%S}.log"

    def latest_log(self) -> Path | None:
        """Return the log of the last run."""
        return max(self.folder.glob("*.log"), default=None)

    def note(self, line: str) -> None:
        """Append a line to the last log, from outside its run."""
        path = self.latest_log() or self.folder / "nightly.log"
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, f"{line}\n".encode())
            finally:
                os.close(descriptor)


MOST = 900
"""Maximum length of a line; some cron daemons refuse commands of a thousand characters."""
_NAME = "make-for-milestones"


def marker(folder: str) -> str:
    """Return the marker at the end of our line for a repository."""
    return f"# {_NAME}: {folder}".replace("%", r"\%")


def cron_line(when: str, folder: str, environment: Mapping[str, str], argv: Sequence[str]) -> str:
    """Return a crontab line that runs a command in a folder.

    Args:
        when: five fields, or ``@reboot``.
        folder: absolute path.
        environment: variables that cron does not set.
        argv: absolute program and its arguments.

    Raises:
        ValueError: it does not fit on one line, or is too long; the message is for people.
    """
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    command = f"cd {shlex.quote(folder)} && {given} {shlex.join(argv)}".replace("%", r"\%")
    line = f"{when} {command} {marker(folder)}"
    if not line.isprintable():
        raise ValueError(f"a crontab cannot contain control characters, found some in {line!a}")
    if len(line) > MOST:
        raise ValueError(
            f"the entry has {len(line)} characters, but at most {MOST} are safe in a crontab; install it with a "
            "shorter PATH, for example `PATH=/usr/local/bin:/usr/bin:/bin doit cron install`"
        )
    return line


def ours(text: str, folder: str) -> list[str]:
    """Return our lines of a crontab for a folder."""
    end = f" {marker(folder)}"
    return [line for line in text.split("\n") if line.endswith(end) and not line.startswith("#")]


def spliced(text: str, folder: str, lines: Sequence[str]) -> str:
    """Replace our lines for a folder in a crontab; every other byte is unchanged."""
    mine = set(ours(text, folder))
    kept = [line for line in text.split("\n") if line not in mine]
    if not lines:
        return "\n".join(kept)
    if kept and kept[-1] == "":
        kept.pop()
    return "\n".join([*kept, *lines, ""])


def systemd_units(at: str, folder: str, environment: Mapping[str, str], argv: Sequence[str]) -> str:
    """Return an equivalent service and timer for `~/.config/systemd/user/`."""
    given = "".join(f"Environment={_unit_quoted(f'{name}={value}')}\n" for name, value in environment.items())
    return (
        f"# ~/.config/systemd/user/{_NAME}.service\n"
        "[Unit]\n"
        f"Description=Nightly run of the milestones of {_unit_text(folder)}\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"WorkingDirectory={_unit_text(folder)}\n"
        f"{given}"
        f"ExecStart={' '.join(map(_unit_quoted, argv))}\n"
        "SuccessExitStatus=75\n"
        "\n"
        f"# ~/.config/systemd/user/{_NAME}.timer\n"
        "[Unit]\n"
        f"Description=Every night at {at}\n"
        "\n"
        "[Timer]\n"
        f"OnCalendar=*-*-* {at}:00\n"
        "Persistent=true\n"
        "\n"
        "[Install]\n"
        "WantedBy=timers.target\n"
    )


def _unit_text(text: str) -> str:
    return text.replace("%", "%%")


def _unit_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{_unit_text(escaped)}"'


_NAMES = frozenset({"cron", "crond", "fcron", "dcron", "bcron-sched"})
_PATIENCE = 30.0  # seconds; `crontab` edits one small file


def read() -> str:
    """Return the user's crontab; empty if there is none.

    Raises:
        ExecutorError: there is no `crontab` command, or it fails.
    """
    done = _crontab("-l")
    if done.returncode == 0:
        return done.stdout
    if "no crontab for" in done.stderr:
        return ""
    raise ExecutorError(f"`crontab -l` failed: {done.stderr.strip()}")


def write(text: str) -> None:
    """Replace the user's crontab.

    Raises:
        ExecutorError: `crontab` refuses it; the old one remains.
    """
    done = _crontab("-", text)
    if done.returncode != 0:
        raise ExecutorError(f"`crontab` refused the new entry: {done.stderr.strip()}; nothing was changed")


def valid(line: str) -> bool:
    """Return whether a line is a valid crontab entry."""
    from crontab import CronTab

    jobs = list(CronTab(tab=f"{line}\n"))
    return len(jobs) == 1 and jobs[0].is_valid() and jobs[0].is_enabled()


def daemon_runs() -> bool:
    """Return whether a cron daemon is running."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text(encoding="utf-8", errors="replace").strip() in _NAMES:
                return True
        except OSError:
            continue
    return False


def _crontab(argument: str, given: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["crontab", argument],  # noqa: S607  (where the user's system has it)
            input=given,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise ExecutorError(
            "the command `crontab` is missing; install cron, or use the timer of `doit cron show --systemd`"
        ) from None
    except subprocess.TimeoutExpired:
        raise ExecutorError(f"`crontab {argument}` did not answer within {_PATIENCE:.0f} s") from None


def read_env_file(name: str) -> dict[str, str]:
    """Read the variables of a file with python-dotenv: comments, quotes, `export`; nothing is expanded.

    Raises:
        UsageError: it is unreadable, others can read it, or a line is not NAME=VALUE.
    """
    path = Path(name).expanduser()
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise UsageError(f"--env-file {path} can be read by others; `chmod 600` it")
    found: dict[str, str] = {}
    from dotenv.parser import parse_stream

    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key is not None and (binding.value is None or not binding.key.isidentifier())):
            blank = len(binding.original.string) - len(binding.original.string.lstrip("\n"))
            line = binding.original.line + blank
            raise UsageError(f"--env-file {path}, line {line}: expected NAME=VALUE")
        if binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    return found
