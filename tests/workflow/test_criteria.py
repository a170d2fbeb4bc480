from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.model.milestone import Claim, FileCheck, Issue, RunCheck
from executor.model.workflow import Criterion, Gate
from executor.workflow.outputs import criteria_texts, has_section, score


def gate(*criteria: dict[str, Any], threshold: int = 75) -> Gate:
    made = {str(place): Criterion(**{"file": "a.b/f", **fields}) for place, fields in enumerate(criteria)}
    return Gate(threshold=threshold).model_copy(update={"criteria": made})


@pytest.mark.parametrize(
    ("fields", "text", "share"),
    [
        ({}, "x", 1),
        ({}, " \n", 0),
        ({}, None, 0),
        ({"keys": ("a", "b.c")}, '{"a": 1, "b": {"c": [1]}}', 1),
        ({"keys": ("a", "b.c")}, '{"a": 1, "b": {}}', Fraction(1, 2)),
        ({"keys": ("a", "b.c")}, '{"a": 0, "b": {"c": []}}', 1),
        ({"keys": ("a", "b")}, '{"a": false, "b": {}}', 1),
        ({"keys": ("a", "b")}, '{"a": null, "b": " "}', 0),
        ({"keys": ("a",)}, "[1]", 0),
        ({"keys": ("a",)}, "not json", 0),
        ({"sections": ("One", "Two")}, "# one\nx\n## Two\n", Fraction(1, 2)),
        ({"contains": "^v[0-9]+$"}, "v1", 1),
        ({"contains": "^v[0-9]+$"}, "w1", 0),
        ({"covers": "acceptance"}, "- It  **works**\n- and `pytest -q` passes", 1),
        ({"covers": "acceptance"}, "it works", Fraction(1, 2)),
        ({"covers": "acceptance"}, json.dumps({"tasks": ["It works", "pytest -q"]}), 1),
        ({"sections": ("One",), "contains": "x", "keys": ("k",)}, None, 0),
    ],
)
def test_a_criterion_is_met_in_parts(fields: dict[str, Any], text: str | None, share: Fraction) -> None:
    files = {} if text is None else {"a.b/f": text.encode()}
    assert score(gate(fields), files, ("it works", "pytest -q")).share == share


def test_every_criterion_is_met_where_there_is_none_to_cover() -> None:
    assert score(gate({"covers": "acceptance"}), {"a.b/f": b"x"}, ()).share == 1


@pytest.mark.parametrize(("weight", "opens"), [(74, False), (75, True), (76, True)])
def test_a_gate_is_exact_at_its_threshold(weight: int, opens: bool) -> None:
    rule = gate({"weight": weight}, {"weight": 100 - weight, "contains": "no"})
    result = score(rule, {"a.b/f": b"x"}, ())
    assert (result.percent, result.opens(rule)) == (weight, opens)


def test_thirds_do_not_round_up() -> None:
    rule = gate({}, {}, {"contains": "no"}, threshold=67)
    result = score(rule, {"a.b/f": b"x"}, ())
    assert (result.percent, result.opens(rule)) == (66, False)


def test_what_is_missing_is_reported_by_step() -> None:
    rule = gate({"sections": ("One",)}, {"file": "tree:README.md"}, {"file": "a.c/g", "keys": ("k",)})
    result = score(rule, {"a.b/f": b"x", "a.c/g": b"{}"}, ())
    assert result.missing == {
        "a.b": ('a.b/f lacks the section "One" with text below it',),
        "": ("tree:README.md is missing",),
        "a.c": ("a.c/g lacks the key k",),
    }
    assert result.sentence().count(";") == 2


@pytest.mark.parametrize(
    ("fields", "text", "missing"),
    [
        ({"keys": ("a", "b")}, "{", "a.b/f is not JSON: Expecting property name enclosed in double quotes: line 1"),
        ({"keys": ("a", "b")}, "[]", "a.b/f: expected an object with the keys a, b, found a list"),
        ({"keys": ("a", "b"), "sections": ("One",)}, None, "a.b/f is missing"),
        ({"keys": ("a", "b"), "sections": ("One",)}, " ", "a.b/f is empty"),
        ({"keys": ("a",)}, '{"a": null}', "a.b/f has no value for the key a: it is null"),
        ({"keys": ("a.b",)}, '{"a": {"b": ""}}', "a.b/f has no value for the key a.b: it is an empty text"),
        ({"keys": ("a.b",)}, '{"a": []}', "a.b/f lacks the key a.b"),
        ({"keys": ("a",)}, "[" * 100_000, "a.b/f is nested too deeply"),
    ],
)
def test_a_fault_is_said_once_and_as_it_is(fields: dict[str, Any], text: str | None, missing: str) -> None:
    result = score(gate(fields, fields), {} if text is None else {"a.b/f": text.encode()}, ())
    assert len(result.missing["a.b"]) == 1
    assert result.missing["a.b"][0].startswith(missing)


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("## Task 4.1 Complete\n\nbuilt it\n", True),
        ("# task 4.1 complete: settings #\nbuilt\n", True),
        ("## Task 4.1 Complete\n\n## Next\ntext\n", False),
        ("## Task 4.1 Complete\n### Detail\ntext\n", True),
        ("## Task 4.10 Complete\ntext\n", False),
        ("Task 4.1 Complete\ntext\n", False),
        ("```\n## Task 4.1 Complete\ntext\n```\n", False),
        ("", False),
    ],
)
def test_a_section_is_a_heading_with_text_below_it(text: str, there: bool) -> None:
    assert has_section(text, "Task 4.1 Complete") is there


def test_acceptance_is_recognised_by_its_words_command_or_file() -> None:
    accept = (Claim(text="works"), RunCheck(run="pytest -q"), FileCheck(file="a.py"))
    assert criteria_texts(Issue(id="1", title="x", body="y", accept=accept)) == ("works", "pytest -q", "a.py")


@given(st.binary(max_size=200), st.lists(st.text(max_size=20), max_size=3))
def test_any_file_has_a_score_between_none_and_all(data: bytes, texts: list[str]) -> None:
    rule = gate({"keys": ("a",)}, {"sections": ("A",)}, {"covers": "acceptance"}, {"contains": "a|b"})
    assert 0 <= score(rule, {"a.b/f": data}, texts).share <= 1
