"""One milestone in progress: its lock, journal, branch, workspaces and children. It makes no decisions.

The run's own records: who started it on what, which run was cut off before it, how it ended and what comes next.
"""

from __future__ import annotations

import getpass
import os
import platform
import threading
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from executor.agents.brief import keep_spec
from executor.agents.command import AgentCaller
from executor.checks.run import CheckRunner
from executor.checks.setup import TreeSetup
from executor.checks.verdicts import keep_checks
from executor.engine.candidate import write_receipt
from executor.engine.landing.land import Merger
from executor.engine.landing.merge_queue import MergeQueue
from executor.engine.landing.milestone_branch import Branch
from executor.engine.recover import Recovery
from executor.errors import ExecutorError
from executor.git.history import landings_in
from executor.git.refs import locks_on, own_refs
from executor.git.trailers import UNPROVED
from executor.git.worktrees import ImportLimits
from executor.model.fingerprint import IssueRef
from executor.process.files import sweep_temporary
from executor.process.locks import Held, Resources
from executor.sandbox.policy import Sandboxing, unsandboxed_warning
from executor.state.decide import Act, Status
from executor.state.events import (
    BranchCreated,
    BranchIntended,
    BranchMoved,
    Event,
    Landed,
    RunEnded,
    RunStarted,
    encode,
)
from executor.state.record import How, RunRecord, run_records
from executor.status.milestone_status import PAUSED, pause_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.config.project import Project
    from executor.engine.session import Session
    from executor.git.objects import Store
    from executor.git.trailers import Landing
    from executor.model.agent_profile import Agent
    from executor.model.milestone import Issue, Milestone
    from executor.model.policy import Policy
    from executor.process.runner import Supervisor
    from executor.state.budget import Allowance
    from executor.state.decide import Decision, Facts
    from executor.state.record import Record
    from executor.status.load import MilestoneView

__all__ = ["MilestoneRun"]

_NEXT = 5
"""Maximum number of next issues in the record of a run's end."""


