"""Reads a journal: its segments in order, the snapshot before them, and their damage. Takes no lock.

The needed records of a journal: those that the fold requires for the same result. Pure.

A record is needed while it is the last one about something that the fold shows: an issue's stop, red base, proof,
refusal, pull request and retry, an attempt's fields. Records with sums (seconds, money) are always needed, and so are
the runs themselves.
"""

from __future__ import annotations

import gc
import hashlib
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.errors import StateBrokenError
from executor.process.files import JOURNAL, segments
from executor.state.fold import fold
from executor.state.record import KINDS, MOST_BYTES, Base, Damage, Record, base_of, encode, scan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from executor.state.journal import Disk
    from executor.state.record import Record

__all__ = [
    "ARCHIVE",
    "Chain",
    "Segment",
    "Trouble",
    "inspect",
    "lines_of",
    "live",
    "load",
    "look",
    "read",
    "refuse",
    "restore",
    "segment_name",
]


_TRIES = 20  # readings; a compaction in between is over after one
ARCHIVE = "archive"
"""Folder of the segments before the last compaction."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a journal is refused.

    Attributes:
        path: the damaged file.
        record: number of the first damaged record.
        offset: its start in the file.
        good: number of the last good record before it; 0 if there is none.
        first: the smallest record number, other than 0, to which the journal can be truncated.
        cut: everything after that: files, each with a number of bytes.
        newer: a newer version wrote it.
        why: the damage, as the end of a sentence that begins with the path.
    """

    path: Path
    record: int
    offset: int
    good: int
    first: int
    cut: tuple[tuple[str, int], ...]
    newer: bool
    why: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as it was read; a missing one has no path."""

    number: int
    path: Path | None
    data: bytes
    base: Base | None = None


@dataclass(slots=True)
class Chain:
    """The result of a read: records, the state of the chain after them, and the damage that follows."""

    segments: list[Segment]
    events: list[Record]
    number: int = 0
    check: int = 0
    good: int = 0
    """Number of intact bytes in the last segment that was read."""
    torn: bytes = b""
    trouble: Trouble | None = None


def read(folder: Path) -> list[Record]:
    """Return every record of a milestone's journal; takes no lock and omits a record in the middle of a write.

    Raises:
        StateBrokenError: the journal is corrupt, or of a newer version.
    """
    chain = look(folder)
    refuse(folder, chain)
    return chain.events


def inspect(folder: Path) -> Trouble | None:
    """Return why the journal in a folder is refused; None if it is not.

    Raises:
        StateBrokenError: the journal cannot be read at all.
    """
    return look(folder).trouble


def look(folder: Path) -> Chain:
    """Read the journal in its current state, while another process may write to it."""
    for _ in range(_TRIES):
        before = segments(folder)
        try:
            chain = load(folder)
        except FileNotFoundError:
            continue  # it was compacted in between
        except OSError as error:
            raise StateBrokenError(f"{folder / JOURNAL} cannot be read: {error.strerror or error}") from error
        if chain.trouble is None or segments(folder) == before:
            return chain
    raise StateBrokenError(f"{folder / JOURNAL} cannot be read: its segments keep changing")


def load(folder: Path) -> Chain:
    """Read up to the first damage."""
    chain = Chain(_segments(folder), [])
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
    """Disable garbage collection while many small permanent objects are created."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _segments(folder: Path) -> list[Segment]:
    """Return the relevant segments, oldest first: from the newest one with an intact snapshot, otherwise all.

    A segment that is not in its place is taken from the archive; a missing one has no path.
    """
    archived, present = segments(folder / ARCHIVE), segments(folder)
    known = {int(name[8:14]): folder / ARCHIVE / name for name in archived}
    known.update((int(name[8:14]), folder / name) for name in present)
    if not known:
        return []
    found: list[Segment] = []
    number, least = int(present[-1][8:14]) if present else max(known) + 1, min(known)
    while True:
        path = known.get(number)
        data = path.read_bytes() if path is not None else b""
        base = base_of(data)
        found.append(Segment(number, path, data, base))
        if (
            number <= 1
            or number < least
            or (base is not None and (number == least or _snapshot(folder, base) is not None))
        ):
            return found[::-1]
        number -= 1


