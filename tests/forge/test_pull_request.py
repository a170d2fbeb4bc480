"""Texts and names of pull requests: ours alone, and harmless whatever comes from outside."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.forge.pull_request import PullText, body_of, harmless, mark, merged_body, read_mark
from executor.git.diff import parse_diff

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
