"""The journal of a milestone: append-only, one writer, durable before it is acted upon, checked record by record.

Its record is that of `executor.core.event`. It is kept in segments, `journal.000001.jsonl` and so on, through which
numbers and checks go on. A tail that a crash cut off is put aside and the journal goes on; anything else that is wrong
is refused, never guessed at. Readers take no lock.

Compaction: a snapshot of the records that still matter, then a segment whose first record names it, then the older
segments go to ``archive/``, from which the next opening removes them. The first record's segment appears whole or not
at all, so that a crash leaves the old journal or the new one.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from executor.adapters.files import JOURNAL, NO_SPACE, fsync_dir, segments
from executor.core.event import COMPACTED, MOST_BYTES, Base, Damage, Event, base_of, decode, encode, scan
from executor.errors import StateBrokenError, StateFullError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Disk", "Journal", "Limits", "Trouble", "cut", "inspect", "read"]

_ARCHIVE = "archive"
_BALLAST = "journal.ballast"
_BALLAST_BYTES = 1024 * 1024
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DERIVED = re.compile(r"snapshot\.\d{6}\.jsonl|\.(?:snapshot|journal)\..*\.new", re.ASCII)
"""What a compaction or a repair that came to nothing leaves, or a compaction that was compacted again."""
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """When a journal is compacted and when a segment is full; looked at when it is opened.

    Attributes:
        compact_bytes: segments that are smaller together stay as they are.
        compact_ratio: so do segments that are at most so many times as large as what is still needed of them.
        segment_bytes: a segment that is larger is not written any more; another one begins.
    """

    compact_bytes: int = 32 * 1024 * 1024
    compact_ratio: float = 3.0
    segment_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a journal is refused.

    Attributes:
        path: the file that is wrong.
        record: number of the first record that is not what it should be.
        offset: where it begins in the file.
        good: number of the last good record before it, 0 if there is none.
        first: the smallest number of a record up to which the journal can be kept, other than 0.
        cut: everything from there on: files with how many bytes of each.
        newer: whether it is a newer version that wrote it.
        why: what is wrong, as the end of a sentence that begins with the path.
    """

    path: Path
    record: int
    offset: int
    good: int
    first: int
    cut: tuple[tuple[str, int], ...]
    newer: bool
    why: str


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

    def rename(self, old: Path, new: Path) -> None:
        """As `os.replace`."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """As `os.unlink`, also if there is no such file."""
        path.unlink(missing_ok=True)

    def mkdir(self, folder: Path) -> None:
        """As `os.mkdir`, also if it is there; for its owner only."""
        folder.mkdir(mode=0o700, exist_ok=True)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment as it was read; one that is missing has no path."""

    number: int
    path: Path | None
    data: bytes
    base: Base | None = None


@dataclass(slots=True)
class _Chain:
    """What was read: records, the state of the chain after them, and what is wrong with what follows."""

    segments: list[_Segment]
    events: list[Event]
    number: int = 0
    check: int = 0
    good: int = 0
    """Bytes of the last segment that was read which are good."""
    torn: bytes = b""
    trouble: Trouble | None = None


