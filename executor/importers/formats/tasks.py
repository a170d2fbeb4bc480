"""Markdown with tasks as headings, ``## Task 4.1: Title``, and the handoff next to it. Ids keep their form. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.importers.draft import Draft, DraftIssue, Note, Notes, listed, milestone_id, refused
from executor.importers.importer import guide_of
from executor.importers.reading.fields import Fields, Labelled, fields_of, goal_of, label_key, labelled, meaning
from executor.importers.reading.markdown import Document, Section, document, flat, plain
from executor.importers.reading.words import Ids, milestones_in, needs_in, pending_note, status_notes, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.importers.source import Source

from executor.importers.reading.fields import MILESTONE, TASK, Head, head_of

__all__ = ["Tasks", "head_fields", "resolved", "title_of"]

_TICKED = re.compile(r"^\s*[-*+]\s+\[[xX]\]")
_NUMBERED = re.compile(r"^(0\d\d)\s*[:.–—-]\s+(.+)$")
_PHASE = re.compile(r"^(?:phase|stage|part|wave|sprint|epic)\s+\w+", re.IGNORECASE)
_CHAPTER = re.compile(r"^(?:phase|stage|wave|sprint|step)\s+\w+", re.IGNORECASE)
_WORD = re.compile(
    r"^(?:implementation plan\s*[:–—-]+\s*)?(?:(?:milestone|request)\s+|m)#?\d[\d.]*[a-z]?\s*[:–—-]+\s*", re.IGNORECASE
)
_PLAN_WORDS = re.compile(r"\s*[:–—-]*\s*implementation plan$|\s*[:–—-]+\s*tasks$", re.IGNORECASE)
_HEAD_KEYS = frozenset({"goal", "branch"})
_TEMPLATE = re.compile(
    r"\{[A-Za-z][^{}\n]{0,40}\}|<[A-Z][A-Z_ ]+>|\[(?:title|name|description|component|feature)\b[^\]]*\]", re.IGNORECASE
)


_COMPLETE = re.compile(r"^\W*(?:complete[d]?|done|finished)\b\W*(?:\(.*\)\W*)?$", re.IGNORECASE)


@dataclass(slots=True)
class _Part:
    """A task with its sections."""

    head: Head
    own: list[Section]
    phase: str = ""


@dataclass(slots=True)
class _Reading:
    """The state of a reading."""

    source: Source
    doc: Document
    notes: Notes = field(default_factory=Notes)


class Tasks:
    """``## Task 4.1: Title`` with labelled fields; also ``## Milestone 1: Title`` of a request's plan."""

    name = "tasks"
    guide = guide_of("tasks")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if source.files or not is_markdown(source):
            return 0
        if is_handoff(source):
            return 96
        doc = document(source.text, TASK)
        if any(part.level and head_of(part.title) for part in doc.sections):
            return 60
        return 55 if any(part.level > 1 and head_of(part.title, MILESTONE) for part in doc.sections) else 0

    def read(self, source: Source) -> Draft:
        """Return the milestone of a Markdown file."""
        doc = document(source.text, TASK)
        pattern = _pattern(doc)
        doc = document(source.text, pattern)
        reading = _Reading(source, doc, Notes(doc.notes))
        if is_handoff(source):
            fault = "is a handoff, not a plan; import the plan; its handoff is read with it"
            return refused(source.name, fault, notes=reading.notes)
        parts, rest = _cut(reading, pattern)
        problem = _no_plan(reading, parts, pattern)
        if problem:
            return refused(source.name, problem, notes=reading.notes)
        claims = _progress(rest, pattern) | handoff_claims(source, reading.notes)
        bare = _restarted(parts, reading.notes)
        order = Ids([part.head.id for part in parts])
        groups = _groups(parts)
        after: list[str] = []
        issues = [_issue(reading, part, order, {**groups, **bare.get(part.phase, {})}, claims, after) for part in parts]
        title = next((part.title for part in doc.sections if part.level == 1 and not head_of(part.title, pattern)), "")
        fields, more = head_fields(rest, reading.notes)
        phases = dict.fromkeys(part.phase for part in parts if part.phase)
        _note_several(reading, rest)
        overview = _overview(doc, rest, _front(reading, fields))
        for part in rest:
            doc.account.inform(part.numbers(), "")
        return Draft(
            milestone_id(plain(title), source.stem),
            title_of(title),
            fields,
            tuple((name, _goal_of(doc, name)) for name in phases),
            tuple(issues),
            notes=tuple(reading.notes),
            overview=overview,
            after=tuple(dict.fromkeys([*more, *after])),
            accounts=(doc.account,),
        )


