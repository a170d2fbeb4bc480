"""The exit code of a run: what failed counts most, then what a person has to do, then what time alone does."""

from __future__ import annotations

import pytest

from executor.commands.base import worse
from executor.commands.summary import exit_code
from executor.state.budget import Wait
from executor.state.decide import Act, Decision, Status


def at(status: Status, wait: Wait | None = None) -> Decision:
    return Decision(status, Act.REST, "", wait=wait)


LANDED, FAILED, BLOCKED = at(Status.LANDED), at(Status.FAILED), at(Status.BLOCKED)
REVIEW, SKIPPED, PENDING, OPEN = at(Status.REVIEW), at(Status.SKIPPED), at(Status.PENDING), at(Status.OPEN)
LIMITED = at(Status.PENDING, Wait("a is at its limit until 06:00", 1000.0))
NEXT_RUN = at(Status.PENDING, Wait("the budget of this run is spent", 0.0, kind="budget"))
LATE = at(Status.OPEN, Wait("no issue starts after 06:00", 1000.0, kind="deadline"))
SPENT = at(Status.PENDING, Wait("the budget of the milestone is spent", None, kind="budget"))
PAUSED = at(Status.OPEN, Wait("m1/a takes too long", None, kind="pause"))


@pytest.mark.parametrize(
    ("a", "b", "code"),
    [
        (LANDED, LANDED, 0),
        (FAILED, LANDED, 1),
        (SKIPPED, REVIEW, 1),
        (FAILED, LIMITED, 1),
        (REVIEW, LIMITED, 4),
        (PENDING, LANDED, 4),
        (LIMITED, LANDED, 75),
        (LIMITED, BLOCKED, 75),
        (NEXT_RUN, LATE, 75),
        (OPEN, LANDED, 75),
        (OPEN, LIMITED, 75),
        (SPENT, LIMITED, 4),
        (SPENT, BLOCKED, 4),
        (PAUSED, LANDED, 4),
        (LANDED, BLOCKED, 4),
    ],
)
def test_what_weighs_most_decides(a: Decision, b: Decision, code: int) -> None:
    missing = {"a": [], "b": ["a"] if b is BLOCKED and a is not LANDED else []}
    assert exit_code(["a", "b"], {"a": a, "b": b}, missing, erred=False) == code
    assert exit_code(["a", "b"], {"a": a, "b": b}, missing, erred=True) == 2


def test_what_was_not_asked_for_counts_only_as_far_as_it_is_waited_for() -> None:
    assert exit_code(["b"], {"a": LIMITED, "b": BLOCKED}, {"a": [], "b": ["a"]}, erred=False) == 75
    assert exit_code(["b"], {"a": FAILED, "b": BLOCKED}, {"a": [], "b": ["a"]}, erred=False) == 4


def test_the_worse_of_two_codes_counts() -> None:
    assert (worse(0, 75), worse(75, 4), worse(4, 1), worse(1, 2)) == (75, 4, 1, 2)
