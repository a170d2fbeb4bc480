from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from executor.model.paths import flatten_ignores

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


@pytest.mark.parametrize(
    ("folder", "content", "flat"),
    [
        pytest.param("", b"", b"", id="empty"),
        pytest.param("", b"*.o\n", b"/**/*.o\n", id="at the root, at any depth"),
        pytest.param("sub/", b"*.o\n", b"/sub/**/*.o\n", id="in a folder, at any depth below it"),
        pytest.param("a/b/", b"*.o\n", b"/a/b/**/*.o\n", id="in a folder of a folder"),
        pytest.param("sub/", b"/out\n", b"/sub/out\n", id="anchored by a slash at its start"),
        pytest.param("sub/", b"doc/out\n", b"/sub/doc/out\n", id="anchored by a slash in its middle"),
        pytest.param("sub/", b"out/\n", b"/sub/**/out/\n", id="a slash at the end anchors nothing"),
        pytest.param("sub/", b"/out/\n", b"/sub/out/\n", id="anchored folder"),
        pytest.param("sub/", b"!keep\n", b"!/sub/**/keep\n", id="negation"),
        pytest.param("sub/", b"!/keep\n", b"!/sub/keep\n", id="anchored negation"),
        pytest.param("sub/", b"**/out\n", b"/sub/**/out\n", id="already at any depth"),
        pytest.param("sub/", b"\\!a\n\\#b\n", b"/sub/**/\\!a\n/sub/**/\\#b\n", id="escaped marks"),
        pytest.param("sub/", b"# comment\n\n  \n*.o\n", b"/sub/**/*.o\n", id="comments and blank lines are dropped"),
        pytest.param("sub/", b"a\r\nb\r\n", b"/sub/**/a\n/sub/**/b\n", id="CRLF"),
        pytest.param("sub/", b"a", b"/sub/**/a\n", id="no newline at the end"),
        pytest.param("sub/", b"\xef\xbb\xbfa\n", b"/sub/**/a\n", id="byte order mark"),
        pytest.param("sub/", b"/\n!\n!/\n", b"", id="empty patterns are dropped"),
        pytest.param("a b/", b"x\n", b"/a\\ b/**/x\n", id="space in the folder"),
        pytest.param("[a]*?/", b"x\n", b"/\\[a]\\*\\?/**/x\n", id="wildcards in the folder"),
        pytest.param("!a/#b/", b"x\n", b"/\\!a/\\#b/**/x\n", id="marks in the folder"),
        pytest.param("a\\b/", b"x\n", b"/a\\\\b/**/x\n", id="backslash in the folder"),
        pytest.param("grüße/", b"x\n", "/grüße/**/x\n".encode(), id="folder that is not ASCII"),
        pytest.param("\udcff/", b"\xfe\n", b"/\xff/**/\xfe\n", id="bytes that are not text"),
        pytest.param("a\n*\n/", b"x\n", b"/a?\\*?/**/x\n", id="line end in the folder makes no rule of its own"),
    ],
)
def test_a_rule_is_moved_to_the_root(folder: str, content: bytes, flat: bytes) -> None:
    assert flatten_ignores([(folder, content)]) == flat


def test_rules_of_all_folders_come_in_the_order_given() -> None:
    assert flatten_ignores([("", b"*.o\n"), ("a/", b"!x.o\n"), ("a/b/", b"/y\n")]) == b"/**/*.o\n!/a/**/x.o\n/a/b/y\n"
    assert flatten_ignores([]) == b""


class Repositories:
    """The same files twice: once with nested `.gitignore` files, once with the flattened rules only."""

    def __init__(self, path: Path, files: Iterable[str]) -> None:
        self.files = list(files)
        self.nested, self.flat = path / "nested", path / "flat"
        for place in (self.nested, self.flat):
            place.mkdir()
            subprocess.run(["git", "init", "-q", "."], cwd=place, env=ENVIRONMENT, check=True)
            for name in self.files:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).touch()

    def ignored(self, place: Path) -> set[str]:
        folders = {str(parent) for name in self.files for parent in (place / name).relative_to(place).parents}
        asked = "\0".join([*self.files, *(folders - {"."})])
        done = subprocess.run(
            ["git", "check-ignore", "--no-index", "-z", "--stdin"],
            cwd=place,
            env=ENVIRONMENT,
            input=os.fsencode(asked),
            capture_output=True,
            check=False,
        )
        assert done.returncode in {0, 1}, done.stderr
        return {name for name in os.fsdecode(done.stdout).split("\0") if name}

    def compare(self, rules: dict[str, bytes]) -> set[str]:
        """What git ignores by the nested files, after making sure that the flattened rules say the same."""
        for old in self.nested.rglob(".gitignore"):
            old.unlink()
        for folder, content in rules.items():
            (self.nested / folder / ".gitignore").write_bytes(content)
        (self.flat / ".git" / "info" / "exclude").write_bytes(flatten_ignores(rules.items()))
        found = self.ignored(self.nested)
        assert self.ignored(self.flat) == found
        return found


FILES = [
    "a.o",
    "keep.o",
    "out/x",
    "doc/out/x",
    "sub/a.o",
    "sub/keep.o",
    "sub/out/x",
    "sub/doc/out/x",
    "sub/deep/a.o",
    "sub/deep/keep.o",
    "sub/deep/out/x",
    "sub/deep/#hash",
    "sub/deep/!bang",
    "sub/deep/end ",
    "sub/deep/a\tb",
    "sub/deep/a\rb",
    "sub/deep/b",
    "a b/[x]/a.o",
    "a b/x/a.o",
    "a b/[x]/\udcff",
]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Repositories:
    return Repositories(tmp_path_factory.mktemp("ignore"), FILES)


