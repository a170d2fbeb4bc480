"""At the start of a run, and on request: what others did on the forge and the remote meanwhile is taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.adapters.refs import Move
from executor.core.change import parse_diff
from executor.core.fold import with_git_attempts
from executor.core.message import parse_trailers
from executor.core.pull import feature_branch, feature_prefix, read_mark
from executor.core.reconcile import Finding, Known, Meaning, reconcile
from executor.core.state import Attempt, AttemptState
from executor.merging import recognise, tidy
from executor.publish import is_ours, record_pull, show_stopped, wait_for_person
from executor.ref_names import attempt_ref
from executor.sync import tip_to_build_on

if TYPE_CHECKING:
    from executor.milestone_run import MilestoneRun

__all__ = ["take_over"]

_HEADS = "refs/heads/"


def take_over(run: MilestoneRun) -> None:
    """Bring what is known of a milestone up to what remote and forge say."""
    remote = run.session.remote
    if remote is None or _nothing_begins(run):
        return
    tip_to_build_on(run)
    heads = remote.tips(f"{_HEADS}{feature_prefix(run.name)}*")
    branches = {name.removeprefix(_HEADS): commit for name, commit in heads.items()}
    for issue in run.milestone.issues:
        _adopt(run, f"{run.name}/{issue.id}", branches)
    if run.session.forge.kind != "local":
        _reconcile(run, branches)
    for issue in run.milestone.issues:
        _show_again(run, f"{run.name}/{issue.id}")


def _nothing_begins(run: MilestoneRun) -> bool:
    """Whether the milestone is released, or waits for another one: then no branch is made for it."""
    view = run.view
    released = view.release is not None and view.release_current
    return released or any(run.facts(f"{run.name}/{issue.id}").held_by for issue in run.milestone.issues[:1])


def _adopt(run: MilestoneRun, ref: str, branches: dict[str, str]) -> None:
    """A result that is on the remote and not here, from another clone: it need not be made again."""
    facts = run.facts(ref)
    issue = run.issue(ref)
    revision = 1 if facts.landing is None else facts.landing.trailers.revision + 1
    commit = branches.get(feature_branch(run.name, issue, revision))
    landed = facts.landing is not None and facts.landing.trailers.spec_key == facts.spec_key
    if commit is None or facts.state.attempts or landed:
        return
    remote = run.session.remote
    if remote is None:
        return
    remote.fetch(_HEADS + feature_branch(run.name, issue, revision))
    if not is_ours(run, ref, commit):
        return
    trailers = parse_trailers(run.session.refs.trailers(commit))
    if trailers is None or trailers.spec_key != facts.spec_key or trailers.revision != revision:
        return
    number = facts.state.last() + 1
    attempt = Attempt(
        number,
        revision,
        trailers.spec_key,
        state=AttemptState.BUILT,
        commit=commit,
        result_key=trailers.result_key,
        pull=trailers.pull,
    )
    run.session.refs.move([Move(attempt_ref(run.name, issue.id, number), None, commit)], f"adopt {ref} from the remote")
    with_git_attempts(run.view.states, [(issue.id, attempt)])
    run.session.observer.changed(ref)
    run.warn(f"{ref}: the result that is on {remote.name} is used")


def _reconcile(run: MilestoneRun, branches: dict[str, str]) -> None:
    known = [_known(run, f"{run.name}/{issue.id}") for issue in run.milestone.issues]
    forge = run.session.forge
    pulls = {pull.number: pull for pull in forge.pulls(run.milestone.branch)}
    for item in known:
        if item.number and item.number not in pulls and not item.landed:
            pulls |= {pull.number: pull for pull in forge.find(item.head)}

    def ours(ref: str, commit: str) -> bool:
        remote = run.session.remote
        head = next(item.head for item in known if item.ref == ref)
        if remote is not None and branches.get(head) == commit:
            remote.fetch(_HEADS + head)
        return is_ours(run, ref, commit)

    by_ref = {item.ref: item for item in known}
    for finding in reconcile(known, pulls.values(), frozenset(branches), ours):
        for note in finding.notes:
            run.warn(f"{finding.ref}: {note}")
        _act(run, by_ref[finding.ref], finding)


def _act(run: MilestoneRun, known: Known, finding: Finding) -> None:
    ref, pull = finding.ref, finding.pull
    if finding.meaning is Meaning.TIDY:
        tidy(run, ref, pull, known.revision)
    elif finding.meaning is Meaning.WAIT:
        wait_for_person(run, ref, pull, finding.reason)
    elif finding.meaning is Meaning.OPEN and pull is not None:
        if known.built or known.number:
            record_pull(run, ref, pull, known.commit or pull.sha)
    elif finding.meaning is Meaning.MERGED and pull is not None:
        spec_key = read_mark(pull.body).get("spec") or run.facts(ref).spec_key
        if recognise(run, ref, pull, spec_key, known.revision):
            tidy(run, ref, pull, known.revision)
        else:
            why = f"it was merged as {pull.merge_commit[:10]}, which is not on {run.milestone.branch}"
            wait_for_person(run, ref, pull, why)


def _known(run: MilestoneRun, ref: str) -> Known:
    facts = run.facts(ref)
    issue = run.issue(ref)
    landing = facts.landing
    landed = landing is not None and (landing.trailers.spec_key == facts.spec_key or facts.spec_key in facts.accepted)
    before = landing.trailers.revision if landing is not None else 0
    revision = before if landed else before + 1
    head = feature_branch(run.name, issue, revision)
    pull = facts.state.pull if facts.state.pull is not None and facts.state.pull.head == head else None
    counted = facts.state.counted(facts.spec_key)
    return Known(
        ref=ref,
        revision=revision,
        attempt=facts.state.last() + (facts.state.last() > 0 and not counted),
        head=head,
        base=run.milestone.branch,
        number=pull.number if pull else 0,
        commit=pull.commit if pull else "",
        landed=landed,
        settled=pull is not None and pull.state == "merged",
        built=any(item.state is AttemptState.BUILT and item.revision == revision for item in counted),
    )


def _show_again(run: MilestoneRun, ref: str) -> None:
    """A result that waits for a person and that nobody can see yet, because the run that stopped it died."""
    facts = run.facts(ref)
    stop = facts.state.stop
    attempt = facts.state.attempts.get(stop.attempt) if stop is not None else None
    if attempt is None or attempt.state is not AttemptState.BUILT or not attempt.commit:
        return
    seen = facts.state.pull
    missing = seen is None or seen.commit != attempt.commit or (run.session.forge.kind != "local" and not seen.number)
    if missing and not (seen is not None and seen.waits):
        store = run.session.store
        show_stopped(run, ref, attempt, parse_diff(store.diff(f"{attempt.commit}^", attempt.commit)))
