"""The moment that a deadline means, over midnight and over the nights on which the clock is set."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from executor.model.clock import clock_time, deadline_of, next_at, too_late, zone_time

BERLIN = ZoneInfo("Europe/Berlin")
"""+01:00 in winter; on 2026-03-29 the clock goes from 02:00 to 03:00, on 2026-10-25 from 03:00 to 02:00."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2026-11-20T22:30", "06:00", "2026-11-21T05:00"),
        ("2026-11-21T00:30", "06:00", "2026-11-21T05:00"),
        ("2026-11-21T04:59", "6:00", "2026-11-21T05:00"),
        ("2026-11-21T05:00", "06:00", "2026-11-22T05:00"),
        ("2026-11-21T22:59", "23:59", "2026-11-22T22:59"),
        ("2026-11-21T23:30", "00:00", "2026-11-22T23:00"),
        # the night that is an hour short, and the one that is an hour long
        ("2026-03-28T23:00", "06:00", "2026-03-29T04:00"),
        ("2026-10-24T22:00", "06:00", "2026-10-25T05:00"),
        # a time that the clock skips comes as long after the skip
        ("2026-03-28T23:00", "02:30", "2026-03-29T01:30"),
        # a time that it shows twice comes twice
        ("2026-10-24T22:00", "02:30", "2026-10-25T00:30"),
        ("2026-10-25T00:45", "02:30", "2026-10-25T01:30"),
        ("2026-10-25T01:30", "02:30", "2026-10-26T01:30"),
        # with a date: that moment, also when it is past
        ("2026-11-21T12:00", "2026-11-21T06:00", "2026-11-21T05:00"),
        ("2026-11-21T12:00", "2026-11-22 06:00", "2026-11-22T05:00"),
        ("2026-11-21T12:00", "2026-11-22T06:00:00+00:00", "2026-11-22T06:00"),
    ],
)
def test_a_deadline_is_the_next_moment_at_which_the_clock_shows_it(now: str, text: str, expected: str) -> None:
    assert deadline_of(text, utc(now), BERLIN) == utc(expected)


@pytest.mark.parametrize(
    "text", ["", "6", "24:00", "06:60", "6am", "-1:00", "2026-11-21", "tomorrow", "06:00\n", "\u0660\u0666:00"]
)
def test_anything_else_is_refused_with_what_was_expected(text: str) -> None:
    now = utc("2026-11-21T12:00")
    with pytest.raises(ValueError, match=r"^expected a time such as 06:00 or 2030-01-31T06:00, found "):
        deadline_of(text, now, BERLIN)


def test_a_time_of_day_is_checked() -> None:
    assert clock_time("1:30") == time(1, 30)
    with pytest.raises(ValueError, match='expected a time of day such as 06:00, found "25:00"'):
        clock_time("25:00")


@pytest.mark.parametrize(
    ("now", "seconds", "expected"),
    [
        ("2026-11-21T04:00", 3600, None),
        ("2026-11-21T04:00", 3601, "expected to take 60 min, but 60 min are left until 2026-11-21 06:00 CET"),
        ("2026-11-21T04:59", 90, "expected to take 90 s, but 60 s are left until 2026-11-21 06:00 CET"),
        ("2026-11-21T04:59", 0, None),
        ("2026-11-21T05:00", 0, "no issue starts after 2026-11-21 06:00 CET"),
        ("2026-11-21T09:00", 60, "no issue starts after 2026-11-21 06:00 CET"),
    ],
)
def test_what_cannot_end_in_time_is_not_begun(now: str, seconds: float, expected: str | None) -> None:
    assert too_late(utc("2026-11-21T05:00"), utc(now), seconds, BERLIN) == expected


def test_every_day_has_the_moment_once_or_twice_and_is_reported_by_the_local_clock() -> None:
    moment, seen = utc("2026-01-01T00:00"), []
    while moment < utc("2027-01-01T00:00"):
        moment = next_at(time(2, 30), moment, BERLIN)
        seen.append(zone_time(moment, BERLIN))
    days = [at[:16] for at in seen]
    assert len(set(days)) == 366
    assert {day for day in days if days.count(day) == 2} == {"2026-10-25 02:30"}
    assert {"2026-03-29 03:30 CEST", "2026-10-25 02:30 CEST", "2026-10-25 02:30 CET"} <= set(seen)
