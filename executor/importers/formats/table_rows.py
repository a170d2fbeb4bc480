"""Tables of a plan: which of them list issues, what their columns mean, the phases that they stand in. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.importers.formats.tracking_section import own_section
from executor.importers.reading.markdown import Row, Section, Table, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


__all__ = ["ASIDE", "columns_of", "has_phases", "in_phases", "is_id", "rows_of"]

_PHASE = re.compile(r"^(?:Phase|Stage|Wave|Sprint)\s+\w+\s*(?:[:.–—-]\s*(.*)|\((.*)\)\s*)?$", re.IGNORECASE)
_AFTER_NAME = re.compile(r"\s*(?:[–—-]\s*Issues?\s*#.*|\(P\d\))\s*$", re.IGNORECASE)
_PRIORITY = re.compile(r"\((P[0-3])\)")
ASIDE = re.compile(
    r"\b(?:backlog|future|out of scope|risks?|nice to have|deferred|appendix|glossary|completed issues|tracking|template|example)\b",
    re.IGNORECASE,
)
_COLUMNS: dict[str, tuple[str, ...]] = {
    "id": (
        "issue #",
        "#",
        "id",
        "task id",
        "story id",
        "task",
        "milestone",
        "ticket",
        "no",
        "no.",
        "nr",
        "number",
        "step",
        "story",
        "issue",
        "wp",
        "key",
    ),
    "title": (
        "title",
        "titulo",
        "título",
        "name",
        "issue",
        "task",
        "description",
        "summary",
        "story",
        "feature",
        "what",
        "deliverable",
        "slice",
    ),
    "file": ("issue file", "spec file", "spec"),
    "needs": (
        "dependencies",
        "dependency",
        "depends on",
        "depends",
        "blocked by",
        "needs",
        "deps",
        "prerequisites",
        "requires",
    ),
    "priority": ("priority", "prio"),
    "size": ("est. size", "size", "sizing", "estimate", "effort"),
    "branch": ("feature branch", "branch"),
    "token": ("pr title token", "token", "pr token"),
    "status": ("status", "state", "done"),
    "type": ("type", "kind", "task type"),
    "agent": ("assigned agent", "agent"),
    "files": ("files", "file(s)", "expected files"),
    "accept": ("acceptance criteria", "after this", "acceptance", "success criteria", "done when"),
    "text": ("description", "details", "notes", "scope"),
}
_KEYS = frozenset({"files", "accept", "branch", "token", "file", "type", "priority", "size"})
_FEWEST = 2
_RISKS = frozenset({"severity", "impact", "probability", "likelihood", "mitigation", "risk", "mitigations"})


def has_phases(sections: Sequence[Section]) -> bool:
    """Whether a plan has chapters that are phases."""
    return any(_PHASE.match(plain(part.title)) for part in sections if part.level)


def in_phases(sections: Sequence[Section]) -> Iterator[tuple[Section, str, str]]:
    """The sections, each with the phase that it is in and the priority of that phase; both may be empty."""
    phase = priority = ""
    level = 0
    for part in sections:
        match = _PHASE.match(plain(part.title)) if part.level else None
        if match:
            phase = _AFTER_NAME.sub("", match[1] or match[2] or "").strip() or plain(part.title)
            found = _PRIORITY.search(part.title)
            priority, level = (found[1] if found else ""), part.level
        elif part.level and part.level <= level:
            phase = priority = ""
            level = 0
        if own_section(part):
            continue
        yield part, phase, priority


def columns_of(table: Table) -> dict[str, str]:
    """Meaning -> name of the column; a column has one meaning."""
    found: dict[str, str] = {}
    for meaning, names in _COLUMNS.items():
        name = next((name for name in names if name in table.columns and name not in found.values()), "")
        if name:
            found[meaning] = name
    if found.get("id") == "issue" and "title" not in found:
        del found["id"]
    return found


def rows_of(table: Table, *, in_phase: bool, phased: bool, part: Section) -> tuple[Row, ...]:
    """The rows of a table if it is one of issues."""
    columns = columns_of(table)
    if (
        not {"id", "title"} <= columns.keys()
        or (set(table.columns) & _RISKS and "needs" not in columns)
        or ASIDE.search(plain(part.title))
    ):
        return ()
    if phased and not in_phase:
        return ()
    plan = columns.keys() - {"id", "title", "text"}
    ids = [plain(row.cells.get(columns["id"], "")).lstrip("#").strip() for row in table.rows]
    # Outside of phases a table of action items looks like a plan; what makes one is dependencies, or two keys of issues.
    if not in_phase and "needs" not in plan and len(plan & _KEYS) < _FEWEST:
        return ()
    return table.rows if any(is_id(name) for name in ids) else ()


def is_id(text: str) -> bool:
    """Whether a cell may be the id of an issue."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)) and bool(re.search(r"\d", text))
