"""Loose objects that a power cut left torn or empty: as long as they are there, git does not write them again."""

from __future__ import annotations

import hashlib
import os
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["set_aside"]

_CHUNK = 1 << 20
_SHA1 = 40


def set_aside(objects: Path, since: float, folder: Path) -> list[str]:
    """Move damaged loose objects that were written after a time (seconds since the epoch) into a folder.

    Nothing is lost by that: git cannot read them.

    Returns:
        Their names.
    """
    damaged = []
    for path in _loose(objects):
        try:
            if path.stat().st_mtime < since or _is_whole(path):
                continue
        except OSError:
            continue  # it went away meanwhile
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{path.parent.name}{path.name}"
        with suppress(OSError):
            path.replace(folder / name)
            damaged.append(name)
    return damaged


def _loose(objects: Path) -> Iterator[Path]:
    for place in sorted(objects.glob("[0-9a-f][0-9a-f]")):
        with os.scandir(place) as entries:
            yield from (place / entry.name for entry in entries if not entry.name.startswith("tmp_"))


def _is_whole(path: Path) -> bool:
    """Whether the content of a loose object is what its name says."""
    name = f"{path.parent.name}{path.name}"
    found = hashlib.sha1(usedforsecurity=False) if len(name) == _SHA1 else hashlib.sha256()
    unpacked = zlib.decompressobj()
    try:
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                found.update(unpacked.decompress(data))
        found.update(unpacked.flush())
    except zlib.error:
        return False
    return found.hexdigest() == name