class MilestoneRun:
    """One milestone being run by this process; the only writer of its journal, branch and receipts."""

    def __init__(self, session: Session, name: str, lock: Held) -> None:
        self.session = session
        self.name = name
        self.folder: Path = session.project.state(name)
        self._lock = lock
        self.journal = session.outside.journal(self.folder, session.run_id)
        self.landing_lock = threading.RLock()
        """Held while a thread moves the tip of the milestone."""
        self.resources = Resources()
        self._issue_locks: dict[str, threading.RLock] = {}
        self._pull_lock = threading.Lock()
        self._last_pull = 0
        self._supervisor: Supervisor | None = None
        self._supervisor_lock = threading.Lock()
        kept = session.policy.setup.kept
        self.pool = session.outside.pool(session.project.cache / "_slots", self.folder / "workspaces", kept)
        self.pool.shares = not session.policy.setup.steps
        self.messages: list[str] = list(self.journal.warnings)
        if self.journal.events and self.journal.events[-1].boot != self.journal.boot:
            Recovery(self).look_after_restart()
        self.excludes = self._excludes()
        self.sandboxing = Sandboxing(self)
        self.setup = TreeSetup(self, self.sandboxing, lambda: (session.remote, self.view.tip))
        self.checks = CheckRunner(self, self.sandboxing, self.setup, session.verdicts, force=session.force)
        self.agents = AgentCaller(self, self.sandboxing)
        self.merger = Merger(self)
        self.queue = MergeQueue(self)

    @property
    def run_id(self) -> str:
        """Identifies this run."""
        return self.session.run_id

    @property
    def project(self) -> Project:
        """Paths of the repository, rules and state."""
        return self.session.project

    @property
    def policy(self) -> Policy:
        """The rules."""
        return self.session.policy

    @property
    def store(self) -> Store:
        """Object store of the repository."""
        return self.session.store

    @property
    def stopping(self) -> threading.Event:
        """Set when the run is being stopped."""
        return self.session.stopping

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must not appear in any log or file."""
        return self.session.secrets

    @cached_property
    def sandboxed_agents(self) -> list[Agent]:
        """Agents of the milestone's issues that require a sandbox, each once; every check of every issue asks."""
        agents = {agent.name: agent for issue in self.milestone.issues for agent in self.policy.agents_for(issue)}
        return [agents[name] for name in sorted(agents) if agents[name].isolation != "none"]

    def redact(self, data: bytes) -> bytes:
        """Redact secrets in data."""
        return self.session.redaction.redact(data)

    def tell(self, word: str, ref: str, text: str) -> None:
        """Print a line for the user."""
        self.session.tell(word, ref, text)

    @property
    def accounts(self) -> Allowance:
        """Suspended accounts."""
        return self.session.observer.allowance

    def require_space(self) -> None:
        """Check the free disk space."""
        self.session.require_space()

    def warn_unsandboxed(self, problem: str) -> None:
        """Warn once per session that agents work without a sandbox."""
        runs = self.session.runs()
        wanting = [agent for run in runs for agent in run.sandboxed_agents]
        lands = self.policy.limits.unsandboxed_landing == "allow"
        message = unsandboxed_warning(wanting, problem, lands=lands)
        if not any(message in run.messages for run in runs):
            self.warn(message)
            self.tell("warning", self.name, message)

    @property
    def milestone(self) -> Milestone:
        """Its declaration."""
        return self.session.compiled.loaded.milestones[self.name]

    @property
    def view(self) -> MilestoneView:
        """Its recorded state."""
        return self.session.observer.views[self.name]

    @property
    def supervisor(self) -> Supervisor:
        """The parent of all child processes; starts with the first child, once those of a dead run have ended."""
        with self._supervisor_lock:
            if self._supervisor is None:
                self._supervisor = self.session.outside.supervisor(self.folder / "children.lock")
                self._supervisor.__enter__()
            return self._supervisor

    @property
    def import_limits(self) -> ImportLimits:
        """Size limits of one result."""
        limits = self.session.policy.limits
        return ImportLimits(limits.import_files, limits.import_file_bytes, limits.import_bytes)

    def warn(self, message: str) -> None:
        """Print a message once at the end of the run."""
        if message not in self.messages:
            self.messages.append(message)

    def issue_lock(self, ref: str) -> threading.RLock:
        """Return the lock of one issue, for its parallel steps."""
        return self._issue_locks.setdefault(ref, threading.RLock())

    def issue(self, ref: str) -> Issue:
        """Return the declaration of an issue."""
        return self.session.compiled.plan.nodes[ref].issue

    def facts(self, ref: str) -> Facts:
        """Return the current facts of an issue."""
        return self.session.observer.facts(ref)

    def decision(self, ref: str) -> Decision:
        """Return the current decision on an issue."""
        return self.session.observer.decision(ref)

    def record(self, event: Event, issue: str = "") -> Record:
        """Append an event to the journal, durably and redacted, then apply it to the fold."""
        data = self.session.redaction.redact_value(encode(event))
        record = self.journal.append(event.KIND, issue, **data)
        self.session.observer.apply(self.name, record)
        for listener in self.session.listeners:
            listener(self.name, record)
        return record

    @property
    def early_folders(self) -> tuple[Path, ...]:
        """Folders in which a run replaces files before its first record."""
        cache = self.project.cache
        return (cache, cache / "_board", cache / "_store", cache / "_store" / "info", self.folder)

    def recover(self) -> None:
        """Settle what dead runs and people left; a milestone without records, attempts and locks needs nothing."""
        view, repository = self.view, self.project.repository
        recorded = any(event.run != self.run_id for event in self.journal.events)
        traces = recorded or self.session.git_killed or view.states or view.steps or view.ahead or view.note
        if traces or locks_on(repository.common_dir, own_refs(self.name, view.branch)):
            Recovery(self).recover()
        else:
            for folder in self.early_folders:
                sweep_temporary(folder)
            self.pool.settled()

    def look_for_pause(self) -> None:
        """Check whether a person has paused or unpaused the milestone."""
        name = f"{PAUSED}/{self.name}"
        found = self.session.refs.kept(name) if self.session.refs.tip(name) is not None else ()
        self.session.observer.set_pause(self.name, next(map(pause_in, found), None))

    def ensure_branch(self) -> str:
        """Return the tip of the milestone branch; a missing branch is created from the base.

        While nothing has landed on the branch, it follows its base.

        Raises:
            PersonNeededError: the branch was deleted or renamed during the run.
        """
        with self.landing_lock:
            view = self.view
            if view.exists:
                self.refresh_tip()
            if not view.landings or view.merged:
                self._start_from_base()
            if not view.branch_at:
                self._warn_of_unreleased()
            if view.branch_at != view.tip and not view.ahead:
                kept = Branch(self).record_branch()
                self.record(BranchIntended(branch=view.branch, base=view.tip))
                if not Branch(self).advance(view.tip, f"milestone {self.name}: start", [kept] if kept else []):
                    raise ExecutorError(f"branch {self.milestone.branch} moved while this run was starting; run again")
                self.record(BranchCreated(branch=view.branch, base=view.tip))
            return view.tip

    def _start_from_base(self) -> None:
        """Start from the current base commit if the branch has no own commits."""
        view, refs = self.view, self.session.refs
        base = refs.tip(view.base) or view.base_tip
        if view.ahead or base == view.tip:
            return
        if view.tip == view.base_tip or refs.contains(view.tip, base):
            view.tip = view.base_tip = base

    def _warn_of_unreleased(self) -> None:
        """Warn about needed milestones that are complete but perhaps not merged into the base yet."""
        views = self.session.observer.views
        base = self.view.base.removeprefix("refs/heads/")
        for need in self.milestone.needs:
            if views[need].landings and not views[need].release_current:
                self.warn(
                    f"{self.name} starts from {base}, where {need} is not released yet; release it first, or declare "
                    f'base = "{views[need].milestone.branch}", if {self.name} depends on the landings of {need}'
                )

    def refresh_tip(self) -> str:
        """Read the current tip of the milestone, which others may have moved; counts landings found on it.

        Raises:
            PersonNeededError: the branch was deleted or renamed during the run.
        """
        tip = Branch(self).look_again()
        if tip != self.view.tip:
            self.took_over(tip)
        return tip

    def took_over(self, tip: str) -> None:
        """Take in the landings that other processes put on the branch."""
        view = self.view
        fresh = landings_in(self.session.refs.records(tip, since=(view.tip,)), self.name)
        self.record(BranchMoved(old=view.tip, new=tip))
        view.tip = tip
        for landing in fresh:
            self.take(replace(landing, position=view.count))

    def take(self, landing: Landing) -> None:
        """Take a new landing on the branch into account."""
        self.view.add(landing)
        self.session.observer.changed(str(IssueRef(self.name, landing.trailers.issue)))

    def write_receipt(self, landing: Landing) -> None:
        """Write the doit target of a landed issue."""
        state = self.view.states.get(landing.trailers.issue)
        made = [item for item in state.attempts.values() if item.revision == landing.trailers.revision] if state else []
        write_receipt(self.session.project, self.session.store, landing, made[-1].deviations if made else ())

    def keep_spec(self, ref: str) -> None:
        """Store the spec text in progress, so that later changes can be shown line by line."""
        observer = self.session.observer
        keep_spec(self.folder, observer.spec_key(ref), observer.spec(ref))
        if (proofs := observer.proofs(ref)).items:
            keep_checks(self.folder, proofs)

    def record_landed(self, landing: Landing, attempt: int, *, proved: bool = True) -> None:
        """Journal a landing and the results it builds on; marks a landing that was not proved in its final form."""
        issue = landing.trailers.issue
        facts = self.facts(str(IssueRef(self.name, issue)))
        event = Landed(
            attempt=attempt,
            commit=landing.commit,
            revision=landing.trailers.revision,
            result_key=landing.trailers.result_key,
            check_key=landing.trailers.check_key if proved else UNPROVED,
            needs={need.ref: need.result_key for need in facts.needs},
        )
        self.record(event, issue)

    def pull_number(self, issue: str, revision: int) -> int:
        """Return the local pull request number of an issue's revision, existing or next; 0 on other forges."""
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
        """Write missing receipts of these issues, if they have landed."""
        for issue in issues:
            landing = self.view.landings.get(issue)
            if landing is not None and not self.session.project.receipt(self.name, issue).exists():
                self.write_receipt(landing)

    def begin(self, asked: Sequence[str], workers: int) -> None:
        """Record the start of the run, with the state of the user's checkout."""
        git = self.session.checkouts.state(self.project.repository.top)
        event = RunStarted(
            host=platform.node(), user=_user(), pid=os.getpid(), git=git, asked=tuple(asked), workers=workers
        )
        self.record(event)

    def end(self, code: int, how: How, why: str = "") -> None:
        """Record the end of the run; on a full disk it uses the space reserved for this."""
        event = RunEnded(code=code, how=str(how), why=why, following=tuple(self._following()))
        try:
            self.record(event)
        except ExecutorError:
            with suppress(ExecutorError):
                self.journal.append_last(event.KIND, "", **encode(event))
        refs = [str(IssueRef(self.name, issue.id)) for issue in self.milestone.issues]
        landed = (self.decision(ref).status is Status.LANDED for ref in refs)
        self.setup.tidy(self.view.states, self.view.landings)
        if how is How.DONE and all(landed):
            self.pool.discard_all()

    def cut_off(self) -> RunRecord | None:
        """Return the latest earlier run of this milestone if it was cut off."""
        earlier = [record for record in run_records(self.journal.events) if record.run != self.run_id]
        return earlier[-1] if earlier and earlier[-1].cut_off else None

    def _following(self) -> list[str]:
        """Return the first issues that the next run would continue with."""
        plan = self.session.compiled.plan
        own = (ref for ref in plan.order if plan.nodes[ref].milestone == self.name)
        return list(islice((ref for ref in own if self.decision(ref).act is not Act.REST), _NEXT))

    def stop(self, *, kill: bool) -> None:
        """Stop the children."""
        if self._supervisor is not None:
            if kill:
                self._supervisor.kill()
            else:
                self._supervisor.stop()

    def close(self) -> None:
        """Release the lock, the journal, the slots and the children."""
        if self._supervisor is not None:
            self._supervisor.close()
        self.pool.close()
        self.journal.close()
        self._lock.release()

    def _excludes(self) -> Path:
        """Write the ignore rules of the executor and of the user's exclude file into one file."""
        path = self.folder / "excludes"
        own = self.session.project.repository.common_dir / "info" / "exclude"
        text = own.read_bytes() if own.is_file() else b""
        policy = self.session.policy
        inside = self.session.project.inside
        kept = [f"/{inside(rule[1:])}" if rule.startswith("/") else rule for rule in policy.setup.kept]
        rules = (*policy.limits.ignore, *kept, *(f"/{inside(glob)}" for glob in policy.setup.include))
        path.write_bytes(text + b"\n" + "".join(f"{rule}\n" for rule in rules).encode())
        return path


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
