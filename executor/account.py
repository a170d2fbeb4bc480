"""A run's account of itself: who began it on what, what was cut off before it, how it ended and what comes next."""

from __future__ import annotations

import getpass
import os
import platform
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from executor.core.decide import Act
from executor.core.sessions import How, RunRecord, run_records
from executor.errors import ExecutorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.milestone_run import MilestoneRun

__all__ = ["begin", "cut_off", "end", "resumed"]

_NEXT = 5


def begin(run: MilestoneRun, asked: Sequence[str], workers: int) -> None:
    """Record that a run begins, with the state of the user's checkout."""
    session = run.session
    run.record(
        "run-started",
        host=platform.node(),
        user=_user(),
        pid=os.getpid(),
        git=session.checkouts.state(session.project.repository.top),
        asked=list(asked),
        workers=workers,
    )


def end(run: MilestoneRun, code: int, how: How, why: str = "") -> None:
    """Record that a run ends; on a full disk with the space that was set aside for saying so."""
    data: dict[str, Any] = {"code": code, "how": str(how), "why": why, "next": _following(run)}
    try:
        run.record("run-ended", **data)
    except ExecutorError:
        with suppress(ExecutorError):
            run.journal.append_last("run-ended", **data)


def cut_off(run: MilestoneRun) -> RunRecord | None:
    """The latest run of this milestone before this one, if it was ended before it had done what it could."""
    earlier = [record for record in run_records(run.journal.events) if record.run != run.session.run_id]
    return earlier[-1] if earlier and earlier[-1].cut_off else None


def resumed(record: RunRecord, milestone: str) -> str:
    """What is said at the start of the run after one that was cut off."""
    why = f" ({record.why})" if record.why else ""
    flying = ", ".join(f"{milestone}/{issue} (attempt {number})" for issue, number in record.in_flight.items())
    at_work = f"; it was at work on {flying}" if flying else "; nothing was under way"
    return (
        f"the run of {record.started[:16].replace('T', ' ')} UTC by {record.user} on {record.host} "
        f"(process {record.pid}) {_ENDED[record.how]}{why}{at_work}"
    )


_ENDED = {How.DIED: "died", How.INTERRUPTED: "was interrupted", How.HALTED: "was halted"}


def _following(run: MilestoneRun) -> list[str]:
    """The first issues that the next run would go on with."""
    found: list[str] = []
    plan = run.session.compiled.plan
    for ref in plan.order:
        if len(found) == _NEXT:
            break
        if plan.nodes[ref].milestone == run.name and run.decision(ref).act is not Act.REST:
            found.append(ref)
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
