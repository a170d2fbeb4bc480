"""Landing: candidate on the present tip, proof of exactly that tree, then compare-and-swap of the branch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.adapters.refs import Move
from executor.attempt import attempt_ref, fail
from executor.core.change import Change, parse_diff
from executor.core.message import Landing, Trailers, landing_message
from executor.errors import ExecutorError
from executor.review import stopped_by_review
from executor.stops import stopped_by_change, stopped_by_tests
from executor.verify import Candidate, judge
from executor.work import Failure

if TYPE_CHECKING:
    from executor.core.decide import Decision
    from executor.core.state import Attempt
    from executor.session import MilestoneRun

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
        return
    trusted = attempt.result_key in run.facts(ref).approved or "tests-weakened" in issue.allow
    while True:
        tip = run.ensure_branch()
        merged = run.session.store.merge(tip, attempt.commit) if tip != _parent(run, attempt) else None
        if merged is not None and merged.conflicts:
            _stop_for_conflict(run, ref, attempt, tip, merged.conflicts)
            return
        tree = merged.tree if merged is not None else run.session.store.tree_of(attempt.commit)
        result = judge(run, ref, Candidate(tree, run.session.store.tree_of(tip), change, trusted), logs)
        if not result.ok:
            fail(run, ref, attempt.number, Failure("checks", result.reason, result.detail, tree))
            return
        if stopped_by_review(run, ref, attempt, tree, logs):
            return
        trailers = _trailers(run, ref, attempt)
        commit = attempt.commit
        if merged is not None:
            message = landing_message(issue.type, issue.title, change, trailers, number=issue.number)
            when = max(map(run.session.refs.time_of, (attempt.commit, tip)))  # the same for the same two, always
            commit = run.session.store.commit(tree, [tip], message, run.session.identity, when)
        if _swap(run, ref, attempt, tip, Landing(commit, tree, run.view.count, int(time.time()), trailers)):
            return


def _swap(run: MilestoneRun, ref: str, attempt: Attempt, tip: str, landing: Landing) -> bool:
    """Make the candidate the tip if the tip is still the one it was proved on."""
    issue = run.issue(ref)
    with run.landing_lock:
        if run.view.tip != tip:
            return False
        checkouts = run.session.checkouts.of(run.view.branch)
        run.record("landing", issue.id, attempt=attempt.number, commit=landing.commit, onto=tip)
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
        for checkout in checkouts:
            told = run.session.checkouts.follow(checkout, tip, landing.commit)
            if told and told not in run.messages:
                run.messages.append(told)
    return True


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
    )