class Journal:
    """The one writer of a milestone's journal; whoever opens it holds the milestone's lock.

    Attributes:
        events: every record, oldest first.
        warnings: what was repaired when it was opened, one sentence each.
    """

    def __init__(self, folder: Path, run: str, now: Callable[[], str], boot: str, disk: Disk) -> None:
        self.path = folder / JOURNAL
        """The segment that is written."""
        self.warnings: list[str] = []
        self.events: list[Event] = []
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
        """Open or begin the journal in a folder; what is too large is compacted or goes on in another segment.

        Args:
            folder: where it lives; made if missing.
            run: id of this run, written into every record.
            now: gives the present time, ISO-8601.
            boot: boot id; asked from the machine by default.
            disk: the calls to the operating system.
            limits: what is too large.

        Raises:
            StateBrokenError: it is corrupt, of a newer version, or cannot be opened.
            StateFullError: there is no space to begin it.
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

    @property
    def boot(self) -> str:
        """Boot id that is written into every record; empty where there is none."""
        return self._boot

    def close(self) -> None:
        """Give the file back; safe to call twice."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self._broken = self._broken or "it is closed"

    def _begin(self, limits: Limits) -> None:
        folder, disk = self.path.parent, self._disk
        chain = _load(folder)
        _refuse(folder, chain)
        if _restore(folder, chain, disk) and any(segment.base is not None for segment in chain.segments[1:]):
            self.warnings.append(f"a snapshot of {folder.name} was lost; the segments that it stood for were read")
        last = chain.segments[-1] if chain.segments else _Segment(1, None, b"")
        self.path = folder / _name(last.number)
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
        """Keep the cut-off tail in a file of its own, then take it off the journal."""
        kept = _place_for(self.path.with_name(f"journal.torn.{good}"), tail)
        _write_file(self._disk, kept, tail)
        self._disk.fsync_dir(self.path.parent)
        self._disk.truncate(self._descriptor, good)
        self._disk.fsync(self._descriptor)
        self.warnings.append(
            f"the last {len(tail)} bytes of {self.path.parent.name}/{self.path.name} were cut off by a crash; "
            f"they are kept in {kept.name}"
        )

    def _tidy(self, chain: _Chain) -> None:
        """Finish what a compaction left undone, or remove what the one before this opening put aside."""
        folder, disk = self.path.parent, self._disk
        if not chain.segments:
            return
        first = chain.segments[0]
        own = first.base.snapshot if first.base is not None else ""
        left = [name for name in segments(folder) if name < _name(first.number)]
        derived = [path.name for path in folder.iterdir() if _DERIVED.fullmatch(path.name) and path.name != own]
        for name in derived:
            if name < own and not name.startswith("."):
                left.append(name)
            else:
                disk.unlink(folder / name)
        if left:
            self._to_archive(left)
        elif (folder / _ARCHIVE).is_dir():
            for path in sorted((folder / _ARCHIVE).iterdir()):
                disk.unlink(path)

    def _compact(self, chain: _Chain, limits: Limits) -> bool:
        """Begin a segment with a snapshot of what still matters, if that is worth it; whether it was."""
        size = sum(len(segment.data) for segment in chain.segments)
        if size <= limits.compact_bytes:
            return False
        from executor.core.compact import live
        from executor.core.state import fold

        kept = [replace(event, number=number) for number, event in enumerate(live(self.events), 1)]
        snapshot = _lines(kept)
        if size <= limits.compact_ratio * len(snapshot):
            return False
        if fold(kept) != fold(self.events):
            self.warnings.append(f"{self.path.parent.name} was not compacted: its snapshot would say something else")
            return False
        number = chain.segments[-1].number + 1
        name = f"snapshot.{number:06d}.jsonl"
        base = Base(name, hashlib.sha256(snapshot).hexdigest(), self._number, self._check)
        _publish(self._disk, self.path.with_name(name), snapshot)
        self._begin_from(base, number, kept)
        first = chain.segments[0].base
        self._to_archive([_name(segment.number) for segment in chain.segments] + ([first.snapshot] if first else []))
        return True

    def _begin_from(self, base: Base, number: int, kept: list[Event]) -> None:
        """Go on in a segment that rests on a snapshot."""
        event = Event(base.number + 1, self._now(), self._boot, self._run, COMPACTED, "", base.data())
        line = encode(event, base.check)
        path = self.path.with_name(_name(number))
        _publish(self._disk, path, line)
        os.close(self._descriptor)
        self._descriptor = -1
        self._descriptor = self._disk.open(path, os.O_RDWR | os.O_APPEND)
        self.path = path
        self.events = [*kept, event]
        self._number, self._check, self._good = event.number, int(line[-11:-3], 16), len(line)

    def _to_archive(self, names: list[str]) -> None:
        """Put aside what a snapshot stands for; nothing is in the archive that is needed."""
        folder, disk = self.path.parent, self._disk
        disk.mkdir(folder / _ARCHIVE)
        for name in names:
            disk.rename(folder / name, folder / _ARCHIVE / name)
        disk.fsync_dir(folder / _ARCHIVE)
        disk.fsync_dir(folder)

    def _next(self, number: int) -> None:
        """Go on in an empty segment."""
        path = self.path.with_name(_name(number))
        descriptor = self._disk.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        os.close(self._descriptor)
        self._descriptor, self.path, self._good = descriptor, path, 0
        self._disk.fsync_dir(path.parent)

    def _set_ballast(self, path: Path) -> None:
        """Set space aside; a disk that has none left for it will say so at the next append."""
        if path.exists():
            return
        with suppress(OSError):
            descriptor = self._disk.open(path, os.O_WRONLY | os.O_CREAT)
            try:
                _write(self._disk, descriptor, bytes(_BALLAST_BYTES))
            finally:
                os.close(descriptor)

    def _append(self, kind: str, key: str, data: dict[str, Any]) -> Event:
        if self._broken:
            raise StateBrokenError(f"{self.path} is not written any more: {self._broken}")
        number = self._number + 1
        line = encode(Event(number, self._now(), self._boot, self._run, kind, key, data), self._check)
        read_back = decode(line[:-1], number, self._check)
        if read_back is None:
            raise ValueError(f"a record that would not be read back: {line!r}")
        self._same_file()
        try:
            _write(self._disk, self._descriptor, line)
            self._disk.fsync(self._descriptor)
        except OSError as error:
            self._undo(error)
            raise StateFullError(
                f"{self.path}: {error.strerror}; nothing is lost, free some space and run again"
            ) from error
        event, self._check = read_back
        self._number = number
        self._good += len(line)
        self.events.append(event)
        return event

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

    def _break(self, why: str, error: OSError | None) -> NoReturn:
        self._broken = why
        raise StateBrokenError(f"{self.path} is not written any more: {why}") from error


