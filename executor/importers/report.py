"""Accounts for each line of a plan, validates the result of an import, and reports both.

An importer marks lines whose content it imports (`take`) and lines without content for a milestone (`inform`). All
other lines that are not blank are not understood, and are reported; no other case exists. The checks of all other
commands examine the result before anything is written.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.config.load_milestones import Loaded, load, read_milestone
from executor.config.load_rules import policy_faults
from executor.errors import DeclarationError, Fault
from executor.model.hints import counted
from executor.model.plan import compile_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from executor.config.project import Project
    from executor.importers.plan_files import Planned
    from executor.model.policy import Policy

__all__ = ["Account", "Note", "grouped", "report_data", "report_lines", "settle"]

_SHOWN = 5  # places in a sentence


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


def settle(project: Project, plans: Sequence[Planned], policy: Policy | None) -> list[Fault]:
    """Turn plans that could not run into drafts; returns the faults that prevent any write.

    A plan that would break a valid milestone is refused. A new one, or one that was faulty before, becomes a draft,
    which stops only itself.
    """
    before = _faults(load(project.milestones), policy)
    broken = {fault.file for fault in before}
    loaded = load(project.milestones)
    refused: list[Fault] = []
    for plan in plans:
        refused += _take(loaded, plan)
    if refused:
        return refused
    known = {str(fault) for fault in before}
    fresh = [fault for fault in _faults(loaded, policy) if str(fault) not in known]
    for plan in plans:
        file = _file(plan)
        own = [fault for fault in _faults(loaded, policy) if fault.file == file]
        if not own:
            continue
        fresh = [fault for fault in fresh if fault.file != file]
        sound = plan.file.exists() and file not in broken
        if sound:
            refused += own
        else:
            plan.make_draft(own)
    if fresh and not refused:
        # A cycle through other milestones: one of their files names it, but the plans caused it.
        for plan in plans:
            if not plan.draft_faults:
                plan.make_draft(fresh)
    return refused


def _file(plan: Planned) -> str:
    return f"milestones/{plan.file.name}"


def _take(loaded: Loaded, plan: Planned) -> list[Fault]:
    """Replace the milestone by a plan; returns the faults of its file that prevent the import."""
    file = _file(plan)
    read = read_milestone(tomllib.loads(plan.text), file, plan.id)
    loaded.faults = [fault for fault in loaded.faults if fault.file != file]
    if read.faults or read.milestone is None:
        return read.faults
    loaded.milestones[plan.id] = read.milestone
    loaded.files[plan.id] = file
    loaded.partial.pop(plan.id, None)
    loaded.faulty = {ref for ref in loaded.faulty if ref != plan.id}
    return []


def _faults(loaded: Loaded, policy: Policy | None) -> list[Fault]:
    found = list(loaded.faults)
    if policy is not None:
        found += policy_faults(loaded.milestones, loaded.files, policy, loaded.partial)
    try:
        compile_plan(loaded.milestones, loaded.files, loaded.faulty, loaded.partial)
    except DeclarationError as error:
        found += error.faults
    return found


_SHOWN_ISSUES = 4  # names in a sentence


def report_lines(plan: Planned, changed: Sequence[str], *, dry: bool) -> list[str]:
    """Report the actual or possible import, line by line."""
    shown = ", ".join(changed[:_SHOWN_ISSUES]) + (
        f" and {len(changed) - _SHOWN_ISSUES} more" if len(changed) > _SHOWN_ISSUES else ""
    )
    what = f"{'would write' if dry else 'wrote'} {shown}" if changed else "nothing changed"
    lines = [f"{plan.id}: {counted(len(plan.draft.issues), 'issue')} in {plan.name} ({plan.format}); {what}"]
    lines += (
        f"kept your value: {key} was changed here and in {plan.name}; --overwrite uses the plan's"
        for key in plan.found.kept
    )
    lines += (f"left alone: {name} is no longer in {plan.name}" for name in plan.found.gone)
    lines += (f"note: {line}" for line in grouped([*plan.notes, *_claims(plan)], plan.name))
    if plan.draft_faults:
        first = str(plan.draft_faults[0])
        more = f" (and {len(plan.draft_faults) - 1} more)" if len(plan.draft_faults) > 1 else ""
        agent = ", or import it with --agent NAME" if "no agent" in first else ""
        lines.append(
            f"before it can run: {first}{more}{agent}; until then {plan.id} is a draft and does not affect other milestones"
        )
    else:
        lines.append(f"next: doit plan {plan.id}")
    return lines


def report_data(plan: Planned, changed: Sequence[str], *, dry: bool) -> dict[str, object]:
    """Return the report as data."""
    notes = [*plan.notes, *_claims(plan)]
    return {
        "id": plan.id,
        "source": plan.name,
        "format": plan.format,
        "issues": [issue.id for issue in plan.draft.issues],
        "done": plan.done(),
        "wrote": [] if dry else list(changed),
        "would_write": list(changed) if dry else [],
        "kept": plan.found.kept,
        "gone": plan.found.gone,
        "draft": [str(fault) for fault in plan.draft_faults],
        "notes": [
            {"line": note.line, "kind": note.kind or note.text, "text": note.text, "file": note.file} for note in notes
        ],
        "account": _sum(plan.draft.accounts),
    }


def _claims(plan: Planned) -> list[Note]:
    done = plan.done()
    if not done:
        return []
    text = (
        f"the plan says that {', '.join(done)} {'is' if len(done) == 1 else 'are'} done; what has landed is read from git. "
        "To count them as landed: --done-as-landed COMMIT"
    )
    return [Note(0, text)]


def _sum(accounts: Sequence[Account]) -> dict[str, int]:
    """Return the sum of the counts of all accounts."""
    found: dict[str, int] = {}
    for account in accounts:
        for key, count in account.counts().items():
            found[key] = found.get(key, 0) + count
    return found
