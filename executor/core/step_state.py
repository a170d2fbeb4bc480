"""What the journal says of the steps of an issue; part of the fold in `executor.core.fold`. Pure.

Results of steps are kept in git; here is only what is being done, what failed, and what a gate sent back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.core.event import Event
    from executor.core.state import IssueState

__all__ = ["STEP_EVENTS", "StepState", "forget_rounds"]


@dataclass(frozen=True, slots=True)
class StepState:
    """A step, or a phase's gate.

    Attributes:
        word: ``started``, ``done`` or ``failed``; of a gate ``open`` or ``held``.
        attempt: in which that was.
        reason: why it failed or is held.
        missing: what a gate sends it back for, until it is done again.
        rounds: how often a gate was held, at one spec and since the last retry.
        percent: score of a gate.
        spec_key: spec to which `rounds` belongs.
        started_at: ISO-8601 time of its last start.
    """

    word: str = ""
    attempt: int = 0
    reason: str = ""
    missing: tuple[str, ...] = ()
    rounds: int = 0
    percent: int = 0
    spec_key: str = ""
    started_at: str = ""


def forget_rounds(state: IssueState) -> None:
    """A person asked for a retry: the gates begin anew."""
    for name, item in state.steps.items():
        state.steps[name] = replace(item, rounds=0)


def _started(state: IssueState, event: Event) -> None:
    _change(state, event, word="started", attempt=int(event.data["attempt"]), reason="", started_at=event.at)


def _done(state: IssueState, event: Event) -> None:
    _change(state, event, word="done", attempt=int(event.data["attempt"]), reason="", missing=())


def _failed(state: IssueState, event: Event) -> None:
    _change(state, event, word="failed", attempt=int(event.data["attempt"]), reason=event.data["reason"])


def _opened(state: IssueState, event: Event) -> None:
    _change(state, event, word="open", percent=int(event.data["percent"]), reason="", rounds=0)


def _held(state: IssueState, event: Event) -> None:
    data = event.data
    before = state.steps.get(data["step"], StepState())
    rounds = before.rounds if before.spec_key == data["spec_key"] else 0
    _change(
        state,
        event,
        word="held",
        percent=int(data["percent"]),
        reason=data["reason"],
        rounds=rounds + 1,
        spec_key=data["spec_key"],
    )
    for name, texts in data["missing"].items():
        state.steps[name] = replace(state.steps.get(name, StepState()), missing=tuple(texts))


def _change(state: IssueState, event: Event, /, **changes: object) -> None:
    name = event.data["step"]
    state.steps[name] = replace(state.steps.get(name, StepState()), **changes)  # type: ignore[arg-type]  # named above


STEP_EVENTS = {
    "step-started": _started,
    "step-done": _done,
    "step-failed": _failed,
    "gate-opened": _opened,
    "gate-held": _held,
}
