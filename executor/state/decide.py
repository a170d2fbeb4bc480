"""Decide: one pure function from the facts about an issue to its status and next action.

The same function answers `doit list`, `doit explain` and the run, so the views show exactly the run's decisions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from executor.git.trailers import UNPROVED
from executor.model.fingerprint import IssueRef, cleared
from executor.state.model import (
    DONE_ALREADY,
    PERMANENT,
    QUESTION,
    UNSPENT,
    Attempt,
    AttemptState,
    IssueState,
    Proof,
    Pull,
    Refusal,
    Stop,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.git.trailers import Landing
    from executor.state.budget import Wait

__all__ = ["Act", "Cause", "Decision", "Facts", "Need", "Status", "counts", "decide"]


class Status(StrEnum):
    """The only status words of an issue."""

    PENDING = "pending"
    BLOCKED = "blocked"
    RUNNING = "running"
    OPEN = "open"
    REVIEW = "review"
    SKIPPED = "skipped"
    FAILED = "failed"
    LANDED = "landed"
    STALE = "stale"


class Act(StrEnum):
    """The next action for an issue."""

    REST = "rest"
    IMPLEMENT = "implement"
    JUDGE = "judge"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Cause:
    """The input that decided, by name, with its old and new value; an empty old value means none."""

    input: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Need:
    """An issue that another issue needs.

    Attributes:
        ref: qualified id, ``m4/4.1``.
        status: its current status.
        result_key: result key of its latest landing; empty if it has not landed.
    """

    ref: str
    status: Status
    result_key: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The input of `decide`.

    Attributes:
        ref: qualified id of the issue.
        spec_key: key of the current declaration.
        check_key: key of the current checks.
        needs: the issues it needs, in declared order.
        held_by: a sentence if the whole milestone waits for another milestone, else empty.
        landing: its latest landing, if any.
        accepted: spec keys for which a person has accepted this landing.
        proof: the latest successful proof of the landing, if known.
        state: its state in the journal.
        attempts: maximum number of failed attempts.
        approved: consents (`executor.model.fingerprint.consent`) of a person to changes and specs that a rule stopped.
        allowed: ids of stop rules that the declaration clears in advance.
        red: why nothing can start: a check that fails before any work; empty otherwise.
        paused: why nothing starts: a person paused the milestone; empty otherwise.
        pull: its pull request, if that blocks the landing of a result; each run checks it once.
        review: why its reviewer cannot be called now; None otherwise.
        wait: why no attempt starts although the issue is ready (an account at its limit, a budget); None otherwise.
        nobody: why none of its agents can work on it; empty otherwise.
        hold: why its declaration requires a person first; empty otherwise.
        reverted: the revert of its landing (commit and day); empty without one, or if a person wants the work again.
        revived: the revert of its landing if a person wants the work again; empty otherwise.
        lost: commit that landed by the journal or by its ref, but is on neither branch nor base.
        renamed_from: id under which the same work has landed and which is no longer declared; empty otherwise.
    """

    ref: str
    spec_key: str
    check_key: str
    needs: tuple[Need, ...]
    held_by: str
    landing: Landing | None
    accepted: frozenset[str]
    proof: Proof | None
    state: IssueState
    attempts: int
    approved: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    red: str = ""
    paused: str = ""
    pull: Pull | None = None
    review: Wait | None = None
    wait: Wait | None = None
    nobody: str = ""
    hold: str = ""
    reverted: str = ""
    revived: str = ""
    lost: str = ""
    renamed_from: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Status, next action and the reason.

    Attributes:
        status: one of the status words.
        act: the next action.
        reason: one sentence for a person.
        hint: the command that resolves it; empty if none is needed.
        cause: the input that decided, if any.
        revision: the revision of a landing.
        attempt: number of the attempt to judge or start.
        wait: the only remaining obstacle of a ready issue.
    """

    status: Status
    act: Act
    reason: str
    hint: str = ""
    cause: Cause | None = None
    revision: int = 1
    attempt: int = 0
    wait: Wait | None = None


_NOT_REPEATED = frozenset({"resource", "new-tests"})
"""Classes of failure that get all attempts, even if they repeat."""


def counts(statuses: Iterable[str]) -> dict[str, int]:
    """Count the issues of each status, landed first, then alphabetically."""
    found = Counter(str(status) for status in statuses)
    return dict(sorted(found.items(), key=lambda item: (item[0] != Status.LANDED, item[0])))


def decide(facts: Facts) -> Decision:
    """Return status and next action of an issue."""
    landing = facts.landing
    if landing is not None and (landing.trailers.spec_key == facts.spec_key or facts.spec_key in facts.accepted):
        if facts.reverted:
            return _reverted(facts, landing)
        if facts.revived:
            return _unlanded(facts, Cause("revert", "", facts.revived), stale=True)
        return _landed(facts, landing)
    if facts.lost:
        return _lost(facts)
    if facts.renamed_from:
        return _asks_for_name(facts)
    return _unlanded(facts, _cause_of_work(facts), facts.landing is not None)


def _reverted(facts: Facts, landing: Landing) -> Decision:
    """Decide on a deliberately reverted landing: it is not implemented again until a person retries it."""
    cause = Cause("revert", landing.commit, facts.reverted)
    hint = f"doit retry {facts.ref}"
    revision = landing.trailers.revision
    return Decision(Status.STALE, Act.REST, f"reverted by {facts.reverted}", hint, cause, revision)


def _lost(facts: Facts) -> Decision:
    """Decide on a conflict between journal and history: a person decides, so nothing is paid for twice."""
    reason = (
        f"landed as {facts.lost[:10]}, but neither its branch nor its base contains it; "
        "`doit doctor` shows how to restore it, `doit retry` implements it again"
    )
    return Decision(Status.REVIEW, Act.REST, reason, f"doit retry {facts.ref}", Cause("landing", facts.lost, ""))


def _asks_for_name(facts: Facts) -> Decision:
    """Decide on work that landed under another id: a person confirms or denies the rename."""
    milestone, issue = IssueRef.parse(facts.ref)
    old = facts.renamed_from
    reason = f"{milestone}/{old} has landed with the same spec and is no longer declared; was it renamed to {issue}?"
    hint = f'write `was = ["{old}"]` into {facts.ref} to keep its landing, or `was = []` to implement it again'
    return Decision(Status.REVIEW, Act.REST, reason, hint, Cause("id", str(IssueRef(milestone, old)), facts.ref))


def _landed(facts: Facts, landing: Landing) -> Decision:
    cause = _stale_cause(facts, landing)
    revision = landing.trailers.revision
    if cause is None:
        return Decision(Status.LANDED, Act.REST, f"landed as {landing.commit[:10]}", revision=revision)
    refusal = facts.state.refusal
    if refusal is not None and _refuses_now(refusal, facts, revision):
        return _unlanded(facts, Cause("verification", "passed", refusal.reason), stale=True)
    waiting = [need for need in facts.needs if need.status is not Status.LANDED]
    if waiting:
        return Decision(
            Status.STALE, Act.REST, f"to be verified again after {waiting[0].ref}", cause=cause, revision=revision
        )
    if facts.paused:
        return _paused(facts, Status.STALE, cause, revision)
    return Decision(
        Status.STALE, Act.VERIFY, f"to be verified again: {_words(cause)}", f"doit issue:{facts.ref}", cause, revision
    )


def _stale_cause(facts: Facts, landing: Landing) -> Cause | None:
    """Return why the landing must be proved again; None if it need not."""
    proof = facts.proof
    if proof is None:
        return None
    for need in facts.needs:
        old = proof.needs.get(need.ref)
        if need.result_key and old is not None and old != need.result_key:
            return Cause(f"result of {need.ref}", old, need.result_key)
    old_check = proof.check_key or landing.trailers.check_key
    if old_check == UNPROVED:
        return Cause("tree", UNPROVED, facts.check_key)
    if old_check and old_check != facts.check_key:
        return Cause("checks", old_check, facts.check_key)
    return None


def _refuses_now(refusal: Refusal, facts: Facts, revision: int) -> bool:
    return (
        refusal.revision == revision
        and refusal.check_key == facts.check_key
        and dict(refusal.needs) == _result_keys(facts.needs)
    )


def _cause_of_work(facts: Facts) -> Cause:
    old = facts.landing.trailers.spec_key if facts.landing is not None else ""
    return Cause("spec", old, facts.spec_key)


def _unlanded(facts: Facts, cause: Cause, stale: bool) -> Decision:  # noqa: FBT001  (read as a word at both calls)
    revision = 1 if facts.landing is None else facts.landing.trailers.revision + 1
    rest = _waits(facts) or _on_hold(facts) or _at_rest(facts, revision)
    if rest is not None:
        status, reason, hint = rest
        stop = facts.state.stop
        if stop is not None and status in {Status.REVIEW, Status.SKIPPED}:
            cause = Cause(f"stop {stop.rule}", "", stop.bound or stop.spec_key)
        elif not stale:
            cause = _cause_of_rest(facts) or cause
        return Decision(status, Act.REST, reason, hint, cause, revision, facts.state.last())
    counted = facts.state.counted(facts.spec_key)
    built = [attempt for attempt in counted if attempt.state is AttemptState.BUILT and attempt.revision == revision]
    if built:
        return _built(facts, cause, revision, built[-1].number)
    if facts.paused:
        return _paused(facts, Status.STALE if stale else Status.PENDING, cause, revision)
    if facts.red:
        base = Cause("checks on the base", "", facts.check_key)
        return Decision(Status.BLOCKED, Act.REST, facts.red, f"doit issue:{facts.ref}", base, revision)
    return _ready(facts, Status.STALE if stale else Status.PENDING, cause, revision)


def _built(facts: Facts, cause: Cause, revision: int, number: int) -> Decision:
    """Decide on an issue with a result: it waits for its pull request or its reviewer, or is judged now."""
    hint = f"doit issue:{facts.ref}"
    if facts.pull is not None:
        return Decision(Status(facts.pull.waits), Act.REST, facts.pull.reason, hint, cause, revision, number)
    if facts.review is not None:
        wait = facts.review
        return Decision(Status.OPEN, Act.REST, wait.reason, wait.hint, cause, revision, number, wait)
    reason = f"attempt {number} has a result that is not yet verified and landed"
    return Decision(Status.OPEN, Act.JUDGE, reason, hint, cause, revision, number)


def _ready(facts: Facts, status: Status, cause: Cause, revision: int) -> Decision:
    """Decide on an issue without obstacles, except perhaps an account at its limit or an exhausted budget."""
    if facts.wait is not None:
        wait = facts.wait
        return Decision(status, Act.REST, wait.reason, wait.hint, cause, revision, facts.state.last(), wait)
    return Decision(
        status,
        Act.IMPLEMENT,
        _why_implement(facts, cause, revision),
        f"doit issue:{facts.ref}",
        cause,
        revision,
        facts.state.last() + 1,
    )


def _paused(facts: Facts, status: Status, cause: Cause, revision: int) -> Decision:
    """Start nothing; an existing result may still land."""
    hint = f"doit unpause {facts.ref.partition('/')[0]}"
    return Decision(status, Act.REST, facts.paused, hint, cause, revision, facts.state.last())


def _waits(facts: Facts) -> tuple[Status, str, str] | None:
    if facts.held_by:
        return Status.BLOCKED, facts.held_by, ""
    waiting = [need for need in facts.needs if need.status is not Status.LANDED]
    if waiting:
        names = ", ".join(f"{need.ref} ({need.status})" for need in waiting)
        return Status.BLOCKED, f"needs {names}", f"doit issue:{waiting[0].ref}"
    return None


def _on_hold(facts: Facts) -> tuple[Status, str, str] | None:
    if not facts.hold:
        return None
    milestone, issue = IssueRef.parse(facts.ref)
    return Status.REVIEW, f"on hold: {facts.hold}", f"remove `hold` of {issue} in milestones/{milestone}.toml"


def _cause_of_rest(facts: Facts) -> Cause | None:
    """Return the obstacle of an issue that never landed: a need, or the end of its last attempt."""
    waiting = next((need for need in facts.needs if need.status is not Status.LANDED), None)
    if facts.held_by or waiting is not None:
        return None if waiting is None else Cause(f"status of {waiting.ref}", "", str(waiting.status))
    last = facts.state.attempts.get(facts.state.last())
    return Cause(f"attempt {last.number}", "", f"failed ({last.kind})") if last is not None and last.kind else None


def _at_rest(facts: Facts, revision: int) -> tuple[Status, str, str] | None:
    """Return the decision on an issue that is stopped or out of attempts; None otherwise."""
    stop = facts.state.stop
    if stop is not None and _holds(stop, facts):
        again = f"doit retry {facts.ref}"
        if stop.rule == DONE_ALREADY:
            again = f"doit accept {facts.ref} if that is this issue's work, or {again}"
        elif stop.rule == QUESTION:
            again = f'doit answer {facts.ref} "..."'
        elif stop.bound:
            again = f'doit approve {facts.ref} --reason "..." or {again}'
        return Status.REVIEW if stop.level == "hard" else Status.SKIPPED, f"{stop.rule}: {stop.reason}", again
    failed = [
        attempt
        for attempt in facts.state.counted(facts.spec_key)
        if attempt.state is AttemptState.FAILED and attempt.revision == revision and attempt.kind not in UNSPENT
    ]
    again = f"doit retry {facts.ref}"
    permanent = facts.nobody or (failed[-1].reason if failed and failed[-1].kind in PERMANENT else "")
    if permanent:
        return Status.FAILED, permanent, again
    if not failed:
        return None
    if _repeats(failed):
        return Status.FAILED, f"failed the same way twice: {failed[-1].reason}", again
    if len(failed) >= facts.attempts:
        rule = "checks-failing: " if failed[-1].kind == "checks" else ""
        return Status.FAILED, f"{rule}{len(failed)} of {facts.attempts} attempts failed: {failed[-1].reason}", again
    return None


def _holds(stop: Stop, facts: Facts) -> bool:
    """Return whether a stop is in effect: same spec, neither approved nor allowed in the declaration."""
    if stop.spec_key != facts.spec_key or (cleared(stop.bound, stop.rules, facts.approved)):
        return False
    return not stop.rules <= facts.allowed


def _repeats(failed: list[Attempt]) -> bool:
    """Return whether the last two attempts failed alike: then the work is at fault, and a retry is pointless.

    Excluded are a machine without resources, which may recover, and the findings of a rule, which go back to the agent
    and may get the same answer.
    """
    if len(failed) < 2 or failed[-1].kind in _NOT_REPEATED:  # noqa: PLR2004  (two, as the name says)
        return False
    return bool(failed[-1].print) and failed[-1].print == failed[-2].print


def _why_implement(facts: Facts, cause: Cause, revision: int) -> str:
    failed = [item for item in facts.state.counted(facts.spec_key) if item.state is AttemptState.FAILED]
    if failed and failed[-1].revision == revision:
        again = "another agent continues" if failed[-1].kind in PERMANENT else "trying again"
        return f"attempt {failed[-1].number} failed ({failed[-1].reason}); {again}"
    if facts.landing is None:
        return "not implemented yet"
    return f"revision {revision}: {_words(cause)}"


def _words(cause: Cause) -> str:
    if cause.input == "spec":
        return "its spec changed"
    if cause.input == "tree":
        return "it landed with a different tree than the one that passed its checks"
    if cause.input == "checks":
        return "its checks changed"
    if cause.input == "revert":
        return f"it was reverted by {cause.new} and then retried"
    if cause.input == "verification":
        return f"verification failed ({cause.new})"
    return f"the {cause.input} changed"


def _result_keys(needs: tuple[Need, ...]) -> Mapping[str, str]:
    return {need.ref: need.result_key for need in needs}
