"""Plans whose issues are rows of tables, with or without phases; columns are read by name. Pure.

The full form is an ``IMPLEMENTATION_PLAN.md`` with a table for each phase, a file for each issue beside it, and a
progress section ``Tracking``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.importers.draft import Draft, DraftIssue, Notes, listed, milestone_id, refused
from executor.importers.formats.tasks import head_fields, resolved, title_of
from executor.importers.importer import guide_of
from executor.importers.reading.fields import Tracking, fields_of, files_in, goal_of, labelled, own_section, tracking_of
from executor.importers.reading.markdown import Document, Row, Section, Table, document, flat, plain
from executor.importers.reading.words import kind_of, needs_in, pending_note, status_notes, status_of, word_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from executor.importers.source import Source

__all__ = ["Tables"]

_TAG = re.compile(r"git tag -a (v?[\w.+-]+)(?=\s|$)")
_CLOSE = re.compile(r"gh milestone close \"([^\"{}]+)\"")
_TOKEN = re.compile(r"^`?([a-z]+)(?:\(([^)`]*)\))?!?:?`?$")
_BRANCH = re.compile(r"^(?:[\w-]+/)*[mM][\w.]*?-#?0*(\d+)-(.+)$")
_PLACE = re.compile(r"\{[^{}]*\}|<[A-Za-z_ -]+>")
_CHECKS = re.compile(r"full (?:checks|ci)\b|\bci\b.*\bfull\b", re.IGNORECASE)
_AFTER = re.compile(
    r"#?([\w.]+)\s+(?:\w+\s+){0,4}?(?:only after|after|depends? on|needs?|requires?|waits? for|(?:is )?blocked by|follows)\s+((?:#?[\w.]*\d[\w.]*(?:\s*(?:,|and|&)\s*)?)+)",
    re.IGNORECASE,
)
_NONE = re.compile(r"^\W*(?:none|n/a|no dependencies|-)", re.IGNORECASE)
_PHASE = re.compile(r"^(?:Phase|Stage|Wave|Sprint)\s+\w+\s*(?:[:.–—-]\s*(.*)|\((.*)\)\s*)?$", re.IGNORECASE)
_AFTER_NAME = re.compile(r"\s*(?:[–—-]\s*Issues?\s*#.*|\(P\d\))\s*$", re.IGNORECASE)
_PRIORITY = re.compile(r"\((P[0-3])\)")
_ASIDE = re.compile(
    r"\b(?:backlog|future|out of scope|risks?|nice to have|deferred|appendix|glossary|completed issues|tracking|template|example)\b",
    re.IGNORECASE,
)
# Meaning -> the names of the column in lower case; the first of several counts.
_COLUMNS = {
    "id": "issue #|#|id|task id|story id|task|milestone|ticket|no|no.|nr|number|step|story|issue|wp|key",
    "title": "title|titulo|título|name|issue|task|description|summary|story|feature|what|deliverable|slice",
    "file": "issue file|spec file|spec",
    "needs": "dependencies|dependency|depends on|depends|blocked by|needs|deps|prerequisites|requires",
    "priority": "priority|prio",
    "size": "est. size|size|sizing|estimate|effort",
    "branch": "feature branch|branch",
    "token": "pr title token|token|pr token",
    "status": "status|state|done",
    "type": "type|kind|task type",
    "agent": "assigned agent|agent",
    "files": "files|file(s)|expected files",
    "accept": "acceptance criteria|after this|acceptance|success criteria|done when",
    "text": "description|details|notes|scope",
}
_KEYS = frozenset({"files", "accept", "branch", "token", "file", "type", "priority", "size"})
_FEWEST = 2  # known columns; one alone stands in tables that are no plan
_RISKS = frozenset({"severity", "impact", "probability", "likelihood", "mitigation", "risk", "mitigations"})


@dataclass(frozen=True, slots=True)
class _Line:
    """A row with an issue: its phase, the priority of the phase, its cells by meaning."""

    id: str
    title: str
    phase: str
    priority: str
    line: int
    cells: Mapping[str, str]

    def word(self, meaning: str) -> str:
        """Return a cell without marks; empty if it is missing or only a dash."""
        text = plain(self.cells.get(meaning, ""))
        return text if text.strip(" -–—") else ""


@dataclass(slots=True)
class _Reading:
    source: Source
    doc: Document
    notes: Notes
    overview: dict[str, str]
    phases: dict[str, str] = field(default_factory=dict)
    lines: list[_Line] = field(default_factory=list)


class Tables:
    """``IMPLEMENTATION_PLAN.md``: a table of issues for each phase, files next to it, a progress section."""

    name = "autopilot"
    guide = guide_of("autopilot")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if source.files or source.stem.endswith((".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml")):
            return 0
        doc = document(source.text)
        phased = _has_phases(doc.sections)
        found = any(
            _rows_of(table, in_phase=bool(phase), phased=phased, part=part)
            for part, phase, _ in _in_phases(doc.sections)
            for table in part.tables
        )
        return (70 if phased else 50) if found else 0

    def read(self, source: Source) -> Draft:
        """Return the milestone of a plan; issue files next to it become the specs."""
        doc = document(source.text)
        overview = {item.label: item.value for part in doc.sections for item in reversed(list(labelled(part.prose())))}
        reading = _Reading(source, doc, Notes(doc.notes), overview)
        _find(reading)
        tracking = tracking_of(doc, [line.id for line in reading.lines], reading.notes)
        lines = reading.lines
        if lines and all(_PLACE.search(line.title) for line in lines):
            return refused(source.name, "is a template with empty placeholders")
        order = [line.id for line in lines]
        folder = _folder(overview)
        after: list[str] = []
        more = _dependency_notes(reading, order)
        issues = [_issue(reading, line, order, folder, tracking, more, after) for line in lines]
        fields, epic, heads = _head(reading, folder)
        rest = [part for part in doc.sections if part.line not in tracking.lines]
        for part in doc.sections:
            doc.account.inform(part.numbers(), "")
        named = source.folder if source.stem.startswith("implementation") else source.stem
        return Draft(
            milestone_id(plain(overview.get("milestone", "")), doc.title(), named),
            _title(reading),
            fields,
            tuple((name, goal) for name, goal in reading.phases.items() if any(line.phase == name for line in lines)),
            tuple(issues),
            epic=epic,
            notes=tuple(reading.notes),
            overview="\n\n".join(text for part in rest if (text := part.whole())),
            after=tuple(dict.fromkeys([*heads, *after])),
            accounts=(doc.account,),
        )


def _find(reading: _Reading) -> None:
    """Collect the rows of the plan; similar rows and tables are noted."""
    phased = _has_phases(reading.doc.sections)
    for part, phase, priority in _in_phases(reading.doc.sections):
        if phase and phase not in reading.phases:
            reading.phases[phase] = goal_of(part)
        for table in part.tables:
            columns = _columns_of(table)
            rows = _rows_of(table, in_phase=bool(phase), phased=phased, part=part)
            if not rows:
                # A table with many known columns looks like a part of the plan.
                if {"id", "title"} <= columns.keys() and (phase or len(columns) > _FEWEST):
                    where = f' below "{plain(part.title)}"' if part.title else ""
                    reading.notes.add(table.line, f"the table{where} does not list issues; it is kept in the overview")
                continue
            unknown = [name for name in table.columns if name and name not in columns.values()]
            if unknown:
                reading.notes.add(table.line, f"columns that were not imported: {', '.join(unknown)}")
            for row in rows:
                _row(reading, row, columns, phase, priority)


def _row(reading: _Reading, row: Row, columns: Mapping[str, str], phase: str, priority: str) -> None:
    cells = {meaning: row.cells.get(name, "") for meaning, name in columns.items()}
    name = re.sub(r"^(?:Task|Issue)\s+", "", plain(cells["id"]).lstrip("#").strip(), flags=re.IGNORECASE)
    title = plain(cells["title"])
    if not any(flat(cell) for cell in row.cells.values()):
        return
    if not _is_id(name) or not title:
        what = "a number" if not _is_id(name) else "a title"
        shown = " | ".join(flat(cell) for cell in row.cells.values())
        reading.notes.add(row.line, f'the row "{shown}" lacks {what} and was left out', f"rows without {what}")
        return
    if name in {"00", "0"} and "epic" in title.casefold():
        return
    reading.lines.append(_Line(name, title, phase, priority, row.line, cells))
    reading.doc.account.take([row.line])


def _issue(
    reading: _Reading,
    line: _Line,
    order: list[str],
    folder: str,
    tracking: Tracking,
    more: Mapping[str, list[str]],
    after: list[str],
) -> DraftIssue:
    notes, cells = reading.notes, line.cells
    fields: dict[str, object] = {"phase": line.phase} if line.phase else {}
    _words(line, fields, notes)
    _naming(line, fields, notes)
    # "#123" is a number of the forge, "#01" and "1" are numbers of the plan.
    if re.fullmatch(r"[1-9]\d*", line.id) and plain(cells["id"]).startswith("#"):
        fields["number"] = int(line.id)
    needs = needs_in(plain(cells.get("needs", "")), order, line.id)
    resolved(needs.rest, line.id, line.line, notes)
    after += needs.milestones
    names = [name for name in dict.fromkeys([*needs.names, *more.get(line.id, ())]) if name != line.id]
    if names:
        fields["needs"] = names
    text = _text(reading, line, folder, fields)
    done, hold = _standing(line, tracking, notes)
    return DraftIssue(line.id, line.title, text, line.line, fields, done=done, hold=hold, outside=tuple(needs.unknown))


def _words(line: _Line, fields: dict[str, object], notes: Notes) -> None:
    """Read priority, size, type, agent, files and acceptance of a row."""
    cells = line.cells
    for key in ("priority", "size", "type"):
        word = line.word(key)
        if word and (value := word_of(key, word, f"{line.id}: ", notes, line.line)):
            fields[key] = value
    if "priority" not in fields and line.priority:
        fields["priority"] = line.priority
    if agent := line.word("agent"):
        fields["agent"] = agent
    paths, odd = files_in([cells.get("files", "")])
    if paths:
        fields["files"] = paths
    if odd:
        notes.add(line.line, f"{line.id}: not imported as files: {', '.join(odd)}", "not imported as files")
    claims = [
        plain(one) for one in re.split(r"<br\s*/?>|\n|;(?=\s+[A-Z`])", cells.get("accept", "")) if one.strip(" -–—")
    ]
    if claims:
        fields["accept"] = [re.sub(r"^(?:[-*]\s+)?(?:\[[ x]\]\s+)?", "", claim) for claim in claims]


def _naming(line: _Line, fields: dict[str, object], notes: Notes) -> None:
    """Read the title token and the branch of a row: ``feat(m4)`` and ``feat/m4-01-settings``."""
    raw = line.word("token")
    token = _TOKEN.match(raw)
    if token:
        fields["token"] = raw.strip("`").rstrip(":")
        if token[1] != "feat" and "type" not in fields:
            fields["type"] = kind_of(token[1])
    elif raw:
        text = f'{line.id}: the title token "{raw}" was not imported'
        notes.add(line.line, text, "title tokens that were not imported")
    if branch := line.word("branch"):
        match = _BRANCH.match(branch)
        short = match[2] if match else branch.rpartition("/")[2]
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", short):
            fields["slug"] = short
        else:
            text = f'{line.id}: the branch "{branch}" was not imported'
            notes.add(line.line, text, "branches that were not imported")


def _text(reading: _Reading, line: _Line, folder: str, fields: dict[str, object]) -> str:
    """Return the spec of a row: its issue file, or the text of the row."""
    file = line.word("file")
    source, text = reading.source, None
    if file and not _PLACE.search(file):
        text = source.read(f"{folder}{file}") if folder else None
        text = text if text is not None else source.beside(file)
    if text is None:
        if "file" in line.cells:
            said = f"{line.id}: its issue file {file or '(none)'} was not found; write its spec"
            reading.notes.add(line.line, said, "issue files that were not found; write their specs")
        detail = plain(line.cells.get("text", ""))
        more = {name: cell for name, cell in line.cells.items() if name not in {"id", "title", "text"}}
        rows = "\n".join(f"- {name}: {cell}" for name, cell in more.items() if cell.strip(" -–—"))
        return "\n\n".join(filter(None, (f"# {line.title}", detail if detail != line.title else "", rows)))
    doc = document(text, file=file)
    found = fields_of(doc.sections, line.id)
    reading.notes.adopt((*doc.notes, *found.notes), file)
    for key in ("accept", "files"):
        if found.values.get(key):
            fields[key] = list(dict.fromkeys([*listed(fields, key), *listed(found.values, key)]))
    if found.needs:
        said = f'{line.id}: its file says "{flat(found.needs)}"; the needs of the plan count'
        reading.notes.add(found.needs_line, said, "dependencies in issue files; those of the plan count", file)
    return text.strip("\n")


def _standing(line: _Line, tracking: Tracking, notes: Notes) -> tuple[bool, str]:
    """Return whether the plan marks an issue as done, and why it waits for a person."""
    word = plain(line.cells.get("status", ""))
    state = status_of(word)
    done = state == "done" or line.id in tracking.done
    hold = tracking.stopped.get(line.id, "") or (word if state == "stopped" else "")
    if state == "done":
        notes += status_notes(line.id, word, line.line)
    if state in {"skipped", "cancelled", "other"} or line.id in tracking.skipped:
        said = word or f"skipped: {tracking.skipped.get(line.id, '')}"
        notes.append(pending_note(line.id, said, line.line))
    return done, "" if done else hold


def _dependency_notes(reading: _Reading, order: Sequence[str]) -> dict[str, list[str]]:
    """Return needs from sentences: ``**Dependencies notes:** Start #03 only after #02``."""
    found: dict[str, list[str]] = {}
    for part in reading.doc.sections:
        for item in labelled(part.prose()):
            if not item.label.startswith(("dependencies note", "dependency note")):
                continue
            text = flat(" ".join([item.value, *item.items]))
            hits = [(needs_in(one, order).names, needs_in(two, order).names) for one, two in _AFTER.findall(text)]
            hits = [(own, needs) for own, needs in hits if len(own) == 1 and needs]
            for own, needs in hits:
                found.setdefault(own[0], []).extend(needs)
            if hits:
                said = "; ".join(f"{own[0]} needs {', '.join(needs)}" for own, needs in hits)
                reading.notes.add(item.line, f"dependency notes: {said}")
            elif text and not _NONE.match(text) and not _PLACE.search(text):
                reading.notes.add(item.line, f'dependency notes that were not understood: "{text}"')
    return found


