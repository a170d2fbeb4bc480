"""A draft: a milestone as another format describes it, before it is written as a declaration. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.errors import Fault
from executor.importers.account import Account, Note
from executor.importers.source import Source
from executor.model.hints import Known, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Draft", "DraftIssue", "Note", "Source", "draft_faults", "milestone_id", "slug"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBERED = re.compile(
    r"(?:^\W*(?:implementation plan\W+)?(?:milestone[\s_-]+|m)(\d+(?:\.\d+)*[a-z]?)(?![A-Za-z0-9])"
    r"|[:–—|-]\s+(?:milestone\s+|m)(\d+(?:\.\d+)*[a-z]?)\s*(?:[:–—-]|$))",
    re.IGNORECASE,
)
_REQUEST = re.compile(r"\brequest[\s_#-]+(\d+)\b", re.IGNORECASE)
_LONGEST_SLUG = 48
_LONGEST_ID = 64


@dataclass(frozen=True, slots=True)
class DraftIssue:
    """One issue.

    Attributes:
        id: as the format has it.
        title: one line.
        text: its specification, Markdown.
        line: where it stands, 0 if its place is unknown.
        fields: keys of an issue's declaration besides id, title and spec; only those that the format says.
        done: the plan says that it is done.
        hold: the plan says that it waits for a person, and why; empty if it does not.
        outside: ids that it needs and the plan does not have.
    """

    id: str
    title: str
    text: str
    line: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False
    hold: str = ""
    outside: tuple[str, ...] = ()


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
        overview: the text of the plan that belongs to no issue.
        after: milestones that the plan builds on, as ids; those that are not declared are reported.
        whole: the source is the whole plan: an issue that it needs and does not have is a mistake. Lists of issues
            that were filtered are not.
        accounts: what became of the lines of its files.
    """

    id: str
    title: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    phases: tuple[tuple[str, str], ...] = ()
    issues: tuple[DraftIssue, ...] = ()
    epic: str = ""
    notes: tuple[Note, ...] = ()
    faults: tuple[Fault, ...] = ()
    overview: str = ""
    after: tuple[str, ...] = ()
    whole: bool = True
    accounts: tuple[Account, ...] = ()


def listed(values: Mapping[str, object], key: str) -> list[Any]:
    """The items of a list among the keys of a declaration; none if there is no list."""
    found = values.get(key)
    return list(found) if isinstance(found, list | tuple) else []


def milestone_id(*texts: str) -> str:
    """The id of the first text that begins with one: ``Milestone 4: ...``, ``M4 - ...``, ``M4_workers.md`` give ``m4``.

    ``Request 42`` anywhere in a text gives ``request-42``. A milestone that a title only mentions gives none.
    """
    for text in texts:
        match = _NUMBERED.search(text.rpartition("/")[2].replace("_", " "))
        if match:
            return f"m{match[1] or match[2]}".casefold()
        match = _REQUEST.search(text.replace("_", " "))
        if match:
            return f"request-{match[1]}"
    return ""


def slug(text: str, longest: int = _LONGEST_SLUG) -> str:
    """A title as part of a file name."""
    words = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
    return words[:longest].rstrip("-")


def draft_faults(
    draft: Draft, source: str, elsewhere: Mapping[str, str], *, skip_unknown: bool = False
) -> Iterator[Fault]:
    """What is wrong with a draft as a whole: no issues, ids twice or unusable, needs that nothing has.

    Args:
        draft: the draft.
        source: the name of its source, for messages.
        elsewhere: ids of issues of other milestones -> their qualified ids.
        skip_unknown: leave out needs that nothing has.
    """
    yield from draft.faults
    if not draft.issues and not draft.faults:
        yield Fault(source, "", "no issue was found in it; `doit import --formats` shows what each format looks like")
    first: dict[str, int] = {}
    for issue in draft.issues:
        place = f"line {issue.line}" if issue.line else ""
        if not _ID.fullmatch(issue.id):
            yield Fault(
                source, place, f"{quoted(issue.id)} cannot be an id: letters, digits, dots, dashes, underscores"
            )
        if issue.id in first:
            where = f" in line {first[issue.id]}" if first[issue.id] else ""
            yield Fault(source, place, f"{quoted(issue.id)} is already the id of the issue{where}")
        first.setdefault(issue.id, issue.line)
    if skip_unknown or not draft.whole:
        return
    known = Known(first)
    for issue in draft.issues:
        place = f"line {issue.line}" if issue.line else ""
        for need in unknown_needs(issue, first, elsewhere):
            hint = known.hint(need) or "; --skip-unknown-needs leaves it out"
            yield Fault(source, place, f"unknown issue {quoted(need)}, needed by {quoted(issue.id)}{hint}")


def unknown_needs(issue: DraftIssue, own: Mapping[str, int], elsewhere: Mapping[str, str]) -> list[str]:
    """The needs of an issue that neither the plan nor any other milestone has."""
    needs: Sequence[str] = (*listed(issue.fields, "needs"), *issue.outside)
    qualified = set(elsewhere.values())
    return [need for need in needs if need not in own and need not in elsewhere and need not in qualified]


def unique_id(wanted: str, taken: Mapping[str, object] | set[str]) -> str:
    """An id made of a text, different from those that are taken."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")[:_LONGEST_ID].strip("-._") or "1"
    name, number = base, 2
    while name in taken:
        name, number = f"{base[: _LONGEST_ID - 4]}-{number}", number + 1
    return name
