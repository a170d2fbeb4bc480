"""Reconcile: what the forge's pull requests mean for the issues of a milestone. One pure function, one table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from executor.core.pull import PullRequest, read_mark, title_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Finding", "Known", "Meaning", "reconcile"]


class Meaning(StrEnum):
    """What there is to do about what was found."""

    NOTHING = "nothing"
    """No pull request, or one that was dealt with."""
    OPEN = "open"
    """Its pull request is open and as we left it."""
    MERGED = "merged"
    """It was merged, and the branch does not say so: by hand, or in a form without our trailers."""
    TIDY = "tidy"
    """It has landed; what is left is to close its issue and delete its branch."""
    WAIT = "wait"
    """A person has done something about it that only a person can resolve."""


@dataclass(frozen=True, slots=True)
class Known:
    """What we know of an issue without asking the forge.

    Attributes:
        ref: its qualified id.
        revision: the revision that is worked on, or has landed.
        attempt: number of the attempt that counts, the next one where none does; 0 when there was none.
        head: short name of the branch that it has, or would have.
        base: short name of the milestone branch.
        number: of its pull request as last seen, 0 when none was.
        commit: what we pushed last; empty when nothing was.
        landed: whether that revision has landed.
        settled: whether nothing is left to be done after its landing.
        built: whether there is a result that waits to land.
    """

    ref: str
    revision: int
    attempt: int
    head: str
    base: str
    number: int = 0
    commit: str = ""
    landed: bool = False
    settled: bool = False
    built: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What the forge's pull requests mean for one issue.

    Attributes:
        ref: its qualified id.
        meaning: what there is to do.
        pull: the pull request that counts; None when there is none.
        reason: what is the matter with the pull request, for `WAIT`.
        notes: what else is worth saying.
    """

    ref: str
    meaning: Meaning
    pull: PullRequest | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


def reconcile(
    known: Iterable[Known], pulls: Iterable[PullRequest], branches: frozenset[str], is_ours: Callable[[str, str], bool]
) -> list[Finding]:
    """What there is to do about every issue.

    Args:
        known: the issues.
        pulls: pull requests of the forge, in any state, of any branch.
        branches: short names of the branches that are on the remote.
        is_ours: whether the commit of an issue's branch (ref, commit) is one that nobody else has changed.
    """
    by_head: dict[str, list[PullRequest]] = {}
    for pull in sorted(pulls, key=lambda item: item.number):
        by_head.setdefault(pull.head, []).append(pull)
    return [_finding(item, _about(item, by_head.get(item.head, [])), branches, is_ours) for item in known]


def _about(known: Known, pulls: list[PullRequest]) -> list[PullRequest]:
    """The pull requests that are about this try at the issue; one that was closed before a retry is history."""
    found = []
    for pull in pulls:
        told = read_mark(pull.body)
        if told.get("key", known.ref) != known.ref:
            continue
        attempt = told.get("attempt", "")
        older = attempt.isdecimal() and known.attempt > int(attempt)
        if not (pull.state == "closed" and older):
            found.append(pull)
    return found


def _finding(
    known: Known, pulls: list[PullRequest], branches: frozenset[str], is_ours: Callable[[str, str], bool]
) -> Finding:
    opened = [pull for pull in pulls if pull.state == "open"]
    merged = [pull for pull in pulls if pull.state == "merged" and pull.base == known.base]
    closed = [pull for pull in pulls if pull.state == "closed"]
    notes = _doubled(opened, merged)
    if known.landed:
        left = not known.settled and (known.number or known.head in branches)
        return Finding(
            known.ref, Meaning.TIDY if left else Meaning.NOTHING, merged[-1] if merged else None, notes=notes
        )
    if merged:
        return Finding(known.ref, Meaning.MERGED, merged[-1], notes=notes)
    if opened:
        return _of_open(known, opened[0], notes, is_ours)
    if closed and (known.built or known.number):
        pull = closed[-1]
        gone = "" if known.head in branches else " and its branch was deleted"
        reason = f"it was closed without being merged{gone}; reopen it, or `doit retry {known.ref}`"
        return Finding(known.ref, Meaning.WAIT, pull, reason)
    return Finding(known.ref, Meaning.NOTHING)


def _of_open(known: Known, pull: PullRequest, notes: tuple[str, ...], is_ours: Callable[[str, str], bool]) -> Finding:
    if pull.base != known.base:
        reason = f"it goes to {pull.base}, expected {known.base}; set its base back"
        return Finding(known.ref, Meaning.WAIT, pull, reason, notes)
    if pull.sha and pull.sha != known.commit and not is_ours(known.ref, pull.sha):
        reason = (
            f"somebody else has committed to {known.head} ({pull.sha[:10]}), it is left alone; merge it, or delete "
            "the branch"
        )
        return Finding(known.ref, Meaning.WAIT, pull, reason, notes)
    title = read_mark(pull.body).get("title")
    if title is None and known.number == pull.number:
        notes = (*notes, f"pull request #{pull.number}: its text was rewritten, ours is put in front of it")
    elif title is not None and title != title_digest(pull.title):
        notes = (*notes, f"pull request #{pull.number}: its title was changed by a person and stays")
    return Finding(known.ref, Meaning.OPEN, pull, notes=notes)


def _doubled(opened: list[PullRequest], merged: list[PullRequest]) -> tuple[str, ...]:
    """What to say where there are several pull requests for one issue."""
    used = merged[-1] if merged else opened[0] if opened else None
    others = [pull for pull in opened if pull is not used]
    if used is None or not others:
        return ()
    names = ", ".join(f"#{pull.number}" for pull in others)
    return (f"pull request #{used.number} counts; {names} of the same branch should be closed",)
