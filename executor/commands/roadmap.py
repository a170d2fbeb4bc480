"""Writes the issues of a milestone's roadmap into its declaration, once its planning issue has landed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.commands.base import safe
from executor.config.edit_toml import edited_plan
from executor.process.files import write_atomic
from executor.workflow.roadmap import FILES, PLAN, RoadmapError, issues_of

if TYPE_CHECKING:
    from executor.engine.session import Session
    from executor.model.milestone import Milestone
    from executor.status.load import MilestoneView

__all__ = ["Declared", "declare_roadmaps"]


@dataclass(frozen=True, slots=True)
class Declared:
    """What was declared.

    Attributes:
        lines: for people.
        asks: a person looks at it before the first issue begins.
    """

    lines: tuple[str, ...]
    asks: bool


def declare_roadmaps(session: Session) -> list[Declared]:
    """Declare the issues of every roadmap that has landed, and say so."""
    found = [
        declared for run in session.runs() if (declared := _declared(session, run.milestone, run.view)) is not None
    ]
    sys.stdout.write("".join(f"{safe(line)}\n" for declared in found for line in declared.lines))
    return found


def _declared(session: Session, milestone: Milestone, view: MilestoneView) -> Declared | None:
    """Declare the issues of a roadmap that has landed; None when there is none, or they are declared."""
    others = [issue for issue in milestone.issues if issue.id != PLAN]
    if milestone.workflow is None or PLAN not in view.landings or others:
        return None
    plan = next(issue for issue in milestone.issues if issue.id == PLAN)
    folder = session.policy.workflow_of(plan).keeps.replace("{milestone}", milestone.id).replace("{issue}", PLAN)
    tasks, dependencies, roadmap = (session.store.blob(view.tip, f"{folder}/{file}") or b"{}" for file in FILES)
    path = session.project.milestones / f"{milestone.id}.toml"
    shown = f"milestones/{milestone.id}.toml"
    try:
        issues = issues_of(tasks, dependencies, roadmap)
    except (RoadmapError, KeyError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, RoadmapError) else "the roadmap cannot be read"
        told = f"{milestone.id}: {why}; declare the issues in {shown}, or doit retry {milestone.id}/{PLAN}"
        return Declared((told,), asks=True)
    text = edited_plan(path.read_text(encoding="utf-8"), {}, {}, [], issues)
    write_atomic(path, text.encode(), durable=False)
    asks = milestone.roadmap == "ask"
    then = f"look at them, then doit milestone:{milestone.id}" if asks else "the run goes on with them"
    listed = [f"  {name}  {values['size']}  {values['title']}" for name, values in issues.items()]
    return Declared((f"{milestone.id}: the roadmap declares {len(issues)} issues in {shown}; {then}", *listed), asks)
