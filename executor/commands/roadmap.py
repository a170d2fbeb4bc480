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
    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session

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
    found = [declared for run in session.runs() if (declared := _declared(run)) is not None]
    sys.stdout.write("".join(f"{safe(line)}\n" for declared in found for line in declared.lines))
    return found


def _declared(run: MilestoneRun) -> Declared | None:
    """Declare the issues of a roadmap that has landed; None when there is none, or they are declared."""
    milestone = run.milestone
    others = [issue for issue in milestone.issues if issue.id != PLAN]
    if milestone.workflow is None or PLAN not in run.view.landings or others:
        return None
    workflow = run.session.policy.workflow_of(run.issue(f"{run.name}/{PLAN}"))
    folder = workflow.keeps.replace("{milestone}", run.name).replace("{issue}", PLAN)
    tasks, dependencies, roadmap = (run.session.store.blob(run.view.tip, f"{folder}/{file}") or b"{}" for file in FILES)
    path = run.session.project.milestones / f"{run.name}.toml"
    shown = f"milestones/{run.name}.toml"
    try:
        issues = issues_of(tasks, dependencies, roadmap)
    except (RoadmapError, KeyError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, RoadmapError) else "the roadmap cannot be read"
        told = f"{run.name}: {why}; declare the issues in {shown}, or doit retry {run.name}/{PLAN}"
        return Declared((told,), asks=True)
    text = edited_plan(path.read_text(encoding="utf-8"), {}, {}, [], issues)
    write_atomic(path, text.encode(), durable=False)
    asks = milestone.roadmap == "ask"
    then = f"look at them, then doit milestone:{run.name}" if asks else "the run goes on with them"
    listed = [f"  {name}  {values['size']}  {values['title']}" for name, values in issues.items()]
    return Declared((f"{run.name}: the roadmap declares {len(issues)} issues in {shown}; {then}", *listed), asks)
