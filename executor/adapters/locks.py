"""Locks between processes: held by one owner object, gone with its process, never waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import Timeout, UnixFileLock

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Held", "try_lock"]


class Held:
    """A lock that this process holds until it releases it or dies."""

    def __init__(self, lock: UnixFileLock) -> None:
        self._lock = lock

    def release(self) -> None:
        """Give it back; safe to call twice."""
        self._lock.release()


def try_lock(path: Path) -> Held | None:
    """Take the lock of that name, at once or not at all; None if somebody has it, in this process or another.

    The file stays when the lock is released: removing it would let two processes hold two files of one name.
    """
    lock = UnixFileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except (Timeout, RuntimeError):
        return None
    return Held(lock)
