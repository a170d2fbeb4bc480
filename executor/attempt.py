"""One attempt: workspace, brief, agent, import, candidate commit. Nothing that the agent says is believed."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.adapters.agents import child_environment
from executor.adapters.processes import Command
from executor.adapters.refs import Move
from executor.adapters.workspaces import ImportRefusedError
from executor.checking import tail
from executor.core.brief import BriefFacts, brief, most_useful
from executor.core.change import Change, parse_diff
from executor.core.message import Trailers, landing_message, one_line
from executor.core.report import deviations_in
from executor.core.state import AttemptState
from executor.errors import InterruptedRunError, UsageError
from executor.observe import ATTEMPTS, spec_archive
from executor.verify import Candidate, repaired

if TYPE_CHECKING:
    from pathlib import Path

    from executor.adapters.workspaces import Slot
    from executor.core.decide import Decision
    from executor.core.policy import Agent
    from executor.session import MilestoneRun

__all__ = ["Failure", "attempt_ref", "fail", "implement"]


_REPORT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt came to nothing.

    Attributes:
        kind: its class: ``agent``, ``empty``, ``patch``, ``import``, ``checks``.
        reason: one sentence.
        detail: the most useful part of the output.
        tree: tree that was produced, for telling whether the same thing happened again.
    """

    kind: str
    reason: str
    detail: str = ""
    tree: str = ""

    def print(self) -> str:
        """Fingerprint: the same failure on the same tree has the same one."""
        told = f"{self.kind}\0{self.reason}\0{self.tree}".encode("utf-8", "replace")
        return hashlib.sha256(told).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Work:
    """One attempt under way."""

    run: MilestoneRun
    ref: str
    number: int
    revision: int
    base: str
    base_tree: str
    agent: Agent
    logs: Path
    brief: Path
    out: Path


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
            made = _produce(work)
        finally:
            run.resources.release(issue.resources)
    except InterruptedRunError:
        run.record("attempt-interrupted", issue.id, attempt=number)
        raise
    seconds = round(time.monotonic() - began, 3)
    if isinstance(made, Failure):
        fail(run, ref, number, made, seconds=seconds)
        return
    _keep_candidate(work, made, seconds)


def fail(run: MilestoneRun, ref: str, number: int, failure: Failure, *, seconds: float = 0.0, commit: str = "") -> None:
    """Record a failed attempt; its result, if it has one, stays under its ref with the outcome in the message."""
    issue = run.issue(ref)
    name = attempt_ref(run.name, issue.id, number)
    attempt = run.view.states[issue.id].attempts[number]
    kept = commit or attempt.commit
    store = run.session.store
    base = attempt.base or store.parent_of(kept)
    tree = store.tree_of(kept) if kept else failure.tree or store.tree_of(base)
    lines = (
        f"{one_line(f'{issue.type}({run.name}): {issue.title}')} - attempt {number} failed\n\n"
        f"{one_line(failure.reason)}\n\n"
        f"Milestone: {run.name}\nIssue: {issue.id}\nAttempt: {number}\nRevision: {attempt.revision}\n"
        f"Spec-Key: {attempt.spec_key}\nOutcome: {failure.kind}\nFailure: {failure.print()}\n"
        f"Reason: {one_line(failure.reason)[:500]}\n"
    )
    final = store.commit(tree, [base], lines, run.session.identity, int(time.time()))
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


def attempt_ref(milestone: str, issue: str, number: int) -> str:
    """Full name of the ref that keeps an attempt."""
    return f"{ATTEMPTS}/{milestone}/{issue}/{number}"


