"""Who works next: ordered lists, suspended accounts, refusals; and how much may be spent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from executor.agents.output import reset_time
from executor.model.agent_profile import Agent
from executor.model.rules import Caps
from executor.state.budget import Choice, Ledger, Suspension, Wait, choose
from executor.state.model import Attempt, AttemptState

A, B, C = (Agent(name=name, command=(name,), account=account) for name, account in (("a", ""), ("b", "x"), ("c", "x")))
LIMIT = Suspension(1000.0, "a is at its limit: words")


def tried(*steps: tuple[str, str]) -> list[Attempt]:
    return [
        Attempt(number, 1, "s", state=AttemptState.FAILED, agent=agent, kind=kind, reason=f"{agent} {kind}")
        for number, (agent, kind) in enumerate(steps, 1)
    ]


@pytest.mark.parametrize(
    ("agents", "before", "suspended", "expected"),
    [
        ([A, B], [], {}, Choice(agent="a")),
        ([A, B], tried(("a", "checks")), {}, Choice(agent="a")),
        ([A, B], tried(("a", "refusal")), {}, Choice(agent="b")),
        ([A, B], tried(("a", "authentication")), {}, Choice(agent="b")),
        ([A, B], tried(("a", "missing")), {}, Choice(agent="b")),
        ([A, B], tried(("a", "limit")), {"a": LIMIT}, Choice(agent="b")),
        ([A, B], tried(("a", "limit")), {}, Choice(agent="a")),
        ([A], [], {"a": LIMIT}, Choice(wait=Wait("a is at its limit until 06:00", 1000.0))),
        ([B, C], [], {"x": LIMIT}, Choice(wait=Wait("x is at its limit until 06:00", 1000.0))),
        ([A, B], tried(("a", "refusal"), ("b", "refusal")), {}, Choice(failed="b refusal")),
        ([A], tried(*[("a", "limit")] * 20), {}, Choice(failed="20 consecutive calls failed: a limit")),
    ],
)
def test_the_first_that_can_works(
    agents: list[Agent], before: list[Attempt], suspended: dict[str, Suspension], expected: Choice
) -> None:
    assert choose(agents, before, suspended, {"a": "06:00", "x": "06:00"}) == expected


NAMES = {"issue": "m/a", "run": "r", "day": "d", "milestone": "m"}


def attempt(**fields: object) -> Attempt:
    return Attempt(1, 1, "s", run="r", **fields)  # type: ignore[arg-type]  # fields are named at the calls


@pytest.mark.parametrize(
    ("item", "usd"),
    [
        (attempt(state=AttemptState.LANDED, cost_usd=0.5, cost_known=True, reserved_usd=2.0), 0.5),
        (attempt(state=AttemptState.STARTED, reserved_usd=2.0), 2.0),
        (attempt(state=AttemptState.INTERRUPTED, reserved_usd=2.0), 2.0),
        (attempt(state=AttemptState.INTERRUPTED, reserved_usd=2.0, cost_usd=0.25, cost_known=True), 0.25),
        (attempt(state=AttemptState.FAILED, reserved_usd=2.0), 0.0),
    ],
)
def test_what_nobody_knows_counts_with_what_was_set_aside(item: Attempt, usd: float) -> None:
    ledger = Ledger()
    ledger.take("m", "a", attempt(state=AttemptState.STARTED, reserved_usd=9.0), "d")
    ledger.take("m", "a", item, "d")
    assert ledger.usd("day", "d") == usd


def test_the_tightest_cap_decides_and_says_who_can_change_it() -> None:
    ledger = Ledger()
    spent = attempt(state=AttemptState.LANDED, cost_usd=3.0, cost_known=True, tokens={"input": 900, "output": 100})
    ledger.take("m", "a", spent, "d")
    assert ledger.left(Caps({"day": 10.0, "issue": 4.0}, {}), NAMES) == 1.0
    assert ledger.hold(Caps({"day": 10.0}, {}), NAMES, 77.0) is None
    day = ledger.hold(Caps({"day": 3.0}, {}), NAMES, 77.0)
    assert day == Wait("budget: $3.00 of $3.00 of today are spent; it continues tomorrow", 77.0, kind="budget")
    tokens = ledger.hold(Caps({}, {"issue": 1000}), NAMES, 77.0)
    assert tokens is not None
    assert (tokens.until, tokens.hint) == (None, "raise issue_tokens in rules/limits.toml")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("resets 6am (UTC)", 5400),
        ("resets 6:30am (Europe/Berlin)", 3600),
        ("try again at Nov 25th, 2026 3:05 PM.", 383700),
        ("Please try again in 1h 20m", 4800),
        ("Please try again in 20ms. Visit", 0.02),
        ("retry-after: 30", 30),
        ("limit reached|1795242000", 6600),
        ("resets at 4am", 84600),
        ("it resets at 2026-11-21T06:00:00Z", 5400),
        ("try again after 6 tries", None),
        ("nothing of the kind", None),
    ],
)
def test_moments_are_read_in_every_form(text: str, seconds: float | None) -> None:
    now = datetime(2026, 11, 21, 4, 30, tzinfo=UTC)
    found = reset_time(text, now)
    assert found == (None if seconds is None else pytest.approx(now.timestamp() + seconds))
