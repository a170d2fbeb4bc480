"""The roadmap of a milestone as issues: tasks, dependencies and batches from the planning steps. Pure.

Batches keep their order: a task needs its dependencies and, if a gate lies between, every task of the previous batch.
The command of a gate is part of the acceptance of the tasks before it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FILES", "PLAN", "RoadmapError", "issues_of"]

PLAN = "plan"
"""Id of the planning issue of a milestone."""
FILES = ("task.breakdown/tasks.json", "task.dependencies/dependencies.json", "task.roadmap/roadmap.json")
_SMALL, _MEDIUM = 2.0, 8.0
"""Maximum hours of a small task, and of a medium one."""


class RoadmapError(ExecutorError):
    """The results of the planning steps are inconsistent."""


def issues_of(tasks_json: bytes, dependencies_json: bytes, roadmap_json: bytes) -> dict[str, Mapping[str, Any]]:
    """Return id -> keys of the declared issue, batch by batch.

    Raises:
        RoadmapError: with every fault.
    """
    tasks = {str(task["id"]): task for task in json.loads(tasks_json)["tasks"]}
    dependencies: dict[str, list[str]] = json.loads(dependencies_json)["dependencies"]
    roadmap = json.loads(roadmap_json)
    batches: list[list[str]] = roadmap["batches"]
    gates = {int(gate["after_batch"]): str(gate.get("run", "")) for gate in roadmap.get("gates", ())}
    faults = _faults(tasks, dependencies, batches)
    if faults:
        raise RoadmapError("the roadmap does not fit together: " + "; ".join(faults))
    found: dict[str, Mapping[str, Any]] = {}
    for number, batch in enumerate(batches, 1):
        before = batches[number - 2] if number > 1 and number - 1 in gates else []
        for name in batch:
            needs = [*dependencies.get(name, ()), *before]
            found[name] = _issue(tasks[name], list(dict.fromkeys(needs)), gates.get(number, ""))
    return found


def _issue(task: Mapping[str, Any], needs: list[str], gate: str) -> Mapping[str, Any]:
    hours = float(task["estimate_hours"])
    accept = [*task.get("accept", ()), *([{"run": gate}] if gate else [])]
    values = {
        "title": str(task["title"]),
        "type": str(task.get("type", "feature")),
        "size": "S" if hours <= _SMALL else "M" if hours <= _MEDIUM else "L",
        "body": str(task["spec"]),
        "needs": needs,
        "files": list(task.get("files", ())),
        "accept": accept,
    }
    return {key: value for key, value in values.items() if value not in ([], "")}


def _faults(tasks: Mapping[str, Any], dependencies: Mapping[str, Sequence[str]], batches: list[list[str]]) -> list[str]:
    placed = [name for batch in batches for name in batch]
    place = {name: number for number, batch in enumerate(batches) for name in batch}
    faults = [f'"{name}" is in no batch' for name in tasks if name not in placed]
    faults += [f'"{name}" is in two batches' for name in dict.fromkeys(placed) if placed.count(name) > 1]
    faults += [f'batches name "{name}", which is no task' for name in placed if name not in tasks]
    faults += [f'"{PLAN}" is the id of the planning issue' for name in tasks if name == PLAN]
    for name, needs in dependencies.items():
        for need in needs:
            if name not in tasks or need not in tasks:
                faults.append(f'dependencies name "{need if name in tasks else name}", which is no task')
            elif place.get(need, -1) >= place.get(name, 0):
                faults.append(f'"{name}" needs "{need}", which is not in an earlier batch')
    return faults
