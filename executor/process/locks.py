"""Locks between processes: held by one owner object, released with its process, without waiting.

The owner of a milestone's lock, in a file beside it, for people and for views that do not take the lock.

Signs of life of an attempt: the time and name of its newest log. Reads times, not contents.

Exclusive resources that issues declare, and a limited number of places to work.
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
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

__all__ = [
    "Held",
    "Holder",
    "Places",
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
        self._named: Path | None = None

    def name_holder(self, folder: Path, run: str, since: str) -> None:
        """Record that this process holds the milestone of a folder, until the lock is released."""
        write_holder(folder, run, since)
        self._named = folder

    def release(self) -> None:
        """Release the lock; safe to call twice."""
        if self._named is not None:
            # Before the lock: the next holder writes its record as soon as it has the lock.
            remove_holder(self._named)
            self._named = None
        self._lock.release()


def try_lock(path: Path) -> Held | None:
    """Take the lock of that name without waiting; None if this or another process holds it.

    The file remains after the release: its removal would let two processes hold two files of one name.
    """
    lock = UnixFileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except (Timeout, RuntimeError):
        return None
    return Held(lock)


@contextmanager
def short_lock(path: Path, seconds: float = 30.0) -> Iterator[None]:
    """Hold the lock of that name for the block; waits for other short holders.

    Raises:
        BusyError: another process has held it for that many seconds.
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
        pid: its process id.
        host: its machine.
        since: time at which it took the lock, ISO-8601 UTC.
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
        """Return whether that process is alive; a process on another machine is assumed to be."""
        if self.host != platform.node():
            return True
        born = _born(self.pid)
        return bool(born) and born == self.born


def write_holder(folder: Path, run: str, since: str) -> None:
    """Record that this process holds the milestone of a folder."""
    pid = os.getpid()
    value = {"pid": pid, "host": platform.node(), "since": since, "run": run, "born": _born(pid)}
    write_json(folder / _NAME, value, durable=False)


def read_holder(folder: Path) -> Holder | None:
    """Return the last recorded holder of a folder's milestone that has not released it."""
    value: Any = read_json(folder / _NAME)
    try:
        return Holder(int(value["pid"]), value["host"], value["since"], value["run"], value["born"])
    except (KeyError, TypeError, ValueError):
        return None


def remove_holder(folder: Path) -> None:
    """Remove the record of the lock's owner."""
    (folder / _NAME).unlink(missing_ok=True)


def _born(pid: int) -> str:
    """Return the start time of a process in ticks since boot; empty if it does not exist or is a zombie."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *rest = facts.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else rest[18]


def last_sign(folder: Path) -> tuple[float, str]:
    """Return time (seconds since 1970) and name of an attempt's most recently written log; time 0 without any."""
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
    """Named resources that parallel issues do not share."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[str] = set()

    @contextmanager
    def taken(self, names: tuple[str, ...]) -> Iterator[None]:
        """Wait until all of them are free, and hold them together during the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy.isdisjoint(names))
            self._busy.update(names)
        try:
            yield
        finally:
            with self._changed:
                self._busy.difference_update(names)
                self._changed.notify_all()


class Places:
    """A limited number of places for agents and proofs; the most urgent waiter gets the next one.

    Each worker holds a place under a name; proofs of results precede new agents. Without a limit, every worker gets
    one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._free: int | None = None
        self._choose: Callable[[Sequence[str], Sequence[str]], str] = _first
        self._waiting: list[str] = []
        self._next = ""
        self._holders: set[str] = set()
        self._begun: dict[str, None] = {}
        self._proofs: dict[object, int] = {}
        self.freed: list[Callable[[], None]] = []
        """Called after a place became free."""

    def limit(self, count: int, choose: Callable[[Sequence[str], Sequence[str]], str]) -> None:
        """Set the number of places; called while none is taken.

        Args:
            count: number of places.
            choose: returns the most urgent of the waiting names, given those that have started and not ended.
        """
        with self._changed:
            self._free, self._choose = count, choose
            self._holders.clear()

    def take(self, name: str, stopping: threading.Event) -> bool:
        """Wait for a place; False if the run is stopped first."""
        with self._changed:
            if self._free is None or name in self._holders:
                self._begun[name] = None
                return True
            self._waiting.append(name)
            self._look()
            try:
                while self._next != name:
                    if stopping.is_set():
                        return False
                    self._changed.wait(_LOOK_S)
                self._hold(name)
                return True
            finally:
                self._waiting.remove(name)
                self._look()

    def holds(self, name: str) -> bool:
        """Return whether a place is held under this name."""
        return self._free is None or name in self._holders

    def take_for_proof(self, name: str, queue: object, wanted: int) -> bool:
        """Take a place for one of a queue's proofs; if False, the next free one is reserved for them."""
        with self._changed:
            if self._free is None or name in self._holders:
                return True
            if self._free:
                self._hold(name)
                wanted -= 1
            self._proofs[queue] = wanted
            self._look()
            return name in self._holders

    def want_no_proof(self, queue: object) -> None:
        """Cancel a queue's reservation of a place."""
        with self._changed:
            if self._proofs.pop(queue, 0):
                self._look()

    def leave(self, name: str, *, ended: bool = False) -> None:
        """Release the place under a name, if any.

        Args:
            name: name of the worker.
            ended: the worker does not return.
        """
        with self._changed:
            if ended:
                self._begun.pop(name, None)
            if name not in self._holders:
                return
            self._holders.remove(name)
            self._free = (self._free or 0) + 1
            self._look()
        for line in self.freed:
            line()

    def _look(self) -> None:
        """Give a free place to the next waiter."""
        free = (self._free or 0) - sum(self._proofs.values())
        self._next = self._choose(self._waiting, list(self._begun)) if free > 0 and self._waiting else ""
        self._changed.notify_all()

    def _hold(self, name: str) -> None:
        self._free = (self._free or 0) - 1
        self._holders.add(name)
        self._begun[name] = None


def _first(names: Sequence[str], _begun: Sequence[str]) -> str:
    return names[0]


_LOOK_S = 0.5
"""Interval in seconds at which a waiting thread checks whether the run is being stopped."""
