"""Which agent works on an issue next, when it may start, and how much money is left, folded from attempts. Pure.

The next agent of the list takes over after a limit, a refusal or a failed login, never because tests failed. Caps
permit another attempt by the money and tokens that were spent, by whom and when.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from executor.model.fingerprint import IssueRef
from executor.model.rules import SCOPES, Caps
from executor.state.model import FALLS_BACK, PERMANENT, AttemptState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from executor.model.agent_profile import Agent
    from executor.model.milestone import Issue
    from executor.model.policy import Policy
    from executor.state.model import Attempt, IssueState

__all__ = ["Allowance", "Choice", "Ledger", "Suspension", "Wait", "choose", "outage_rest", "spent", "time_text"]


_MOST_UNSPENT = 20
"""Consecutive calls without a result after which the issue fails: more of them are no coincidence."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """An account that is suspended.

    Attributes:
        until: epoch seconds; None for the rest of the current run (a login that only a person can fix).
        reason: one sentence.
        outage: its service fails; otherwise a limit.
        rest_s: length in seconds, if its service fails.
    """

    until: float | None
    reason: str
    outage: bool = False
    rest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a ready issue does not start now.

    Attributes:
        reason: one sentence, with the end of the wait or the person who can end it.
        until: epoch seconds after which it can start without any action (0: in the next run); None if a person must
            act.
        hint: the action that helps; empty if only time helps.
        kind: the obstacle; `pause` is a blocker that keeps the run from starting anything.
    """

    reason: str
    until: float | None
    hint: str = ""
    kind: Literal["limit", "outage", "budget", "deadline", "pause"] = "limit"

    @property
    def by_time(self) -> bool:
        """Return whether time alone ends the wait."""
        return self.until is not None


@dataclass(frozen=True, slots=True)
class Choice:
    """The next `agent`, or why none works: `wait` if temporary, `failed` if permanent."""

    agent: str = ""
    wait: Wait | None = None
    failed: str = ""


def choose(
    agents: Sequence[Agent], tried: Sequence[Attempt], suspended: Mapping[str, Suspension], when: Mapping[str, str]
) -> Choice:
    """Return the first agent of the list that is neither excluded nor suspended.

    Args:
        agents: the issue's list, in its order; not empty.
        tried: attempts at the current spec since the last retry, oldest first.
        suspended: account -> suspension, only those in effect.
        when: account -> the end of its suspension in readable form.
    """
    failed = [item for item in tried if item.kind in FALLS_BACK]
    out = {item.agent: item for item in failed if item.kind in PERMANENT}
    left = [agent for agent in agents if agent.name not in out]
    if not left:
        return Choice(failed=out[agents[-1].name].reason)
    if len(failed) >= _MOST_UNSPENT and all(item.kind in FALLS_BACK for item in tried[-_MOST_UNSPENT:]):
        return Choice(failed=f"{_MOST_UNSPENT} consecutive calls failed: {failed[-1].reason}")
    free = next((agent for agent in left if agent.payer not in suspended), None)
    if free is not None:
        return Choice(agent=free.name)
    first = min(left, key=lambda agent: (suspended[agent.payer].until is None, suspended[agent.payer].until or 0.0))
    suspension = suspended[first.payer]
    if suspension.until is None:
        return Choice(wait=Wait(suspension.reason, None))
    moment = when[first.payer]
    if suspension.outage:
        reason = f"the service of {first.payer} is failing; it is retried at {moment}"
        return Choice(wait=Wait(reason, suspension.until, kind="outage"))
    return Choice(wait=Wait(f"{first.payer} is at its limit until {moment}", suspension.until))


