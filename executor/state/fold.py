"""The fold: the state of each issue from the journal's events, and the blockers of the run.

Events are facts; the fold is pure and needs only the events, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    BaseRed,
    BlockerFound,
    Event,
    GateHeld,
    GateOpened,
    Landed,
    LandingIntended,
    PullChanged,
    Refused,
    Retried,
    Reviewed,
    ReviewerCalled,
    Snapshot,
    StepDone,
    StepFailed,
    StepStarted,
    Stopped,
    Unsandboxed,
    Verified,
    WorkHosted,
)
from executor.state.issue_events import AttemptLost
from executor.state.model import (
    QUESTION,
    Attempt,
    AttemptState,
    Criterion,
    Finding,
    IssueState,
    Proof,
    Pull,
    Red,
    Refusal,
    Review,
    Stop,
)
from executor.state.steps import apply_step, forget_rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from executor.state.record import Record

__all__ = ["Blocker", "blockers_of", "fold", "read_blocker", "with_git_attempts"]

_STOPPED = {"merge-conflict": "soft", QUESTION: "hard", "known-secret": "hard"}
"""Outcomes of attempts that stop the issue, with the level of the stop."""


def fold(records: Iterable[Record], into: dict[str, IssueState] | None = None) -> dict[str, IssueState]:
    """Return issue id -> state after these records; ``into`` continues an earlier fold in place."""
    states: dict[str, IssueState] = {} if into is None else into
    for record in records:
        if record.kind not in _FOLDED:
            continue
        state = states.get(record.key)
        if state is None:
            state = states[record.key] = IssueState()
        event = record.event
        _TAKE[type(event)](state, record, event)
        spend = getattr(event, "spend", None)
        if spend is not None and spend.known:
            _add_spend(state, cast("_Spending", event))
    return states


def with_git_attempts(states: dict[str, IssueState], kept: Iterable[tuple[str, Attempt]]) -> None:
    """Add facts about attempts from git: all of them without `.cache/`, or results whose records a crash cut off.

    If the journal has the end of an attempt, the journal takes precedence.
    """
    for issue, found in kept:
        state = states.setdefault(issue, IssueState())
        known = state.attempts.get(found.number)
        if known is None:
            state.attempts[found.number] = found
        elif known.spec_key == found.spec_key and _is_later(found, known):
            state.attempts[found.number] = replace(
                found,
                base=known.base,
                started_at=known.started_at,
                boot=known.boot,
                unsandboxed=known.unsandboxed or ("" if found.sandbox else found.unsandboxed),
            )
        else:
            continue
        latest = found.number == state.last()
        if latest and found.kind in _STOPPED and state.stop is None and found.number > state.forgiven:
            state.stop = Stop(_STOPPED[found.kind], found.kind, found.reason, found.spec_key, found.number)
        elif latest and not found.kind and state.stop is not None and state.stop.attempt < found.number:
            state.stop = None


def _is_later(found: Attempt, known: Attempt) -> bool:
    """Return whether git has a later state of an attempt than the journal."""
    if known.state in {AttemptState.STARTED, AttemptState.INTERRUPTED}:
        return True
    return known.state is AttemptState.BUILT and found.state is AttemptState.FAILED


def _review(state: IssueState, record: Record, event: Reviewed) -> None:
    findings = tuple(
        Finding(item["description"], int(item["score"]), item.get("file", ""), int(item.get("line", 0)))
        for item in event.findings
    )
    criteria = tuple(
        Criterion(item["criterion"], bool(item["met"]), item.get("evidence", "")) for item in event.criteria
    )
    state.reviews[event.attempt] = Review(event.reviewer, findings, criteria, record.at)


def _snapshot(state: IssueState, _record: Record, event: Snapshot) -> None:
    _change(state, event.attempt, tree=event.tree, when=event.when, seconds=event.seconds)


def _built(state: IssueState, _record: Record, event: AttemptBuilt) -> None:
    _change(
        state,
        event.attempt,
        state=AttemptState.BUILT,
        commit=event.commit,
        result_key=event.result_key,
        pull=event.pull,
        seconds=event.seconds,
        deviations=event.deviations,
        notes=event.notes,
    )
    state.seconds += event.seconds


def _landing(state: IssueState, _record: Record, event: LandingIntended) -> None:
    _change(state, event.attempt, landing=event.commit)


def _landed(state: IssueState, _record: Record, event: Landed) -> None:
    if event.attempt:
        _change(state, event.attempt, state=AttemptState.LANDED, commit=event.commit)
    state.proof = Proof(event.check_key, event.needs, event.revision)
    state.refusal = state.stop = None


def _interrupted(state: IssueState, _record: Record, event: AttemptInterrupted) -> None:
    _change(state, event.attempt, state=AttemptState.INTERRUPTED, commit=event.commit)


def _lost(state: IssueState, _record: Record, event: AttemptLost) -> None:
    """The disk no longer has its result: it is made again and does not count."""
    _change(state, event.attempt, state=AttemptState.INTERRUPTED, commit="", tree="")
    if state.stop is not None and state.stop.attempt == event.attempt:
        state.stop = None


def _unsandboxed(state: IssueState, _record: Record, event: Unsandboxed) -> None:
    _change(state, event.attempt, unsandboxed=event.agent)


def _hosted(state: IssueState, _record: Record, event: WorkHosted) -> None:
    _change(state, event.attempt, runner=event.runner, host=event.host)


def _verified(state: IssueState, _record: Record, event: Verified) -> None:
    state.proof = Proof(event.check_key, event.needs, event.revision)
    state.refusal = None


def _refused(state: IssueState, _record: Record, event: Refused) -> None:
    state.refusal = Refusal(event.check_key, event.needs, event.revision, event.reason, event.detail)


def _stopped(state: IssueState, _record: Record, event: Stopped) -> None:
    state.stop = Stop(
        level=event.level,
        rule=event.rule,
        reason=event.reason,
        spec_key=event.spec_key,
        attempt=event.attempt,
        bound=event.bound,
        needs=event.needs,
        lines=event.lines,
    )


def _base_red(state: IssueState, record: Record, event: BaseRed) -> None:
    state.red = Red(
        event.tip, event.check_key, event.reason, record.run, event.word, event.check, event.proof, event.detail
    )


def _pull(state: IssueState, record: Record, event: PullChanged) -> None:
    state.pull = Pull(
        number=event.number,
        state=event.state,
        url=event.url,
        head=event.head,
        commit=event.commit,
        waits=event.waits,
        reason=event.reason,
        run=record.run,
        attempt=event.attempt,
        base=event.base,
    )


def _retried(state: IssueState, _record: Record, event: Retried) -> None:
    state.forgiven = max(state.last(), event.after)
    state.stop = None
    forget_rounds(state)


def _called(_state: IssueState, _record: Record, _event: ReviewerCalled) -> None:
    """Its money and tokens are all that counts."""


def _start(state: IssueState, record: Record, event: AttemptStarted) -> None:
    state.attempts[event.attempt] = Attempt(
        number=event.attempt,
        revision=event.revision,
        spec_key=event.spec_key,
        base=event.base,
        started_at=record.at,
        boot=record.boot,
        agent=event.agent,
        account=event.account,
        reserved_usd=event.reserved_usd,
        run=record.run,
    )
    state.stop = state.red = None


def _fail(state: IssueState, _record: Record, event: AttemptFailed) -> None:
    _change(
        state,
        event.attempt,
        state=AttemptState.FAILED,
        kind=event.failure,
        reason=event.reason,
        detail=event.detail,
        print=event.fingerprint,
        commit=event.commit,
        until=event.until,
        rest_s=event.rest_s,
        step=event.step,
        **({"seconds": event.seconds} if event.seconds else {}),
    )
    state.seconds += event.seconds


_Spending = AttemptBuilt | AttemptFailed | AttemptInterrupted | ReviewerCalled | StepDone | StepFailed


def _add_spend(state: IssueState, event: _Spending) -> None:
    """Add money and tokens to the attempt; those of its steps accumulate."""
    attempt = state.attempts.get(event.attempt)
    if attempt is None:
        return
    cost = event.spend.cost_usd
    tokens = {**attempt.tokens}
    for name, count in event.spend.tokens.items():
        tokens[name] = tokens.get(name, 0) + count
    known = attempt.cost_known or cost is not None
    _change(state, event.attempt, tokens=tokens, cost_known=known, cost_usd=round(attempt.cost_usd + (cost or 0.0), 8))
    state.cost_usd = round(state.cost_usd + (cost or 0.0), 8)


def _change(state: IssueState, number: int, /, **changes: object) -> None:
    attempt = state.attempts.get(number)
    if attempt is not None:
        state.attempts[number] = replace(attempt, **changes)  # type: ignore[arg-type]  # fields are named above


_TAKE: dict[type[Event], Callable[[IssueState, Record, Any], None]] = {
    AttemptStarted: _start,
    Snapshot: _snapshot,
    AttemptBuilt: _built,
    LandingIntended: _landing,
    Landed: _landed,
    AttemptFailed: _fail,
    AttemptInterrupted: _interrupted,
    AttemptLost: _lost,
    Unsandboxed: _unsandboxed,
    WorkHosted: _hosted,
    Verified: _verified,
    Refused: _refused,
    Stopped: _stopped,
    ReviewerCalled: _called,
    Reviewed: _review,
    BaseRed: _base_red,
    PullChanged: _pull,
    Retried: _retried,
    StepStarted: apply_step,
    StepDone: apply_step,
    StepFailed: apply_step,
    GateOpened: apply_step,
    GateHeld: apply_step,
}
"""What each kind of event does to the state of its issue."""
_FOLDED = frozenset(cls.KIND for cls in _TAKE)
"""Kinds with effects on an issue; the others are not decoded."""


def _kinds(*events: type[Event]) -> frozenset[str]:
    return frozenset(event.KIND for event in events)


Kind = Literal[
    "silence", "long", "conflict", "red-base", "disk", "limit", "outage", "budget", "deadline", "declaration"
]
_CLEARED_BY = {
    "silence": _kinds(AttemptBuilt, AttemptFailed, AttemptInterrupted, AttemptStarted, Landed),
    "long": _kinds(AttemptStarted, Landed, Stopped, Retried),
    "conflict": _kinds(AttemptStarted, Landed, Retried),
    "red-base": _kinds(AttemptStarted, Landed),
    "limit": _kinds(AttemptStarted, AttemptBuilt, Landed),
    "outage": _kinds(AttemptBuilt, Landed),
    "budget": _kinds(AttemptStarted, AttemptBuilt, Landed),
}
"""Events of the issue that clear its blocker; blockers of a whole run, and a pause, end with the run."""
_SHARED = frozenset({"red-base", "limit", "outage", "budget"})
"""Blockers that affect many issues and are reported for the first one."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """An obstacle to a run.

    Attributes:
        kind: one of the known kinds.
        issue: id of the issue concerned; empty for the milestone.
        about: the exact subject; each subject is reported once.
        reason: one sentence.
        resume: the next step, or a command.
        pauses: the run that met it starts nothing more.
    """

    kind: Kind
    issue: str
    about: str
    reason: str
    resume: str
    pauses: bool = False

    @property
    def report_key(self) -> tuple[str, str, str]:
        """Key that is equal for blockers to report once."""
        return (self.kind, "" if self.kind in _SHARED else self.issue, self.about)

    def event(self) -> BlockerFound:
        """The event that records it."""
        return BlockerFound(
            blocker=self.kind, about=self.about, reason=self.reason, resume=self.resume, pauses=self.pauses
        )

    def data(self) -> dict[str, object]:
        """Its fields as the data of an event."""
        return {
            "blocker": self.kind,
            "about": self.about,
            "reason": self.reason,
            "resume": self.resume,
            "pauses": self.pauses,
        }


def read_blocker(issue: str, event: BlockerFound) -> Blocker:
    """Return the blocker that an event recorded."""
    return Blocker(
        cast("Kind", event.blocker), issue, event.about, event.reason, event.resume, pauses=bool(event.pauses)
    )


def blockers_of(events: Sequence[Record]) -> list[Blocker]:
    """Return the blockers that a journal has not cleared, oldest first."""
    found: dict[tuple[str, str, str], Blocker] = {}
    run = ""
    for event in events:
        if event.run != run:
            run = event.run
            found = {key: blocker for key, blocker in found.items() if blocker.issue and not blocker.pauses}
        if isinstance(recorded := event.event, BlockerFound):
            blocker = read_blocker(event.key, recorded)
            found[blocker.report_key] = blocker
        elif found and event.key:
            found = {key: blocker for key, blocker in found.items() if not _cleared(blocker, event)}
    return list(found.values())


def _cleared(blocker: Blocker, event: Record) -> bool:
    return not blocker.pauses and blocker.issue == event.key and event.kind in _CLEARED_BY.get(blocker.kind, ())
