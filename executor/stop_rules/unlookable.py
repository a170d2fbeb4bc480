"""Content that rules cannot examine, and characters whose display differs from the executed text. Pure.

A rule says nothing about a file that it cannot read. So a text file with a NUL byte, a line beyond the limit, bytes in
no known encoding, or an excessive size is itself a stop, as are bidirectional controls and invisible characters in
code and file names.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from executor.git.diff import LONGEST_LINE
from executor.model.paths import is_documentation, is_test, suffix_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from executor.git.diff import FileChange, Finding

__all__ = ["LARGEST", "MEDIA", "unlookable"]

LARGEST = 5_000_000
"""Maximum bytes of a file that rules read."""
MEDIA = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".webp",
        ".avif",
        ".bmp",
        ".ico",
        ".icns",
        ".tif",
        ".tiff",
        ".psd",
        ".mp3",
        ".mp4",
        ".m4a",
        ".ogg",
        ".opus",
        ".wav",
        ".flac",
        ".webm",
        ".mov",
        ".avi",
        ".woff",
        ".woff2",
        ".ttf",
        ".otf",
        ".eot",
        ".pdf",
        ".xls",
        ".xlsx",
        ".doc",
        ".docx",
        ".ppt",
        ".pptx",
        ".odt",
        ".ods",
        ".epub",
        ".mo",
        ".npy",
        ".npz",
        ".parquet",
        ".sqlite",
        ".db",
        ".bin",
        ".dat",
        ".pt",
        ".onnx",
        ".safetensors",
        ".h5",
        ".hdf5",
        ".glb",
        ".blend",
        ".dds",
        ".ktx",
        ".swf",
        ".heic",
    ]
)
"""Suffixes of files that are neither text nor executable."""
_PACKED = frozenset(
    [
        ".zip",
        ".gz",
        ".bz2",
        ".xz",
        ".tgz",
        ".tar",
        ".7z",
        ".rar",
        ".zst",
        ".jar",
        ".war",
        ".whl",
        ".egg",
        ".nupkg",
        ".gem",
        ".crate",
        ".apk",
        ".deb",
        ".rpm",
    ]
)
_RUNS = frozenset(
    [".so", ".dll", ".dylib", ".exe", ".o", ".a", ".class", ".pyc", ".pyd", ".node", ".wasm", ".elf", ".com", ".msi"]
)
_DATA = frozenset({".json", ".jsonl", ".csv", ".tsv", ".txt", ".xml"})
_INVISIBLE = frozenset(
    "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff\u00ad\u180e\u3164\uffa0\u115f\u1160\u2800"
)
_JOINERS = frozenset("\u200c\u200d")  # part of ordinary writing in several scripts and of emoji
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_HIGH = re.compile(rb"[\x80-\xff]")
_TAGS = range(0xE0000, 0xE0080)


def unlookable(files: Sequence[FileChange], content: Callable[[str, bool], bytes | None]) -> Iterator[Finding]:
    """Yield every place of a change that rules or people cannot see as it is executed."""
    for file in files:
        if odd := _odd(file.path):
            yield file.path, 0, f"its name has {odd}"
        if file.kind in {"deleted", "mode"} or file.new_mode in {"120000", "160000"}:
            continue
        data = content(file.path, True)  # noqa: FBT003  (the engine's own shape)
        if data is None:
            continue
        old = content(file.path, False) if file.kind != "created" else None  # noqa: FBT003
        before = set(_unread(file, old or b""))
        yield from ((file.path, 0, told) for told in _unread(file, data) if told not in before)
        if not is_documentation(file.path) and not _is_data_of_tests(file.path) and b"\0" not in data:
            for line in file.lines:
                if line.added and not line.text.isascii() and (odd := _odd(line.text.removeprefix("\ufeff"))):
                    yield file.path, line.number, f"{odd} in the line"


def _is_data_of_tests(path: str) -> bool:
    """Return whether a file is data for tests: odd characters in it are what a test is about, and nothing runs them."""
    return is_test(path) and suffix_of(path) in _DATA


def _unread(file: FileChange, data: bytes) -> Iterator[str]:
    """Yield why a content cannot be examined."""
    suffix = suffix_of(file.path)
    if suffix in _RUNS or suffix in _PACKED:
        if data:
            yield f"a {'program' if suffix in _RUNS else 'packed file'} that cannot be looked into"
        return
    if suffix in MEDIA:
        return
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return
    if b"\0" in data:
        yield "a NUL byte: it looks like a program"
    elif len(data) > LARGEST:
        yield f"larger than {LARGEST // 1_000_000} MB: it cannot be looked through"
    elif not _is_text(data):
        yield "bytes in no known encoding"
    if any(len(line) >= LONGEST_LINE for line in data.split(b"\n")):
        yield f"a line of {LONGEST_LINE} characters or more: it cannot be looked through"


def _is_text(data: bytes) -> bool:
    """Return whether it is UTF-8, or in a single-byte encoding with few control characters."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        start = data[:100_000]
        return not _CONTROLS.search(start) and 3 * len(_HIGH.findall(start)) < len(start)
    return True


def _odd(text: str) -> str:
    """Describe the unusual character of a text as a phrase; empty without any."""
    for place, char in enumerate(text):
        if char in _DIRECTION:
            return f"a control of writing direction (U+{ord(char):04X})"
        if ord(char) in _TAGS or (char in _INVISIBLE and not (char in _JOINERS and _joins(text, place))):
            return f"an invisible character (U+{ord(char):04X})"
        if unicodedata.category(char) == "Cc" and char not in "\t\f\r\x1b":
            return f"a control character (U+{ord(char):04X})"
    return ""


def _joins(text: str, place: int) -> bool:
    """Return whether a joiner is between letters or signs of a script that requires it."""
    before = text[place - 1] if place else ""
    return ord(before or "\0") > 0x2FF  # noqa: PLR2004  (beyond Latin)
