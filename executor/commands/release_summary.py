"""What a release came to, and whom a completed milestone lets go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.commands.base import safe, table
from executor.release import told_dependents

if TYPE_CHECKING:
    from executor.core.release import Outcome
    from executor.session import Session

__all__ = ["released", "unblocked"]


def released(session: Session, outcome: Outcome) -> str:
    """The criteria of a release as a table, and what was done or what is lacking."""
    rows = [[str(item.met), item.kind, item.name, item.reason] for item in outcome.criteria]
    shown = f"{table(rows)}\n\n" if rows else ""
    name = outcome.milestone
    if outcome.code:
        lacking = sum(item.holds_back for item in outcome.criteria)
        return f"{shown}{name} is not released: {lacking} of {len(rows)} criteria are not met\n"
    base = session.observer.views[name].base.removeprefix("refs/heads/")
    done = "".join(f"{name}: {safe(line)}\n" for line in outcome.done)
    return f"{shown}{done}{name} is released to {base}\n"


def unblocked(session: Session, wanted: tuple[str, ...]) -> str:
    """The milestones that can start now because one of this run is complete."""
    refused = {name for name, outcome in session.releases.items() if outcome.code}
    names = dict.fromkeys(word.partition(":")[2].partition("/")[0] for word in wanted)
    lines = []
    for name in [name for name in names if name not in refused]:
        for other in told_dependents(session.observer, name):
            title = session.compiled.milestone(other).title
            lines.append(f"{name} is complete: {other} ({safe(title)}) can go on: doit milestone:{other}\n")
    return "".join(dict.fromkeys(lines))
