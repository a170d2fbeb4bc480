"""Validates the result of an import with the checks of all other commands, before anything is written.

Reports an import, as lines for a person and as data.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from executor.config.load_milestones import Loaded, load, read_milestone
from executor.config.load_rules import policy_faults
from executor.errors import DeclarationError, Fault
from executor.importers.account import Account, Note, grouped
from executor.model.hints import counted
from executor.model.plan import compile_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.config.project import Project
    from executor.importers.plan_files import Planned
    from executor.model.policy import Policy


__all__ = ["report_data", "report_lines", "settle"]


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


_SHOWN = 4


def report_lines(plan: Planned, changed: Sequence[str], *, dry: bool) -> list[str]:
    """Report the actual or possible import, line by line."""
    shown = ", ".join(changed[:_SHOWN]) + (f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else "")
    what = f"{'would write' if dry else 'wrote'} {shown}" if changed else "nothing changed"
    lines = [f"{plan.id}: {counted(len(plan.draft.issues), 'issue')} in {plan.name} ({plan.format}); {what}"]
    lines += (
        f"kept yours: {key} was changed here and in {plan.name}; --overwrite takes the plan's word"
        for key in plan.found.kept
    )
    lines += (f"left as it is: {name} is no longer in {plan.name}" for name in plan.found.gone)
    lines += (f"note: {line}" for line in grouped([*plan.notes, *_claims(plan)], plan.name))
    if plan.draft_faults:
        first = str(plan.draft_faults[0])
        more = f" (and {len(plan.draft_faults) - 1} more)" if len(plan.draft_faults) > 1 else ""
        agent = ", or import it with --agent NAME" if "no agent" in first else ""
        lines.append(f"before it can run: {first}{more}{agent}; until then {plan.id} is a draft and stops only itself")
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
        "To take them as landed: --done-as-landed COMMIT"
    )
    return [Note(0, text)]


def _sum(accounts: Sequence[Account]) -> dict[str, int]:
    """Return the sum of the counts of all accounts."""
    found: dict[str, int] = {}
    for account in accounts:
        for key, count in account.counts().items():
            found[key] = found.get(key, 0) + count
    return found
