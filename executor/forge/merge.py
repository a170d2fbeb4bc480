"""Merging through a forge: a proved candidate becomes a commit of the milestone branch by way of its pull request.

The forge merges only what is still at the commit that was proved, while the branch is still where it was proved on; a
landing counts when its commit is reachable from the remote's branch.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof
from executor.errors import ForgeRefusedError, ForgeUnavailableError
from executor.forge.publish import (
    catch_up,
    head_of,
    is_ours,
    publish,
    record_pull,
    seen_on_remote,
    settle_landed,
    wait_for_person,
)
from executor.git.refs import MERGED, Move
from executor.git.trailers import UNPROVED, Landing, Trailers, landing_message
from executor.state.model import AttemptState

if TYPE_CHECKING:
    from executor.engine.milestone_run import MilestoneRun
    from executor.forge.base import MergeAnswer
    from executor.forge.pull_request import PullRequest
    from executor.git.diff import Change
    from executor.state.model import Attempt

__all__ = ["merge", "recognise", "resumed", "tidy"]

_POLLS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_STATUSES = 20
_LOOKS = 5


def merge(run: MilestoneRun, ref: str, attempt: Attempt, tip: str, landing: Landing, change: Change) -> bool:
    """Have a proved candidate merged; False when branch or pull request moved, and it has to be proved anew."""
    pull = publish(run, ref, attempt, landing.commit, change)
    if pull is None:
        return True
    _post_statuses(run, ref, landing.commit)
    return _brought_in(run, ref, attempt, pull, landing.commit, change, tip)


def resumed(run: MilestoneRun, ref: str, attempt: Attempt, change: Change) -> bool:
    """Wait on for what the forge was asked before to merge by itself; False when there is no such thing."""
    seen = run.view.states[run.issue(ref).id].pull
    if seen is None or not seen.number or not seen.commit:
        return False
    pulls = run.session.forge.find(head_of(run, ref, attempt))
    pull = next((item for item in pulls if item.number == seen.number), None)
    if pull is None or pull.state != "open" or not pull.waiting or pull.sha != seen.commit:
        return False
    return _brought_in(run, ref, attempt, pull, pull.sha, change, "")


def recognise(run: MilestoneRun, ref: str, pull: PullRequest, spec_key: str, revision: int) -> bool:
    """Take a merge without our trailers for what it is; kept under a ref, so that it outlives `.cache/`.

    Its checks are run on the present tip before anything else rests on it.
    """
    view, refs, store = run.view, run.session.refs, run.session.store
    issue = run.issue(ref).id
    commit = pull.merge_commit
    if not commit or not refs.on_first_parents(commit, view.tip):
        return False
    from executor.git.diff import parse_diff

    key = parse_diff(store.diff(f"{commit}^", commit)).key
    trailers = Trailers(run.name, issue, revision, spec_key, key, UNPROVED, pull.number)
    landing = Landing(commit, store.tree_of(commit), view.count, refs.time_of(commit), trailers)
    name = f"{MERGED}/{run.name}/{issue}/{revision}"
    text = f"pull request {pull.number} of {ref} was merged by hand\n\n{trailers.lines()}\nLanding: {commit}\n"
    record = store.commit(landing.tree, [commit], text, run.session.identity, landing.time)
    before = refs.tip(name)
    if before != record:
        refs.move([Move(name, before, record)], f"pull request {pull.number} was merged")
    run.take(landing)
    run.record_landed(landing, _attempt_of(run, issue, revision), proved=False)
    run.warn(f"{ref}: pull request #{pull.number} was merged by hand as {commit[:10]}")
    return True


def tidy(run: MilestoneRun, ref: str, pull: PullRequest | None, revision: int) -> None:
    """After a landing: its issue on the forge is closed and its branch deleted, if nobody else has committed to it."""
    issue = run.issue(ref)
    remote = run.session.remote
    if issue.number is not None:
        try:
            run.session.forge.close_issue(issue.number)
        except ForgeRefusedError as error:
            run.warn(f"{ref}: {error}")
    from executor.forge.pull_request import feature_branch

    head = feature_branch(run.name, issue, revision)
    name = f"refs/heads/{head}"
    there = remote.tips(name).get(name) if remote is not None else None
    if remote is not None and there is not None and _is_spent(run, ref, there):
        done = remote.push([Move(name, there, None)])
        if not done.ok:
            run.warn(f"{ref}: the branch {head} has landed and could not be deleted: {done.reason}")
    seen = run.view.states[issue.id].pull if issue.id in run.view.states else None
    if pull is not None or seen is not None:
        landed = replace(pull, state="merged", draft=False) if pull is not None else None
        record_pull(run, ref, landed, seen.commit if seen else "", head=head, state="merged")


def _brought_in(
    run: MilestoneRun, ref: str, attempt: Attempt, pull: PullRequest, commit: str, change: Change, tip: str
) -> bool:
    """Ask for the merge until it is done, or this run waits no longer. Without a tip the forge merges by itself."""
    rules = run.session.policy.forge
    until = time.monotonic() + rules.wait
    subject, message = _message(run, ref, attempt, pull, change)
    for poll in range(1_000_000):
        with run.landing_lock:
            if catch_up(run) != tip and tip:
                return _has_landed(run, ref, attempt)
            answer = run.session.forge.request_merge(pull, commit, subject, message, rules.merge)
            if answer.state == "merged":
                _confirm(run, ref, attempt, pull, answer)
                return True
        if answer.state == "moved":
            return False
        if answer.state == "refused":
            wait_for_person(run, ref, pull, answer.reason)
            return True
        if answer.state == "scheduled":
            tip = ""
        record_pull(run, ref, pull, commit, waits="open", why=f"pull request #{pull.number} {answer.reason}")
        left = until - time.monotonic()
        if left <= 0 or run.session.stopping.wait(min(left, _POLLS[min(poll, len(_POLLS) - 1)])):
            return True
    return True


def _confirm(run: MilestoneRun, ref: str, attempt: Attempt, pull: PullRequest, answer: MergeAnswer) -> None:
    """Make sure that what the forge calls merged is on the remote's branch, and take it over."""
    for look in range(_LOOKS):
        tip = catch_up(run)
        if _has_landed(run, ref, attempt):
            break
        merged = replace(pull, state="merged", merge_commit=answer.commit)
        if run.session.refs.has(answer.commit) and run.session.refs.contains(answer.commit, tip):
            recognise(run, ref, merged, attempt.spec_key, attempt.revision)
            break
        time.sleep(_POLLS[look] / 4)
    else:
        raise ForgeUnavailableError(
            f"{ref}: the forge says that pull request #{pull.number} was merged, but {run.milestone.branch} does not "
            "have it yet; run again later"
        )
    settle_landed(run)
    landing = run.view.landings[run.issue(ref).id]
    run.write_receipt(landing)
    seen_on_remote(run)
    tidy(run, ref, replace(pull, state="merged", merge_commit=landing.commit), attempt.revision)


