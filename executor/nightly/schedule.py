"""Nights: due times of the nightly entry, its runs, and missed ones. Pure: current time and zone are parameters.

The record of the nights in `.cache/_nightly`: the schedule, a journal of the runs, one log each, the last digest.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError
from executor.model.clock import clock_time, deadline_of, next_at
from executor.process.files import is_locked, read_json, write_json
from executor.state import segments
from executor.state.events import MilestoneNight, NightEnded, NightStarted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from executor.state.record import Record

__all__ = ["LATE", "Night", "Nights", "Outlook", "Schedule", "due_before", "missed", "night_deadline", "nights_of"]


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


_KEPT_LOGS = 30


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
