"""Reading `milestones/` from disk: order, broken files, missing files, and TOML written to bring the parser down."""

from __future__ import annotations

import re
import time
import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.config.load_milestones import MOST_BYTES, TomlError, load, natural, read_toml, spec_text
from executor.errors import ExecutorError, Fault
from executor.model.milestone import Issue
from executor.process.files import decoded
from tests.support import examples, several

if TYPE_CHECKING:
    from pathlib import Path

    from pyfakefs.fake_filesystem import FakeFilesystem

BLINK = 2.0
"""Seconds in which everything hostile has to be refused."""
SIZE = 200_000


@pytest.fixture
def folder(fs: FakeFilesystem) -> Path:
    """An empty `milestones/` in a file system in memory."""
    from pathlib import Path as FakePath

    fs.create_dir("/work/milestones")
    return FakePath("/work/milestones")


def declare(folder: Path, name: str, text: str = "", extra: str = "") -> None:
    header = f'[milestone]\nid = "{name}"\ntitle = "T"\n{extra}'
    (folder / f"{name}.toml").write_text(header + text, encoding="utf-8")


def test_a_folder_is_read_in_natural_order(folder: Path) -> None:
    for name in ("m10", "m2", "a", "m1", "m1.10", "m1.9"):
        declare(folder, name, '[[issue]]\nid = "x"\ntitle = "X"\nbody = "b"\n')
    (folder / "notes.md").write_text("no declaration", encoding="utf-8")
    loaded = load(folder)
    assert loaded.faults == []
    assert list(loaded.milestones) == ["a", "m1", "m1.9", "m1.10", "m2", "m10"]
    assert loaded.files["m10"] == "milestones/m10.toml"
    assert [issue.id for issue in loaded.milestones["m2"].issues] == ["x"]
    assert loaded.folder == folder


def test_an_empty_or_missing_folder_declares_nothing(folder: Path) -> None:
    for place in (folder, folder.parent / "nowhere"):
        loaded = load(place)
        assert (loaded.milestones, loaded.files, loaded.faults, loaded.watched) == ({}, {}, [], [])


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["m10", "m2"], ["m2", "m10"]),
        (["b", "a10", "a9", "a"], ["a", "a9", "a10", "b"]),
        (["10", "9", "x"], ["9", "10", "x"]),
        (["v1.10.0", "v1.9.12", "v1.9.2"], ["v1.9.2", "v1.9.12", "v1.10.0"]),
    ],
)
def test_numbers_in_names_count(names: list[str], ordered: list[str]) -> None:
    assert sorted(names, key=natural) == ordered


@given(st.lists(st.text(max_size=8)))
def test_any_names_can_be_ordered(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural)) == sorted(names)


def test_files_that_are_named_but_missing_are_reported_and_all_are_watched(folder: Path) -> None:
    (folder / "m4").mkdir()
    (folder / "m4" / "here.md").write_text("spec", encoding="utf-8")
    (folder.parent / "docs").mkdir()
    (folder.parent / "docs" / "a.md").write_text("context", encoding="utf-8")
    declare(
        folder,
        "m4",
        '[[issue]]\nid = "4.0"\ntitle = "X"\nspec = "m4/here.md"\n'
        '[[issue]]\nid = "4.1"\ntitle = "X"\nspec = "m4/gone.md"\n'
        '[[issue]]\nid = "4.2"\ntitle = "X"\nspec = "m4"\n',
        'context = ["docs/a.md", "docs/b.md"]\nepic = "m4/epic.md"\n',
    )
    loaded = load(folder)
    advice = "write it, or correct the path"
    assert loaded.faults == [
        Fault(
            "milestones/m4.toml",
            "issue[1].spec",
            f'milestones/m4/gone.md does not exist, needed by "4.1"; {advice}',
        ),
        Fault("milestones/m4.toml", "issue[2].spec", f'milestones/m4 does not exist, needed by "4.2"; {advice}'),
        Fault("milestones/m4.toml", "milestone.context", f'docs/b.md does not exist, needed by "m4"; {advice}'),
        Fault(
            "milestones/m4.toml",
            "milestone.epic",
            f'milestones/m4/epic.md does not exist, needed by "m4"; {advice}',
        ),
    ]
    assert loaded.watched == [
        "milestones/m4/here.md",
        "milestones/m4/gone.md",
        "milestones/m4",
        "docs/a.md",
        "docs/b.md",
        "milestones/m4/epic.md",
    ]
    assert "m4" in loaded.milestones


