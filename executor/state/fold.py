"""The fold: what the journal's events say about each issue.

Events are facts; folding them is pure and needs nothing but the events, in order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from executor.state.model import QUESTION, Attempt, AttemptState, IssueState, Proof, Pull, Red, Refusal, Stop
from executor.state.steps import STEP_EVENTS, forget_rounds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.state.events import Event

__all__ = ["fold", "with_git_attempts"]

_STOPPED = {"merge-conflict": "soft", QUESTION: "hard"}
"""Outcomes of attempts that stop the issue, with the level of the stop."""


def fold(events: Iterable[Event], into: dict[str, IssueState] | None = None) -> dict[str, IssueState]:
    """Issue id -> state after these events; ``into`` continues an earlier fold in place."""
    states: dict[str, IssueState] = {} if into is None else into
    for event in events:
        apply = _APPLY.get(event.kind)
        if apply is not None:
            state = states.get(event.key)
            if state is None:
                state = states[event.key] = IssueState()
            apply(state, event)
            if "cost_usd" in event.data or "tokens" in event.data:
                _cost(state, event)
    return states


def with_git_attempts(states: dict[str, IssueState], kept: Iterable[tuple[str, Attempt]]) -> None:
    """Add what only git knows of attempts: all of it without `.cache/`, or a result whose record a crash cut off.

    Where the journal knows how an attempt ended, its word has precedence.
    """
    for issue, found in kept:
        state = states.setdefault(issue, IssueState())
        known = state.attempts.get(found.number)
        if known is None:
            state.attempts[found.number] = found
        elif known.spec_key == found.spec_key and _is_later(found, known):
            state.attempts[found.number] = replace(
                found, base=known.base, started_at=known.started_at, boot=known.boot, unsandboxed=known.unsandboxed
            )
        else:
            continue
        latest = found.number == state.last()
        if latest and found.kind in _STOPPED and state.stop is None and found.number > state.forgiven:
            state.stop = Stop(_STOPPED[found.kind], found.kind, found.reason, found.spec_key, found.number)
        elif latest and not found.kind and state.stop is not None and state.stop.attempt < found.number:
            state.stop = None


def _is_later(found: Attempt, known: Attempt) -> bool:
    """Whether git knows how an attempt went on after the journal was cut off."""
    if known.state in {AttemptState.STARTED, AttemptState.INTERRUPTED}:
        return True
    return known.state is AttemptState.BUILT and found.state is AttemptState.FAILED


def _started(state: IssueState, event: Event) -> None:
    data = event.data
    number = int(data["attempt"])
    state.attempts[number] = Attempt(
        number=number,
        revision=int(data["revision"]),
        spec_key=data["spec_key"],
        base=data["base"],
        started_at=event.at,
        boot=event.boot,
        agent=data.get("agent", ""),
        account=data.get("account", ""),
        reserved_usd=data.get("reserved_usd", 0.0),
        run=event.run,
    )
    state.stop = state.red = None


def _unsandboxed(state: IssueState, event: Event) -> None:
    _change(state, event, unsandboxed=event.data["agent"])


def _snapshot(state: IssueState, event: Event) -> None:
    _change(state, event, tree=event.data["tree"], when=int(event.data["when"]), seconds=event.data["seconds"])


def _lost(state: IssueState, event: Event) -> None:
    """The disk does not have its result any more: it has to be made again and does not count."""
    _change(state, event, state=AttemptState.INTERRUPTED, commit="", tree="")
    if state.stop is not None and state.stop.attempt == int(event.data["attempt"]):
        state.stop = None


def _built(state: IssueState, event: Event) -> None:
    data = event.data
    _change(
        state,
        event,
        state=AttemptState.BUILT,
        commit=data["commit"],
        result_key=data["result_key"],
        pull=int(data.get("pull", 0)),
        seconds=data["seconds"],
        deviations=tuple(data.get("deviations", ())),
    )
    state.seconds += data["seconds"]


def _failed(state: IssueState, event: Event) -> None:
    data = event.data
    _change(
        state,
        event,
        state=AttemptState.FAILED,
        kind=data["failure"],
        reason=data["reason"],
        detail=data.get("detail", ""),
        print=data.get("print", ""),
        commit=data.get("commit", ""),
        until=data.get("until") or 0.0,
        rest_s=data.get("rest_s") or 0.0,
        step=data.get("step", ""),
        **({"seconds": data["seconds"]} if data.get("seconds") else {}),
    )
    state.seconds += data.get("seconds", 0.0)


def _interrupted(state: IssueState, event: Event) -> None:
    _change(state, event, state=AttemptState.INTERRUPTED, commit=event.data.get("commit", ""))


def _cost(state: IssueState, event: Event) -> None:
    """Money and tokens, where the event says something of them; those of an attempt's steps add up."""
    data = event.data
    attempt = state.attempts.get(int(data["attempt"]))
    if attempt is None:
        return
    tokens = {**attempt.tokens}
    for name, count in data.get("tokens", {}).items():
        tokens[name] = tokens.get(name, 0) + count
    known = attempt.cost_known or "cost_usd" in data
    spent = round(attempt.cost_usd + data.get("cost_usd", 0.0), 8)
    _change(state, event, tokens=tokens, cost_known=known, cost_usd=spent)
    state.cost_usd = round(state.cost_usd + data.get("cost_usd", 0.0), 8)


