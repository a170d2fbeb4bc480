"""The journal of a milestone: append-only, one writer, durable before it is acted upon, checked record by record.

Its record is that of `executor.core.event`. A tail that a crash cut off is put aside and the journal goes on; anything
else that is wrong is refused, never guessed at. Readers take no lock.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.adapters.files import JOURNAL, NO_SPACE, fsync_dir
from executor.core.event import Damage, Event, Scan, decode, encode, scan
from executor.errors import StateBrokenError, StateFullError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Disk", "Journal", "read"]

_BALLAST = "journal.ballast"
_BALLAST_BYTES = 1024 * 1024
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Disk:
    """The calls on which the journal's promises rest, in one place so that a test can make each of them fail."""

    def open(self, path: Path, flags: int) -> int:
        """As `os.open`; new files are for their owner only."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def write(self, descriptor: int, data: bytes) -> int:
        """As `os.write`: may take less than all."""
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        """As `os.fsync`."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """As `os.ftruncate`."""
        os.ftruncate(descriptor, size)

    def fsync_dir(self, folder: Path) -> None:
        """Make a new name in a folder durable."""
        fsync_dir(folder)


class Journal:
    """The one writer of a milestone's journal; whoever opens it holds the milestone's lock.

    Attributes:
        events: every record, oldest first.
        warnings: what was repaired when it was opened, one sentence each.
    """

    def __init__(self, folder: Path, run: str, now: Callable[[], str], boot: str, disk: Disk) -> None:
        self.path = folder / JOURNAL
        self.warnings: list[str] = []
        self.events: list[Event] = []
        self._run, self._now, self._boot, self._disk = run, now, boot, disk
        self._lock = threading.Lock()
        self._good = self._check = 0
        self._broken = ""
        self._descriptor = -1

    @classmethod
    def open(
        cls, folder: Path, *, run: str, now: Callable[[], str], boot: str | None = None, disk: Disk | None = None
    ) -> Journal:
        """Open or begin the journal in a folder.

        Args:
            folder: where it lives; made if missing.
            run: id of this run, written into every record.
            now: gives the present time, ISO-8601.
            boot: boot id; asked from the machine by default.
            disk: the calls to the operating system.

        Raises:
            StateBrokenError: it is corrupt, of a newer version, or cannot be opened.
            StateFullError: there is no space to begin it.
        """
        journal = cls(folder, run, now, _boot_id() if boot is None else boot, disk or Disk())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            journal._begin()
        except OSError as error:
            journal.close()
            if error.errno in NO_SPACE:
                raise StateFullError(f"{journal.path}: {error.strerror}; free some space and run again") from error
            raise StateBrokenError(f"{journal.path} cannot be opened: {error.strerror or error}") from error
        except StateBrokenError:
            journal.close()
            raise
        return journal

    def append(self, kind: str, key: str = "", **data: Any) -> Event:
        """Write a fact; when this returns it survives a power cut.

        Raises:
            StateFullError: there is no space; the journal is as before.
            StateBrokenError: the journal cannot be trusted any more; nothing is written to it again.
            ValueError: the data cannot be a record.
        """
        with self._lock:
            return self._append(kind, key, data)

    def append_last(self, kind: str, key: str = "", **data: Any) -> Event:
        """The same with the space that was set aside for saying that there is none."""
        with self._lock:
            with suppress(OSError):
                self.path.with_name(_BALLAST).unlink()
            return self._append(kind, key, data)

    def close(self) -> None:
        """Give the file back; safe to call twice."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self._broken = self._broken or "it is closed"

    def _begin(self) -> None:
        folder = self.path.parent
        self._descriptor = self._disk.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        data = self.path.read_bytes()
        found = scan(data)
        _refuse(self.path, found)
        if data:
            self._disk.fsync(self._descriptor)  # the last record may be of a run that was killed before it did
        else:
            self._disk.fsync_dir(folder)  # also if it exists: whoever made it may not have come to this
            self._disk.fsync_dir(folder.parent)
        if found.damage is Damage.TORN:
            self._put_aside(found.good, data[found.good :])
        self.events, self._good, self._check = found.events, found.good, found.check
        self._set_ballast(folder / _BALLAST)

    def _put_aside(self, good: int, tail: bytes) -> None:
        """Keep the cut-off tail in a file of its own, then take it off the journal."""
        kept = self.path.with_name(f"journal.torn.{good}")
        descriptor = self._disk.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self._write(descriptor, tail)
            self._disk.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._disk.fsync_dir(self.path.parent)
        self._disk.truncate(self._descriptor, good)
        self._disk.fsync(self._descriptor)
        self.warnings.append(
            f"the last {len(tail)} bytes of {self.path.parent.name}/{self.path.name} were cut off by a crash; "
            f"they are kept in {kept.name}"
        )

    def _set_ballast(self, path: Path) -> None:
        """Set space aside; a disk that has none left for it will say so at the next append."""
        if path.exists():
            return
        with suppress(OSError):
            descriptor = self._disk.open(path, os.O_WRONLY | os.O_CREAT)
            try:
                self._write(descriptor, bytes(_BALLAST_BYTES))
            finally:
                os.close(descriptor)

    def _append(self, kind: str, key: str, data: dict[str, Any]) -> Event:
        if self._broken:
            raise StateBrokenError(f"{self.path} is not written any more: {self._broken}")
        number = len(self.events) + 1
        line = encode(Event(number, self._now(), self._boot, self._run, kind, key, data), self._check)
        read_back = decode(line[:-1], number, self._check)
        if read_back is None:
            raise ValueError(f"a record that would not be read back: {line!r}")
        self._same_file()
        try:
            self._write(self._descriptor, line)
            self._disk.fsync(self._descriptor)
        except OSError as error:
            self._undo(error)
            raise StateFullError(
                f"{self.path}: {error.strerror}; nothing is lost, free some space and run again"
            ) from error
        event, self._check = read_back
        self._good += len(line)
        self.events.append(event)
        return event

    def _write(self, descriptor: int, data: bytes) -> None:
        rest = data
        while rest:
            rest = rest[self._disk.write(descriptor, rest) :]

    def _undo(self, error: OSError) -> None:
        """Take a record that may be half written off again; only for a full disk, everything else is the end.

        After a failed fsync the system may have forgotten what it did not write, so that trying again proves nothing.
        """
        try:
            self._disk.truncate(self._descriptor, self._good)
            self._disk.fsync(self._descriptor)
        except OSError as second:
            self._break(f"{error.strerror}, then {second.strerror}", error)
        if error.errno not in NO_SPACE:
            self._break(error.strerror or str(error), error)

    def _same_file(self) -> None:
        """Whether the path still names the file that is open, and nobody else has written to it."""
        opened = os.fstat(self._descriptor)
        try:
            named = self.path.stat()
        except OSError as error:
            self._break("it was removed while it was in use", error)
        if (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino):
            self._break("it was replaced while it was in use", None)
        if opened.st_size != self._good:
            self._break(f"somebody else wrote to it ({opened.st_size} bytes, expected {self._good})", None)

    def _break(self, why: str, error: OSError | None) -> None:
        self._broken = why
        raise StateBrokenError(f"{self.path} is not written any more: {why}") from error


def read(folder: Path) -> list[Event]:
    """Every record of a milestone's journal; takes no lock, a record that is being written is left out.

    Raises:
        StateBrokenError: it is corrupt, or of a newer version.
    """
    path = folder / JOURNAL
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StateBrokenError(f"{path} cannot be read: {error.strerror or error}") from error
    found = scan(data)
    _refuse(path, found)
    return found.events


def _refuse(path: Path, found: Scan) -> None:
    if found.damage is Damage.CORRUPT:
        raise StateBrokenError(
            f"{path}: record {len(found.events) + 1} at byte {found.good} is not what was written, and others follow "
            "it; nothing was changed. Restore the file, or move it away: what has landed is in git, only figures of "
            "time and cost are lost"
        )
    if found.damage is Damage.NEWER:
        raise StateBrokenError(f"{path} was written by a newer version of the executor; use that one, or move the file")


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii")[:8]
    except OSError:
        return ""
