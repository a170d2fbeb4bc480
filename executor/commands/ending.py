"""The end of a run: its exit code, on record and said."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from executor.commands.base import safe
from executor.commands.signals import CODES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.commands.runner import Outcomes
    from executor.core.decide import Decision
    from executor.session import Session

__all__ = ["finish", "notes"]


def finish(session: Session, outcomes: Outcomes, wanted: tuple[str, ...], received: list[int]) -> int:
    """Record how the run ended and say what came of it; the exit code."""
    from executor.account import end
    from executor.commands.opening import closing
    from executor.commands.release_summary import released, unblocked
    from executor.commands.summary import exit_code, summary, worse
    from executor.core.sessions import How

    asked = outcomes.asked(session, wanted)
    held = session.held
    decisions = {ref: held[ref].decision if ref in held else session.observer.decision(ref) for ref in asked}
    code = exit_code(decisions, outcomes.errors, _waits_for_time(session, decisions))
    code = worse(code, *(item.code for item in session.releases.values()))
    if session.halted is not None:
        code = session.halted.exit_code
    if received:
        code = CODES[signal.Signals(received[0])]
    how, why = How.DONE, ""
    if session.halted is not None:
        how, why = How.HALTED, str(session.halted)[:500]
    elif received:
        how, why = How.INTERRUPTED, signal.Signals(received[0]).name
    for run in session.runs():
        end(run, code, how, why)
    if decisions or outcomes.errors or received:
        sys.stdout.write(summary(session, decisions, outcomes.errors, interrupted=bool(received)))
    sys.stdout.write("".join(f"{safe(line)}\n" for line in closing(session.observer, wanted)))
    sys.stdout.write("".join(released(session, item) for item in session.releases.values()))
    sys.stdout.write(unblocked(session, wanted))
    if session.halted is not None:
        sys.stderr.write(f"{safe(str(session.halted))}\n")
    return code


def notes(session: Session, problems: list[str]) -> list[str]:
    """What went wrong beside the work, once each."""
    from executor.tracking import keep_tracking

    return [*problems, *keep_tracking(session)] + [message for run in session.runs() for message in run.messages]


def _waits_for_time(session: Session, decisions: Mapping[str, Decision]) -> bool:
    """Whether time alone will let everything go on that has not landed."""
    from executor.core.decide import Status

    waiting = {ref for ref, hold in session.held.items() if hold.by_time}
    waiting |= {ref for ref, item in decisions.items() if item.wait is not None and item.wait.until is not None}
    waiting |= {ref for ref, decision in decisions.items() if decision.status is Status.OPEN}
    for ref, decision in decisions.items():
        if decision.status is Status.LANDED or ref in waiting:
            continue
        needs = session.compiled.plan.nodes[ref].needs
        missing = [need for need in needs if session.observer.decision(need).status is not Status.LANDED]
        if decision.status is not Status.BLOCKED or not missing or not waiting.issuperset(missing):
            return False
        waiting.add(ref)
    return bool(waiting)
