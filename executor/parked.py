"""Attempts that are put aside without counting: cut off, or ended with a question for a person. Both stay as refs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from executor.adapters.refs import Move
from executor.core.message import one_line
from executor.core.state import QUESTION, AttemptState
from executor.ref_names import attempt_ref

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.core.state import Attempt
    from executor.milestone_run import MilestoneRun

__all__ = ["ask", "keep_interrupted", "time_of"]

_MOST_REASON = 1500


def keep_interrupted(
    run: MilestoneRun, issue: str, attempt: Attempt, tree: str, cost: Mapping[str, Any] | None = None
) -> None:
    """Record an attempt that was cut off; what it had done so far, if anything, stays under its ref."""
    store = run.session.store
    commit = ""
    if tree and attempt.base and tree != store.tree_of(attempt.base):
        commit = _keep(run, issue, attempt, tree, "was interrupted", "Outcome: interrupted\n")
    run.record("attempt-interrupted", issue, attempt=attempt.number, commit=commit, **(cost or {}))


def ask(
    run: MilestoneRun, ref: str, number: int, question: str, tree: str, cost: Mapping[str, Any] | None = None
) -> None:
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
        run.record("attempt-interrupted", issue, attempt=number, commit=commit, **(cost or {}))
        run.record(
            "stopped",
            issue,
            level="hard",
            rule=QUESTION,
            reason=told,
            needs=f'doit answer {ref} "..."',
            lines=[one_line(line)[:300] for line in question.splitlines() if line.strip()][:50],
            spec_key=attempt.spec_key,
            attempt=number,
            bound="",
        )


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
    commit = run.session.store.commit(tree, [attempt.base], text, run.session.identity, time_of(run, attempt))
    name = attempt_ref(run.name, issue, attempt.number)
    run.session.refs.move([Move(name, None, commit)], f"attempt {attempt.number} {what}")
    return commit
