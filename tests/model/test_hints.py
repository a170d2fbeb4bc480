"""Words of faults: what was probably meant, and how texts, values and places are shown."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.model.hints import Known, did_you_mean, dotted, found, listed, quoted


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("4.O", ["4.0", "4.1", "4.2"], "4.0"),
        ("4.l", ["4.0", "4.1", "4.2"], "4.1"),
        ("M4", ["m3", "m4"], "m4"),
        ("a_b", ["a-b", "axb"], "a-b"),
        ("titel", ["title", "type", "files"], "title"),
        ("tilte", ["title", "type"], "title"),
        ("agnt", ["agent", "allow"], "agent"),
        ("prio", ["priority", "phase"], "priority"),
        ("prioritty", ["priority", "phase"], "priority"),
        ("timout", ["run", "timeout", "name"], "timeout"),
        ("dependancy-chagne", ["dependency-change", "other"], "dependency-change"),
        ("zebra", ["title", "type"], None),
        ("xx", ["ab", "cd"], None),
        ("4.5", ["4.1", "4.2"], None),
        ("4.5", ["4.1"], "4.1"),
        ("test", ["tests", "tasks", "nest"], "tests"),
        ("pat", ["patch", "paths"], None),
        ("pat", ["patch", "other"], "patch"),
        ("", ["a", "b"], None),
        ("a", [], None),
        ("scrypt", ["scrapt", "script"], None),
        ("miles\u200btone", ["milestone", "issue"], "milestone"),
    ],
)
def test_what_was_probably_meant_is_named_when_it_is_one(name: str, known: list[str], meant: str | None) -> None:
    assert did_you_mean(name, known) == ("" if meant is None else f'; did you mean "{meant}"?')
    assert Known(known).nearest(name) == meant


def test_advice_is_what_was_meant_or_else_what_there_is() -> None:
    known = Known(["patch", "script", "patch"])
    assert known.advice("pacth", "agents") == '; did you mean "patch"?'
    assert known.advice("zebra", "agents") == "; known agents: patch, script"
    assert Known([]).advice("zebra", "agents") == "; known agents: none"


def test_after_many_questions_only_look_alikes_are_searched() -> None:
    known = Known(["settings", "4.0"])
    assert {known.hint(f"setting{number}") for number in range(20)} == {'; did you mean "settings"?'}
    assert known.hint("setting") == ""
    assert known.hint("SETT1NGS") == '; did you mean "settings"?'
    assert known.hint("4.O") == '; did you mean "4.0"?'


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=5))
def test_what_was_meant_is_always_something_known(name: str, known: list[str]) -> None:
    assert Known(known).nearest(name) in {None, *known}
    assert not known or Known(known).nearest(known[0]) is not None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", '""'),
        ("plain", '"plain"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("two\nlines\r\t", '"two\\nlines\\r\\t"'),
        ("\x00\x1b[31m\x7f", '"\\u0000\\u001b[31m\\u007f"'),
        ("zero\u200bwidth \u202eright-to-left", '"zero\\u200bwidth \\u202eright-to-left"'),
        ("line\u2028separator\x85", '"line\\u2028separator\\u0085"'),
        ("no\xa0break", '"no\\u00a0break"'),
        ("\udcff", '"\\udcff"'),
        ("é 日本 🎉", '"é 日本 🎉"'),
        ("x" * 60, f'"{"x" * 60}"'),
        ("x" * 61, f'"{"x" * 57}..."'),
        ("\n" * 100, f'"{chr(92)}n{(chr(92) + "n") * 56}..."'),
    ],
)
def test_quoted_text_is_on_one_line_short_and_visible(text: str, shown: str) -> None:
    assert quoted(text) == shown


@given(st.text(st.characters()))
def test_quoted_text_is_printable_whatever_it_is(text: str) -> None:
    assert quoted(text).isprintable()
    assert quoted(text).encode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb", '"a\\nb"'),
        ("", '""'),
        (True, "true"),
        (False, "false"),
        (0, "the number 0"),
        (-3, "the number -3"),
        (1.5, "the number 1.5"),
        (1e300, "the number 1e+300"),
        (float("nan"), "the number nan"),
        (float("-inf"), "the number -inf"),
        (10**60 - 1, f"the number {'9' * 60}"),
        (10**60, "a huge number"),
        ([], "an empty list"),
        ([1], "a list"),
        ((), "an empty list"),
        (("a",), "a list"),
        ({}, "a table"),
        ({"a": 1}, "a table"),
        (None, "nothing"),
        (dt.date(1979, 5, 27), "1979-05-27, a date or time"),
        (dt.time(7, 32), "07:32:00, a date or time"),
        (dt.datetime(1979, 5, 27, 7, 32, tzinfo=dt.UTC), "1979-05-27 07:32:00+00:00, a date or time"),
    ],
)
def test_a_value_reads_as_in_a_sentence(value: object, shown: str) -> None:
    assert found(value) == shown


def test_a_number_too_long_for_python_to_write_is_a_huge_number() -> None:
    assert found(-(10**5000)) == "a huge number"


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ([], ""),
        (["milestone"], "milestone"),
        (["issue", 2, "needs"], "issue[2].needs"),
        (["issue", 2, "accept", 10, "run"], "issue[2].accept[10].run"),
        (["with", "a b"], 'with."a b"'),
        (["with", "a.b", "c-d_e"], 'with."a.b".c-d_e'),
        (["", "x"], '"".x'),
        (["é"], '"é"'),
        (["a\nb", 0, "\x1b"], '"a\\nb"[0]."\\u001b"'),
        ([0], "[0]"),
    ],
)
def test_a_place_reads_as_in_the_contract(parts: list[str | int], shown: str) -> None:
    assert dotted(parts) == shown


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], "none"),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        ([str(number) for number in range(10)], "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ([str(number) for number in range(11)], "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1 more"),
        ([str(number) for number in range(500)], "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 490 more"),
        (["a\nb", "\x1b[0m", "\u202ec"], "a\\u000ab, \\u001b[0m, \\u202ec"),
    ],
)
def test_a_list_shows_its_first_names_and_how_many_more(names: list[str], shown: str) -> None:
    assert listed(names) == shown