def read(folder: Path) -> list[Event]:
    """Every record of a milestone's journal; takes no lock, a record that is being written is left out.

    Raises:
        StateBrokenError: it is corrupt, or of a newer version.
    """
    chain = _look(folder)
    _refuse(folder, chain)
    return chain.events


def inspect(folder: Path) -> Trouble | None:
    """Why the journal in a folder is refused; None if it is not.

    Raises:
        StateBrokenError: it cannot be read at all.
    """
    return _look(folder).trouble


def cut(folder: Path, to: int, *, at: str, disk: Disk | None = None) -> list[str]:
    """Keep the first records of a journal that is refused, and put everything after them into files beside it.

    Whoever calls it holds the milestone's lock. A crash in between leaves a journal that is as corrupt as before, or
    one that is repaired.

    Args:
        folder: where the journal lives.
        to: number of the last record to keep; 0 to begin anew.
        at: names the files, for example the present time.
        disk: the calls to the operating system.

    Returns:
        Names of the files into which the rest went.

    Raises:
        UsageError: the journal is whole, or it cannot be kept up to that record.
        StateFullError: there is no space for the rest; nothing was changed.
        StateBrokenError: a newer version wrote it, or the disk fails.
    """
    chain = _look(folder)
    trouble = chain.trouble
    if trouble is None:
        raise UsageError(f"the journal of {folder.name} is whole; there is nothing to repair")
    if trouble.newer:
        _refuse(folder, chain)
    if to and not trouble.first <= to <= trouble.good:
        ways = f"{trouble.first} to {trouble.good}, or 0 to begin anew" if trouble.good else "0 only: to begin anew"
        raise UsageError(f"--to {to}: the journal of {folder.name} can be kept up to record {ways}")
    try:
        return _cut(folder, chain, to, folder / f"journal.corrupt.{at}", disk or Disk())
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StateFullError(f"{folder}: {error.strerror}; free some space and repair again") from error
        raise StateBrokenError(f"{folder} cannot be repaired: {error.strerror or error}") from error


