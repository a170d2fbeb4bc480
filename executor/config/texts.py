"""Texts that people write: which files in a folder are meant, and how their bytes are read.

Where the packaged rules are. Apart from their reader, because `doit list` needs only this and loads no pydantic.
"""

from __future__ import annotations

import codecs
from functools import cache
from pathlib import Path

__all__ = ["EncodingError", "decoded", "files_in", "packaged_rules"]


_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class EncodingError(ValueError):
    """A text that is not UTF-8; the message says where, one line."""


def files_in(folder: Path, suffix: str) -> list[Path]:
    """Files of a folder with a suffix, in the order of their names.

    Hidden files, what editors and operating systems leave, folders, and links to nothing are not among them.
    """
    return [
        path
        for path in sorted(folder.glob(f"*{suffix}"))
        if not path.name.startswith((".", "#", "~")) and path.is_file()
    ]


def decoded(data: bytes) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

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
    """Folder of the packaged rules: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_rules"
    return installed if installed.is_dir() else package.parent / "rules"
