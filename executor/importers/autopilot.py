"""An autopilot plan: ``IMPLEMENTATION_PLAN.md`` with a table of issues for each phase, columns read by name. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from executor.importers.draft import Draft, DraftIssue, Note, Source, milestone_id
from executor.importers.markdown import Row, Section, fields_of, labelled, plain, sections, tables
from executor.importers.task_loop import resolved

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["read_autopilot"]

_PHASE = re.compile(r"^Phase\s+\w+\s*[:.–—-]\s*(.*)$", re.IGNORECASE)
_AFTER_NAME = re.compile(r"\s*(?:[–—-]\s*Issues?\s*#.*|\(P\d\))\s*$", re.IGNORECASE)
_PRIORITY = re.compile(r"\((P[0-3])\)")
_TITLE = re.compile(r"^M[\w{}.]*\s*(?:[:–—-]+\s*(.*?))?\s*(?:[:–—-]+\s*)?Implementation Plan$", re.IGNORECASE)
_TAG = re.compile(r"git tag -a (v?[\w.+-]+)(?=\s|$)")
_CLOSE = re.compile(r"gh milestone close \"([^\"{}]+)\"")
_TOKEN = re.compile(r"`?([a-z]+)\(")
_TYPES = {"feat": "feature"}
_DONE = ("✅", "done", "completed")


def read_autopilot(source: Source) -> Draft:
    """The milestone that a plan describes; issue files beside it become the specs."""
    parts = sections(source.text)
    overview = {label: value for part in parts for _, label, value, _ in reversed(list(labelled(part.prose())))}
    notes: list[Note] = []
    rows = list(_rows(parts))
    order = [_id(row) for _, _, row in rows]
    folder = _folder(overview)
    issues = [_issue(source, phase, priority, row, order, folder, notes) for phase, priority, row in rows]
    goals = {name: goal for name, goal in _phases(parts) if any(phase == name for phase, _, _ in rows)}
    named = plain(overview.get("milestone", ""))
    heading = next((part.title for part in parts if part.level == 1), "")
    title = _title(heading, named, overview)
    fields: dict[str, Any] = {}
    branch = plain(overview.get("milestone branch", overview.get("branch", "")).split(" (")[0])
    if branch and not set("{<") & set(branch):
        fields["branch"] = branch
    context = _context(parts, source, notes)
    if context:
        fields["context"] = context
    for key, pattern in (("tag", _TAG), ("forge_milestone", _CLOSE)):
        found = pattern.search(source.text)
        if found:
            fields[key] = found[1]
    epic = source.read(f"{folder}00-epic.md") or source.beside("00-epic.md") or ""
    wanted = milestone_id(named, heading, source.name)
    return Draft(wanted, title, fields, tuple(goals.items()), tuple(issues), epic, tuple(notes))


def _rows(parts: list[Section]) -> Iterator[tuple[str, str, Row]]:
    """Rows of issues with the phase and the priority of their heading."""
    phase = priority = ""
    for part in parts:
        match = _PHASE.match(part.title)
        if match:
            phase = _AFTER_NAME.sub("", match[1])
            found = _PRIORITY.search(part.title)
            priority = found[1] if found else ""
        elif part.level <= 2:  # noqa: PLR2004  (a chapter ends the phases before it)
            phase = priority = ""
        if phase:
            for table in tables(part):
                yield from ((phase, priority, row) for row in table if _id(row) and _title_of(row))


def _phases(parts: list[Section]) -> Iterator[tuple[str, str]]:
    for part in parts:
        match = _PHASE.match(part.title)
        if match:
            goal = next((value for _, label, value, _ in labelled(part.prose()) if label == "goal"), "")
            yield _AFTER_NAME.sub("", match[1]), goal


def _issue(
    source: Source, phase: str, priority: str, row: Row, order: list[str], folder: str, notes: list[Note]
) -> DraftIssue:
    name = _id(row)
    fields: dict[str, Any] = {"phase": phase}
    wanted = plain(row.cells.get("priority", "")).upper() or priority
    if wanted in {"P0", "P1", "P2", "P3"}:
        fields["priority"] = wanted
    size = plain(row.cells.get("est. size", row.cells.get("size", ""))).upper()
    if size in {"S", "M", "L"}:
        fields["size"] = size
    token = _TOKEN.match(row.cells.get("pr title token", ""))
    if token and token[1] != "feat":
        fields["type"] = _TYPES.get(token[1], token[1])
    needs = resolved(row.cells.get("dependencies", ""), order, row.line, notes)
    if needs:
        fields["needs"] = needs
    if not name.startswith("0") and name.isdecimal():
        fields["number"] = int(name)
    if any(mark in row.cells.get("status", "").casefold() for mark in _DONE):
        notes.append(Note(row.line, f"the plan says that {name} is done; what has landed is read from git"))
    file = plain(row.cells.get("issue file", row.cells.get("file", "")))
    text = (source.read(f"{folder}{file}") or source.beside(file)) if file and "{" not in file else None
    if text is None:
        notes.append(Note(row.line, f"{name}: its issue file {file or '(none)'} was not found; write its spec"))
        text = f"# {_title_of(row)}\n\nThe plan names {file or 'no file'} for this issue."
    own, odd = fields_of(sections(text))
    notes += (Note(row.line, f"{file}: {problem}") for _, problem in odd)
    fields |= {key: own[key] for key in ("accept", "files") if key in own}
    return DraftIssue(name, _title_of(row), text.strip("\n"), row.line, fields)


def _id(row: Row) -> str:
    cell = plain(row.cells.get("issue #", row.cells.get("#", ""))).lstrip("#")
    return cell if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", cell) else ""


def _title_of(row: Row) -> str:
    return plain(row.cells.get("title", row.cells.get("issue", "")))


def _title(heading: str, named: str, overview: dict[str, str]) -> str:
    match = _TITLE.match(plain(heading))
    if match and match[1]:
        return str(match[1])
    after = re.search(r"\bM[\w.]*\s*[:–—-]+\s*([^\"]+)", named) or re.search(
        r"M[\w.]*\s*[:–—-]+\s*([^\"]+)", overview.get("epic issue", "")
    )
    return plain(after[1]) if after else ""


def _folder(overview: dict[str, str]) -> str:
    """Folder of the issue files, as the plan has it, with a slash at its end."""
    folder = plain(overview.get("milestone folder", ""))
    return "" if not folder or "{" in folder else folder.rstrip("/") + "/"


def _context(parts: list[Section], source: Source, notes: list[Note]) -> list[str]:
    """Required reading that is there."""
    found: list[str] = []
    for part in parts:
        if part.title.casefold().startswith("always load context"):
            for line, text in part.prose():
                for path in re.findall(r"`([^`{}]+)`", text):
                    if source.read(path) is None:
                        notes.append(Note(line, f"required reading {path} was not found and was left out"))
                    else:
                        found.append(path)
    return found
