"""One record of the journal, and the parser of a journal's bytes. Pure: bytes in, events out.

A record is a line of ASCII JSON,
``{"n":17,"t":"...","b":"<boot>","r":"<run>","e":"<kind>","key":"...",...,"c":"9f3a1c22"}``.
``c`` is the CRC-32 of the bytes before it, seeded with the previous record's, so a lost, duplicated, moved, spliced
or altered record is detected. It is compared as eight bytes, because a number would have several spellings.

Sessions: every run of a milestone, from its start to its end, folded from the journal. Pure.

A run with a start but no end, and without a living process, has died.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from executor.state.events import AttemptFailed, AttemptStarted, Landed, RunEnded, RunStarted, Stopped, WorkHosted
from executor.state.events import decode as decode_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.state.events import Event


__all__ = [
    "COMPACTED",
    "KINDS",
    "MOST_BYTES",
    "VERSION",
    "Base",
    "Damage",
    "How",
    "Record",
    "RunRecord",
    "Scan",
    "base_of",
    "decode",
    "encode",
    "moment",
    "now",
    "run_records",
    "scan",
]


VERSION = 1  # of the journal's lines; a newer one is refused
MOST_BYTES = 64 * 1024
"""Maximum length of a record; larger data is stored in separate files, which a record names."""
COMPACTED = "compacted"
"""Kind of the first record of a segment whose predecessors a snapshot replaces."""

_OWN = frozenset({"n", "v", "t", "b", "r", "e", "key", "c"})
_PARSE = json.JSONDecoder().raw_decode
"""A fifth faster than `json.loads`, which checks the encoding and surrounding white space."""
_CHECK = len(',"c":"00000000"}')
_SNAPSHOT = re.compile(r"snapshot\.\d{6}\.jsonl", re.ASCII)
_LOOKS_LIKE_A_RECORD = re.compile(rb'(?<![:,\[])\{"n":\d+,"(?:v|t)":')
"""An object inside a record's data can start in the same way, but follows one of these three characters."""


@dataclass(frozen=True, slots=True)
class Record:
    """A fact.

    Attributes:
        number: position in the journal, counted from 1.
        at: time, ISO-8601 UTC.
        boot: first characters of the machine's boot id; empty without one.
        run: id of the run that wrote it.
        kind: kind of the event, for example ``attempt-started``.
        key: id of its issue; empty for the milestone.
        data: all other fields; JSON values.
    """

    number: int
    at: str
    boot: str
    run: str
    kind: str
    key: str
    data: Mapping[str, Any]

    @property
    def event(self) -> Event:
        """The typed event of this record."""
        return decode_event(self.kind, self.data)


class Damage(StrEnum):
    """The damage at the end of the readable part."""

    NONE = "none"
    TORN = "torn"
    """The last record was cut off during its write; nothing follows it."""
    CORRUPT = "corrupt"
    """A record is damaged and others follow: the cause was not a crash."""
    NEWER = "newer"
    """Written by a newer version of the executor."""


@dataclass(frozen=True, slots=True)
class Base:
    """The snapshot that replaces all earlier segments, as named in the first record of a segment.

    Attributes:
        snapshot: name of the file with the needed records.
        sha256: digest of that file.
        number: number of the last record of the earlier segments.
        check: CRC-32 of that record.
    """

    snapshot: str
    sha256: str
    number: int
    check: int

    def data(self) -> dict[str, object]:
        """Return its fields as a record's data."""
        last = {"number": self.number, "check": f"{self.check:08x}"}
        return {"snapshot": self.snapshot, "sha256": self.sha256, "last": last}


@dataclass(frozen=True, slots=True)
class Scan:
    """The records in a journal's bytes.

    Attributes:
        events: every record up to the first bad one.
        good: number of bytes in those records.
        check: CRC-32 of the last of them, the seed for the next.
        damage: the kind of damage after them.
    """

    events: list[Record]
    good: int
    check: int
    damage: Damage


