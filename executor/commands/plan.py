"""`doit plan m4`: the dry run. Order, waves, critical path, what each issue would do and why; touches nothing."""

from __future__ import annotations

import sys
from typing import Any

from executor.adapters.refs import Refs
from executor.commands.base import JSON_OPTION, Command, print_json, table
from executor.core.decide import Status
from executor.errors import UsageError
from executor.observe import Observer, observe
from executor.project import compile_project, open_project

__all__ = ["Plan"]


class Plan(Command):
    """Shows what a run would do."""

    name = "plan"
    doc_purpose = "show what running a milestone would do, in which order and why; touches nothing"
    doc_usage = "MILESTONE"
    cmd_options = (JSON_OPTION,)

    def run(self, options: dict[str, Any], arguments: list[str]) -> int:
        """Print it."""
        if len(arguments) != 1:
            raise UsageError("name one milestone, for example `doit plan m4`")
        project = open_project()
        compiled = compile_project(project)
        name = compiled.milestone(arguments[0].removeprefix("milestone:")).id
        observer = observe(compiled, Refs(project.repository))
        value = _value(observer, name)
        if options["json"]:
            print_json(value)
        else:
            sys.stdout.write(_text(value))
        return 0


def _value(observer: Observer, name: str) -> dict[str, Any]:
    plan = observer.compiled.plan
    view = observer.views[name]
    wave_of = {ref: number for number, wave in enumerate(plan.waves(name), 1) for ref in wave}
    issues = []
    for ref in plan.order:
        node = plan.nodes[ref]
        if node.milestone == name:
            decision = observer.decision(ref)
            issues.append(
                {
                    "ref": ref,
                    "title": node.issue.title,
                    "wave": wave_of[ref],
                    "priority": node.issue.priority,
                    "size": node.issue.size,
                    "needs": list(node.needs),
                    "status": str(decision.status),
                    "act": "implement" if decision.status is Status.BLOCKED and node.needs else str(decision.act),
                    "why": decision.reason,
                    "agent": observer.compiled.policy.agent_for(node.issue).name,
                }
            )
    return {
        "milestone": name,
        "title": view.milestone.title,
        "branch": view.milestone.branch,
        "base": view.base.removeprefix("refs/heads/"),
        "from": view.tip,
        "critical_path": list(plan.critical_path(name)),
        "issues": issues,
    }


def _text(value: dict[str, Any]) -> str:
    rows = [
        [
            f"wave {item['wave']}",
            item["act"],
            item["ref"],
            item["agent"],
            f"{item['priority']} {item['size']}",
            item["title"],
            item["why"],
        ]
        for item in value["issues"]
    ]
    path = " -> ".join(ref.partition("/")[2] for ref in value["critical_path"])
    return (
        f"{value['milestone']}: {value['title']}\n"
        f"lands on {value['branch']}, starting from {value['from'][:10]} ({value['base']})\n"
        f"critical path: {path}\n\n{table(rows)}\n"
    )
