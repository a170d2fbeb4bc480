"""What counts as a blocker, what it says, and when it is a thing of the past."""

from __future__ import annotations

import pytest

from executor.engine.watcher import Working, from_event, from_working
from executor.state.events import BlockerFound
from executor.state.fold import Blocker, blockers_of, read_blocker
from executor.state.record import Record

SILENT = Blocker(
    "silence",
    "a",
    "attempt 2",
    "the agent of m1/a has given no sign of life for 5 minutes",
    "no action needed: it is ended when it is idle for too long; see `doit log m1/a`",
)
LONG = Blocker(
    "long",
    "a",
    "attempt 2",
    "m1/a has taken more than an hour",
    "see `doit log m1/a`; doit milestone:m1 continues with the other issues",
)
PAUSING = Blocker("long", "a", "attempt 1", "long", "wait", pauses=True)
RED = Blocker("red-base", "a", "tip: red", "m1/a: red", "mend it")
CONFLICT = Blocker("conflict", "a", "attempt 1", "m1/a: conflict", "retry")
CHANGED = Blocker("declaration", "", "milestones/m1.toml", "changed", "run again")


def event(kind: str, key: str = "a", run: str = "r1", **data: object) -> Record:
    return Record(1, "2026-11-21T01:30:00.000Z", "", run, kind, key, data)


def told(blocker: Blocker, run: str = "r1") -> Record:
    return event(BlockerFound.KIND, blocker.issue, run, **blocker.data())


@pytest.mark.parametrize(
    ("working", "expected"),
    [
        (Working("a", 2, 3599.0, 299.0), []),
        (Working("a", 2, 3599.0, None), []),
        (Working("a", 2, 400.0, 300.0), [SILENT]),
        (Working("a", 2, 3600.0, 3.0), [LONG]),
        (Working("a", 2, 4000.0, 400.0), [SILENT, LONG]),
    ],
)
def test_silence_and_length_are_noticed_at_their_limits(working: Working, expected: list[Blocker]) -> None:
    assert from_working("m1", [working], 300.0, 3600.0) == expected


@pytest.mark.parametrize(
    ("happened", "kind", "reason"),
    [
        (
            event("stopped", rule="merge-conflict", attempt=1, reason="conflict in x"),
            "conflict",
            "m1/a: conflict in x",
        ),
        (event("stopped", rule="secrets", attempt=1, reason="a key"), "", ""),
        (
            event("base-red", tip="abc", check_key="k", reason="check tests fails"),
            "red-base",
            "m1/a: check tests fails",
        ),
        (
            event("attempt-failed", attempt=1, failure="limit", reason="limit until 06:00"),
            "limit",
            "m1/a: limit until 06:00",
        ),
        (event("attempt-failed", attempt=1, failure="checks", reason="exit 1"), "", ""),
        (event("landed", attempt=1), "", ""),
    ],
)
def test_an_event_can_be_a_blocker(happened: Record, kind: str, reason: str) -> None:
    found = from_event("m1", happened)
    assert (found.kind, found.reason) == (kind, reason) if found is not None else not kind


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], []),
        ([told(SILENT)], [SILENT]),
        ([told(SILENT), event("attempt-built", "b")], [SILENT]),
        ([told(SILENT), event("attempt-built")], []),
        ([told(CONFLICT), event("attempt-built", run="r2")], [CONFLICT]),
        ([told(CONFLICT), event("retried", run="r2")], []),
        ([told(RED), event("attempt-started", run="r2")], []),
        # what belongs to a whole run, or paused it, ends with the next one and not before
        ([told(CHANGED), event("landed")], [CHANGED]),
        ([told(CHANGED), event("landed", run="r2")], []),
        ([told(PAUSING), event("landed")], [PAUSING]),
        ([told(PAUSING), event("attempt-started", "b", run="r2")], []),
    ],
)
def test_what_is_in_the_way_still_is_folded_from_the_journal(events: list[Record], expected: list[Blocker]) -> None:
    assert blockers_of(events) == expected


def test_a_blocker_is_read_back_as_it_was_recorded() -> None:
    assert [read_blocker(item.issue, item.event()) for item in (SILENT, PAUSING, CHANGED)] == [SILENT, PAUSING, CHANGED]


def test_a_red_base_is_one_thing_for_all_issues_that_it_holds_back() -> None:
    other = Blocker("red-base", "b", RED.about, "m1/b: red", "mend it")
    assert other.report_key == RED.report_key
    assert CONFLICT.report_key != Blocker("conflict", "b", CONFLICT.about, "m1/b: conflict", "retry").report_key
