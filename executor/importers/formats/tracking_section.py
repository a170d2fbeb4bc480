"""The section of a plan that says how far it is: completed issues, stops, skipped ones. All of it is a claim. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.importers.account import Note
from executor.importers.reading.markdown import Document, Item, Section, flat, plain
from executor.importers.reading.words import status_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Tracking", "own_section", "tracking_of"]

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
    """The claims of a plan: ids that are done, ids that are stopped or skipped with the reason, lines of the section."""

    done: set[str] = field(default_factory=set)
    stopped: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    lines: set[int] = field(default_factory=set)


def own_section(part: Section) -> bool:
    """Whether a section is one that `doit export` keeps; it is never read back."""
    return bool(re.match(r"^Tracking: \S+ - ", part.title))


def tracking_of(doc: Document, order: Sequence[str], notes: list[Note]) -> Tracking:
    """The claims of the sections of a plan that track progress.

    Args:
        doc: the plan.
        order: the ids of its issues.
        notes: takes what was not understood.
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


def _claim(kind: str, item: Item, found: Tracking, order: Sequence[str], notes: list[Note]) -> None:
    if _SAMPLE.search(item.text):
        return
    names = _names(item.text, order)
    if kind == "done":
        if item.ticked or status_of(item.text) == "done":
            found.done.update(names[:1])
            if not names:
                notes.append(Note(item.first, f'"{plain(item.text)}" is ticked, but is no issue of this plan'))
    elif kind in {"stopped", "skipped"}:
        reason = _reason(item)
        if not names:
            notes.append(Note(item.first, f'{kind}: "{plain(item.text)}" names no issue of this plan'))
        elif kind == "stopped":
            found.stopped[names[0]] = reason
        else:
            found.skipped[names[0]] = reason
    elif kind == "pulls":
        notes.append(
            Note(
                item.first,
                f'the open pull request "{plain(item.text)}" was not taken over',
                "open pull requests that were not taken over",
            )
        )


def _names(text: str, order: Sequence[str]) -> list[str]:
    known = {name.casefold(): name for name in order} | {name.casefold().lstrip("0"): name for name in order}
    # A finding's heading has the forge's number first and the plan's in parentheses; the plan's counts.
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
