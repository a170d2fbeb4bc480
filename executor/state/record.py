"""One record of the journal, and how a journal's bytes are read back. Pure: bytes in, events out.

A record is a line of ASCII JSON,
``{"n":17,"t":"...","b":"<boot>","r":"<run>","e":"<kind>","key":"...",...,"c":"9f3a1c22"}``.
``c`` is the CRC-32 of the bytes before it, seeded with the previous record's, so that a lost, doubled, moved, spliced
or altered record cannot pass. It is compared as eight bytes: read as a number it would have other spellings.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from executor.state.events import decode as decode_event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.state.events import Event

__all__ = [
    "COMPACTED",
    "MOST_BYTES",
    "VERSION",
    "Base",
    "Damage",
    "Record",
    "Scan",
    "base_of",
    "decode",
    "encode",
    "scan",
]

VERSION = 1
MOST_BYTES = 64 * 1024
"""Longest record; larger things go to files of their own, which a record names."""
COMPACTED = "compacted"
"""Kind of the record with which a segment begins whose predecessors a snapshot stands for."""

_OWN = frozenset({"n", "v", "t", "b", "r", "e", "key", "c"})
_PARSE = json.JSONDecoder().raw_decode
"""A fifth faster than `json.loads`, which looks at the encoding and for white space around."""
_CHECK = len(',"c":"00000000"}')
_SNAPSHOT = re.compile(r"snapshot\.\d{6}\.jsonl", re.ASCII)
_LOOKS_LIKE_A_RECORD = re.compile(rb'(?<![:,\[])\{"n":\d+,"(?:v|t)":')
"""An object inside a record's data can begin in the same way, but follows one of these three characters."""


@dataclass(frozen=True, slots=True)
class Record:
    """A fact.

    Attributes:
        number: place in the journal, counted from 1.
        at: when, ISO-8601 UTC.
        boot: first characters of the machine's boot id; empty where there is none.
        run: id of the run that wrote it.
        kind: kind of the event, for example ``attempt-started``.
        key: the issue it is about; empty for the milestone.
        data: everything else; JSON values.
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
    """The last record was cut off while it was written; nothing follows it."""
    CORRUPT = "corrupt"
    """A record is wrong and others follow: something other than a crash did that."""
    NEWER = "newer"
    """Written by a version of the executor that this one does not know."""


@dataclass(frozen=True, slots=True)
class Base:
    """The snapshot that replaces all earlier segments, as the first record of a segment names it.

    Attributes:
        snapshot: name of the file with the records that still matter.
        sha256: digest of that file.
        number: number of the last record of the segments before.
        check: CRC-32 of that record.
    """

    snapshot: str
    sha256: str
    number: int
    check: int

    def data(self) -> dict[str, object]:
        """As a record's data."""
        last = {"number": self.number, "check": f"{self.check:08x}"}
        return {"snapshot": self.snapshot, "sha256": self.sha256, "last": last}


@dataclass(frozen=True, slots=True)
class Scan:
    """The records in a journal's bytes.

    Attributes:
        events: every record up to the first bad one.
        good: bytes that those records take.
        check: CRC-32 of the last of them, the seed for the next.
        damage: the bytes after them.
    """

    events: list[Record]
    good: int
    check: int
    damage: Damage


def encode(event: Record, previous: int, most: int = MOST_BYTES) -> bytes:
    """The record of an event as one line.

    Args:
        event: the record; its data must be JSON and must not use the names of the envelope's fields.
        previous: CRC-32 of the record before it, 0 for the first.
        most: longest record.

    Raises:
        ValueError: the data cannot be written as a record, or is longer than that.
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
    """Read a segment from its start up to the first damaged record.

    Args:
        data: the segment's bytes.
        number: number that its first record should have.
        previous: CRC-32 of the record before that one, 0 if there is none.
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
    """The event of a record without its newline, and its CRC-32; None if it is not the record that belongs there."""
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
    """The snapshot of a segment that begins with a whole `COMPACTED` record; None if it continues the one before."""
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
