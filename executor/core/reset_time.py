"""When a limit is lifted, as agents say it: in seconds, as a duration, an epoch or a time of the clock. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

__all__ = ["reset_time"]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FARTHEST = 32 * 86_400
_PART = r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![A-Za-z])"
_DURATION = re.compile(
    r"(?:retry|try again|wait|resets?|available|lifted|again)(?:\s+\w+){0,2}?\s*(?:in|after|for|:|=)?\s*"
    rf"({_PART}(?:[\s,]*(?:and\s+)?{_PART})*)",
    re.IGNORECASE,
)
_SECONDS = re.compile(r"retry[-_ ]after[\"']?\s*[:=]?\s*[\"']?(\d+(?:\.\d+)?)(?![\d:])", re.IGNORECASE)
_EPOCH = re.compile(r"(?:\||reset\w*[\"']?\s*(?:at\s*)?[:=]?\s*)(1[5-9]\d{8}|2\d{9})(\d{3})?\b", re.IGNORECASE)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)")
_CLOCK = re.compile(
    r"(?:resets?|try again|available|until|lifted|after)\s+(?:again\s+)?(?:at\s+|on\s+)?"
    r"(?:(?P<month>[A-Z][a-z]{2,8})\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+(?:(?P<year>\d{4})\s*,?\s+)?(?:at\s+)?)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?\s*(?P<half>[ap])?\.?m?\.?(?![\w:])\s*(?:\((?P<zone>[A-Za-z_+\-/0-9]+)\)|(?P<utc>UTC|GMT))?",
    re.IGNORECASE,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def reset_time(text: str, now: datetime) -> float | None:
    """The moment after `now` that a text names, as epoch seconds; None if it names none within a month.

    Args:
        text: for example ``resets 6am (UTC)``, ``Please try again in 1h 20m``, ``limit reached|1763704800``.
        now: the present moment, with the time zone in which times of the clock are meant.
    """
    for read in (_epoch, _iso, _seconds, _duration, _clock):
        found = read(text, now)
        if found is not None and 0 <= found - now.timestamp() <= _FARTHEST:
            return found
    return None


def _epoch(text: str, _now: datetime) -> float | None:
    match = _EPOCH.search(text)
    return float(match[1]) if match else None


def _iso(text: str, now: datetime) -> float | None:
    match = _ISO.search(text)
    if match is None:
        return None
    try:
        moment = datetime.fromisoformat(match[1])
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo or UTC)).timestamp()


def _seconds(text: str, now: datetime) -> float | None:
    match = _SECONDS.search(text)
    if match is None or _DURATION.match(text, match.start()):
        return None
    return now.timestamp() + float(match[1])


def _duration(text: str, now: datetime) -> float | None:
    match = _DURATION.search(text)
    if match is None:
        return None
    return now.timestamp() + sum(
        float(number) * _UNITS["ms" if unit.lower().startswith(("ms", "milli")) else unit[0].lower()]
        for number, unit in re.findall(_PART, match[1], re.IGNORECASE)
    )


def _clock(text: str, now: datetime) -> float | None:
    for match in _CLOCK.finditer(text):
        if match["half"] is None and match["minute"] is None:
            continue
        hour, minute = int(match["hour"]), int(match["minute"] or 0)
        if match["half"]:
            hour = hour % 12 + (12 if match["half"].lower() == "p" else 0)
        local = now.astimezone(_zone(match["zone"] or match["utc"], now.tzinfo))
        try:
            moment = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
            if match["month"]:
                month = _MONTHS.index(match["month"][:3].lower()) + 1
                moment = moment.replace(year=int(match["year"] or local.year), month=month, day=int(match["day"]))
        except ValueError:
            continue
        if not match["month"] and moment <= local:
            moment += timedelta(days=1)
        return moment.timestamp()
    return None


def _zone(name: str | None, own: tzinfo | None) -> tzinfo | None:
    if name is None:
        return own
    try:
        return UTC if name.upper() in {"UTC", "GMT"} else ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return own
