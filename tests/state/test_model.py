from __future__ import annotations

import copy
from dataclasses import replace
from itertools import chain, product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.state.fold import fold, with_git_attempts
from executor.state.model import Attempt, AttemptState, IssueState, Proof, Refusal, Stop
from executor.state.record import Record
from tests.support import several

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS: dict[str, dict[str, Any]] = {
    "attempt-started": {"attempt": 1, "revision": 1, "spec_key": "s1", "base": "b1"},
    "attempt-built": {"attempt": 1, "commit": "c1", "result_key": "r1", "seconds": 2.5},
    "attempt-failed": {
        "attempt": 1,
        "failure": "checks",
        "reason": "no",
        "detail": "out",
        "print": "p",
        "commit": "c1",
    },
    "attempt-interrupted": {"attempt": 1},
    "landing": {"attempt": 1, "commit": "l1"},
    "landed": {"attempt": 1, "commit": "l1", "check_key": "k1", "needs": {"m/0": "r0"}, "revision": 1},
    "verified": {"check_key": "k2", "needs": {"m/0": "r1"}, "revision": 1},
    "refused": {"check_key": "k2", "needs": {"m/0": "r1"}, "revision": 1, "reason": "red", "detail": "out"},
    "stopped": {"level": "hard", "rule": "diff-size", "reason": "big", "spec_key": "s1", "attempt": 1},
    "retried": {},
}
PROOF = Proof("k1", {"m/0": "r0"}, 1)
REFUSAL = Refusal("k2", {"m/0": "r1"}, 1, "red", "out")
STOP = Stop("hard", "diff-size", "big", "s1", 1)


def event(kind: str, /, key: str = "4.1", **data: Any) -> Record:
    return Record(1, "2026-11-21T10:00:00Z", "boot", "run", kind, key, {**KINDS.get(kind, {}), **data})


def state(*events: Record | str) -> IssueState:
    return fold(item if isinstance(item, Record) else event(item) for item in events)["4.1"]


def test_a_started_attempt_is_known_as_it_was_asked_for() -> None:
    found = state("attempt-started")
    assert found.attempts == {1: Attempt(1, 1, "s1", "b1", started_at="2026-11-21T10:00:00Z", run="run", boot="boot")}
    assert found.last() == 1


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["attempt-started"], AttemptState.STARTED),
        (["attempt-started", "attempt-built"], AttemptState.BUILT),
        (["attempt-started", "attempt-failed"], AttemptState.FAILED),
        (["attempt-started", "attempt-interrupted"], AttemptState.INTERRUPTED),
        (["attempt-started", "attempt-built", "attempt-failed"], AttemptState.FAILED),
        (["attempt-started", "attempt-built", "landing"], AttemptState.BUILT),
        (["attempt-started", "attempt-built", "landing", "landed"], AttemptState.LANDED),
        (["attempt-started", "attempt-built", "stopped"], AttemptState.BUILT),
        (["attempt-started", "attempt-failed", "retried"], AttemptState.FAILED),
    ],
)
def test_how_far_an_attempt_has_come(kinds: list[str], expected: AttemptState) -> None:
    assert state(*kinds).attempts[1].state is expected


def test_a_result_is_known_by_commit_and_key() -> None:
    found = state("attempt-started", "attempt-built", "landing").attempts[1]
    assert (found.commit, found.result_key, found.landing, found.seconds) == ("c1", "r1", "l1", 2.5)
    assert (found.base, found.spec_key) == ("b1", "s1")


def test_a_failure_is_known_by_its_class_sentence_output_and_fingerprint() -> None:
    found = state("attempt-started", "attempt-failed").attempts[1]
    assert (found.kind, found.reason, found.detail, found.print, found.commit) == ("checks", "no", "out", "p", "c1")


def test_a_failure_without_output_is_known_too() -> None:
    bare = Record(1, "", "", "", "attempt-failed", "4.1", {"attempt": 1, "failure": "agent", "reason": "no"})
    found = state("attempt-started", bare).attempts[1]
    assert (found.kind, found.detail, found.print) == ("agent", "", "")


def test_seconds_of_all_attempts_are_added() -> None:
    second = [event("attempt-started", attempt=2), event("attempt-failed", attempt=2, seconds=1.5)]
    assert state("attempt-started", "attempt-built", *second).seconds == 4.0


@pytest.mark.parametrize(
    ("events", "stop"),
    [
        pytest.param(["stopped"], STOP, id="stopped"),
        pytest.param(["stopped", event("stopped", level="soft")], replace(STOP, level="soft"), id="the latest counts"),
        pytest.param(["stopped", "retried"], None, id="a retry clears it"),
        pytest.param(["stopped", event("attempt-started", attempt=2)], None, id="another attempt clears it"),
        pytest.param(["attempt-started", "stopped", "landed"], None, id="landing clears it"),
        pytest.param(["stopped", "verified"], STOP, id="verification leaves it"),
        pytest.param(["attempt-started", "stopped", "attempt-failed"], STOP, id="the end of the attempt leaves it"),
    ],
)
def test_stops(events: list[Record | str], stop: Stop | None) -> None:
    assert state(*events).stop == stop


