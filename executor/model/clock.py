"""Deadlines: the moment that "06:00" means, and whether something can end before it. Pure: now and zone are given."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

from executor.model.hints import quoted

__all__ = ["clock_time", "deadline_of", "next_at", "too_late", "zone_time"]

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)


def clock_time(text: str) -> time:
    """Parse a time of day.

    Raises:
        ValueError: it is invalid; the message is for people.
    """
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a time of day such as 06:00, found {quoted(text)}")
    return time(int(match[1]), int(match[2]))


def next_at(clock: time, after: datetime, zone: tzinfo) -> datetime:
    """Return the first time after `after` at which a clock in that zone shows a time of day; in UTC.

    On the night on which the clock skips it, it is as long after the skip as it would have been without one; on the
    night on which the clock shows it twice, both count.
    """
    today = after.astimezone(zone).date()
    found = [
        moment
        for day in range(-1, 3)
        for moment in _moments(datetime.combine(today + timedelta(days=day), clock), zone)
        if moment > after
    ]
    return min(found)


def deadline_of(text: str, now: datetime, zone: tzinfo) -> datetime:
    """Return the time of a time of day (its next occurrence) or of a date and a time; in UTC.

    Raises:
        ValueError: it is neither; the message is for people.
    """
    if _CLOCK.fullmatch(text):
        return next_at(clock_time(text), now, zone)
    try:
        moment = datetime.fromisoformat(text) if ":" in text else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError(f"expected a time such as 06:00 or 2030-01-31T06:00, found {quoted(text)}")
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).astimezone(UTC)


def too_late(deadline: datetime, now: datetime, seconds: float, zone: tzinfo) -> str | None:
    """Return why work of so many seconds must not start any more; None if it may.

    Args:
        deadline: its latest end.
        now: the current time.
        seconds: expected duration; 0 for work that only must not start after the deadline.
        zone: time zone of the displayed time.
    """
    if now >= deadline:
        return f"no issue starts after {zone_time(deadline, zone)}"
    if now + timedelta(seconds=seconds) > deadline:
        left = (deadline - now).total_seconds()
        return f"expected to take {_minutes(seconds)}, but {_minutes(left)} are left until {zone_time(deadline, zone)}"
    return None


def zone_time(moment: datetime, zone: tzinfo) -> str:
    """Format a time as local time in that zone, with the zone's name."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"


def _moments(naive: datetime, zone: tzinfo) -> list[datetime]:
    """Return the times at which a clock shows this: one, two if it was set back, the one after the gap otherwise."""
    both = [naive.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    shown = [moment for moment in both if moment.astimezone(zone).replace(tzinfo=None) == naive]
    return shown or both[:1]


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004  (two minutes)
