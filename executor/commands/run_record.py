"""The record of a run has an end, whatever ends the run: an error, a signal, a fault in the user's dodo.py."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from executor.commands.base import ending_of
from executor.commands.scheduler import CODES
from executor.errors import ExecutorError, InterruptedRunError, StateBrokenError, StateFullError
from executor.state.runs import How

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session

__all__ = ["RunRecords", "recorded", "signals_raised"]

_LONGEST = 500


class RunRecords:
    """Which of the runs of a session have begun and not ended."""

    def __init__(self) -> None:
        self._open: dict[str, MilestoneRun] = {}

    def begin(self, run: MilestoneRun, asked: Sequence[str], workers: int) -> None:
        """Record that a run begins."""
        run.begin(asked, workers)
        self._open[run.name] = run

    def end(self, code: int, how: How, why: str) -> None:
        """Record that all of them end."""
        for name in list(self._open):
            self._open.pop(name).end(code, how, why[:_LONGEST])


@contextmanager
def recorded(session: Session) -> Iterator[RunRecords]:
    """Begin runs in the block; those that it leaves open, by whatever, end with exit code and reason."""
    records = RunRecords()
    try:
        with signals_raised():
            yield records
    except BaseException as error:
        code, why = ending_of(error, session.project.root)
        records.end(code, _how(error), why)
        raise
    records.end(ExecutorError.exit_code, How.ERROR, "its tasks were not run")


def _how(error: BaseException) -> How:
    if isinstance(error, InterruptedRunError | KeyboardInterrupt):
        return How.INTERRUPTED
    return How.HALTED if isinstance(error, StateFullError | StateBrokenError) else How.ERROR


@contextmanager
def signals_raised() -> Iterator[None]:
    """Signals that end a run raise an error in the block, before and after its tasks: nothing there takes long."""

    def handle(number: int, _frame: object) -> None:
        raise InterruptedRunError(signal.Signals(number).name, CODES[signal.Signals(number)])

    before = {number: signal.signal(number, handle) for number in CODES}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
