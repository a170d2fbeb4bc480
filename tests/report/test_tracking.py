"""The tracking section, and how it is put into a file that belongs to somebody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.model.milestone import Issue, Milestone
from executor.report.exports import Tracked, cell, cell_text
from executor.report.text import as_markdown, between_marks

ISSUES = tuple(Issue(id=name, title=f"Title {name}", body="", phase=None) for name in "abcd")
MILESTONE = Milestone(id="m4", title="Worker settings", issues=ISSUES)


def section(*states: tuple[str, str]) -> str:
    tracked = [
        Tracked(issue, "", status, reason, commit="c" * 40 if status == "landed" else "", findings=("x.py:3: y",))
        for issue, (status, reason) in zip(ISSUES, states, strict=False)
    ]
    return as_markdown(MILESTONE, "in progress", tracked, "2026-11-21T10:00:00Z")


def test_the_section_tells_what_is_done_open_blocked_skipped_and_current() -> None:
    text = section(("landed", "as c"), ("review", "stopped"), ("skipped", "too large"), ("pending", "not yet"))
    for line in (
        "**Status:** in progress; 1 of 4 landed",
        "- [x] a - Title a (cccccccccc)",
        "- [ ] d - Title d",
        "- **b - Title b**: stopped\n  1. x.py:3: y",
        "- c - Title c: skipped: too large",
        "- **Current issue:** d - Title d",
        "- **Blockers:** b",
        "**Last updated:** 2026-11-21T10:00:00Z",
    ):
        assert line in text


def test_somebody_elses_words_cannot_end_the_section_or_call_anybody() -> None:
    text = section(("review", "<!-- milestone m4: end --> @everyone\n# x"))
    assert text.count("<!-- milestone m4: end -->") == 1
    assert "@everyone" not in text
    assert "\n# x" not in text


@pytest.mark.parametrize("before", ["", "# Ours\n", "no line end"])
def test_a_section_is_added_and_then_replaced_in_its_place(before: str) -> None:
    first = between_marks(before, section(("pending", "x")), "m4")
    assert first.startswith(before)
    second = between_marks(first + "After\n", section(("landed", "x")), "m4")
    assert second.startswith(before)
    assert second.endswith("<!-- milestone m4: end -->\nAfter\n")
    assert between_marks(second, section(("landed", "x")), "m4") == second


@given(st.text(max_size=60), st.text(max_size=60))
def test_everything_outside_the_marks_stays_byte_for_byte(before: str, after: str) -> None:
    old, new = section(("pending", "x")), section(("landed", "y"))
    replaced = between_marks(before + old.rstrip("\n") + after, new, "m4")
    assert replaced.startswith(before)
    assert replaced.endswith(after)
    inside = replaced[len(before) : len(replaced) - len(after)]
    assert inside.replace("\r\n", "\n") == new.rstrip("\n")
    assert inside.count("\r\n") in {0, inside.count("\n")}


@pytest.mark.parametrize(("after", "windows"), [("\r\n", False), ("x\n", False), ("x\r\n" * 200, True)])
def test_a_section_has_the_line_ends_of_most_lines(after: str, *, windows: bool) -> None:
    text = section(("pending", "x")).rstrip("\n") + after
    replaced = between_marks(text, section(("landed", "y")), "m4")
    assert replaced.endswith(after)
    assert ("\r\n" in replaced.removesuffix(after)) is windows


@pytest.mark.parametrize(
    "text",
    [
        "<!-- milestone m4: begin -->",
        "<!-- milestone m4: end -->",
        "<!-- milestone m4: end --><!-- milestone m4: begin -->",
        "<!-- milestone m4: begin --><!-- milestone m4: end -->" * 2,
    ],
)
def test_damaged_marks_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected one"):
        between_marks(text, "x", "m4")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'=1", "''-1"])
def test_no_cell_is_taken_for_a_formula_and_each_is_read_back(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert cell_text(cell(text)) == text


@pytest.mark.parametrize("text", ["", "plain", "'quoted'", "1=1", "#7"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert (cell(text), cell_text(text)) == (text, text)
