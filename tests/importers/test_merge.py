"""Importing again: whose value counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.importers.merge import MISSING, Merged, mark, merged

OLD, MINE, THEIRS = "old", "mine", "theirs"

TABLE: list[tuple[Any, Any, Any, str]] = [
    # imported last, declared now, source now -> what happens
    (OLD, OLD, OLD, "same"),
    (OLD, OLD, THEIRS, "take"),
    (OLD, MINE, OLD, "same"),
    (OLD, MINE, THEIRS, "kept"),
    (OLD, THEIRS, THEIRS, "same"),
    (None, MINE, THEIRS, "kept"),
    (None, None, THEIRS, "take"),
    (None, MINE, None, "same"),
    (OLD, OLD, None, "remove"),
    (OLD, MINE, None, "same"),
    (OLD, None, OLD, "same"),
    (OLD, None, THEIRS, "kept"),
    (OLD, None, None, "same"),
]


def outcome(last: Any, now: Any, new: Any, *, overwrite: bool = False) -> Merged:
    def side(value: Any) -> dict[str, dict[str, Any]]:
        return {"4.1": {} if value is None else {"title": value}}

    marks = {"4.1": {} if last is None else {"title": mark(last)}}
    return merged(marks, side(now), side(new), overwrite=overwrite)


@pytest.mark.parametrize(("last", "now", "new", "expected"), TABLE)
def test_what_happens_to_a_value(last: Any, now: Any, new: Any, expected: str) -> None:
    found = outcome(last, now, new)
    changes = {"take": {"4.1": {"title": new}}, "remove": {"4.1": {"title": MISSING}}}.get(expected, {})
    assert found.changes == changes
    assert found.kept == (["4.1.title"] if expected == "kept" else [])


@pytest.mark.parametrize(("last", "now", "new", "expected"), TABLE)
def test_overwriting_takes_the_plans_word_only_where_both_changed(last: Any, now: Any, new: Any, expected: str) -> None:
    found = outcome(last, now, new, overwrite=True)
    assert found.kept == []
    assert bool(found.changes) == (expected in {"take", "remove", "kept"})


def test_issues_that_are_new_removed_here_or_gone_there() -> None:
    last = {"a": {"title": mark("A")}, "b": {"title": mark("B")}}
    found = merged(last, {"a": {"title": "A"}}, {"b": {"title": "B"}, "c": {"title": "C"}}, overwrite=False)
    assert found.added == ["c"]
    assert found.kept == ["b"]
    assert found.gone == ["a"]
    assert found.changes == {"c": {"title": "C"}}


values = st.dictionaries(
    st.sampled_from(["title", "size", "files"]), st.text(max_size=3) | st.lists(st.text(max_size=2))
)
sides = st.dictionaries(st.sampled_from(["", "a", "b"]), values)


@given(sides)
def test_importing_the_same_again_changes_nothing(new: dict[str, dict[str, Any]]) -> None:
    first = merged({}, {}, new, overwrite=False)
    assert first.changes == new
    last = {owner: {key: mark(value) for key, value in keys.items()} for owner, keys in new.items()}
    again = merged(last, new, new, overwrite=False)
    assert again.changes == {}
    assert again.kept == []
    assert again.gone == []
