"""What `.cache/_nightly` keeps of the nights: the schedule, a journal of the runs, one log each, the last digest."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.nightly.schedule import Night, Schedule, missed, nights_of
from executor.process.files import is_locked, read_json, write_json
from executor.state import segments

if TYPE_CHECKING:
    from datetime import datetime, tzinfo
    from pathlib import Path

__all__ = ["Nights", "Outlook"]

_KEPT_LOGS = 30


@dataclass(frozen=True, slots=True)
class Outlook:
    """The nights up to a moment.

    Attributes:
        schedule: the installed entry.
        last: the last run, if there was one.
        alive: whether it is still at work.
        missed: when a run was due and there was none, oldest first, since the last one that there was.
    """

    schedule: Schedule
    last: Night | None
    alive: bool
    missed: list[datetime]


class Nights:
    """The folder of the nights."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "_nightly"
        self.digest = self.folder / "digest.md"

    def prepare(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def schedule(self) -> Schedule | None:
        """The installed entry by our own record; the crontab has the last word."""
        return Schedule.read(read_json(self.folder / "schedule.json"))

    def keep(self, schedule: Schedule | None) -> None:
        """Remember what is installed."""
        path = self.folder / "schedule.json"
        if schedule is None:
            path.unlink(missing_ok=True)
            return
        self.prepare()
        write_json(path, schedule.data())

    def nights(self) -> list[Night]:
        """The runs that are known, oldest first; none if their journal cannot be read, which is only a cache."""
        try:
            return nights_of(segments.read(self.folder))
        except ExecutorError:
            return []

    def outlook(self, now: datetime, zone: tzinfo) -> Outlook | None:
        """The outlook on the nights; None if no entry is installed."""
        schedule = self.schedule()
        if schedule is None:
            return None
        nights = self.nights()
        last = nights[-1] if nights else None
        alive = last is not None and last.ended is None and self.held()
        found = missed(schedule, nights, now, zone, alive=alive)
        return Outlook(schedule, last, alive, [due for due in found if last is None or due > last.started])

    def held(self) -> bool:
        """Whether a nightly run is at work now."""
        return is_locked(self.folder / "lock")

    def log(self, started: datetime) -> Path:
        """The log of a new run; the oldest ones are removed."""
        kept = sorted(self.folder.glob("*.log"))
        for path in kept[: max(0, len(kept) - _KEPT_LOGS + 1)]:
            path.unlink(missing_ok=True)
        return self.folder / f"{started:%Y%m%dT%H%M%S}.log"

    def latest_log(self) -> Path | None:
        """The log of the last run."""
        return max(self.folder.glob("*.log"), default=None)

    def note(self, line: str) -> None:
        """Say something in the last log, from outside the run that writes it."""
        path = self.latest_log() or self.folder / "nightly.log"
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, f"{line}\n".encode())
            finally:
                os.close(descriptor)
