from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.git.diff import Change, FileChange, parse_diff, unquote
from executor.model.fingerprint import digest
from tests.support import several

if TYPE_CHECKING:
    from pathlib import Path

FLAGS = ("diff-tree", "-r", "-p", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv")
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
EXECUTABLE, LINK = "100755", "120000"
LINES = b"".join(b"line %d\n" % number for number in range(40))
BINARY = bytes(range(256))
Tree = Mapping[str, bytes | tuple[str, bytes]]


class Trees:
    """Trees written straight to git's objects, so that any name and mode can be had on any file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "-q", "--bare", ".")

    def git(self, *arguments: str, given: bytes = b"") -> bytes:
        environment = {**ENVIRONMENT, "GIT_INDEX_FILE": str(self.path / "index.tmp")}
        done = subprocess.run(["git", *arguments], cwd=self.path, env=environment, input=given, capture_output=True)  # noqa: PLW1510
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tree(self, files: Tree) -> str:
        (self.path / "index.tmp").unlink(missing_ok=True)
        entries = b""
        for name, value in files.items():
            mode, content = value if isinstance(value, tuple) else ("100644", value)
            blob = self.git("hash-object", "-w", "--stdin", given=content).strip()
            entries += mode.encode() + b" " + blob + b"\t" + os.fsencode(name) + b"\0"
        self.git("update-index", "-z", "--add", "--index-info", given=entries)
        return self.git("write-tree").decode().strip()

    def change(self, old: Tree, new: Tree) -> Change:
        return parse_diff(self.git(*FLAGS, self.tree(old), self.tree(new)))


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


def kinds(change: Change) -> list[tuple[str, str, int, int, bool]]:
    return [(file.path, file.kind, file.added, file.removed, file.binary) for file in change.files]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param({}, {}, [], id="nothing"),
        pytest.param({}, {"a": b"1\n2\n"}, [("a", "created", 2, 0, False)], id="created"),
        pytest.param({"a": b"1\n2\n"}, {"a": b"1\n3\n4\n"}, [("a", "modified", 2, 1, False)], id="modified"),
        pytest.param({"a": b"1\n2\n"}, {}, [("a", "deleted", 0, 2, False)], id="deleted"),
        pytest.param({"a": b"1\n"}, {"a": (EXECUTABLE, b"1\n")}, [("a", "mode", 0, 0, False)], id="mode only"),
        pytest.param(
            {"a": b"1\n"}, {"a": (EXECUTABLE, b"2\n")}, [("a", "modified", 1, 1, False)], id="mode and content"
        ),
        pytest.param(
            {"a": LINES}, {"b": LINES}, [("a", "deleted", 0, 40, False), ("b", "created", 40, 0, False)], id="renamed"
        ),
        pytest.param({}, {"a": BINARY}, [("a", "created", 0, 0, True)], id="binary created"),
        pytest.param({"a": BINARY}, {"a": BINARY + b"x"}, [("a", "modified", 0, 0, True)], id="binary modified"),
        pytest.param({"a": BINARY}, {}, [("a", "deleted", 0, 0, True)], id="binary deleted"),
        pytest.param({"a": b"text\n"}, {"a": BINARY}, [("a", "modified", 0, 0, True)], id="text becomes binary"),
        pytest.param({}, {"a": (LINK, b"b/c")}, [("a", "created", 1, 0, False)], id="link created"),
        pytest.param({"a": (LINK, b"b")}, {"a": (LINK, b"c")}, [("a", "modified", 1, 1, False)], id="link moved"),
        pytest.param(
            {"a": b"text\n"},
            {"a": (LINK, b"b")},
            [("a", "deleted", 0, 1, False), ("a", "created", 1, 0, False)],
            id="file becomes a link",
        ),
        pytest.param({}, {"a": b""}, [("a", "created", 0, 0, False)], id="empty created"),
        pytest.param({"a": b""}, {}, [("a", "deleted", 0, 0, False)], id="empty deleted"),
        pytest.param({"a": b""}, {"a": b"1\n"}, [("a", "modified", 1, 0, False)], id="empty filled"),
        pytest.param({"a": b"1\n"}, {"a": b""}, [("a", "modified", 0, 1, False)], id="emptied"),
        pytest.param({"a": b""}, {"a": (EXECUTABLE, b"")}, [("a", "mode", 0, 0, False)], id="empty made executable"),
        pytest.param({}, {"a": b"1"}, [("a", "created", 1, 0, False)], id="no newline at the end"),
        pytest.param({"a": b"1"}, {"a": b"1\n"}, [("a", "modified", 1, 1, False)], id="newline added at the end"),
        pytest.param(
            {"a": b"-- a\n@@ x\ndiff --git a/b b/b\n"},
            {"a": b"++ b\n@@ -1 +1 @@ y\nBinary files a/x and b/x differ\ndiff --git a/c b/c\nnew file mode 100644\n"},
            [("a", "modified", 5, 3, False)],
            id="content that looks like a diff",
        ),
        pytest.param({"a": b"1\r\n2\r"}, {"a": b"1\r2\r\n"}, [("a", "modified", 1, 2, False)], id="carriage returns"),
        pytest.param(
            {"a/x": b"1\n", "b": b"1\n"},
            {"b": b"2\n", "c/d/e": b"3\n"},
            [("a/x", "deleted", 0, 1, False), ("b", "modified", 1, 1, False), ("c/d/e", "created", 1, 0, False)],
            id="several",
        ),
        pytest.param({"a": b"1\n"}, {"a/b": b"1\n"}, None, id="file becomes a folder"),
    ],
)
def test_kinds_of_changes_are_read(
    trees: Trees, old: Tree, new: Tree, expected: list[tuple[str, str, int, int, bool]] | None
) -> None:
    expected = expected if expected is not None else [("a", "deleted", 0, 1, False), ("a/b", "created", 1, 0, False)]
    assert kinds(trees.change(old, new)) == expected


NAMES = [
    "with space",
    " leading and trailing ",
    "a b/c b/d",
    "x b/x",
    "grüße/日本.txt",
    'quote".txt',
    "back\\slash",
    "new\nline",
    "tab\tbell\x07",
    "\x01\x7f",
    "new\ndiff --git a/evil b/evil\n@@ ",
    "\udcff\udcfe",
    "-dash",
    "a/b/c/d",
    "emoji 🎉",
    "\\303\\244",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_read_as_they_are(trees: Trees, name: str) -> None:
    assert kinds(trees.change({}, {name: b"1\n"})) == [(name, "created", 1, 0, False)]


@pytest.mark.parametrize("content", [b"1\n", b"", BINARY], ids=["text", "empty", "binary"])
def test_every_name_in_one_change_is_read(trees: Trees, content: bytes) -> None:
    change = trees.change({}, dict.fromkeys(NAMES, content))
    assert sorted(file.path for file in change.files) == sorted(NAMES)


def test_a_submodule_is_read_as_one_line(trees: Trees) -> None:
    tree = trees.git("mktree", "--missing", given=b"160000 commit " + b"1" * 40 + b"\tsub\n").decode().strip()
    change = parse_diff(trees.git(*FLAGS, trees.tree({}), tree))
    assert kinds(change) == [("sub", "created", 1, 0, False)]


OTHER = b"".join(b"other %d\n" % number for number in range(40))


def edit(content: bytes) -> bytes:
    return content.replace(b"line 20\n", b"line twenty\nand more\n")


def test_result_key_is_the_same_lower_in_the_file(trees: Trees) -> None:
    here = trees.change({"a": LINES}, {"a": edit(LINES)})
    lower = trees.change({"a": OTHER + LINES}, {"a": OTHER + edit(LINES)})
    assert here.files == lower.files
    assert here.key == lower.key


def test_result_key_is_the_same_under_another_function_heading(trees: Trees) -> None:
    one, two = (b"def %s():\n" % name + LINES.replace(b"line", b"    line") for name in (b"one", b"two"))
    here = trees.change({"a": one}, {"a": edit(one)})
    there = trees.change({"a": two}, {"a": edit(two)})
    assert here.added == 2
    assert here.key == there.key


def test_result_key_is_the_same_after_other_files_and_far_lines_changed(trees: Trees) -> None:
    before = trees.change({"a": LINES}, {"a": edit(LINES)})
    base: dict[str, bytes] = {"a": LINES.replace(b"line 1\n", b"first\n"), "b": OTHER, "c": BINARY}
    after = trees.change(base, {**base, "a": edit(base["a"])})
    assert before.key == after.key


def test_result_key_is_that_of_real_commits_after_rebase(tmp_path: Path) -> None:
    def git(*arguments: str) -> bytes:
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, env=ENVIRONMENT, capture_output=True)  # noqa: PLW1510
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(content: bytes) -> None:
        (tmp_path / "a").write_bytes(content)
        git("add", "-A")
        git("commit", "-q", "-m", "x")

    git("init", "-q", "-b", "main")
    commit(LINES)
    git("checkout", "-q", "-b", "topic")
    commit(edit(LINES))
    before = parse_diff(git(*FLAGS, "main", "topic"))
    git("checkout", "-q", "main")
    commit(OTHER + LINES)
    git("rebase", "-q", "main", "topic")
    after = parse_diff(git(*FLAGS, "main", "topic"))
    assert before == after
    assert before.added == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param({"a": LINES}, {"a": edit(LINES).replace(b"twenty", b"Twenty")}, id="line"),
        pytest.param({"a": LINES}, {"a": edit(LINES).replace(b"and more\n", b"and more \n")}, id="white space"),
        pytest.param({"a": LINES}, {"a": edit(LINES).replace(b"line 39\n", b"line 39")}, id="no newline at the end"),
        pytest.param({"a": LINES}, {"a": (EXECUTABLE, edit(LINES))}, id="mode"),
        pytest.param({"b": LINES}, {"b": edit(LINES)}, id="path"),
        pytest.param({"a": LINES}, {"a": edit(LINES), "b": b""}, id="empty file more"),
        pytest.param({"a": LINES}, {"a": LINES.replace(b"line 20\n", b"and more\nline twenty\n")}, id="order"),
        pytest.param({"a": edit(LINES)}, {"a": LINES}, id="the other way round"),
        pytest.param({"a": LINES}, {}, id="deleted"),
        pytest.param({}, {"a": edit(LINES)}, id="created"),
        pytest.param({"a": LINES}, {"a": LINES}, id="nothing"),
    ],
)
def test_result_key_alters_with_the_change(trees: Trees, old: Tree, new: Tree) -> None:
    assert trees.change(old, new).key != trees.change({"a": LINES}, {"a": edit(LINES)}).key


def test_result_key_alters_with_binary_content_mode_and_path(trees: Trees) -> None:
    keys = [
        trees.change({}, {"a": BINARY}).key,
        trees.change({}, {"a": BINARY + b"x"}).key,
        trees.change({}, {"a": (EXECUTABLE, BINARY)}).key,
        trees.change({}, {"b": BINARY}).key,
        trees.change({"a": BINARY}, {}).key,
        trees.change({"a": b"text\n"}, {"a": BINARY}).key,
    ]
    assert len(set(keys)) == len(keys)


def test_result_key_alters_with_the_target_of_a_link_and_is_not_that_of_a_file(trees: Trees) -> None:
    new: list[Tree] = [{"a": (LINK, b"b")}, {"a": (LINK, b"c")}, {"a": b"b"}]
    assert len({trees.change({}, tree).key for tree in new}) == 3


def test_result_key_is_the_same_when_read_twice_and_from_the_other_order_of_writing(trees: Trees) -> None:
    assert trees.change({}, {"a": b"1\n", "b": b"2\n"}).key == trees.change({}, {"b": b"2\n", "a": b"1\n"}).key


def test_the_empty_change() -> None:
    assert parse_diff(b"") == Change((), digest(b""))


def test_summary_and_kinds_count() -> None:
    change = Change(
        (
            FileChange("a", "created", 3, 0, False),
            FileChange("b", "modified", 1, 2, False),
            FileChange("c", "created", 0, 0, True),
        ),
        "",
    )
    assert (change.added, change.removed) == (4, 2)
    assert change.of_kind("created") == ["a", "c"]
    assert change.of_kind("deleted") == []
    assert change.summary() == "3 files changed, 4 lines added, 2 removed"
    one = Change((FileChange("a", "created", 1, 0, False),), "")
    assert one.summary() == "1 file changed, 1 line added, 0 removed"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"plain", "plain"),
        (b'"a\\303\\244"', "aä"),
        (b'"\\"\\\\\\t\\n\\a\\b\\v\\f\\r"', '"\\\t\n\a\b\v\f\r'),
        (b'"\\377"', "\udcff"),
        (b"\xc3\xa4", "ä"),
        (b"\xff", "\udcff"),
        (b'"\xff"', "\udcff"),
        (b'"\\\\303"', "\\303"),
    ],
)
def test_quoted_names_are_unquoted(name: bytes, path: str) -> None:
    assert unquote(name) == path


def test_names_that_git_never_prints_are_kept_as_they_are() -> None:
    assert unquote(b'"\\') == ""
    assert unquote(b'"\\777\\9\\x"') == "\\777\\9\\x"


PIECES = several(
    [
        b"diff --git ",
        b"diff --git a/x b/x\n",
        b'"a/\\303',
        b'"',
        b"\\",
        b"\\777",
        b"\n@@ ",
        b"@@ -1 +1 @@ f\n",
        b"\n",
        b"index 0123..4567 100644\n",
        b"old mode 100644\n",
        b"new file mode 100644\n",
        b"Binary files ",
        b"+x\n",
        b"\r",
        b"\0",
        b"\xff",
    ]
).map(b"".join)


@pytest.mark.parser
@given(st.binary() | PIECES)
def test_any_bytes_can_be_read(data: bytes) -> None:
    change = parse_diff(data)
    assert change.key.startswith("sha256:")
    assert change.added >= 0
    assert change.removed >= 0
    assert parse_diff(data) == change


@given(st.binary())
def test_any_name_can_be_unquoted(name: bytes) -> None:
    assert isinstance(unquote(name), str)
    assert isinstance(unquote(b'"' + name + b'"'), str)
