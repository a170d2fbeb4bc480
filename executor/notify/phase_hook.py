"""Calls the user's status command for each phase: in order, one at a time, in a thread, with a timeout."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from executor.agents.command import child_environment
from executor.errors import ExecutorError
from executor.process.runner import Command
from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    BaseRed,
    Landed,
    MilestoneReleased,
    Refused,
    ReleaseIntended,
    ReleaseRefused,
    RunEnded,
    RunStarted,
    Stopped,
    Verified,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.engine.session import Session
    from executor.state.record import Record

__all__ = ["PhaseTeller", "phases_told"]

_PATIENCE = 3
"""The end of a run waits for pending calls for this many timeouts."""


@contextmanager
def phases_told(session: Session) -> Iterator[PhaseTeller]:
    """Report phases of a session's milestones inside the block."""
    teller = PhaseTeller(session)
    session.listeners.append(teller.hear)
    try:
        yield teller
    finally:
        session.listeners.remove(teller.hear)
        teller.finish()


class PhaseTeller:
    """One thread that runs the status command for each phase; a failure becomes a note."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rules = session.policy.status
        self._heard: queue.SimpleQueue[dict[str, str] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._failed: dict[str, int] = {}

    def hear(self, milestone: str, event: Record) -> None:
        """Process an event of a milestone; reports it if it starts a phase."""
        phase = phase_of(event)
        if not phase or not self._rules.command or self._over.is_set():
            return
        ref = f"{milestone}/{event.key}" if event.key else milestone
        known = not event.key or ref in self._session.compiled.plan.nodes
        if not known:
            return
        status = str(self._session.observer.decision(ref).status) if event.key else phase
        if event.kind == AttemptStarted.KIND:
            status = "running"
        values = {"id": ref, "milestone": milestone, "issue": event.key, "status": status, "phase": phase}
        self._heard.put(values)
        if self._thread is None:
            self._thread = threading.Thread(target=self._tell, name="status command", daemon=True)
            self._thread.start()

    @property
    def problems(self) -> list[str]:
        """Problems, one sentence each."""
        return [
            f"the status command {self._rules.command[0]}: {why}" + (f" ({count} times)" if count > 1 else "")
            for why, count in self._failed.items()
        ]

    def finish(self) -> None:
        """Wait briefly for pending calls."""
        if self._thread is None:
            return
        self._heard.put(None)
        end = time.monotonic() + _PATIENCE * self._rules.timeout_s
        self._thread.join(max(0.0, end - time.monotonic()))
        self._over.set()
        if self._thread.is_alive():
            self._failed["the run ended before every phase was reported"] = 1
        self._thread = None

    def _tell(self) -> None:
        while not self._over.is_set():
            item = self._heard.get()
            if item is None:
                return
            try:
                problem = self._call(item)
            except (ExecutorError, OSError) as error:
                problem = str(error)
            if problem:
                self._failed[problem] = self._failed.get(problem, 0) + 1

    def _call(self, values: dict[str, str]) -> str:
        """Run the command with these values; returns why it failed, or an empty text."""
        run, root = self._session.run_of(values["milestone"]), self._session.project.root
        given = {f"EXECUTOR_{key.upper()}": value for key, value in values.items()}
        ended = run.supervisor.run(
            Command(
                argv=self._rules.argv(values),
                cwd=root,
                env=child_environment(self._rules.env, given, root),
                log=run.folder / "status-command.log",
                timeout=self._rules.timeout_s,
                output_cap=2**20,
                secrets=run.secrets,
            )
        )
        return "" if ended.ok else f"{ended.describe()}; see .cache/{run.name}/status-command.log"


_PHASES = {
    RunStarted.KIND: "started",
    AttemptStarted.KIND: "implement",
    AttemptBuilt.KIND: "verify",
    AttemptFailed.KIND: "failed",
    AttemptInterrupted.KIND: "interrupted",
    Stopped.KIND: "stopped",
    BaseRed.KIND: "blocked",
    Landed.KIND: "landed",
    Verified.KIND: "verified",
    Refused.KIND: "refused",
    ReleaseIntended.KIND: "release",
    ReleaseRefused.KIND: "refused",
    MilestoneReleased.KIND: "released",
    RunEnded.KIND: "ended",
}
"""Kind of an event -> the phase that it starts."""


def phase_of(event: Record) -> str:
    """Return the phase that starts with an event; empty for events outside of the status command."""
    return _PHASES.get(event.kind, "")
