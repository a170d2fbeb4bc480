"""One milestone being run: its lock, journal, branch, workspaces and children. Nothing in it decides."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from executor.adapters.holder import remove_holder
from executor.adapters.refs import Move
from executor.adapters.standings import pause_of
from executor.adapters.workspaces import ImportLimits
from executor.core.message import UNPROVED
from executor.errors import ExecutorError
from executor.exclusive import Resources
from executor.milestone_lock import hold
from executor.receipts import write_receipt
from executor.restart import look_after_restart
from executor.spec_archive import keep_spec

if TYPE_CHECKING:
    from pathlib import Path

    from executor.adapters.processes import Supervisor
    from executor.core.decide import Decision, Facts
    from executor.core.declaration import Issue, Milestone
    from executor.core.event import Event
    from executor.core.message import Landing
    from executor.session import Session
    from executor.views import MilestoneView

__all__ = ["MilestoneRun"]


class MilestoneRun:
    """One milestone being run by this process; the only writer of its journal, branch and receipts."""

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self.name = name
        self.folder: Path = session.project.state(name)
        self._lock = hold(session.project, name, session.run_id)
        self.journal = session.outside.journal(self.folder, session.run_id)
        self.landing_lock = threading.Lock()
        self.resources = Resources()
        self._issue_locks: dict[str, threading.RLock] = {}
        self._branch_lock = threading.Lock()
        self._pull_lock = threading.Lock()
        self._last_pull = 0
        self._supervisor: Supervisor | None = None
        self._supervisor_lock = threading.Lock()
        kept = session.policy.setup.kept
        self.pool = session.outside.pool(session.project.cache / "_slots", self.folder / "workspaces", kept)
        self.messages: list[str] = list(self.journal.warnings)
        look_after_restart(self)
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
        event = self.journal.append(kind, issue, **self.session.redaction.redact_value(data))
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
        observer = self.session.observer
        keep_spec(self.folder, observer.spec_key(ref), observer.spec(ref))

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

    def _excludes(self) -> Path:
        """Ignore rules of the executor and of the user's own exclude file, as one file."""
        path = self.folder / "excludes"
        own = self.session.project.repository.common_dir / "info" / "exclude"
        text = own.read_bytes() if own.is_file() else b""
        policy = self.session.policy
        rules = (*policy.limits.ignore, *policy.setup.kept, *(f"/{glob}" for glob in policy.setup.include))
        path.write_bytes(text + b"\n" + "".join(f"{rule}\n" for rule in rules).encode())
        return path
