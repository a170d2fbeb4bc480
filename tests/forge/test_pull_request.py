"""Texts and names of pull requests: ours alone, and harmless whatever comes from outside."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.forge.pull_request import (
    END,
    MOST,
    Box,
    PullText,
    body_of,
    bounded,
    harmless,
    mark,
    merged_body,
    read_mark,
)
from executor.git.diff import parse_diff
from executor.state.model import Finding, Review

NOTHING = parse_diff(b"")


def test_what_people_wrote_around_our_part_stays() -> None:
    text = PullText("m4/4.1", 1, 1, "sha256:x", NOTHING)
    old, new = body_of(text, "t"), body_of(PullText("m4/4.1", 1, 2, "sha256:y", NOTHING), "t")
    assert merged_body(new, "") == new
    assert merged_body(new, old) == new
    assert merged_body(new, f"Before.\n\n{old}After.") == f"Before.\n\n{new}After."
    assert merged_body(new, "A person's.") == f"{new}\nA person's.\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see #12", "see #\u200b12"),
        ("like GH-12", "like GH\u200b-12"),
        ("[skip ci] x", "(skip ci) x"),
        ("Ping @team", "Ping (at)team"),
        ("<!-- x -->", "< !-- x -- >"),
        ("a @ b # c", "a @ b # c"),
    ],
)
def test_text_from_outside_has_no_effect_on_a_forge(text: str, expected: str) -> None:
    assert harmless(text) == expected


@given(st.text(alphabet="ab@#1[]skip ci-:<!>GH/\n", max_size=40))
def test_nothing_harmful_is_left_whatever_comes(text: str) -> None:
    found = harmless(text)
    assert not re.search(r"[@#]\w|<!--|-->|\[(skip ci|ci skip|no ci)\]|\bGH-\d", found, re.IGNORECASE)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.from_regex(r"[^\s<>]{0,12}", fullmatch=True)))
def test_a_mark_is_read_back(values: dict[str, str]) -> None:
    assert read_mark(f"before {mark(values)} after") == values


def test_a_body_that_is_too_long_for_a_forge_is_cut_and_keeps_its_mark_and_what_people_wrote() -> None:
    boxes = tuple(Box("x" * 500, done=False, evidence="y" * 400) for _ in range(100))
    findings = tuple(Finding("z" * 400, 1) for _ in range(50))
    body = body_of(PullText("m4/4.1", 1, 1, "sha256:x", NOTHING, boxes=boxes), "t")
    folded = body_of(
        PullText("m4/4.1", 1, 1, "s", NOTHING, boxes=boxes[:45], review=Review("critic", findings), threshold=80), "t"
    )
    for text in (body, folded):
        assert len(text) <= MOST
        assert text.endswith(f"\n\n{END}\n")
        assert text.count("<details>") == text.count("</details>")
        assert read_mark(text)["key"] == "m4/4.1"
    theirs = "A person's words. " * 1000
    both = merged_body(body, f"{body}{theirs}")
    assert len(both) <= MOST
    assert both.endswith(theirs)
    assert bounded("short\n") == "short\n"
