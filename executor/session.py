"""A session: the milestones that this process runs, each with its lock, journal, branch, workspaces and children.

One session per process; it is opened before the first task runs and closed after the last. Nothing in it decides.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from executor.adapters.agents import secrets_of
from executor.adapters.damage import set_aside
from executor.adapters.files import write_atomic, write_json
from executor.adapters.holder import read_holder, remove_holder, write_holder
from executor.adapters.locks import Held, try_lock
from executor.adapters.refs import Move
from executor.adapters.standings import pause_of
from executor.adapters.verdicts import Verdicts
from executor.adapters.workspaces import ImportLimits
from executor.core.change import parse_diff
from executor.core.message import UNPROVED
from executor.core.redact import Redactor
from executor.core.report import success_report
from executor.errors import BusyError, ExecutorError, StateFullError
from executor.observe import ATTEMPTS, observe
from executor.outside import Outside, now
from executor.project import prepare_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from executor.adapters.forge import Forge
    from executor.adapters.processes import Supervisor
    from executor.adapters.remote import Remote
    from executor.adapters.store import Store
    from executor.core.decide import Decision, Facts
    from executor.core.declaration import Issue, Milestone
    from executor.core.event import Event
    from executor.core.message import Landing
    from executor.core.policy import Policy
    from executor.core.release import Outcome
    from executor.observe import MilestoneView, Observer
    from executor.project import Compiled, Project

__all__ = ["MilestoneRun", "Session", "hold", "write_receipt"]


_LOOKS = 3


_OUR_WORDS = frozenset(
    ("agent", "attempt", "base", "bound", "branch", "check_key", "commit", "failure", "level", "new", "old", "onto")
) | {"print", "result_key", "reviewer", "rule", "spec_key", "tip", "tree"}
"""Fields of events with a name, key or word of the executor's own, which a value that looks alike must not alter."""


