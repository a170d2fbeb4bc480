"""The watchdog: a thread that detects blockers of a run: silence, time, the disk, changed declarations.

Each blocker is recorded and reported once and, if the rules say so, keeps the run from starting anything more. It
only polls; blockers that follow from an event are derived from the event. `executor.state.fold` reads recorded ones.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.errors import ExecutorError, StateFullError
from executor.model.fingerprint import IssueRef
from executor.process.locks import last_sign
from executor.state.events import AttemptFailed, BaseRed, BlockerFound, ReviewerCalled, Stopped
from executor.state.fold import Blocker
from executor.state.model import AttemptState
from executor.status.progress import started_steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from executor.engine.session import Session
    from executor.state.budget import Wait
    from executor.state.decide import Decision
    from executor.state.record import Record

__all__ = ["Watcher", "Working", "from_event", "from_wait", "from_working", "watched"]

_OFTEN, _SELDOM = 0.2, 5.0
"""Minimum and maximum seconds between two checks."""
_LASTING = {"conflict", "red-base", "limit", "outage", "budget"}
"""Blockers that outlast their run; the others exist only while a process runs."""


@contextmanager
def watched(session: Session) -> Iterator[None]:
    """Watch the runs of a session inside the block."""
    watcher = Watcher(session)
    session.listeners.append(watcher.heard)
    session.resting.append(watcher.rested)
    watcher.start()
    try:
        yield
    finally:
        watcher.stop()
        session.listeners.remove(watcher.heard)
        session.resting.remove(watcher.rested)


class Watcher:
    """Checks a session periodically and at every event."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reported = {
            (run.name, item.report_key) for run in session.runs() for item in run.view.blockers if item.kind in _LASTING
        }
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._declared = {run.name: self._files(run.name) for run in session.runs()}
        limits = session.policy.limits
        self._every = max(_OFTEN, min(_SELDOM, limits.silent_s / 3, limits.long_s / 3))
        self._probe_s = session.policy.landing.probe_s
        self._every = max(_OFTEN, min(self._every, self._probe_s)) if self._probe_s else self._every
        self._probe_at = time.monotonic() + self._probe_s
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Start the watchdog."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the watchdog; returns after its last check."""
        self._ended.set()
        self._thread.join()

    def heard(self, milestone: str, event: Record) -> None:
        """Process an event of a milestone."""
        if event.kind != BlockerFound.KIND:
            blocker = from_event(milestone, event)
            if blocker is not None:
                self._report(milestone, blocker)

    def rested(self, ref: str, decision: Decision) -> None:
        """Process the end of an issue in this run."""
        blocker = from_wait(ref, decision.wait) if decision.wait is not None else None
        if blocker is not None:
            self._report(IssueRef.parse(ref).milestone, blocker)

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            try:
                for run in self._session.runs():
                    self._look(run.name)
                self._probe()
            except ExecutorError as error:
                self._session.halt(error)
                return
            except OSError:
                continue  # something went away while it was looked at

    def _probe(self) -> None:
        """Probe for conflicts between running agents if the interval has passed."""
        if self._probe_s and time.monotonic() >= self._probe_at:
            for run in self._session.runs():
                run.queue.probe()
            self._probe_at = time.monotonic() + self._probe_s

    def _look(self, milestone: str) -> None:
        limits = self._session.policy.limits
        for blocker in from_working(milestone, self._working(milestone), limits.silent_s, limits.long_s):
            self._report(milestone, blocker)
        self._look_at_declarations(milestone)
        try:
            self._session.require_space()
        except StateFullError as error:
            resume = f"free some space, then doit milestone:{milestone}"
            self._report(milestone, Blocker("disk", "", "floor", str(error), resume, pauses=True))
            self._session.halt(error)

    def _look_at_declarations(self, milestone: str) -> None:
        before, now = self._declared[milestone], self._files(milestone)
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            self._declared[milestone] = now
            names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")  # noqa: PLR2004
            reason = f"{names} changed during the run; the run uses the versions that it read at its start"
            resume = f"doit milestone:{milestone} uses the change after this run"
            self._report(milestone, Blocker("declaration", "", names, reason, resume))

    def _report(self, milestone: str, blocker: Blocker) -> None:
        """Record and report a blocker once."""
        place = (milestone, blocker.report_key)
        with self._lock:
            if place in self._reported:
                return
            self._reported.add(place)
        session = self._session
        if blocker.kind in session.policy.limits.pause_on:
            blocker = replace(blocker, pauses=True)
        session.run_of(milestone).record(blocker.event(), blocker.issue)
        ref = str(IssueRef(milestone, blocker.issue)) if blocker.issue else milestone
        session.tell("blocker", ref, f"{blocker.kind}: {blocker.reason}; {blocker.resume}")
        if blocker.pauses:
            session.paused.setdefault(milestone, f"the run pauses because {blocker.reason}")

    def _working(self, milestone: str) -> list[Working]:
        """Issues of a milestone in progress, one entry per step, with their seconds of silence."""
        session, view = self._session, self._session.observer.views[milestone]
        now, clock = time.monotonic(), time.time()
        found: list[Working] = []
        for ref, since in list(session.working.items()):
            if IssueRef.parse(ref).milestone != milestone:
                continue
            issue = IssueRef.parse(ref).issue
            state = view.states.get(issue)
            last = state.attempts.get(state.last()) if state is not None else None
            number = last.number if last is not None else 0
            logs = session.project.logs(milestone, issue, number)
            places = {"": logs}
            if state is not None and (steps := started_steps(state.steps, number)):
                places = {name: logs / "steps" / name for name in steps}
            started = last is not None and last.state is AttemptState.STARTED
            for step, folder in places.items():
                sign = last_sign(folder)[0] if started else 0.0
                found.append(Working(issue, number, now - since, clock - sign if sign else None, step))
        return found

    def _files(self, milestone: str) -> dict[str, tuple[int, int, int]]:
        """Files that declare a milestone: path -> stat data that change with the content."""
        project, loaded = self._session.project, self._session.compiled.loaded
        issues = loaded.milestones[milestone].issues
        files = [project.milestones / f"{milestone}.toml", *project.rules.glob("**/*.toml")]
        files += [loaded.folder / issue.spec for issue in issues if issue.spec]
        found: dict[str, tuple[int, int, int]] = {}
        for path in files:
            try:
                facts = path.stat()
            except OSError:
                continue
            found[str(path.relative_to(project.root))] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        return found


