"""Recovery: what a dead run left is used, kept or cleared, before anything new is begun. Nothing is paid for twice.

After a restart of the machine: what the disk may have lost is put aside before anything is built on it.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING

from executor.engine.agent_work import RESULT, Failure, Work, taken
from executor.engine.attempt import ask, keep_candidate, keep_interrupted
from executor.engine.issue import IssueRun
from executor.engine.milestone_branch import catch_up_checkouts, settle_tip
from executor.errors import ExecutorError, GitKilledError
from executor.git.refs import ACCEPTED, ANSWERS, APPROVED, ATTEMPTS, HANDOFFS, STEPS, Move, attempt_ref
from executor.git.repair import set_aside, sweep
from executor.process.files import sweep_temporary
from executor.process.runner import read_result
from executor.process.untrusted import question_in, scrub
from executor.state.decide import Status
from executor.state.events import AttemptLost, Spend
from executor.state.model import Attempt, AttemptState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session
    from executor.git.trailers import Landing
    from executor.process.runner import Ended

__all__ = ["agent_end", "look_after_restart", "mending", "recover"]


def recover(run: MilestoneRun) -> None:
    """Settle every attempt that has no end, and bring records and the user's checkouts up to what git says."""
    _sweep(run)
    _sweep_files(run)
    for issue, state in list(run.view.states.items()):
        for attempt in list(state.attempts.values()):
            landing = run.view.landings.get(issue)
            unended = attempt.state in {AttemptState.STARTED, AttemptState.BUILT}
            if unended and landing is not None and _is(landing, attempt):
                _finish(run, landing, attempt)
            elif attempt.state is AttemptState.STARTED:
                _settle(run, issue, attempt)
            elif attempt.state is AttemptState.BUILT:
                _make_sure(run, issue, attempt)
    for issue in [issue for issue in run.view.steps if _landed(run, issue)]:
        run.session.plugins.workflow.forget(IssueRun(run, f"{run.name}/{issue}"))
    catch_up_checkouts(run)
    settle_tip(run)
    if run.view.note:
        run.warn(f"{run.name}: {run.view.note}")


@contextmanager
def mending(session: Session) -> Iterator[None]:
    """Recover once more at the end if a git of ours was killed: the next run may have nothing to do and not look."""
    try:
        yield
    except GitKilledError:
        session.git_killed = True
        raise
    finally:
        if session.git_killed:
            session.store.close()  # as long as a git is at work, no lock is taken for left behind
            for run in session.runs():
                with suppress(ExecutorError):
                    recover(run)


def _sweep(run: MilestoneRun) -> None:
    """Remove what a killed git left in the way of our refs; nobody else moves them while we hold the milestone."""
    kept = (ATTEMPTS, ACCEPTED, APPROVED, STEPS, HANDOFFS, ANSWERS)
    names = (run.view.branch, *(f"{prefix}/{run.name}/" for prefix in kept))
    for name in sweep(run.session.project.repository, names, objects=_died(run)):
        run.warn(f"removed {name}, which a git process that was killed had left behind")


def _make_sure(run: MilestoneRun, issue: str, attempt: Attempt) -> None:
    """A result that has not landed: after a restart of the machine the disk may have lost it, or somebody its ref."""
    name = attempt_ref(run.name, issue, attempt.number)
    refs, store = run.session.refs, run.session.store
    there = refs.tip(name) == attempt.commit
    if there and attempt.boot == run.journal.boot:
        return
    if attempt.landing and refs.contains(attempt.landing, run.view.tip):
        return
    if not store.whole(attempt.commit, attempt.base or f"{attempt.commit}^"):
        run.warn(f"{run.name}/{issue}: the result of attempt {attempt.number} is gone from the disk; it is made again")
        run.record(AttemptLost(attempt=attempt.number, commit=attempt.commit), issue)
    elif refs.tip(name) is None and refs.move([Move(name, None, attempt.commit)], "restore"):
        run.warn(f"{run.name}/{issue}: {name} was gone and is restored")


def _died(run: MilestoneRun) -> bool:
    """Whether the run before, or a git of this one, did not come to its end."""
    before = next((event for event in reversed(run.journal.events) if event.run != run.session.run_id), None)
    return run.session.git_killed or before is None or before.kind != "run-ended"


def _sweep_files(run: MilestoneRun) -> None:
    """Remove the halves of files that a dead process did not come to put in their places."""
    cache = run.session.project.cache
    folders = [cache, cache / "_board", cache / "_store", cache / "_store" / "info", run.folder]
    if _died(run):
        verdicts = cache / "_verdicts"
        folders += [run.folder / "receipts", run.folder / "specs", *(run.folder / "workspaces").glob("*")]
        folders += [
            verdicts / "flaky",
            verdicts / "proofs",
            *verdicts.glob("reports/*"),
            *verdicts.glob("[0-9a-f][0-9a-f]"),
        ]
    for folder in folders:
        sweep_temporary(folder)


def _is(landing: Landing, attempt: Attempt) -> bool:
    """Whether a landing is what became of an attempt: the commit that it was to be, or the same change again."""
    told = landing.trailers
    same = (told.revision, told.spec_key, told.result_key) == (attempt.revision, attempt.spec_key, attempt.result_key)
    return landing.commit == attempt.landing or same