def _prepare(run: MilestoneRun, ref: str, decision: Decision, base: str, agent: Agent) -> _Work:
    logs = run.session.project.logs(run.name, run.issue(ref).id, decision.attempt)
    out = logs / "out"
    out.mkdir(parents=True, exist_ok=True)
    path = logs / "brief.md"
    path.write_text(_brief(run, ref, decision), encoding="utf-8", errors="surrogateescape")
    return _Work(
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


def _produce(work: _Work) -> str | Failure:
    """The tree that the agent made, or why there is none."""
    if work.agent.builtin == "patch":
        with work.run.pool.slot() as slot:
            return _apply_patch(work, slot)
    with work.run.pool.slot() as slot:
        return _run_agent(work, slot)


def _apply_patch(work: _Work, slot: Slot) -> str | Failure:
    """The agent `patch`: apply a patch file of the declaration, byte for byte, without a checkout."""
    name = str(work.run.issue(work.ref).options["file"])
    path = work.run.session.project.milestones / name
    try:
        patch = path.read_bytes()
    except OSError as error:
        return Failure("patch", f"the patch file milestones/{name} cannot be read: {error.strerror}")
    tree, problem = work.run.session.store.apply(work.base_tree, patch, slot.scratch)
    if problem:
        return Failure("patch", f"the patch milestones/{name} does not apply: {problem.splitlines()[0]}", problem)
    return tree


def _run_agent(work: _Work, slot: Slot) -> str | Failure:
    run = work.run
    issue = run.issue(work.ref)
    store = run.session.store
    slot.work.prepare(store, work.base_tree)
    slot.work.give_repository(run.session.project.repository, work.base)
    ended = run.supervisor.run(_command(work, slot))
    if ended.reason in {"stopped", "lost"}:
        raise InterruptedRunError(f"{work.ref}: attempt {work.number} was interrupted", 130)
    if not ended.ok:
        run.session.require_space()
        return Failure("agent", f"agent {work.agent.name}: {ended.describe()}", tail(work.logs / "agent.log"))
    try:
        return slot.work.result(store, run.excludes, issue.files)
    except ImportRefusedError as error:
        return Failure("import", str(error))


def _command(work: _Work, slot: Slot) -> Command:
    issue = work.run.issue(work.ref)
    tree = slot.work.folder
    given = {
        "EXECUTOR_MILESTONE": work.run.name,
        "EXECUTOR_ISSUE": issue.id,
        "EXECUTOR_ATTEMPT": str(work.number),
        "EXECUTOR_SLOT": str(slot.number),
        "EXECUTOR_BRIEF": str(work.brief),
        "EXECUTOR_OUT": str(work.out),
    }
    agent = work.agent
    limits = work.run.session.policy.limits
    values = {**issue.options, "brief_file": str(work.brief), "out": str(work.out)}
    try:
        argv = agent.argv(values)
    except KeyError as error:
        raise UsageError(f"{work.ref}: agent {agent.name} needs the option {error}; declare it in `with`") from error
    return Command(
        argv=argv,
        cwd=tree,
        env=child_environment(agent.env, given, tree),
        log=work.logs / "agent.log",
        stdin=work.brief,
        timeout=float(agent.timeout or limits.timeout_s),
        idle=float(agent.idle or limits.idle_s),
        watch=tree,
        output_cap=limits.output_cap_bytes,
    )


def _keep_candidate(work: _Work, tree: str, seconds: float) -> None:
    """Make the candidate commit, keep it under its ref, and say so; or fail if there is nothing to land."""
    run = work.run
    issue = run.issue(work.ref)
    change = _change(work, tree)
    if change.files:
        mended = repaired(run, work.ref, Candidate(tree, work.base_tree, change), work.logs)
        if mended != tree:
            tree, change = mended, _change(work, mended)
    trailers = _trailers(work, change)
    if not change.files and not _may_be_empty(work):
        reason = "the agent ended without an error but changed nothing"
        fail(run, work.ref, work.number, Failure("empty", reason, tail(work.logs / "agent.log"), tree), seconds=seconds)
        return
    note = "" if change.files else f"Revision {work.revision} needed no change: the landed work satisfies the spec."
    message = landing_message(issue.type, issue.title, change, trailers, number=issue.number, note=note)
    attempt = run.view.states[issue.id].attempts[work.number]
    commit = run.session.store.commit(tree, [attempt.base], message, run.session.identity, int(time.time()))
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
        deviations=list(_deviations(work.out)),
    )


def _change(work: _Work, tree: str) -> Change:
    return parse_diff(work.run.session.store.diff(work.base_tree, tree)) if tree != work.base_tree else Change((), "")


def _trailers(work: _Work, change: Change) -> Trailers:
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


def _deviations(out: Path) -> tuple[str, ...]:
    """What the agent left in report.json, if it is a file of a sane size."""
    path = out / "report.json"
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _REPORT_BYTES:
        return ()
    return deviations_in(path.read_bytes())


def _may_be_empty(work: _Work) -> bool:
    """A later revision may need no change, if a declared command or a deterministic agent vouches for that."""
    return work.revision > 1 and (work.agent.deterministic or bool(work.run.session.observer.proofs(work.ref).items))