@dataclass(frozen=True, slots=True)
class Working:
    """An issue in progress.

    Attributes:
        issue: its id.
        attempt: number of the attempt; 0 before the first.
        seconds: time since this run started the issue.
        silent: seconds since the agent's last sign of life; None while no agent runs.
        step: the workflow step of the agent; empty for a whole attempt.
    """

    issue: str
    attempt: int
    seconds: float
    silent: float | None
    step: str = ""


def from_working(milestone: str, working: Iterable[Working], silent_s: float, long_s: float) -> list[Blocker]:
    """Return blockers for agents without a sign of life and for issues that take too long."""
    found: list[Blocker] = []
    for item in working:
        step = f" in step {item.step}" if item.step else ""
        ref = str(IssueRef(milestone, item.issue))
        if item.silent is not None and item.silent >= silent_s:
            found.append(
                Blocker(
                    "silence",
                    item.issue,
                    f"attempt {item.attempt}{step}",
                    f"the agent of {ref}{step} has given no sign of life for {_time(silent_s)}",
                    f"no action needed: it is ended when it is idle for too long; see `doit log {ref}`",
                )
            )
        if item.seconds >= long_s:
            found.append(
                Blocker(
                    "long",
                    item.issue,
                    f"attempt {item.attempt}",
                    f"{ref} has taken more than {_time(long_s)}",
                    f"see `doit log {ref}`; doit milestone:{milestone} continues with the other issues",
                )
            )
    return found


def from_event(milestone: str, record: Record) -> Blocker | None:
    """Return the blocker that follows from a record of an issue, if any."""
    ref = str(IssueRef(milestone, record.key))
    match record.event:
        case Stopped(rule="merge-conflict", attempt=number, reason=reason):
            resume = f"doit retry {ref} implements it again on the current tip"
            return Blocker("conflict", record.key, f"attempt {number}", f"{ref}: {reason}", resume)
        case BaseRed(tip=tip, reason=reason, word=word):
            wrong = "make the check pass on the branch" if word == "red" else f"doit log {ref} shows what is needed"
            resume = f"{wrong}, then doit milestone:{milestone}"
            return Blocker("red-base", record.key, f"{tip}: {reason}", f"{ref}: {reason}", resume)
        case AttemptFailed(failure="transient", reason=reason) | ReviewerCalled(failure="transient", reason=reason):
            resume = (
                f"no action needed: the account is suspended and retried later; doit milestone:{milestone} continues"
            )
            return Blocker("outage", record.key, reason, f"{ref}: {reason}", resume)
        case AttemptFailed(failure="limit", reason=reason) | ReviewerCalled(failure="limit", reason=reason):
            resume = f"doit milestone:{milestone} after the limit is reset"
            return Blocker("limit", record.key, reason, f"{ref}: {reason}", resume)
    return None


def from_wait(ref: str, wait: Wait) -> Blocker | None:
    """Return the blocker of a ready issue that waits, unless an event has reported it."""
    milestone, issue = IssueRef.parse(ref)
    again = f"doit milestone:{milestone}"
    if wait.kind == "deadline":
        return Blocker("deadline", "", f"{wait.until:.0f}", f"{ref}: {wait.reason}", f"{again} continues with it")
    if wait.kind == "budget":
        resume = f"{wait.hint}, then {again}" if wait.hint else again
        return Blocker("budget", issue, wait.reason, f"{ref}: {wait.reason}", resume)
    return None


def _time(seconds: float) -> str:
    if seconds == 3600:  # noqa: PLR2004  (an hour)
        return "an hour"
    return f"{seconds:g} s" if seconds < 120 or seconds % 60 else f"{seconds / 60:g} minutes"  # noqa: PLR2004