def _note_several(reading: _Reading, rest: Sequence[Section]) -> None:
    """Note that a file has several milestones, which become one."""
    several = [part for part in rest if part.level == 1 and milestone_id(plain(part.title))]
    if len(several) > 1:
        lines = ", ".join(f"{plain(part.title)} (line {part.line})" for part in several)
        text = f"the file has several milestones, all tasks were combined into one: {lines}"
        reading.notes.add(several[1].line, text)


def _overview(doc: Document, rest: Sequence[Section], front: Sequence[str]) -> str:
    """The text that belongs to no task; empty where it only repeats fields of the milestone."""
    head = next((part.line for part in doc.sections if part.level == 1), 0)
    kept = [part for part in rest if part.text() or (part.line and part.line != head)]
    items = [item for part in kept for item in labelled(part.prose()) if item.key in _HEAD_KEYS]
    said = {number for item in items for number in item.lines}
    chapters = any(part.line and part.line != head and not _PHASE.match(plain(part.title)) for part in kept)
    lines = [number for part in kept for number, line in part.lines if line.strip(" -*_") and number not in said]
    return "\n\n".join([*front, *(part.whole() for part in kept)]) if chapters or lines or front else ""


def _pattern(doc: Document) -> re.Pattern[str]:
    """Return the pattern of a plan's task headings."""
    heads = [part for part in doc.sections if part.level and head_of(part.title)]
    numbered = [part for part in doc.sections if part.level > 1 and head_of(part.title, _NUMBERED)]
    if numbered and all(part.level == 1 for part in heads):
        return _NUMBERED  # an epic of ccpm: "# Task 47: ... Epic" with "### 001: ..." below
    return TASK if heads else MILESTONE


def _cut(reading: _Reading, pattern: re.Pattern[str]) -> tuple[list[_Part], list[Section]]:
    """Return the tasks with their sections, and the sections outside of tasks.

    A heading of a higher level between two tasks is a chapter, unless it has fields that only a task has: then its
    level is a mistake of the agent that wrote the plan, and it belongs to the previous task.
    """
    parts: list[_Part] = []
    rest: list[Section] = []
    current: _Part | None = None
    phase = ""
    sections = reading.doc.sections
    last = max(
        (place for place, part in enumerate(sections) if part.level and head_of(part.title, pattern)), default=-1
    )
    for place, part in enumerate(sections):
        head = head_of(part.title, pattern) if part.level else None
        if head is not None and _is_epic(sections, place, pattern):
            head = None
        if head is not None:
            if head.struck:
                reading.notes.add(part.line, f"{head.id} is struck out in the plan and was left out")
            current = _Part(head, [part], phase)
            parts.append(current)
        elif current is not None and (part.level > current.own[0].level or (place < last and _slipped(part))):
            current.own.append(part)
        else:
            if part.level and _PHASE.match(plain(part.title)):
                phase = plain(part.title)
            elif part.level and current is not None and part.level < current.own[0].level:
                phase = ""
            if current is not None and part.line and part.text() and not _PHASE.match(plain(part.title)):
                text = f'"{plain(part.title)}" is not part of a task; it is kept in the overview'
                reading.notes.add(part.line, text, "not part of a task; kept in the overview")
            current = None
            rest.append(part)
    return _sorted(reading, parts, rest)


def _sorted(reading: _Reading, parts: Sequence[_Part], rest: Sequence[Section]) -> tuple[list[_Part], list[Section]]:
    """Return the tasks, and the other sections, including those of struck-out tasks."""
    for task in parts:
        for section in task.own:
            reading.doc.account.take(section.numbers())
    struck = [part for part in parts if part.head.struck]
    others = [*rest, *(section for part in struck for section in part.own)]
    return [part for part in parts if not part.head.struck], sorted(others, key=lambda section: section.line)


def _slipped(part: Section) -> bool:
    """Return whether a chapter has the fields of a task."""
    if _PHASE.match(plain(part.title)) or milestone_id(plain(part.title)):
        return False
    return any(
        item.key in {"accept", "files", "needs"} and (item.items or item.value) for item in labelled(part.prose())
    )


def _is_epic(sections: Sequence[Section], place: int, pattern: re.Pattern[str]) -> bool:
    """Return whether a heading of level 1 is the plan's title: tasks follow at deeper levels."""
    part = sections[place]
    return part.level == 1 and any(other.level > 1 and head_of(other.title, pattern) for other in sections[place + 1 :])


