"""The first and the last words of a run: where it resumes and what it passes over; what a complete milestone has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.core.checks import CommandProof
from executor.core.decide import Act, Status
from executor.errors import UsageError
from executor.ref_names import HANDOFFS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.core.declaration import Milestone
    from executor.observe import Observer
    from executor.project import Compiled

__all__ = ["closing", "opening", "passed_over", "start_of"]

_MOST = 20


def start_of(compiled: Compiled, wanted: Sequence[str], given: str) -> str:
    """The qualified id of the issue that `--from` names; empty when it was not given.

    Raises:
        UsageError: there is no such issue, or it is not clear of which milestone.
    """
    if not given:
        return ""
    milestones = [name.partition(":")[2] for name in wanted if name.startswith("milestone:")]
    if len(milestones) != 1 or len(wanted) != 1:
        raise UsageError("--from says where one milestone starts, for example `doit milestone:m4 --from 4.4`")
    ref = compiled.ref(given if "/" in given else f"{milestones[0]}/{given}")
    if ref.partition("/")[0] != milestones[0]:
        raise UsageError(f"--from {given}: {ref} is not an issue of milestone {milestones[0]}")
    return ref


def passed_over(observer: Observer, start: str) -> tuple[str, ...]:
    """Issues that stand before the start in their file and have not landed: they are not done, nor in the way."""
    name, _, first = start.partition("/")
    found = []
    for issue in observer.compiled.milestone(name).issues:
        if issue.id == first:
            break
        ref = f"{name}/{issue.id}"
        if observer.decision(ref).status is not Status.LANDED:
            found.append(ref)
    return tuple(found)


def opening(observer: Observer, wanted: Sequence[str], start: str, passed: Sequence[str]) -> list[str]:
    """For each milestone that is asked for, what is complete of it and where the run resumes."""
    return [line for name in _milestones(wanted) for line in _opening(observer, name, start, passed)]


def closing(observer: Observer, wanted: Sequence[str]) -> list[str]:
    """What each milestone that is asked for has, if it is complete."""
    return [line for name in _milestones(wanted) for line in _closing(observer, name)]


def _milestones(wanted: Sequence[str]) -> list[str]:
    return [what for kind, _, what in (name.partition(":") for name in wanted) if kind == "milestone"]


def _opening(observer: Observer, name: str, start: str, passed: Sequence[str]) -> list[str]:
    milestone = observer.compiled.milestone(name)
    order = [ref for ref in observer.compiled.plan.order if ref.partition("/")[0] == name and ref not in passed]
    decisions = {ref: observer.decision(ref) for ref in order}
    landed = [
        issue.id
        for issue in milestone.issues
        if (ref := f"{name}/{issue.id}") in decisions and decisions[ref].status is Status.LANDED
    ]
    rest = [ref for ref in order if decisions[ref].status is not Status.LANDED]
    if not rest:
        return []
    ready = [ref for ref in rest if decisions[ref].act is not Act.REST]
    first = start if start in rest else (ready or rest)[0]
    word = "resuming from" if landed or observer.views[name].states else "starting from"
    if not ready:
        word = "waiting at"
    lines = [f"{_titled(milestone)}, completed {_listed(landed) or 'none'}, {word} {first.partition('/')[2]}"]
    if start and start not in rest:
        lines.append(f"{start} has landed and stays as it is")
    if passed:
        names = _listed([ref.partition("/")[2] for ref in passed])
        lines.append(f"passed over because of --from, and not in the way: {names}")
    return lines


def _closing(observer: Observer, name: str) -> list[str]:
    milestone = observer.compiled.milestone(name)
    view = observer.views[name]
    refs = [f"{name}/{issue.id}" for issue in milestone.issues]
    if not refs or any(observer.decision(ref).status is not Status.LANDED for ref in refs):
        return []
    opened = sum(item.word == "open" for state in view.states.values() for item in state.steps.values())
    checks = dict.fromkeys(item.name for ref in refs for item in observer.proofs(ref).items if _is_named(item))
    claims = sum(len(issue.accept) for issue in milestone.issues)
    proved = [issue.id for issue in milestone.issues if issue.type.lower() == "validation"]
    told = [f"checks passed: {_listed(list(checks))}"] if checks else []
    told += [f"{claims} acceptance criteria"] if claims else []
    told += [f"end to end by {_listed(proved)}"] if proved else []
    latest = max(
        (view.landings[issue] for issue in view.handoffs if issue in view.landings),
        key=lambda landing: landing.position,
        default=None,
    )
    handoff = "none asked for"
    if latest is not None:
        handoff = f"{len(view.handoffs)}, the last one: git show {HANDOFFS}/{name}/{latest.trailers.issue}:handoff.md"
    base = view.base.removeprefix("refs/heads/")
    return [
        f"{_titled(milestone)} is complete",
        f"  tasks completed  {_listed([issue.id for issue in milestone.issues])}",
        f"  gates            {f'{opened} opened, none held' if opened else 'none declared'}",
        f"  validation       {', '.join(told) or 'none declared'}",
        f"  handoff          {handoff}",
        f"  ready for PR     {milestone.branch} -> {base}: doit release:{name}",
    ]


def _titled(milestone: Milestone) -> str:
    name = milestone.id.upper() if re.fullmatch(r"m[0-9.]+", milestone.id) else milestone.id
    count = len(milestone.issues)
    return f"{name} - {milestone.title} ({count} task{'' if count == 1 else 's'})"


def _is_named(item: object) -> bool:
    return isinstance(item, CommandProof) and item.named


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST
    return " ".join(names[:_MOST]) + (f" and {more} more" if more > 0 else "")