def outage_rest(
    before: Sequence[tuple[float, float]], now: float, first_s: float, most_s: float
) -> tuple[float, float]:
    """Return the end of the suspension of an account with a failing service, and its length, doubled at each outage.

    Args:
        before: (until, seconds) of its suspensions since it last worked.
        now: epoch seconds.
        first_s: length of the first suspension.
        most_s: maximum length.
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
_LEAST = 1e-9  # dollars; sums of floating-point numbers differ by less


def spent(attempt: Attempt) -> float:
    """Return the known cost of an attempt, otherwise its reserve."""
    return attempt.cost_usd if attempt.cost_known or not attempt.open else max(attempt.cost_usd, attempt.reserved_usd)


def _tokens(attempt: Attempt) -> int:
    return attempt.tokens.get("input", 0) + attempt.tokens.get("output", 0)


class Ledger:
    """Sums over attempts, updated one attempt at a time."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str, int], tuple[tuple[tuple[str, str], ...], float, int]] = {}
        self._usd: dict[tuple[str, str], float] = {}
        self._tokens: dict[tuple[str, str], int] = {}

    def take(self, milestone: str, issue: str, attempt: Attempt, day: str) -> None:
        """Add an attempt, or update it to its current state.

        Args:
            milestone: id of its milestone.
            issue: id of its issue.
            attempt: the attempt.
            day: the local day on which it started; empty if unknown.
        """
        place = (milestone, issue, attempt.number)
        before = self._entries.pop(place, None)
        if before is not None:
            self._add(before[0], -before[1], -before[2])
        usd, tokens = spent(attempt), _tokens(attempt)
        if not usd and not tokens:
            return
        keys = (
            ("issue", str(IssueRef(milestone, issue))),
            ("run", attempt.run),
            ("day", day),
            ("milestone", milestone),
        )
        self._entries[place] = (keys, usd, tokens)
        self._add(keys, usd, tokens)

    def usd(self, scope: str, name: str) -> float:
        """Return the money spent within a scope."""
        return max(0.0, self._usd.get((scope, name), 0.0))

    def tokens(self, scope: str, name: str) -> int:
        """Return the tokens used within a scope."""
        return self._tokens.get((scope, name), 0)

    def left(self, caps: Caps, names: Mapping[str, str]) -> float | None:
        """Return the money left under the tightest cap; None without caps."""
        rooms = [cap - self.usd(scope, names[scope]) for scope, cap in caps.usd.items() if scope in names]
        return max(0.0, min(rooms)) if rooms else None

    def hold(self, caps: Caps, names: Mapping[str, str], tomorrow: float) -> Wait | None:
        """Return why another attempt may not start; None if it may.

        Args:
            caps: the caps.
            names: scope -> its current value (issue, run, day, milestone); other scopes are ignored.
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


def _wait(scope: str, text: str, unit: str, tomorrow: float) -> Wait:
    if scope == "day":
        return Wait(f"budget: {text}; it continues tomorrow", tomorrow, kind="budget")
    if scope == "run":
        return Wait(f"budget: {text}; the next run continues", 0.0, kind="budget")
    key = f"{scope}_{unit}"
    hint = f"raise {key} in rules/limits.toml"
    return Wait(f"budget: {text}; {hint} to continue", None, hint, "budget")


_SUSPENDS = frozenset({"limit", "authentication", "missing", "transient"})
"""Failures that suspend an account: see `Allowance._suspended`."""
_DATED = frozenset({"limit", "transient"})
_WORKED = frozenset({AttemptState.BUILT, AttemptState.LANDED})


class Allowance:
    """Suspended accounts and sums of money over all milestones, updated attempt by attempt.

    Args:
        policy: the rules.
        clock: returns the current time in epoch seconds.
    """

    def __init__(self, policy: Policy, clock: Callable[[], float]) -> None:
        self.run_id = ""
        """The current run, if any."""
        self.budget: float | None = None
        """Budget of this run, if given on the command line."""
        self._policy = policy
        self._clock = clock
        self._ledger = Ledger()
        self._limits: dict[tuple[str, str, int], Attempt] = {}
        self._dearest: dict[str, float] = {}
        self._worked: dict[str, float] = {}
        self._rests: dict[str, list[Suspension]] = {}

    def take(self, milestone: str, issue: str, state: IssueState) -> None:
        """Take all attempts of an issue into account."""
        for attempt in state.attempts.values():
            self.take_one(milestone, issue, attempt, state.forgiven)

    def take_one(self, milestone: str, issue: str, attempt: Attempt, forgiven: int) -> bool:
        """Take one attempt into account; returns whether that may change the decisions of other issues."""
        place = (milestone, issue, attempt.number)
        kept = attempt.kind in _SUSPENDS and attempt.number > forgiven
        if kept:
            self._limits[place] = attempt
        changed = kept or self._limits.pop(place, None) is not None
        if attempt.state in _WORKED:
            account = attempt.account or attempt.agent
            self._worked[account] = max(self._worked.get(account, 0.0), attempt.when)
        if attempt.cost_usd or attempt.reserved_usd or attempt.tokens:
            began = datetime.fromisoformat(attempt.started_at).astimezone() if attempt.started_at else None
            self._ledger.take(milestone, issue, attempt, f"{began:%F}" if began else "")
            self._dearest[attempt.agent] = max(self._dearest.get(attempt.agent, 0.0), attempt.cost_usd)
            changed = True
        return changed

    def choice(self, ref: str, issue: Issue, tried: Sequence[Attempt]) -> Choice:
        """The next agent for an issue, or why none can work now.

        Args:
            ref: qualified id of the issue.
            issue: its declaration.
            tried: attempts at its current spec since the last retry, oldest first.
        """
        agents = self._policy.agents_for(issue)
        now = self._clock()
        suspended = self._suspended(now)
        found = choose(agents, tried, suspended, {name: time_text(item.until, now) for name, item in suspended.items()})
        if found.agent and self._policy.agents[found.agent].costs:
            wait = self._held(ref, now)
            return Choice(wait=wait) if wait is not None else found
        return found

    def reserve(self, ref: str, agent: Agent) -> float:
        """Return the reserve of an attempt: its cap, or this agent's highest cost so far, limited to the money left."""
        if not agent.costs:
            return 0.0
        cap = self._policy.limits.attempt_usd
        wanted = cap if cap is not None else self._dearest.get(agent.name, 0.0)
        left = self.left(ref)
        return round(wanted if left is None else min(wanted, left), 6)

    def outage(self, agent: Agent) -> tuple[float, float]:
        """Return the end of the suspension of an account whose service has just failed, and its length in seconds."""
        worked = self._worked.get(agent.payer, 0.0)
        before = [
            (item.until, item.rest_s)
            for item in self._limits.values()
            if item.kind == "transient"
            and (item.account or item.agent) == agent.payer
            and item.until - item.rest_s >= worked
        ]
        before += [
            (item.until, item.rest_s)
            for item in self._rests.get(agent.payer, ())
            if item.outage and item.until is not None and item.until - item.rest_s >= worked
        ]
        limits = self._policy.limits
        return outage_rest(before, self._clock(), limits.outage_s, limits.outage_most_s)

    def reviewed(self, agent: Agent, suspension: Suspension | None) -> None:
        """Record the end of a review: a failing service or a limit suspends the account in this run, success frees it.

        Reviews are no attempts, so nothing of this outlasts the run: the next one asks again.
        """
        if suspension is None:
            self._rests.pop(agent.payer, None)
        elif suspension.until is not None:
            self._rests.setdefault(agent.payer, []).append(suspension)

    def review_wait(self, name: str | None) -> Wait | None:
        """Return why the reviewer of this name is not called now; None if it may be."""
        now = self._clock()
        suspended = self._suspended(now) if name is not None and self._rests else {}
        payer = self._policy.agents[name].payer if name is not None else ""
        found = suspended.get(payer)
        if found is None or found.until is None:
            return None
        moment = time_text(found.until, now)
        if found.outage:
            reason = f"the service of reviewer {name} is failing; it is retried at {moment}"
            return Wait(reason, found.until, kind="outage")
        return Wait(f"reviewer {name} is at its limit until {moment}", found.until)

    def left(self, ref: str) -> float | None:
        """Return the money left for an issue under the tightest cap; None without caps."""
        return self._ledger.left(self._caps(), self._names(ref, self._clock()))

    def _held(self, ref: str, now: float) -> Wait | None:
        tomorrow = (datetime.fromtimestamp(now).astimezone() + timedelta(days=1)).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        return self._ledger.hold(self._caps(), self._names(ref, now), tomorrow.timestamp())

    def _caps(self) -> Caps:
        caps = self._policy.limits.caps
        return caps if self.budget is None else Caps({**caps.usd, "run": self.budget}, caps.tokens)

    def _names(self, ref: str, now: float) -> Mapping[str, str]:
        names = {"issue": ref, "day": f"{datetime.fromtimestamp(now).astimezone():%F}"}
        names["milestone"] = IssueRef.parse(ref).milestone
        return {**names, "run": self.run_id} if self.run_id else names

    def _suspended(self, now: float) -> dict[str, Suspension]:
        found: dict[str, Suspension] = {}
        for attempt in self._limits.values():
            account = attempt.account or attempt.agent
            if attempt.kind in _DATED and attempt.until > now:
                known = found.get(account)
                if known is None or (known.until is not None and known.until < attempt.until):
                    outage = attempt.kind == "transient"
                    found[account] = Suspension(attempt.until, attempt.reason, outage=outage)
            elif attempt.kind not in _DATED and self.run_id and attempt.run == self.run_id:
                found[account] = Suspension(None, attempt.reason)
        for account, rests in self._rests.items():
            last = max(rests, key=lambda item: item.until or 0.0)
            until, known = last.until or 0.0, found.get(account)
            if until > now and (known is None or (known.until is not None and known.until < until)):
                found[account] = last
        return found


def time_text(until: float | None, now: float) -> str:
    """Format a time for people: ``06:00 CET`` within the next day, otherwise with its date."""
    if until is None:
        return ""
    moment = datetime.fromtimestamp(until).astimezone()
    near = until - now < 86_400  # noqa: PLR2004  (seconds of a day)
    return f"{moment:%H:%M %Z}" if near else f"{moment:%a %F %H:%M %Z}"
