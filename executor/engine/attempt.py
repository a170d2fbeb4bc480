"""One attempt: brief, agent, repair, candidate commit. A failed attempt keeps its result under a ref as well.

The facts of a brief: declaration, landings, handoffs, answers, failures.

Attempts that do not count: interrupted ones, and those that ended with a question for a person. Both keep their refs.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.agents.brief import BriefFacts, Handoff, brief, chosen, distances, kept_spec, most_useful
from executor.checks.run import tail
from executor.checks.verify import Candidate
from executor.engine.agent_work import Failure, Work, entry_problem, produce, tree_left
from executor.engine.candidate import (
    change_of,
    deviations_in,
    issue_header,
    may_be_empty,
    notes_in,
    outside_scope,
    result_message,
)
from executor.engine.landing.change_rules import KNOWN_SECRET, ChangeRules
from executor.errors import InterruptedRunError
from executor.git.diff import parse_diff
from executor.git.refs import Move, attempt_ref
from executor.git.trailers import UNBOXED, AttemptTrailers, Trailers, encode, inert, one_line
from executor.model.fingerprint import IssueRef
from executor.process.files import clock_after, question_in
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
    from executor.engine.issue import IssueRun
    from executor.git.diff import Change
    from executor.model.agent_profile import Agent
    from executor.state.decide import Decision
    from executor.state.model import Attempt, IssueState

__all__ = ["Attempts", "brief_facts", "keep_candidate"]


def brief_facts(issue: IssueRun, attempt: int, revision: int) -> BriefFacts:
    """Collect the facts for the brief of an attempt, or of one of its steps."""
    run, facts = issue.run, issue.facts
    tried = facts.state.counted(facts.spec_key)
    failed = [item for item in tried if item.state is AttemptState.FAILED and item.kind not in UNSPENT]
    old = None
    if facts.landing is not None:
        archived = kept_spec(run.folder, facts.landing.trailers.spec_key)
        old = archived["text"] if archived is not None else None
    refusal = facts.state.refusal
    return BriefFacts(
        milestone=run.milestone,
        issue=issue.declared,
        text=issue.spec["text"],
        attempt=attempt,
        revision=revision,
        landed=tuple(run.view.landings),
        previous=failed[-1] if failed else _conflict(facts.state, attempt, facts.spec_key),
        old_text=old,
        refusal=f"{refusal.reason}\n{refusal.detail}" if refusal is not None and revision > 1 else "",
        focus=run.policy.route_of(issue.declared).focus,
        handoffs=_handoffs(issue),
        conventions=run.policy.prompt_for(issue.declared),
        folder=run.project.prefix,
        beside=run.queue.collisions.beside(issue.ref),
        answers=tuple((item.question, item.answer) for item in run.view.answers.get(issue.id, ())),
    )


def _conflict(state: IssueState, attempt: int, spec_key: str) -> Attempt | None:
    """Return the attempt before this one if it could not be merged.

    A retry forgives it, but the next agent has to know what it conflicted with.
    """
    last = state.attempts.get(max((number for number in state.attempts if number < attempt), default=0))
    return last if last is not None and last.kind == "merge-conflict" and last.spec_key == spec_key else None


def _handoffs(issue: IssueRun) -> tuple[Handoff, ...]:
    """Handoffs of landed issues, nearest needs first, then the newest, as many as fit the budget."""
    run, view, own = issue.run, issue.run.view, issue.id
    landed = {name: view.landings[name].position for name in view.handoffs if name in view.landings and name != own}
    near = distances(issue.ref, {name: node.needs for name, node in run.session.compiled.plan.nodes.items()})
    order = sorted(landed, key=lambda name: (near.get(str(IssueRef(run.name, name)), len(near) + 1), -landed[name]))
    texts = []
    for name in order:
        data = run.store.blob(view.handoffs[name], "handoff.md") or b""
        texts.append(Handoff(name, data.decode("utf-8", "replace").strip(), view.handoffs[name]))
    return chosen(texts, run.policy.limits.handoff_tokens)


_MOST_REASON = 1500  # characters; it stands in one trailer of a commit message


class Attempts:
    """Starts and ends the attempts of one issue."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def keep_interrupted(self, attempt: Attempt, tree: str, cost: Spend | None = None) -> None:
        """Record an interrupted attempt; its work so far, if any, is kept under its ref."""
        store = self._session.store
        commit = ""
        if tree and attempt.base and tree != store.tree_of(attempt.base):
            commit = self._keep(attempt, tree, "was interrupted", "interrupted")
        self._run.record(
            AttemptInterrupted(attempt=attempt.number, commit=commit, spend=cost or Spend()), self._issue.id
        )

    def ask(self, number: int, question: str, tree: str, cost: Spend | None = None) -> None:
        """Suspend an attempt whose agent asks a question; the issue waits for the answer and no attempt is used up.

        Several parallel steps may ask. A person gets the first question; the other steps ask again later.
        """
        issue = self._issue.id
        with self._issue.lock:
            attempt = self._run.view.states[issue].attempts[number]
            if attempt.state is not AttemptState.STARTED:
                return
            asked = one_line(question)[:_MOST_REASON]
            kept = tree or self._session.store.tree_of(attempt.base)
            commit = self._keep(attempt, kept, "asks a person", QUESTION, asked)
            self._run.record(AttemptInterrupted(attempt=number, commit=commit, spend=cost or Spend()), issue)
            lines = [one_line(line)[:300] for line in question.splitlines() if line.strip()]
            event = Stopped(
                level="hard",
                rule=QUESTION,
                reason=asked,
                needs=f'doit answer {self._issue.ref} "..."',
                lines=tuple(lines[:50]),
                spec_key=attempt.spec_key,
                attempt=number,
            )
            self._run.record(event, issue)

    def time_of(self, attempt: Attempt) -> int:
        """The timestamp of commits about an attempt; a retry uses the journaled time again."""
        if attempt.when:
            return attempt.when
        return self._session.refs.time_of(attempt.commit) if attempt.commit else int(time.time())

    def _trailers(self, attempt: Attempt, outcome: str, reason: str) -> AttemptTrailers:
        return AttemptTrailers(
            milestone=self._run.name,
            issue=self._issue.id,
            attempt=attempt.number,
            revision=attempt.revision,
            spec_key=attempt.spec_key,
            outcome=outcome,
            reason=reason,
        )

    def _keep(self, attempt: Attempt, tree: str, what: str, outcome: str, reason: str = "") -> str:
        trailers = self._trailers(attempt, outcome, reason)
        store = self._session.store
        if self._issue.ref in self._session.compiled.plan.nodes:
            tree, _ = ChangeRules(self._issue).without_secrets(store.tree_of(attempt.base), tree)
        if outcome == QUESTION:
            trailers = replace(trailers, change_key=parse_diff(store.diff(attempt.base, tree)).key)
        text = f"attempt {attempt.number} at {self._issue.ref} {what}\n\n{encode(trailers)}\n"
        commit = store.commit(tree, [attempt.base], text, self._session.identity, self.time_of(attempt))
        name = attempt_ref(self._run.name, self._issue.id, attempt.number)
        self._session.refs.move([Move(name, None, commit)], f"attempt {attempt.number} {what}")
        return commit

    def implement(self, decision: Decision) -> None:
        """Run an agent on the issue once; records ``attempt-built`` or ``attempt-failed``.

        Raises:
            InterruptedRunError: the run is being stopped; the attempt does not count.
        """
        issue = self._issue.declared
        work = self._going_on(decision) or self._new(decision)
        if work is None:
            return
        began = time.monotonic()
        try:
            with self._run.resources.taken(issue.resources):
                result = produce(work, lambda made: self._settle(work, made, round(time.monotonic() - began, 3)))
        except InterruptedRunError:
            workspace = self._run.pool.left_by(issue.id, work.number)
            left = tree_left(self._issue, workspace) if workspace is not None else ""
            kept = left if isinstance(left, str) else ""
            self.keep_interrupted(self._issue.state.attempts[work.number], kept, work.cost())
            raise
        if result is not None:
            keep_candidate(work, *result)

    def _new(self, decision: Decision) -> Work | None:
        """Start an attempt; None if it may not start now."""
        self.pause()
        self._session.require_space()
        base = self._run.ensure_branch()
        self._run.keep_spec(self._issue.ref)
        agent = self.begin(decision, base)
        return self._prepare(decision, base, agent) if agent is not None else None

    def _going_on(self, decision: Decision) -> Work | None:
        """Return the attempt of a dead run that a worker continues (`Recovery`); None without one."""
        last = self._issue.state.attempts.get(decision.attempt - 1) if self._issue.id in self._run.view.states else None
        if last is None or last.state is not AttemptState.STARTED:
            return None
        going = replace(decision, attempt=last.number, revision=last.revision)
        return self._prepare(going, last.base, self._session.policy.agents[last.agent])

    def _settle(self, work: Work, made: str | Failure, seconds: float) -> tuple[str, float] | None:
        """Record how the agent's work ended; returns tree and seconds of a result, None for a question or a failure."""
        with suppress(OSError):
            work.out.rmdir()  # most agents leave nothing in it
        question = question_in(work.out, self._session.secrets)
        if question:
            self.ask(work.number, question, "" if isinstance(made, Failure) else made, work.cost())
            return None
        if isinstance(made, Failure) and made.kind == KNOWN_SECRET:
            _refuse_secrets(work, made.tree, made.detail.splitlines(), seconds)
            return None
        if isinstance(made, Failure):
            self.fail(work.number, made, seconds=seconds, cost=work.cost())
            return None
        _record_tree(work, made, seconds)
        return made, seconds

    def pause(self) -> None:
        """Wait after a failed attempt of this run; the wait doubles with each failure."""
        facts = self._issue.facts
        limits = self._session.policy.limits
        tried = facts.state.counted(facts.spec_key)
        failed = [item for item in tried if item.state is AttemptState.FAILED and item.kind not in UNSPENT]
        if not failed or failed[-1].run != self._session.run_id:
            return
        seconds = min(limits.backoff_s * 2 ** min(len(failed), 60), limits.backoff_most_s)
        if seconds:
            self._issue.tell("pause", f"attempt {len(failed) + 1} of {limits.attempts} {clock_after(seconds)}")
        if self._session.stopping.wait(seconds):
            raise InterruptedRunError(f"{self._issue.ref}: the run was stopped", 130)

    def begin(self, decision: Decision, base: str, *, workflow: str = "") -> Agent | None:
        """Choose the agent, reserve money and record the start of the attempt.

        Returns None and records nothing if an account reached its limit or the money ran out since the decision.
        """
        with self._session.observer.spending:
            agent = self._chosen()
            if agent is None:
                return None
            reserved = self._session.observer.allowance.reserve(self._issue.ref, agent)
            event = AttemptStarted(
                attempt=decision.attempt,
                revision=decision.revision,
                spec_key=self._issue.spec_key,
                base=base,
                agent=agent.name,
                account=agent.payer,
                when=int(time.time()),
                reserved_usd=reserved,
                workflow=workflow,
            )
            self._run.record(event, self._issue.id)
        return agent

    def _chosen(self) -> Agent | None:
        """Return the agent to use; None if an account reached its limit or the money ran out since the decision."""
        facts = self._issue.facts
        choice = self._session.observer.allowance.choice(
            self._issue.ref, self._issue.declared, facts.state.counted(facts.spec_key)
        )
        if not choice.agent:
            self._session.observer.changed(self._issue.ref)
            return None
        return self._session.policy.agents[choice.agent]

    def fail(
        self,
        number: int,
        failure: Failure,
        *,
        seconds: float = 0.0,
        commit: str = "",
        cost: Spend | None = None,
    ) -> None:
        """Record a failed attempt; its result, if any, is kept under its ref with the outcome in the message."""
        issue = self._issue.declared
        name = attempt_ref(self._run.name, issue.id, number)
        redacted = self._session.redaction.redact_value
        failure = replace(failure, reason=redacted(failure.reason), detail=redacted(failure.detail))
        attempt = self._issue.state.attempts[number]
        kept = commit or attempt.commit
        store = self._session.store
        base = attempt.base or store.parent_of(kept)
        tree = store.tree_of(kept) if kept else failure.tree or store.tree_of(base)
        tree, _ = ChangeRules(self._issue).without_secrets(store.tree_of(base), tree)
        trailers = replace(
            self._trailers(attempt, failure.kind, inert(failure.reason)[:_MOST_REASON]),
            failure=failure.print(),
            step=failure.step,
            pull=attempt.pull,
        )
        header = f"{inert(issue_header(self._issue))} - attempt {number} failed"
        text = f"{header}\n\n{inert(failure.reason)}\n\n{encode(trailers)}\n"
        final = store.commit(tree, [base], text, self._session.identity, self.time_of(attempt))
        self._session.refs.move([Move(name, kept or None, final)], f"attempt {number} failed")
        self._issue.tell("attempt", f"attempt {number} failed: {one_line(failure.reason)}")
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
        self._run.record(event, issue.id)

    def _prepare(self, decision: Decision, base: str, agent: Agent) -> Work:
        logs = self._session.project.logs(self._run.name, self._issue.id, decision.attempt)
        out = logs / "out"
        out.mkdir(parents=True, exist_ok=True)
        path = logs / "brief.md"
        path.write_text(
            brief(brief_facts(self._issue, decision.attempt, decision.revision)), "utf-8", "surrogateescape"
        )
        return Work(
            self._issue,
            decision.attempt,
            decision.revision,
            base,
            self._session.store.tree_of(base),
            agent,
            logs,
            path,
            out,
        )