@pytest.mark.parametrize(
    ("rules", "some"),
    [
        pytest.param({"": b"*.o\n"}, {"a.o", "sub/a.o", "sub/deep/a.o"}, id="at any depth"),
        pytest.param({"": b"/*.o\n"}, {"a.o", "keep.o"}, id="anchored at the root"),
        pytest.param({"sub/": b"*.o\n"}, {"sub/a.o", "sub/deep/a.o"}, id="below a folder only"),
        pytest.param({"sub/": b"/a.o\n"}, {"sub/a.o"}, id="anchored in a folder"),
        pytest.param({"sub/": b"doc/out\n"}, {"sub/doc/out", "sub/doc/out/x"}, id="slash in the middle"),
        pytest.param({"sub/": b"out/\n"}, {"sub/out", "sub/deep/out/x"}, id="folders at any depth"),
        pytest.param({"sub/": b"a.o/\n"}, set(), id="a rule for folders spares files"),
        pytest.param({"": b"*.o\n", "sub/": b"!keep.o\n"}, {"a.o", "keep.o", "sub/a.o"}, id="negated deeper"),
        pytest.param({"": b"*.o\n", "sub/": b"!/keep.o\n"}, {"sub/deep/keep.o"}, id="negated and anchored deeper"),
        pytest.param(
            {"": b"*.o\n", "sub/": b"!*.o\n", "sub/deep/": b"a.o\n"}, {"a.o", "sub/deep/a.o"}, id="three levels"
        ),
        pytest.param({"": b"!*.o\n", "sub/": b"*.o\n"}, {"sub/a.o", "sub/keep.o"}, id="ignored deeper"),
        pytest.param({"": b"out/\n", "sub/out/": b"!x\n"}, {"sub/out/x"}, id="nothing comes back from a lost folder"),
        pytest.param({"": b"*\n!*/\n!keep.o\n"}, {"a.o", "sub/a.o"}, id="all but one"),
        pytest.param({"sub/": b"*\n!.gitignore\n"}, {"sub/a.o", "sub/deep"}, id="a whole folder"),
        pytest.param({"sub/": b"**\n"}, {"sub/a.o", "sub/deep"}, id="two stars alone"),
        pytest.param({"sub/": b"**/out\n"}, {"sub/out", "sub/deep/out"}, id="two stars at the start"),
        pytest.param({"sub/": b"deep/**\n"}, {"sub/deep/a.o"}, id="two stars at the end"),
        pytest.param({"": b"sub/**/x\n"}, {"sub/out/x", "sub/deep/out/x"}, id="two stars in the middle"),
        pytest.param({"sub/": b"\\#hash\n\\!bang\n"}, {"sub/deep/#hash", "sub/deep/!bang"}, id="escaped marks"),
        pytest.param({"sub/": b"#hash\n"}, set(), id="comment"),
        pytest.param({"sub/": b"end\\ \n"}, {"sub/deep/end "}, id="escaped space at the end"),
        pytest.param({"sub/": b"end \n"}, set(), id="space at the end"),
        pytest.param({"sub/": b"a.o   \n"}, {"sub/a.o"}, id="spaces at the end are cut off"),
        pytest.param({"sub/": b"a.o\r\nout/\r\n"}, {"sub/a.o", "sub/out"}, id="CRLF"),
        pytest.param({"sub/": b"a\rb\n"}, {"sub/deep/a\rb"}, id="carriage return inside a rule"),
        pytest.param({"sub/": b"\xef\xbb\xbfa.o\n"}, {"sub/a.o"}, id="byte order mark"),
        pytest.param({"": b"*.o\n", "sub/": b"!\n/\n!/\n"}, {"sub/a.o"}, id="empty patterns"),
        pytest.param(
            {"": b"out\n", "sub/": b"!\n"}, {"sub/out", "sub/deep/out"}, id="a lone negation brings nothing back"
        ),
        pytest.param({"sub/": b"//a.o\n"}, set(), id="two slashes"),
        pytest.param({"sub/": b"out//\n"}, set(), id="two slashes at the end"),
        pytest.param({"sub/": b"[ab].o\n?.o\n"}, {"sub/a.o", "sub/deep/a.o"}, id="classes and single characters"),
        pytest.param({"a b/[x]/": b"*.o\n"}, {"a b/[x]/a.o"}, id="wildcards and space in the folder"),
        pytest.param({"a b/[x]/": b"\xff\n"}, {"a b/[x]/\udcff"}, id="bytes that are not text"),
    ],
)
def test_flattened_rules_say_what_git_says_of_nested_ones(
    repositories: Repositories, rules: dict[str, bytes], some: set[str]
) -> None:
    found = repositories.compare(rules)
    assert some <= found
    assert found or not some


def test_every_pair_of_rules_at_two_levels_says_what_git_says(repositories: Repositories) -> None:
    rules = [b"*", b"*.o", b"/a.o", b"!*.o", b"!/deep/", b"deep/", b"deep/a.o", b"!keep.o", b"**/out/", b"!out"]
    for shallow in rules[::2]:
        for deep in rules[1::2]:
            repositories.compare({"": shallow + b"\n", "sub/": deep + b"\n", "sub/deep/": shallow + b"\n"})
