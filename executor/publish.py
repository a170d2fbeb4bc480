"""Publish: a result as a branch on the remote and, on a forge, as a pull request. Created or adopted, never doubled.

The branch is moved only from where it is expected to be, and only while nobody else has committed to it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from executor.adapters.forge import NewPull
from executor.adapters.refs import Move
from executor.core.change import Change, parse_diff
from executor.core.checks import CommandProof
from executor.core.message import parse_trailers
from executor.core.pull import (
    PullRequest,
    PullText,
    body_of,
    boxes_of,
    feature_branch,
    merged_body,
    read_mark,
    title_digest,
    title_of,
)
from executor.core.state import Pull
from executor.errors import ForgeRefusedError, GitError

if TYPE_CHECKING:
    from executor.core.state import Attempt
    from executor.milestone_run import MilestoneRun

__all__ = ["head_of", "is_free", "is_ours", "publish", "record_pull", "show_stopped", "wait_for_person"]

_TRIES = 3
_UNSHOWN = frozenset({"secrets"})
"""Rules whose finding must not leave this machine."""


def show_stopped(run: MilestoneRun, ref: str, attempt: Attempt, change: Change) -> None:
    """Show a result that waits for a person as a draft, unless the reason is one to keep it here."""
    stop = run.view.states[run.issue(ref).id].stop
    if run.session.remote is None or stop is None or stop.attempt != attempt.number or stop.level != "hard":
        return
    if stop.rules & _UNSHOWN:
        run.warn(f"{ref}: its result was not pushed, because {stop.rule} stopped it")
        return
    publish(run, ref, attempt, attempt.commit, change, stopped=f"{stop.rule}: {stop.reason}")


def publish(
    run: MilestoneRun, ref: str, attempt: Attempt, commit: str, change: Change, *, stopped: str = ""
) -> PullRequest | None:
    """Push a result and open or update its pull request; None where there is none, or somebody else has the branch.

    Args:
        run: the milestone's run.
        ref: qualified id of the issue.
        attempt: whose result it is.
        commit: what is pushed.
        change: what it changes.
        stopped: why it waits for a person; it is a draft then. Without, every check has passed on its tree.
    """
    if run.session.remote is None or not _push(run, ref, attempt, commit):
        return None
    if run.session.forge.kind == "local":
        return None
    text = _text(run, ref, attempt, change, stopped)
    issue = run.issue(ref)
    title = title_of(issue.type, run.name, issue.title, attempt.revision)
    body = body_of(text, title)
    pull = _open_pull(run, ref, attempt)
    labels = run.session.policy.forge.labels
    if pull is None:
        new = NewPull(head_of(run, ref, attempt), run.milestone.branch, title, body, draft=bool(stopped))
        pull = run.session.forge.open(new)
    if pull.base != run.milestone.branch:
        wait_for_person(run, ref, pull, f"it goes to {pull.base}, expected {run.milestone.branch}; set its base back")
        return None
    known = read_mark(pull.body).get("title")
    pull = run.session.forge.update(
        pull,
        title=title if known is None or known == title_digest(pull.title) else None,
        body=merged_body(body, pull.body),
        draft=bool(stopped),
        labels=labels,
    )
    record_pull(run, ref, pull, commit)
    return pull


def head_of(run: MilestoneRun, ref: str, attempt: Attempt) -> str:
    """Short name of the branch of a result."""
    return feature_branch(run.name, run.issue(ref), attempt.revision)


def record_pull(
    run: MilestoneRun,
    ref: str,
    pull: PullRequest | None,
    commit: str,
    *,
    head: str = "",
    state: str = "",
    waits: str = "",
    why: str = "",
) -> None:
    """Journal what is known of an issue's pull request, if that is news; what is not given stays as it was."""
    issue = run.issue(ref).id
    folded = run.view.states.get(issue)
    before = folded.pull if folded else None
    if before is not None and head and before.head != head:
        before = None
    old = before or Pull(0, "", "", head, "")
    word = ("draft" if pull.draft and pull.state == "open" else pull.state) if pull else ""
    new = replace(
        old,
        number=pull.number if pull else old.number,
        state=state or word or old.state,
        url=pull.url if pull else old.url,
        head=pull.head if pull else (head or old.head),
        commit=commit,
        waits=waits,
        reason=why,
    )
    if new != old or waits:
        data = asdict(new)
        del data["run"]
        run.record("pull", issue, **data)


