"""Landing: candidate on the present tip, proof of exactly that tree, then compare-and-swap of the branch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.checks.verify import Candidate, judge
from executor.engine.agent_work import Failure
from executor.engine.attempt import fail
from executor.engine.review import stopped_by_review
from executor.engine.stops import stopped_by_change, stopped_by_tests
from executor.errors import ExecutorError
from executor.forge.merge import merge, resumed
from executor.forge.publish import (
    head_of,
    is_free,
    publish,
    seen_on_remote,
    show_stopped,
    tip_to_build_on,
    wait_for_person,
)
from executor.git.diff import Change, parse_diff
from executor.git.refs import Move, attempt_ref
from executor.git.trailers import Landing, Trailers, landing_message

if TYPE_CHECKING:
    from pathlib import Path

    from executor.engine.milestone_run import MilestoneRun
    from executor.state.decide import Decision
    from executor.state.model import Attempt

__all__ = ["land"]


def land(run: MilestoneRun, ref: str, decision: Decision) -> None:
    """Verify the result of an attempt on the present tip and land it, or record why not.

    The proof runs while others may land; if the tip has moved by then, it is done again for the new one.
    """
    issue = run.issue(ref)
    attempt = run.view.states[issue.id].attempts[decision.attempt]
    change = _change(run, attempt)
    logs = run.session.project.logs(run.name, issue.id, attempt.number)
    if stopped_by_change(run, ref, attempt, change, logs) or stopped_by_tests(run, ref, attempt, change):
        show_stopped(run, ref, attempt, change)
        return
    if run.session.merges_by_pull and resumed(run, ref, attempt, change):
        return
    while True:
        landing = _proved(run, ref, attempt, change, logs)
        if landing is None or _brought(run, ref, attempt, landing, change):
            return


def _proved(run: MilestoneRun, ref: str, attempt: Attempt, change: Change, logs: Path) -> Landing | None:
    """The candidate on the present tip, once its checks have passed; None when something speaks against it."""
    store = run.session.store
    tip = tip_to_build_on(run)
    merged = store.merge(tip, attempt.commit) if tip != _parent(run, attempt) else None
    if merged is not None and merged.conflicts:
        _stop_for_conflict(run, ref, attempt, tip, merged.conflicts)
        return None
    issue = run.issue(ref)
    trusted = attempt.result_key in run.facts(ref).approved or "tests-weakened" in issue.allow
    tree = merged.tree if merged is not None else store.tree_of(attempt.commit)
    result = judge(run, ref, Candidate(tree, store.tree_of(tip), change, trusted), logs)
    if not result.ok:
        fail(run, ref, attempt.number, Failure("checks", result.reason, result.detail, tree))
        return None
    if stopped_by_review(run, ref, attempt, tree, logs):
        show_stopped(run, ref, attempt, change)
        return None
    trailers = _trailers(run, ref, attempt)
    commit = attempt.commit
    if merged is not None:
        message = landing_message(issue.type, issue.title, change, trailers, number=issue.number)
        when = max(map(run.session.refs.time_of, (attempt.commit, tip)))  # the same for the same two, always
        commit = _pushed_before(run, ref, tree, tip) or store.commit(tree, [tip], message, run.session.identity, when)
    return Landing(commit, tree, run.view.count, int(time.time()), trailers)


def _brought(run: MilestoneRun, ref: str, attempt: Attempt, landing: Landing, change: Change) -> bool:
    """Bring a proved candidate onto the branch; False when the tip has moved and it has to be proved anew."""
    tip = run.session.store.parent_of(landing.commit)
    if run.session.merges_by_pull:
        return merge(run, ref, attempt, tip, landing, change)
    publish(run, ref, attempt, landing.commit, change)
    return not is_free(run, ref) or _swap(run, ref, attempt, tip, landing)


def _swap(run: MilestoneRun, ref: str, attempt: Attempt, tip: str, landing: Landing) -> bool:
    """Make the candidate the tip if the tip is still the one it was proved on."""
    issue = run.issue(ref)
    with run.landing_lock:
        if run.view.tip != tip:
            return False
        checkouts = run.session.checkouts.of(run.view.branch)
        run.record("landing", issue.id, attempt=attempt.number, commit=landing.commit, onto=tip)
        if not _pushed(run, ref, attempt, tip, landing.commit):
            return not is_free(run, ref)
        moves = [
            Move(run.view.branch, tip, landing.commit),
            Move(attempt_ref(run.name, issue.id, attempt.number), attempt.commit, None),
        ]
        if not run.session.refs.move(moves, f"land {ref}"):
            if run.refresh_tip() != tip:
                return False
            if not run.session.refs.move(moves[:1], f"land {ref}"):
                raise ExecutorError(
                    f"{run.view.branch} cannot be moved from {tip[:10]} although it is there; see doit doctor"
                )
        landing = Landing(landing.commit, landing.tree, run.view.count, landing.time, landing.trailers)
        run.view.tip = landing.commit
        run.take(landing)
        run.record_landed(landing, attempt.number)
        run.write_receipt(landing)
        if run.session.remote is not None:
            seen_on_remote(run)
        for checkout in checkouts:
            told = run.session.checkouts.follow(checkout, tip, landing.commit)
            if told and told not in run.messages:
                run.messages.append(told)
    return True


def _pushed_before(run: MilestoneRun, ref: str, tree: str, tip: str) -> str:
    """The same candidate, if it was made and pushed before; a new one would only differ in its time."""
    pull = run.view.states[run.issue(ref).id].pull
    if pull is None or not run.session.refs.has(pull.commit):
        return ""
    store = run.session.store
    same = store.tree_of(pull.commit) == tree and store.parent_of(pull.commit) == tip
    return pull.commit if same else ""


def _pushed(run: MilestoneRun, ref: str, attempt: Attempt, tip: str, commit: str) -> bool:
    """Whether the remote's branch is at the candidate now, where there is a remote; its own branch is gone then."""
    remote = run.session.remote
    if remote is None:
        return True
    head = f"refs/heads/{head_of(run, ref, attempt)}"
    moves = [Move(run.view.branch, tip, commit), Move(head, commit, None)]
    done = remote.push(moves)
    if not done.ok and done.moved:
        done = remote.push(moves[:1])
    if done.ok or done.moved:
        return done.ok
    wait_for_person(run, ref, None, f"{run.milestone.branch} cannot be pushed to {remote.name}: {done.reason}")
    return False


