"""A draft is a milestone as a plan describes it, with the remarks on its parts and an account of each line. Pure.

An importer marks lines whose content it imports (`take`) and lines without content for a milestone (`inform`). All
other lines that are not blank are not understood, and are reported; no other case exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from executor.errors import Fault
from executor.model.hints import Known, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


__all__ = [
    "Account",
    "Draft",
    "DraftIssue",
    "Note",
    "Notes",
    "draft_faults",
    "grouped",
    "listed",
    "milestone_id",
    "refused",
    "slug",
    "unique_id",
    "unknown_needs",
]


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBERED = re.compile(
    r"(?:^\W*(?:implementation plan\W+)?(?:milestone[\s_-]+|m)(\d+(?:\.\d+)*[a-z]?)(?![A-Za-z0-9])"
    r"|[:–—|-]\s+(?:milestone\s+|m)(\d+(?:\.\d+)*[a-z]?)\s*(?:[:–—-]|$))",
    re.IGNORECASE,
)
_REQUEST = re.compile(r"\brequest[\s_#-]+(\d+)\b", re.IGNORECASE)
_LONGEST_SLUG = 48  # characters; an id is typed in commands
_LONGEST_ID = 64  # characters; ids of other tools are longer than ours, and are kept


@dataclass(frozen=True, slots=True)
class Note:
    """A remark on a part of a plan.

    Attributes:
        line: from 1; 0 if the remark is about the whole plan.
        text: the content of the part and its treatment.
        kind: the remark without line-specific parts; notes of one kind are reported together.
        file: the file, if it is not the plan itself.
    """

    line: int
    text: str
    kind: str = ""
    file: str = ""


class Notes(list[Note]):
    """Remarks in the order in which a plan is read."""

    def add(self, line: int, text: str, kind: str = "", file: str = "") -> None:
        """Append a remark, see `Note`."""
        self.append(Note(line, text, kind, file))

    def adopt(self, notes: Iterable[Note], file: str) -> None:
        """Append the remarks on a file that is not the plan itself."""
        self += (replace(note, file=file) for note in notes)


@dataclass(slots=True)
class Account:
    """The treatment of each line of one text.

    Attributes:
        lines: the lines of the text; the first has number 1.
        taken: numbers of the lines whose content is imported.
        informative: numbers of lines without content for a milestone, with the reason.
        file: the file, if it is not the plan itself.
    """

    lines: list[str]
    file: str = ""
    taken: set[int] = field(default_factory=set)
    informative: dict[int, str] = field(default_factory=dict)

    def take(self, lines: Iterable[int]) -> None:
        """Mark lines as taken."""
        self.taken.update(lines)

    def inform(self, lines: Iterable[int], why: str) -> None:
        """Mark lines as informative, unless they are taken."""
        for line in lines:
            self.informative.setdefault(line, why)

    def left(self) -> list[int]:
        """Return the numbers of the remaining lines that are not blank."""
        return [
            number
            for number, line in enumerate(self.lines, 1)
            if line.strip() and number not in self.taken and number not in self.informative
        ]

    def notes(self) -> list[Note]:
        """Return a note for each run of lines that were not understood, and one for each reason of informative ones."""
        found = [
            Note(first, f"not understood: {_shown(self.lines[first - 1])}{_more(count)}", "not understood", self.file)
            for first, count in _runs(self.left())
        ]
        reasons: dict[str, list[int]] = {}
        for line, why in sorted(self.informative.items()):
            if line not in self.taken and line <= len(self.lines) and self.lines[line - 1].strip():
                reasons.setdefault(why, []).append(line)
        for why, lines in reasons.items():
            if why:
                found += [
                    Note(first, f"left out, {why}{_more(count)}", f"left out, {why}", self.file)
                    for first, count in _runs(lines)
                ]
        return found

    def counts(self) -> dict[str, int]:
        """Count lines that are taken, informative, not understood, and blank."""
        blank = sum(not line.strip() for line in self.lines)
        left = len(self.left())
        taken = len([n for n in self.taken if 0 < n <= len(self.lines) and self.lines[n - 1].strip()])
        return {
            "lines": len(self.lines),
            "blank": blank,
            "taken": taken,
            "not_understood": left,
            "informative": len(self.lines) - blank - left - taken,
        }


def _runs(lines: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for line in lines:
        if runs and line == runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((line, 1))
    return runs


def _more(count: int) -> str:
    return f" (and {count - 1} more lines)" if count > 1 else ""


def _shown(line: str) -> str:
    text = " ".join(line.split())
    return f'"{text[:77]}..."' if len(text) > 80 else f'"{text}"'  # noqa: PLR2004


_SHOWN_PLACES = 5  # places in a sentence


def grouped(notes: Iterable[Note], name: str) -> list[str]:
    """Format notes as text, one line per kind: the note itself if single, else its count and first places."""
    kinds: dict[tuple[str, str], list[Note]] = {}
    for note in notes:
        kinds.setdefault((note.file or name, note.kind or note.text), []).append(note)
    lines = []
    for (file, kind), group in kinds.items():
        places = list(dict.fromkeys(note.line for note in group if note.line))
        at = f":{places[0]}" if places else ""
        if len({note.text for note in group}) == 1:
            more = f" ({len(places)} times: lines {_places(places)})" if len(places) > 1 else ""
            lines.append(f"{file}{at}: {group[0].text}{more}")
        else:
            where = f"lines {_places(places)}; " if places else ""
            lines.append(f"{file}{at}: {kind}: {len(group)} times ({where}first: {group[0].text})")
    return lines


def _places(places: list[int]) -> str:
    more = f" and {len(places) - _SHOWN_PLACES} more" if len(places) > _SHOWN_PLACES else ""
    return ", ".join(map(str, places[:_SHOWN_PLACES])) + more


@dataclass(frozen=True, slots=True)
class DraftIssue:
    """An issue.

    Attributes:
        id: its id in the format.
        title: one line.
        text: its specification, Markdown.
        line: its line; 0 if unknown.
        fields: keys of an issue's declaration besides id, title and spec; only those in the plan.
        done: the plan marks it as done.
        hold: why it waits for a person according to the plan; empty if it does not.
        outside: needed ids that are not in the plan.
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
        id: proposed id; empty without one.
        title: one line; empty without one.
        fields: keys of the milestone's declaration besides id and title.
        phases: names and goals.
        issues: its issues, in the order of the source.
        epic: text of its epic; empty without one.
        notes: parts that were not understood, and unproved claims.
        faults: faults that prevent the import.
        overview: the text of the plan outside of all issues.
        after: ids of milestones that the plan builds on; undeclared ones are reported.
        whole: the source is the whole plan: a need that it lacks is a fault. In filtered lists of issues it is not.
        accounts: accounts of the lines of its files.
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


