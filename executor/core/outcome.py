"""The exit code of a run, from where its issues came to rest. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.core.decide import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from executor.core.decide import Decision

__all__ = ["exit_code", "worse"]


def exit_code(
    asked: Iterable[str], decisions: Mapping[str, Decision], missing: Mapping[str, Sequence[str]], *, erred: bool
) -> int:
    """0 all landed; 1 something failed or was skipped; 2 the executor erred; 75 time alone lets go on; 4 a person does.

    Args:
        asked: the issues that were asked for, in plan order.
        decisions: where these are, and everything that they wait for.
        missing: what each of those needs that has not landed.
        erred: whether the executor itself did.
    """
    if erred:
        return 2
    asked = list(asked)
    statuses = {decisions[ref].status for ref in asked}
    if statuses & {Status.FAILED, Status.SKIPPED}:
        return 1
    if statuses <= {Status.LANDED}:
        return 0
    return 75 if all(_time_helps(ref, decisions, missing) for ref in asked) else 4


def _time_helps(ref: str, decisions: Mapping[str, Decision], missing: Mapping[str, Sequence[str]]) -> bool:
    """Whether time alone lets an issue go on, and everything that it waits for."""
    waiting, seen = [ref], {ref}
    while waiting:
        current = waiting.pop()
        decision = decisions[current]
        if decision.status is Status.LANDED or (decision.wait is not None and decision.wait.by_time):
            continue
        needs = missing[current] if decision.status is Status.BLOCKED else ()
        if not needs and (decision.status is not Status.OPEN or decision.wait is not None):
            return False  # open is what a forge has to check or to merge
        waiting.extend(need for need in needs if need not in seen)
        seen.update(needs)
    return True


def worse(*codes: int) -> int:
    """The exit code that weighs most: the executor erred, something failed, a person is needed, time is, all well."""
    return max(codes, key=(0, 75, 4, 1, 2).index)
