"""Landing: candidate on the present tip, proof of exactly that tree, then compare-and-swap of the branch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.checks.verify import Candidate as Judged
from executor.engine.agent_work import Failure
from executor.engine.attempt import fail
from executor.engine.candidate import candidate_of
from executor.engine.change_rules import altered_since, approvals_of, identity_of, record_stop
from executor.engine.issue import IssueRun
from executor.engine.milestone_branch import advance
from executor.engine.review import stopped_by_review
from executor.engine.stops import stopped_by_change, stopped_by_changed_tests, stopped_by_tests
from executor.errors import ExecutorError
from executor.git.refs import Move, attempt_ref
from executor.git.trailers import Landing, Trailers, landing_message
from executor.model.fingerprint import cleared
from executor.state.events import LandingIntended, Stopped

if TYPE_CHECKING:
    from executor.engine.candidate import Candidate
    from executor.engine.milestone_run import MilestoneRun
    from executor.git.diff import Change
    from executor.state.decide import Decision
    from executor.state.model import Attempt

__all__ = ["land"]


def land(run: MilestoneRun, ref: str, decision: Decision) -> None:
    """Verify the result of an attempt on the present tip and land it, or record why not.

    The proof runs while others may land; if the tip has moved by then, it is done again for the new one.
    """
    issue = run.issue(ref)
    attempt = run.view.states[issue.id].attempts[decision.attempt]
    candidate = candidate_of(IssueRun(run, ref), attempt)
    change, logs, publisher = candidate.change, candidate.logs, run.session.plugins.publisher
    if stopped_by_change(run, ref, attempt, change, logs) or stopped_by_tests(run, ref, attempt, change):
        publisher.show_stopped(candidate)
        return
    if publisher.merges and publisher.resume(candidate):
        return
    while True:
        landing = _proved(run, ref, candidate)
        if landing is None or _brought(run, ref, candidate, landing):
            return


def _proved(run: MilestoneRun, ref: str, candidate: Candidate) -> Landing | None:
    """The candidate on the present tip, once its checks have passed; None when something speaks against it."""
    store, publisher = run.session.store, run.session.plugins.publisher
    attempt, change, logs = candidate.attempt, candidate.change, candidate.logs
    tip = publisher.tip(run)
    merged = store.merge(tip, attempt.commit) if tip != candidate.base else None
    if merged is not None and merged.conflicts:
        _stop_for_conflict(run, ref, attempt, tip, merged.conflicts)
        return None
    issue = run.issue(ref)
    tree = merged.tree if merged is not None else store.tree_of(attempt.commit)
    if merged is not None:
        again, bound = altered_since(run, ref, attempt, change, store.tree_of(tip), tree)
        if again:
            record_stop(run, ref, again, attempt=attempt.number, bound=bound)
            publisher.show_stopped(candidate)
            return None
    result = IssueRun(run, ref).verifier.judge(_judged(run, ref, attempt, change, tree, store.tree_of(tip)), logs)
    if result.tests and stopped_by_changed_tests(run, ref, attempt, change, result):
        publisher.show_stopped(candidate)
        return None
    if not result.ok:
        fail(run, ref, attempt.number, Failure("checks", result.reason, result.detail, tree))
        return None
    if stopped_by_review(run, ref, attempt, tree, logs):
        publisher.show_stopped(candidate)
        return None
    trailers = _trailers(run, ref, attempt, change)
    commit = attempt.commit
    if merged is not None or "Approved-By:" in trailers.notes:
        message = landing_message(issue.type, issue.title, change, trailers, number=issue.number)
        when = max(map(run.session.refs.time_of, (attempt.commit, tip)))  # the same for the same two, always
        commit = _pushed_before(run, ref, tree, tip) or store.commit(tree, [tip], message, run.session.identity, when)
    return Landing(commit, tree, run.view.count, int(time.time()), trailers)


def _judged(run: MilestoneRun, ref: str, attempt: Attempt, change: Change, tree: str, base: str) -> Judged:
    """What is to be proved, and which of its tests a person has seen."""
    issue, approved, bound = run.issue(ref), run.facts(ref).approved, identity_of(run, attempt, change)

    def seen(rule: str) -> bool:
        return rule in issue.allow or cleared(bound, (rule,), approved)

    return Judged(tree, base, change, trusted=seen("tests-changed"), asked=seen("tests-weakened"))


def _brought(run: MilestoneRun, ref: str, candidate: Candidate, landing: Landing) -> bool:
    """Bring a proved candidate onto the branch; False when the tip has moved and it has to be proved again."""
    publisher = run.session.plugins.publisher
    if publisher.merges:
        return publisher.merge(candidate, landing)
    publisher.publish(candidate, landing.commit)
    return not publisher.may_land(candidate.issue) or _swap(run, ref, candidate, landing)


def _swap(run: MilestoneRun, ref: str, candidate: Candidate, landing: Landing) -> bool:
    """Make the candidate the tip if the tip is still the one it was proved on."""
    issue, attempt, publisher = run.issue(ref), candidate.attempt, run.session.plugins.publisher
    tip = run.session.store.parent_of(landing.commit)
    with run.landing_lock:
        if run.view.tip != tip:
            return False
        run.record(LandingIntended(attempt=attempt.number, commit=landing.commit, onto=tip), issue.id)
        if not publisher.push(candidate, tip, landing.commit):
            return not publisher.may_land(candidate.issue)
        spent = Move(attempt_ref(run.name, issue.id, attempt.number), attempt.commit, None)
        if not advance(run, landing.commit, f"land {ref}", [spent]):
            if run.refresh_tip() != tip:
                return False
            if not advance(run, landing.commit, f"land {ref}"):
                raise ExecutorError(
                    f"{run.view.branch} cannot be moved from {tip[:10]} although it exists; see doit doctor"
                )
        landing = Landing(landing.commit, landing.tree, run.view.count, landing.time, landing.trailers)
        run.take(landing)
        run.record_landed(landing, attempt.number)
        run.write_receipt(landing)
        publisher.pushed(run)
    return True


def _pushed_before(run: MilestoneRun, ref: str, tree: str, tip: str) -> str:
    """The same candidate, if it was made and pushed before; a new one would only differ in its time."""
    pull = run.view.states[run.issue(ref).id].pull
    if pull is None or not run.session.refs.has(pull.commit):
        return ""
    store = run.session.store
    same = store.tree_of(pull.commit) == tree and store.parent_of(pull.commit) == tip
    return pull.commit if same else ""


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
    event = Stopped(
        level="soft",
        rule="merge-conflict",
        reason=reason,
        spec_key=attempt.spec_key,
        attempt=attempt.number,
        paths=tuple(paths[:100]),
        tip=tip,
    )
    run.record(event, issue.id)


def _lands_after(run: MilestoneRun, landing: Landing, attempt: Attempt) -> bool:
    base = _parent(run, attempt)
    at_base = next((item.position for item in run.view.landings.values() if item.commit == base), -1)
    return landing.position > at_base


def _parent(run: MilestoneRun, attempt: Attempt) -> str:
    return attempt.base or run.session.store.parent_of(attempt.commit)


def _worked(run: MilestoneRun, attempt: Attempt) -> str:
    """What the attempt's commit says of who worked and how; a commit made anew says the same."""
    told = run.session.refs.trailers(attempt.commit)
    return "\n".join(f"{key}: {told[key]}" for key in ("Agent", "Sandbox") if key in told)


def _trailers(run: MilestoneRun, ref: str, attempt: Attempt, change: Change) -> Trailers:
    observer = run.session.observer
    return Trailers(
        run.name,
        run.issue(ref).id,
        attempt.revision,
        attempt.spec_key,
        attempt.result_key,
        observer.proofs(ref).key,
        attempt.pull,
        observer.work_key(ref),
        " ".join(run.issue(ref).was),
        "\n".join(part for part in (_worked(run, attempt), approvals_of(run, ref, attempt, change)) if part),
    )
