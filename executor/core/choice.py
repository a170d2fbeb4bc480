"""Which agent of an issue's list works on it next, and from when. Pure.

A list is gone through on a limit, a refusal or a failed login, never because tests failed: who began goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from executor.core.classify import FALLS_BACK, PERMANENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.core.profile import Agent
    from executor.core.state import Attempt

__all__ = ["Choice", "Suspension", "Wait", "choose"]

_MOST_UNSPENT = 20
"""So many calls in a row that count for nothing are no accident: the agent says so whatever happens."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """An account that is not used for a while.

    Attributes:
        until: epoch seconds; None while the run that saw it lasts (a login that only a person can mend).
        reason: one sentence.
    """

    until: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an issue that is ready is not begun now.

    Attributes:
        reason: one sentence, with until when or who can change it.
        until: epoch seconds after which it can be begun without anybody doing something (0: by the next run); None if
            a person has to do something.
        hint: what a person would do; empty when nothing is needed.
        kind: what is in the way; `pause` is a blocker that keeps the run from beginning anything more.
    """

    reason: str
    until: float | None
    hint: str = ""
    kind: Literal["limit", "budget", "deadline", "pause"] = "limit"

    @property
    def by_time(self) -> bool:
        """Whether time alone lets it go on."""
        return self.until is not None


@dataclass(frozen=True, slots=True)
class Choice:
    """Who works next: `agent`, or why nobody does: `wait` for a while, `failed` for good."""

    agent: str = ""
    wait: Wait | None = None
    failed: str = ""


def choose(
    agents: Sequence[Agent], tried: Sequence[Attempt], suspended: Mapping[str, Suspension], when: Mapping[str, str]
) -> Choice:
    """The first agent of the list that is neither ruled out nor suspended.

    Args:
        agents: the issue's list, in its order; not empty.
        tried: attempts at the present spec since the last retry, oldest first.
        suspended: account -> suspension, only those that hold now.
        when: account -> the end of its suspension as people read it.
    """
    failed = [item for item in tried if item.kind in FALLS_BACK]
    out = {item.agent: item for item in failed if item.kind in PERMANENT}
    left = [agent for agent in agents if agent.name not in out]
    if not left:
        return Choice(failed=out[agents[-1].name].reason)
    if len(failed) >= _MOST_UNSPENT and all(item.kind in FALLS_BACK for item in tried[-_MOST_UNSPENT:]):
        return Choice(failed=f"{_MOST_UNSPENT} calls in a row came to nothing: {failed[-1].reason}")
    free = next((agent for agent in left if agent.payer not in suspended), None)
    if free is not None:
        return Choice(agent=free.name)
    first = min(left, key=lambda agent: (suspended[agent.payer].until is None, suspended[agent.payer].until or 0.0))
    suspension = suspended[first.payer]
    if suspension.until is None:
        return Choice(wait=Wait(suspension.reason, None))
    return Choice(wait=Wait(f"{first.payer} is at its limit until {when[first.payer]}", suspension.until))
