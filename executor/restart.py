"""After a restart of the machine: what the disk may have lost is put aside before anything is built on it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from executor.adapters.damage import set_aside
from executor.adapters.refs import Move
from executor.ref_names import ATTEMPTS

if TYPE_CHECKING:
    from executor.milestone_run import MilestoneRun

__all__ = ["look_after_restart"]

_LOST_WITHIN = 3600.0
"""Seconds before the last record in which something may have been written that never reached the disk."""


def look_after_restart(run: MilestoneRun) -> None:
    """If the machine was started again since the last record, the disk may have lost what was written last."""
    last = run.journal.events[-1] if run.journal.events else None
    if last is None or last.boot == run.journal.boot:
        return
    since = datetime.fromisoformat(last.at).timestamp() - _LOST_WITHIN
    session = run.session
    aside = session.project.cache / "_damaged"
    damaged = set_aside(session.project.repository.objects, since, aside)
    if damaged:
        run.warn(f"{len(damaged)} git objects that a power cut had damaged were moved to {aside}")
    for ref, commit in session.refs.unreadable(f"{ATTEMPTS}/{run.name}/"):
        if session.refs.move([Move(ref, commit, None)], "its commit was lost"):
            run.warn(f"{ref} is removed: the disk has lost its commit")