@pytest.mark.parametrize(
    ("events", "proof", "refusal"),
    [
        pytest.param(["attempt-started"], None, None, id="nothing known"),
        pytest.param(["landed"], PROOF, None, id="landing proves"),
        pytest.param(["landed", "verified"], Proof("k2", {"m/0": "r1"}, 1), None, id="the latest proof counts"),
        pytest.param(["landed", "refused"], PROOF, REFUSAL, id="a refusal leaves the proof"),
        pytest.param(["landed", "refused", "verified"], Proof("k2", {"m/0": "r1"}, 1), None, id="a proof undoes it"),
        pytest.param(
            ["landed", "refused", event("landed", revision=2)], replace(PROOF, revision=2), None, id="landing undoes it"
        ),
        pytest.param(
            ["refused", event("refused", check_key="k3")], None, replace(REFUSAL, check_key="k3"), id="latest refusal"
        ),
        pytest.param(["refused", "retried", event("attempt-started")], None, REFUSAL, id="a retry leaves it"),
    ],
)
def test_proofs_and_refusals(events: list[Record | str], proof: Proof | None, refusal: Refusal | None) -> None:
    found = state(*events)
    assert found.proof == proof
    assert found.refusal == refusal


def test_a_landing_found_without_an_attempt_is_a_proof_all_the_same() -> None:
    found = state("attempt-started", event("landed", attempt=0))
    assert found.proof == PROOF
    assert found.attempts[1].state is AttemptState.STARTED


@pytest.mark.parametrize(
    ("events", "forgiven"),
    [
        pytest.param([], 0, id="never retried"),
        pytest.param([event("retried")], 1, id="up to the latest attempt"),
        pytest.param([event("attempt-started", attempt=2), event("retried")], 2, id="up to the latest of several"),
        pytest.param([event("retried", after=5)], 5, id="up to attempts that only git knew of"),
        pytest.param([event("retried", after=0)], 1, id="never less than the latest attempt"),
        pytest.param([event("retried"), event("attempt-started", attempt=2)], 1, id="later attempts count"),
    ],
)
def test_a_retry_forgives_what_was_before_it(events: list[Record], forgiven: int) -> None:
    assert state("attempt-started", *events).forgiven == forgiven


def test_counted_attempts_are_those_at_this_spec_since_the_retry_oldest_first() -> None:
    found = IssueState(
        attempts={number: Attempt(number, 1, spec) for number, spec in [(4, "s"), (1, "s"), (3, "t"), (2, "s")]}
    )
    assert [item.number for item in found.counted("s")] == [1, 2, 4]
    found.forgiven = 1
    assert [item.number for item in found.counted("s")] == [2, 4]
    assert [item.number for item in found.counted("t")] == [3]
    assert found.counted("u") == []
    assert found.last() == 4
    assert IssueState().last() == 0


@pytest.mark.parametrize("kind", ["", "run-started", "note", "Landed", "attempt-cancelled"])
def test_unknown_kinds_are_ignored(kind: str) -> None:
    assert fold([event(kind)]) == {}
    assert fold([event("landed"), event(kind), event("verified")]) == fold([event("landed"), event("verified")])


@pytest.mark.parametrize("kind", ["attempt-built", "attempt-failed", "attempt-interrupted", "landing"])
def test_events_of_an_attempt_that_never_started_make_none(kind: str) -> None:
    assert state(kind).attempts == {}


def test_unknown_fields_are_ignored() -> None:
    assert state(event("landed", colour="red"), event("attempt-started", x=1)) == state("landed", "attempt-started")


def test_issues_do_not_mix() -> None:
    found = fold([event("attempt-started", key="a"), event("stopped", key="b"), event("retried", key="a")])
    assert found["a"].forgiven == 1
    assert found["a"].stop is None
    assert found["b"].stop == STOP
    assert found["b"].attempts == {}


def test_nothing_folds_to_nothing() -> None:
    assert fold([]) == {}


MOST = 64
"""Events of the kind that has most."""


def _events(kind: str) -> list[Record]:
    """All events of a kind with these values, repeated until there are `MOST`."""
    own: dict[str, Sequence[Any]] = {"key": ["4.1", "4.2"]}
    for name in KINDS.get(kind, ()):
        if name in {"attempt", "revision"}:
            own[name] = range(1, 5)
        elif name in {"spec_key", "check_key", "level", "print"}:
            own[name] = ["s1", "s2"]
    if kind == "retried":
        own["after"] = range(7)
    found = [event(kind, **dict(zip(own, values, strict=True))) for values in product(*own.values())]
    return (found * MOST)[:MOST]


EVENTS = several([*chain.from_iterable(zip(*map(_events, [*KINDS, "unknown"]), strict=True))], max_size=30)


@pytest.mark.parser
@given(events=EVENTS, at=st.integers(0, 30))
def test_folding_in_two_halves_is_folding_at_once(events: list[Record], at: int) -> None:
    half = fold(events[:at])
    assert fold(events[at:], half) is half
    assert half == fold(events)


