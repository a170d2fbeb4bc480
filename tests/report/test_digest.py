"""The page of the morning, whole."""

from __future__ import annotations

from typing import Any

from executor.report.nights import digest_of
from executor.state.record import Record

SINCE = "2026-11-21T01:30:00.000Z"


def event(at: str, kind: str, key: str, **data: object) -> Record:
    return Record(1, f"2026-11-{at}:00.000Z", "", "r", kind, key, data)


def row(ref: str, status: str, reason: str = "", hint: str = "") -> dict[str, Any]:
    return {"ref": ref, "title": f"Title of {ref}", "status": status, "reason": reason, "hint": hint}


def milestone(**more: Any) -> dict[str, Any]:
    return {"id": "m1", "title": "One", "status": "in progress", "landed": 2, "total": 6, "blockers": [], **more}


EVENTS = {
    "m1": [
        event("20T22:00", "attempt-started", "old"),
        event("20T22:30", "attempt-failed", "old", cost_usd=9.0),
        event("20T23:00", "landed", "old", commit="f" * 40),
        event("21T01:30", "attempt-started", "a"),
        event("21T01:40", "attempt-built", "a", cost_usd=0.5),
        event("21T01:41", "landed", "a", commit="a" * 40),
        event("21T01:42", "attempt-started", "b"),
        event("21T01:43", "attempt-failed", "b", cost_usd=0.25),
    ]
}
ROWS = [
    row("m1/a", "landed"),
    row("m1/b", "failed", "3 of 3 attempts failed", "doit retry m1/b"),
    row("m1/c", "review", "dependency-change: pyproject.toml", 'doit approve m1/c --reason "..."'),
    row("m1/d", "blocked", "needs m1/b (failed)", "doit issue:m1/b"),
    row("m1/e", "pending", "not implemented yet", "doit issue:m1/e"),
]
PAGE = """# 1 landed, 1 failed, 1 for you, $0.75

Since 02:30: 2 attempts, $0.75.

- m1 One: in progress, 2 of 6 landed

## In the way

- m1: the disk is full; free some

## Landed

- m1/a Title of m1/a - aaaaaaaaaa

## Waits for you

- m1/c Title of m1/c - dependency-change: pyproject.toml

## Failed

- m1/b Title of m1/b - 3 of 3 attempts failed

## Not begun

- m1/e Title of m1/e - not implemented yet

## Blocked

- m1/d Title of m1/d - needs m1/b (failed)

## Next

- `doit retry m1/b`
- `doit approve m1/c --reason "..."`
- `doit milestone:m1`
"""


def test_a_digest_tells_what_happened_since_then_and_how_things_stand() -> None:
    blocker = {"reason": "the disk is\nfull", "resume": "free some"}
    digest = digest_of(SINCE, "02:30", [milestone(blockers=[blocker])], ROWS, EVENTS)
    assert digest.text() == PAGE
    assert digest.data()["landed"] == [{"ref": "m1/a", "title": "Title of m1/a", "text": "aaaaaaaaaa"}]
    assert digest.data()["cost_usd"] == 0.75


def test_a_night_without_anything_is_short() -> None:
    digest = digest_of(SINCE, "02:30", [milestone(status="complete")], [], {"m1": []})
    assert digest.title == "0 landed"
    assert digest.text() == ("# 0 landed\n\nSince 02:30: 0 attempts, $0.00.\n\n- m1 One: complete, 2 of 6 landed\n")


def test_a_long_list_is_cut_with_the_way_to_the_rest() -> None:
    rows = [row(f"m1/{number}", "blocked", "x") for number in range(1000)]
    text = digest_of(SINCE, "02:30", [milestone()], rows, {}).text()
    assert "- and 970 more: doit list --all\n" in text
    assert len(text.splitlines()) < 60
