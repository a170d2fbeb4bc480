from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.state.fold import fold
from executor.state.record import Record
from executor.state.segments import live

ATTEMPT = st.integers(1, 3)
TEXT = st.sampled_from("pqr")
SECONDS = st.sampled_from([0, 0.0, 0.1, 0.2, 2.5, 7])
NEEDS = st.dictionaries(TEXT, TEXT, max_size=2)
PROVED: dict[str, st.SearchStrategy[Any]] = {"check_key": TEXT, "needs": NEEDS, "revision": ATTEMPT}
REQUIRED: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "attempt-started": {"attempt": ATTEMPT, "revision": ATTEMPT, "spec_key": TEXT, "base": TEXT},
    "attempt-built": {"attempt": ATTEMPT, "commit": TEXT, "result_key": TEXT, "seconds": SECONDS},
    "attempt-failed": {"attempt": ATTEMPT, "failure": TEXT, "reason": TEXT},
    "attempt-interrupted": {"attempt": ATTEMPT},
    "landing": {"attempt": ATTEMPT, "commit": TEXT},
    "landed": {"commit": TEXT, **PROVED},
    "verified": PROVED,
    "refused": {"reason": TEXT, **PROVED},
    "stopped": {"level": TEXT, "rule": TEXT, "reason": TEXT, "spec_key": TEXT, "attempt": st.integers(0, 3)},
    "base-red": {"tip": TEXT, "check_key": TEXT, "reason": TEXT},
    "retried": {},
    "checked": {"attempt": ATTEMPT},
    "branch-moved": {},
    "compacted": {},
}
OPTIONAL: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "attempt-built": {"deviations": st.lists(TEXT, max_size=2)},
    "attempt-failed": {"detail": TEXT, "print": TEXT, "commit": TEXT, "seconds": SECONDS},
    "attempt-interrupted": {"commit": TEXT},
    "landed": {"attempt": st.integers(0, 3)},
    "refused": {"detail": TEXT},
    "stopped": {"bound": TEXT, "needs": TEXT, "lines": st.lists(TEXT, max_size=2)},
    "retried": {"after": st.integers(0, 4), "reason": TEXT},
}
FACTS = st.lists(
    st.sampled_from(sorted(REQUIRED)).flatmap(
        lambda kind: st.tuples(
            st.just(kind),
            st.sampled_from(["", "a", "b"]),
            st.sampled_from(["run-1", "run-2"]),
            st.fixed_dictionaries(REQUIRED[kind], optional=OPTIONAL.get(kind, {})),
        )
    ),
    max_size=40,
)


def facts(found: list[tuple[str, str, str, dict[str, Any]]]) -> list[Record]:
    return [
        Record(number, f"2026-01-01T00:00:{number:02d}Z", "boot", run, kind, key, data)
        for number, (kind, key, run, data) in enumerate(found, 1)
    ]


def story(*kinds: str, key: str = "a") -> list[Record]:
    """Events of the first attempt, or the one whose number follows the kind."""
    data = {
        "attempt": 1,
        "revision": 1,
        "spec_key": "s",
        "base": "b",
        "commit": "c",
        "result_key": "r",
        "seconds": 1.5,
        "failure": "checks",
        "reason": "no",
        "check_key": "k",
        "needs": {},
        "level": "soft",
        "rule": "x",
        "tip": "t",
    }
    out = []
    for number, kind in enumerate(kinds, 1):
        name, _, attempt = kind.partition(" ")
        out.append(Record(number, f"t{number}", "boot", "run", name, key, {**data, "attempt": int(attempt or 1)}))
    return out


@settings(deadline=None, max_examples=500, database=None)
@given(FACTS)
def test_what_is_kept_says_of_every_issue_what_all_of_it_said(
    found: list[tuple[str, str, str, dict[str, Any]]],
) -> None:
    events = facts(found)
    kept = live(events)
    assert fold(kept) == fold(events)
    assert live(kept) == kept
    assert kept == [event for event in events if event in kept]


@settings(deadline=None, max_examples=150, database=None)
@given(FACTS, FACTS)
def test_a_compacted_journal_goes_on_as_the_whole_one_would(
    before: list[tuple[str, str, str, dict[str, Any]]], after: list[tuple[str, str, str, dict[str, Any]]]
) -> None:
    first, then = facts(before), facts(after)
    assert fold([*live(first), *then]) == fold([*first, *then])
    assert fold(live([*live(first), *then])) == fold([*first, *then])


@pytest.mark.parametrize(
    ("kinds", "kept"),
    [
        ([], []),
        (["checked", "branch-moved", "compacted"], []),
        (["attempt-started", "checked", "attempt-built"], [1, 3]),
        (["verified", "verified", "verified"], [3]),
        (["refused", "verified"], [2]),
        (["verified", "refused", "refused"], [1, 3]),
        (["stopped", "stopped"], [2]),
        (["stopped", "retried", "retried"], [3]),
        (["base-red", "base-red", "attempt-started"], [3]),
        (["attempt-started", "base-red", "base-red"], [1, 3]),
        (["attempt-started", "attempt-interrupted", "attempt-started 2", "attempt-interrupted 2"], [1, 2, 3, 4]),
        (["attempt-started", "landing", "landing", "landed", "verified"], [1, 3, 4, 5]),
        (["attempt-started", "attempt-interrupted", "attempt-built", "landed"], [1, 3, 4]),
        (["attempt-started", "attempt-interrupted", "attempt-started"], [3]),
        (["attempt-started", "retried", "attempt-started"], [1, 2, 3]),
        (["attempt-interrupted", "landing"], [2]),
    ],
)
def test_only_what_still_matters_is_kept(kinds: list[str], kept: list[int]) -> None:
    events = story(*kinds)
    assert [event.number for event in live(events)] == kept
    assert fold(live(events)) == fold(events)


def test_issues_do_not_stand_for_each_other() -> None:
    events = [*story("verified", "verified"), *story("verified", key="b")]
    assert live(events) == events[1:]


def test_a_milestone_that_is_verified_again_and_again_comes_to_little() -> None:
    life = ["attempt-started", "checked", "attempt-built", "landing", "landed", *["verified"] * 500]
    events = [event for key in "abcdef" for event in story(*life, key=key)]
    assert len(live(events)) == 5 * 6
