"""One attempt: brief, agent, repair, candidate commit under its ref - or a failed one, kept as well."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.adapters.refs import Move
from executor.checking import tail
from executor.core.brief import BriefFacts, brief, most_useful
from executor.core.change import Change, parse_diff
from executor.core.message import Trailers, inert, landing_message, one_line
from executor.core.state import AttemptState
from executor.errors import InterruptedRunError
from executor.observe import ATTEMPTS, spec_archive
from executor.verify import Candidate, repaired
from executor.work import Failure, Work, deviations_of, entry_problem, produce, taken

if TYPE_CHECKING:
    from executor.core.decide import Decision
    from executor.core.policy import Agent
    from executor.core.state import Attempt
    from executor.session import MilestoneRun

__all__ = ["attempt_ref", "fail", "implement", "keep_candidate", "keep_interrupted"]


def implement(run: MilestoneRun, ref: str, decision: Decision) -> None:
    """Have an agent implement the issue once; records ``attempt-built`` or ``attempt-failed``.

    Raises:
        InterruptedRunError: the run is being stopped; the attempt does not count.
    """
    issue = run.issue(ref)
    run.session.require_space()
    base = run.ensure_branch()
    number, revision = decision.attempt, decision.revision
    agent = run.session.policy.agent_for(issue)
    run.keep_spec(ref)
    work = _prepare(run, ref, decision, base, agent)
    run.record(
        "attempt-started",
        issue.id,
        attempt=number,
        revision=revision,
        spec_key=run.session.observer.spec_key(ref),
        base=base,
        agent=agent.name,
        when=int(time.time()),
    )
    began = time.monotonic()
    try:
        run.resources.acquire(issue.resources)
        try:
            made = produce(work)
        finally:
            run.resources.release(issue.resources)
    except InterruptedRunError:
        workspace = run.pool.left_by(issue.id, number)
        left = taken(run, workspace, issue) if workspace is not None else ""
        kept = left if isinstance(left, str) else ""
        keep_interrupted(run, issue.id, run.view.states[issue.id].attempts[number], kept)
        raise
    seconds = round(time.monotonic() - began, 3)
    if isinstance(made, Failure):
        fail(run, ref, number, made, seconds=seconds)
        return
    keep_candidate(work, made, seconds)


def fail(run: MilestoneRun, ref: str, number: int, failure: Failure, *, seconds: float = 0.0, commit: str = "") -> None:
    """Record a failed attempt; its result, if it has one, stays under its ref with the outcome in the message."""
    issue = run.issue(ref)
    name = attempt_ref(run.name, issue.id, number)
    redacted = run.session.redacted
    failure = replace(failure, reason=redacted(failure.reason), detail=redacted(failure.detail))
    attempt = run.view.states[issue.id].attempts[number]
    kept = commit or attempt.commit
    store = run.session.store
    base = attempt.base or store.parent_of(kept)
    tree = store.tree_of(kept) if kept else failure.tree or store.tree_of(base)
    lines = (
        f"{inert(f'{issue.type}({run.name}): {issue.title}')} - attempt {number} failed\n\n"
        f"{inert(failure.reason)}\n\n"
        f"Milestone: {run.name}\nIssue: {issue.id}\nAttempt: {number}\nRevision: {attempt.revision}\n"
        f"Spec-Key: {attempt.spec_key}\nOutcome: {failure.kind}\nFailure: {failure.print()}\n"
        f"Reason: {inert(failure.reason)[:500]}\n"
    )
    final = store.commit(tree, [base], lines, run.session.identity, _time_of(run, attempt))
    run.session.refs.move([Move(name, kept or None, final)], f"attempt {number} failed")
    run.session.tell("attempt", ref, f"attempt {number} failed: {one_line(failure.reason)}")
    run.record(
        "attempt-failed",
        issue.id,
        attempt=number,
        failure=failure.kind,
        reason=failure.reason[:2000],
        detail=most_useful(failure.detail, 6000),
        print=failure.print(),
        seconds=seconds,
        commit=final,
    )


def keep_interrupted(run: MilestoneRun, issue: str, attempt: Attempt, tree: str) -> None:
    """Record an attempt that was cut off; what it had done so far, if anything, stays under its ref."""
    store = run.session.store
    commit = ""
    if tree and attempt.base and tree != store.tree_of(attempt.base):
        text = (
            f"attempt {attempt.number} at {run.name}/{issue} was interrupted\n\n"
            f"Milestone: {run.name}\nIssue: {issue}\nAttempt: {attempt.number}\nRevision: {attempt.revision}\n"
            f"Spec-Key: {attempt.spec_key}\nOutcome: interrupted\n"
        )
        commit = store.commit(tree, [attempt.base], text, run.session.identity, _time_of(run, attempt))
        name = attempt_ref(run.name, issue, attempt.number)
        run.session.refs.move([Move(name, None, commit)], f"attempt {attempt.number} interrupted")
    run.record("attempt-interrupted", issue, attempt=attempt.number, commit=commit)


def _time_of(run: MilestoneRun, attempt: Attempt) -> int:
    """The time that commits about an attempt carry: once it is in the journal, a repetition has the same."""
    if attempt.when:
        return attempt.when
    return run.session.refs.time_of(attempt.commit) if attempt.commit else int(time.time())


def attempt_ref(milestone: str, issue: str, number: int) -> str:
    """Full name of the ref that keeps an attempt."""
    return f"{ATTEMPTS}/{milestone}/{issue}/{number}"


def _prepare(run: MilestoneRun, ref: str, decision: Decision, base: str, agent: Agent) -> Work:
    logs = run.session.project.logs(run.name, run.issue(ref).id, decision.attempt)
    out = logs / "out"
    out.mkdir(parents=True, exist_ok=True)
    path = logs / "brief.md"
    path.write_text(_brief(run, ref, decision), encoding="utf-8", errors="surrogateescape")
    return Work(
        run, ref, decision.attempt, decision.revision, base, run.session.store.tree_of(base), agent, logs, path, out
    )


def _brief(run: MilestoneRun, ref: str, decision: Decision) -> str:
    issue = run.issue(ref)
    observer = run.session.observer
    facts = run.facts(ref)
    failed = [item for item in facts.state.counted(facts.spec_key) if item.state is AttemptState.FAILED]
    old = None
    if facts.landing is not None:
        archived = spec_archive(observer.compiled, run.name, facts.landing.trailers.spec_key)
        old = archived["text"] if archived is not None else None
    refusal = facts.state.refusal
    return brief(
        BriefFacts(
            milestone=run.milestone,
            issue=issue,
            text=observer.spec(ref)["text"],
            attempt=decision.attempt,
            revision=decision.revision,
            landed=tuple(run.view.landings),
            previous=failed[-1] if failed else None,
            old_text=old,
            refusal=f"{refusal.reason}\n{refusal.detail}" if refusal is not None and decision.revision > 1 else "",
        )
    )


def keep_candidate(work: Work, tree: str, seconds: float) -> None:
    """Make the candidate commit, keep it under its ref, and say so; or fail if there is nothing to land."""
    run = work.run
    issue = run.issue(work.ref)
    if run.view.states[issue.id].attempts[work.number].tree != tree:
        when = int(time.time())
        run.record("snapshot", issue.id, attempt=work.number, tree=tree, when=when, seconds=seconds)
    change = _change(work, tree)
    if change.files:
        mended = repaired(run, work.ref, Candidate(tree, work.base_tree, change), work.logs)
        if mended != tree:
            tree, change = mended, _change(work, mended)
    problem = entry_problem(run, tree, change)
    if problem:
        fail(run, work.ref, work.number, Failure("import", problem, tree=work.base_tree), seconds=seconds)
        return
    trailers = _trailers(work, change)
    if not change.files and not _may_be_empty(work):
        reason = "the agent ended without an error but changed nothing"
        fail(run, work.ref, work.number, Failure("empty", reason, tail(work.logs / "agent.log"), tree), seconds=seconds)
        return
    note = "" if change.files else f"Revision {work.revision} needed no change: the landed work satisfies the spec."
    message = landing_message(issue.type, issue.title, change, trailers, number=issue.number, note=note)
    attempt = run.view.states[issue.id].attempts[work.number]
    commit = run.session.store.commit(tree, [attempt.base], message, run.session.identity, attempt.when)
    name = attempt_ref(run.name, issue.id, work.number)
    run.session.refs.move([Move(name, None, commit)], f"attempt {work.number}")
    run.record(
        "attempt-built",
        issue.id,
        attempt=work.number,
        commit=commit,
        result_key=trailers.result_key,
        seconds=seconds,
        files=[file.path for file in change.files[:100]],
        added=change.added,
        removed=change.removed,
        deviations=list(deviations_of(run, work.out)),
    )


def _change(work: Work, tree: str) -> Change:
    return parse_diff(work.run.session.store.diff(work.base_tree, tree)) if tree != work.base_tree else Change((), "")


def _trailers(work: Work, change: Change) -> Trailers:
    observer = work.run.session.observer
    landing = work.run.facts(work.ref).landing
    result_key = change.key if change.files or landing is None else landing.trailers.result_key
    return Trailers(
        milestone=work.run.name,
        issue=work.run.issue(work.ref).id,
        revision=work.revision,
        spec_key=observer.spec_key(work.ref),
        result_key=result_key,
        check_key=observer.proofs(work.ref).key,
    )


def _may_be_empty(work: Work) -> bool:
    """A later revision may need no change, if a declared command or a deterministic agent vouches for that."""
    return work.revision > 1 and (work.agent.deterministic or bool(work.run.session.observer.proofs(work.ref).items))
