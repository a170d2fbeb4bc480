"""A commit's change, parsed from `git diff-tree -p --full-index --no-renames`; a tree with other files.

The result key is the stable identity of a change: the paths, modes and lines it touches, without line numbers, so that
rebase, squash or an unrelated commit does not alter it. Binary files count by the ids of both contents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.model.fingerprint import digest
from executor.model.hints import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Entries = Mapping[str, tuple[bytes, str]]

__all__ = ["LONGEST_LINE", "Change", "FileChange", "Finding", "Line", "lines_left", "parse_diff", "replaced", "unquote"]

Finding = tuple[str, int, str]
"""A finding at a place: path, line number (0 for the whole file), text."""
LONGEST_LINE = 20_000  # characters; minified files have longer lines, and no rule needs the rest

_AT = re.compile(rb"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_HUNK = re.compile(rb"(?m)^@@ -\S+ \+\S+ @@.*$")
_INDEX = re.compile(rb"(?m)^index ([0-9a-f]+)\.\.([0-9a-f]+).*\n")
_MODE = re.compile(rb"(?m)^(old mode|new mode|new file mode|deleted file mode) (\d{6})$")
_SAME_MODE = re.compile(rb"(?m)^index [0-9a-f]+\.\.[0-9a-f]+ (\d{6})$")
_ESCAPE = re.compile(rb'\\([abtnvfr"\\]|[0-3][0-7]{2})')
_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}


@dataclass(frozen=True, slots=True)
class Line:
    """An added or removed line.

    Attributes:
        number: number of an added line in the new file, of a removed line in the old one. Ignored in comparisons: the
            same change further down in a file is the same change.
        text: without line end; bytes that are not UTF-8 are kept as surrogate escapes; a very long line is truncated.
        added: the line was added; otherwise removed.
    """

    number: int = field(compare=False)
    text: str
    added: bool


@dataclass(frozen=True, slots=True)
class FileChange:
    """A changed file.

    Attributes:
        path: path in git; bytes that are not UTF-8 are kept as surrogate escapes.
        kind: ``created``, ``modified``, ``deleted`` or ``mode`` (only the mode or type changed).
        added: lines added; 0 for binary files.
        removed: lines removed; 0 for binary files.
        binary: git treats the content as binary.
        old_mode: git's mode before the change (``100644``); empty for a new file or an unknown mode.
        new_mode: git's mode after the change; empty for a deleted file or an unknown mode.
        lines: added and removed lines in the order of the diff; none for binary files.
        old_id: git's full id of the old content; zeros if it did not exist, empty if git does not report it.
        new_id: git's full id of the new content.
    """

    path: str
    kind: str
    added: int
    removed: int
    binary: bool
    old_mode: str = ""
    new_mode: str = ""
    lines: tuple[Line, ...] = ()
    old_id: str = field(default="", compare=False)
    new_id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Change:
    """All files of a change, in git's order, and the change's stable result key."""

    files: tuple[FileChange, ...]
    key: str

    @property
    def added(self) -> int:
        """Lines added in text files."""
        return sum(file.added for file in self.files)

    @property
    def removed(self) -> int:
        """Lines removed in text files."""
        return sum(file.removed for file in self.files)

    def of_kind(self, kind: str) -> list[str]:
        """Return the paths of the files of one kind, in git's order."""
        return [file.path for file in self.files if file.kind == kind]

    def summary(self) -> str:
        """Return one line: ``3 files changed, 120 lines added, 4 removed``."""
        files, added = len(self.files), self.added
        changed = f"{counted(files, 'file')} changed"
        return f"{changed}, {counted(added, 'line')} added, {self.removed} removed"


def parse_diff(text: bytes) -> Change:
    """Parse the text of one diff; an empty text is the empty change."""
    sections = [part for part in re.split(rb"(?m)^(?=diff --git )", text) if part.startswith(b"diff --git ")]
    normal = [_normal(section) for section in sections]
    return Change(tuple(_file(section) for section in sections), digest(b"".join(normal)))


def lines_left(added: Change, since: Change) -> int:
    """Return how many lines that a change added are not removed by a later change of its result."""
    gone = {(file.path, line.number) for file in since.files for line in file.lines if not line.added}
    own = {(file.path, line.number) for file in added.files for line in file.lines if line.added}
    return len(own - gone)


def unquote(name: bytes) -> str:
    r"""Decode a path that git quotes because of unusual bytes, such as ``"a\\303\\244"``.

    Accepts any bytes; an escape that git does not produce is left unchanged.
    """
    if not name.startswith(b'"'):
        return name.decode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_escaped, name[1:-1]).decode("utf-8", "surrogateescape")