def _snapshot(folder: Path, base: Base) -> bytes | None:
    """Return the snapshot that a segment is based on; None if it is missing or altered."""
    for place in (folder, folder / ARCHIVE):
        with suppress(FileNotFoundError, NotADirectoryError):
            data = (place / base.snapshot).read_bytes()
            if hashlib.sha256(data).hexdigest() == base.sha256:
                return data
    return None


def _take_snapshot(folder: Path, chain: Chain, base: Base) -> None:
    data = _snapshot(folder, base)
    found = scan(data or b"")
    if data is None or found.damage is not Damage.NONE:
        why = f"it has changed since {segment_name(chain.segments[0].number)} was begun"
        chain.trouble = Trouble(
            folder / base.snapshot,
            *(len(found.events) + 1, found.good, 0, 0),
            tuple((segment_name(segment.number), len(segment.data)) for segment in chain.segments),
            found.damage is Damage.NEWER,
            why,
        )
    chain.events, chain.number, chain.check = found.events, base.number, base.check


def _take(folder: Path, chain: Chain, place: int, segment: Segment) -> None:
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
    why = f"record {record} at byte {found.good} is damaged, and others follow it"
    if segment.path is None:
        why = "it is missing" + (f", and {segment_name(later[0].number)} continues it" if later else "")
    base = chain.segments[0].base
    cut_off = [(item, len(item.data) - (found.good if item is segment else 0)) for item in (segment, *later)]
    chain.trouble = Trouble(
        segment.path or folder / segment_name(segment.number),
        *(record, found.good, chain.number, base.number + 1 if base is not None else 1),
        tuple((segment_name(item.number), size) for item, size in cut_off if size),
        found.damage is Damage.NEWER,
        why,
    )


def refuse(folder: Path, chain: Chain) -> None:
    """Raise the error for a damaged chain; does nothing for an intact one."""
    trouble = chain.trouble
    if trouble is None:
        return
    if trouble.newer:
        raise StateBrokenError(
            f"{trouble.path} was written by a newer version of the executor; use that version, or move the file"
        )
    command = f"doit repair {folder.name}"
    raise StateBrokenError(
        f"{trouble.path}: {trouble.why}; nothing was changed. Restore the file, or keep the {trouble.good} good "
        f"records before it with `{command} --to {trouble.good}` (`{command}` shows first what that would put aside): "
        "what has landed is in git, only figures of time and cost are lost"
    )


def lines_of(events: list[Record]) -> bytes:
    """Encode records as a new chain."""
    lines, check = [], 0
    for event in events:
        lines.append(encode(event, check, 2 * MOST_BYTES))  # the first also says of what version it is
        check = int(lines[-1][-11:-3], 16)
    return b"".join(lines)


def segment_name(number: int) -> str:
    """Return the file name of a segment."""
    return f"journal.{number:06d}.jsonl"


def restore(folder: Path, chain: Chain, disk: Disk) -> bool:
    """Restore archived files whose replacement is missing; returns whether there were any."""
    archived = [item.path for item in chain.segments if item.path is not None and item.path.parent != folder]
    base = chain.segments[0].base if chain.segments else None
    if base is not None and not (folder / base.snapshot).exists():
        archived.append(folder / ARCHIVE / base.snapshot)
    for path in archived:
        disk.rename(path, folder / path.name)
    if archived:
        disk.fsync_dir(folder)
        disk.fsync_dir(folder / ARCHIVE)
    return bool(archived)


