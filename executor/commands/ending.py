"""The end of a run: its exit code, on record and said."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from executor.commands.base import safe
from executor.commands.signals import CODES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.commands.runner import Outcomes
    from executor.session import Session

__all__ = ["finish", "notes"]


def finish(session: Session, outcomes: Outcomes, wanted: tuple[str, ...], received: list[int]) -> int:
    """Record how the run ended and say what came of it; the exit code."""
    from executor.account import end
    from executor.commands.opening import closing
    from executor.commands.release_summary import released, unblocked
    from executor.commands.summary import summary
    from executor.core.outcome import exit_code, worse
    from executor.core.sessions import How

    asked = outcomes.asked(session, wanted)
    decisions = {ref: session.decision(ref) for ref in asked}
    missing = _missing(session, asked)
    known = {ref: session.decision(ref) for ref in missing}
    code = exit_code(asked, known, missing, erred=bool(outcomes.errors))
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


def _missing(session: Session, refs: Iterable[str]) -> dict[str, list[str]]:
    """These issues and everything that they wait for, with what of their needs has not landed."""
    from executor.core.decide import Status

    found: dict[str, list[str]] = {}
    waiting = list(refs)
    while waiting:
        ref = waiting.pop()
        if ref not in found:
            needs = session.compiled.plan.nodes[ref].needs
            found[ref] = [need for need in needs if session.decision(need).status is not Status.LANDED]
            waiting += found[ref]
    return found
