"""What an import did, as lines for a person and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.importers.account import Account, Note, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.importers.plan_files import Planned

__all__ = ["report_data", "report_lines"]

_SHOWN = 4


def report_lines(plan: Planned, changed: Sequence[str], *, dry: bool) -> list[str]:
    """What was, or would be, imported, line by line."""
    shown = ", ".join(changed[:_SHOWN]) + (f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else "")
    what = f"{'would write' if dry else 'wrote'} {shown}" if changed else "nothing changed"
    lines = [f"{plan.id}: {len(plan.draft.issues)} issues in {plan.name} ({plan.format}); {what}"]
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
    """The same as data."""
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
    """The counts of all accounts together."""
    found: dict[str, int] = {}
    for account in accounts:
        for key, count in account.counts().items():
            found[key] = found.get(key, 0) + count
    return found