def _head(reading: _Reading, folder: str) -> tuple[dict[str, object], str, list[str]]:
    """Return the fields of the milestone, the text of its epic, and the milestones that it builds on."""
    source, overview, notes = reading.source, reading.overview, reading.notes
    plan = [part for part in reading.doc.sections if part.level <= 2 and not _ASIDE.search(plain(part.title))]  # noqa: PLR2004
    fields, after = head_fields([part for part in plan if "checklist" not in part.title.casefold()], notes)
    fields.pop("branch", None)
    branch = plain(re.sub(r"\s+\(.*$", "", overview.get("milestone branch", overview.get("branch", ""))))
    if branch and not _PLACE.search(branch) and re.fullmatch(r"[\w./-]+", branch):
        fields["branch"] = branch
    context = _context(reading)
    if context:
        fields["context"] = context
    for key, pattern in (("tag", _TAG), ("forge_milestone", _CLOSE)):
        found = pattern.search(source.text)
        if found and not _PLACE.search(found[1]):
            fields[key] = found[1]
    _checks(reading, fields)
    epic = (source.read(f"{folder}00-epic.md") if folder else None) or source.beside("00-epic.md") or ""
    return fields, epic, after


def _checks(reading: _Reading, fields: dict[str, object]) -> None:
    """Read the commands that a plan runs before a merge: ``Run full checks``, ``Run Full CI``."""
    found: dict[str, int] = {}
    for part in reading.doc.sections:
        near = bool(_CHECKS.search(part.title))
        for number, line in part.lines:
            if number not in reading.doc.code:
                near = near or bool(_CHECKS.search(line))
            elif near and line.strip() and not line.strip().startswith(("```", "~~~", "#")):
                found.setdefault(line.strip(), number)
            elif line.strip().startswith(("```", "~~~")) and found:
                near = near and number + 1 in reading.doc.code
    if found:
        fields["_commands"] = list(found)
        first = min(found.values())
        commands = ", ".join(f"`{command}`" for command in found)
        text = f"the plan runs {commands} before a merge; declare them in rules/checks.toml"
        reading.notes.add(first, f"{text}, or import with --trust to prove them before the release")