def _no_plan(reading: _Reading, parts: Sequence[_Part], pattern: re.Pattern[str]) -> str | None:
    """Return why a text with tasks is no plan; None if it is one."""
    if parts and all(_TEMPLATE.search(part.head.title) for part in parts):
        return "is a template with empty placeholders; import the plan made from it"
    doc = reading.doc
    steps = [
        part
        for part in parts
        if re.search(r"\(\s*~?\d+\s*(?:-\s*\d+\s*)?(?:min|minutes|m)\s*\)", part.own[0].title, re.IGNORECASE)
    ]
    own = [part for part in doc.sections if part.level <= 2 and meaning(part.title) == "accept"]  # noqa: PLR2004
    if (
        pattern is TASK
        and parts
        and (
            len(steps) == len(parts)
            or (
                own
                and all(part.own[0].level > 2 for part in parts)  # noqa: PLR2004
                and not milestone_id(doc.title(), reading.source.stem)
                and not any(fields_of(part.own).values for part in parts)
            )
        )
    ):
        return "is the file of one issue: its tasks are steps; import the plan that names it"
    return None


def _front(reading: _Reading, fields: dict[str, object]) -> list[str]:
    """Return the lines of the front matter; existing files that they name become required reading."""
    doc, source = reading.doc, reading.source
    if not doc.front:
        return []
    doc.account.inform(range(1, doc.front.count("\n") + 4), "")
    named = re.findall(r"[\w./-]+\.md\b", doc.front)
    paths = dict.fromkeys(posixpath.normpath(source.place + path) for path in named)
    context = [path for path in paths if not path.startswith("..") and source.read(path) is not None]
    if context:
        fields["context"] = [*listed(fields, "context"), *context]
    return [doc.front.strip("\n")]


def _progress(rest: Sequence[Section], pattern: re.Pattern[str]) -> set[str]:
    """Return the tasks that a progress list ticks."""
    return {
        head.id
        for part in rest
        for item in part.every_item()
        if item.ticked and (head := head_of(item.text, pattern)) is not None
    }


def _groups(parts: Sequence[_Part]) -> dict[str, list[str]]:
    """Return names of phases, ``phase 1``, and other names of tasks, ``Title (WP01)``, with the tasks they mean."""
    found: dict[str, list[str]] = {}
    for part in parts:
        other = re.search(r"\(([A-Z]{2,6}-?\d+)\)\s*$", part.head.title)
        if other:
            found.setdefault(other[1].casefold(), []).append(part.head.id)
        match = _PHASE.match(part.phase)
        if match:
            found.setdefault(flat(match[0]).casefold(), []).append(part.head.id)
    return found


def _restarted(parts: Sequence[_Part], notes: Notes) -> dict[str, dict[str, list[str]]]:
    """Give tasks whose numbers restart in each phase the number of the phase: ``Task 1`` of phase 2 becomes 2.1.

    Returns:
        phase -> names in it, ``task 1``, and the task that each means.
    """
    numbers = [re.search(r"\d+", part.phase) for part in parts]
    ids = [part.head.id for part in parts]
    full = [f"{number[0]}.{name}" if number else name for number, name in zip(numbers, ids, strict=True)]
    if len(set(ids)) == len(ids) or len(set(full)) < len(full) or not all(numbers):
        return {}
    found: dict[str, dict[str, list[str]]] = {}
    for part, name in zip(parts, full, strict=True):
        for said in (f"task {part.head.id}", f"task #{part.head.id}"):
            found.setdefault(part.phase, {})[said.casefold()] = [name]
        part.head.id = name
    text = (
        f"the numbers of tasks restart in each phase; they are prefixed with the number of the phase: {', '.join(full)}"
    )
    notes.add(parts[0].own[0].line, text)
    return found


