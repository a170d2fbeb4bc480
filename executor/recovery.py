"""Recovery: what a dead run left is used, kept or cleared, before anything new is begun. Nothing is paid for twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.adapters.left import scrub
from executor.adapters.processes import read_result
from executor.adapters.refs import Move
from executor.adapters.stale_locks import sweep
from executor.attempt import attempt_ref, keep_candidate, keep_interrupted
from executor.core.state import Attempt, AttemptState
from executor.observe import ACCEPTED, APPROVED, ATTEMPTS
from executor.work import RESULT, Failure, Work, taken

if TYPE_CHECKING:
    from executor.adapters.processes import Ended
    from executor.session import MilestoneRun

__all__ = ["recover"]


def recover(run: MilestoneRun) -> None:
    """Settle every attempt that has no end, and bring records and the user's checkouts up to what git says."""
    _sweep(run)
    for issue, state in list(run.view.states.items()):
        for attempt in list(state.attempts.values()):
            if attempt.state is AttemptState.STARTED:
                _settle(run, issue, attempt)
            elif attempt.state is AttemptState.BUILT:
                _make_sure(run, issue, attempt)
            landing = run.view.landings.get(issue)
            if attempt.state is AttemptState.BUILT and landing is not None and landing.commit == attempt.landing:
                run.record_landed(landing, attempt.number)
    run.session.checkouts.catch_up(run.view.branch, run.view.tip)


def _sweep(run: MilestoneRun) -> None:
    """Remove what a killed git left in the way of our refs; nobody else moves them while we hold the milestone."""
    names = (run.view.branch, f"{ATTEMPTS}/{run.name}/", f"{ACCEPTED}/{run.name}/", f"{APPROVED}/{run.name}/")
    for name in sweep(run.session.project.repository, names):
        run.warn(f"removed {name}, which a git process that was killed had left behind")


def _make_sure(run: MilestoneRun, issue: str, attempt: Attempt) -> None:
    """A result that has not landed: after a restart of the machine the disk may have lost it, or somebody its ref."""
    name = attempt_ref(run.name, issue, attempt.number)
    refs, store = run.session.refs, run.session.store
    there = refs.tip(name) == attempt.commit
    if there and attempt.boot == run.journal.boot:
        return
    if attempt.landing and refs.is_ancestor(attempt.landing, run.view.tip):
        return
    if not store.whole(attempt.commit, attempt.base or f"{attempt.commit}^"):
        run.warn(f"{run.name}/{issue}: the result of attempt {attempt.number} is gone from the disk; it is made again")
        run.record("attempt-lost", issue, attempt=attempt.number, commit=attempt.commit)
    elif refs.tip(name) is None and refs.move([Move(name, None, attempt.commit)], "restore"):
        run.warn(f"{run.name}/{issue}: {name} was gone and is restored")


def _settle(run: MilestoneRun, issue: str, attempt: Attempt) -> None:
    """An attempt without an end: its result is used if its agent had ended well, else what there is of it is kept."""
    ref = f"{run.name}/{issue}"
    if attempt.tree and _may_go_on(run, ref, attempt):
        run.messages.append(f"{ref}: attempt {attempt.number} had ended when the run before died; its result is used")
        keep_candidate(_work(run, ref, attempt), attempt.tree, attempt.seconds)
        return
    workspace = run.pool.left_by(issue, attempt.number)
    if workspace is None or ref not in run.session.compiled.plan.nodes:
        keep_interrupted(run, issue, attempt, "")
        return
    _ = run.supervisor  # it starts only when every process of the dead run is gone
    tree = taken(run, workspace, run.issue(ref))
    scrub(run.session.project.logs(run.name, issue, attempt.number) / "out", run.session.redact)
    ended = _ended(run, ref, attempt)
    if ended is not None and isinstance(tree, str):
        run.messages.append(f"{ref}: attempt {attempt.number} had ended when the run before died; its result is used")
        keep_candidate(_work(run, ref, attempt), tree, round(ended.seconds, 3))
    else:
        keep_interrupted(run, issue, attempt, "" if isinstance(tree, Failure) else tree)


def _may_go_on(run: MilestoneRun, ref: str, attempt: Attempt) -> bool:
    """Whether the tree that its agent left is in git as a whole and still what is wanted."""
    if ref not in run.session.compiled.plan.nodes or attempt.spec_key != run.session.observer.spec_key(ref):
        return False
    return run.session.store.whole(attempt.tree, f"{attempt.base}^{{tree}}")


def _ended(run: MilestoneRun, ref: str, attempt: Attempt) -> Ended | None:
    """How the agent ended, if it ended well, at the present spec, and without a restart of the machine since.

    After a restart the files may be older than the record of the agent's end.
    """
    if attempt.spec_key != run.session.observer.spec_key(ref) or attempt.boot != run.journal.boot:
        return None
    ended = read_result(run.session.project.logs(run.name, run.issue(ref).id, attempt.number) / RESULT)
    return ended if ended is not None and ended.ok else None


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
        agent=run.session.policy.agent_for(issue),
        logs=logs,
        brief=logs / "brief.md",
        out=logs / "out",
    )
