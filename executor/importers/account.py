"""Accounts for each line of a plan: taken, informative, or not understood. No other case exists.

Importers mark lines whose content they import (`take`) and lines without content for a milestone (`inform`). All other
lines that are not blank are not understood, and are reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Account", "Note", "grouped"]

_SHOWN = 5


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
            more = f" ({len(places)} times: lines {_listed(places)})" if len(places) > 1 else ""
            lines.append(f"{file}{at}: {group[0].text}{more}")
        else:
            where = f"lines {_listed(places)}; " if places else ""
            lines.append(f"{file}{at}: {kind}: {len(group)} times ({where}first: {group[0].text})")
    return lines


def _listed(places: list[int]) -> str:
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return ", ".join(map(str, places[:_SHOWN])) + more


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
