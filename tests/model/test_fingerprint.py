from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.config.load_milestones import read_milestone
from executor.model.fingerprint import canonical_spec, check_key, combined_key, digest, normal_text, spec_key
from executor.model.milestone import Issue

KEY = re.compile(r"sha256:[0-9a-f]{64}")
TEXT = "Read the header.\nSkip blank lines.\n"
PLAIN = """
[milestone]
id = "m4"
title = "Import"

[[issue]]
id = "4.1"
type = "feature"
title = "Read CSV"
body = "-"
files = ["src/a.py", "src/b.py"]
accept = ["headers are read", { run = "pytest -q", timeout = 60 }, { file = "src/a.py", contains = "def read" }]
"""
ISSUE_TABLE = PLAIN.partition("[[issue]]")[2].strip().splitlines()


def declared(toml: str) -> Issue:
    read = read_milestone(tomllib.loads(toml), "milestones/m4.toml", "m4")
    assert not read.faults
    assert read.milestone is not None
    return read.milestone.issues[0]


def key_of(toml: str = PLAIN, text: str = TEXT, answers: tuple[str, ...] = ()) -> str:
    return spec_key(canonical_spec(declared(toml), text, answers))


def shuffled() -> str:
    header = PLAIN.partition("[[issue]]")[0]
    return header + "[[issue]]\n" + "\n".join(reversed(ISSUE_TABLE)) + "\n"


@pytest.mark.parametrize(
    "toml",
    [
        pytest.param(shuffled(), id="order of keys"),
        pytest.param(PLAIN.replace('id = "4.1"', '# why\nid = "4.1" # a comment'), id="comments"),
        pytest.param(PLAIN + 'priority = "P0"\n', id="priority"),
        pytest.param(PLAIN + 'size = "L"\n', id="size"),
        pytest.param(PLAIN + 'needs = ["4.0"]\n', id="needs"),
        pytest.param(PLAIN + 'agent = "claude"\n', id="agent"),
        pytest.param(PLAIN + 'with = { model = "large" }\n', id="with"),
        pytest.param(PLAIN + 'checks = ["tests"]\n', id="checks"),
        pytest.param(PLAIN + 'workflow = "direct"\n', id="workflow"),
        pytest.param(PLAIN + "number = 12\n", id="number"),
        pytest.param(PLAIN + 'resources = ["db"]\n', id="resources"),
        pytest.param(PLAIN.replace('id = "4.1"', 'id = "4.2"'), id="id of the issue"),
        pytest.param(PLAIN.replace('title = "Import"', 'title = "Other"'), id="title of the milestone"),
        pytest.param(PLAIN.replace('"src/a.py", "src/b.py"', '"src/b.py", "src/a.py"'), id="order of files"),
        pytest.param(PLAIN.replace('"src/a.py", "src/b.py"', '"src/b.py", "src/a.py", "src/b.py"'), id="doubled file"),
        pytest.param(PLAIN.replace('"Read CSV"', '"Read CSV  "'), id="white space at the end of the title"),
        pytest.param(PLAIN.replace('type = "feature"\n', ""), id="the default type written out"),
        pytest.param(PLAIN.replace("timeout = 60", "timeout = 60.0"), id="number written with a fraction"),
        pytest.param(
            PLAIN.replace('"headers are read"', '{ text = "headers are read" }'), id="claim written as a table"
        ),
    ],
)
def test_spec_key_ignores_what_is_not_wanted_work(toml: str) -> None:
    assert key_of(toml) == key_of()


@pytest.mark.parametrize(
    "toml",
    [
        pytest.param(PLAIN.replace('"feature"', '"fix"'), id="type"),
        pytest.param(PLAIN.replace('"Read CSV"', '"Read TSV"'), id="title"),
        pytest.param(PLAIN.replace('"headers are read"', '"headers are kept"'), id="claim"),
        pytest.param(PLAIN.replace("pytest -q", "pytest"), id="command"),
        pytest.param(PLAIN.replace("def read", "def load"), id="pattern"),
        pytest.param(PLAIN.replace('{ file = "src/a.py"', '{ file = "src/b.py"'), id="file that has to exist"),
        pytest.param(PLAIN.replace(', "src/b.py"]', "]"), id="one file less"),
        pytest.param(PLAIN.replace(', "src/b.py"]', ', "src/c.py"]'), id="another file"),
        pytest.param(
            PLAIN.replace(
                '"headers are read", { run = "pytest -q", timeout = 60 }',
                '{ run = "pytest -q", timeout = 60 }, "headers are read"',
            ),
            id="order of acceptance",
        ),
    ],
)
def test_spec_key_alters_with_wanted_work(toml: str) -> None:
    assert toml != PLAIN
    assert key_of(toml) != key_of()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(TEXT.replace("\n", "\r"), id="CR"),
        pytest.param(TEXT.replace("\n", " \t\n"), id="white space at line ends"),
        pytest.param(TEXT.rstrip("\n"), id="no newline at the end"),
        pytest.param("\n  \n" + TEXT + "\n\n", id="blank lines at both ends"),
    ],
)
def test_spec_key_ignores_line_ends_of_the_text(text: str) -> None:
    assert text != TEXT
    assert key_of(text=text) == key_of()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(TEXT.replace("blank", "empty"), id="another word"),
        pytest.param(TEXT.replace("blank lines", "blank  lines"), id="white space inside a line"),
        pytest.param("  " + TEXT, id="indentation"),
        pytest.param(TEXT.replace("\n", "\n\n", 1), id="blank line between paragraphs"),
        pytest.param(TEXT.replace("R", "r", 1), id="case"),
    ],
)
def test_spec_key_alters_with_the_text(text: str) -> None:
    assert key_of(text=text) != key_of()


