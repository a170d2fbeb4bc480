"""Which nights were missed, over late runs, runs that go on into the next night, and clocks that are set."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from executor.model.clock import zone_time
from executor.report.nights import Night, Schedule, due_before, missed, night_deadline, nights_of
from executor.state.record import Record

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    """A moment by the clock in Berlin: `21 01:30` in November 2026, or a whole date."""
    full = text if text.count("-") else f"2026-11-{text.replace(' ', 'T')}"
    return datetime.fromisoformat(full).replace(tzinfo=BERLIN).astimezone(UTC)


def night(started: str, ended: str = "") -> Night:
    return Night(started, at(started), at(ended) if ended else None, 0 if ended else None)


def event(kind: str, run: str, text: str, **data: object) -> Record:
    return Record(1, at(text).isoformat(), "", run, kind, "", data)


@pytest.mark.parametrize(
    ("since", "nights", "now", "alive", "expected"),
    [
        ("20 12:00", [], "20 13:00", False, []),
        ("20 12:00", [], "21 01:31", False, []),  # two minutes' grace
        ("20 12:00", [], "21 01:33", False, ["21 01:30"]),
        ("20 12:00", [night("21 01:30", "21 05:00")], "21 09:00", False, []),
        ("20 12:00", [night("21 01:30", "21 05:00")], "23 09:00", False, ["22 01:30", "23 01:30"]),
        # started by hand, later than due: that night is done
        ("20 12:00", [night("21 08:00", "21 09:00")], "21 10:00", False, []),
        ("20 12:00", [night("21 08:00", "21 09:00")], "22 10:00", False, ["22 01:30"]),
        # one that went on into the next night
        ("20 12:00", [night("21 01:30", "22 03:00")], "22 10:00", False, []),
        ("20 12:00", [night("21 01:30")], "22 10:00", True, []),
        # one that was killed was a run of its night, and of no other
        ("20 12:00", [night("21 01:30")], "22 10:00", False, ["22 01:30"]),
        # what was before it was installed does not count
        ("21 02:00", [], "21 10:00", False, []),
    ],
)
def test_a_night_is_missed_when_nothing_ran_between_two_dues(
    since: str, nights: list[Night], now: str, alive: bool, expected: list[str]
) -> None:
    schedule = Schedule("01:30", "06:00", (), at(since))
    found = missed(schedule, nights, at(now), BERLIN, alive=alive)
    assert found == [at(text) for text in expected]


@pytest.mark.parametrize(
    ("since", "now", "expected"),
    [
        ("2026-10-24T12:00", "2026-10-25T12:00", ["2026-10-25 02:30 CEST"]),  # shown twice, due once
        ("2026-03-28T12:00", "2026-03-29T12:00", ["2026-03-29 03:30 CEST"]),  # skipped, due after the skip
    ],
)
def test_an_entry_is_due_once_on_the_nights_on_which_the_clock_is_set(
    since: str, now: str, expected: list[str]
) -> None:
    found = missed(Schedule("02:30", "", (), at(since)), [], at(now), BERLIN, alive=False)
    assert [zone_time(due, BERLIN) for due in found] == expected


def test_only_the_last_thirty_days_are_looked_at() -> None:
    found = missed(Schedule("01:30", "", (), at("2026-01-01T00:00")), [], at("21 12:00"), BERLIN, alive=False)
    assert len(found) == 30


@pytest.mark.parametrize(
    ("started", "due", "deadline"),
    [
        ("21 01:30", "21 01:30", "21 06:00"),
        ("21 08:00", "21 01:30", "21 06:00"),
        ("21 01:29", "20 01:30", "20 06:00"),
    ],
)
def test_a_late_run_keeps_the_deadline_of_its_night(started: str, due: str, deadline: str) -> None:
    assert due_before("01:30", at(started), BERLIN) == at(due)
    assert night_deadline("06:00", at(due), BERLIN) == at(deadline)


def test_there_need_not_be_a_deadline() -> None:
    assert night_deadline("", at("21 01:30"), BERLIN) is None


def test_a_journal_tells_of_nights() -> None:
    events = [
        event("night-started", "a", "21 01:30"),
        event("night-milestone", "a", "21 02:30", milestone="m1", code=0),
        event("night-milestone", "a", "21 03:30", milestone="m2", code=4),
        event("night-ended", "a", "21 03:30", code=4),
        event("notified", "a", "21 03:31", channel="mail", of="x"),
        event("night-started", "b", "22 01:30"),
        event("night-ended", "unknown", "22 01:31", code=0),
    ]
    assert nights_of(events) == [
        Night("a", at("21 01:30"), at("21 03:30"), 4, (("m1", 0), ("m2", 4))),
        Night("b", at("22 01:30")),
    ]


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"at": "99:00", "until": "", "milestones": [], "since": "2026-11-21T00:00:00+00:00"}, {"at": 3}],
)
def test_a_schedule_that_cannot_be_read_is_none(data: object) -> None:
    assert Schedule.read(data) is None


def test_a_schedule_is_read_back() -> None:
    schedule = Schedule("01:30", "06:00", ("m1", "m2"), at("21 12:00"))
    assert Schedule.read(schedule.data()) == schedule
