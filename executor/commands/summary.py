"""The end of a run: one table, the exact next commands, and the exit code."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from executor.commands.base import safe, table
from executor.core.decide import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.core.decide import Decision
    from executor.project import Compiled

__all__ = ["exit_code", "summary"]


def exit_code(decisions: Iterable[Decision], errors: Mapping[str, str]) -> int:
    """0 all landed; 1 something failed or was skipped; 2 the executor erred; 4 a person is needed, nothing failed."""
    if errors:
        return 2
    statuses = {decision.status for decision in decisions}
    if statuses & {Status.FAILED, Status.SKIPPED}:
        return 1
    return 0 if statuses <= {Status.LANDED} else 4


def summary(
    compiled: Compiled, decisions: Mapping[str, Decision], errors: Mapping[str, str], *, interrupted: bool
) -> str:
    """The table of what did not land, and counts."""
    lines: list[str] = []
    rest = [(ref, decision) for ref, decision in decisions.items() if decision.status is not Status.LANDED]
    if rest:
        rows = [[decision.status, ref, compiled.plan.nodes[ref].issue.title, decision.reason] for ref, decision in rest]
        lines += ["", table([[str(cell) for cell in row] for row in rows])]
    for name, problem in errors.items():
        lines.append(safe(f"error in {name}: {' '.join(problem.split())}"))
    counts = Counter(str(decision.status) for decision in decisions.values())
    lines.append("")
    lines.append(", ".join(f"{count} {status}" for status, count in sorted(counts.items(), key=_landed_first)))
    for branch in dict.fromkeys(compiled.milestone(ref.partition("/")[0]).branch for ref in decisions):
        lines.append(f"branch {branch}")
    stuck = [
        decision.hint
        for _, decision in rest
        if decision.hint and decision.status in {Status.FAILED, Status.SKIPPED, Status.REVIEW}
    ]
    if stuck:
        lines.append("next: look at `doit log ...`, then " + " · ".join(dict.fromkeys(stuck)))
    if interrupted:
        lines.append("interrupted; the next run goes on where this one ended")
    return "\n".join(lines).lstrip("\n") + "\n"


def _landed_first(item: tuple[str, int]) -> tuple[bool, str]:
    return item[0] != "landed", item[0]
