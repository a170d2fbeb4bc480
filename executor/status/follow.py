"""Follows a journal that another process writes: new records since the last read, without rereading the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.process.files import segments
from executor.state.record import Damage, Record, scan
from executor.state.segments import look, refuse

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Tail"]


class Tail:
    """A reader of one milestone's journal; takes no lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = ""
        self._place = self._number = self._check = 0

    def read(self) -> list[Record]:
        """Return the records since the last call; the first call returns all.

        Raises:
            StateBrokenError: the journal is corrupt, or of a newer version.
        """
        names = segments(self._folder)
        if self._name and names and names[-1] == self._name:
            found = self._rest()
            if found is not None:
                return found
        return self._again() if names else []

    def _rest(self) -> list[Record] | None:
        """Return the data appended to the last segment; None if only a complete read can determine it."""
        path = self._folder / self._name
        try:
            with path.open("rb") as file:
                file.seek(0, 2)
                if file.tell() < self._place:
                    return None
                file.seek(self._place)
                data = file.read()
        except OSError:
            return None
        found = scan(data, self._number + 1, self._check)
        if found.damage not in {Damage.NONE, Damage.TORN}:
            return None
        self._place += found.good
        self._number += len(found.events)
        self._check = found.check
        return found.events

    def _again(self) -> list[Record]:
        """Read everything and omit records already returned."""
        chain = look(self._folder)
        refuse(self._folder, chain)
        given, last = self._number, chain.segments[-1]
        self._name = last.path.name if last.path is not None else ""
        self._place, self._number, self._check = chain.good, chain.number, chain.check
        return [event for event in chain.events if event.number > given] if given else chain.events
