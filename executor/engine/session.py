"""A session: the state shared by the milestones that this process runs.

One session per process; it opens before the first task and closes after the last. Nothing here decides. `Outside`
builds its adapters for git, processes, worktrees and journals; tests substitute an in-memory one. What plugs into the
engine, which knows neither workflows nor forges, comes in as `Plugins`.

Redaction of secret values in bytes and in events.

The lock of a milestone: one process at a time runs or repairs it; the lock names that process.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, Self

from executor.agents.command import secret_values, secrets_of
from executor.checks.verdicts import Verdicts
from executor.config.project import prepare_cache
from executor.engine.landing.milestone_branch import LocalPublisher, Publisher
from executor.engine.milestone_run import MilestoneRun
from executor.errors import BusyError, StateFullError
from executor.git.checkout import Checkouts, identity_of
from executor.git.command import signer_of
from executor.git.objects import Store
from executor.git.refs import Refs
from executor.git.worktrees import Pool
from executor.process.files import local_time
from executor.process.locks import Held, Places, read_holder, try_lock
from executor.process.redact import Redactor
from executor.process.runner import Supervisor
from executor.state.journal import Journal
from executor.state.record import now
from executor.status.reader import observe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from executor.checks.shared import SharedVerdicts
    from executor.config.project import Compiled, Project
    from executor.engine.issue import IssueRun
    from executor.errors import ExecutorError
    from executor.git.command import Identity, Signer
    from executor.git.remote import Remote
    from executor.model.policy import Policy
    from executor.state.decide import Decision
    from executor.state.model import Attempt
    from executor.state.record import Record
    from executor.status.reader import Observer

__all__ = ["BARE", "DirectWorkflow", "Outside", "Plugins", "Redaction", "Session", "Workflow", "hold"]


_OUR_WORDS = frozenset(
    ("agent", "attempt", "base", "bound", "branch", "check_key", "commit", "failure", "level", "new", "old", "onto")
) | {"print", "result_key", "reviewer", "rule", "spec_key", "tip", "tree"}
"""Event fields with names, keys or words of the executor, which a similar secret value must not alter."""


class Redaction:
    """Removes secret values from everything that is stored; thread-safe."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secrets)
        self._redactor = Redactor(self._secrets) if self._secrets else None
        self._lock = threading.Lock()

    def redact(self, data: bytes) -> bytes:
        """Return the data with secret values redacted."""
        if self._redactor is None:
            return data
        with self._lock:
            return self._redactor.redact(data)

    def redact_value(self, value: Any) -> Any:
        """Redact every text inside a JSON value; keys and names of the executor remain."""
        if not self._secrets:
            return value
        if isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
            return self.redact(data).decode("utf-8", "surrogateescape")
        if isinstance(value, dict):
            return {key: item if key in _OUR_WORDS else self.redact_value(item) for key, item in value.items()}
        return [self.redact_value(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(eq=False)
class _RunState:
    """The state of a run while it lasts, and its listeners."""

    force: bool = False
    """Whether to ignore verdicts of earlier runs."""
    deadline: datetime | None = None
    """Nothing starts that is not expected to end before this time."""
    held: dict[str, Decision] = field(default_factory=dict)
    """Issues that this run held back although they are ready, with the reason as a decision."""
    paused: dict[str, str] = field(default_factory=dict)
    """Milestones in which this run starts nothing more, and why."""
    working: dict[str, float] = field(default_factory=dict)
    """Issues in progress, with their start times on the clock of `time.monotonic`."""
    halted: ExecutorError | None = None
    """Why nothing more starts, if the state store cannot be written."""
    git_killed: bool = False
    """Whether a git process of the executor was killed, which may have left locks behind."""
    said: list[str] = field(default_factory=list)
    """Lines that were printed before the tasks of this run began."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set once nothing more starts."""
    listeners: list[Callable[[str, Record], None]] = field(default_factory=list)
    """Called with every event after it is recorded, on the recording thread; must return quickly."""
    resting: list[Callable[[str, Decision], None]] = field(default_factory=list)
    """Called for every issue that ends in this run."""
    beginning: list[Callable[[str], None]] = field(default_factory=list)
    """Called for every issue that starts."""


class Workflow(Protocol):
    """Implements issues in steps."""

    def implement(self, issue: IssueRun) -> None:
        """Run the unfinished steps and build a candidate, or record why there is none.

        Raises:
            InterruptedRunError: the run is being stopped.
        """

    def settle(self, issue: IssueRun, attempt: Attempt) -> None:
        """Recover a multi-step attempt of a dead run: keep finished steps, then interrupt the attempt."""

    def forget(self, issue: IssueRun) -> None:
        """Delete the stored step results of a landed issue."""


class DirectWorkflow:
    """The workflow of repositories without steps."""

    def implement(self, issue: IssueRun) -> None:
        """Never called: no issue has steps."""
        raise NotImplementedError(str(issue.ref))

    def settle(self, issue: IssueRun, attempt: Attempt) -> None:
        """Never called: no issue has steps."""
        raise NotImplementedError(f"{issue.ref}, attempt {attempt.number}")

    def forget(self, issue: IssueRun) -> None:
        """Do nothing: no step results exist."""


@dataclass(frozen=True, slots=True)
class Plugins:
    """The plug-ins of the engine from other packages."""

    workflow: Workflow
    publisher: Publisher


BARE = Plugins(DirectWorkflow(), LocalPublisher())
"""Plug-ins without steps and without a remote."""


class Outside:
    """The adapters of a session; tests pass in-memory ones."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.identity: Identity = identity_of(project.repository)
        self.refs = Refs(project.repository, self.identity, lasting=True)
        self.checkouts = Checkouts(project.repository)

    def store(self, redact: Callable[[bytes], bytes], union: Sequence[str] = ()) -> Store:
        """The objects of the repository; `redact` goes over texts that are written, `union` are globs for merges."""
        inside = tuple(map(self._project.inside, union)) if self._project.prefix else union
        return Store(self._project.repository, self._project.cache / "_store", redact, inside)

    def journal(self, folder: Path, run: str) -> Journal:
        """Return the journal of a milestone."""
        return Journal.open(folder, run=run, now=now)

    def supervisor(self, lock: Path) -> Supervisor:
        """Return the supervisor of a milestone's children."""
        return Supervisor(lock)

    def pool(self, numbers: Path, folder: Path, keep: tuple[str, ...]) -> Pool:
        """Return the slots of a milestone."""
        return Pool(numbers, folder, keep, self._project.prefix)


class Session(_RunState):
    """The state shared by the milestones that one process runs. Use as a context manager."""

    def __init__(
        self, compiled: Compiled, run_id: str | None = None, outside: Outside | None = None, plugins: Plugins = BARE
    ) -> None:
        super().__init__()
        self.compiled = compiled
        self.plugins = plugins
        self.project: Project = compiled.project
        self.policy: Policy = compiled.policy
        prepare_cache(self.project)
        self.run_id = run_id or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
        self.outside = outside or Outside(self.project)
        self.identity = self.outside.identity
        self.refs = self.outside.refs
        self.verdicts = Verdicts(self.project.cache / "_verdicts", cache(self._shared_verdicts))
        self.checkouts = self.outside.checkouts
        self.known_secrets = secret_values(name for agent in self.policy.agents.values() for name in agent.env)
        """Name of a variable -> its value, for values that agents receive and that no result may contain."""
        self.secrets = secrets_of(name for agent in self.policy.agents.values() for name in agent.env)
        """Values that must not be stored: in logs, journal, reports, commits."""
        if self.plugins.publisher.token:
            self.secrets = (*self.secrets, self.plugins.publisher.token)
        self.redaction = Redaction(self.secrets)
        self.store = self.outside.store(self.redaction.redact, self.policy.landing.union)
        self.store.signer = cache(self._signer)
        self._remote: Remote | None = None
        self._remote_lock = threading.Lock()
        self.places = Places()
        """Places for agents and proofs; unlimited until the command sets the limit."""
        self.tell: Callable[[str, str, str], None] = _silent
        self._runs: dict[str, MilestoneRun] = {}
        self._observer: Observer | None = None

    def _signer(self) -> Signer | None:
        """The signer of commits and tags; None if none are signed."""
        if self.policy.limits.unsigned_landing == "allow":
            return None
        return signer_of(self.project.repository, self.identity)

    def _shared_verdicts(self) -> SharedVerdicts | None:
        """Verdicts of other clones; None if the rules share none."""
        rules = self.policy.verdicts
        if not rules.store:
            return None
        from executor.checks.shared import SharedVerdicts
        from executor.checks.verdict_stores import opened_store

        folder = self.project.cache / "_verdicts"
        return SharedVerdicts(
            rules, lambda: opened_store(rules, self.remote, self.store, self.identity), folder, self.verdicts
        )

    @property
    def observer(self) -> Observer:
        """Facts and decisions; collected on first use, after the locks are taken."""
        if self._observer is None:
            self._observer = observe(self.compiled, self.refs)
            self._observer.run_id = self.run_id
        return self._observer

    def decision(self, ref: str) -> Decision:
        """Return the decision on an issue that applies in this run."""
        return self.held.get(ref) or self.observer.decision(ref)

    def hold(self, ref: str, held: Decision | None) -> None:
        """Store the decision that holds an issue back in this run; None releases it."""
        if held is None:
            self.held.pop(ref, None)
        else:
            self.held[ref] = held

    def rested(self, ref: str, decision: Decision) -> None:
        """Notify the listeners that an issue has ended in this run."""
        for listener in self.resting:
            listener(ref, decision)

    @property
    def remote(self) -> Remote | None:
        """The remote to push branches to; None without one."""
        name = self.policy.forge.pushes_to
        if name is None:
            return None
        with self._remote_lock:
            if self._remote is None:
                from executor.git.remote import Remote

                self._remote = Remote(self.project.repository, name, self.plugins.publisher.token)
            return self._remote

    def push_through(self, remote: Remote) -> None:
        """Use a remote that moves leases with each push, instead of the plain one."""
        with self._remote_lock:
            self._remote = remote

    def enter(self, milestones: list[str]) -> None:
        """Take the locks of these milestones.

        Raises:
            BusyError: another run holds one of them; the message names it and the time.
            StateBrokenError: a journal is unusable.
        """
        for name in milestones:
            self._runs[name] = MilestoneRun(self, name, hold(self.project, name, self.run_id))

    def run_of(self, milestone: str) -> MilestoneRun:
        """Return the run of a milestone entered before."""
        return self._runs[milestone]

    def runs(self) -> list[MilestoneRun]:
        """All entered runs."""
        return list(self._runs.values())

    def stop(self, *, kill: bool = False) -> None:
        """Start nothing more and stop the children, gracefully or by kill; safe in a signal handler."""
        self.stopping.set()
        for run in self._runs.values():
            run.stop(kill=kill)

    def halt(self, error: ExecutorError) -> None:
        """Start nothing more because the state store is full or broken; running work may finish."""
        self.halted = self.halted or error
        self.stopping.set()

    def require_space(self) -> None:
        """Check the free space against the declared floor, or a twentieth of a small disk.

        Raises:
            StateFullError: too little space is free.
        """
        usage = shutil.disk_usage(self.project.cache)
        floor = min(self.policy.limits.disk_floor_bytes, usage.total // 20)
        if usage.free < floor:
            raise StateFullError(
                f"{usage.free // 2**20} MiB are free on the disk of {self.project.cache}, at least {floor // 2**20} "
                "are needed; nothing is lost; free some space and run again"
            )

    def close(self) -> None:
        """Release all resources."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
        self.store.close()
        self.refs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _silent(_word: str, _ref: str, _text: str) -> None:
    """A listener that does nothing."""


_LOOKS = 3  # tries; a probe holds the lock for less than a millisecond


def hold(project: Project, milestone: str, run_id: str) -> Held:
    """Take the lock of a milestone without waiting.

    Raises:
        BusyError: another process holds it; the message names the process and the time.
    """
    folder = project.state(milestone)
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder / "lock")
    if lock is None:
        raise BusyError(f"milestone {milestone} is already being run{_who(folder)}; nothing was done")
    lock.name_holder(folder, run_id, now())
    return lock


def _lock(path: Path) -> Held | None:
    """Take the lock unless a run holds it; a process that only probes it holds it briefly."""
    for _ in range(_LOOKS):
        lock = try_lock(path)
        if lock is not None:
            return lock
        time.sleep(0.005)
    return None


def _who(folder: Path) -> str:
    for _ in range(5):
        found = read_holder(folder)
        if found is not None:
            return f" by process {found.pid} on {found.host} since {local_time(found.since)}"
        time.sleep(0.02)
    return ""
