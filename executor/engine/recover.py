"""Recovery: uses, keeps or removes the results of a dead run before new work starts. No attempt is paid for twice.

After a restart of the machine: data that the disk may have lost is set aside before anything builds on it.

Reapply reverted work: the same change becomes a new attempt without another call of an agent.

If the change no longer applies, only the request is recorded, and the next run implements the issue again.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from executor.engine.agent_work import RESULT, Failure, Work, tree_left
from executor.engine.attempt import Attempts, keep_candidate
from executor.engine.issue import IssueRun
from executor.engine.landing.milestone_branch import Branch
from executor.environments.environment import FOLDER as ENVIRONMENTS
from executor.errors import ExecutorError
from executor.git.diff import parse_diff
from executor.git.refs import ATTEMPTS, REVIVED, Move, attempt_ref, own_refs
from executor.git.repair import set_aside, sweep
from executor.git.trailers import encode, landing_message
from executor.model.milestone import commit_token, described, header
from executor.process.files import question_in, scrub, sweep_temporary
from executor.process.runner import read_result
from executor.state.decide import Status
from executor.state.events import Spend
from executor.state.issue_events import AttemptLost
from executor.state.marks import RevivedTrailers
from executor.state.model import Attempt, AttemptState

if TYPE_CHECKING:
    from executor.engine.milestone_run import MilestoneRun
    from executor.git.command import Identity
    from executor.git.objects import Store
    from executor.git.refs import Refs
    from executor.git.trailers import Landing
    from executor.process.runner import Ended
    from executor.status.load import MilestoneView
    from executor.status.reader import Observer

__all__ = ["Recovery", "revive"]


class Recovery:
    """Settles what a dead run of one milestone left behind."""

    def __init__(self, run: MilestoneRun) -> None:
        self._run = run

    def recover(self) -> None:
        """Settle every attempt without an end, and update records and the user's checkouts to match git."""
        self._sweep()
        self._sweep_files()
        for issue, state in list(self._run.view.states.items()):
            for attempt in list(state.attempts.values()):
                landing = self._run.view.landings.get(issue)
                unended = attempt.state in {AttemptState.STARTED, AttemptState.BUILT}
                if unended and landing is not None and _is(landing, attempt):
                    self._finish(landing, attempt)
                elif attempt.state is AttemptState.STARTED:
                    self._settle(issue, attempt)
                elif attempt.state is AttemptState.BUILT:
                    self._make_sure(issue, attempt)
        self._run.pool.settled()
        for issue in [issue for issue in self._run.view.steps if self._landed(issue)]:
            self._run.session.plugins.workflow.forget(IssueRun(self._run, f"{self._run.name}/{issue}"))
        Branch(self._run).catch_up_checkouts()
        Branch(self._run).settle_tip()
        if self._run.view.note:
            self._run.warn(f"{self._run.name}: {self._run.view.note}")

    def _sweep(self) -> None:
        """Remove lock files of a killed git from our refs; we hold the milestone, so no other process moves them."""
        names = own_refs(self._run.name, self._run.view.branch)
        for name in sweep(self._run.session.project.repository, names, objects=self._died()):
            self._run.warn(f"removed {name}, left by a killed git process")

    def _make_sure(self, issue: str, attempt: Attempt) -> None:
        """Restore the ref of a result that has not landed, or record that the disk lost it."""
        name = attempt_ref(self._run.name, issue, attempt.number)
        refs, store = self._run.session.refs, self._run.session.store
        there = refs.tip(name) == attempt.commit
        if there and attempt.boot == self._run.journal.boot:
            return
        if attempt.landing and refs.contains(attempt.landing, self._run.view.tip):
            return
        if not store.whole(attempt.commit, attempt.base or f"{attempt.commit}^"):
            self._run.warn(
                f"{self._run.name}/{issue}: the result of attempt {attempt.number} is gone from the disk; "
                "it is implemented again"
            )
            self._run.record(AttemptLost(attempt=attempt.number, commit=attempt.commit), issue)
        elif refs.tip(name) is None and refs.move([Move(name, None, attempt.commit)], "restore"):
            self._run.warn(f"{self._run.name}/{issue}: {name} was missing and has been restored")

    def _died(self) -> bool:
        """Return whether the previous run, or a git process of this run, was killed."""
        before = next(
            (event for event in reversed(self._run.journal.events) if event.run != self._run.session.run_id), None
        )
        return self._run.session.git_killed or before is None or before.kind != "run-ended"

    def _sweep_files(self) -> None:
        """Remove temporary files of dead processes."""
        cache = self._run.session.project.cache
        folders = [*self._run.early_folders]
        if self._died():
            verdicts = cache / "_verdicts"
            folders += [
                *(self._run.folder / name for name in ("checks", "receipts", "specs")),
                *(self._run.folder / "workspaces").glob("*"),
                *(self._run.folder / "steps").glob("*/*"),
                *(cache / ENVIRONMENTS).glob("*-*"),
                cache / "_forge",
            ]
            folders += [
                verdicts / "flaky",
                verdicts / "proofs",
                *verdicts.glob("reports/*"),
                *verdicts.glob("[0-9a-f]"),
            ]
        for folder in folders:
            sweep_temporary(folder)

    def _finish(self, landing: Landing, attempt: Attempt) -> None:
        """Finish a landing whose branch had already moved: remove the attempt's ref and record the landing."""
        name = attempt_ref(self._run.name, landing.trailers.issue, attempt.number)
        refs = self._run.session.refs
        if refs.tip(name) == attempt.commit:
            refs.move([Move(name, attempt.commit, None)], f"attempt {attempt.number} has landed")
        self._run.record_landed(landing, attempt.number)

    def _settle(self, issue: str, attempt: Attempt) -> None:
        """End an attempt of a dead run: a result or a question of its agent counts, anything else is only kept."""
        ref = f"{self._run.name}/{issue}"
        if self._goes_on_elsewhere(ref, attempt):
            return
        if attempt.tree and self._may_go_on(ref, attempt):
            self._run.messages.append(
                f"{ref}: attempt {attempt.number} had ended when the previous run died; its result is used"
            )
            keep_candidate(self._work(ref, attempt), attempt.tree, attempt.seconds)
            return
        if ref in self._run.session.compiled.plan.nodes and IssueRun(self._run, ref).has_steps:
            self._run.session.plugins.workflow.settle(IssueRun(self._run, ref), attempt)
            return
        workspace = self._run.pool.left_by(issue, attempt.number)
        if workspace is None or ref not in self._run.session.compiled.plan.nodes:
            Attempts(IssueRun(self._run, ref)).keep_interrupted(attempt, "", self._cost(ref, attempt))
            return
        _ = self._run.supervisor  # it starts only when every process of the dead run is gone
        if attempt.boot != self._run.journal.boot and attempt.base:
            workspace.mend(self._run.session.store, f"{attempt.base}^{{tree}}")
        tree = tree_left(IssueRun(self._run, ref), workspace)
        scrub(
            self._run.session.project.logs(self._run.name, issue, attempt.number) / "out",
            self._run.session.redaction.redact,
        )
        kept = "" if isinstance(tree, Failure) else tree
        ended = self.agent_end(ref, attempt)
        question = question_in(self._work(ref, attempt).out, self._run.session.secrets) if ended is not None else ""
        if question:
            self._run.messages.append(
                f"{ref}: attempt {attempt.number} had ended when the previous run died; it has a question for a person"
            )
            Attempts(IssueRun(self._run, ref)).ask(attempt.number, question, kept, self._cost(ref, attempt))
        elif ended is not None and ended.ok and kept:
            self._run.messages.append(
                f"{ref}: attempt {attempt.number} had ended when the previous run died; its result is used"
            )
            keep_candidate(self._work(ref, attempt), kept, round(ended.seconds, 3))
        else:
            Attempts(IssueRun(self._run, ref)).keep_interrupted(attempt, kept, self._cost(ref, attempt))

    def _goes_on_elsewhere(self, ref: str, attempt: Attempt) -> bool:
        """Return whether workers continue an attempt that is still wanted; withdraw its order if not."""
        session = self._run.session
        node = session.compiled.plan.nodes.get(ref)
        agent = session.policy.agents.get(attempt.agent)
        runner = session.policy.runner_of(node.issue, agent) if node is not None else None
        wanted = node is not None and attempt.spec_key == session.observer.spec_key(ref)
        if runner is not None and runner.claimed and wanted and not attempt.tree:
            self._run.messages.append(f"{ref}: attempt {attempt.number} continues on runner {runner.name}")
            return True
        known = session.policy.runners.get(attempt.runner)
        if known is not None and known.claimed:
            issue = ref.partition("/")[2]
            self._run.setup.hosts.desk(self._run, known, session.remote).withdraw(issue, attempt.number)
        return False

    def _cost(self, ref: str, attempt: Attempt) -> Spend:
        """Money and tokens that the agent reported before it was interrupted."""
        known = ref in self._run.session.compiled.plan.nodes and attempt.agent in self._run.session.policy.agents
        return self._work(ref, attempt).cost() if known and attempt.base else Spend()

    def _may_go_on(self, ref: str, attempt: Attempt) -> bool:
        """Return whether the agent's tree is complete in git and still matches the spec."""
        if ref not in self._run.session.compiled.plan.nodes or attempt.spec_key != self._run.session.observer.spec_key(
            ref
        ):
            return False
        return self._run.session.store.whole(attempt.tree, f"{attempt.base}^{{tree}}")

    def _landed(self, issue: str) -> bool:
        """Return whether the built result of an issue has landed, so that its steps are no longer needed."""
        ref = f"{self._run.name}/{issue}"
        return ref in self._run.session.compiled.plan.nodes and self._run.decision(ref).status is Status.LANDED

    def agent_end(self, ref: str, attempt: Attempt, step: str = "") -> Ended | None:
        """Return how the agent ended, if it ended before its run died, at the current spec and since the last boot.

        After a reboot the files may be older than the record of the agent's end.
        """
        if attempt.spec_key != self._run.session.observer.spec_key(ref) or attempt.boot != self._run.journal.boot:
            return None
        logs = self._run.session.project.logs(self._run.name, self._run.issue(ref).id, attempt.number)
        ended = read_result((logs / "steps" / step if step else logs) / RESULT)
        return ended if ended is not None and ended.reason not in {"stopped", "lost"} else None

    def _work(self, ref: str, attempt: Attempt) -> Work:
        issue = self._run.issue(ref)
        logs = self._run.session.project.logs(self._run.name, issue.id, attempt.number)
        return Work(
            issue=IssueRun(self._run, ref),
            number=attempt.number,
            revision=attempt.revision,
            base=attempt.base,
            base_tree=self._run.session.store.tree_of(attempt.base),
            agent=self._run.session.policy.agents.get(attempt.agent) or self._run.session.policy.agent_for(issue),
            logs=logs,
            brief=logs / "brief.md",
            out=logs / "out",
        )

    def look_after_restart(self) -> None:
        """After a reboot since the last record, set aside damaged git objects and remove refs with lost commits.

        The journal has a record of before the reboot.
        """
        last = self._run.journal.events[-1]
        since = datetime.fromisoformat(last.at).timestamp() - _LOST_WITHIN
        session = self._run.session
        aside = session.project.cache / "_damaged"
        damaged = set_aside(session.project.repository.objects, since, aside)
        if damaged:
            self._run.warn(f"{len(damaged)} git objects, damaged by a power cut, were moved to {aside}")
        for ref, commit in session.refs.unreadable(f"{ATTEMPTS}/{self._run.name}/"):
            if session.refs.move([Move(ref, commit, None)], "its commit was lost"):
                self._run.warn(f"{ref} was removed: its commit is lost")


