"""Task headings, and the handoff with the completed tasks. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from executor.importers.draft import Note, Source, milestone_id
from executor.importers.reading.markdown import document, plain
from executor.importers.reading.words import without_status

__all__ = ["MILESTONE", "TASK", "Head", "handoff_claims", "head_of", "is_handoff", "is_markdown"]

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


def handoff_claims(source: Source, notes: list[Note]) -> set[str]:
    """Return the completed tasks in the handoff beside a plan: ``HANDOFF_M4.md``, ``HANDOFF.md``."""
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
        notes.append(Note(0, f"the handoff {name} beside the plan {said}; its text stays there"))
    return found