def test_a_missing_file_is_reported_at_the_place_its_issue_has_in_the_file(folder: Path) -> None:
    declare(
        folder,
        "m4",
        '[[issue]]\nid = "bad"\ntitle = ""\nbody = "b"\n[[issue]]\nid = "4.1"\ntitle = "X"\nspec = "gone.md"\n',
    )
    assert [fault.key for fault in load(folder).faults] == ["issue[0].title", "issue[1].spec"]


def test_faults_of_all_files_come_at_once_and_faulty_things_are_known(folder: Path) -> None:
    (folder / "m1.toml").write_text("[milestone\n", encoding="utf-8")
    (folder / "m2.toml").write_bytes(b'[milestone]\nid = "\xff"\n')
    declare(folder, "m3", '[[issue]]\nid = "a"\ntitle = ""\nbody = "b"\n[[issue]]\nid = "b"\ntitle = "B"\nbody = "b"\n')
    declare(folder, "m4", "", "goal = 3\n")
    declare(folder, "m5")
    loaded = load(folder)
    assert [str(fault) for fault in loaded.faults] == [
        "milestones/m1.toml: is not TOML: Expected ']' at the end of a table declaration (at line 1, column 11)",
        "milestones/m2.toml: is not UTF-8 in line 2: byte 0xff at 18; save it as UTF-8",
        "milestones/m3.toml: issue[0].title: expected text, found an empty text",
        "milestones/m4.toml: milestone.goal: expected text, found the number 3",
    ]
    assert list(loaded.milestones) == ["m3", "m4", "m5"]
    assert list(loaded.files) == ["m3", "m4", "m5"]
    assert {"m1", "m2", "m3/a"} <= loaded.faulty
    assert not {"m3", "m4", "m5"} & loaded.faulty


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'a = "x', "is not TOML: Unterminated string (at end of document)"),
        (b"a = 1\na = 2\n", "is not TOML: Cannot overwrite a value (at line 2, column 6)"),
        (b"\n\na b = 1\n", "is not TOML: Expected '=' after a key in a key/value pair (at line 3, column 3)"),
        (b"a = \n", "is not TOML: Invalid value (at line 1, column 5)"),
        (b"\xff\xfea\x00b", "begins like UTF-16 but is not valid: truncated data; save it as UTF-8"),
        (b"a = 1 # caf\xe9", "is not UTF-8 in line 1: byte 0xe9 at 11; save it as UTF-8"),
        (b"a = 1\x00", "is not TOML: Expected newline or end of document after a statement (at line 1, column 6)"),
    ],
)
def test_a_file_that_is_not_toml_is_reported_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    assert refusal(tmp_path, content) == message


def test_a_file_is_refused_from_one_byte_more_than_the_most(tmp_path: Path) -> None:
    assert refusal(tmp_path, b"#" * (MOST_BYTES + 1)) == "is larger than 16 MiB; split it into several milestones"
    (tmp_path / "x.toml").write_bytes(b"#" * MOST_BYTES)
    assert read_toml(tmp_path / "x.toml") == {}


@pytest.mark.parametrize(
    "content", [b"a = 1979-13-45\n", pytest.param(b"a = " + b"9" * 5000, id="huge"), b"a = 0000-01-01\n"]
)
def test_a_value_that_python_cannot_hold_is_reported_in_one_line(tmp_path: Path, content: bytes) -> None:
    assert re.match("(is not TOML|has a value that cannot be read): .", refusal(tmp_path, content))


