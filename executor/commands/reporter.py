"""What a run says while it works: whole lines with the time, one for each thing that happened, from whatever thread."""

from __future__ import annotations

import os
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

from executor.actions import IssueAction, Waiting
from executor.commands.base import safe
from executor.core.decide import Act
from executor.holds import hold_of

if TYPE_CHECKING:
    from executor.session import Session

__all__ = ["Reporter", "on_a_terminal", "reporter_for"]

_WIDEST = 40


def on_a_terminal(stream: Any) -> bool:
    """Whether something that is drawn again and again can be seen where a stream leads."""
    return bool(stream.isatty()) and os.environ.get("TERM", "dumb") != "dumb"


def reporter_for(stream: Any, session: Session, workers: int, *, plain: bool) -> Reporter:
    """The live view on a terminal, plain lines elsewhere or where they are asked for."""
    if plain or not on_a_terminal(stream):
        return Reporter(stream, session)
    from executor.commands.live import LiveReporter

    return LiveReporter(stream, session, workers)


class Reporter:
    """A doit reporter that writes plain lines."""

    stamp = "%Y-%m-%d %H:%M:%S"

    def __init__(self, stream: Any, session: Session) -> None:
        self._stream = stream
        self._session = session
        own = {run.name for run in session.runs()}
        refs = (ref for ref in session.compiled.plan.order if ref.partition("/")[0] in own)
        self._width = min(_WIDEST, max(map(len, refs), default=0))
        self._lock = threading.Lock()

    def say(self, word: str, ref: str, text: str) -> None:
        """One line."""
        at = datetime.now().astimezone()
        with self._lock:
            self._put(f"{at:{self.stamp}} {word:<9} {ref:<{self._width}} {safe(text)}")

    def _put(self, line: str) -> None:
        """Write a line; the lock is held."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def initialize(self, _tasks: Any, _selected: Any) -> None:
        """Nothing to prepare."""

    def get_status(self, _task: Any) -> None:
        """Nothing to say."""

    def execute_task(self, task: Any) -> None:
        """An issue is being worked on."""
        action = _action(task)
        if action is not None and not any(name.startswith("step:") for name in task.task_dep):
            run = self._session.run_of(action.ref.partition("/")[0])
            decision = self._session.observer.decision(action.ref)
            if decision.act is not Act.REST and hold_of(run, action.ref, decision, begun=False) is None:
                self.say(str(decision.act), action.ref, f"{task.doc or ''}: {decision.reason}")

    def add_success(self, task: Any) -> None:
        """An issue has landed, or was found landed."""
        action = _action(task)
        if action is not None and action.decision is not None:
            self.say(str(action.decision.status), action.ref, action.decision.reason)

    def add_failure(self, task: Any, fail: Any) -> None:
        """An issue is at rest without having landed, or the executor erred."""
        action = _action(task)
        if action is None:
            return
        if isinstance(fail, Waiting):
            self.say(str(fail.decision.status), action.ref, fail.decision.reason)
        elif self._session.stopping.is_set():
            self.say("stopped", action.ref, "will be resumed by the next run")
        else:
            self.say("error", action.ref, fail.get_msg().strip().splitlines()[0])

    def skip_uptodate(self, task: Any) -> None:
        """Nothing to do for it."""
        action = _action(task)
        if action is not None:
            self.say("landed", action.ref, "up to date")

    def skip_ignore(self, task: Any) -> None:
        """Something it needs has not landed."""
        action = _action(task)
        if action is not None:
            decision = self._session.decision(action.ref)
            self.say(str(decision.status), action.ref, decision.reason)

    def teardown_task(self, _task: Any) -> None:
        """Nothing is torn down."""

    def cleanup_error(self, exception: Any) -> None:
        """An error of doit's own clean-up."""
        self.say("error", "", str(exception.get_msg()))

    def runtime_error(self, message: str) -> None:
        """An error of doit's own."""
        self.say("error", "", message)

    def complete_run(self) -> None:
        """The summary is printed by the command."""


def _action(task: Any) -> IssueAction | None:
    return next((action for action in task.actions if isinstance(action, IssueAction)), None)
