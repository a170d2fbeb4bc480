"""Which agent of an issue's list works on it next, and from when. Pure.

A list is gone through on a limit, a refusal or a failed login, never because tests failed: who began goes on.

Money and tokens: what was spent, by whom and when, and whether a cap leaves room for another attempt. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from executor.model.rules import SCOPES
from executor.state.model import FALLS_BACK, PERMANENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from executor.model.agent_profile import Agent
    from executor.model.rules import Caps
    from executor.state.model import Attempt

__all__ = ["Choice", "Ledger", "Suspension", "Wait", "choose", "outage_rest", "spent"]


_MOST_UNSPENT = 20
"""So many calls in a row that count for nothing are no accident: the agent says so whatever happens."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """An account that is not used for a while.

    Attributes:
        until: epoch seconds; None while the run that saw it lasts (a login that only a person can mend).
        reason: one sentence.
        outage: its service fails, as opposed to a limit.
    """

    until: float | None
    reason: str
    outage: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an issue that is ready is not begun now.

    Attributes:
        reason: one sentence, with until when or who can change it.
        until: epoch seconds after which it can be begun without anybody doing something (0: by the next run); None if
            a person has to do something.
        hint: the action that helps; empty when time alone helps.
        kind: the obstacle; `pause` is a blocker that keeps the run from starting anything.
    """

    reason: str
    until: float | None
    hint: str = ""
    kind: Literal["limit", "outage", "budget", "deadline", "pause"] = "limit"

    @property
    def by_time(self) -> bool:
        """Whether time alone lets it go on."""
        return self.until is not None


@dataclass(frozen=True, slots=True)
class Choice:
    """The next `agent`, or why none works: `wait` for a while, `failed` for good."""

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
    moment = when[first.payer]
    if suspension.outage:
        reason = f"the service of {first.payer} fails; it is asked again at {moment}"
        return Choice(wait=Wait(reason, suspension.until, kind="outage"))
    return Choice(wait=Wait(f"{first.payer} is at its limit until {moment}", suspension.until))


def outage_rest(
    before: Sequence[tuple[float, float]], now: float, first_s: float, most_s: float
) -> tuple[float, float]:
    """Until when an account rests whose service fails, and for how long that is: twice as long after each outage.

    Args:
        before: (until, seconds) of its rests since it last worked.
        now: epoch seconds.
        first_s: how long the first rest is.
        most_s: how long a rest is at most.
    """
    running = max(before, default=(0.0, 0.0))
    if running[0] > now:  # calls that were under way when the first of them failed
        return running
    longest = max((seconds for _, seconds in before), default=0.0)
    seconds = min(most_s, 2 * longest if longest else first_s)
    return now + seconds, seconds


_WHERE = {
    "run": "of this run",
    "day": "of today",
    "milestone": "of the milestone",
}
_LEAST = 1e-9


def spent(attempt: Attempt) -> float:
    """The cost of an attempt: the known cost, otherwise its reserve."""
    return attempt.cost_usd if attempt.cost_known or not attempt.open else max(attempt.cost_usd, attempt.reserved_usd)


def _tokens(attempt: Attempt) -> int:
    return attempt.tokens.get("input", 0) + attempt.tokens.get("output", 0)


class Ledger:
    """Sums over attempts, kept up to date one attempt at a time."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str, int], tuple[tuple[tuple[str, str], ...], float, int]] = {}
        self._usd: dict[tuple[str, str], float] = {}
        self._tokens: dict[tuple[str, str], int] = {}

    def take(self, milestone: str, issue: str, attempt: Attempt, day: str) -> None:
        """An attempt as it is now.

        Args:
            milestone: id of its milestone.
            issue: id of its issue.
            attempt: the attempt.
            day: the local day on which it was begun; empty when that is not known.
        """
        place = (milestone, issue, attempt.number)
        before = self._entries.pop(place, None)
        if before is not None:
            self._add(before[0], -before[1], -before[2])
        usd, tokens = spent(attempt), _tokens(attempt)
        if not usd and not tokens:
            return
        keys = (
            ("issue", f"{milestone}/{issue}"),
            ("run", attempt.run),
            ("day", day),
            ("milestone", milestone),
        )
        self._entries[place] = (keys, usd, tokens)
        self._add(keys, usd, tokens)

    def usd(self, scope: str, name: str) -> float:
        """Money spent within a scope."""
        return max(0.0, self._usd.get((scope, name), 0.0))

    def tokens(self, scope: str, name: str) -> int:
        """Tokens used within a scope."""
        return self._tokens.get((scope, name), 0)

    def left(self, caps: Caps, names: Mapping[str, str]) -> float | None:
        """Money that the tightest cap leaves; None without caps."""
        rooms = [cap - self.usd(scope, names[scope]) for scope, cap in caps.usd.items() if scope in names]
        return max(0.0, min(rooms)) if rooms else None

    def hold(self, caps: Caps, names: Mapping[str, str], tomorrow: float) -> Wait | None:
        """Why another attempt may not be begun; None if it may.

        Args:
            caps: the caps.
            names: scope -> its present value (issue, run, day, milestone); other scopes are ignored.
            tomorrow: epoch seconds at which the next day begins.
        """
        for scope in SCOPES:
            name = names.get(scope)
            if name is None:
                continue
            cap, used = caps.usd.get(scope), self.usd(scope, name)
            if cap is not None and used >= cap - _LEAST:
                return _wait(scope, f"${used:.2f} of ${cap:.2f} {_where(scope, name)} are spent", "usd", tomorrow)
            most, count = caps.tokens.get(scope), self.tokens(scope, name)
            if most is not None and count >= most:
                return _wait(scope, f"{count} of {most} tokens {_where(scope, name)} are used", "tokens", tomorrow)
        return None

    def _add(self, keys: Iterable[tuple[str, str]], usd: float, tokens: int) -> None:
        for key in keys:
            self._usd[key] = self._usd.get(key, 0.0) + usd
            self._tokens[key] = self._tokens.get(key, 0) + tokens


def _where(scope: str, name: str) -> str:
    return f"of {name}" if scope == "issue" else _WHERE[scope]


def _wait(scope: str, told: str, unit: str, tomorrow: float) -> Wait:
    if scope == "day":
        return Wait(f"budget: {told}; it goes on tomorrow", tomorrow, kind="budget")
    if scope == "run":
        return Wait(f"budget: {told}; the next run goes on", 0.0, kind="budget")
    key = f"{scope}_{unit}"
    hint = f"raise {key} in rules/limits.toml"
    return Wait(f"budget: {told}; {hint} to go on", None, hint, "budget")
