"""Truncates a corrupt journal after its last good record and keeps the rest."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.errors import StateBrokenError, StateFullError, UsageError
from executor.process.files import NO_SPACE
from executor.state.journal import Disk, publish
from executor.state.record import scan
from executor.state.segments import ARCHIVE, Chain, look, refuse, restore, segment_name

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cut"]


def cut(folder: Path, to: int, *, at: str, disk: Disk | None = None) -> list[str]:
    """Keep the first records of a refused journal and move everything after them into files beside it.

    The caller holds the milestone's lock. A crash in between leaves a journal that is as corrupt as before, or
    repaired.

    Args:
        folder: folder of the journal.
        to: number of the last record to keep; 0 for an empty journal.
        at: part of the file names, for example the current time.
        disk: the system calls.

    Returns:
        Names of the files with the rest.

    Raises:
        UsageError: the journal is intact, or it cannot be kept up to that record.
        StateFullError: the disk has no space for the rest; nothing was changed.
        StateBrokenError: a newer version wrote it, or the disk fails.
    """
    chain = look(folder)
    trouble = chain.trouble
    if trouble is None:
        raise UsageError(f"the journal of {folder.name} is whole; there is nothing to repair")
    if trouble.newer:
        refuse(folder, chain)
    if to and not trouble.first <= to <= trouble.good:
        ways = (
            f"{trouble.first} to {trouble.good}, or 0 for an empty journal"
            if trouble.good
            else "0 only: for an empty journal"
        )
        raise UsageError(f"--to {to}: the journal of {folder.name} can be kept up to record {ways}")
    try:
        return _cut(folder, chain, to, folder / f"journal.corrupt.{at}", disk or Disk())
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StateFullError(f"{folder}: {error.strerror}; free some space and repair again") from error
        raise StateBrokenError(f"{folder} cannot be repaired: {error.strerror or error}") from error


def _cut(folder: Path, chain: Chain, to: int, aside: Path, disk: Disk) -> list[str]:
    place, size = _end_of(chain, to)
    names, number = os.listdir(folder), 0  # noqa: PTH208
    first = aside.name
    while any(name.startswith(aside.name) for name in names):
        number += 1
        aside = aside.with_name(f"{first}-{number}")
    kept, later = chain.segments[: place + 1], chain.segments[place + 1 :]
    restore(folder, replace(chain, segments=kept), disk)
    rest = kept[-1].data[size:] if kept else b""
    made = []
    if rest:
        publish(disk, aside, rest)
        made.append(aside.name)
    moves = [(segment.path, f"{segment.number:06d}") for segment in reversed(later) if segment.path is not None]
    own = kept[0].base.snapshot if kept and kept[0].base is not None else ""
    moves += [(path, path.name) for path in sorted(folder.glob("snapshot.*.jsonl")) if path.name != own]
    if not kept and (folder / ARCHIVE).is_dir():
        moves.append((folder / ARCHIVE, ARCHIVE))
    for path, name in moves:
        made.append(f"{aside.name}.{name}")
        disk.rename(path, folder / made[-1])
    disk.fsync_dir(folder)
    if rest:
        descriptor = disk.open(folder / segment_name(kept[-1].number), os.O_RDWR)
        try:
            disk.truncate(descriptor, size)
            disk.fsync(descriptor)
        finally:
            os.close(descriptor)
    return made


def _end_of(chain: Chain, to: int) -> tuple[int, int]:
    """Return the index of the segment with that record and the byte offset of the record's end; -1 if none is kept."""
    first = chain.segments[0]
    if not to:
        return (0, 0) if first.number == 1 and first.path is not None else (-1, 0)
    number, check = (first.base.number, first.base.check) if first.base is not None else (0, 0)
    place, end = 0, 0
    found = scan(first.data, number + 1, check)
    while number + len(found.events) < to:
        place, number, check = place + 1, number + len(found.events), found.check
        found = scan(chain.segments[place].data, number + 1, check)
    for _ in range(to - number):
        end = chain.segments[place].data.index(b"\n", end) + 1
    return place, end