class Session:
    """What is shared by the milestones that one process runs. Use as a context manager."""

    def __init__(self, compiled: Compiled, run_id: str | None = None, outside: Outside | None = None) -> None:
        self.compiled = compiled
        self.project: Project = compiled.project
        self.policy: Policy = compiled.policy
        prepare_cache(self.project)
        self.run_id = run_id or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
        self.outside = outside or Outside(self.project)
        self.identity = self.outside.identity
        self.refs = self.outside.refs
        self.verdicts = Verdicts(self.project.cache / "_verdicts")
        self.checkouts = self.outside.checkouts
        self.secrets = secrets_of(name for agent in self.policy.agents.values() for name in agent.env)
        """Values that nothing of ours may keep: logs, journal, reports, commits."""
        self._redacting = threading.Lock()
        self.store = self.outside.store(self.redact)
        self.force = False
        """Whether verdicts of earlier runs are not used."""
        self._forge: Forge | None = None
        self._token = ""
        if self.policy.forge.kind == "github":
            from executor.adapters.forge_token import find_token

            self._token = find_token(self.policy.forge.base_url)
            self.secrets = (*self.secrets, self._token)
        self._redactor = Redactor(self.secrets)
        self._remote: Remote | None = None
        self._forge_lock = threading.Lock()
        self.deadline: datetime | None = None
        """Nothing is begun that is not expected to end before this moment."""
        self.held: dict[str, Decision] = {}
        """Issues that this run did not begin although it could have, with what is said of them."""
        self.paused: dict[str, str] = {}
        """Milestones for which nothing more is begun in this run, and why."""
        self.working: dict[str, float] = {}
        """Issues that are being worked on, and since when on the clock of `time.monotonic`."""
        self.listeners: list[Callable[[MilestoneRun, Event], None]] = []
        """Told of every event after it was recorded, on the thread that recorded it; they must not take long."""
        self.resting: list[Callable[[str, Decision], None]] = []
        """Told of every issue that comes to rest."""
        self.halted: ExecutorError | None = None
        """Why nothing more is started, if the state store cannot take it."""
        self.git_killed = False
        """Whether a git of ours was killed, which may have left locks behind."""
        self.releases: dict[str, Outcome] = {}
        """What the releases of this run came to, by milestone."""
        self.said: list[str] = []
        """What was printed of this run before its tasks began."""
        self.stopping = threading.Event()
        self.tell: Callable[[str, str, str], None] = _silent
        self._runs: dict[str, MilestoneRun] = {}
        self._observer: Observer | None = None

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

    def rested(self, ref: str, decision: Decision) -> None:
        """An issue has come to rest; says so to everybody who listens."""
        for told in self.resting:
            told(ref, decision)

    @property
    def remote(self) -> Remote | None:
        """Where branches are pushed to, if anywhere."""
        name = self.policy.forge.pushes_to
        if name is None:
            return None
        with self._forge_lock:
            if self._remote is None:
                from executor.adapters.remote import Remote

                self._remote = Remote(self.project.repository, name, self._token)
            return self._remote

    @property
    def merges_by_pull(self) -> bool:
        """Whether a forge merges pull requests; the local one has none for issues."""
        return self.policy.forge.kind != "local"

    @property
    def forge(self) -> Forge:
        """Where pull requests live.

        Raises:
            UsageError: what the forge needs is not installed or not declared.
            ForgeRefusedError: there is no token for it.
        """
        remote = self.remote
        with self._forge_lock:
            if self._forge is None:
                self._forge = self._github(remote) if self.policy.forge.kind == "github" else self._local(remote)
            return self._forge

    def _local(self, remote: Remote | None) -> Forge:
        from executor.adapters.forge_local import LocalForge

        return LocalForge(self.refs, self.store, self.identity, remote)

    def _github(self, remote: Remote | None) -> Forge:
        from executor.adapters.forge_github import connect

        address = remote.url if remote is not None else ""
        return connect(self.policy.forge, address, self._token, self.project.cache / "_forge")

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

    def redact(self, data: bytes) -> bytes:
        """The same without the values that nothing of ours may keep."""
        with self._redacting:
            return self._redactor.redact(data)

    def redacted(self, value: Any) -> Any:
        """The same for every text inside a JSON value; names and keys that are the executor's own stay."""
        if not self.secrets:
            return value
        if isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
            return self.redact(data).decode("utf-8", "surrogateescape")
        if isinstance(value, dict):
            return {key: item if key in _OUR_WORDS else self.redacted(item) for key, item in value.items()}
        return [self.redacted(item) for item in value] if isinstance(value, list | tuple) else value

    def halt(self, error: ExecutorError) -> None:
        """Start nothing more, because the state store is full or broken; what runs may end."""
        self.halted = self.halted or error
        self.stopping.set()

    def require_space(self) -> None:
        """Make sure that there is room to work: the declared floor, or a twentieth of a small disk.

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
        """Give everything back."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MilestoneRun:
    """One milestone being run by this process; the only writer of its journal, branch and receipts."""

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self.name = name
        self.folder: Path = session.project.state(name)
        self._lock = hold(session.project, name, session.run_id)
        self.journal = session.outside.journal(self.folder, session.run_id)
        self.landing_lock = threading.Lock()
        self.resources = _Resources()
        self._issue_locks: dict[str, threading.RLock] = {}
        self._branch_lock = threading.Lock()
        self._pull_lock = threading.Lock()
        self._last_pull = 0
        self._supervisor: Supervisor | None = None
        self._supervisor_lock = threading.Lock()
        kept = session.policy.setup.kept
        self.pool = session.outside.pool(session.project.cache / "_slots", self.folder / "workspaces", kept)
        self.messages: list[str] = list(self.journal.warnings)
        self._look_after_restart()
        self.excludes = self._excludes()

    @property
    def milestone(self) -> Milestone:
        """Its declaration."""
        return self.session.compiled.loaded.milestones[self.name]

    @property
    def view(self) -> MilestoneView:
        """What is known of it."""
        return self.session.observer.views[self.name]

    @property
    def supervisor(self) -> Supervisor:
        """The parent of every child process; started with the first one, after those of a dead run are gone."""
        with self._supervisor_lock:
            if self._supervisor is None:
                self._supervisor = self.session.outside.supervisor(self.folder / "children.lock")
                self._supervisor.__enter__()
            return self._supervisor

    @property
    def import_limits(self) -> ImportLimits:
        """How much one result may be."""
        limits = self.session.policy.limits
        return ImportLimits(limits.import_files, limits.import_file_bytes, limits.import_bytes)

    def warn(self, message: str) -> None:
        """Say something once at the end of the run."""
        if message not in self.messages:
            self.messages.append(message)

    def issue_lock(self, ref: str) -> threading.RLock:
        """The lock of one issue, for what its steps do side by side."""
        return self._issue_locks.setdefault(ref, threading.RLock())

    def issue(self, ref: str) -> Issue:
        """An issue's declaration."""
        return self.session.compiled.plan.nodes[ref].issue

    def facts(self, ref: str) -> Facts:
        """Facts of an issue now."""
        return self.session.observer.facts(ref)

    def decision(self, ref: str) -> Decision:
        """Decision on an issue now."""
        return self.session.observer.decision(ref)

    def record(self, kind: str, issue: str = "", **data: Any) -> Event:
        """Append to the journal, durably, then take it into the fold."""
        event = self.journal.append(kind, issue, **self.session.redacted(data))
        self.session.observer.apply(self.name, event)
        for listener in self.session.listeners:
            listener(self, event)
        return event

    def look_for_pause(self) -> None:
        """Whether a person has paused the milestone meanwhile, or lets it go on."""
        self.session.observer.paused(self.name, pause_of(self.session.refs, self.name))

    def ensure_branch(self) -> str:
        """The tip of the milestone branch, which is created from the base when it is missing."""
        with self._branch_lock:
            view = self.view
            if not view.exists:
                self._warn_of_unreleased()
                self.record("branch-intended", branch=view.branch, base=view.tip)
                if not self.session.refs.move([Move(view.branch, None, view.tip)], f"milestone {self.name}: start"):
                    raise ExecutorError(
                        f"branch {self.milestone.branch} appeared while this run was starting; run again to use it"
                    )
                view.exists = True
                self.record("branch-created", branch=view.branch, base=view.tip)
            return view.tip

    def _warn_of_unreleased(self) -> None:
        """Milestones that this one needs are complete, but their work need not be in the base that it starts from."""
        views = self.session.observer.views
        base = self.view.base.removeprefix("refs/heads/")
        for need in self.milestone.needs:
            if views[need].landings and not views[need].release_current:
                self.warn(
                    f"{self.name} starts from {base}, where {need} is not released yet; release it first, or declare "
                    f'base = "{views[need].milestone.branch}", if {self.name} builds on what {need} landed'
                )

    def refresh_tip(self) -> str:
        """Look where the branch is now, for when somebody else has moved it; landings found on the way count."""
        view = self.view
        tip = self.session.refs.tip(view.branch)
        if tip is None:
            raise ExecutorError(
                f"branch {self.milestone.branch} was deleted during the run; nothing more is landed on it"
            )
        if tip != view.tip:
            fresh = self.session.refs.landings(tip, self.name, since=view.tip)
            self.record("branch-moved", old=view.tip, new=tip)
            view.tip = tip
            for landing in fresh:
                self.take(replace(landing, position=view.count))
        return tip

    def take(self, landing: Landing) -> None:
        """A new landing on the branch: from now on it is what has landed."""
        self.view.add(landing)
        self.session.observer.changed(f"{self.name}/{landing.trailers.issue}")

    def write_receipt(self, landing: Landing) -> None:
        """The doit target of a landed issue."""
        state = self.view.states.get(landing.trailers.issue)
        made = [item for item in state.attempts.values() if item.revision == landing.trailers.revision] if state else []
        write_receipt(self.session.project, self.session.store, landing, made[-1].deviations if made else ())

    def keep_spec(self, ref: str) -> None:
        """Keep the text that is being built, so that a later change can be shown line by line."""
        path = self.folder / "specs" / f"{self.session.observer.spec_key(ref).removeprefix('sha256:')}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_json(path, self.session.observer.spec(ref), durable=False)

    def record_landed(self, landing: Landing, attempt: int, *, proved: bool = True) -> None:
        """Journal a landing, with what it was proved against; what has not been proved as it landed is told so."""
        issue = landing.trailers.issue
        facts = self.facts(f"{self.name}/{issue}")
        self.record(
            "landed",
            issue,
            attempt=attempt,
            commit=landing.commit,
            revision=landing.trailers.revision,
            result_key=landing.trailers.result_key,
            check_key=landing.trailers.check_key if proved else UNPROVED,
            needs={need.ref: need.result_key for need in facts.needs},
        )

    def pull_number(self, issue: str, revision: int) -> int:
        """Number of the local pull request of an issue's revision: the one it has, or the next; 0 on other forges."""
        if self.session.policy.forge.kind != "local":
            return 0
        with self._pull_lock:
            states = self.view.states
            attempts = states[issue].attempts.values() if issue in states else ()
            known = [item.pull for item in attempts if item.pull and item.revision == revision]
            if known:
                return known[-1]
            taken = [item.pull for state in list(states.values()) for item in list(state.attempts.values())]
            taken += [landing.trailers.pull for landing in list(self.view.landings.values())]
            self._last_pull = max([self._last_pull, *taken]) + 1
            return self._last_pull

    def ensure_receipts(self, issues: list[str]) -> None:
        """Write the receipts of these issues, as far as they have landed."""
        for issue in issues:
            landing = self.view.landings.get(issue)
            if landing is not None and not self.session.project.receipt(self.name, issue).exists():
                self.write_receipt(landing)

    def stop(self, *, kill: bool) -> None:
        """End the children."""
        if self._supervisor is not None:
            if kill:
                self._supervisor.kill()
            else:
                self._supervisor.stop()

    def close(self) -> None:
        """Give lock, journal, slots and children back."""
        if self._supervisor is not None:
            self._supervisor.close()
        self.pool.close()
        self.journal.close()
        remove_holder(self.folder)
        self._lock.release()

    def _look_after_restart(self) -> None:
        """If the machine was started again since the last record, the disk may have lost what was written last."""
        last = self.journal.events[-1] if self.journal.events else None
        if last is None or last.boot == self.journal.boot:
            return
        since = datetime.fromisoformat(last.at).timestamp() - _LOST_WITHIN
        session = self.session
        aside = session.project.cache / "_damaged"
        damaged = set_aside(session.project.repository.objects, since, aside)
        if damaged:
            self.warn(f"{len(damaged)} git objects that a power cut had damaged were moved to {aside}")
        for ref, commit in session.refs.unreadable(f"{ATTEMPTS}/{self.name}/"):
            if session.refs.move([Move(ref, commit, None)], "its commit was lost"):
                self.warn(f"{ref} is removed: the disk has lost its commit")

    def _excludes(self) -> Path:
        """Ignore rules of the executor and of the user's own exclude file, as one file."""
        path = self.folder / "excludes"
        own = self.session.project.repository.common_dir / "info" / "exclude"
        text = own.read_bytes() if own.is_file() else b""
        policy = self.session.policy
        rules = (*policy.limits.ignore, *policy.setup.kept, *(f"/{glob}" for glob in policy.setup.include))
        path.write_bytes(text + b"\n" + "".join(f"{rule}\n" for rule in rules).encode())
        return path


