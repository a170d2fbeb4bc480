"""The bytes of a plan as text, and the files beside it. Nothing is decoded by guessing."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EncodingError", "Source", "decoded"]

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    # The mark of UTF-32 begins with that of UTF-16, so it is looked for first.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The declaration that editors know (PEP 263), and that of XML and HTML; looked for in the first two lines.
_DECLARED = re.compile(rb"(?:coding[:=]|encoding=[\"']|charset=[\"']?)\s*([-\w.]+)", re.IGNORECASE)


class EncodingError(ValueError):
    """Bytes that are no text in the encoding that they are, or say that they are, written in."""


def _nothing(_path: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Source:
    """A plan that is to be imported.

    Attributes:
        name: its path or address, as messages show it.
        text: its content; empty if it is a folder.
        read: the text of a file by its path in the project; None if there is no such file that git tracks.
        beside: the same by its path from the folder of the plan (for a folder: from that folder).
        files: paths of the files of a folder, relative to it, in natural order; empty for a file.
        known: ids of the milestones that are declared already.
        siblings: paths of the files beside it, relative to its folder: those in the folder and one folder below.
        place: the path of its folder from the project's root, with a slash at the end; empty if it is the root, or
            outside.
        part: the part of the source that is asked for, if it holds several plans: a tag of task-master.
        split: make an issue of each smallest task, where the format groups them.
    """

    name: str
    text: str
    read: Callable[[str], str | None] = _nothing
    beside: Callable[[str], str | None] = _nothing
    files: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    siblings: tuple[str, ...] = ()
    place: str = ""
    part: str = ""
    split: bool = False

    @property
    def stem(self) -> str:
        """The last part of the name, in lower case."""
        return self.name.rstrip("/").rpartition("/")[2].casefold()

    @property
    def folder(self) -> str:
        """The name of the folder that the plan is in, or is."""
        parts = [part for part in self.name.rstrip("/").split("/") if part not in {"", ".", ".."}]
        if self.files:
            return parts[-1] if parts else ""
        return parts[-2] if len(parts) > 1 else ""


def decoded(data: bytes, encoding: str = "") -> str:
    """Bytes as text: by a byte order mark, by `encoding`, by a declaration in the first two lines, else as UTF-8.

    Raises:
        EncodingError: the bytes are not text in that encoding; the message has the line of the first wrong byte.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], name)
    found = _DECLARED.search(b"\n".join(data.split(b"\n", 2)[:2]))
    name = encoding or (found[1].decode("ascii") if found else "utf-8")
    text = _strict(data, name)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise EncodingError(
            f"line {line} has a NUL character; if the file is UTF-16, save it as UTF-8 or give --encoding utf-16-le"
        )
    return text


def _strict(data: bytes, name: str) -> str:
    try:
        codec = codecs.lookup(name)
    except LookupError:
        raise EncodingError(f'unknown encoding "{name}"; save the file as UTF-8 or give --encoding NAME') from None
    try:
        text, _ = codec.decode(data, "strict")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise EncodingError(
            f"line {line} is not {codec.name}: byte 0x{data[error.start]:02x} at offset {error.start}; "
            "save the file as UTF-8 or give --encoding NAME (for example latin-1)"
        ) from error
    except (AssertionError, ValueError) as error:
        raise EncodingError(f"is not {codec.name}: {error}") from error
    if not isinstance(text, str):
        raise EncodingError(f'"{name}" is no encoding of text; give --encoding NAME')
    return text
