"""Watching: a thread that notices what stands in the way of a run - silence, time, the disk, changed declarations.

What it finds is recorded once, told once and, where the rules say so, keeps the run from beginning anything more. Only
the detection of what needs a look from time to time is here; everything that an event says is taken from the event.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.errors import ExecutorError, StateFullError
from executor.process.locks import last_sign
from executor.state.blockers import Blocker, Working, from_event, from_wait, from_working
from executor.state.events import BlockerFound
from executor.state.model import AttemptState
from executor.status.phases import started_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session
    from executor.state.decide import Decision
    from executor.state.record import Record

__all__ = ["Watcher", "watched"]

_OFTEN, _SELDOM = 0.2, 5.0
"""Seconds between two looks, at least and at most."""


@contextmanager
def watched(session: Session) -> Iterator[None]:
    """Watch the runs of a session while the block lasts."""
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
    """Checks a session periodically, and at every event."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told = {(run.name, item.told_as) for run in session.runs() for item in _kept(run)}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._declared = {run.name: _declared(run) for run in session.runs()}
        limits = session.policy.limits
        self._every = max(_OFTEN, min(_SELDOM, limits.silent_s / 3, limits.long_s / 3))
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Start the watchdog."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the watchdog; returns after its last check."""
        self._ended.set()
        self._thread.join()

    def heard(self, run: MilestoneRun, event: Record) -> None:
        """An event was recorded."""
        if event.kind != BlockerFound.KIND:
            blocker = from_event(run.name, event)
            if blocker is not None:
                self._found(run, blocker)

    def rested(self, ref: str, decision: Decision) -> None:
        """An issue ended in this run."""
        blocker = from_wait(ref, decision.wait) if decision.wait is not None else None
        if blocker is not None:
            self._found(self._session.run_of(ref.partition("/")[0]), blocker)

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            try:
                for run in self._session.runs():
                    self._look(run)
            except ExecutorError as error:
                self._session.halt(error)
                return
            except OSError:
                continue  # something went away while it was looked at

    def _look(self, run: MilestoneRun) -> None:
        limits = self._session.policy.limits
        for blocker in from_working(run.name, _working(run), limits.silent_s, limits.long_s):
            self._found(run, blocker)
        self._look_at_declarations(run)
        try:
            self._session.require_space()
        except StateFullError as error:
            resume = f"free some space, then doit milestone:{run.name}"
            self._found(run, Blocker("disk", "", "floor", str(error), resume, pauses=True))
            self._session.halt(error)

    def _look_at_declarations(self, run: MilestoneRun) -> None:
        before, now = self._declared[run.name], _declared(run)
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            self._declared[run.name] = now
            names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")  # noqa: PLR2004
            reason = f"{names} changed during the run, which goes on with what it read at its start"
            resume = f"doit milestone:{run.name} takes the change when this run has ended"
            self._found(run, Blocker("declaration", "", names, reason, resume))

    def _found(self, run: MilestoneRun, blocker: Blocker) -> None:
        """Record and report a blocker once."""
        place = (run.name, blocker.told_as)
        with self._lock:
            if place in self._told:
                return
            self._told.add(place)
        session = self._session
        if blocker.kind in session.policy.limits.pause_on:
            blocker = replace(blocker, pauses=True)
        run.record(blocker.event(), blocker.issue)
        ref = f"{run.name}/{blocker.issue}" if blocker.issue else run.name
        session.tell("blocker", ref, f"{blocker.kind}: {blocker.reason}; {blocker.resume}")
        if blocker.pauses:
            session.paused.setdefault(run.name, f"the run pauses because {blocker.reason}")


def _kept(run: MilestoneRun) -> list[Blocker]:
    """What an earlier run found and what is still as it was; what only a running process can be is not."""
    return [item for item in run.view.blockers if item.kind in {"conflict", "red-base", "limit", "outage", "budget"}]


def _working(run: MilestoneRun) -> list[Working]:
    now, clock = time.monotonic(), time.time()
    found: list[Working] = []
    for ref, since in list(run.session.working.items()):
        milestone, _, issue = ref.partition("/")
        if milestone == run.name:
            state = run.view.states.get(issue)
            last = state.attempts.get(state.last()) if state is not None else None
            number = last.number if last is not None else 0
            logs = run.session.project.logs(run.name, issue, number)
            places = {"": logs}
            if state is not None and (steps := started_steps(state.steps, number)):
                places = {name: logs / "steps" / name for name in steps}
            for step, folder in places.items():
                silent = None
                if last is not None and last.state is AttemptState.STARTED:
                    sign, _ = last_sign(folder)
                    silent = clock - sign if sign else None
                found.append(Working(issue, number, now - since, silent, step))
    return found


def _declared(run: MilestoneRun) -> dict[str, tuple[int, int, int]]:
    """What the run was declared by: file -> what changes with its content."""
    project = run.session.project
    loaded = run.session.compiled.loaded
    files = [project.milestones / f"{run.name}.toml", *project.rules.glob("**/*.toml")]
    files += [loaded.folder / issue.spec for issue in run.milestone.issues if issue.spec]
    found: dict[str, tuple[int, int, int]] = {}
    for path in files:
        try:
            facts = path.stat()
        except OSError:
            continue
        found[str(path.relative_to(project.root))] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    return found
