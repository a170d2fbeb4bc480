"""Ignore rules of a base tree, flattened into one file, so that rules an agent wrote are not obeyed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["flatten_ignores"]


def flatten_ignores(files: Iterable[tuple[str, bytes]]) -> bytes:
    """One set of rules at the root for `.gitignore` files in folders.

    Args:
        files: (folder, content), the folder with a slash at its end and empty for the root, shallow folders first, so
            that deeper rules come later and win, as git has it.
    """
    lines: list[bytes] = []
    for folder, content in files:
        place = _escaped(folder)
        for raw in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
            rule = _moved(raw, place)
            if rule is not None:
                lines.append(rule)
    return b"".join(line + b"\n" for line in lines)


def _moved(raw: bytes, place: bytes) -> bytes | None:
    line = raw.removesuffix(b"\r")
    negated = line.startswith(b"!")
    pattern = line[1:] if negated else line
    if line.startswith(b"#") or not pattern.strip(b"/ "):  # git matches nothing with an empty pattern
        return None
    anchored = b"/" in pattern.rstrip(b" ").removesuffix(b"/")
    moved = b"/" + place + (pattern.removeprefix(b"/") if anchored else b"**/" + pattern)
    return b"!" + moved if negated else moved


def _escaped(folder: str) -> bytes:
    """The folder as a pattern; a line end, which no rule can contain, is matched as any character."""
    special = b"\\*?[ !#"
    return b"".join(
        b"\\" + bytes([byte]) if byte in special else bytes([byte])
        for byte in folder.encode("utf-8", "surrogateescape")
    ).replace(b"\n", b"?")