def _is(landing: Landing, attempt: Attempt) -> bool:
    """Return whether a landing is the result of an attempt: the planned commit, or the same change again."""
    landed = landing.trailers
    same = (landed.revision, landed.spec_key, landed.result_key) == (
        attempt.revision,
        attempt.spec_key,
        attempt.result_key,
    )
    return landing.commit == attempt.landing or same


_LOST_WITHIN = 3600.0
"""Seconds before the last record in which writes may not have reached the disk."""


def revive(observer: Observer, refs: Refs, store: Store, who: Identity, ref: str) -> bool:
    """Record that a person wants reverted work again; returns whether its change now waits as an attempt.

    Args:
        observer: the observer that saw the revert.
        refs: refs of the repository.
        store: object store of the repository.
        who: the person.
        ref: qualified id of an issue whose landing was reverted.

    Raises:
        ExecutorError: another process moved one of the refs at the same time.
    """
    node = observer.compiled.plan.nodes[ref]
    view, issue = observer.views[node.milestone], node.issue
    landing, revert = view.landings[issue.id], view.reverted[issue.id]
    known = tuple(sorted({*view.revived.get(issue.id, ()), revert.commit}))
    text = f"{ref} is wanted again\n\n{encode(RevivedTrailers(ref, known))}\n"
    mark = f"{REVIVED}/{ref}"
    moves = [Move(mark, refs.tip(mark), store.commit(store.files_tree({}), [], text, who, int(time.time())))]
    start = view.base_tip if view.merged else view.tip
    tree = _again(store, who, _landed_as(view, landing, refs), start, refs.time_of(start))
    if tree and tree != store.tree_of(start):
        change = parse_diff(store.diff(start, tree))
        revision = landing.trailers.revision + 1
        trailers = replace(landing.trailers, revision=revision, result_key=change.key, check_key="", pull=0)
        note = f"The change that {revert.commit[:10]} had reverted."
        rules = observer.compiled.policy.forge
        token = commit_token(issue, node.milestone, rules.commit_types)
        first = header(token, described(issue.title, lower=rules.lower_case))
        message = landing_message(first, change, trailers, title=issue.title, number=issue.number, note=note)
        number = view.states[issue.id].last() + 1 if issue.id in view.states else 1
        made = store.commit(tree, [start], message, who, refs.time_of(start))
        moves.append(Move(attempt_ref(node.milestone, issue.id, number), None, made))
    if not refs.move(moves, f"{ref} is wanted again"):
        raise ExecutorError(f"{mark} was changed by somebody else at the same moment; try again")
    return len(moves) > 1


def _landed_as(view: MilestoneView, landing: Landing, refs: Refs) -> str:
    """Return the commit with the change of this issue alone; a squashed commit also contains other issues."""
    state = view.states.get(landing.trailers.issue)
    landed = [item for item in state.attempts.values() if item.state is AttemptState.LANDED] if state else []
    own = [item.commit for item in landed if item.revision == landing.trailers.revision and refs.has(item.commit)]
    return own[-1] if own else landing.commit


def _again(store: Store, who: Identity, commit: str, start: str, when: int) -> str:
    """Return the tree of `start` with the change of a commit applied again; empty on a conflict."""
    parent = store.parent_of(commit)
    ours = store.commit(store.tree_of(start), [parent], "start\n", who, when)
    merged = store.merge(ours, commit)
    return "" if merged.conflicts else merged.tree
