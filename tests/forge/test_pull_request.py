"""Texts and names of pull requests: ours alone, and harmless whatever comes from outside."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.forge.pull_request import (
    PullText,
    body_of,
    boxes_of,
    feature_branch,
    harmless,
    mark,
    merged_body,
    read_mark,
    title_of,
)
from executor.git.diff import parse_diff
from executor.model.milestone import Claim, Issue, branch_problem

NOTHING = parse_diff(b"")
DIFF = parse_diff(
    b"diff --git a/@team/`x` b/@team/`x`\nnew file mode 100644\n--- /dev/null\n+++ b/@team/`x`\n@@ -0,0 +1 @@\n+x\n"
)


def an_issue(**values: object) -> Issue:
    return Issue.model_validate({"id": "4.1", "title": "Create the settings class", "body": "x", **values})


@pytest.mark.parametrize(
    ("values", "revision", "expected"),
    [
        ({}, 1, "feat/m4-4.1-create-the-settings-class"),
        ({"number": 123}, 1, "feat/m4-123-create-the-settings-class"),
        ({}, 2, "feat/m4-4.1-create-the-settings-class-r2"),
        ({"title": "Größe: 100 %"}, 1, "feat/m4-4.1-groe-100"),
        ({"title": "日本"}, 1, "feat/m4-4.1"),
    ],
)
def test_the_branch_is_named_after_milestone_issue_and_title(
    values: dict[str, object], revision: int, expected: str
) -> None:
    assert feature_branch("m4", an_issue(**values), revision) == expected
    assert branch_problem(expected) == ""


def test_title_and_later_revision() -> None:
    assert title_of("core", "m4", "Settings  class", 1) == "core(m4): Settings class"
    assert title_of("core", "m4", "Settings", 3) == "core(m4): Settings (revision 3)"


def test_the_body_has_changes_acceptance_checks_and_deviations() -> None:
    issue = an_issue(number=9, accept=[{"text": "It reads"}, {"run": "pytest -q"}, {"file": "a.py"}])
    text = PullText(
        ref="m4/4.1",
        revision=1,
        attempt=2,
        spec_key="sha256:x",
        change=DIFF,
        boxes=boxes_of(issue, proved=True, reviewed=False),
        checks=("tests",),
        deviations=("Used @dataclass",),
        number=9,
    )
    body = body_of(text, "core(m4): T")
    assert "Milestone m4, issue 4.1, revision 1 · closes #9" in body
    assert "- created `` @team/`x` ``" in body
    assert "- [ ] It reads\n- [x] `pytest -q`\n- [x] file `a.py`" in body
    assert "## Checks on exactly this tree\n- `tests` passed" in body
    assert "- Used (at)dataclass" in body
    assert read_mark(body)["key"] == "m4/4.1"
    assert read_mark(body)["attempt"] == "2"


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


def test_nothing_that_people_or_agents_wrote_calls_anybody_or_closes_anything() -> None:
    words = "fixes #1 @team [skip ci] <!-- x"
    issue = Issue(id="4.1", title=words, body="", accept=(Claim(text=words),))
    title = title_of("core", "m4", words, 2)
    text = PullText(
        *("m4/4.1", 2, 1, "sha256:0", DIFF),
        boxes=boxes_of(issue, proved=True, reviewed=True),
        stopped=words,
        deviations=(words,),
    )
    body = body_of(text, title)
    told = "\n".join(line for line in body.splitlines() if "milestone-executor" not in line and "`" not in line)
    for said in ("fixes #1", "#1", "@team", "[skip ci]", "<!--"):
        assert said not in title
        assert said not in told