_ISSUE: dict[str, frozenset[str]] = {
    "attempt-started": frozenset({"stop", "red"}),
    "landed": frozenset({"proof", "refusal", "stop"}),
    "verified": frozenset({"proof", "refusal"}),
    "refused": frozenset({"refusal"}),
    "stopped": frozenset({"stop"}),
    "base-red": frozenset({"red"}),
    "pull": frozenset({"pull"}),
    "retried": frozenset({"forgiven", "stop"}),
}
"""Fields of the issue's state that a record sets."""
_VALUE = {
    "landed": "proof",
    "verified": "proof",
    "refused": "refusal",
    "stopped": "stop",
    "base-red": "red",
    "pull": "pull",
    "retried": "forgiven",
}
"""The one of these fields that gets a value; the others are only cleared, which needs no record if nothing is set."""
_ATTEMPT: dict[str, frozenset[str]] = {
    "attempt-interrupted": frozenset({"state", "commit", "cost", "tokens"}),
    "landing": frozenset({"landing"}),
    "landed": frozenset({"state", "commit"}),
}
"""Fields of the attempt that a record sets."""
_ADDS = {
    "attempt-built": frozenset(
        {"state", "commit", "result_key", "pull", "seconds", "deviations", "notes", "cost", "tokens"}
    ),
    "attempt-failed": frozenset({"state", "commit", "kind", "reason", "detail", "print", "until", "cost", "tokens"}),
}
"""Fields of the attempt that a record sets, for records that also add to the issue's sums."""
_ALL = frozenset().union(*_ATTEMPT.values(), *_ADDS.values())
_FACTS = frozenset({"notified"})
"""Records that are kept although no state depends on them: a notice must not be sent twice."""
_KNOWN = _ISSUE.keys() | _ATTEMPT.keys() | _ADDS.keys()


def live(events: Sequence[Record]) -> list[Record]:
    """Return the records that `fold` needs to reach the same states, in order.

    All records of a kind that the fold knows and this function does not are kept.
    """
    folded: dict[str, bool] = {}
    issues: defaultdict[str, _Issue] = defaultdict(_Issue)
    kept: set[int] = set()
    latest: dict[str, int] = {}
    for place in range(len(events) - 1, -1, -1):
        event = events[place]
        if event.kind not in folded:
            folded[event.kind] = bool(fold((event,)))
        if event.kind in KINDS:
            kept.add(place)
        elif folded[event.kind]:
            latest.setdefault(event.key, place)
            kept.update(issues[event.key].needed(place, event))
    seen = {events[place].key for place in kept if events[place].kind not in KINDS}
    kept.update(place for key, place in latest.items() if key not in seen)
    kept.update(place for place, event in enumerate(events) if event.kind in _FACTS)
    return [events[place] for place in sorted(kept)]


class _Issue:
    """The fields that later records set, while an issue's records are read backwards."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._attempts: defaultdict[int, set[str]] = defaultdict(set)
        self._waiting: defaultdict[int, list[int]] = defaultdict(list)
        self._started: set[int] = set()

    def needed(self, place: int, event: Record) -> list[int]:
        """Return the positions of the records that are now known to be needed."""
        kind = event.kind
        says = _VALUE.get(kind)
        last = says is not None and says not in self._said
        adds = kind in _ADDS or "cost_usd" in event.data
        found = [place] if last or adds or kind not in _KNOWN else []
        self._said |= _ISSUE.get(kind, frozenset())
        if kind == "retried" and last:
            self._started.clear()  # what a retry forgives depends on the attempts that were started before it
        elif kind == "attempt-started":
            found += self._start(place, int(event.data["attempt"]))
        elif (kind in _ATTEMPT or kind in _ADDS) and event.data.get("attempt"):
            self._change(place, int(event.data["attempt"]), _ATTEMPT.get(kind) or _ADDS[kind])
        return found

    def _start(self, place: int, number: int) -> list[int]:
        """Process the start of an attempt: later records of it are needed, earlier ones of the same number are not."""
        found = self._waiting.pop(number, [])
        if number not in self._started:
            found.append(place)
        self._started.add(number)
        self._attempts[number] |= _ALL
        return found

    def _change(self, place: int, number: int, fields: frozenset[str]) -> None:
        """Process a change of an attempt; needed if it sets a field last and the attempt was started before."""
        if fields - self._attempts[number]:
            self._waiting[number].append(place)
        self._attempts[number] |= fields
