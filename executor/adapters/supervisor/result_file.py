"""A result on disk, durable before anybody hears of it."""

from __future__ import annotations

import os


def store(path: str, data: bytes) -> None:
    """Put a file in place durably: old or new, never half, also after a power cut."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)
    sync_folder(path)


def forget(path: str) -> None:
    """Remove the result of an earlier attempt durably, so that it cannot be taken for that of this one."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_folder(path)


def sync_folder(path: str) -> None:
    """Make the entry of this file in its folder durable."""
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