def _issue(
    reading: _Reading,
    part: _Part,
    order: Ids,
    groups: Mapping[str, Sequence[str]],
    claims: set[str],
    after: list[str],
) -> DraftIssue:
    head, own, notes = part.head, part.own, reading.notes
    found = fields_of(own, head.id)
    notes += found.notes
    values: dict[str, object] = {key: value for key, value in found.values.items() if value}
    needs = needs_in(found.needs, order, head.id, groups)
    resolved(needs.rest, head.id, found.needs_line or own[0].line, notes)
    after += needs.milestones
    if needs.milestones:
        text = f"{head.id} needs {', '.join(needs.milestones)}; a milestone waits for milestones as a whole"
        notes.add(found.needs_line, text, "an issue needs a milestone")
    if needs.names:
        values["needs"] = needs.names
    if part.phase:
        values["phase"] = part.phase
    ticked = [number for section in own for number, line in section.prose() if _TICKED.match(line)]
    if ticked:
        notes.add(ticked[0], f"{head.id}: {len(ticked)} boxes are ticked; a tick proves nothing here", "ticked boxes")
    done, hold = _state(found, head, claims, own[0].line, notes)
    texts = [own[0].text(), *(section.whole() for section in own[1:])]
    text = "\n\n".join(text.strip("\n") for text in texts if text)
    title = head.title or f"Task {head.id}"
    return DraftIssue(head.id, title, text, own[0].line, values, done, hold, tuple(needs.unknown))


def _state(found: Fields, head: Head, claims: set[str], line: int, notes: Notes) -> tuple[bool, str]:
    """Return whether the plan marks a task as done, and why it waits for a person, if it does."""
    done = head.done or head.id in claims or found.state == "done"
    if found.state == "stopped" and not done:
        return False, found.status
    if found.status and (found.state == "done" or not done):
        notes += status_notes(head.id, found.status, line)
    if found.state == "cancelled" and not done:
        notes.append(pending_note(head.id, found.status, line))
    return done, ""


def resolved(rest: Sequence[str], name: str, line: int, notes: Notes) -> None:
    """Note the parts of a dependency text that were not understood."""
    kind = "dependencies that were not understood"
    notes += (Note(line, f'{name}: dependencies: "{text}" was not understood', kind) for text in rest)


def head_fields(parts: Sequence[Section], notes: Notes) -> tuple[dict[str, object], list[str]]:
    """Return the fields of a milestone, and the milestones that it builds on, from the sections outside of tasks."""
    found: dict[str, object] = {}
    after: list[str] = []
    chapters = False
    for part in parts:
        chapters = chapters or bool(part.level and _CHAPTER.match(plain(part.title)))
        if chapters:
            # The goal and the branch of a phase are not the milestone's.
            found.setdefault("goal", None)
            found.setdefault("branch", None)
        top = part.level <= 2  # noqa: PLR2004
        for item in labelled(part.prose()):
            _head_field(item, found, after, notes, top=top)
        if meaning(part.title) in {"accept", "needs", "goal"} and top:
            body = [flat(line) for _, line in part.prose() if line.strip()]
            items = [item.text for item in part.items] or ([" ".join(body)] if body else [])
            item = Labelled(part.line, label_key(part.title), meaning(part.title), "", items)
            _head_field(item, found, after, notes, top=True)
    return {key: value for key, value in found.items() if value}, after


def _head_field(item: Labelled, found: dict[str, object], after: list[str], notes: Notes, *, top: bool) -> None:
    text, line = flat(" ".join([item.value, *item.items])), item.line
    key = (item.label.startswith("milestone ") and meaning(item.label.removeprefix("milestone "))) or item.key
    if key == "goal" and text and "goal" not in found:
        found["goal"] = text
    elif key == "branch" and item.value and "branch" not in found:
        branch = plain(re.sub(r"\s+\(.*$", "", item.value))
        if re.fullmatch(r"[\w./-]+", branch):
            found["branch"] = branch
        else:
            notes.add(line, f'the branch "{branch}" was not imported')
    elif key == "accept" and top:
        claims = [flat(one) for one in [item.value, *item.items] if one.strip()]
        found["accept"] = list(dict.fromkeys([*listed(found, "accept"), *claims]))
    elif key in {"builds_on", "needs"} and text:
        names = milestones_in(text)
        after += names
        if not names and not re.match(r"^\W*(?:none|n/a|nothing|-)", text, re.IGNORECASE):
            notes.add(line, f'{item.label}: "{text}" was not understood', "dependencies that were not understood")
    elif key == "status" and status_of(text) not in {"", "other"}:
        notes.add(line, f'the plan\'s status "{text}" was not imported; what has landed is read from git')


def _goal_of(doc: Document, name: str) -> str:
    return goal_of(next(part for part in doc.sections if plain(part.title) == name))


def title_of(heading: str) -> str:
    """Return a heading without its number and without words that only mean "plan"."""
    bare = _WORD.sub("", plain(heading))
    return _PLAN_WORDS.sub("", bare) or bare


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
