"""Secrets that are known by their value, found in whatever a change adds: text, binary content and names. Pure.

The values are those of the variables that profiles of agents pass on. They are looked for as they are, in every form in
which output is redacted, and in a few more in which a program could hide one without much thought.
"""

from __future__ import annotations

import base64
import codecs
import re
from typing import TYPE_CHECKING

from executor.process.redact import MARK, SHORTEST, forms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from executor.git.diff import FileChange, Finding

__all__ = ["blotted", "known_secrets", "secret_forms"]

_JOINS = re.compile(rb"[\"'`\s+\\.,;()\[\]{}&|<>=:_#*/-]+")
_ENOUGH = 16
"""Letters that a value needs to be looked for across quotes and line ends; a shorter one would be found by chance."""


def secret_forms(value: str) -> tuple[bytes, ...]:
    """Every form in which a value is looked for; none for one that is too short to be a secret."""
    if len(value) < SHORTEST or value.isspace():
        return ()
    raw = value.encode("utf-8", "surrogateescape")
    text = raw.decode("utf-8", "replace")
    more = {
        base64.b32encode(raw).rstrip(b"="),
        base64.b32encode(raw).rstrip(b"=").lower(),
        base64.b85encode(raw),
        base64.a85encode(raw),
        raw[::-1],
        base64.b64encode(raw[::-1]).rstrip(b"="),
        codecs.encode(text, "rot13").encode("utf-8", "replace"),
        text.encode("utf-16-le"),
        text.encode("utf-16-be"),
        str(list(raw)).encode(),
        str(list(raw)).replace(" ", "").encode(),
        b",".join(b"0x%02x" % byte for byte in raw),
        b", ".join(b"0x%02x" % byte for byte in raw),
    }
    return tuple(sorted({*forms_of(value), *more}, key=lambda form: (-len(form), form)))


def known_secrets(
    files: Sequence[FileChange], content: Callable[[str, bool], bytes | None], values: Mapping[str, str]
) -> Iterator[Finding]:
    """Files, and names of files, that hold a known value which was not in them before.

    Args:
        files: those of the change.
        content: a file's whole content before (False) or after (True).
        values: name of a variable -> its value. Findings tell the name and never the value.
    """
    forms = {name: secret_forms(value) for name, value in values.items()}
    for file in files:
        if file.kind == "deleted":
            continue
        path = file.path.encode("utf-8", "surrogateescape")
        new = content(file.path, True) or b""  # noqa: FBT003  (the engine's own shape)
        for name, value in values.items():
            if not forms[name]:
                continue
            if any(form in path for form in forms[name]):
                yield file.path, 0, f"its name holds the value of {name}"
                continue
            at = _place(new, forms[name], value)
            if at >= 0 and _place(content(file.path, False) or b"", forms[name], value) < 0:  # noqa: FBT003
                yield file.path, new.count(b"\n", 0, at) + 1, f"the value of {name}"


def blotted(data: bytes, values: Mapping[str, str]) -> bytes:
    """A content without the known values, in any form that can be cut out; the others are left."""
    for value in values.values():
        for form in secret_forms(value):
            data = data.replace(form, MARK)
    return data


def _place(data: bytes, forms: Sequence[bytes], value: str) -> int:
    """Offset of a value in a content; -1 if absent."""
    for form in forms:
        if (at := data.find(form)) >= 0:
            return at
    raw = value.encode("utf-8", "surrogateescape")
    plain = _JOINS.sub(b"", raw)
    if len(plain) >= _ENOUGH and len(data) <= 5_000_000 and plain in _JOINS.sub(b"", data):  # noqa: PLR2004
        return max(data.find(plain[:4]), 0)
    return -1
