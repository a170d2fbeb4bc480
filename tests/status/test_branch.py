"""The branch that a milestone is on, from what is declared, on record and found."""

from __future__ import annotations

import pytest

from executor.status.location import Found, locate, locate_elsewhere

HISTORY = {"t0": "", "t1": "t0", "t2": "t1", "o2": "t1"}
"""Commit -> its parent."""


def contains(older: str, newer: str) -> bool:
    while newer:
        if newer == older:
            return True
        newer = HISTORY[newer]
    return False


def here(branch: str, tip: str, *landed: str) -> Found:
    return Found(f"refs/heads/{branch}", tip, frozenset(landed))


def there(branch: str, tip: str, *landed: str) -> Found:
    return Found(f"refs/remotes/origin/{branch}", tip, frozenset(landed))


@pytest.mark.parametrize(
    ("record", "found", "branch", "start", "noted", "problem"),
    [
        ("", [here("new", "t1", "1@1")], "new", "", False, False),
        ("old", [here("old", "t1", "1@1")], "old", "", True, False),
        ("old", [here("new", "t2", "1@1", "2@1"), here("old", "t1", "1@1")], "new", "", False, False),
        ("old", [here("new", "t1", "1@1"), here("old", "t2", "1@1", "2@1")], "old", "", True, False),
        ("old", [here("new", "t2", "2@1"), here("old", "o2", "1@1")], "new", "", False, True),
        ("", [there("new", "t1", "1@1")], "new", "t1", False, False),
        ("", [here("new", "t1", "1@1"), there("new", "t2", "1@1", "2@1")], "new", "t2", False, False),
        ("", [here("new", "t2", "1@1", "2@1"), there("new", "t1", "1@1")], "new", "", False, False),
        ("", [here("new", "o2", "1@1"), there("new", "t2", "1@1", "2@1")], "new", "", False, True),
        ("", [here("new", "o2", "1@1"), there("new", "t2", "1@1")], "new", "", False, False),
    ],
)
def test_a_milestone_stays_where_it_landed(
    record: str, found: list[Found], branch: str, start: str, noted: bool, problem: bool
) -> None:
    place = locate("new", record, found, contains)
    assert place is not None
    assert (place.branch, place.start, bool(place.note), bool(place.problem)) == (branch, start, noted, problem)


def test_a_milestone_of_which_nothing_landed_is_nowhere() -> None:
    assert locate("new", "", [], contains) is None
    assert locate_elsewhere("new", [], frozenset(), contains) is None


@pytest.mark.parametrize(
    ("found", "branch", "start", "problem"),
    [
        ([here("renamed", "t1")], "renamed", "", False),
        ([here("renamed", "t1"), here("mine", "t2")], "renamed", "", False),
        ([here("m2", "t2"), here("renamed", "t1")], "renamed", "", False),
        ([there("renamed", "t1")], "renamed", "t1", False),
        ([there("renamed", "t2"), here("renamed", "t1")], "renamed", "", False),
        ([here("a", "t2"), here("b", "o2")], "new", "", True),
    ],
)
def test_a_renamed_branch_is_found(found: list[Found], branch: str, start: str, problem: bool) -> None:
    place = locate_elsewhere("new", found, {"m2"}, contains)
    assert place is not None
    assert (place.branch, place.start, bool(place.problem)) == (branch, start, problem)