def encode(event: Record, previous: int, most: int = MOST_BYTES) -> bytes:
    """Encode an event as one line.

    Args:
        event: the record; its data must be JSON and must not use the names of the envelope's fields.
        previous: CRC-32 of the previous record; 0 for the first.
        most: maximum length of a record.

    Raises:
        ValueError: the data cannot be encoded as a record, or is too long.
    """
    clash = _OWN & event.data.keys()
    if clash:
        raise ValueError(f"a record has fields of its own named {', '.join(sorted(clash))}")
    first = {"n": event.number, "v": VERSION} if event.number == 1 else {"n": event.number}
    fields = {**first, "t": event.at, "b": event.boot, "r": event.run, "e": event.kind, "key": event.key, **event.data}
    body = json.dumps(fields, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")[:-1]
    line = body + b',"c":"%08x"}\n' % zlib.crc32(body, previous)
    if len(line) > most:
        raise ValueError(f"a record of {len(line)} bytes, at most {most} are allowed")
    return line


def scan(data: bytes, number: int = 1, previous: int = 0) -> Scan:
    """Read a segment from its start to the first damaged record.

    Args:
        data: the segment's bytes.
        number: expected number of its first record.
        previous: CRC-32 of the record before that one; 0 if none.
    """
    events: list[Record] = []
    good, check = 0, previous
    while True:
        end = data.find(b"\n", good)
        read = decode(data[good:end], number + len(events), check) if end >= 0 else None
        if read is None:
            return Scan(events, good, check, _damage(data, good))
        event, check = read
        events.append(event)
        good = end + 1


def decode(line: bytes, number: int, previous: int) -> tuple[Record, int] | None:
    """Decode a record without its newline into its event and CRC-32; None if it is not the expected record."""
    check = zlib.crc32(line[:-_CHECK], previous)
    if line[-_CHECK:] != b',"c":"%08x"}' % check:
        return None
    try:
        text = line.decode()
        fields, end = _PARSE(text)
        if end != len(text) or not isinstance(fields, dict):
            return None
        if number == 1 and fields.pop("v") != VERSION:
            return None
        if fields.pop("n") != number:
            return None
        event = Record(
            number,
            fields.pop("t"),
            fields.pop("b"),
            fields.pop("r"),
            fields.pop("e"),
            fields.pop("key"),
            fields,
        )
    except (ValueError, KeyError, AttributeError):
        return None
    del fields["c"]
    return event, check


def base_of(data: bytes) -> Base | None:
    """Return the snapshot of a segment that starts with an intact `COMPACTED` record; None for a continuation."""
    line = data[: max(data.find(b"\n", 0, MOST_BYTES), 0)]
    if b'"e":"compacted"' not in line:
        return None
    try:
        fields = json.loads(line)
        last = fields["last"]
        base = Base(fields["snapshot"], fields["sha256"], int(last["number"]), int(last["check"], 16))
        named = _SNAPSHOT.fullmatch(base.snapshot)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    read = decode(line, base.number + 1, base.check) if named else None
    return base if read is not None and read[0].kind == COMPACTED else None


def _damage(data: bytes, good: int) -> Damage:
    if good == len(data):
        return Damage.NONE
    if good == 0:
        newer = re.match(rb'\{"n":1,"v":(\d{1,18}),', data)
        if newer is not None and int(newer[1]) > VERSION:
            return Damage.NEWER
    return Damage.CORRUPT if _LOOKS_LIKE_A_RECORD.search(data, good + 1) else Damage.TORN


KINDS = frozenset({"run-started", "run-ended"})
"""Records of sessions; a compaction keeps them all."""


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
    """A run of a milestone.

    Attributes:
        run: its id.
        started: start time, ISO-8601 UTC.
        ended: time of its last record.
        how: how it ended; in an older version, a run that ended with an error counts as died.
        why: the signal or the reason, as one sentence; empty for a completed run.
        code: its exit code; None without one.
        host: its machine.
        user: its user.
        pid: its process id.
        git: branch, commit and changed files of the user's checkout at its start.
        asked: the requested tasks, for example ``milestone:m4``.
        landed: issues that it landed, in order.
        in_flight: issue -> attempt that had started and not ended.
        following: the next issues, in order.
        hosts: other hosts on which its agents worked.
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
    hosts: tuple[str, ...] = ()

    @property
    def cut_off(self) -> bool:
        """Return whether it ended before its work was complete."""
        return self.how in {How.INTERRUPTED, How.HALTED, How.ERROR, How.DIED}


def run_records(records: Iterable[Record], alive: str = "") -> list[RunRecord]:
    """Return every run in the records, oldest first.

    Args:
        records: a milestone's journal.
        alive: id of the run with a living process; empty if none.
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
        case WorkHosted() if event.host not in known.hosts:
            known = replace(known, hosts=(*known.hosts, event.host))
        case AttemptFailed() | Stopped():
            flying.pop(record.key, None)
        case Landed():
            flying.pop(record.key, None)
            known = replace(known, landed=(*known.landed, record.key))
        case RunEnded():
            how = How(event.how or How.DONE)
            known = replace(known, how=how, why=event.why, code=event.code, following=event.following)
    return replace(known, ended=record.at, in_flight=flying)


def now() -> str:
    """The current time as ISO-8601 UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(at: str) -> float:
    """Return a record's time in seconds since 1970; 0 if it is invalid."""
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return 0.0
