"""Runs folded from the journal."""

from __future__ import annotations

from typing import Any

import pytest

from executor.state.record import How, Record, RunRecord, run_records
from executor.state.segments import live

BEGIN = {"host": "h", "user": "u", "pid": 7, "git": {"branch": "main"}, "asked": ["milestone:m1"], "workers": 2}
FAILED = {"attempt": 1, "failure": "checks", "reason": "no"}
STARTED = {"attempt": 1, "revision": 1, "spec_key": "s", "base": "b"}
LANDED = {"commit": "c", "check_key": "k", "needs": {}, "revision": 1}


def events(*told: tuple[str, str, str, dict[str, Any]]) -> list[Record]:
    """(run, kind, issue, data) as records, one a second."""
    return [
        Record(number, f"2026-01-01T00:00:{number:02}Z", "", run, kind, key, data)
        for number, (run, kind, key, data) in enumerate(told, 1)
    ]


def one(*told: tuple[str, str, dict[str, Any]], alive: str = "") -> RunRecord:
    (found,) = run_records(events(("r", "run-started", "", BEGIN), *(("r", *item) for item in told)), alive)
    return found


def test_a_run_that_was_done_says_what_it_landed_and_how_it_ended() -> None:
    found = one(
        ("attempt-started", "a", STARTED), ("landed", "a", LANDED), ("run-ended", "", {"code": 0, "how": "done"})
    )
    assert (found.how, found.code, found.landed, found.in_flight) == (How.DONE, 0, ("a",), {})
    assert (found.started, found.ended) == ("2026-01-01T00:00:01Z", "2026-01-01T00:00:04Z")
    assert not found.cut_off


@pytest.mark.parametrize("kind", ["attempt-failed", "stopped", "landed"])
def test_what_came_to_an_end_is_not_in_flight(kind: str) -> None:
    assert one(("attempt-started", "a", STARTED), (kind, "a", FAILED)).in_flight == {}


@pytest.mark.parametrize("kind", ["attempt-started", "attempt-built", "attempt-interrupted", "checked"])
def test_what_had_begun_and_has_no_end_is_in_flight(kind: str) -> None:
    assert one(("attempt-started", "a", STARTED), (kind, "a", STARTED)).in_flight == {"a": 1}


def test_a_run_without_an_end_has_died_unless_its_process_lives() -> None:
    started = ("attempt-started", "a", STARTED)
    assert (one(started).how, one(started).ended, one(started).code) == (How.DIED, "2026-01-01T00:00:02Z", None)
    assert (one(started, alive="r").how, one(started, alive="r").ended) == (How.RUNNING, "")
    assert one(started).cut_off
    assert not one(started, alive="r").cut_off


def test_an_interrupted_run_says_by_what_and_with_what_it_would_have_gone_on() -> None:
    found = one(("run-ended", "", {"code": 143, "how": "interrupted", "why": "SIGTERM", "next": ["m1/a"]}))
    assert (found.how, found.why, found.following, found.cut_off) == (How.INTERRUPTED, "SIGTERM", ("m1/a",), True)


def test_records_of_other_commands_are_no_runs() -> None:
    assert run_records(events(("x", "retried", "a", {}), ("y", "run-ended", "", {"code": 0}))) == []


def test_runs_survive_a_compaction() -> None:
    story = events(
        ("r1", "run-started", "", BEGIN),
        *(("r1", kind, "a", data) for kind, data in (("attempt-started", STARTED), ("landed", LANDED))),
        ("r1", "run-ended", "", {"code": 0, "how": "done"}),
        ("r2", "run-started", "", BEGIN),
    )
    assert [(record.run, record.how) for record in run_records(live(story))] == [("r1", How.DONE), ("r2", How.DIED)]
