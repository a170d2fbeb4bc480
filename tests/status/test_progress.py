"""Progress of a milestone, who is at work, and the expected end."""

from __future__ import annotations

from typing import Any

import pytest

from executor.state.decide import counts
from executor.state.record import Record
from executor.status.progress import Ahead, Part, activities, expected_end, percent, planned_percent, stalled

STARTED = {"attempt": 1, "agent": "claude"}


def events(*told: tuple[int, str, str, str, dict[str, Any]]) -> list[Record]:
    """(second, run, kind, issue, data) as records of the year 1970."""
    return [
        Record(
            number, f"1970-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z", "", run, kind, key, data
        )
        for number, (second, run, kind, key, data) in enumerate(told, 1)
    ]


@pytest.mark.parametrize(
    ("plan", "others", "expected"),
    [
        (Part("L", "running", steps=0), [], 0),
        (Part("L", "running", steps=100 * 15 // 60), [], 15),
        (Part("L", "running", steps=100 * 40 // 60), [], 40),
        (Part("L", "landed"), [], 60),
        (Part("L", "landed"), [Part("M", "landed"), Part("M", "pending")], 80),
        (Part("L", "landed"), [Part("M", "landed")], 100),
    ],
)
def test_a_milestone_that_is_planned_has_the_weights_of_its_phases(
    plan: Part, others: list[Part], expected: int
) -> None:
    assert planned_percent(plan, others, 60) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], 100),
        ([Part("M", "landed")], 100),
        ([Part("M", "landed"), Part("M", "pending")], 50),
        ([Part("M", "running", steps=15)], 15),
        ([Part("M", "running", steps=100)], 99),
        ([Part("S", "landed"), Part("M", "pending"), Part("L", "pending")], 14),
        ([Part("L", "landed"), Part("S", "pending")], 80),
        ([Part("M", "open"), Part("M", "pending")], 30),
        ([Part("M", "running", built=True), Part("M", "running")], 30),
        ([Part("M", "running", steps=50), Part("M", "landed")], 75),
        ([Part("M", "failed"), Part("M", "review"), Part("M", "skipped")], 0),
        ([Part("S", "landed")] * 199 + [Part("S", "stale")], 99),
        ([Part("L", "landed")] * 999 + [Part("S", "open")], 99),
    ],
)
def test_per_cent_are_weighed_by_size_and_are_100_only_at_the_end(parts: list[Part], expected: int) -> None:
    assert percent(parts) == expected


def test_what_has_landed_is_counted_first() -> None:
    assert list(counts(["pending", "landed", "failed", "landed"]).items()) == [
        ("landed", 2),
        ("failed", 1),
        ("pending", 1),
    ]


@pytest.mark.parametrize(("quiet", "expected"), [(0, False), (299, False), (300, True), (1e6, True)])
def test_five_minutes_without_a_sign_of_life_are_stalled(quiet: float, expected: bool) -> None:
    assert stalled(quiet) is expected


def test_activity_follows_an_issue_from_its_start_until_it_has_landed() -> None:
    story = events(
        (0, "r", "attempt-started", "a", STARTED),
        (5, "r", "attempt-failed", "a", {"attempt": 1}),
        (6, "r", "attempt-started", "a", {"attempt": 2, "agent": "claude"}),
        (20, "r", "attempt-built", "a", {"attempt": 2}),
        (30, "r", "checked", "a", {"seconds": 9.0}),
        (31, "r", "landed", "a", {}),
    )
    found = [activities(story[:count], "r").get("a") for count in range(len(story) + 1)]
    assert [(item.attempt, item.since, item.last, item.built) if item else None for item in found] == [
        None,
        (1, 0, 0, False),
        (1, 0, 5, False),
        (2, 0, 6, False),
        (2, 0, 20, True),
        (2, 0, 30, True),
        None,
    ]


def test_what_says_that_an_agent_is_silent_is_no_sign_of_life() -> None:
    blocker = {"blocker": "silence", "about": "a", "reason": "quiet", "resume": "look", "pauses": False}
    story = events(
        (0, "r", "attempt-started", "a", STARTED),
        (300, "r", "agent-silent", "a", {"agent": "claude", "silent_s": 300.0}),
        (300, "r", "blocker", "a", blocker),
    )
    assert activities(story, "r")["a"].last == 0


def test_activity_of_another_run_is_none() -> None:
    assert not activities(events((0, "r1", "attempt-started", "a", STARTED)), "r2")


def test_a_check_of_a_result_of_an_earlier_run_is_activity_since_the_check_began() -> None:
    (found,) = activities(events((60, "r", "checked", "a", {"seconds": 20.0})), "r").values()
    assert (found.agent, found.since, found.built) == ("", 40, True)


PAST = events((0, "r", "attempt-started", "x", STARTED), (100, "r", "landed", "x", {}))


@pytest.mark.parametrize(
    ("ahead", "issues"),
    [
        ([], 0),
        ([Ahead("m/x", "M", "landed")], 0),
        ([Ahead("m/a", "M", "pending")], 1),
        (
            [
                Ahead("m/a", "M", "failed"),
                Ahead("m/b", "M", "blocked", ("m/a",)),
                Ahead("m/c", "M", "blocked", ("m/b",)),
            ],
            0,
        ),
        ([Ahead("m/a", "M", "failed", elapsed=3), Ahead("m/b", "M", "blocked", ("m/a",))], 2),
        ([Ahead("m/a", "M", "pending", ("other/z",))], 1),
    ],
)
def test_the_end_is_that_of_what_can_land_without_a_person(ahead: list[Ahead], issues: int) -> None:
    found = expected_end(ahead, PAST, {"x": "M"}, 2)
    assert (found.issues if found else 0) == issues


def test_the_end_rests_on_how_long_issues_took() -> None:
    ahead = [Ahead("m/a", "M", "pending"), Ahead("m/b", "M", "blocked", ("m/a",)), Ahead("m/c", "M", "pending")]
    known = expected_end(ahead, PAST, {"x": "M"}, 2)
    guessed = expected_end(ahead, [], {}, 2)
    tried = events((0, "", "checked", "r", {"check": "tests", "tree": "t", "ok": True, "seconds": 90.0}))
    measured = expected_end(ahead, tried, {}, 2)
    assert guessed is not None
    assert measured is not None
    assert measured.seconds >= guessed.seconds + 90.0, "a check that was tried on the base is part of a guess"
    assert known is not None
    assert guessed is not None
    assert (known.known, guessed.known) == (1, 0)
    assert 150 < known.seconds < 450 < guessed.seconds
