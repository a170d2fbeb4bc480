"""The progress section of a plan: completed, stopped and skipped issues. All of it is unproved claims. Pure.

Tables of a plan: which of them list issues, the meaning of their columns, their phases. Pure.

Task headings, and the handoff with the completed tasks. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.importers.draft import Notes, milestone_id
from executor.importers.reading.markdown import Document, Item, Row, Section, Table, document, flat, plain
from executor.importers.reading.words import status_of, without_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.importers.source import Source

__all__ = [
    "ASIDE",
    "MILESTONE",
    "TASK",
    "Head",
    "Tracking",
    "columns_of",
    "handoff_claims",
    "has_phases",
    "head_of",
    "in_phases",
    "is_handoff",
    "is_id",
    "is_markdown",
    "own_section",
    "rows_of",
    "tracking_of",
]


_KINDS = (
    ("done", re.compile(r"^completed? issues?|^done\b", re.IGNORECASE)),
    ("stopped", re.compile(r"^blocked|needs review|^stopped", re.IGNORECASE)),
    ("skipped", re.compile(r"^skipped", re.IGNORECASE)),
    ("pulls", re.compile(r"^open (?:prs?|pull requests?)", re.IGNORECASE)),
    ("now", re.compile(r"^current phase", re.IGNORECASE)),
)
_SAMPLE = re.compile(
    r"^(?:\(none\)|none\b|\**(?:enhanced|standard|code review findings)?\s*\**format)|[{][^}]*[}]|<[A-Z_]+>|#XX",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"#?\(?(?:plan\s+)?#([\w.]+)|^\W*([A-Za-z]?\d[\w.]*)")
_OWN = re.compile(r"<!-- milestone \S+: (?:begin|end) -->")


@dataclass(slots=True)
class Tracking:
    """The claims of a plan: ids of finished issues, of stopped or skipped ones with the reason, the section's lines."""

    done: set[str] = field(default_factory=set)
    stopped: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    lines: set[int] = field(default_factory=set)


def own_section(part: Section) -> bool:
    """Return whether a section was written by `doit export`, which is never read back."""
    return bool(re.match(r"^Tracking: \S+ - ", part.title))


def tracking_of(doc: Document, order: Sequence[str], notes: Notes) -> Tracking:
    """Return the claims of a plan's progress sections.

    Args:
        doc: the plan.
        order: the ids of its issues.
        notes: receives parts that were not understood.
    """
    found = Tracking()
    written = False
    for part in doc.sections:
        if any(_OWN.search(line) and "begin" in line for _, line in part.lines):
            written = True
        kind = next((kind for kind, pattern in _KINDS if pattern.search(plain(part.title))), "")
        if kind and not written and not own_section(part):
            for item in part.items:
                _claim(kind, item, found, order, notes)
        if kind or re.match(r"^tracking\b", part.title, re.IGNORECASE):
            found.lines.add(part.line)
            doc.account.inform(part.numbers(), "since it tracks progress, which is read from git")
        if any(_OWN.search(line) and "end" in line for _, line in part.lines):
            written = False
    return found


def _claim(kind: str, item: Item, found: Tracking, order: Sequence[str], notes: Notes) -> None:
    if _SAMPLE.search(item.text):
        return
    names = _names(item.text, order)
    if kind == "done":
        if item.ticked or status_of(item.text) == "done":
            found.done.update(names[:1])
            if not names:
                notes.add(item.first, f'"{plain(item.text)}" is ticked, but is not an issue of this plan')
    elif kind in {"stopped", "skipped"}:
        reason = _reason(item)
        if not names:
            notes.add(item.first, f'{kind}: "{plain(item.text)}" names no issue of this plan')
        elif kind == "stopped":
            found.stopped[names[0]] = reason
        else:
            found.skipped[names[0]] = reason
    elif kind == "pulls":
        notes.add(
            item.first,
            f'the open pull request "{plain(item.text)}" was not imported',
            "open pull requests that were not imported",
        )


def _names(text: str, order: Sequence[str]) -> list[str]:
    known = {name.casefold(): name for name in order} | {name.casefold().lstrip("0"): name for name in order}
    # A finding's heading has the forge's number first and the plan's in parentheses, which counts.
    hits = re.findall(r"\(plan #([\w.]+)\)", text) + [one or other for one, other in _NUMBER.findall(plain(text))]
    return [known[hit.casefold().strip(".")] for hit in hits if hit.casefold().strip(".") in known]


def _reason(item: Item) -> str:
    parts = re.split(r"\s+[—–-]\s+", plain(item.text))
    words = [part for part in parts[1:] if re.match(r"^(?:STOP|Skipped|Needs|Reason)\b", part, re.IGNORECASE)]
    lines = [
        child.text
        for child in item.children
        for child in child.walk()
        if re.match(r"^\**(?:Reason|Needs|Fix)\b", child.text, re.IGNORECASE)
    ]
    text = "; ".join([*words, *map(plain, lines)]) or plain(item.text)
    return flat(re.sub(r"^(?:STOP|Skipped)\s*:\s*", "", text, flags=re.IGNORECASE))