def write_receipt(project: Project, store: Store, landing: Landing, deviations: Sequence[str] = ()) -> None:
    """Write the receipt of a landing, for doit and for people; all but the deviations is in the commit."""
    trailers = landing.trailers
    change = parse_diff(store.diff(f"{landing.commit}^", landing.commit))
    receipt = {
        "milestone": trailers.milestone,
        "issue": trailers.issue,
        "commit": landing.commit,
        "revision": trailers.revision,
        "spec_key": trailers.spec_key,
        "result_key": trailers.result_key,
        "check_key": trailers.check_key,
        "report": success_report(change, deviations),
    }
    path = project.receipt(trailers.milestone, trailers.issue)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = store.redact((json.dumps(receipt, indent=1, sort_keys=True) + "\n").encode())
    if not path.exists() or path.read_bytes() != data:
        write_atomic(path, data)


_LOST_WITHIN = 3600.0
"""Seconds before the last record in which something may have been written that never reached the disk."""


def _silent(_word: str, _ref: str, _text: str) -> None:
    """Nobody listens."""


class _Resources:
    """Named resources that running issues do not share."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[str] = set()

    def acquire(self, names: tuple[str, ...]) -> None:
        """Wait until all of them are free and take them together."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy.isdisjoint(names))
            self._busy.update(names)

    def release(self, names: tuple[str, ...]) -> None:
        """Give them back."""
        with self._changed:
            self._busy.difference_update(names)
            self._changed.notify_all()


def hold(project: Project, milestone: str, run_id: str) -> Held:
    """Take the lock of a milestone, at once or not at all.

    Raises:
        BusyError: somebody has it; says who, since when.
    """
    folder = project.state(milestone)
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder / "lock")
    if lock is None:
        raise BusyError(f"milestone {milestone} is already being run{_who(folder)}; nothing was done here")
    write_holder(folder, run_id, now())
    return lock


def _lock(path: Path) -> Held | None:
    """The lock, unless a run has it; who only looks whether one does holds it for a moment."""
    for _ in range(_LOOKS):
        lock = try_lock(path)
        if lock is not None:
            return lock
        time.sleep(0.005)
    return None


def _who(folder: Path) -> str:
    for _ in range(5):
        told = read_holder(folder)
        if told is not None:
            return f" by process {told.pid} on {told.host} since {told.since}"
        time.sleep(0.02)
    return ""
