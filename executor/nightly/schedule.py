"""Nights: when the nightly entry is due, which runs there were, and which were missed. Pure: now and zone are given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from executor.model.deadline import clock_time, deadline_of, next_at
from executor.state.events import MilestoneNight, NightEnded, NightStarted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import tzinfo

    from executor.state.record import Record

__all__ = ["LATE", "Night", "Schedule", "due_before", "missed", "night_deadline", "nights_of"]

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
