"""The journal of a milestone: append-only, one writer, durable before anything acts on it, verified record by record.

Its records are those of `executor.state.record`. They are stored in segments, `journal.000001.jsonl` and so on; numbers
and checksums continue across segments. A tail that a crash cut off is moved to a file and the journal continues; any
other damage is refused, never guessed at. Readers take no lock.

Compaction writes a snapshot of the records that are still needed, then a segment whose first record names it, then
moves the older segments to ``archive/``, from which the next open removes them. The new segment appears completely or
not at all, so a crash leaves the old journal or the new one.

The system calls that the journal's guarantees depend on, in one place, so that a test can make each of them fail.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from executor.errors import StateBrokenError, StateFullError
from executor.process.files import JOURNAL, NO_SPACE, fsync_dir, segments
from executor.state.events import encode as encode_event
from executor.state.record import COMPACTED, Base, Record, decode, encode
from executor.state.segments import ARCHIVE, Chain, Segment, lines_of, load, refuse, restore, segment_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.state.events import Event

__all__ = ["Disk", "Journal", "Limits", "free_place", "publish", "write_file", "write_fully"]


class Disk:
    """The system calls that the journal's guarantees depend on; a test can make each of them fail."""

    def open(self, path: Path, flags: int) -> int:
        """As `os.open`; new files are for their owner only."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def write(self, descriptor: int, data: bytes) -> int:
        """As `os.write`: may write only a part."""
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        """As `os.fsync`."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """As `os.ftruncate`."""
        os.ftruncate(descriptor, size)

    def fsync_dir(self, folder: Path) -> None:
        """Make a new directory entry durable."""
        fsync_dir(folder)

    def rename(self, old: Path, new: Path) -> None:
        """As `os.replace`."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """As `os.unlink`; a missing file is no error."""
        path.unlink(missing_ok=True)

    def mkdir(self, folder: Path) -> None:
        """As `os.mkdir`; an existing folder is no error. For its owner only."""
        folder.mkdir(mode=0o700, exist_ok=True)


def publish(disk: Disk, path: Path, data: bytes) -> None:
    """Create a file completely or not at all, also across a power cut."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        write_file(disk, temporary, data)
        disk.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            disk.unlink(temporary)
        raise
    disk.fsync_dir(path.parent)


def write_file(disk: Disk, path: Path, data: bytes) -> None:
    """Write a file; its data is durable on return."""
    descriptor = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_fully(disk, descriptor, data)
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_fully(disk: Disk, descriptor: int, data: bytes) -> None:
    """Write everything, in as many calls as the disk needs."""
    rest = data
    while rest:
        rest = rest[disk.write(descriptor, rest) :]


def free_place(path: Path, data: bytes) -> Path:
    """Return the first of ``path``, ``path.1``, ... that is free, or contains only a prefix of the data."""
    number = 0
    place = path
    while place.exists() and not data.startswith(place.read_bytes()):
        number += 1
        place = path.with_name(f"{path.name}.{number}")
    return place


_BALLAST = "journal.ballast"
_BALLAST_BYTES = 1024 * 1024  # bytes that are freed on a full disk, so that the last records still fit
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DERIVED = re.compile(r"snapshot\.\d{6}\.jsonl|\.(?:snapshot|journal)\..*\.new", re.ASCII)
"""Files of an unfinished compaction or repair, or of an older compaction."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds for compaction and for a new segment; checked when the journal is opened.

    Attributes:
        compact_bytes: no compaction below this total size of the segments.
        compact_ratio: no compaction up to this ratio of their size to the size of the needed records.
        segment_bytes: a larger segment is closed and a new one begins.
    """

    compact_bytes: int = 32 * 1024 * 1024
    compact_ratio: float = 3.0
    segment_bytes: int = 8 * 1024 * 1024


