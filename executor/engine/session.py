"""Redaction of secret values in bytes and in events.

A session: what the milestones that this process runs have in common.

One session per process; it is opened before the first task runs and closed after the last. Nothing in it decides.
"""

from __future__ import annotations

import os
import shutil
import threading
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from executor.agents.command import secret_values, secrets_of
from executor.checks.verdicts import Verdicts
from executor.config.project import prepare_cache
from executor.engine.milestone_run import MilestoneRun
from executor.engine.ports import BARE, Outside
from executor.errors import StateFullError
from executor.git.command import signer_of
from executor.process.locks import Places
from executor.process.redact import Redactor
from executor.status.reader import observe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from executor.config.project import Compiled, Project
    from executor.engine.ports import Plugins
    from executor.errors import ExecutorError
    from executor.git.command import Signer
    from executor.git.remote import Remote
    from executor.model.policy import Policy
    from executor.state.decide import Decision
    from executor.state.record import Record
    from executor.status.reader import Observer

__all__ = ["Redaction", "Session"]


_OUR_WORDS = frozenset(
    ("agent", "attempt", "base", "bound", "branch", "check_key", "commit", "failure", "level", "new", "old", "onto")
) | {"print", "result_key", "reviewer", "rule", "spec_key", "tip", "tree"}
"""Fields of events with a name, key or word of the executor's own, which a value that looks alike must not alter."""


class Redaction:
    """Takes the values of secrets out of whatever is kept; may be used by several threads."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secrets)
        self._redactor = Redactor(self._secrets)
        self._lock = threading.Lock()

    def redact(self, data: bytes) -> bytes:
        """Return the data with secret values redacted."""
        with self._lock:
            return self._redactor.redact(data)

    def redact_value(self, value: Any) -> Any:
        """Redact every text inside a JSON value; the executor's own names and keys stay."""
        if not self._secrets:
            return value
        if isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
            return self.redact(data).decode("utf-8", "surrogateescape")
        if isinstance(value, dict):
            return {key: item if key in _OUR_WORDS else self.redact_value(item) for key, item in value.items()}
        return [self.redact_value(item) for item in value] if isinstance(value, list | tuple) else value


