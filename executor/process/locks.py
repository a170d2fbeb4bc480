"""Locks between processes: held by one owner object, gone with its process, never waited for.

The owner of a milestone's lock, in a file beside it, for people and for views that do not take the lock.

Signs of life of an attempt: when something was last written to its logs, and by whom. Reads times, not contents.

Resources that issues name in their declarations and that running issues do not share.
"""

from __future__ import annotations

import os
import platform
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout, UnixFileLock

from executor.errors import BusyError
from executor.process.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = [
    "Held",
    "Holder",
    "Resources",
    "last_sign",
    "read_holder",
    "remove_holder",
    "short_lock",
    "try_lock",
    "write_holder",
]


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


@contextmanager
def short_lock(path: Path, seconds: float = 30.0) -> Iterator[None]:
    """Hold the lock of that name for the block, waiting for others that hold it for a moment.

    Raises:
        BusyError: somebody has held it for so many seconds.
    """
    lock = UnixFileLock(path, timeout=seconds, thread_local=False, fallback_to_soft=False)
    try:
        with lock:
            yield
    except Timeout as error:
        raise BusyError(f"{path} has been locked by another process for {seconds:.0f} seconds; try again") from error


_NAME = "holder.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """A run that holds a milestone, or held it when it was killed.

    Attributes:
        pid: its process.
        host: machine on which it runs.
        since: when it took the lock, ISO-8601 UTC.
        run: its id.
        born: start time of the process; distinguishes it from a later process with the same number.
    """

    pid: int
    host: str
    since: str
    run: str
    born: str

    @property
    def alive(self) -> bool:
        """Whether that process is alive; a process on another machine is assumed to be."""
        if self.host != platform.node():
            return True
        born = _born(self.pid)
        return bool(born) and born == self.born


def write_holder(folder: Path, run: str, since: str) -> None:
    """Say that this process holds the milestone of a folder."""
    pid = os.getpid()
    value = {"pid": pid, "host": platform.node(), "since": since, "run": run, "born": _born(pid)}
    write_json(folder / _NAME, value, durable=False)


def read_holder(folder: Path) -> Holder | None:
    """Who said last to hold the milestone of a folder and has not given it back."""
    value: Any = read_json(folder / _NAME)
    try:
        return Holder(int(value["pid"]), value["host"], value["since"], value["run"], value["born"])
    except (KeyError, TypeError, ValueError):
        return None


def remove_holder(folder: Path) -> None:
    """Remove the record of the lock's owner."""
    (folder / _NAME).unlink(missing_ok=True)


def _born(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty if there is none, or only its exit status is left."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *rest = facts.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else rest[18]


def last_sign(folder: Path) -> tuple[float, str]:
    """When the newest log of an attempt was last written to (seconds since 1970) and its name; 0 without any."""
    newest, name = 0.0, ""
    for pattern in ("*.log", "*/*.log", "steps/*/*.log"):
        for path in folder.glob(pattern):
            try:
                written = path.stat().st_mtime
            except OSError:
                continue
            if written >= newest:
                newest, name = written, path.stem
    return newest, name


class Resources:
    """Named resources that running issues do not share."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[str] = set()

    def acquire(self, names: tuple[str, ...]) -> None:
        """Wait until all of them are free and take them together."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy.isdisjoint(names))
            self._busy.update(names)

    def release(self, names: tuple[str, ...]) -> None:
        """Give them back."""
        with self._changed:
            self._busy.difference_update(names)
            self._changed.notify_all()