def test_spec_key_alters_with_answers_and_their_order() -> None:
    keys = [key_of(), key_of(answers=("yes",)), key_of(answers=("no",)), key_of(answers=("yes", "no"))]
    keys.append(key_of(answers=("no", "yes")))
    assert len(set(keys)) == len(keys)
    assert key_of(answers=("yes  \r\n",)) == key_of(answers=("yes",))


def test_fields_do_not_run_into_each_other() -> None:
    one = spec_key({"title": "a", "text": "bc"})
    other = spec_key({"title": "ab", "text": "c"})
    assert one != other
    assert key_of(text="x", answers=("y",)) != key_of(text="x\ny")


ARGV = ("pytest", "-q")


@pytest.mark.parametrize(
    ("argv", "more"),
    [
        pytest.param(("pytest",), {}, id="argument left out"),
        pytest.param(("-q", "pytest"), {}, id="order of arguments"),
        pytest.param(("pytest -q",), {}, id="arguments joined"),
        pytest.param(ARGV, {"env": {}}, id="environment left out"),
        pytest.param(ARGV, {"env": {"CI": "0", "A": "b"}}, id="value in the environment"),
        pytest.param(ARGV, {"env": {"CI": "1", "A": "b", "C": ""}}, id="empty variable added"),
        pytest.param(ARGV, {"timeout": 61.0}, id="time limit"),
        pytest.param(ARGV, {"version": "pytest 9"}, id="version of the tool"),
        pytest.param(ARGV, {"version": ""}, id="no version"),
        pytest.param(ARGV, {"prefix": ("nice",)}, id="prefix"),
    ],
)
def test_check_key_alters_with_what_is_run(argv: tuple[str, ...], more: dict[str, Any]) -> None:
    given: dict[str, Any] = {"env": {"CI": "1", "A": "b"}, "timeout": 60.0, "version": "pytest 8"}
    assert check_key(argv, **{**given, **more}) != check_key(ARGV, **given)


def test_check_key_ignores_the_order_of_the_environment_and_the_kind_of_sequence() -> None:
    one = check_key(["a", "b"], env={"X": "1", "Y": "2"}, timeout=1.0)
    assert check_key(("a", "b"), env={"Y": "2", "X": "1"}, timeout=1.0) == one


def test_combined_key_depends_on_order_number_and_content() -> None:
    one, two = digest(b"one"), digest(b"two")
    keys = [combined_key(keys) for keys in ([], [one], [two], [one, two], [two, one], [one, one])]
    assert len(set(keys)) == len(keys)
    assert combined_key(iter([one, two])) == combined_key((one, two))
    assert combined_key([one]) != one


def test_keys_are_sha256_and_64_hex_digits() -> None:
    assert digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for key in (digest(b"x"), key_of(), check_key(ARGV, env={}, timeout=1.0), combined_key([]), combined_key(["x"])):
        assert KEY.fullmatch(key)


def test_keys_are_the_same_in_every_process_and_version() -> None:
    """Pinned: another value means that everything that has landed would be stale."""
    issue = Issue(id="1", title="Grüße", body="-", accept=())
    assert spec_key(canonical_spec(issue, "text", ["no"])) == (
        "sha256:503cc21fa4d153b534a3b5988d91d724b50371e2fa70bb03edc78d3a9f5293f4"
    )


@given(st.text())
def test_any_text_has_a_key(text: str) -> None:
    assert KEY.fullmatch(key_of(text=text))


def test_text_that_is_not_valid_unicode_has_a_key() -> None:
    assert KEY.fullmatch(key_of(text="\udcff"))
    assert key_of(text="\udcff") != key_of(text="\udcfe")


@given(st.text())
def test_normal_text_is_normal(text: str) -> None:
    normal = normal_text(text)
    assert normal_text(normal) == normal
    assert not normal.startswith("\n")
    assert not normal.endswith("\n")