def _finish(run: MilestoneRun, landing: Landing, attempt: Attempt) -> None:
    """Do what was left undone after the branch had moved: git may have been killed before it removed the attempt."""
    name = attempt_ref(run.name, landing.trailers.issue, attempt.number)
    refs = run.session.refs
    if refs.tip(name) == attempt.commit:
        refs.move([Move(name, attempt.commit, None)], f"attempt {attempt.number} has landed")
    run.record_landed(landing, attempt.number)


def _settle(run: MilestoneRun, issue: str, attempt: Attempt) -> None:
    """An attempt without an end: what its agent had ended with, a result or a question, counts; the rest is kept."""
    ref = f"{run.name}/{issue}"
    if attempt.tree and _may_go_on(run, ref, attempt):
        run.messages.append(f"{ref}: attempt {attempt.number} had ended when the run before died; its result is used")
        keep_candidate(_work(run, ref, attempt), attempt.tree, attempt.seconds)
        return
    if ref in run.session.compiled.plan.nodes and IssueRun(run, ref).flow.steps:
        run.session.plugins.workflow.settle(IssueRun(run, ref), attempt)
        return
    workspace = run.pool.left_by(issue, attempt.number)
    if workspace is None or ref not in run.session.compiled.plan.nodes:
        keep_interrupted(run, issue, attempt, "", _cost(run, ref, attempt))
        return
    _ = run.supervisor  # it starts only when every process of the dead run is gone
    if attempt.boot != run.journal.boot and attempt.base:
        workspace.mend(run.session.store, f"{attempt.base}^{{tree}}")
    tree = taken(run, workspace, run.issue(ref))
    scrub(run.session.project.logs(run.name, issue, attempt.number) / "out", run.session.redaction.redact)
    kept = "" if isinstance(tree, Failure) else tree
    ended = agent_end(run, ref, attempt)
    question = question_in(_work(run, ref, attempt).out, run.session.secrets) if ended is not None else ""
    if question:
        run.messages.append(f"{ref}: attempt {attempt.number} had ended when the run before died; it asks a person")
        ask(run, ref, attempt.number, question, kept, _cost(run, ref, attempt))
    elif ended is not None and ended.ok and kept:
        run.messages.append(f"{ref}: attempt {attempt.number} had ended when the run before died; its result is used")
        keep_candidate(_work(run, ref, attempt), kept, round(ended.seconds, 3))
    else:
        keep_interrupted(run, issue, attempt, kept, _cost(run, ref, attempt))


def _cost(run: MilestoneRun, ref: str, attempt: Attempt) -> Spend:
    """Money and tokens that its agent reported before it was cut off."""
    known = ref in run.session.compiled.plan.nodes and attempt.agent in run.session.policy.agents
    return _work(run, ref, attempt).cost() if known and attempt.base else Spend()


def _may_go_on(run: MilestoneRun, ref: str, attempt: Attempt) -> bool:
    """Whether the tree that its agent left is in git as a whole and still what is wanted."""
    if ref not in run.session.compiled.plan.nodes or attempt.spec_key != run.session.observer.spec_key(ref):
        return False
    return run.session.store.whole(attempt.tree, f"{attempt.base}^{{tree}}")


def _landed(run: MilestoneRun, issue: str) -> bool:
    """Whether what was built of an issue is what has landed, so that its steps have served."""
    ref = f"{run.name}/{issue}"
    return ref in run.session.compiled.plan.nodes and run.decision(ref).status is Status.LANDED


def agent_end(run: MilestoneRun, ref: str, attempt: Attempt, step: str = "") -> Ended | None:
    """How the agent ended, if it did so before its run died, at the present spec, and without a restart since.

    After a restart the files may be older than the record of the agent's end.
    """
    if attempt.spec_key != run.session.observer.spec_key(ref) or attempt.boot != run.journal.boot:
        return None
    logs = run.session.project.logs(run.name, run.issue(ref).id, attempt.number)
    ended = read_result((logs / "steps" / step if step else logs) / RESULT)
    return ended if ended is not None and ended.reason not in {"stopped", "lost"} else None


def _work(run: MilestoneRun, ref: str, attempt: Attempt) -> Work:
    issue = run.issue(ref)
    logs = run.session.project.logs(run.name, issue.id, attempt.number)
    return Work(
        run=run,
        ref=ref,
        number=attempt.number,
        revision=attempt.revision,
        base=attempt.base,
        base_tree=run.session.store.tree_of(attempt.base),
        agent=run.session.policy.agents.get(attempt.agent) or run.session.policy.agent_for(issue),
        logs=logs,
        brief=logs / "brief.md",
        out=logs / "out",
    )


_LOST_WITHIN = 3600.0
"""Seconds before the last record in which something may have been written that never reached the disk."""


def look_after_restart(run: MilestoneRun) -> None:
    """If the machine was started again since the last record, the disk may have lost what was written last."""
    last = run.journal.events[-1] if run.journal.events else None
    if last is None or last.boot == run.journal.boot:
        return
    since = datetime.fromisoformat(last.at).timestamp() - _LOST_WITHIN
    session = run.session
    aside = session.project.cache / "_damaged"
    damaged = set_aside(session.project.repository.objects, since, aside)
    if damaged:
        run.warn(f"{len(damaged)} git objects that a power cut had damaged were moved to {aside}")
    for ref, commit in session.refs.unreadable(f"{ATTEMPTS}/{run.name}/"):
        if session.refs.move([Move(ref, commit, None)], "its commit was lost"):
            run.warn(f"{ref} is removed: the disk has lost its commit")
