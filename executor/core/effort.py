"""How long each landed issue took, from the journal: time between records of the runs that worked on it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.core.event import Event

__all__ = ["Effort", "moment", "took"]

_ENDS = frozenset({"landed", "attempt-failed", "attempt-interrupted", "stopped"})


def moment(at: str) -> float:
    """Seconds since 1970 of a record's time; 0 if it is none."""
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return 0.0


@dataclass(slots=True)
class Effort:
    """Work on one issue that has not landed yet.

    Attributes:
        run: the run that works on it, empty while none does.
        since: when that run began with it, seconds since 1970.
        last: when it last said something of it.
        before: seconds of earlier attempts and runs.
    """

    run: str = ""
    since: float = 0.0
    last: float = 0.0
    before: float = 0.0

    def take(self, event: Event) -> float | None:
        """Take a record of the issue in; the seconds that it took altogether if this one says that it landed."""
        at = moment(event.at)
        if self.run and self.run != event.run:
            self._rest()
        if self.run:
            self.last = max(self.last, at)
        elif event.kind == "attempt-started":
            self.run, self.since, self.last = event.run, at, at
        elif event.kind == "checked" and self.before:
            self.run, self.since, self.last = event.run, at - float(event.data["seconds"]), at
        if event.kind in _ENDS:
            self._rest()
        if event.kind != "landed":
            return None
        seconds, self.before = self.before, 0.0
        return seconds or None

    def _rest(self) -> None:
        self.before += max(0.0, self.last - self.since)
        self.run = ""


def took(events: Iterable[Event]) -> list[tuple[str, float]]:
    """Issue and seconds of every landing that the records tell the beginning of, oldest first."""
    efforts: dict[str, Effort] = {}
    found: list[tuple[str, float]] = []
    for event in events:
        if event.key:
            seconds = efforts.setdefault(event.key, Effort()).take(event)
            if seconds is not None:
                found.append((event.key, seconds))
    return found