def _escaped(escape: re.Match[bytes]) -> bytes:
    sign = escape[1].decode()
    return bytes([_ESCAPES[sign] if sign in _ESCAPES else int(sign, 8)])


def _file(section: bytes) -> FileChange:
    head, body = _split(section)
    modes = dict(_MODE.findall(head))
    binary = _is_binary(head)
    if b"new file mode" in modes:
        kind = "created"
    elif b"deleted file mode" in modes:
        kind = "deleted"
    else:
        kind = "modified" if body or binary else "mode"
    old, new = _modes(modes, head)
    added, removed = body.count(b"\n+"), body.count(b"\n-")
    index = _INDEX.search(head)
    ids = (index[1].decode(), index[2].decode()) if index else ("", "")
    return FileChange(_path(head), kind, added, removed, binary, old, new, _lines(body), *ids)


def _modes(data: dict[bytes, bytes], head: bytes) -> tuple[str, str]:
    """Return the modes before and after."""
    if b"new file mode" in data:
        return "", data[b"new file mode"].decode()
    if b"deleted file mode" in data:
        return data[b"deleted file mode"].decode(), ""
    same = _SAME_MODE.search(head)
    both = same[1] if same else b""
    return data.get(b"old mode", both).decode(), data.get(b"new mode", both).decode()


def _split(section: bytes) -> tuple[bytes, bytes]:
    """Split one file's section into header and hunks; the hunks keep the newline before them."""
    at = section.find(b"\n@@ ")
    return (section, b"") if at < 0 else (section[: at + 1], section[at:])


def _is_binary(head: bytes) -> bool:
    return b"\nBinary files " in head or b"\nGIT binary patch\n" in head


def _lines(body: bytes) -> tuple[Line, ...]:
    lines: list[Line] = []
    old = new = 0
    for raw in body.split(b"\n"):
        sign = raw[:1]
        if sign == b"+":
            lines.append(Line(new, _text(raw), added=True))
            new += 1
        elif sign == b"-":
            lines.append(Line(old, _text(raw), added=False))
            old += 1
        elif sign == b" ":
            old, new = old + 1, new + 1
        elif sign == b"@" and (at := _AT.match(raw)):
            old, new = int(at[1]), int(at[2])
    return tuple(lines)


def _text(raw: bytes) -> str:
    line = raw[1 : 4 * LONGEST_LINE].removesuffix(b"\r")
    return line.decode("utf-8", "surrogateescape")[:LONGEST_LINE]


def _path(head: bytes) -> str:
    """Return the path from ``diff --git a/P b/P``: both are equal because rename detection is off."""
    names = head[len(b"diff --git ") :].split(b"\n", 1)[0]
    return unquote(names[: (len(names) - 1) // 2])[2:]


def _normal(section: bytes) -> bytes:
    head, body = _split(section)
    if not _is_binary(head):
        head = _INDEX.sub(b"", head)
    return head + _HUNK.sub(b"@@", body)


_TREE, _FILES = b"40000", {b"100644", b"100755"}
_MODES = {_TREE, *_FILES, b"120000", b"160000"}


def replaced(
    entries_of: Callable[[str], Entries | None], tree: str, files: Entries, write: Callable[[Entries], str]
) -> str:
    """Return a tree with other files; empty if nothing is left in it.

    Args:
        entries_of: the entries of a tree, each with mode and id; None if it is missing.
        tree: id of the tree; empty for a new one.
        files: mode and id of each file by its path; empty ones remove it.
        write: writes a tree of such entries and returns its id.

    Raises:
        LookupError: a file takes the place of anything but a file, or the tree has unusual entries.
    """
    entries = entries_of(tree) if tree else {}
    own, inside = dict(entries or {}), dict[str, dict[str, tuple[bytes, str]]]()
    for name, entry in files.items():
        first, slash, rest = name.partition("/")
        if slash:
            inside.setdefault(first, {})[rest] = entry
        elif own.pop(first, entry)[0] not in {*_FILES, b""}:
            raise LookupError(name)
        elif entry[0]:
            own[first] = entry
    for name, below in inside.items():
        mode, folder = own.pop(name, (_TREE, ""))
        if mode != _TREE:
            raise LookupError(name)
        if made := replaced(entries_of, folder, below, write):
            own[name] = _TREE, made
    if entries is None or any(mode not in _MODES for mode, _ in own.values()):
        raise LookupError(tree)
    if own == entries:
        return tree
    return write(own) if own else ""