def keep_candidate(work: Work, tree: str, seconds: float) -> None:
    """Create the candidate commit under its ref and record it; fail if it has nothing to land."""
    run, owner = work.run, work.issue
    _record_tree(work, tree, seconds)
    attempt = run.view.states[run.issue(work.ref).id].attempts[work.number]
    tree, secrets = ChangeRules(owner).without_secrets(work.base_tree, tree)
    if secrets:
        _refuse_secrets(work, tree, secrets, seconds)
        return
    change = change_of(work, tree)
    if change.files and owner.proofs.repair and not ChangeRules(owner).hits_of(attempt, change, tree):
        mended = owner.verifier.repair(Candidate(tree, work.base_tree, change), work.logs)
        if mended != tree:
            tree, change = mended, change_of(work, mended)
    problem = entry_problem(run.store, tree, change)
    failure = Failure("import", problem, tree=work.base_tree) if problem is not None else None
    if failure is None and not change.files and not may_be_empty(work):
        failure = Failure("empty", "the agent ended without an error but changed nothing", tail(work.log), tree)
    if failure is not None:
        Attempts(owner).fail(work.number, failure, seconds=seconds, cost=work.cost())
    else:
        _record_candidate(work, attempt, tree, change, seconds)


def _record_candidate(work: Work, attempt: Attempt, tree: str, change: Change, seconds: float) -> None:
    run, issue = work.run, work.run.issue(work.ref)
    trailers = _trailers(work, change, run.pull_number(issue.id, work.revision))
    note = "" if change.files else f"Revision {work.revision} needed no change: the landed work satisfies the spec."
    notes = notes_in(work.report)
    message = result_message(work.issue, change, trailers, agent=work.agent.name, notes=notes, note=note)
    store = run.session.store
    commit = store.signed(store.commit(tree, [attempt.base], message, run.session.identity, attempt.when))
    move = Move(attempt_ref(run.name, issue.id, work.number), None, commit)
    run.session.refs.move([move], f"attempt {work.number}")
    event = AttemptBuilt(
        attempt=work.number,
        commit=commit,
        result_key=trailers.result_key,
        pull=trailers.pull,
        seconds=seconds,
        files=tuple(file.path for file in change.files[:100]),
        added=change.added,
        removed=change.removed,
        deviations=(*deviations_in(work.report), *outside_scope(work, change)),
        notes=notes,
        spend=work.cost(),
    )
    run.record(event, issue.id)


