"""A milestone in Markdown whose tasks are headings: ``## Task 4.1: Title``. Ids keep their form. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from executor.importers.draft import Draft, DraftIssue, Note, Source, milestone_id
from executor.importers.markdown import Section, fields_of, ids_in, labelled, plain, sections

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TASK", "read_task_loop", "resolved"]

TASK = re.compile(r"^\**Task\s+([A-Za-z]?\d+(?:\.\d+)*[a-z]?)\**\s*(?:[:.–—-]\s*|$)(.*)$", re.IGNORECASE)
_DONE = re.compile(r"\s*(?:✅|☑️?|✔️?|\[x\]|\((?:done|complete|completed)\))\s*$", re.IGNORECASE)
_WORD = re.compile(r"^(?:milestone\s+|m)\d[\d.]*[a-z]?\s*[:–—-]+\s*", re.IGNORECASE)


def read_task_loop(source: Source) -> Draft:
    """The milestone that a Markdown file describes."""
    parts = sections(source.text)
    title = next((part.title for part in parts if part.level == 1), "")
    notes: list[Note] = []
    issues: list[DraftIssue] = []
    waiting: list[tuple[Section, list[Section]]] = []
    current: tuple[Section, list[Section]] | None = None
    for part in parts:
        if part.level and TASK.match(part.title):
            current = (part, [part])
            waiting.append(current)
        elif current is not None and part.level > current[0].level:
            current[1].append(part)
        else:
            current = None
            if waiting and part.text():
                notes.append(Note(part.line, f'"{plain(part.title)}" is not part of a task and was left out'))
    order = [match[1] for head, _ in waiting if (match := TASK.match(head.title))]
    for head, own in waiting:
        issues.append(_issue(head, own, order, notes))
    wanted = milestone_id(title, source.name.rsplit("/", 1)[-1])
    return Draft(wanted, _title(title), _head(parts), (), tuple(issues), notes=tuple(notes))


def resolved(text: str, order: Sequence[str], line: int, notes: list[Note]) -> list[str]:
    """The ids that a text of dependencies names, ranges written out in the order of the plan."""
    names, ranges, rest = ids_in(text)
    for first, last in ranges:
        if first in order and last in order:
            names += order[order.index(first) : order.index(last) + 1]
        else:
            notes.append(Note(line, f'the range "{first} - {last}" is not one of this plan'))
    if rest:
        notes.append(Note(line, f'dependencies: "{rest}" was not understood'))
    return list(dict.fromkeys(names))


def _issue(head: Section, own: list[Section], order: list[str], notes: list[Note]) -> DraftIssue:
    match = TASK.match(head.title)
    name, title = (match[1], match[2]) if match else ("", head.title)
    if _DONE.search(title):
        title = _DONE.sub("", title)
        notes.append(Note(head.line, f"the plan says that {name} is done; what has landed is read from git"))
    values, odd = fields_of(own)
    notes += (Note(line, f"{name}: {text}") for line, text in odd)
    fields: dict[str, Any] = {key: value for key, value in values.items() if key != "needs"}
    needs = resolved(values.get("needs", ""), order, head.line, notes)
    if needs:
        fields["needs"] = [need for need in needs if need != name]
    texts = [own[0].text(), *(f"{'#' * part.level} {part.title}\n\n{part.text()}" for part in own[1:])]
    return DraftIssue(
        name, plain(title) or f"Task {name}", "\n\n".join(text.strip("\n") for text in texts), head.line, fields
    )


def _head(parts: list[Section]) -> dict[str, Any]:
    """Goal and branch, from what stands before the first task."""
    found: dict[str, Any] = {}
    for part in parts:
        if TASK.match(part.title):
            break
        for _, label, value, _items in labelled(part.prose()):
            if label in {"goal", "branch"} and value and label not in found:
                found[label] = plain(value.split(" (")[0]) if label == "branch" else " ".join(value.split())
    return found


def _title(heading: str) -> str:
    bare = _WORD.sub("", plain(heading))
    return re.sub(r"\s*[:–—-]*\s*Implementation Plan$", "", bare, flags=re.IGNORECASE) or bare