class Session:
    """The state shared by the milestones that one process runs. Use as a context manager."""

    def __init__(
        self, compiled: Compiled, run_id: str | None = None, outside: Outside | None = None, plugins: Plugins = BARE
    ) -> None:
        self.compiled = compiled
        self.plugins = plugins
        self.project: Project = compiled.project
        self.policy: Policy = compiled.policy
        prepare_cache(self.project)
        self.run_id = run_id or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
        self.outside = outside or Outside(self.project)
        self.identity = self.outside.identity
        self.refs = self.outside.refs
        self.verdicts = Verdicts(self.project.cache / "_verdicts")
        self.checkouts = self.outside.checkouts
        self.known_secrets = secret_values(name for agent in self.policy.agents.values() for name in agent.env)
        """Name of a variable -> its value, for those that agents are given and that no result may hold."""
        self.secrets = secrets_of(name for agent in self.policy.agents.values() for name in agent.env)
        """Values that nothing of ours may keep: logs, journal, reports, commits."""
        self.force = False
        """Whether verdicts of earlier runs are not used."""
        if self.plugins.publisher.token:
            self.secrets = (*self.secrets, self.plugins.publisher.token)
        self.redaction = Redaction(self.secrets)
        self.store = self.outside.store(self.redaction.redact, self.policy.landing.union)
        self.store.signer = cache(self._signer)
        self._remote: Remote | None = None
        self._remote_lock = threading.Lock()
        self.deadline: datetime | None = None
        """Nothing is begun that is not expected to end before this moment."""
        self.held: dict[str, Decision] = {}
        """Issues that this run did not begin although it could have, with what is said of them."""
        self.paused: dict[str, str] = {}
        """Milestones for which nothing more is begun in this run, and why."""
        self.working: dict[str, float] = {}
        """Issues that are being worked on, and since when on the clock of `time.monotonic`."""
        self.listeners: list[Callable[[str, Record], None]] = []
        """Told of every event after it was recorded, on the thread that recorded it; they must not take long."""
        self.resting: list[Callable[[str, Decision], None]] = []
        """Told of every issue that comes to rest."""
        self.beginning: list[Callable[[str], None]] = []
        """Told of every issue that is begun."""
        self.places = Places()
        """Where agents and proofs work; without a limit until the command says how many there are."""
        self.halted: ExecutorError | None = None
        """Why nothing more is started, if the state store cannot take it."""
        self.git_killed = False
        """Whether a git of ours was killed, which may have left locks behind."""
        self.said: list[str] = []
        """What was printed of this run before its tasks began."""
        self.stopping = threading.Event()
        self.tell: Callable[[str, str, str], None] = _silent
        self._runs: dict[str, MilestoneRun] = {}
        self._observer: Observer | None = None

    def _signer(self) -> Signer | None:
        """What signs commits and tags; None where none are to be signed."""
        if self.policy.limits.unsigned_landing == "allow":
            return None
        return signer_of(self.project.repository, self.identity)

    @property
    def observer(self) -> Observer:
        """Facts and decisions; gathered at first use, after the locks are held."""
        if self._observer is None:
            self._observer = observe(self.compiled, self.refs)
            self._observer.run_id = self.run_id
        return self._observer

    def decision(self, ref: str) -> Decision:
        """Where an issue is, as far as this run goes with it."""
        return self.held.get(ref) or self.observer.decision(ref)

    def hold(self, ref: str, held: Decision | None) -> None:
        """Keep the decision that holds an issue back in this run; None: it may go on."""
        if held is None:
            self.held.pop(ref, None)
        else:
            self.held[ref] = held

    def rested(self, ref: str, decision: Decision) -> None:
        """Notify the listeners that an issue has ended in this run."""
        for told in self.resting:
            told(ref, decision)

    @property
    def remote(self) -> Remote | None:
        """Where branches are pushed to, if anywhere."""
        name = self.policy.forge.pushes_to
        if name is None:
            return None
        with self._remote_lock:
            if self._remote is None:
                from executor.git.remote import Remote

                self._remote = Remote(self.project.repository, name, self.plugins.publisher.token)
            return self._remote

    def enter(self, milestones: list[str]) -> None:
        """Take the locks of these milestones.

        Raises:
            BusyError: another run holds one of them; says who, since when.
            StateBrokenError: a journal cannot be used.
        """
        for name in milestones:
            self._runs[name] = MilestoneRun(self, name)

    def run_of(self, milestone: str) -> MilestoneRun:
        """The run of a milestone entered before."""
        return self._runs[milestone]

    def runs(self) -> list[MilestoneRun]:
        """Every run entered."""
        return list(self._runs.values())

    def stop(self, *, kill: bool = False) -> None:
        """Start nothing more and end the children, softly or at once; safe to call from a signal handler."""
        self.stopping.set()
        for run in self._runs.values():
            run.stop(kill=kill)

    def halt(self, error: ExecutorError) -> None:
        """Start nothing more, because the state store is full or broken; running work may finish."""
        self.halted = self.halted or error
        self.stopping.set()

    def require_space(self) -> None:
        """Check the free space: the declared floor, or a twentieth of a small disk.

        Raises:
            StateFullError: there is less.
        """
        usage = shutil.disk_usage(self.project.cache)
        floor = min(self.policy.limits.disk_floor_bytes, usage.total // 20)
        if usage.free < floor:
            raise StateFullError(
                f"{usage.free // 2**20} MiB are free on the disk of {self.project.cache}, at least {floor // 2**20} "
                "are needed to work; nothing is lost, free some space and run again"
            )

    def close(self) -> None:
        """Release everything."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _silent(_word: str, _ref: str, _text: str) -> None:
    """A listener that does nothing."""
