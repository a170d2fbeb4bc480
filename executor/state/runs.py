"""Sessions: every run of a milestone, from its beginning to its end, folded from the journal. Pure.

A run that has a beginning and no end, and that no living process carries on, has died.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from executor.state.events import AttemptFailed, AttemptStarted, Landed, RunEnded, RunStarted, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.state.events import Event
    from executor.state.record import Record

__all__ = ["KINDS", "How", "RunRecord", "run_records"]

KINDS = frozenset({"run-started", "run-ended"})
"""Records that sessions are made of; a compaction keeps them all."""


class How(StrEnum):
    """How a run ended."""

    RUNNING = "running"
    DONE = "done"
    INTERRUPTED = "interrupted"
    HALTED = "halted"
    ERROR = "error"
    DIED = "died"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of one milestone.

    Attributes:
        run: its id.
        started: when, ISO-8601 UTC.
        ended: when its last record says so; for one that died, the time of its last record.
        how: how it ended; of an older version, a run that an error ended has died.
        why: the signal or the reason, as one sentence; empty for one that was done.
        code: its exit code; None where it had none.
        host: machine on which it ran.
        user: who ran it.
        pid: its process.
        git: branch, commit and changed files of the user's checkout when it began.
        asked: the requested tasks, for example ``milestone:m4``.
        landed: issues that it landed, in their order.
        in_flight: issue -> attempt that had begun and had not come to an end.
        following: the next issues, in order.
    """

    run: str
    started: str
    ended: str = ""
    how: How = How.DIED
    why: str = ""
    code: int | None = None
    host: str = ""
    user: str = ""
    pid: int = 0
    git: Mapping[str, Any] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    landed: tuple[str, ...] = ()
    in_flight: Mapping[str, int] = field(default_factory=dict)
    following: tuple[str, ...] = ()

    @property
    def cut_off(self) -> bool:
        """Whether it ended before its work was complete."""
        return self.how in {How.INTERRUPTED, How.HALTED, How.ERROR, How.DIED}


def run_records(records: Iterable[Record], alive: str = "") -> list[RunRecord]:
    """Every run in the records, oldest first.

    Args:
        records: a milestone's journal.
        alive: id of the run that is being carried on by a living process, if one is.
    """
    found: dict[str, RunRecord] = {}
    for record in records:
        if isinstance(event := record.event, RunStarted):
            found[record.run] = _begin(record, event)
        elif record.run in found:
            found[record.run] = _take(found[record.run], record, event)
    if alive in found:
        found[alive] = replace(found[alive], how=How.RUNNING, ended="")
    return list(found.values())


def _begin(record: Record, event: RunStarted) -> RunRecord:
    return RunRecord(
        run=record.run,
        started=record.at,
        ended=record.at,
        host=event.host,
        user=event.user,
        pid=event.pid,
        git=event.git,
        asked=event.asked,
    )


def _take(known: RunRecord, record: Record, event: Event) -> RunRecord:
    flying = dict(known.in_flight)
    match event:
        case AttemptStarted():
            flying[record.key] = event.attempt
        case AttemptFailed() | Stopped():
            flying.pop(record.key, None)
        case Landed():
            flying.pop(record.key, None)
            known = replace(known, landed=(*known.landed, record.key))
        case RunEnded():
            how = How(event.how or How.DONE)
            known = replace(known, how=how, why=event.why, code=event.code, following=event.following)
    return replace(known, ended=record.at, in_flight=flying)
