"""Calls the user's status command for each phase: in order, one at a time, in a thread, with a timeout.

Notices: one message for each relevant change, built from fixed texts and inert parts. Pure.

The id of a notice comes from its event, so it is sent once, however often a run encounters it.
"""

from __future__ import annotations

import queue
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.agents.command import child_environment
from executor.errors import ExecutorError
from executor.git.trailers import one_line
from executor.model.fingerprint import IssueRef
from executor.model.hints import all_landed
from executor.process.runner import Command
from executor.state.decide import Status
from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    BaseRed,
    BlockerFound,
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
from executor.state.fold import read_blocker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.engine.session import Session
    from executor.model.outward_rules import NoticeKind
    from executor.state.decide import Decision
    from executor.state.record import Record

__all__ = [
    "DECIDING",
    "Notice",
    "PhaseTeller",
    "announcing_phases",
    "event_id",
    "of_completion",
    "of_digest",
    "of_event",
    "of_rest",
]


_PATIENCE = 3
"""The end of a run waits for pending calls for this many timeouts."""


@contextmanager
def announcing_phases(session: Session) -> Iterator[PhaseTeller]:
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
        if not phase or self._over.is_set():
            return
        ref = str(IssueRef(milestone, event.key)) if event.key else milestone
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

    def finish(self) -> list[str]:
        """Wait briefly for pending calls; returns the problems, one sentence each."""
        if self._thread is not None:
            self._heard.put(None)
            self._thread.join(_PATIENCE * self._rules.timeout_s)
            self._over.set()
            if self._thread.is_alive():
                self._failed["the run ended before every phase was reported"] = 1
            self._thread = None
        return [
            f"the status command {self._rules.command[0]}: {why}" + (f" ({count} times)" if count > 1 else "")
            for why, count in self._failed.items()
        ]

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

    def _call(self, values: dict[str, str]) -> str | None:
        """Run the command with these values; returns why it failed, or None."""
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
        return None if ended.ok else f"{ended.describe()}; see .cache/{run.name}/status-command.log"


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


DECIDING = frozenset({"attempt-failed", "stopped"})
"""Events after which an issue may wait for a person."""
_QUESTION = "question"
_LONGEST = 500  # characters of a command's words in a message
_INERT = str.maketrans({"@": "\uff20", "<": "\u2039", ">": "\u203a", "`": "'", "\\": "/"})
"""Characters that a chat may interpret as a mention, a link or markup."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A message.

    Attributes:
        kind: kind of notice.
        milestone: id; empty for a digest.
        issue: id; empty for the milestone.
        event: id of the event; each event is sent once over each channel.
        title: its title, one line.
        body: plain text of several lines.
    """

    kind: NoticeKind
    milestone: str
    issue: str
    event: str
    title: str
    body: str


def event_id(milestone: str, event: Record) -> str:
    """Return the id of an event; unlike its number it survives a compaction of the journal."""
    return f"{milestone}/{event.key}:{event.kind}:{event.at}"


def of_rest(ref: str, title: str, decision: Decision, rules: frozenset[str], event: str) -> Notice | None:
    """Return the notice about an issue that waits for a person; None for others.

    Args:
        ref: qualified id.
        title: title of the issue.
        decision: its final decision.
        rules: rules of the current stop, if any.
        event: id of the event that decided it.
    """
    milestone, issue = IssueRef.parse(ref)
    kind: NoticeKind
    if decision.status is Status.REVIEW:
        kind, says = ("question", "asks a question") if _QUESTION in rules else ("review", "waits for a person")
    elif decision.status is Status.FAILED:
        kind, says = "failed", "failed"
    elif decision.status is Status.SKIPPED:
        kind, says = "skipped", "was skipped"
    else:
        return None
    lines = [f"{ref}: {_part(title)}", _part(decision.reason), f"next: {_part(decision.hint)}", f"more: doit log {ref}"]
    return _notice(kind, milestone, issue, event, f"{ref} {says}", lines)


def of_event(milestone: str, event: Record) -> Notice | None:
    """Return the notice about an event; None for events without one."""
    recorded = event.event
    if isinstance(recorded, BlockerFound):
        blocker = read_blocker(event.key, recorded)
        says = f"{milestone} pauses: {blocker.kind}" if blocker.pauses else f"{milestone} is blocked: {blocker.kind}"
        lines = [_part(blocker.reason), f"next: {_part(blocker.resume)}"]
        return _notice("blocker", milestone, event.key, event_id(milestone, event), says, lines)
    if isinstance(recorded, MilestoneReleased):
        tag = f", tagged {_part(recorded.tag)}" if recorded.tag else ""
        lines = [f"{milestone} is in its base as {_part(recorded.commit)[:10]}{tag}"]
        return _notice("released", milestone, "", event_id(milestone, event), f"{milestone} is released", lines)
    return None


def of_completion(milestone: str, title: str, landed: int, branch: str, tip: str) -> Notice:
    """Return the notice about a milestone whose issues have all landed."""
    lines = [
        f"{milestone}: {_part(title)}",
        f"{all_landed(landed)} on {_part(branch)}",
        f"next: doit verify {milestone}, then doit release:{milestone}",
    ]
    return _notice("complete", milestone, "", f"{milestone}:complete:{tip}", f"{milestone} is complete", lines)


def of_digest(night: str, title: str, text: str) -> Notice:
    """Return the notice about a whole night."""
    return Notice("digest", "", "", f"nightly:{night}", title, text.translate(_INERT))


def _notice(kind: NoticeKind, milestone: str, issue: str, event: str, title: str, lines: list[str]) -> Notice:
    return Notice(kind, milestone, issue, event, title, "\n".join([*lines, f"event: {event}"]) + "\n")


def _part(text: str) -> str:
    """Format foreign text for a notice: one line, bounded, without chat markup."""
    flat = one_line(text).translate(_INERT)
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 1]}…"
