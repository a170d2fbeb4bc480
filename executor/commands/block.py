"""Pictures as plain text: one block for a moment, one for a change; for pipes, screen readers and other programs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from executor.commands.base import safe, table
from executor.commands.words import ago, ending, event_line, headline, money, run_note

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.core.sessions import How
    from executor.picture import Picture, Row

__all__ = ["block", "change_block", "picture_value"]


def block(picture: Picture) -> str:
    """Everything: how far it is, every issue, the latest events."""
    lines = [_head(picture), *_notes(picture), *_rows(picture.rows), "latest events:"]
    return _text([*lines, *(f"  {event_line(event)}" for event in picture.last)] if picture.last else lines[:-1])


def change_block(before: Picture, picture: Picture) -> str:
    """What has changed since an earlier picture; empty if nothing has."""
    old = {row.ref: (row.status, row.reason) for row in before.rows}
    changed = [row for row in picture.rows if old.get(row.ref) != (row.status, row.reason)]
    if not changed and (before.status, _how(before)) == (picture.status, _how(picture)):
        return ""
    return _text([_head(picture), *_notes(picture), *_rows(changed)])


def picture_value(picture: Picture) -> dict[str, Any]:
    """As JSON."""
    run = picture.run
    ends = picture.at + picture.end.seconds if picture.end is not None else None
    return {
        "id": picture.milestone,
        "title": picture.title,
        "branch": picture.branch,
        "status": picture.status,
        "percent": picture.percent,
        "counts": picture.counts,
        "cost_usd": round(picture.cost_usd, 6),
        "ends_at": None if ends is None else datetime.fromtimestamp(ends, UTC).isoformat(timespec="seconds"),
        "run": None if run is None else {**asdict(run), "how": str(run.how)},
        "working": [asdict(item) for item in picture.working],
        "issues": [asdict(row) for row in picture.rows],
        "events": [
            {"at": event.at, "issue": event.key, "event": event.kind, "text": event_line(event)}
            for event in picture.last
        ],
    }


def _how(picture: Picture) -> tuple[str, How] | None:
    return (picture.run.run, picture.run.how) if picture.run is not None else None


def _head(picture: Picture) -> str:
    at = datetime.fromtimestamp(picture.at).astimezone()
    told = f"{picture.status}, {picture.percent} %, {headline(picture)}"
    return f"{at:%Y-%m-%d %H:%M:%S} {picture.milestone} {picture.title}: {told}"


def _notes(picture: Picture) -> list[str]:
    found = [run_note(picture)]
    if ending(picture):
        elapsed, *ends = ending(picture)
        found.append(", ".join([f"for {elapsed}", f"cost {money(picture.cost_usd)}", *ends]))
    quiet = (item for item in picture.working if item.stalled)
    found += [f"{item.ref} has shown no sign of life for {ago(item.quiet)}" for item in quiet]
    return [f"  {note}" for note in found if note]


def _rows(rows: Iterable[Row]) -> list[str]:
    cells = [[f"  {row.status}", row.ref, row.title, row.reason] for row in rows]
    return table(cells).splitlines()


def _text(lines: list[str]) -> str:
    return "".join(f"{safe(line)}\n" for line in lines)
