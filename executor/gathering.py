"""Gather what journals, history and refs say of every milestone. Reading only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.adapters import segments
from executor.adapters.kept_work import answers_in, step_in
from executor.adapters.landings import read_landings
from executor.adapters.standings import pauses, read_releases
from executor.core.blockers import blockers_of
from executor.core.fold import fold, with_git_attempts
from executor.core.message import parse_trailers
from executor.core.state import QUESTION, Attempt, AttemptState
from executor.project import base_branch
from executor.ref_names import (
    ACCEPTED,
    ANSWERS,
    APPROVED,
    ATTEMPTS,
    DELIVERED,
    HANDOFFS,
    MERGED,
    REMOTE,
    STEPS,
    attempt_in,
)
from executor.views import MilestoneView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.adapters.refs import Kept, Refs
    from executor.core.message import Trailers
    from executor.project import Compiled

__all__ = ["gather"]

_OUTCOMES = {"": AttemptState.BUILT, "interrupted": AttemptState.INTERRUPTED, QUESTION: AttemptState.INTERRUPTED}


def gather(compiled: Compiled, refs: Refs, *, states: bool) -> dict[str, MilestoneView]:
    """The view of every declared milestone; with `states`, its journal is read, too. Takes no lock.

    Raises:
        DeclarationError: a base branch does not exist.
        RepositoryError: the repository has no commits.
        StateBrokenError: a journal is corrupt.
    """
    project = compiled.project
    names = [f"refs/heads/{milestone.branch}" for milestone in compiled.loaded.milestones.values()]
    tips = refs.tips([*names, *(f"{REMOTE}/{name}" for name in compiled.loaded.milestones)])
    accepted = _by_milestone(refs.kept(ACCEPTED))
    approved = _by_milestone(refs.kept(APPROVED))
    attempts = _by_milestone(refs.kept(ATTEMPTS))
    merged = _by_milestone(refs.kept(MERGED))
    paused = pauses(refs)
    work = _by_milestone(refs.kept(STEPS, HANDOFFS, ANSWERS))
    views: dict[str, MilestoneView] = {}
    bases: dict[str, tuple[str, str]] = {}
    for name, milestone in compiled.loaded.milestones.items():
        branch = f"refs/heads/{milestone.branch}"
        wanted = milestone.base or ""
        if wanted not in bases:
            base = base_branch(milestone, refs)
            bases[wanted] = (base, refs.tip(base) or "")
        base, base_tip = bases[wanted]
        view = MilestoneView(milestone, branch, base, tips.get(branch, base_tip), branch in tips, base_tip=base_tip)
        view.pause = paused.get(name)
        view.remote_tip = tips.get(f"{REMOTE}/{name}", "")
        by_hand = _recognised(merged.get(name, ()))
        for landing in read_landings(project.state(name), refs, view.tip, name, by_hand):
            view.add(landing)
        if states:
            events = segments.read(project.state(name))
            view.states = fold(events)
            view.blockers = blockers_of(events)
        with_git_attempts(view.states, (_attempt(kept) for kept in attempts.get(name, ())))
        for kept in accepted.get(name, ()):
            keys = frozenset(kept.trailers.get("Spec-Key", "").split())
            view.accepted[kept.ref.rsplit("/", 1)[-1]] = (kept.trailers.get("Landing", ""), keys)
        for kept in approved.get(name, ()):
            view.approved[kept.ref.rsplit("/", 1)[-1]] = frozenset(kept.trailers.get("Approved", "").split())
        for kept in work.get(name, ()):
            _take(view, kept)
        views[name] = view
    _add_releases(compiled, refs, views)
    return views


def _add_releases(compiled: Compiled, refs: Refs, views: dict[str, MilestoneView]) -> None:
    """What the bases say of releases; asked only where something has landed."""
    tags = refs.tips([f"refs/tags/{view.milestone.tag}" for view in views.values() if view.milestone.tag])
    marks = refs.tips([f"{DELIVERED}/{name}" for name in views])
    for name, view in views.items():
        view.delivered = marks.get(f"{DELIVERED}/{name}", "")
    for base in dict.fromkeys(view.base for view in views.values()):
        own = {name: view for name, view in views.items() if view.base == base and view.landings}
        if own:
            tip = next(iter(own.values())).base_tip
            known = read_releases(compiled.project.cache / f"_releases.{base.replace('/', '%')}.json", refs, tip)
            merged = refs.reachable(tip, [view.branch for view in own.values() if view.exists])
            for name, view in own.items():
                view.released = known.get(name)
                view.tag = view.milestone.tag or "" if f"refs/tags/{view.milestone.tag}" in tags else ""
                view.merged = view.branch in merged or (not view.exists and view.released is None)


def _by_milestone(kept: Iterable[Kept]) -> dict[str, list[Kept]]:
    found: dict[str, list[Kept]] = {}
    for item in kept:
        if item.ref.startswith(f"{ATTEMPTS}/"):
            if attempt_in(item.ref) is not None:
                found.setdefault(item.ref.split("/")[2], []).append(item)
        else:
            found.setdefault(item.ref.split("/")[3], []).append(item)
    return found


def _take(view: MilestoneView, kept: Kept) -> None:
    """Take in what git keeps of an issue's steps, handoff and answers."""
    _, _, kind, _, issue, *rest = kept.ref.split("/")
    match kind:
        case "steps":
            record = step_in(kept)
            if record is not None:
                view.steps.setdefault(issue, {})[rest[0]] = record
        case "handoffs":
            view.handoffs[issue] = kept.commit
        case "answers":
            view.answers[issue] = answers_in(kept)


def _attempt(kept: Kept) -> tuple[str, Attempt]:
    """An attempt as far as its ref and its commit's trailers tell."""
    _, _, _, issue, number = kept.ref.split("/")
    trailers = kept.trailers
    outcome = trailers.get("Outcome", "")
    return issue, Attempt(
        number=int(number),
        revision=int(told) if (told := trailers.get("Revision", "")).isdecimal() else 1,
        spec_key=trailers.get("Spec-Key", ""),
        state=_OUTCOMES.get(outcome, AttemptState.FAILED),
        commit=kept.commit,
        result_key=trailers.get("Result-Key", ""),
        kind=outcome,
        reason=trailers.get("Reason", ""),
        print=trailers.get("Failure", ""),
        step=trailers.get("Step", ""),
        pull=_number(trailers.get("Pull-Request", "")),
    )


def _recognised(records: Iterable[Kept]) -> dict[str, Trailers]:
    """Commit -> what it landed, for merges whose messages do not say so."""
    found = {}
    for kept in records:
        trailers = parse_trailers(kept.trailers)
        if trailers is not None and "Landing" in kept.trailers:
            found[kept.trailers["Landing"]] = trailers
    return found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and text.isascii() else 0