def _has_landed(run: MilestoneRun, ref: str, attempt: Attempt) -> bool:
    landing = run.view.landings.get(run.issue(ref).id)
    return landing is not None and landing.trailers.revision >= attempt.revision


def _is_spent(run: MilestoneRun, ref: str, commit: str) -> bool:
    """Whether everything on a branch has landed or is ours."""
    remote = run.session.remote
    if remote is None:
        return False
    if not run.session.refs.has(commit):
        return False
    return run.session.refs.contains(commit, run.view.tip) or is_ours(run, ref, commit)


def _attempt_of(run: MilestoneRun, issue: str, revision: int) -> int:
    """Number of the attempt whose result waited for this revision to land; 0 when there is none."""
    state = run.view.states.get(issue)
    made = [
        number
        for number, attempt in (state.attempts.items() if state else ())
        if attempt.revision == revision and attempt.state is AttemptState.BUILT
    ]
    return max(made, default=0)


def _message(run: MilestoneRun, ref: str, attempt: Attempt, pull: PullRequest, change: Change) -> tuple[str, str]:
    """First line and rest of the commit that a pull request becomes."""
    issue = run.issue(ref)
    trailers = Trailers(
        run.name,
        issue.id,
        attempt.revision,
        attempt.spec_key,
        attempt.result_key,
        run.session.observer.proofs(ref).key,
        pull.number,
    )
    text = landing_message(issue.type, issue.title, change, trailers, number=issue.number)
    subject, _, rest = text.partition("\n\n")
    return subject, rest


def _post_statuses(run: MilestoneRun, ref: str, commit: str) -> None:
    """Tell the forge which checks passed, as far as it listens."""
    if not run.session.policy.forge.statuses:
        return
    items = [item for item in run.session.observer.proofs(ref).items if isinstance(item, CommandProof)]
    for item in items[:_STATUSES]:
        if not run.session.forge.post_status(commit, item.name, "success", "passed on exactly this tree"):
            run.warn("the forge takes no statuses from this token; the checks are listed in the pull requests")
            return