def _title(reading: _Reading) -> str:
    heading, overview = reading.doc.title(), reading.overview
    bare = title_of(heading)
    if bare and not re.fullmatch(r"M[\w{}.]*", bare, re.IGNORECASE) and not _PLACE.search(bare):
        return bare
    named = plain(overview.get("milestone", ""))
    after = re.search(r"\bM[\w.]*\s*[:–—-]+\s*([^\"]+)", named) or re.search(
        r"M[\w.]*\s*[:–—-]+\s*([^\"]+)", overview.get("epic issue", "")
    )
    return plain(after[1]) if after and not _PLACE.search(after[1]) else ""


def _folder(overview: Mapping[str, str]) -> str:
    """Return the folder of the issue files from the plan, with a slash at its end."""
    folder = plain(overview.get("milestone folder", ""))
    return "" if not folder or _PLACE.search(folder) else folder.rstrip("/") + "/"


def _context(reading: _Reading) -> list[str]:
    """Return the existing required reading."""
    found: list[str] = []
    for part in reading.doc.sections:
        if part.title.casefold().startswith("always load context"):
            for line, text in part.prose():
                for path in re.findall(r"`([^`{}]+)`", text):
                    if reading.source.read(path) is None:
                        reading.notes.add(line, f"required reading {path} was not found and was left out")
                    else:
                        found.append(path)
    return found


