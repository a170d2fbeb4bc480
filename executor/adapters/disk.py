"""The system calls on which the journal's promises rest, in one place, so that a test can make each of them fail."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.adapters.files import fsync_dir

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Disk", "free_place", "publish", "write_file", "write_fully"]


class Disk:
    """The calls on which the journal's promises rest, in one place so that a test can make each of them fail."""

    def open(self, path: Path, flags: int) -> int:
        """As `os.open`; new files are for their owner only."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def write(self, descriptor: int, data: bytes) -> int:
        """As `os.write`: may take less than all."""
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        """As `os.fsync`."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """As `os.ftruncate`."""
        os.ftruncate(descriptor, size)

    def fsync_dir(self, folder: Path) -> None:
        """Make a new name in a folder durable."""
        fsync_dir(folder)

    def rename(self, old: Path, new: Path) -> None:
        """As `os.replace`."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """As `os.unlink`, also if there is no such file."""
        path.unlink(missing_ok=True)

    def mkdir(self, folder: Path) -> None:
        """As `os.mkdir`, also if it is there; for its owner only."""
        folder.mkdir(mode=0o700, exist_ok=True)


def publish(disk: Disk, path: Path, data: bytes) -> None:
    """Make a file that is there whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        write_file(disk, temporary, data)
        disk.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            disk.unlink(temporary)
        raise
    disk.fsync_dir(path.parent)


def write_file(disk: Disk, path: Path, data: bytes) -> None:
    """Write a file whose data is durable when this returns."""
    descriptor = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_fully(disk, descriptor, data)
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_fully(disk: Disk, descriptor: int, data: bytes) -> None:
    """Write everything, however little the disk takes at a time."""
    rest = data
    while rest:
        rest = rest[disk.write(descriptor, rest) :]


def free_place(path: Path, data: bytes) -> Path:
    """The first of ``path``, ``path.1``, ... that is free, or has no more than the beginning of the data."""
    number = 0
    place = path
    while place.exists() and not data.startswith(place.read_bytes()):
        number += 1
        place = path.with_name(f"{path.name}.{number}")
    return place
