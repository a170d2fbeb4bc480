"""Issues that were renamed: `was` lists the earlier ids of an issue, and what is known under those is its own. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from executor.git.trailers import Landing
    from executor.model.milestone import Issue, Milestone
    from executor.state.model import IssueState

__all__ = ["carried_over", "claims_of", "merged_states", "owned"]


def claims_of(milestone: Milestone) -> dict[str, str]:
    """Earlier id -> the issue that it belongs to now."""
    return {old: issue.id for issue in milestone.issues for old in issue.was if old != issue.id}


def owned(landing: Landing, milestone: Milestone, claims: Mapping[str, str], key_of: Callable[[Issue], str]) -> Landing:
    """A landing under the present id of its issue.

    An earlier id can be in use again, as after a renumbering. Then the landing is the present holder's if it says so
    (`was` in its trailers, which the executor writes since then) or has its work key; else it is the renamed issue's.

    Args:
        landing: as history has it.
        milestone: the declaration.
        claims: see `claims_of`.
        key_of: work key of a declared issue.
    """
    trailers = landing.trailers
    if trailers.issue not in claims:
        return landing
    holder = next((issue for issue in milestone.issues if issue.id == trailers.issue), None)
    if holder is not None and (trailers.was or (trailers.work_key and trailers.work_key == key_of(holder))):
        return landing
    return replace(landing, trailers=replace(trailers, issue=claims[trailers.issue]))


def carried_over(known: Mapping[str, object], milestone: Milestone, claims: Mapping[str, str]) -> dict[str, str]:
    """Earlier id -> present id, for what is known under ids that nobody has any more."""
    declared = {issue.id for issue in milestone.issues}
    return {old: new for old, new in claims.items() if old in known and old not in declared}


def merged_states(old: IssueState, new: IssueState | None) -> IssueState:
    """The merged state of an issue under both ids; the present id takes precedence."""
    if new is None:
        return old
    return replace(
        new,
        attempts={**old.attempts, **new.attempts},
        forgiven=max(old.forgiven, new.forgiven),
        proof=new.proof or old.proof,
        pull=new.pull or old.pull,
        seconds=old.seconds + new.seconds,
        cost_usd=round(old.cost_usd + new.cost_usd, 8),
    )
