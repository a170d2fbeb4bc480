"""Typed events and their JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.state.events import KINDS, Event, Landed, PullChanged, RunEnded, Spend, Stopped, Unknown, decode, encode
from tests.state.events_page import PAGE, page

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

OWN = {"number", "at", "milestone", "issue", "event", "run", "boot", "key", "n", "v", "t", "b", "r", "e", "c"}
"""Fields of the envelope."""

_VALUES: dict[str, SearchStrategy[Any]] = {
    "int": st.integers(0, 10**9),
    "float": st.floats(0, 10**9),
    "str": st.text(max_size=20),
    "bool": st.booleans(),
    "tuple[str, ...]": st.lists(st.text(max_size=5), max_size=3).map(tuple),
    "Mapping[str, str]": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    "Mapping[str, Any]": st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    "tuple[Mapping[str, Any], ...]": st.lists(st.dictionaries(st.text(max_size=5), st.integers()), max_size=2).map(
        tuple
    ),
    "Spend": st.builds(
        Spend, st.none() | st.floats(0, 100), st.dictionaries(st.text(max_size=5), st.integers(0, 99), max_size=2)
    ),
}


def events() -> SearchStrategy[Event]:
    return st.sampled_from(list(KINDS.values())).flatmap(
        lambda cls: st.builds(cls, **{item.name: _VALUES[str(item.type)] for item in fields(cls)})
    )


@pytest.mark.parser
@given(events())
def test_an_event_reads_back_as_it_was_written(event: Event) -> None:
    assert decode(event.KIND, encode(event)) == event


@given(events())
def test_no_event_uses_a_field_of_the_envelope(event: Event) -> None:
    # The journal of nights has no milestone of its own; the number of a pull request is older than this rule.
    own = OWN - {"milestone"} if event.KIND.startswith("night-") else OWN
    own = own - {"number"} if isinstance(event, PullChanged) else own
    assert not encode(event).keys() & own


@pytest.mark.parametrize(
    ("kind", "data", "event"),
    [
        ("run-ended", {"code": 0}, RunEnded(code=0, how="", why="", following=())),
        ("run-ended", {"code": 1, "next": ["a"], "new": 1}, RunEnded(code=1, how="", why="", following=("a",))),
        (
            "landed",
            {"commit": "c", "check_key": "k", "needs": {}, "revision": 1},
            Landed(attempt=0, commit="c", revision=1, result_key="", check_key="k", needs={}),
        ),
        (
            "stopped",
            {"level": "soft", "rule": "r", "reason": "why", "spec_key": "s", "attempt": 2},
            Stopped(level="soft", rule="r", reason="why", spec_key="s", attempt=2),
        ),
        ("from-the-future", {"x": 1}, Unknown(kind="from-the-future", data={"x": 1})),
    ],
)
def test_records_of_other_versions_are_read(kind: str, data: dict[str, Any], event: Event) -> None:
    assert decode(kind, data) == event


def test_the_page_about_events_is_generated_from_the_classes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
