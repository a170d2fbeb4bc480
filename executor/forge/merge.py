"""Merging through a forge: a proved candidate becomes a commit of the milestone branch by way of its pull request.

The forge merges only what is still at the commit that was proved, while the branch is still where it was proved on; a
landing counts when its commit is reachable from the remote's branch.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof
from executor.engine.agent_work import Failure
from executor.engine.attempt import fail
from executor.errors import ForgeRefusedError, ForgeUnavailableError
from executor.forge.connect import forge_of
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
from executor.forge.red_checks import failure_detail, failure_reason
from executor.git.refs import MERGED, Move
from executor.git.trailers import UNPROVED, Landing, Trailers, landing_message, parse_trailers
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
    """Go on with a pull request that shows this attempt and that the forge was asked to merge; False without one."""
    seen = run.view.states[run.issue(ref).id].pull
    if seen is None or not seen.number or not shows(run, seen.commit, attempt):
        return False
    pulls = forge_of(run.session).find(head_of(run, ref, attempt))
    pull = next((item for item in pulls if item.number == seen.number), None)
    if pull is None or pull.state != "open" or not pull.waiting or pull.sha != seen.commit:
        return False
    return _brought_in(run, ref, attempt, pull, pull.sha, change, "")


def shows(run: MilestoneRun, commit: str, attempt: Attempt) -> bool:
    """Whether a commit that was pushed is the result of that attempt: its own commit, or its change on another tip."""
    refs = run.session.refs
    if not commit or commit == attempt.commit:
        return bool(commit)
    trailers = parse_trailers(refs.trailers(commit)) if refs.has(commit) else None
    return trailers is not None and (trailers.revision, trailers.result_key) == (attempt.revision, attempt.result_key)


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
            forge_of(run.session).close_issue(issue.number)
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
            answer = forge_of(run.session).request_merge(pull, commit, subject, message, rules.merge)
            if answer.state == "merged":
                _confirm(run, ref, attempt, pull, answer)
                return True
        if answer.state in {"moved", "red", "refused"}:
            return _turned_down(run, ref, attempt, pull, answer)
        record_pull(run, ref, pull, commit, waits="open", why=f"pull request #{pull.number} {answer.reason}")
        if answer.state == "scheduled":
            return True
        left = until - time.monotonic()
        if left <= 0 or run.session.stopping.wait(min(left, _POLLS[min(poll, len(_POLLS) - 1)])):
            return True
    return True


def _turned_down(run: MilestoneRun, ref: str, attempt: Attempt, pull: PullRequest, answer: MergeAnswer) -> bool:
    """What a no means: False when it has to be proved again on what moved; else the issue goes on another way."""
    if answer.state == "moved":
        return False
    if answer.state == "red":
        _sent_back(run, ref, attempt, pull, answer)
    else:
        wait_for_person(run, ref, pull, answer.reason)
    return True


def _sent_back(run: MilestoneRun, ref: str, attempt: Attempt, pull: PullRequest, answer: MergeAnswer) -> None:
    """Make a failed check of the forge work: the next attempt is told of it, and the old head is never merged.

    Auto-merge is taken back before the failure is recorded: a run that dies in between does it again, and a check that
    turns green meanwhile merges nothing that is not on record. A check that was cancelled, or that never began, says
    nothing about the change: a person is asked to start it again.
    """
    forge = forge_of(run.session)
    now = forge.withdraw(pull)
    if now.state == "merged":
        with run.landing_lock:
            _confirm(run, ref, attempt, pull, replace(answer, state="merged", commit=now.merge_commit))
        return
    blamed = [item for item in answer.failed if item.judges_the_change]
    if not blamed:
        names = ", ".join(f'"{item.name}" ({item.conclusion})' for item in answer.failed)
        url = next((f": {item.url}" for item in answer.failed if item.url), "")
        why = f"the forge's check {names} gave no verdict; start it again there{url}, then run again"
        wait_for_person(run, ref, now, why)
        return
    told = [(item, forge.report(item)) for item in blamed]
    tree = run.session.store.tree_of(attempt.commit)
    record_pull(run, ref, now, pull.sha or attempt.commit)
    fail(run, ref, attempt.number, Failure("forge-checks", failure_reason(blamed), failure_detail(told), tree))


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
        run.session.observer.work_key(ref),
        " ".join(issue.was),
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
        if not forge_of(run.session).post_status(commit, item.name, "success", "passed on exactly this tree"):
            run.warn("the forge takes no statuses from this token; the checks are listed in the pull requests")
            return