_PHASE = re.compile(r"^(?:Phase|Stage|Wave|Sprint)\s+\w+\s*(?:[:.–—-]\s*(.*)|\((.*)\)\s*)?$", re.IGNORECASE)
_AFTER_NAME = re.compile(r"\s*(?:[–—-]\s*Issues?\s*#.*|\(P\d\))\s*$", re.IGNORECASE)
_PRIORITY = re.compile(r"\((P[0-3])\)")
ASIDE = re.compile(
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


def has_phases(sections: Sequence[Section]) -> bool:
    """Return whether a plan has chapters that are phases."""
    return any(_PHASE.match(plain(part.title)) for part in sections if part.level)


def in_phases(sections: Sequence[Section]) -> Iterator[tuple[Section, str, str]]:
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


def columns_of(table: Table) -> dict[str, str]:
    """Map meanings to column names; a column has one meaning."""
    found: dict[str, str] = {}
    for meaning, names in _COLUMNS.items():
        name = next((name for name in names.split("|") if name in table.columns and name not in found.values()), "")
        if name:
            found[meaning] = name
    if found.get("id") == "issue" and "title" not in found:
        del found["id"]
    return found


def rows_of(table: Table, *, in_phase: bool, phased: bool, part: Section) -> tuple[Row, ...]:
    """Return the rows of a table if it lists issues."""
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
    # Outside of phases a table of action items looks like a plan; a plan has dependencies, or two keys of issues.
    if not in_phase and "needs" not in plan and len(plan & _KEYS) < _FEWEST:
        return ()
    return table.rows if any(is_id(name) for name in ids) else ()


def is_id(text: str) -> bool:
    """Return whether a cell can be the id of an issue."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)) and bool(re.search(r"\d", text))


_ID = r"[A-Za-z]{0,3}\d+[A-Za-z]?(?:[.-]\d+[A-Za-z]?)*(?![\w])(?!\.\d)|[A-Z]{1,2}\d*(?=\s*[:.–—-])|[A-Z]{1,2}\.\d+(?![\w.])"
_HEAD = r"^(?:\[[ xX]\]\s*)?(?:[^\w\s\[(~`*]+\s*)?\[?{unit}(?:s[\s#]+|[\s#:_-]+|s?(?=\d))({id})\]?\s*(?:[:.)–—-]+\s*|\s+|$)(.*)$"
# An id stands apart from its unit unless it begins with a digit: "Tasks: sync" names no task "s".
TASK = re.compile(_HEAD.format(unit="Task", id=_ID), re.IGNORECASE)
MILESTONE = re.compile(_HEAD.format(unit="Milestone", id=_ID), re.IGNORECASE)
_WORDS = {"to", "of", "in", "a", "an", "is", "as", "at", "on", "or", "by", "if", "we", "it", "do", "go"}
_COMPLETE = re.compile(r"^\W*(?:complete[d]?|done|finished)\b\W*(?:\(.*\)\W*)?$", re.IGNORECASE)


@dataclass(slots=True)
class Head:
    """A task heading: its id, its title, and the meaning of its marks."""

    id: str
    title: str
    done: bool = False
    struck: bool = False


def head_of(title: str, pattern: re.Pattern[str] = TASK) -> Head | None:
    """Return the task of a heading; None if it names none."""
    struck = title.strip().startswith("~~")
    match = pattern.match(plain(title.replace("~~", "")))
    if match is None or (not match[1].isupper() and match[1].casefold() in _WORDS):
        return None
    rest = match[2]
    bare, done = without_status(rest)
    if re.match(r"^\W*(?:\[[xX]\]|[✅☑✔])", title.strip()):
        done = True
    return Head(match[1], plain(bare.replace("~~", "").strip()), done, struck)


def is_markdown(source: Source) -> bool:
    """Return whether a source may be Markdown: it has no data suffix."""
    return not source.stem.endswith((".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".toml"))


def is_handoff(source: Source) -> bool:
    """Return whether a text reports completed tasks instead of a plan."""
    if source.files or not is_markdown(source):
        return False
    parts = document(source.text, TASK).sections
    title = next((plain(part.title) for part in parts if part.level == 1), "")
    if re.match(r"^handoff", source.stem) or re.match(r"^handoff\b", title, re.IGNORECASE):
        return True
    heads = [head for part in parts if part.level and (head := head_of(part.title))]
    return bool(heads) and all(_COMPLETE.match(head.title) or (head.done and not head.title) for head in heads)


def handoff_claims(source: Source, notes: Notes) -> set[str]:
    """Return the completed tasks in the handoff next to a plan: ``HANDOFF_M4.md``, ``HANDOFF.md``."""
    number = milestone_id(source.stem) or milestone_id(document(source.text).title())
    names = [name for name in source.siblings if re.match(r"^handoff\b|^handoff_", name, re.IGNORECASE)]
    wanted = [
        name
        for name in names
        if number and re.search(rf"(?:^|[_\W]){re.escape(number)}(?:[_\W]|$)", name, re.IGNORECASE)
    ]
    wanted = wanted or [name for name in names if re.fullmatch(r"handoff\.md", name, re.IGNORECASE)]
    found: set[str] = set()
    for name in wanted[:1]:
        text = source.beside(name) or ""
        done = [
            head.id
            for part in document(text, TASK).sections
            if part.level
            and (head := head_of(part.title))
            and (
                head.done
                or re.match(r"^\W*(?:complete|done|finished)", head.title, re.IGNORECASE)
                or re.search(r"\b(?:complete[d]?|done)\W*$", head.title, re.IGNORECASE)
            )
        ]
        found |= set(done)
        said = f"says that {', '.join(done)} are complete" if done else "names no complete task"
        notes.add(0, f"the handoff {name} next to the plan {said}; its text stays there")
    return found