def _cut(folder: Path, chain: _Chain, to: int, aside: Path, disk: Disk) -> list[str]:
    place, size = _end_of(chain, to)
    names, number = os.listdir(folder), 0  # noqa: PTH208
    first = aside.name
    while any(name.startswith(aside.name) for name in names):
        number += 1
        aside = aside.with_name(f"{first}-{number}")
    kept, later = chain.segments[: place + 1], chain.segments[place + 1 :]
    _restore(folder, replace(chain, segments=kept), disk)
    rest = kept[-1].data[size:] if kept else b""
    made = []
    if rest:
        _publish(disk, aside, rest)
        made.append(aside.name)
    moves = [(segment.path, f"{segment.number:06d}") for segment in reversed(later) if segment.path is not None]
    own = kept[0].base.snapshot if kept and kept[0].base is not None else ""
    moves += [(path, path.name) for path in sorted(folder.glob("snapshot.*.jsonl")) if path.name != own]
    if not kept and (folder / _ARCHIVE).is_dir():
        moves.append((folder / _ARCHIVE, _ARCHIVE))
    for path, name in moves:
        made.append(f"{aside.name}.{name}")
        disk.rename(path, folder / made[-1])
    disk.fsync_dir(folder)
    if rest:
        descriptor = disk.open(folder / _name(kept[-1].number), os.O_RDWR)
        try:
            disk.truncate(descriptor, size)
            disk.fsync(descriptor)
        finally:
            os.close(descriptor)
    return made


def _end_of(chain: _Chain, to: int) -> tuple[int, int]:
    """Place of the segment with that record, and the byte at which the record ends; -1 if no segment is to be kept."""
    first = chain.segments[0]
    if not to:
        return (0, 0) if first.number == 1 and first.path is not None else (-1, 0)
    number, check = (first.base.number, first.base.check) if first.base is not None else (0, 0)
    place, end = 0, 0
    found = scan(first.data, number + 1, check)
    while number + len(found.events) < to:
        place, number, check = place + 1, number + len(found.events), found.check
        found = scan(chain.segments[place].data, number + 1, check)
    for _ in range(to - number):
        end = chain.segments[place].data.index(b"\n", end) + 1
    return place, end


def _look(folder: Path) -> _Chain:
    """The journal as it is, while somebody else may be writing it."""
    for _ in range(_TRIES):
        before = segments(folder)
        try:
            chain = _load(folder)
        except FileNotFoundError:
            continue  # it was compacted in between
        except OSError as error:
            raise StateBrokenError(f"{folder / JOURNAL} cannot be read: {error.strerror or error}") from error
        if chain.trouble is None or segments(folder) == before:
            return chain
    raise StateBrokenError(f"{folder / JOURNAL} cannot be read: its segments come and go")


def _load(folder: Path) -> _Chain:
    """Read what there is, up to the first thing that is wrong."""
    chain = _Chain(_segments(folder), [])
    first = chain.segments[0] if chain.segments else None
    with _without_collector():
        if first is not None and first.base is not None:
            _take_snapshot(folder, chain, first.base)
        for place, segment in enumerate(chain.segments):
            if chain.trouble is None:
                _take(folder, chain, place, segment)
    return chain