@given(EVENTS)
def test_folding_is_deterministic_and_leaves_the_events_alone(events: list[Record]) -> None:
    before = copy.deepcopy(events)
    assert fold(events) == fold(events)
    assert events == before


@given(EVENTS)
def test_each_issue_depends_on_its_own_events_only(events: list[Record]) -> None:
    own = fold(item for item in events if item.key == "4.1")
    assert own.get("4.1") == fold(events).get("4.1")


@given(EVENTS)
def test_attempts_are_kept_under_their_number_and_forgiven_ones_are_never_counted(events: list[Record]) -> None:
    for found in fold(events).values():
        assert all(number == attempt.number for number, attempt in found.attempts.items())
        assert all(item.number > found.forgiven for item in found.counted("s1"))


FROM_GIT = Attempt(1, 1, "s1", "git-base", AttemptState.BUILT, "g1", result_key="gr")
CONFLICT = Attempt(1, 1, "s1", "git-base", AttemptState.FAILED, "g1", kind="merge-conflict", reason="clash")
SOFT = Stop("soft", "merge-conflict", "clash", "s1", 1)


@pytest.mark.parametrize(
    ("events", "kept", "expected", "commit", "base"),
    [
        pytest.param([], FROM_GIT, AttemptState.BUILT, "g1", "git-base", id="without a journal git is believed"),
        pytest.param(["attempt-started"], FROM_GIT, AttemptState.BUILT, "g1", "b1", id="started: git knows the end"),
        pytest.param(
            ["attempt-started", "attempt-interrupted"],
            FROM_GIT,
            AttemptState.BUILT,
            "g1",
            "b1",
            id="interrupted after its result was kept",
        ),
        pytest.param(
            ["attempt-started", "attempt-failed"], FROM_GIT, AttemptState.FAILED, "c1", "b1", id="failed: as journaled"
        ),
        pytest.param(
            ["attempt-started", "attempt-built"], FROM_GIT, AttemptState.BUILT, "c1", "b1", id="built: as journaled"
        ),
        pytest.param(
            ["attempt-started", "attempt-built"],
            CONFLICT,
            AttemptState.FAILED,
            "g1",
            "b1",
            id="built: git knows that it has failed since",
        ),
        pytest.param(
            ["attempt-started", "attempt-built", "landed"],
            FROM_GIT,
            AttemptState.LANDED,
            "l1",
            "b1",
            id="landed: as journaled",
        ),
        pytest.param(
            ["attempt-started"],
            replace(FROM_GIT, spec_key="other"),
            AttemptState.STARTED,
            "",
            "b1",
            id="a result of another spec is not this attempt's",
        ),
        pytest.param(
            [event("attempt-started", attempt=2)], FROM_GIT, AttemptState.BUILT, "g1", "git-base", id="another attempt"
        ),
    ],
)
def test_the_journal_has_precedence_where_it_knows_the_end(
    events: list[Record | str], kept: Attempt, expected: AttemptState, commit: str, base: str
) -> None:
    states = fold(item if isinstance(item, Record) else event(item) for item in events)
    with_git_attempts(states, [("4.1", kept)])
    found = states["4.1"].attempts[1]
    assert (found.state, found.commit, found.base) == (expected, commit, base)


def test_the_time_of_the_start_is_kept_from_the_journal() -> None:
    states = fold([event("attempt-started")])
    with_git_attempts(states, [("4.1", FROM_GIT)])
    assert states["4.1"].attempts[1].started_at == "2026-11-21T10:00:00Z"


@pytest.mark.parametrize(
    ("events", "kept", "stop"),
    [
        pytest.param([], CONFLICT, SOFT, id="a kept conflict stops it, without a journal"),
        pytest.param(["attempt-started"], CONFLICT, SOFT, id="a kept conflict whose record was cut off"),
        pytest.param([], FROM_GIT, None, id="a result does not stop"),
        pytest.param([], replace(CONFLICT, kind="checks"), None, id="another failure does not stop"),
        pytest.param(["stopped"], CONFLICT, STOP, id="the stop in the journal has precedence"),
        pytest.param(["attempt-started", "retried"], CONFLICT, None, id="a conflict before the retry"),
        pytest.param([event("retried", after=1)], CONFLICT, None, id="a conflict before the retry, known from git"),
        pytest.param(["attempt-started", "attempt-failed"], CONFLICT, None, id="the journal knows another end"),
    ],
)
def test_a_merge_conflict_kept_in_git_stops_the_issue(
    events: list[Record | str], kept: Attempt, stop: Stop | None
) -> None:
    states = fold(item if isinstance(item, Record) else event(item) for item in events)
    with_git_attempts(states, [("4.1", kept)])
    assert states["4.1"].stop == stop


@given(EVENTS)
def test_adding_what_git_knows_twice_is_adding_it_once(events: list[Record]) -> None:
    once, twice = fold(events), fold(events)
    kept = [("4.1", FROM_GIT), ("4.1", replace(CONFLICT, number=2)), ("4.3", FROM_GIT)]
    with_git_attempts(once, kept)
    with_git_attempts(twice, kept)
    with_git_attempts(twice, kept)
    assert once == twice
    assert once["4.3"].attempts == {1: FROM_GIT}