def _stop_for_conflict(run: MilestoneRun, ref: str, attempt: Attempt, tip: str, paths: tuple[str, ...]) -> None:
    issue = run.issue(ref)
    names = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")  # noqa: PLR2004
    others = [
        f"{run.name}/{other}"
        for other, landing in run.view.landings.items()
        if other != issue.id and _lands_after(run, landing, attempt)
    ]
    by = f" with what {', '.join(others[-3:])} landed meanwhile" if others else ""
    reason = f"conflict in {names}{by}"
    fail(run, ref, attempt.number, Failure("merge-conflict", reason, tree=run.session.store.tree_of(attempt.commit)))
    run.record(
        "stopped",
        issue.id,
        level="soft",
        rule="merge-conflict",
        reason=reason,
        spec_key=attempt.spec_key,
        attempt=attempt.number,
        paths=list(paths[:100]),
        tip=tip,
    )


def _lands_after(run: MilestoneRun, landing: Landing, attempt: Attempt) -> bool:
    base = _parent(run, attempt)
    at_base = next((item.position for item in run.view.landings.values() if item.commit == base), -1)
    return landing.position > at_base


def _change(run: MilestoneRun, attempt: Attempt) -> Change:
    return parse_diff(run.session.store.diff(f"{attempt.commit}^", attempt.commit))


def _parent(run: MilestoneRun, attempt: Attempt) -> str:
    return attempt.base or run.session.store.parent_of(attempt.commit)


def _trailers(run: MilestoneRun, ref: str, attempt: Attempt) -> Trailers:
    observer = run.session.observer
    return Trailers(
        run.name,
        run.issue(ref).id,
        attempt.revision,
        attempt.spec_key,
        attempt.result_key,
        observer.proofs(ref).key,
        attempt.pull,
    )
