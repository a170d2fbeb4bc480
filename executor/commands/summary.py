"""The end of a run: one table and the exact next commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.commands.base import safe, table
from executor.commands.words import ago, money
from executor.core.decide import Status
from executor.core.effort import moment
from executor.core.progress import counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.core.decide import Decision
    from executor.session import Session

__all__ = ["summary"]

_MOST_LANDED = 20
_WIDEST = 36
_FOR_PERSONS = frozenset({Status.FAILED, Status.SKIPPED, Status.REVIEW})
_WORKED = frozenset({"attempt-built", "attempt-failed"})
"""What tells how long an agent worked; a snapshot tells the same seconds before."""
_PLACES = {
    status: place
    for place, status in enumerate(
        (
            *(Status.LANDED, Status.STALE, Status.OPEN, Status.RUNNING, Status.PENDING, Status.BLOCKED),
            *(Status.REVIEW, Status.SKIPPED, Status.FAILED),
        )
    )
}
"""Those that need a person stand last, where they are seen."""


def summary(
    session: Session, decisions: Mapping[str, Decision], errors: Mapping[str, str], *, interrupted: bool
) -> str:
    """What landed in this run and everything that did not land, with what moves it on, and the sums."""
    spent = _spent(session)
    rest = {ref: decision for ref, decision in decisions.items() if decision.status is not Status.LANDED}
    landed = [ref for ref in decisions if ref not in rest and ref in spent and spent[ref].landed]
    shown = [*landed[:_MOST_LANDED], *sorted(rest, key=lambda ref: _PLACES[rest[ref].status])]
    plan = session.compiled.plan
    rows = [
        [
            str(decisions[ref].status),
            ref,
            _short(plan.nodes[ref].issue.title),
            ago(spent[ref].seconds) if ref in spent else "",
            money(spent[ref].cost) if ref in spent and spent[ref].cost else "",
            "" if ref in rest else decisions[ref].reason,
        ]
        for ref in shown
    ]
    lines = [""]
    for ref, line in zip(shown, table(rows).splitlines(), strict=True):
        lines.append(line)
        if ref in rest:
            lines.append(safe(f"{'':<9}{decisions[ref].reason}"))
            lines.append(safe(f"{'':<9}next: {_next(ref, decisions)}"))
    if len(landed) > _MOST_LANDED:
        lines.insert(1 + _MOST_LANDED, f"landed   and {len(landed) - _MOST_LANDED} more in this run")
    for name, problem in errors.items():
        lines.append(safe(f"error in {name}: {' '.join(problem.split())}"))
    told = counts(str(decision.status) for decision in decisions.values())
    lines += [""] if len(lines) > 1 else []
    lines += [", ".join(f"{count} {status}" for status, count in told.items())] if told else []
    for branch in dict.fromkeys(session.compiled.milestone(ref.partition("/")[0]).branch for ref in decisions):
        lines.append(f"branch {branch}")
    cost = sum(item.cost for item in spent.values())
    lines.append(f"this run: {len(landed)} landed in {ago(_elapsed(session))}, cost {money(cost)}")
    if interrupted:
        lines.append("interrupted; the next run goes on where this one ended")
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class _Spent:
    """What this run did for one issue."""

    seconds: float = 0.0
    cost: float = 0.0
    landed: bool = False


def _spent(session: Session) -> dict[str, _Spent]:
    found: dict[str, _Spent] = {}
    for run in session.runs():
        for event in run.journal.events:
            if event.run == session.run_id and event.key:
                item = found.setdefault(f"{run.name}/{event.key}", _Spent())
                item.seconds += float(event.data.get("seconds") or 0.0) if event.kind in _WORKED else 0.0
                item.cost += float(event.data.get("cost_usd") or 0.0)
                item.landed = item.landed or event.kind == "landed"
    return found


def _elapsed(session: Session) -> float:
    """Seconds from the first record of this run to the last."""
    times = [moment(event.at) for run in session.runs() for event in run.journal.events if event.run == session.run_id]
    return max(times, default=0.0) - min(times, default=0.0)


def _next(ref: str, decisions: Mapping[str, Decision]) -> str:
    """The exact command that moves an issue on, or what has to happen before one can."""
    decision = decisions[ref]
    if decision.status in _FOR_PERSONS and decision.hint:
        return f"doit log {ref}, then {decision.hint}"
    if decision.status is Status.BLOCKED and decision.hint:
        need = decision.hint.removeprefix("doit issue:")
        if need in decisions and decisions[need].status is not Status.PENDING:
            return f"nothing; it goes on when {need} has landed"
    return decision.hint or f"doit milestone:{ref.partition('/')[0]}"


def _short(title: str) -> str:
    return title if len(title) <= _WIDEST else f"{title[: _WIDEST - 3]}..."