def _record_tree(work: Work, tree: str, seconds: float) -> None:
    """Record the tree that an agent left, unless it is on record."""
    run, issue = work.run, work.run.issue(work.ref).id
    if run.view.states[issue].attempts[work.number].tree != tree:
        when = int(time.time())
        run.record(Snapshot(attempt=work.number, tree=tree, when=when, seconds=seconds), issue)


def _refuse_secrets(work: Work, tree: str, places: list[str], seconds: float) -> None:
    """Stop an issue whose result contains a secret value; the result is kept without it and cannot be approved."""
    run, issue = work.run, work.run.issue(work.ref)
    rule = next(rule for rule in run.session.policy.stops if rule.id == KNOWN_SECRET)
    reason = f"{rule.reason} {places[0]}"
    Attempts(work.issue).fail(
        work.number,
        Failure(KNOWN_SECRET, reason, "\n".join(places), tree),
        seconds=seconds,
        cost=work.cost(),
    )
    hit = Hit(rule.id, "hard", reason, rule.needs, tuple(places))
    ChangeRules(work.issue).record_stop([hit], attempt=work.number, bound="")
    run.session.tell("stopped", str(IssueRef(run.name, issue.id)), reason)


def _trailers(work: Work, change: Change, pull: int) -> Trailers:
    observer = work.run.session.observer
    landing = work.run.facts(work.ref).landing
    attempt = work.run.view.states[work.run.issue(work.ref).id].attempts[work.number]
    result_key = change.key if change.files or landing is None else landing.trailers.result_key
    isolation = "none, by name" if work.agent.isolation == "none" else "bwrap"
    return Trailers(
        milestone=work.run.name,
        issue=work.run.issue(work.ref).id,
        revision=work.revision,
        spec_key=observer.spec_key(work.ref),
        result_key=result_key,
        check_key=observer.proofs(work.ref).key,
        pull=pull,
        work_key=observer.work_key(work.ref),
        was=work.run.issue(work.ref).was,
        agent=attempt.agent,
        sandbox=UNBOXED.format(attempt.unsandboxed) if attempt.unsandboxed else isolation,
    )
