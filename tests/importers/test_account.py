"""Nothing of a plan is lost without a word: each long word of a source is in the draft, or in a note."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.importers.importer import HOSTILE, WORD, check_importer, installed, keeps, keeps_at, said
from executor.importers.source import EncodingError, Source, decoded
from tests.importers.plans import PLANS
from tests.support import examples


@pytest.mark.parametrize("form", sorted(PLANS))
def test_each_importer_keeps_its_word(form: str) -> None:
    assert check_importer(installed()[form], PLANS[form]) == []


@pytest.mark.parametrize("form", sorted(PLANS))
def test_each_format_is_found_out(form: str) -> None:
    from executor.importers.importer import chosen

    assert [chosen(source).name for source in PLANS[form]] == [form] * len(PLANS[form])


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from(sorted(PLANS)), st.integers(0, 10**6))
def test_a_word_put_anywhere_is_in_the_draft_or_reported(form: str, place: int) -> None:
    source = PLANS[form][place % len(PLANS[form])]
    names = sorted(source.files) or [""]
    name = names[place % len(names)]
    words = [hit.end() for hit in re.finditer(r"[A-Za-z]{4,}", (source.beside(name) or "") if name else source.text)]
    assert keeps_at(installed()[form], source, name, words[place % len(words)])


def shaken(text: str, seed: int) -> str:
    """A plan after accidents: lines doubled, dropped, moved, indented, cut, with marks, fences and comments."""
    chance = random.Random(seed)  # noqa: S311  (a mutation, not a secret)
    lines = text.split("\n")
    for _ in range(chance.randint(1, 6)):
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        line = lines[at]
        lines[at : at + 1] = chance.choice(
            [
                [],
                [line, line],
                [lines[other]],
                [" " * chance.randint(1, 5) + line],
                [chance.choice(["```", "```sh", "~~~", "````md", "<!--", "-->"]), line],
                [f"> {line}"],
                [line[: chance.randint(0, 12)]],
                [chance.choice(["- ", "* ", "1. ", "- [ ] ", "## ", "# "]) + line],
                [f"## Task {chance.randint(1, 9)}.{chance.randint(1, 9)}: {line.strip('# ')}"],
            ]
        ) or [""]
    return "\n".join(lines)


MARKDOWN = sorted(form for form, sources in PLANS.items() if not sources[0].files and sources[0].name.endswith(".md"))


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(MARKDOWN), st.integers(0, 10**9))
def test_an_accident_loses_nothing_without_a_word(form: str, seed: int) -> None:
    source = PLANS[form][0]
    text = shaken(source.text, seed)
    lines = text.split("\n")
    at = seed % len(lines)
    lines[at] = f"{lines[at]} {WORD}"
    assert keeps(installed()[form], replace(source, text="\n".join(lines)))


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from(sorted(installed())), st.text(max_size=300))
def test_whatever_is_read_gives_a_draft_and_no_surprise(form: str, text: str) -> None:
    for source in (
        Source("plan.md", text),
        Source("plan", "", beside=lambda _: text, files=("tasks.md", "1.md", "WP01-x.md", "milestones.csv")),
    ):
        installed()[form].recognises(source)
        said(installed()[form].read(source))


@settings(max_examples=examples(200), deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "id",
                        "title",
                        "tasks",
                        "issues",
                        "userStories",
                        "milestone",
                        "dependencies",
                        "status",
                        "number",
                        "state",
                        "format",
                        "labels",
                        "subtasks",
                        "accept",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_data_of_any_shape_gives_a_draft(value: object) -> None:
    text = json.dumps(value)
    for form in ("json", "github", "taskmaster", "ralph", "beads", "milestone-yaml", "bmad"):
        source = Source("plan.json", text)
        installed()[form].recognises(source)
        said(installed()[form].read(source))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_importer_stumbles(text: str) -> None:
    for importer in installed().values():
        importer.read(Source("x.md", text))


@given(st.binary(max_size=60))
def test_bytes_are_text_or_are_refused_with_a_line(data: bytes) -> None:
    try:
        text = decoded(data)
    except EncodingError as error:
        text = str(error)
    assert "\ufffd" not in text or "\ufffd".encode() in data or data[:2] in {b"\xff\xfe", b"\xfe\xff"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("# T\n".encode("utf-16"), "# T\n"),
        (b"\xef\xbb\xbf# T\n", "# T\n"),
        ("<!-- coding: latin-1 -->\nö".encode("latin-1"), "<!-- coding: latin-1 -->\nö"),
        ("# T\nö".encode("latin-1"), "line 2 is not utf-8: byte 0xf6 at offset 4"),
        ("# T".encode("utf-16-le"), "line 1 has a NUL character"),
    ],
)
def test_encodings(data: bytes, expected: str) -> None:
    try:
        found = decoded(data)
    except EncodingError as error:
        found = str(error)
    assert found.startswith(expected)


def changed(value: Any, chance: random.Random) -> Any:
    """A record after a change by hand: somewhere in it a value, a key or an entry has the word."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        name = chance.choice(sorted(value))
        if chance.random() < 0.2:
            return {**value, chance.choice(["note", "x_more", "estimate", "details", "labels"]): WORD}
        return {**value, name: changed(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        return [*value[:place], changed(value[place], chance), *value[place + 1 :]]
    if isinstance(value, list):
        return [*value, WORD]
    # A note shortens a long value: the word comes first.
    return chance.choice([WORD, f"{WORD} {value}", [WORD, value], {"name": WORD}, {"more": WORD, "title": str(value)}])


RECORDS = ("beads", "github", "json", "ralph", "taskmaster")


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from(RECORDS), st.integers(0, 10**9))
def test_a_changed_record_loses_nothing_without_a_word(form: str, seed: int) -> None:
    source, chance = PLANS[form][0], random.Random(seed)  # noqa: S311  (a mutation, not a secret)
    if form == "beads":
        lines = source.text.strip().split("\n")
        place = seed % len(lines)
        lines[place] = json.dumps(changed(json.loads(lines[place]), chance))
        text = "\n".join(lines)
    else:
        text = json.dumps(changed(json.loads(source.text), chance))
    assert keeps(installed()[form], replace(source, text=text), installed()[form].read(source))