def test_a_file_that_cannot_be_read_is_reported_why(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    for name, why in (
        ("folder.toml", "Is a directory"),
        ("gone.toml", "No such file or directory"),
        ("loop.toml", "Too many levels of symbolic links"),
    ):
        with pytest.raises(TomlError) as caught:
            read_toml(tmp_path / name)
        assert str(caught.value) == f"cannot be read: {why}"


def refusal(folder: Path, content: bytes) -> str:
    path = folder / "x.toml"
    path.write_bytes(content)
    with pytest.raises(TomlError) as caught:
        read_toml(path)
    return str(caught.value)


DOTTED = "has a key of more than 32 dotted parts"
GROWING = b"".join(b"[" + b".".join([b"a"] * number) + b"]\n" for number in range(1, 1501))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b".".join([b"a"] * (SIZE // 2)) + b" = 1", DOTTED),
        (b" . ".join([b"a"] * (SIZE // 4)) + b" = 1", DOTTED),
        (b"[" + b".".join([b"a"] * (SIZE // 2)) + b"]", DOTTED),
        (b"[[" + b".".join([b"a"] * (SIZE // 2)) + b"]]", DOTTED),
        (b".".join([b'"a"'] * (SIZE // 4)) + b" = 1", DOTTED),
        (b".".join([b"'a'"] * (SIZE // 4)) + b" = 1", DOTTED),
        (b".".join([b'"a\\"b"'] * (SIZE // 8)) + b" = 1", DOTTED),
        (b"x = { " + b".".join([b"a"] * (SIZE // 2)) + b" = 1 }", DOTTED),
        (b"x = [{ y = { " + b".".join([b"a"] * (SIZE // 2)) + b" = 1 } }]", DOTTED),
        (b"x = { a = 1, " + b".".join([b"b"] * (SIZE // 2)) + b" = 1 }", DOTTED),
        (b'x = "text", ' + b".".join([b"a"] * (SIZE // 2)) + b" = 1", DOTTED),
        (b'x = """\n"""\n' + b".".join([b"a"] * (SIZE // 2)) + b" = 1", DOTTED),
        (b"# it's\n" + b".".join([b"a"] * (SIZE // 2)) + b" = 1 # it's", DOTTED),
        (b'x = "\\""\n' + b".".join([b"a"] * (SIZE // 2)) + b" = 1", DOTTED),
        (b"x = '\\'\n" + b".".join([b"a"] * (SIZE // 2)) + b" = '\\'", DOTTED),
        (GROWING, DOTTED),
        (b"a = " + b"[" * 10_000 + b"]" * 10_000, "is nested too deeply"),
        (b"a = " + b"[" * 10_000, "is nested too deeply"),
        (b"a = " + b"{ a = " * 10_000, "is nested too deeply"),
    ],
    ids=[
        "key",
        "key with spaces",
        "header",
        "header of a list",
        "quoted key",
        "literal key",
        "quoted key with escapes",
        "key in an inline table",
        "key in nested inline tables",
        "second key of an inline table",
        "after a text",
        "after a long text",
        "between apostrophes in comments",
        "after an escaped quote",
        "between backslashes in literals",
        "growing headers",
        "nested arrays",
        "nested arrays without an end",
        "nested tables without an end",
    ],
)
def test_a_toml_bomb_is_refused_before_it_goes_off(tmp_path: Path, content: bytes, message: str) -> None:
    begin = time.process_time()
    assert refusal(tmp_path, content) == message
    assert time.process_time() - begin < BLINK


@pytest.mark.parametrize(
    "content",
    [
        b'a = "' + b"\\" * SIZE,
        b'a = "' + b'\\"' * (SIZE // 2),
        b'a = """' + b'\\"' * (SIZE // 2),
        b'a = """' + b'""\\' * (SIZE // 3),
        b'a = """' + b'"" ' * (SIZE // 3),
        b"a = '''" + b"'' " * (SIZE // 3),
        b"a = '" + b'"' * SIZE,
        b'"' * SIZE,
        b"'" * SIZE,
        b'"\\' * (SIZE // 2),
        b'"""' + b"'''" * (SIZE // 3),
        b'a = "' + b"." * SIZE,
        b'a = """' + b"." * SIZE,
        b'a = """' + b'.""' * (SIZE // 3),
        b"a = '''" + b".''\n" * (SIZE // 4),
        b"a = '" + b".\\'" * (SIZE // 3),
        b"." * SIZE,
        b'".' * (SIZE // 2),
        b".'\"" * (SIZE // 3),
        b"# " + b"." * SIZE + b"\n=",
        b"[" * SIZE + b"." * 40,
    ],
    ids=range(21),
)
def test_texts_that_never_end_are_refused_at_once(tmp_path: Path, content: bytes) -> None:
    begin = time.process_time()
    assert "\n" not in refusal(tmp_path, content)
    assert time.process_time() - begin < BLINK


MANY = ".".join("x" * 100)


@pytest.mark.parametrize(
    "content",
    [
        "a = [" + ", ".join(f"{number}.5" for number in range(500)) + "]",
        "a = [\n" + ",\n".join(f"[{number}.5, 1.25]" for number in range(500)) + "\n]",
        f'a = "https://example.org/{MANY}?q={MANY}"',
        f"a = 'https://example.org/{MANY}'",
        f"# {MANY}\na = 1 # see {MANY}, it's \"{MANY}\n",
        f'a = """\n{MANY}\n\\"""{MANY} ""\n"""',
        f'a = """{MANY}"""""\nb = "{MANY}"',
        f"a = '''{MANY} '' {MANY}'''''\nb = '{MANY}'",
        f"a = '''\n{MANY} \"\"\"\n'''\nb = \"\"\"'''{MANY}\"\"\"",
        f'"{MANY}" = 1\n\'{MANY}b\' = 2\n["{MANY}c"]\na = {{ "{MANY}" = 1 }}',
        f'a = "\\\\"\nb = "{MANY}"',
        f'a = \'\\\'\nb = "{MANY}\\"{MANY}"',
        ".".join(f"k{number}" for number in range(33)) + " = 1",
        f"a = [{{ run = 'x {MANY}' }}, {{ file = '{MANY}' }}]",
        '[[issue]]\nbody = """\n' + "Sentence. Another... And so on.\n" * 500 + '"""\n',
        "a = [1.5, 2.5]\n" * 1 + "\n".join(f"b.c{number} = {number}.25" for number in range(200)),
    ],
    ids=range(16),
)
def test_a_legitimate_file_with_many_dots_is_read_as_the_standard_library_reads_it(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(content, encoding="utf-8")
    assert read_toml(path) == tomllib.loads(content)


def test_a_file_of_two_thousand_issues_with_bodies_is_read(tmp_path: Path) -> None:
    body = "It has to work. It's to be seen in https://example.org/a.b.c.\n" * 4
    text = "".join(f'[[issue]]\nid = "{n}"\ntitle = "T"\nbody = """\n{body}"""\n' for n in range(2_000))
    declare(tmp_path, "m4", text)
    loaded = load(tmp_path)
    assert loaded.faults == []
    assert len(loaded.milestones["m4"].issues) == 2_000


PIECES = [*".=[]{}\"'\\\n#, a1é\0", '"""', "'''", "1979-05-27"]


@pytest.mark.parser
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | several(PIECES, max_size=60).map("".join))
def test_any_text_is_read_or_refused_with_one_line(tmp_path: Path, text: str) -> None:
    read_or_refused(tmp_path, text.encode())


@pytest.mark.parser
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_one_line(tmp_path: Path, data: bytes) -> None:
    read_or_refused(tmp_path, data)


def read_or_refused(folder: Path, data: bytes) -> None:
    path = folder / "x.toml"
    path.write_bytes(data)
    try:
        assert read_toml(path) == tomllib.loads(decoded(data))
    except TomlError as error:
        assert str(error).isprintable()  # noqa: PT017  (both outcomes are right)


def issue(**values: object) -> Issue:
    return Issue.model_validate({"id": "4.1", "title": "T", **values})


def test_the_text_of_a_spec_is_its_body_or_its_file(folder: Path) -> None:
    (folder / "a.md").write_bytes("Grüße\r\n".encode() + b"\xff")
    loaded = load(folder)
    assert spec_text(loaded, "m4", issue(body="")) == ""
    assert spec_text(loaded, "m4", issue(body="do it")) == "do it"
    assert spec_text(loaded, "m4", issue(spec="a.md")) == "Grüße\r\n\ufffd"


def test_a_spec_that_vanished_or_grew_too_long_is_reported(folder: Path) -> None:
    (folder / "long.md").write_bytes(b"x" * (2**20 + 1))
    (folder / "fits.md").write_bytes(b"x" * 2**20)
    loaded = load(folder)
    assert len(spec_text(loaded, "m4", issue(spec="fits.md"))) == 2**20
    for spec, why in (
        ("gone.md", "cannot be read: No such file or directory"),
        ("long.md", "is larger than 1 MiB; shorten it"),
    ):
        with pytest.raises(ExecutorError) as caught:
            spec_text(loaded, "m4", issue(spec=spec))
        assert str(caught.value) == f"milestones/{spec}, the spec of m4/4.1, {why}"
