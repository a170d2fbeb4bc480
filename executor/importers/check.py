"""Whether what an import would write can run: the checks of every other command, before anything is written."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from executor.config.load_milestones import Loaded, load
from executor.config.load_rules import policy_faults
from executor.config.milestone_file import read_milestone
from executor.errors import DeclarationError, Fault
from executor.model.plan import compile_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.config.project import Project
    from executor.importers.plan_files import Planned
    from executor.model.policy import Policy

__all__ = ["settle"]


def settle(project: Project, plans: Sequence[Planned], policy: Policy | None) -> list[Fault]:
    """Make drafts of the plans that could not run; return the faults for which nothing may be written.

    A plan that would break a milestone that is sound is refused. A new one, or one that was faulty before, becomes a
    draft: it stops only itself.
    """
    before = _faults(load(project.milestones), policy)
    broken = {fault.file for fault in before}
    loaded = load(project.milestones)
    refused: list[Fault] = []
    for plan in plans:
        refused += _take(loaded, plan)
    if refused:
        return refused
    known = {str(fault) for fault in before}
    fresh = [fault for fault in _faults(loaded, policy) if str(fault) not in known]
    for plan in plans:
        file = _file(plan)
        own = [fault for fault in _faults(loaded, policy) if fault.file == file]
        if not own:
            continue
        fresh = [fault for fault in fresh if fault.file != file]
        sound = plan.file.exists() and file not in broken
        if sound:
            refused += own
        else:
            plan.make_draft(own)
    if fresh and not refused:
        # A cycle through other milestones: it is named by one of their files, but the plans brought it.
        for plan in plans:
            if not plan.draft_faults:
                plan.make_draft(fresh)
    return refused


def _file(plan: Planned) -> str:
    return f"milestones/{plan.file.name}"


def _take(loaded: Loaded, plan: Planned) -> list[Fault]:
    """Put a plan in the place of its milestone; the faults of its file are those that nobody can live with."""
    file = _file(plan)
    read = read_milestone(tomllib.loads(plan.text), file, plan.id)
    loaded.faults = [fault for fault in loaded.faults if fault.file != file]
    if read.faults or read.milestone is None:
        return read.faults
    loaded.milestones[plan.id] = read.milestone
    loaded.files[plan.id] = file
    loaded.partial.pop(plan.id, None)
    loaded.faulty = {ref for ref in loaded.faulty if ref != plan.id}
    return []


def _faults(loaded: Loaded, policy: Policy | None) -> list[Fault]:
    found = list(loaded.faults)
    if policy is not None:
        found += policy_faults(loaded.milestones, loaded.files, policy, loaded.partial)
    try:
        compile_plan(loaded.milestones, loaded.files, loaded.faulty, loaded.partial)
    except DeclarationError as error:
        found += error.faults
    return found
