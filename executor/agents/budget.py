"""Usable accounts and the money that the caps leave, folded from attempts."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from executor.model.fingerprint import IssueRef
from executor.model.rules import Caps
from executor.state.budget import Choice, Ledger, Suspension, Wait, choose, outage_rest
from executor.state.model import AttemptState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.model.agent_profile import Agent
    from executor.model.milestone import Issue
    from executor.model.policy import Policy
    from executor.state.model import Attempt, IssueState

__all__ = ["Allowance", "time_text"]


_SUSPENDS = frozenset({"limit", "authentication", "missing", "transient"})
"""Failures that suspend an account: see `Allowance._suspended`."""
_DATED = frozenset({"limit", "transient"})
_WORKED = frozenset({AttemptState.BUILT, AttemptState.LANDED})


class Allowance:
    """Suspended accounts and sums of money over all milestones, updated attempt by attempt."""

    def __init__(self, policy: Policy) -> None:
        self.run_id = ""
        """The current run, if any."""
        self.budget: float | None = None
        """Budget of this run, if given on the command line."""
        self.spending = threading.Lock()
        """Held from the check of the remaining money until the reservation."""
        self._policy = policy
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
        now = time.time()
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
        return outage_rest(before, time.time(), limits.outage_s, limits.outage_most_s)

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
        now = time.time()
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
        return self._ledger.left(self._caps(), self._names(ref, time.time()))

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
