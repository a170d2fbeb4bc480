"""Nights: when the nightly entry is due, which runs there were, and which were missed. Pure: now and zone are given.

What `.cache/_nightly` keeps of the nights: the schedule, a journal of the runs, one log each, the last digest.
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
"""So much later than due an entry is still in time; sooner than that no night is called missed."""
_LOOKED_AT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The nightly entry.

    Attributes:
        at: time of day, ``01:30``.
        until: deadline as for `--until`, or empty.
        milestones: ids; none means all that are not complete.
        since: when the entry was installed.
    """

    at: str
    until: str
    milestones: tuple[str, ...]
    since: datetime

    def data(self) -> dict[str, object]:
        """As JSON."""
        return {
            "at": self.at,
            "until": self.until,
            "milestones": list(self.milestones),
            "since": self.since.isoformat(),
        }

    @classmethod
    def read(cls, data: Any) -> Schedule | None:
        """From JSON; None if it is no schedule."""
        try:
            clock_time(data["at"])
            since = datetime.fromisoformat(data["since"]).astimezone(UTC)
            return cls(data["at"], str(data["until"]), tuple(map(str, data["milestones"])), since)
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Night:
    """One run of the nightly entry.

    Attributes:
        run: its id.
        started: when.
        ended: when; None if it died or is still at work.
        code: its exit code, once it has ended.
        results: exit code of each milestone that was run.
    """

    run: str
    started: datetime
    ended: datetime | None = None
    code: int | None = None
    results: tuple[tuple[str, int], ...] = ()


def nights_of(events: Iterable[Record]) -> list[Night]:
    """The nights in a journal, oldest first."""
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
    """The last time before or at a moment that the entry was due."""
    return _dues(at, moment - timedelta(days=3), moment, zone)[-1]


def missed(schedule: Schedule, nights: Sequence[Night], now: datetime, zone: tzinfo, *, alive: bool) -> list[datetime]:
    """When the entry was due and nothing ran until the next time, oldest first; of the last 30 days.

    Args:
        schedule: the installed entry.
        nights: the runs there were.
        now: the present.
        zone: of the clock that the schedule means.
        alive: whether the last of them is still at work.
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
    """By when a run that was due at a moment has to have ended; a late one does not get the next morning for it."""
    return deadline_of(until, due, zone) if until else None


def _dues(at: str, after: datetime, before: datetime, zone: tzinfo) -> list[datetime]:
    """When the entry is due after one moment and up to another; once a day, also when the clock shows it twice."""
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
    """The nights up to a moment.

    Attributes:
        schedule: the installed entry.
        last: the last run, if there was one.
        alive: whether it is still at work.
        missed: when a run was due and there was none, oldest first, since the last one that there was.
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
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def schedule(self) -> Schedule | None:
        """The installed entry by our own record; the crontab has the last word."""
        return Schedule.read(read_json(self.folder / "schedule.json"))

    def keep(self, schedule: Schedule | None) -> None:
        """Remember what is installed."""
        path = self.folder / "schedule.json"
        if schedule is None:
            path.unlink(missing_ok=True)
            return
        self.prepare()
        write_json(path, schedule.data())

    def nights(self) -> list[Night]:
        """The runs that are known, oldest first; none if their journal cannot be read, which is only a cache."""
        try:
            return nights_of(segments.read(self.folder))
        except ExecutorError:
            return []

    def outlook(self, now: datetime, zone: tzinfo) -> Outlook | None:
        """The outlook on the nights; None if no entry is installed."""
        schedule = self.schedule()
        if schedule is None:
            return None
        nights = self.nights()
        last = nights[-1] if nights else None
        alive = last is not None and last.ended is None and self.held()
        found = missed(schedule, nights, now, zone, alive=alive)
        return Outlook(schedule, last, alive, [due for due in found if last is None or due > last.started])

    def held(self) -> bool:
        """Whether a nightly run is at work now."""
        return is_locked(self.folder / "lock")

    def log(self, started: datetime) -> Path:
        """The log of a new run; the oldest ones are removed."""
        kept = sorted(self.folder.glob("*.log"))
        for path in kept[: max(0, len(kept) - _KEPT_LOGS + 1)]:
            path.unlink(missing_ok=True)
        return self.folder / f"{started:%Y%m%dT%H%M%S}.log"

    def latest_log(self) -> Path | None:
        """The log of the last run."""
        return max(self.folder.glob("*.log"), default=None)

    def note(self, line: str) -> None:
        """Say something in the last log, from outside the run that writes it."""
        path = self.latest_log() or self.folder / "nightly.log"
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, f"{line}\n".encode())
            finally:
                os.close(descriptor)
