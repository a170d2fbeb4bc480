"""Attempts that are put aside without counting: cut off, or ended with a question for a person. Both stay as refs.

One attempt: brief, agent, repair, candidate commit under its ref - or a failed one, kept as well.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.agents.brief import brief, most_useful
from executor.checks.run import tail
from executor.checks.verify import Candidate
from executor.engine.agent_work import Failure, Work, deviations_of, entry_problem, produce, taken
from executor.engine.brief import brief_facts
from executor.engine.change_rules import KNOWN_SECRET, hits_of, record_stop, without_secrets
from executor.engine.issue import IssueRun
from executor.errors import InterruptedRunError
from executor.git.diff import Change, parse_diff
from executor.git.refs import Move, attempt_ref
from executor.git.trailers import Trailers, inert, landing_message, one_line
from executor.process.files import clock_after
from executor.process.untrusted import question_in
from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    Snapshot,
    Spend,
    Stopped,
)
from executor.state.model import QUESTION, UNSPENT, AttemptState
from executor.stop_rules.evaluate import Hit

if TYPE_CHECKING:
    from executor.engine.milestone_run import MilestoneRun
    from executor.model.agent_profile import Agent
    from executor.state.decide import Decision
    from executor.state.model import Attempt

__all__ = ["ask", "begin", "fail", "implement", "keep_candidate", "keep_interrupted", "pause", "time_of"]


_MOST_REASON = 1500


def keep_interrupted(run: MilestoneRun, issue: str, attempt: Attempt, tree: str, cost: Spend | None = None) -> None:
    """Record an attempt that was cut off; what it had done so far, if anything, stays under its ref."""
    store = run.session.store
    commit = ""
    if tree and attempt.base and tree != store.tree_of(attempt.base):
        commit = _keep(run, issue, attempt, tree, "was interrupted", "Outcome: interrupted\n")
    run.record(AttemptInterrupted(attempt=attempt.number, commit=commit, spend=cost or Spend()), issue)


def ask(run: MilestoneRun, ref: str, number: int, question: str, tree: str, cost: Spend | None = None) -> None:
    """Put an attempt aside whose agent asks a person: the issue rests until the answer, and nothing counts as failed.

    Side by side, several steps may ask; the first one is put to the person, the others ask again.
    """
    issue = run.issue(ref).id
    with run.issue_lock(ref):
        attempt = run.view.states[issue].attempts[number]
        if attempt.state is not AttemptState.STARTED:
            return
        told = one_line(question)[:_MOST_REASON]
        kept = tree or run.session.store.tree_of(attempt.base)
        trailers = f"Outcome: {QUESTION}\nReason: {told}\n"
        commit = _keep(run, issue, attempt, kept, "asks a person", trailers)
        run.record(AttemptInterrupted(attempt=number, commit=commit, spend=cost or Spend()), issue)
        lines = [one_line(line)[:300] for line in question.splitlines() if line.strip()]
        event = Stopped(
            level="hard",
            rule=QUESTION,
            reason=told,
            needs=f'doit answer {ref} "..."',
            lines=tuple(lines[:50]),
            spec_key=attempt.spec_key,
            attempt=number,
        )
        run.record(event, issue)


def time_of(run: MilestoneRun, attempt: Attempt) -> int:
    """The time that commits about an attempt carry: once it is in the journal, a repetition has the same."""
    if attempt.when:
        return attempt.when
    return run.session.refs.time_of(attempt.commit) if attempt.commit else int(time.time())


def _keep(run: MilestoneRun, issue: str, attempt: Attempt, tree: str, what: str, trailers: str) -> str:
    text = (
        f"attempt {attempt.number} at {run.name}/{issue} {what}\n\n"
        f"Milestone: {run.name}\nIssue: {issue}\nAttempt: {attempt.number}\nRevision: {attempt.revision}\n"
        f"Spec-Key: {attempt.spec_key}\n{trailers}"
    )
    store, ref = run.session.store, f"{run.name}/{issue}"
    if ref in run.session.compiled.plan.nodes:
        tree, _ = without_secrets(run, ref, store.tree_of(attempt.base), tree)
    commit = store.commit(tree, [attempt.base], text, run.session.identity, time_of(run, attempt))
    name = attempt_ref(run.name, issue, attempt.number)
    run.session.refs.move([Move(name, None, commit)], f"attempt {attempt.number} {what}")
    return commit


def implement(run: MilestoneRun, ref: str, decision: Decision) -> None:
    """Have an agent implement the issue once; records ``attempt-built`` or ``attempt-failed``.

    Raises:
        InterruptedRunError: the run is being stopped; the attempt does not count.
    """
    issue = run.issue(ref)
    pause(run, ref)
    run.session.require_space()
    base = run.ensure_branch()
    number = decision.attempt
    run.keep_spec(ref)
    agent = begin(run, ref, decision, base)
    if agent is None:
        return
    work = _prepare(run, ref, decision, base, agent)
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
        keep_interrupted(run, issue.id, run.view.states[issue.id].attempts[number], kept, work.cost())
        raise
    seconds = round(time.monotonic() - began, 3)
    question = question_in(work.out, run.session.secrets)
    if question:
        ask(run, ref, number, question, "" if isinstance(made, Failure) else made, work.cost())
        return
    if isinstance(made, Failure):
        fail(run, ref, number, made, seconds=seconds, cost=work.cost())
        return
    keep_candidate(work, made, seconds)


def pause(run: MilestoneRun, ref: str) -> None:
    """Let time pass after an attempt that failed in this run, twice as much after each further one."""
    facts = run.facts(ref)
    limits = run.session.policy.limits
    tried = facts.state.counted(facts.spec_key)
    failed = [item for item in tried if item.state is AttemptState.FAILED and item.kind not in UNSPENT]
    if not failed or failed[-1].run != run.session.run_id:
        return
    seconds = min(limits.backoff_s * 2 ** min(len(failed), 60), limits.backoff_most_s)
    if seconds:
        run.session.tell("pause", ref, f"attempt {len(failed) + 1} of {limits.attempts} {clock_after(seconds)}")
    if run.session.stopping.wait(seconds):
        raise InterruptedRunError(f"{ref}: the run was stopped", 130)


def begin(run: MilestoneRun, ref: str, decision: Decision, base: str, *, workflow: str = "") -> Agent | None:
    """Choose who works, set money aside and record that the attempt begins.

    None if since the decision an account has reached its limit or the money has run out; then nothing is recorded.
    """
    with run.session.observer.allowance.spending:
        agent = _chosen(run, ref)
        if agent is None:
            return None
        reserved = run.session.observer.allowance.reserve(ref, agent)
        event = AttemptStarted(
            attempt=decision.attempt,
            revision=decision.revision,
            spec_key=run.session.observer.spec_key(ref),
            base=base,
            agent=agent.name,
            account=agent.payer,
            when=int(time.time()),
            reserved_usd=reserved,
            workflow=workflow,
        )
        run.record(event, run.issue(ref).id)
    return agent


def _chosen(run: MilestoneRun, ref: str) -> Agent | None:
    """Who works on it now; None if since the decision an account reached its limit or the money ran out."""
    facts = run.facts(ref)
    choice = run.session.observer.allowance.choice(ref, run.issue(ref), facts.state.counted(facts.spec_key))
    if not choice.agent:
        run.session.observer.changed(ref)
        return None
    return run.session.policy.agents[choice.agent]


def fail(
    run: MilestoneRun,
    ref: str,
    number: int,
    failure: Failure,
    *,
    seconds: float = 0.0,
    commit: str = "",
    cost: Spend | None = None,
) -> None:
    """Record a failed attempt; its result, if it has one, stays under its ref with the outcome in the message."""
    issue = run.issue(ref)
    name = attempt_ref(run.name, issue.id, number)
    redacted = run.session.redaction.redact_value
    failure = replace(failure, reason=redacted(failure.reason), detail=redacted(failure.detail))
    attempt = run.view.states[issue.id].attempts[number]
    kept = commit or attempt.commit
    store = run.session.store
    base = attempt.base or store.parent_of(kept)
    tree = store.tree_of(kept) if kept else failure.tree or store.tree_of(base)
    tree, _ = without_secrets(run, ref, store.tree_of(base), tree)
    lines = (
        f"{inert(f'{issue.type}({run.name}): {issue.title}')} - attempt {number} failed\n\n"
        f"{inert(failure.reason)}\n\n"
        f"Milestone: {run.name}\nIssue: {issue.id}\nAttempt: {number}\nRevision: {attempt.revision}\n"
        f"Spec-Key: {attempt.spec_key}\nOutcome: {failure.kind}\nFailure: {failure.print()}\n"
        f"Reason: {inert(failure.reason)[:500]}\n"
    )
    lines += f"Step: {failure.step}\n" if failure.step else ""
    lines += f"Pull-Request: {attempt.pull}\n" if attempt.pull else ""
    final = store.commit(tree, [base], lines, run.session.identity, time_of(run, attempt))
    run.session.refs.move([Move(name, kept or None, final)], f"attempt {number} failed")
    run.session.tell("attempt", ref, f"attempt {number} failed: {one_line(failure.reason)}")
    event = AttemptFailed(
        attempt=number,
        failure=failure.kind,
        reason=failure.reason[:2000],
        detail=most_useful(failure.detail, 6000),
        fingerprint=failure.print(),
        seconds=seconds,
        commit=final,
        step=failure.step,
        until=round(failure.until or 0.0, 3),
        rest_s=round(failure.rest_s, 3),
        spend=cost or Spend(),
    )
    run.record(event, issue.id)


def _prepare(run: MilestoneRun, ref: str, decision: Decision, base: str, agent: Agent) -> Work:
    logs = run.session.project.logs(run.name, run.issue(ref).id, decision.attempt)
    out = logs / "out"
    out.mkdir(parents=True, exist_ok=True)
    path = logs / "brief.md"
    path.write_text(
        brief(brief_facts(IssueRun(run, ref), decision.attempt, decision.revision)), "utf-8", "surrogateescape"
    )
    return Work(
        run, ref, decision.attempt, decision.revision, base, run.session.store.tree_of(base), agent, logs, path, out
    )


def keep_candidate(work: Work, tree: str, seconds: float) -> None:
    """Make the candidate commit, keep it under its ref, and say so; or fail if there is nothing to land."""
    run = work.run
    issue = run.issue(work.ref)
    if run.view.states[issue.id].attempts[work.number].tree != tree:
        when = int(time.time())
        run.record(Snapshot(attempt=work.number, tree=tree, when=when, seconds=seconds), issue.id)
    attempt = run.view.states[issue.id].attempts[work.number]
    tree, secrets = without_secrets(run, work.ref, work.base_tree, tree)
    if secrets:
        _refuse_secrets(work, tree, secrets, seconds)
        return
    change = _change(work, tree)
    if change.files and not hits_of(run, work.ref, attempt, change, tree):  # until then nothing of it is run
        mended = IssueRun(run, work.ref).verifier.repaired(Candidate(tree, work.base_tree, change), work.logs)
        if mended != tree:
            tree, change = mended, _change(work, mended)
    problem = entry_problem(run, tree, change)
    if problem:
        failure = Failure("import", problem, tree=work.base_tree)
        fail(run, work.ref, work.number, failure, seconds=seconds, cost=work.cost())
        return
    trailers = _trailers(work, change, run.pull_number(issue.id, work.revision))
    if not change.files and not _may_be_empty(work):
        reason = "the agent ended without an error but changed nothing"
        failure = Failure("empty", reason, tail(work.log), tree)
        fail(run, work.ref, work.number, failure, seconds=seconds, cost=work.cost())
        return
    note = "" if change.files else f"Revision {work.revision} needed no change: the landed work satisfies the spec."
    message = landing_message(issue.type, issue.title, change, trailers, number=issue.number, note=note)
    commit = run.session.store.commit(tree, [attempt.base], message, run.session.identity, attempt.when)
    name = attempt_ref(run.name, issue.id, work.number)
    run.session.refs.move([Move(name, None, commit)], f"attempt {work.number}")
    event = AttemptBuilt(
        attempt=work.number,
        commit=commit,
        result_key=trailers.result_key,
        pull=trailers.pull,
        seconds=seconds,
        files=tuple(file.path for file in change.files[:100]),
        added=change.added,
        removed=change.removed,
        deviations=tuple(deviations_of(run, work.out)),
        spend=work.cost(),
    )
    run.record(event, issue.id)


def _refuse_secrets(work: Work, tree: str, places: list[str], seconds: float) -> None:
    """Stop an issue whose result holds the value of a secret; it is kept without it and cannot be approved of."""
    run, issue = work.run, work.run.issue(work.ref)
    rule = next(rule for rule in run.session.policy.stops if rule.id == KNOWN_SECRET)
    reason = f"{rule.reason} {places[0]}"
    fail(
        run,
        work.ref,
        work.number,
        Failure(KNOWN_SECRET, reason, "\n".join(places), tree),
        seconds=seconds,
        cost=work.cost(),
    )
    hit = Hit(rule.id, "hard", reason, rule.needs, tuple(places))
    record_stop(run, work.ref, [hit], attempt=work.number, bound="")
    run.session.tell("stopped", f"{run.name}/{issue.id}", reason)


def _worked_by(attempt: Attempt, isolation: str) -> str:
    """Trailers of an attempt's commit: who worked, and in what sandbox. They outlive the journal."""
    sandbox = f"none, although {attempt.unsandboxed} wants one" if attempt.unsandboxed else isolation
    told = [f"Agent: {one_line(attempt.agent)}"] if attempt.agent else []
    return "\n".join([*told, f"Sandbox: {one_line(sandbox)}"])


def _change(work: Work, tree: str) -> Change:
    return parse_diff(work.run.session.store.diff(work.base_tree, tree)) if tree != work.base_tree else Change((), "")


def _trailers(work: Work, change: Change, pull: int) -> Trailers:
    observer = work.run.session.observer
    landing = work.run.facts(work.ref).landing
    attempt = work.run.view.states[work.run.issue(work.ref).id].attempts[work.number]
    result_key = change.key if change.files or landing is None else landing.trailers.result_key
    return Trailers(
        milestone=work.run.name,
        issue=work.run.issue(work.ref).id,
        revision=work.revision,
        spec_key=observer.spec_key(work.ref),
        result_key=result_key,
        check_key=observer.proofs(work.ref).key,
        pull=pull,
        work_key=observer.work_key(work.ref),
        was=" ".join(work.run.issue(work.ref).was),
        notes=_worked_by(attempt, "none, by name" if work.agent.isolation == "none" else "bwrap"),
    )


def _may_be_empty(work: Work) -> bool:
    """A later revision may need no change, if a declared command or a deterministic agent vouches for that."""
    return work.revision > 1 and (work.agent.deterministic or bool(work.run.session.observer.proofs(work.ref).items))
