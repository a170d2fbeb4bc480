"""The milestone branch here and on the remote: the remote's is the one that counts, ours follows it.

What is on the remote's branch is taken over by fast-forward; a branch that is only here is pushed; where both have
commits of their own, a person decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.adapters.refs import Move
from executor.core.message import UNPROVED
from executor.core.state import AttemptState
from executor.errors import ForgeRefusedError, ForgeUnavailableError, GitError
from executor.ref_names import REMOTE, attempt_ref

if TYPE_CHECKING:
    from executor.adapters.remote import Remote
    from executor.core.message import Landing
    from executor.core.state import Attempt
    from executor.milestone_run import MilestoneRun

__all__ = ["catch_up", "pushed", "seen_on_remote", "settle_landed", "tip_to_build_on"]


def tip_to_build_on(run: MilestoneRun) -> str:
    """The tip of the milestone branch as it is now, on the remote if there is one."""
    if run.session.remote is None:
        return run.ensure_branch()
    with run.landing_lock:
        return catch_up(run)


def catch_up(run: MilestoneRun) -> str:
    """Bring branch and remote together and return the tip; for a caller that holds the landing lock.

    Raises:
        ForgeUnavailableError: the remote cannot be reached.
        ForgeRefusedError: the remote refuses, or both have commits of their own.
    """
    remote = run.session.remote
    if remote is None:
        return run.ensure_branch()
    view, refs = run.view, run.session.refs
    there = remote.tips(view.branch, view.base)
    theirs, ours = there.get(view.branch), refs.tip(view.branch)
    if theirs is None and ours is None:
        _start_from(run, remote, there.get(view.base))
    if theirs is None:
        tip = run.ensure_branch() if ours is None else run.refresh_tip()
        pushed(run, remote, None, tip)
    elif theirs != ours:
        remote.fetch(view.branch)
        if ours is None or refs.contains(ours, theirs):
            _follow(run, ours, theirs)
        elif refs.contains(theirs, ours):
            run.refresh_tip()
            pushed(run, remote, theirs, ours)
        else:
            raise ForgeRefusedError(
                f"{run.milestone.branch} has commits of its own here ({ours[:10]}) and on {remote.name} "
                f"({theirs[:10]}); bring them together, for example `git rebase {theirs[:10]} "
                f"{run.milestone.branch}`, then run again"
            )
    else:
        run.refresh_tip()
    seen_on_remote(run)
    settle_landed(run)
    return run.view.tip


def pushed(run: MilestoneRun, remote: Remote, old: str | None, new: str) -> None:
    """Push the milestone branch itself, where nothing else could do it."""
    done = remote.push([Move(run.view.branch, old, new)])
    if done.moved:
        raise ForgeUnavailableError(f"{run.milestone.branch} was moved on {remote.name} at the same moment; run again")
    if not done.ok:
        raise ForgeRefusedError(f"{run.milestone.branch} cannot be pushed to {remote.name}: {done.reason}")


def seen_on_remote(run: MilestoneRun) -> None:
    """Remember where the remote's branch is, so that it can be told without asking."""
    name, refs = f"{REMOTE}/{run.name}", run.session.refs
    before = refs.tip(name)
    if before != run.view.tip:
        refs.move([Move(name, before, run.view.tip)], "seen on the remote")


def settle_landed(run: MilestoneRun) -> None:
    """End the attempts whose result is found landed, and give up their refs if nothing else is in them."""
    for issue, state in list(run.view.states.items()):
        landing = run.view.landings.get(issue)
        if landing is None or f"{run.name}/{issue}" not in run.session.compiled.plan.nodes:
            continue
        for attempt in list(state.attempts.values()):
            if attempt.state is AttemptState.BUILT and attempt.revision == landing.trailers.revision:
                run.record_landed(landing, attempt.number, proved=_landed_as_proved(run, issue, landing))
                if attempt.result_key == landing.trailers.result_key:
                    _forget(run, issue, attempt)


def _landed_as_proved(run: MilestoneRun, issue: str, landing: Landing) -> bool:
    """Whether what landed is the tree that was pushed, and so the one that the checks passed on."""
    pull = run.view.states[issue].pull
    if landing.trailers.check_key == UNPROVED:
        return False
    if pull is None or not pull.commit or pull.commit == landing.commit:
        return True
    try:
        return run.session.store.tree_of(pull.commit) == landing.tree
    except GitError:
        return False


def _forget(run: MilestoneRun, issue: str, attempt: Attempt) -> None:
    name = attempt_ref(run.name, issue, attempt.number)
    run.session.refs.move([Move(name, attempt.commit, None)], f"landed {run.name}/{issue}")


def _start_from(run: MilestoneRun, remote: Remote, base: str | None) -> None:
    """A new branch starts from the remote's base if that is only ahead of ours."""
    view, refs = run.view, run.session.refs
    if base is None or base == view.tip:
        return
    remote.fetch(view.base)
    if refs.contains(view.tip, base):
        view.tip = base
    elif not refs.contains(base, view.tip):
        run.warn(
            f"{view.base.removeprefix('refs/heads/')} has commits of its own here and on {remote.name}; "
            f"{run.milestone.branch} starts from the one here"
        )


def _follow(run: MilestoneRun, ours: str | None, theirs: str) -> None:
    """Move our branch forward to where the remote's is, with the checkouts that have it."""
    view, session = run.view, run.session
    checkouts = session.checkouts.of(view.branch)
    if not session.refs.move([Move(view.branch, ours, theirs)], f"milestone {run.name}: follow the remote"):
        raise ForgeUnavailableError(f"{run.milestone.branch} was moved here at the same moment; run again")
    view.exists = True
    run.refresh_tip()
    for checkout in checkouts:
        told = session.checkouts.follow(checkout, ours, theirs) if ours is not None else ""
        if told:
            run.warn(told)
