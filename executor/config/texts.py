"""Texts by people: which files of a folder count, and how their bytes are decoded.

The location of the packaged rules. Separate from their reader, because `doit list` needs only this, without pydantic.
"""

from __future__ import annotations

import codecs
from functools import cache
from pathlib import Path

__all__ = ["EncodingError", "decoded", "files_in", "packaged_rules"]


_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class EncodingError(ValueError):
    """A text that is not UTF-8; the message has the position, in one line."""


def files_in(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder with a suffix, sorted by name.

    Hidden files, leftovers of editors and operating systems, folders and dangling links are excluded.
    """
    return [
        path
        for path in sorted(folder.glob(f"*{suffix}"))
        if not path.name.startswith((".", "#", "~")) and path.is_file()
    ]


def decoded(data: bytes) -> str:
    """Decode a file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Raises:
        EncodingError: it is in another encoding.
    """
    if data.startswith(_UTF16):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise EncodingError(f"begins like UTF-16 and is not: {error.reason}; save it as UTF-8") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EncodingError(
            f"is not UTF-8 in line {line}: byte 0x{data[error.start]:02x} at {error.start}; save it as UTF-8"
        ) from error
    if text[1:2] == "\0":
        raise EncodingError("is not UTF-8 in line 1: it looks like UTF-16 without a byte order mark; save it as UTF-8")
    return text


@cache
def packaged_rules() -> Path:
    """Return the folder of the packaged rules: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_rules"
    return installed if installed.is_dir() else package.parent / "rules"
