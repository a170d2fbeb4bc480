"""`doit verify m4`: all checks and acceptance of what has landed, on the branch's tip."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from executor.commands.base import JSON_OPTION, Command, Options, print_json, table
from executor.commands.meant import meant_milestone
from executor.config.project import compile_project, open_project

if TYPE_CHECKING:
    from executor.engine.milestone_run import MilestoneRun

__all__ = ["Verify"]

_FORCE = {
    "name": "force",
    "short": "",
    "long": "force",
    "type": bool,
    "default": False,
    "help": "run every check, whatever verdict is known",
}


class Verify(Command):
    """Proves a milestone's branch as it is."""

    name = "verify"
    doc_purpose = "run all checks and acceptance of what has landed on the branch's tip"
    doc_usage = "MILESTONE"
    cmd_options = (_FORCE, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print what every landed issue's proofs say; exit code 1 if one fails."""
        from executor.commands.sessions import open_session
        from executor.engine.recover import Recovery

        compiled = compile_project(open_project())
        name = meant_milestone(compiled, arguments, "verify")
        with open_session(compiled) as session:
            session.force = options["force"]
            session.enter([name])
            Recovery(session.run_of(name)).recover()
            rows = _rows(session.run_of(name))
        if options["json"]:
            print_json(rows)
        else:
            shown = [["passed" if row["ok"] else "failed", row["ref"], row["title"], row["reason"]] for row in rows]
            sys.stdout.write((table(shown) or f"nothing of {name} has landed yet") + "\n")
        return 0 if all(row["ok"] for row in rows) else 1


def _rows(run: MilestoneRun) -> list[dict[str, Any]]:
    from executor.engine.issue import IssueRun

    tree = run.session.store.tree_of(run.view.tip)
    rows = []
    for ref in run.session.compiled.plan.order:
        node = run.session.compiled.plan.nodes[ref]
        if node.milestone == run.name and node.issue.id in run.view.landings:
            result = IssueRun(run, ref).verify_on(tree)
            rows.append({"ref": ref, "title": node.issue.title, "ok": result.ok, "reason": result.reason})
    return rows
