"""The lock of a milestone: one process at a time runs or mends it, and says who it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.adapters.holder import read_holder, write_holder
from executor.adapters.locks import Held, try_lock
from executor.errors import BusyError
from executor.outside import now

if TYPE_CHECKING:
    from pathlib import Path

    from executor.project import Project

__all__ = ["hold"]

_LOOKS = 3


def hold(project: Project, milestone: str, run_id: str) -> Held:
    """Take the lock of a milestone, at once or not at all.

    Raises:
        BusyError: somebody has it; says who, since when.
    """
    folder = project.state(milestone)
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder / "lock")
    if lock is None:
        raise BusyError(f"milestone {milestone} is already being run{_who(folder)}; nothing was done here")
    write_holder(folder, run_id, now())
    return lock


def _lock(path: Path) -> Held | None:
    """The lock, unless a run has it; who only looks whether one does holds it for a moment."""
    for _ in range(_LOOKS):
        lock = try_lock(path)
        if lock is not None:
            return lock
        time.sleep(0.005)
    return None


def _who(folder: Path) -> str:
    for _ in range(5):
        told = read_holder(folder)
        if told is not None:
            return f" by process {told.pid} on {told.host} since {told.since}"
        time.sleep(0.02)
    return ""
