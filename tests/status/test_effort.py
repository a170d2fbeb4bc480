"""How long landed issues took."""

from __future__ import annotations

from typing import Any

import pytest

from executor.state.record import Record, moment
from executor.status.estimate import took


def events(*told: tuple[int, str, str, str, dict[str, Any]]) -> list[Record]:
    """(second, run, kind, issue, data) as records."""
    return [
        Record(number, f"2026-01-02T03:{second // 60:02}:{second % 60:02}.000Z", "", run, kind, issue, data)
        for number, (second, run, kind, issue, data) in enumerate(told, 1)
    ]


STARTED, BUILT, LANDED, FAILED = "attempt-started", "attempt-built", "landed", "attempt-failed"
CASES: dict[str, tuple[list[Record], list[tuple[str, float]]]] = {
    "nothing": ([], []),
    "one attempt, from start to landing": (
        events((0, "r", STARTED, "a", {}), (40, "r", BUILT, "a", {}), (60, "r", LANDED, "a", {})),
        [("a", 60)],
    ),
    "a failed attempt counts, the time until the next one does not": (
        events(
            *((0, "r", STARTED, "a", {}), (10, "r", FAILED, "a", {}), (100, "r", STARTED, "a", {})),
            (105, "r", LANDED, "a", {}),
        ),
        [("a", 15)],
    ),
    "time between two runs does not count": (
        events(
            *((0, "r1", STARTED, "a", {}), (30, "r1", BUILT, "a", {})),
            *((1000, "r2", "checked", "a", {"seconds": 4.0}), (1002, "r2", LANDED, "a", {})),
        ),
        [("a", 36)],
    ),
    "a second revision is a duration of its own": (
        events(
            *((0, "r", STARTED, "a", {}), (5, "r", LANDED, "a", {})),
            *((50, "r", STARTED, "a", {}), (57, "r", LANDED, "a", {})),
        ),
        [("a", 5), ("a", 7)],
    ),
    "issues side by side": (
        events(
            *((0, "r", STARTED, "a", {}), (1, "r", STARTED, "b", {})),
            *((9, "r", LANDED, "b", {}), (10, "r", LANDED, "a", {})),
        ),
        [("b", 8), ("a", 10)],
    ),
    "a landing of which the beginning is not known": (events((9, "r", LANDED, "a", {})), []),
}


@pytest.mark.parametrize("name", CASES)
def test_how_long_issues_took(name: str) -> None:
    told, expected = CASES[name]
    assert took(told) == expected


def test_a_time_that_is_none_is_the_beginning_of_time() -> None:
    assert moment("yesterday") == 0.0
    assert moment("1970-01-01T00:01:00.500Z") == 60.5
