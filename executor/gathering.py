"""Gather what journals, history and refs say of every milestone. Reading only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.adapters import segments
from executor.adapters.kept_work import answers_in, step_in
from executor.adapters.landings import read_landings
from executor.adapters.standings import PAUSED, pause_in, read_releases
from executor.core.blockers import blockers_of
from executor.core.fold import fold, with_git_attempts
from executor.core.message import parse_trailers
from executor.core.state import QUESTION, Attempt, AttemptState
from executor.project import base_branch, base_names
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
    from collections.abc import Iterable, Mapping

    from executor.adapters.refs import Kept, Refs
    from executor.core.message import Trailers
    from executor.project import Compiled

__all__ = ["gather"]

_KINDS = (ACCEPTED, APPROVED, ATTEMPTS, MERGED, PAUSED, STEPS, HANDOFFS, ANSWERS)
_OUTCOMES = {"": AttemptState.BUILT, "interrupted": AttemptState.INTERRUPTED, QUESTION: AttemptState.INTERRUPTED}


def gather(compiled: Compiled, refs: Refs, *, states: bool) -> dict[str, MilestoneView]:
    """The view of every declared milestone; with `states`, its journal is read, too. Takes no lock.

    Raises:
        DeclarationError: a base branch does not exist.
        RepositoryError: the repository has no commits.
        StateBrokenError: a journal is corrupt.
    """
    project = compiled.project
    tips = refs.tips(_named(compiled))
    kept = _by_kind(refs.kept(*_KINDS))
    views: dict[str, MilestoneView] = {}
    for name, milestone in compiled.loaded.milestones.items():
        branch, base = f"refs/heads/{milestone.branch}", base_branch(milestone, refs, tips)
        view = MilestoneView(milestone, branch, base, tips.get(branch, tips[base]), branch in tips, base_tip=tips[base])
        view.pause = next(map(pause_in, kept.get((PAUSED, name), ())), None)
        view.remote_tip = tips.get(f"{REMOTE}/{name}", "")
        view.delivered = tips.get(f"{DELIVERED}/{name}", "")
        by_hand = _recognised(kept.get((MERGED, name), ()))
        for landing in read_landings(project.state(name), refs, view.tip, name, by_hand):
            view.add(landing)
        if states:
            events = segments.read(project.state(name))
            view.states = fold(events)
            view.blockers = blockers_of(events)
        with_git_attempts(view.states, map(_attempt, kept.get((ATTEMPTS, name), ())))
        for item in kept.get((ACCEPTED, name), ()):
            keys = frozenset(item.trailers.get("Spec-Key", "").split())
            view.accepted[item.ref.rsplit("/", 1)[-1]] = (item.trailers.get("Landing", ""), keys)
        for item in kept.get((APPROVED, name), ()):
            view.approved[item.ref.rsplit("/", 1)[-1]] = frozenset(item.trailers.get("Approved", "").split())
        for kind in (STEPS, HANDOFFS, ANSWERS):
            for item in kept.get((kind, name), ()):
                _take(view, item)
        views[name] = view
    _add_releases(compiled, refs, views, tips)
    return views


def _named(compiled: Compiled) -> list[str]:
    """Full names of the single refs that milestones are about."""
    names = []
    for name, milestone in compiled.loaded.milestones.items():
        names += [f"refs/heads/{milestone.branch}", f"{REMOTE}/{name}", f"{DELIVERED}/{name}"]
        names += [f"refs/tags/{milestone.tag}"] if milestone.tag else []
        names += [f"refs/heads/{base}" for base in base_names(milestone)]
    return list(dict.fromkeys(names))


def _add_releases(compiled: Compiled, refs: Refs, views: dict[str, MilestoneView], tips: Mapping[str, str]) -> None:
    """What the bases say of releases; asked only where something has landed."""
    for base in dict.fromkeys(view.base for view in views.values()):
        own = {name: view for name, view in views.items() if view.base == base and view.landings}
        if own:
            tip = next(iter(own.values())).base_tip
            known = read_releases(compiled.project.cache / f"_releases.{base.replace('/', '%')}.json", refs, tip)
            merged = refs.reachable(tip, [view.branch for view in own.values() if view.exists])
            for name, view in own.items():
                view.released = known.get(name)
                view.tag = view.milestone.tag or "" if f"refs/tags/{view.milestone.tag}" in tips else ""
                view.merged = view.branch in merged or (not view.exists and view.released is None)


def _by_kind(kept: Iterable[Kept]) -> dict[tuple[str, str], list[Kept]]:
    """Refs by their kind and milestone; what is no attempt below the refs of attempts is left out."""
    found: dict[tuple[str, str], list[Kept]] = {}
    for item in kept:
        kind = next(kind for kind in _KINDS if item.ref.startswith(f"{kind}/"))
        if kind != ATTEMPTS or attempt_in(item.ref) is not None:
            found.setdefault((kind, item.ref[len(kind) + 1 :].split("/")[0]), []).append(item)
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
