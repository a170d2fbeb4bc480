"""Who runs a milestone, as a file beside its lock: for people and for whoever looks on without taking the lock."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from executor.adapters.files import read_json, write_json

if TYPE_CHECKING:
    from typing import Any

__all__ = ["Holder", "read_holder", "remove_holder", "write_holder"]

_NAME = "holder.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """A run that holds a milestone, or held it when it was killed.

    Attributes:
        pid: its process.
        host: machine on which it runs.
        since: when it took the lock, ISO-8601 UTC.
        run: its id.
        born: when the machine says that the process began; tells it from a later one with the same number.
    """

    pid: int
    host: str
    since: str
    run: str
    born: str

    @property
    def alive(self) -> bool:
        """Whether that process is there; one of another machine is taken at its word."""
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
    """Say that nobody holds it."""
    (folder / _NAME).unlink(missing_ok=True)


def _born(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty if there is none, or only its exit status is left."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *rest = facts.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else rest[18]