def wait_for_person(run: MilestoneRun, ref: str, pull: PullRequest | None, why: str, *, head: str = "") -> None:
    """The issue comes to rest until a person has changed something about its pull request or branch."""
    state = run.view.states[run.issue(ref).id]
    told = f"pull request #{pull.number}: {why}" if pull else why
    commit = state.pull.commit if state.pull else ""
    record_pull(run, ref, pull, commit, head=head, waits="review", why=told)


def is_free(run: MilestoneRun, ref: str) -> bool:
    """Whether nothing about its branch or pull request keeps the issue waiting."""
    state = run.view.states.get(run.issue(ref).id)
    return state is None or state.pull is None or not state.pull.waits or state.pull.run != run.session.run_id


def is_ours(run: MilestoneRun, ref: str, commit: str) -> bool:
    """Whether a commit that is on the remote is one that the executor made and nobody has changed.

    Its message has the result key of its own change, which nobody else computes.
    """
    state = run.view.states.get(run.issue(ref).id)
    if state is not None:
        known = {attempt.commit for attempt in state.attempts.values()}
        if commit in known or (state.pull is not None and commit == state.pull.commit):
            return True
    store, refs = run.session.store, run.session.refs
    try:
        trailers = parse_trailers(refs.trailers(commit))
        if trailers is None or (trailers.milestone, trailers.issue) != (run.name, run.issue(ref).id):
            return False
        text = store.diff(f"{commit}^", commit)
        return not text or parse_diff(text).key == trailers.result_key
    except GitError:
        return False


def _push(run: MilestoneRun, ref: str, attempt: Attempt, commit: str) -> bool:
    """Whether the branch is at that commit on the remote."""
    remote = run.session.remote
    head = head_of(run, ref, attempt)
    name = f"refs/heads/{head}"
    for _ in range(_TRIES):
        if remote is None:
            return False
        there = remote.tips(name).get(name)
        if there == commit:
            return True
        if there is not None:
            remote.fetch(name)
            if not is_ours(run, ref, there):
                who = run.session.refs.author_of(there)
                why = (
                    f"the branch {head} has a commit of {who} ({there[:10]}) and is left alone; merge it, or delete it"
                )
                wait_for_person(run, ref, None, why, head=head)
                return False
        record_pull(run, ref, None, commit, head=head)
        done = remote.push([Move(name, there, commit)])
        if done.ok:
            return True
        if not done.moved:
            wait_for_person(run, ref, None, f"the branch {head} cannot be pushed: {done.reason}", head=head)
            return False
    raise ForgeRefusedError(f"{ref}: the branch {head} is being moved on the remote by somebody else")


def _open_pull(run: MilestoneRun, ref: str, attempt: Attempt) -> PullRequest | None:
    """The open pull request of the branch; the oldest where there are several."""
    found = [pull for pull in run.session.forge.find(head_of(run, ref, attempt)) if pull.state == "open"]
    if len(found) > 1:
        others = ", ".join(f"#{pull.number}" for pull in found[1:])
        run.warn(f"{ref}: pull request #{found[0].number} is used; {others} of the same branch should be closed")
    return found[0] if found else None


def _text(run: MilestoneRun, ref: str, attempt: Attempt, change: Change, stopped: str) -> PullText:
    issue = run.issue(ref)
    proofs = run.session.observer.proofs(ref).items
    reviewer = run.session.policy.route_of(issue).reviewer
    return PullText(
        ref=ref,
        revision=attempt.revision,
        attempt=attempt.number,
        spec_key=attempt.spec_key,
        change=change,
        boxes=boxes_of(issue, proved=not stopped, reviewed=bool(reviewer) and not stopped),
        checks=() if stopped else tuple(item.name for item in proofs if isinstance(item, CommandProof)),
        stopped=stopped,
        deviations=attempt.deviations,
        number=issue.number,
    )
