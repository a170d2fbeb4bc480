"""Content that cannot be looked at, and characters that are not seen."""

from __future__ import annotations

import pytest

from executor.git.diff import FileChange, Line
from executor.stop_rules.content import unlookable


def found(path: str, data: bytes, old: bytes | None = None) -> list[str]:
    shown = "" if b"\0" in data else data.decode("utf-8", "surrogateescape")  # as git shows it
    lines = tuple(Line(number, text, added=True) for number, text in enumerate(shown.split("\n"), 1))
    file = FileChange(path, "created" if old is None else "modified", 1, 0, binary=False, lines=lines)
    return [told for _, _, told in unlookable([file], lambda _, new: data if new else old)]


@pytest.mark.parametrize(
    ("path", "data", "word"),
    [
        ("conf.js", b"/* \0 */ exports.k = 1\n", "NUL"),
        ("settings.ini", b"\0", "NUL"),
        ("calc.py", b"x = '" + b"a" * 20_100 + b"'; import os\n", "line of"),
        ("calc.py", (b"x" * 99 + b"\n") * 60_000, "larger"),
        ("data.json", b'{"k": "\xe9\x01\xff\x02"}', "encoding"),
        ("lib.so", b"\x7fELF", "program"),
        ("vendor.zip", b"PK\x03\x04", "packed"),
        ("a.py", "if x:  # \u202e } \u2066if admin".encode(), "direction"),
        ("a.js", "const \u3164 = 1".encode(), "invisible"),
        ("a.py", "x\u200b = 1".encode(), "invisible"),
        ("tests/a.py", "x\u200b = 1".encode(), "invisible"),
        ("a.json", '{"k": "\u202e"}'.encode(), "direction"),
        ("a\u202egpj.py", b"", "its name"),
        ("a\x07b.py", b"", "its name"),
    ],
)
def test_what_stops(path: str, data: bytes, word: str) -> None:
    assert any(word in told for told in found(path, data)), found(path, data)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.py", b"x = 1\n"),
        ("a.py", b"\xef\xbb\xbfx = 1\n"),
        ("a.txt", "Gr\u00fc\u00dfe aus K\u00f6ln\n".encode("latin-1")),
        ("logo.png", b"\x89PNG\0\0"),
        ("font.woff2", b"\0\1"),
        ("a.ini", "k = v\n".encode("utf-16")),
        ("a.po", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645".encode()),
        ("a.py", "x = '\U0001f468\u200d\U0001f469'".encode()),
        ("README.md", "right to left: \u202b".encode()),
        ("a.py", b"x = '\x1b[0m'"),
        ("tests/data/urls.json", '{"k": "a\ufeff\u202e"}'.encode()),
    ],
)
def test_what_passes(path: str, data: bytes) -> None:
    assert found(path, data) == []


def test_what_was_there_before_is_not_held_against_a_change() -> None:
    long = b"x = '" + b"a" * 20_100 + b"'\n"
    assert found("a.js", long + b"y = 1\n", long) == []