def _has_phases(sections: Sequence[Section]) -> bool:
    """Return whether a plan has chapters that are phases."""
    return any(_PHASE.match(plain(part.title)) for part in sections if part.level)


def _in_phases(sections: Sequence[Section]) -> Iterator[tuple[Section, str, str]]:
    """Yield the sections, each with its phase and the priority of that phase; both may be empty."""
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


def _columns_of(table: Table) -> dict[str, str]:
    """Map meanings to column names; a column has one meaning."""
    found: dict[str, str] = {}
    for meaning, names in _COLUMNS.items():
        name = next((name for name in names.split("|") if name in table.columns and name not in found.values()), "")
        if name:
            found[meaning] = name
    if found.get("id") == "issue" and "title" not in found:
        del found["id"]
    return found


def _rows_of(table: Table, *, in_phase: bool, phased: bool, part: Section) -> tuple[Row, ...]:
    """Return the rows of a table if it lists issues."""
    columns = _columns_of(table)
    if not {"id", "title"} <= columns.keys() or (phased and not in_phase) or _ASIDE.search(plain(part.title)):
        return ()
    if set(table.columns) & _RISKS and "needs" not in columns:
        return ()
    plan = columns.keys() - {"id", "title", "text"}
    ids = [plain(row.cells.get(columns["id"], "")).lstrip("#").strip() for row in table.rows]
    # Outside of phases a table of action items looks like a plan; a plan has dependencies, or two keys of issues.
    if not in_phase and "needs" not in plan and len(plan & _KEYS) < _FEWEST:
        return ()
    return table.rows if any(_is_id(name) for name in ids) else ()


def _is_id(text: str) -> bool:
    """Return whether a cell can be the id of an issue."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)) and bool(re.search(r"\d", text))