class Journal:
    """The only writer of a milestone's journal; the caller holds the milestone's lock.

    Attributes:
        events: every record, oldest first.
        warnings: repairs made at opening, one sentence each.
    """

    def __init__(self, folder: Path, run: str, now: Callable[[], str], boot: str, disk: Disk) -> None:
        self.path = folder / JOURNAL
        """The current segment."""
        self.warnings: list[str] = []
        self.events: list[Record] = []
        self._run, self._now, self._boot, self._disk = run, now, boot, disk
        self._lock = threading.Lock()
        self._number = self._good = self._check = 0
        self._broken = ""
        self._descriptor = -1

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        run: str,
        now: Callable[[], str],
        boot: str | None = None,
        disk: Disk | None = None,
        limits: Limits | None = None,
    ) -> Journal:
        """Open or create the journal in a folder; compact it, or start a new segment, if it is too large.

        Args:
            folder: its folder; created if missing.
            run: id of this run, written into every record.
            now: returns the current time, ISO-8601.
            boot: boot id; read from the machine by default.
            disk: the system calls.
            limits: size limits.

        Raises:
            StateBrokenError: the journal is corrupt, of a newer version, or cannot be opened.
            StateFullError: the disk has no space to create it.
        """
        journal = cls(folder, run, now, _boot_id() if boot is None else boot, disk or Disk())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            journal._begin(limits or Limits())
        except OSError as error:
            journal.close()
            if error.errno in NO_SPACE:
                raise StateFullError(f"{journal.path}: {error.strerror}; free some space and run again") from error
            raise StateBrokenError(f"{journal.path} cannot be opened: {error.strerror or error}") from error
        except StateBrokenError:
            journal.close()
            raise
        return journal

    def append(self, kind: str, key: str = "", **data: Any) -> Record:
        """Write a fact; on return it survives a power cut.

        Raises:
            StateFullError: the disk is full; the journal is unchanged.
            StateBrokenError: the journal is no longer reliable; all later writes fail.
            ValueError: the data is not valid for a record.
        """
        with self._lock:
            return self._append(kind, key, data)

    def record(self, event: Event, key: str = "") -> Record:
        """Append a typed event; raises the errors of `append`."""
        return self.append(event.KIND, key, **encode_event(event))

    def append_last(self, kind: str, key: str = "", **data: Any) -> Record:
        """Append with the space that is reserved for the record of a full disk."""
        with self._lock:
            with suppress(OSError):
                self.path.with_name(_BALLAST).unlink()
            return self._append(kind, key, data)

    @property
    def boot(self) -> str:
        """Boot id in every record; empty if the machine has none."""
        return self._boot

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self._broken = self._broken or "it is closed"

    def _begin(self, limits: Limits) -> None:
        folder, disk = self.path.parent, self._disk
        chain = load(folder)
        refuse(folder, chain)
        if restore(folder, chain, disk) and any(segment.base is not None for segment in chain.segments[1:]):
            self.warnings.append(f"a snapshot of {folder.name} was lost; its segments were read instead")
        last = chain.segments[-1] if chain.segments else Segment(1, None, b"")
        self.path = folder / segment_name(last.number)
        self._descriptor = disk.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        if last.data:
            disk.fsync(self._descriptor)  # the last record may be of a run that was killed before it did
        if not last.data or last.number > 1:
            disk.fsync_dir(folder)  # also if it exists: whoever made it may not have come to this
        if not last.data:
            disk.fsync_dir(folder.parent)
        if chain.torn:
            self._put_aside(chain.good, chain.torn)
        self.events, self._number, self._check, self._good = chain.events, chain.number, chain.check, chain.good
        self._set_ballast(folder / _BALLAST)
        self._tidy(chain)
        if not self._compact(chain, limits) and self._good > limits.segment_bytes:
            self._next(last.number + 1)

    def _put_aside(self, good: int, tail: bytes) -> None:
        """Save the torn tail in a separate file, then truncate the journal."""
        kept = free_place(self.path.with_name(f"journal.torn.{good}"), tail)
        write_file(self._disk, kept, tail)
        self._disk.fsync_dir(self.path.parent)
        self._disk.truncate(self._descriptor, good)
        self._disk.fsync(self._descriptor)
        self.warnings.append(
            f"the last {len(tail)} bytes of {self.path.parent.name}/{self.path.name} were torn by a crash; "
            f"they are kept in {kept.name}"
        )

    def _tidy(self, chain: Chain) -> None:
        """Finish an interrupted compaction, or remove the archive of the previous one."""
        folder, disk = self.path.parent, self._disk
        if not chain.segments:
            return
        first = chain.segments[0]
        own = first.base.snapshot if first.base is not None else ""
        left = [name for name in segments(folder) if name < segment_name(first.number)]
        derived = [path.name for path in folder.iterdir() if _DERIVED.fullmatch(path.name) and path.name != own]
        for name in derived:
            if name < own and not name.startswith("."):
                left.append(name)
            else:
                disk.unlink(folder / name)
        if left:
            self._to_archive(left)
        elif (folder / ARCHIVE).is_dir():
            for path in sorted((folder / ARCHIVE).iterdir()):
                disk.unlink(path)

    def _compact(self, chain: Chain, limits: Limits) -> bool:
        """Start a segment with a snapshot of the needed records if that pays off; returns whether it did."""
        size = sum(len(segment.data) for segment in chain.segments)
        if size <= limits.compact_bytes:
            return False
        from executor.state.fold import fold
        from executor.state.segments import live

        kept = [replace(event, number=number) for number, event in enumerate(live(self.events), 1)]
        snapshot = lines_of(kept)
        if size <= limits.compact_ratio * len(snapshot):
            return False
        if fold(kept) != fold(self.events):
            self.warnings.append(f"{self.path.parent.name} was not compacted: its snapshot would differ")
            return False
        number = chain.segments[-1].number + 1
        name = f"snapshot.{number:06d}.jsonl"
        base = Base(name, hashlib.sha256(snapshot).hexdigest(), self._number, self._check)
        publish(self._disk, self.path.with_name(name), snapshot)
        self._begin_from(base, number, kept)
        first = chain.segments[0].base
        self._to_archive(
            [segment_name(segment.number) for segment in chain.segments] + ([first.snapshot] if first else [])
        )
        return True

    def _begin_from(self, base: Base, number: int, kept: list[Record]) -> None:
        """Continue in a segment that starts from a snapshot."""
        event = Record(base.number + 1, self._now(), self._boot, self._run, COMPACTED, "", base.data())
        line = encode(event, base.check)
        path = self.path.with_name(segment_name(number))
        publish(self._disk, path, line)
        os.close(self._descriptor)
        self._descriptor = -1
        self._descriptor = self._disk.open(path, os.O_RDWR | os.O_APPEND)
        self.path = path
        self.events = [*kept, event]
        self._number, self._check, self._good = event.number, int(line[-11:-3], 16), len(line)

    def _to_archive(self, names: list[str]) -> None:
        """Move the files that a snapshot replaces to the archive; none of them is needed any more."""
        folder, disk = self.path.parent, self._disk
        disk.mkdir(folder / ARCHIVE)
        for name in names:
            disk.rename(folder / name, folder / ARCHIVE / name)
        disk.fsync_dir(folder / ARCHIVE)
        disk.fsync_dir(folder)

    def _next(self, number: int) -> None:
        """Continue in an empty segment."""
        path = self.path.with_name(segment_name(number))
        descriptor = self._disk.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        os.close(self._descriptor)
        self._descriptor, self.path, self._good = descriptor, path, 0
        self._disk.fsync_dir(path.parent)

    def _set_ballast(self, path: Path) -> None:
        """Reserve space; a disk without space for it reports that at the next append."""
        if path.exists():
            return
        with suppress(OSError):
            descriptor = self._disk.open(path, os.O_WRONLY | os.O_CREAT)
            try:
                write_fully(self._disk, descriptor, bytes(_BALLAST_BYTES))
            finally:
                os.close(descriptor)

    def _append(self, kind: str, key: str, data: dict[str, object]) -> Record:
        if self._broken:
            raise StateBrokenError(f"{self.path} is no longer written: {self._broken}")
        number = self._number + 1
        line = encode(Record(number, self._now(), self._boot, self._run, kind, key, data), self._check)
        read_back = decode(line[:-1], number, self._check)
        if read_back is None:
            raise ValueError(f"a record that cannot be read back: {line!r}")
        self._same_file()
        try:
            write_fully(self._disk, self._descriptor, line)
            self._disk.fsync(self._descriptor)
        except OSError as error:
            self._undo(error)
            raise StateFullError(
                f"{self.path}: {error.strerror}; nothing is lost; free some space and run again"
            ) from error
        event, self._check = read_back
        self._number = number
        self._good += len(line)
        self.events.append(event)
        return event

    def _undo(self, error: OSError) -> None:
        """Remove a record that may be half written; only for a full disk, any other error is fatal.

        After a failed fsync the kernel may have dropped the dirty pages, so a second fsync proves nothing.
        """
        try:
            self._disk.truncate(self._descriptor, self._good)
            self._disk.fsync(self._descriptor)
        except OSError as second:
            self._break(f"{error.strerror}, then {second.strerror}", error)
        if error.errno not in NO_SPACE:
            self._break(error.strerror or str(error), error)

    def _same_file(self) -> None:
        """Verify that the path still names the open file, and that no other process has written to it."""
        opened = os.fstat(self._descriptor)
        try:
            named = self.path.stat()
        except OSError as error:
            self._break("it was removed while it was in use", error)
        if (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino):
            self._break("it was replaced while it was in use", None)
        if opened.st_size != self._good:
            self._break(f"another process wrote to it ({opened.st_size} bytes, expected {self._good})", None)

    def _break(self, why: str, error: OSError | None) -> NoReturn:
        self._broken = why
        raise StateBrokenError(f"{self.path} is no longer written: {why}") from error


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii")[:8]
    except OSError:
        return ""