def refused(name: str, text: str, line: int = 0, notes: Iterable[Note] = ()) -> Draft:
    """Return the draft of a source that cannot be imported: without a milestone, with the fault."""
    return Draft("", "", faults=(Fault(name, f"line {line}" if line else "", text),), notes=tuple(notes))


def listed(values: Mapping[str, object], key: str) -> list[Any]:
    """Return the items of a list among the keys of a declaration; none without a list."""
    found = values.get(key)
    return list(found) if isinstance(found, list | tuple) else []


def milestone_id(*texts: str) -> str:
    """Return the id at the start of the first text with one: ``Milestone 4: ...`` and ``M4_workers.md`` give ``m4``.

    ``Request 42`` anywhere in a text gives ``request-42``. A milestone only mentioned in a title gives none.
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
    """Return a title as part of a file name."""
    words = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
    return words[:longest].rstrip("-")


def draft_faults(
    draft: Draft, source: str, elsewhere: Mapping[str, str], *, skip_unknown: bool = False
) -> Iterator[Fault]:
    """Yield the faults of a draft as a whole: no issues, duplicate or invalid ids, unknown needs.

    Args:
        draft: the draft.
        source: the name of its source, for messages.
        elsewhere: ids of issues of other milestones -> their qualified ids.
        skip_unknown: omit unknown needs.
    """
    yield from draft.faults
    if not draft.issues and not draft.faults:
        yield Fault(source, "", "it contains no issue; `doit import --formats` shows the formats")
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
    """Return the needs of an issue that neither the plan nor any other milestone has."""
    needs: Sequence[str] = (*listed(issue.fields, "needs"), *issue.outside)
    qualified = set(elsewhere.values())
    return [need for need in needs if need not in own and need not in elsewhere and need not in qualified]


def unique_id(wanted: str, taken: Mapping[str, object] | set[str]) -> str:
    """Return an id derived from a text, different from the taken ones."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")[:_LONGEST_ID].strip("-._") or "1"
    name, number = base, 2
    while name in taken:
        name, number = f"{base[: _LONGEST_ID - 4]}-{number}", number + 1
    return name
