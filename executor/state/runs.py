"""Sessions: every run of a milestone, from its beginning to its end, folded from the journal. Pure.

A run that has a beginning and no end, and that no living process carries on, has died.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.state.events import Event

__all__ = ["KINDS", "How", "RunRecord", "run_records"]

KINDS = frozenset({"run-started", "run-ended"})
"""Records that sessions are made of; a compaction keeps them all."""


class How(StrEnum):
    """How a run ended."""

    RUNNING = "running"
    DONE = "done"
    INTERRUPTED = "interrupted"
    HALTED = "halted"
    DIED = "died"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of one milestone.

    Attributes:
        run: its id.
        started: when, ISO-8601 UTC.
        ended: when its last record says so; for one that died, the time of its last record.
        how: how it ended.
        why: the signal or the reason, as one sentence; empty for one that was done.
        code: its exit code; None where it had none.
        host: machine on which it ran.
        user: who ran it.
        pid: its process.
        git: branch, commit and changed files of the user's checkout when it began.
        asked: what it was asked for, for example ``milestone:m4``.
        landed: issues that it landed, in their order.
        in_flight: issue -> attempt that had begun and had not come to an end.
        following: what it would have gone on with, first things first.
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
        """Whether it ended before it had done what it could."""
        return self.how in {How.INTERRUPTED, How.HALTED, How.DIED}


def run_records(events: Iterable[Event], alive: str = "") -> list[RunRecord]:
    """Every run that the records tell of, oldest first.

    Args:
        events: a milestone's journal.
        alive: id of the run that is being carried on by a living process, if one is.
    """
    found: dict[str, RunRecord] = {}
    for event in events:
        if event.kind == "run-started":
            found[event.run] = _begun(event)
        elif event.run in found:
            found[event.run] = _taken(found[event.run], event)
    if alive in found:
        found[alive] = replace(found[alive], how=How.RUNNING, ended="")
    return list(found.values())


def _begun(event: Event) -> RunRecord:
    data = event.data
    return RunRecord(
        run=event.run,
        started=event.at,
        ended=event.at,
        host=data["host"],
        user=data["user"],
        pid=int(data["pid"]),
        git=data["git"],
        asked=tuple(data["asked"]),
    )


def _taken(record: RunRecord, event: Event) -> RunRecord:
    flying = dict(record.in_flight)
    match event.kind:
        case "attempt-started":
            flying[event.key] = int(event.data["attempt"])
        case "attempt-failed" | "stopped":
            flying.pop(event.key, None)
        case "landed":
            flying.pop(event.key, None)
            record = replace(record, landed=(*record.landed, event.key))
        case "run-ended":
            how = How(event.data.get("how", How.DONE))
            following = tuple(event.data.get("next", ()))
            record = replace(
                record, how=how, why=event.data.get("why", ""), code=int(event.data["code"]), following=following
            )
    return replace(record, ended=event.at, in_flight=flying)