@contextmanager
def _without_collector() -> Iterator[None]:
    """Make many small objects that all stay, without looking again and again whether some of them are garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _segments(folder: Path) -> list[_Segment]:
    """The segments that count, oldest first: from the newest one that rests on a whole snapshot, otherwise all.

    One that is not in its place is taken from the archive; one that is missing has no path.
    """
    archived, present = segments(folder / _ARCHIVE), segments(folder)
    known = {int(name[8:14]): folder / _ARCHIVE / name for name in archived}
    known.update((int(name[8:14]), folder / name) for name in present)
    if not known:
        return []
    found: list[_Segment] = []
    number, least = int(present[-1][8:14]) if present else max(known) + 1, min(known)
    while True:
        path = known.get(number)
        data = path.read_bytes() if path is not None else b""
        base = base_of(data)
        found.append(_Segment(number, path, data, base))
        if (
            number <= 1
            or number < least
            or (base is not None and (number == least or _snapshot(folder, base) is not None))
        ):
            return found[::-1]
        number -= 1


def _snapshot(folder: Path, base: Base) -> bytes | None:
    """The snapshot on which a segment rests; None if it is not there or not what it was."""
    for place in (folder, folder / _ARCHIVE):
        with suppress(FileNotFoundError, NotADirectoryError):
            data = (place / base.snapshot).read_bytes()
            if hashlib.sha256(data).hexdigest() == base.sha256:
                return data
    return None


def _take_snapshot(folder: Path, chain: _Chain, base: Base) -> None:
    data = _snapshot(folder, base)
    found = scan(data or b"")
    if data is None or found.damage is not Damage.NONE:
        why = f"it is not what was written when {_name(chain.segments[0].number)} was begun"
        chain.trouble = Trouble(
            folder / base.snapshot,
            *(len(found.events) + 1, found.good, 0, 0),
            tuple((_name(segment.number), len(segment.data)) for segment in chain.segments),
            found.damage is Damage.NEWER,
            why,
        )
    chain.events, chain.number, chain.check = found.events, base.number, base.check


def _take(folder: Path, chain: _Chain, place: int, segment: _Segment) -> None:
    found = scan(segment.data, chain.number + 1, chain.check)
    chain.events += found.events
    chain.number += len(found.events)
    chain.check, chain.good = found.check, found.good
    later = chain.segments[place + 1 :]
    if segment.path is not None and found.damage is Damage.NONE:
        return
    if segment.path is not None and found.damage is Damage.TORN and not later:
        chain.torn = segment.data[found.good :]
        return
    record = chain.number + 1
    why = f"record {record} at byte {found.good} is not what was written, and others follow it"
    if segment.path is None:
        why = "it is missing" + (f", and {_name(later[0].number)} goes on from it" if later else "")
    base = chain.segments[0].base
    cut_off = [(item, len(item.data) - (found.good if item is segment else 0)) for item in (segment, *later)]
    chain.trouble = Trouble(
        segment.path or folder / _name(segment.number),
        *(record, found.good, chain.number, base.number + 1 if base is not None else 1),
        tuple((_name(item.number), size) for item, size in cut_off if size),
        found.damage is Damage.NEWER,
        why,
    )


def _restore(folder: Path, chain: _Chain, disk: Disk) -> bool:
    """Take back from the archive what is needed after all, because what stood for it is not there; whether any was."""
    archived = [item.path for item in chain.segments if item.path is not None and item.path.parent != folder]
    base = chain.segments[0].base if chain.segments else None
    if base is not None and not (folder / base.snapshot).exists():
        archived.append(folder / _ARCHIVE / base.snapshot)
    for path in archived:
        disk.rename(path, folder / path.name)
    if archived:
        disk.fsync_dir(folder)
        disk.fsync_dir(folder / _ARCHIVE)
    return bool(archived)


def _refuse(folder: Path, chain: _Chain) -> None:
    trouble = chain.trouble
    if trouble is None:
        return
    if trouble.newer:
        raise StateBrokenError(
            f"{trouble.path} was written by a newer version of the executor; use that one, or move the file"
        )
    command = f"doit repair {folder.name}"
    raise StateBrokenError(
        f"{trouble.path}: {trouble.why}; nothing was changed. Restore the file, or keep the {trouble.good} good "
        f"records before it with `{command} --to {trouble.good}` (`{command}` shows first what that would put aside): "
        "what has landed is in git, only figures of time and cost are lost"
    )


def _lines(events: list[Event]) -> bytes:
    """Records as a chain of their own."""
    lines, check = [], 0
    for event in events:
        lines.append(encode(event, check, 2 * MOST_BYTES))  # the first also says of what version it is
        check = int(lines[-1][-11:-3], 16)
    return b"".join(lines)


def _name(number: int) -> str:
    return f"journal.{number:06d}.jsonl"


def _place_for(path: Path, data: bytes) -> Path:
    """The first of ``path``, ``path.1``, ... that is free, or has no more than the beginning of the data."""
    number = 0
    place = path
    while place.exists() and not data.startswith(place.read_bytes()):
        number += 1
        place = path.with_name(f"{path.name}.{number}")
    return place


def _publish(disk: Disk, path: Path, data: bytes) -> None:
    """Make a file that is there whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        _write_file(disk, temporary, data)
        disk.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            disk.unlink(temporary)
        raise
    disk.fsync_dir(path.parent)


def _write_file(disk: Disk, path: Path, data: bytes) -> None:
    """Write a file whose data is durable when this returns."""
    descriptor = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        _write(disk, descriptor, data)
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(disk: Disk, descriptor: int, data: bytes) -> None:
    rest = data
    while rest:
        rest = rest[disk.write(descriptor, rest) :]


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii")[:8]
    except OSError:
        return ""
