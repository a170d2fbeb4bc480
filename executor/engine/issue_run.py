"""The life of one issue: observe, decide and act in a loop until it lands or cannot continue.

The watchdog: a thread that detects blockers of a run: silence, time, the disk, changed declarations.

Each blocker is recorded and reported once and, if the rules say so, keeps the run from starting anything more. It
only polls; blockers that follow from an event are derived from the event.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.engine.attempt import Attempts
from executor.engine.landing.land import Landings
from executor.engine.stops import Stops, find_obstacle, record_obstacle
from executor.errors import ExecutorError, InterruptedRunError, StateFullError
from executor.model.fingerprint import IssueRef
from executor.process.locks import last_sign
from executor.state.blockers import Blocker, Working, from_event, from_wait, from_working
from executor.state.decide import Act, Decision, Status
from executor.state.events import BlockerFound
from executor.state.model import QUESTION, AttemptState
from executor.status.progress import started_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.engine.issue import IssueRun
    from executor.engine.session import Session
    from executor.state.decide import Decision
    from executor.state.record import Record

__all__ = ["IssueLife", "Watcher", "watched"]

_MOST_STEPS = 100  # actions; an attempt takes two or three, so this ends only a loop that is a fault of ours


class IssueLife:
    """The life of one issue in a run."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def bring_to_rest(self) -> Decision:
        """Run an issue until it lands or cannot continue in this run; returns the final decision.

        Raises:
            InterruptedRunError: the run is being stopped.
            ExecutorError: a required operation failed; the journal has the state of the issue.
        """
        try:
            decision = self._bring_to_rest()
        finally:
            self._session.working.pop(self._issue.ref, None)
            self._session.places.leave(self._issue.ref, ended=True)
        self._session.rested(self._issue.ref, decision)
        return decision

    def _bring_to_rest(self) -> Decision:
        for step in range(_MOST_STEPS):
            # The merge queue releases the place while a result waits in it. An issue with nothing to do needs none.
            idle = self._issue.decision.act is Act.REST
            placed = idle or self._session.places.take(self._issue.ref, self._session.stopping)
            if not placed or self._session.stopping.is_set():
                raise InterruptedRunError(f"{self._issue.ref}: the run was stopped", 130)
            if not step:
                self._begin()
            self._run.look_for_pause()
            decision = self._issue.decision
            held = Stops(self._issue).held(decision, begun=step > 0)
            self._session.hold(self._issue.ref, held)
            decision = held or decision
            if idle and decision.act is not Act.REST:
                continue
            if decision.act is Act.REST:
                self._run.ensure_receipts([self._issue.id])
                if decision.status is Status.LANDED and self._issue.id in self._run.view.steps:
                    self._session.plugins.workflow.forget(self._issue)
                stop = self._issue.facts.state.stop
                if decision.status is Status.REVIEW and stop is not None and stop.rule == QUESTION:
                    self._session.plugins.publisher.show_question(self._issue)
                return decision
            self._act(decision)
        raise ExecutorError(
            f"{self._issue.ref} did not finish within {_MOST_STEPS} actions; its journal shows the repetition"
        )

    def _begin(self) -> None:
        self._session.working[self._issue.ref] = time.monotonic()
        for listener in self._session.beginning:
            listener(self._issue.ref)

    def _act(self, decision: Decision) -> None:
        match decision.act:
            case Act.IMPLEMENT if self._issue.flow.steps:
                self._session.plugins.workflow.implement(self._issue)
            case Act.IMPLEMENT:
                obstacle = find_obstacle(self._issue, decision)
                if obstacle is not None:
                    record_obstacle(self._issue, obstacle)
                else:
                    Attempts(self._issue).implement(decision)
            case Act.JUDGE:
                Landings(self._issue).land(decision)
            case Act.VERIFY:
                self._issue.verify_again()


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
