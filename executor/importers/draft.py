"""A draft: a milestone as another format describes it, before it is written as a declaration. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.errors import Fault
from executor.model.hints import Known, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Draft", "DraftIssue", "Note", "Source", "draft_faults", "milestone_id", "slug"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBERED = re.compile(r"\b(?:milestone\s+|m)(\d+(?:\.\d+)*[a-z]?)(?![A-Za-z0-9])", re.IGNORECASE)
_LONGEST_SLUG = 48


@dataclass(frozen=True, slots=True)
class Source:
    """What is imported.

    Attributes:
        name: for messages.
        text: its content.
        read: text of a file by its path in the project; None when it is not there.
        beside: the same by its path from the folder of what is imported.
    """

    name: str
    text: str
    read: Callable[[str], str | None]
    beside: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was not taken over, or is only claimed; `line` counts from 1, 0 where there is none."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class DraftIssue:
    """One issue.

    Attributes:
        id: as the format has it.
        title: one line.
        text: its specification, Markdown.
        line: where it stands.
        fields: keys of an issue's declaration besides id, title and spec; only those that the format says.
    """

    id: str
    title: str
    text: str
    line: int
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Draft:
    """A milestone.

    Attributes:
        id: proposed id; empty when the format gives none.
        title: one line; empty when the format gives none.
        fields: keys of the milestone's declaration besides id and title.
        phases: names and goals.
        issues: in the order of the source.
        epic: text of its epic; empty when there is none.
        notes: what was not understood, and what is only claimed.
        faults: what makes it impossible to import.
    """

    id: str
    title: str
    fields: Mapping[str, Any]
    phases: tuple[tuple[str, str], ...]
    issues: tuple[DraftIssue, ...]
    epic: str = ""
    notes: tuple[Note, ...] = ()
    faults: tuple[Fault, ...] = ()


def milestone_id(*texts: str) -> str:
    """The id that the first of some texts speaks of: ``Milestone 4: ...``, ``M4 - ...``, ``M4_workers.md``: ``m4``."""
    for text in texts:
        match = _NUMBERED.search(text.replace("_", " "))
        if match:
            return f"m{match[1]}"
    return ""


def slug(text: str) -> str:
    """A title as part of a file name."""
    words = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
    return words[:_LONGEST_SLUG].rstrip("-")


def draft_faults(draft: Draft, source: str, elsewhere: Mapping[str, str]) -> Iterator[Fault]:
    """What is wrong with a draft as a whole: no issues, ids twice or unusable, needs that nothing has.

    Args:
        draft: what was read.
        source: its name, for messages.
        elsewhere: ids of issues of other milestones -> their qualified ids.
    """
    yield from draft.faults
    if not draft.issues and not draft.faults:
        yield Fault(source, "", "no issue was found in it; see docs/import.md for what each format looks like")
    first: dict[str, int] = {}
    for issue in draft.issues:
        place = f"line {issue.line}" if issue.line else ""
        if not _ID.fullmatch(issue.id):
            yield Fault(
                source, place, f"{quoted(issue.id)} cannot be an id: letters, digits, dots, dashes, underscores"
            )
        if issue.id in first:
            yield Fault(source, place, f"{quoted(issue.id)} is already the id of the issue in line {first[issue.id]}")
        first.setdefault(issue.id, issue.line)
    known = Known(first)
    for issue in draft.issues:
        for need in _unknown(issue.fields.get("needs", ()), first, elsewhere):
            place = f"line {issue.line}" if issue.line else ""
            yield Fault(source, place, f"unknown issue {quoted(need)}, needed by {quoted(issue.id)}{known.hint(need)}")


def _unknown(needs: Sequence[str], own: Mapping[str, int], elsewhere: Mapping[str, str]) -> Iterator[str]:
    return (need for need in needs if need not in own and need not in elsewhere and need not in elsewhere.values())