def _landing(state: IssueState, event: Event) -> None:
    _change(state, event, landing=event.data["commit"])


def _landed(state: IssueState, event: Event) -> None:
    data = event.data
    if data.get("attempt"):
        _change(state, event, state=AttemptState.LANDED, commit=data["commit"])
    state.proof = Proof(data["check_key"], data["needs"], int(data["revision"]))
    state.refusal = None
    state.stop = None


def _verified(state: IssueState, event: Event) -> None:
    data = event.data
    state.proof = Proof(data["check_key"], data["needs"], int(data["revision"]))
    state.refusal = None


def _refused(state: IssueState, event: Event) -> None:
    data = event.data
    state.refusal = Refusal(
        data["check_key"], data["needs"], int(data["revision"]), data["reason"], data.get("detail", "")
    )


def _stopped(state: IssueState, event: Event) -> None:
    data = event.data
    state.stop = Stop(
        level=data["level"],
        rule=data["rule"],
        reason=data["reason"],
        spec_key=data["spec_key"],
        attempt=int(data["attempt"]),
        bound=data.get("bound", ""),
        needs=data.get("needs", ""),
        lines=tuple(data.get("lines", ())),
    )


def _red(state: IssueState, event: Event) -> None:
    data = event.data
    state.red = Red(data["tip"], data["check_key"], data["reason"], event.run)


def _pull(state: IssueState, event: Event) -> None:
    data = event.data
    state.pull = Pull(
        number=int(data["number"]),
        state=data["state"],
        url=data["url"],
        head=data["head"],
        commit=data["commit"],
        waits=data.get("waits", ""),
        reason=data.get("reason", ""),
        run=event.run,
        attempt=int(data.get("attempt", 0)),
    )


def _retried(state: IssueState, event: Event) -> None:
    state.forgiven = max(state.last(), int(event.data.get("after", 0)))
    state.stop = None
    forget_rounds(state)


def _change(issue: IssueState, event: Event, /, **changes: object) -> None:
    attempt = issue.attempts.get(int(event.data["attempt"]))
    if attempt is not None:
        issue.attempts[attempt.number] = replace(attempt, **changes)  # type: ignore[arg-type]  # fields are named above


_APPLY = {
    "attempt-started": _started,
    "unsandboxed": _unsandboxed,
    "snapshot": _snapshot,
    "attempt-lost": _lost,
    "attempt-built": _built,
    "attempt-failed": _failed,
    "attempt-interrupted": _interrupted,
    "reviewer-called": lambda _state, _event: None,  # only what it cost
    "landing": _landing,
    "landed": _landed,
    "verified": _verified,
    "refused": _refused,
    "stopped": _stopped,
    "base-red": _red,
    "pull": _pull,
    "retried": _retried,
    **STEP_EVENTS,
}
