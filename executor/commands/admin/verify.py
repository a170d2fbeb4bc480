"""`doit verify m4`: all checks and acceptance of what has landed, on the branch's tip.

With `--base` it tries every check and acceptance command before the night, as a run asks them of the base.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from executor.commands.base import JSON_OPTION, Command, Options, print_json, safe, table
from executor.commands.meant import meant_milestone
from executor.config.project import compile_project, open_project

if TYPE_CHECKING:
    from executor.checks.base import BaseResult
    from executor.engine.milestone_run import MilestoneRun
    from executor.status.rows import VerifiedRow

__all__ = ["Verify"]

_BASE_LINES = 20
_FORCE = {
    "name": "force",
    "short": "",
    "long": "force",
    "type": bool,
    "default": False,
    "help": "run every check, whatever verdict is known",
}


_BASE = {
    "name": "base",
    "short": "",
    "long": "base",
    "type": bool,
    "default": False,
    "help": "try every check and acceptance command on the base, as a run does before it spends an attempt",
}


class Verify(Command):
    """Verifies the tip of a milestone's branch."""

    name = "verify"
    doc_purpose = "run all checks and acceptance of what has landed on the branch's tip"
    doc_usage = "MILESTONE"
    cmd_options = (_FORCE, _BASE, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the verdicts of every landed issue; exit code 1 if one fails."""
        from executor.commands.sessions import open_session
        from executor.engine.recover import Recovery

        compiled = compile_project(open_project())
        name = meant_milestone(compiled, arguments, "verify")
        with open_session(compiled) as session:
            session.force = options["force"]
            session.enter([name])
            Recovery(session.run_of(name)).recover()
            if options["base"]:
                return _print_base(_base_rows(session.run_of(name)), as_json=options["json"])
            rows = _rows(session.run_of(name))
        if options["json"]:
            print_json(rows)
        else:
            shown = [["passed" if row["ok"] else "failed", row["ref"], row["title"], row["reason"]] for row in rows]
            sys.stdout.write((table(shown) or f"nothing of {name} has landed yet") + "\n")
        return 0 if all(row["ok"] for row in rows) else 1


def _base_rows(run: MilestoneRun) -> list[tuple[BaseResult, list[str]]]:
    """Every check and acceptance command of the milestone on its base, each once, with the issues that it is for."""
    from executor.engine.issue import IssueRun

    tree = run.session.store.tree_of(run.view.tip)
    rows: dict[tuple[str, str, str], tuple[BaseResult, list[str]]] = {}
    for ref in run.session.compiled.plan.order:
        if run.session.compiled.plan.nodes[ref].milestone != run.name:
            continue
        issue = IssueRun(run, ref)
        for result in issue.base_check.results(tree, accepted=issue.facts.landing is None):
            rows.setdefault((result.kind, result.name, result.word), (result, []))[1].append(ref)
    return list(rows.values())


def _print_base(rows: list[tuple[BaseResult, list[str]]], *, as_json: bool) -> int:
    from executor.checks.base import base_remedy

    needed = [base_remedy(row.word, row.name, kind=row.kind) if row.holds else "" for row, _ in rows]
    if as_json:
        print_json(
            [
                {
                    "check": row.name,
                    "kind": row.kind,
                    "status": row.word,
                    "ok": not row.holds,
                    "reason": row.reason,
                    "detail": row.detail,
                    "needed": remedy,
                    "seconds": round(row.seconds, 3),
                    "proof_seconds": round(row.proof_seconds, 3),
                    "refs": refs,
                }
                for (row, refs), remedy in zip(rows, needed, strict=True)
            ]
        )
    else:
        shown = [
            [row.word, row.kind, row.name, f"{row.seconds + row.proof_seconds:.1f} s", row.reason] for row, _ in rows
        ]
        sys.stdout.write(
            (table(shown) or "nothing is to be tried: no issue has a check or an acceptance command") + "\n"
        )
        for (row, refs), remedy in zip(rows, needed, strict=True):
            if row.holds:
                lines = [f"  | {line}" for line in row.detail.splitlines()[-_BASE_LINES:]]
                lines.append(f"{row.name}: {remedy}; needed by {', '.join(refs)}")
                sys.stdout.write("".join(f"{safe(line)}\n" for line in lines))
    return 0 if not any(row.holds for row, _ in rows) else 1


def _rows(run: MilestoneRun) -> list[VerifiedRow]:
    from executor.engine.issue import IssueRun

    tree = run.session.store.tree_of(run.view.tip)
    rows: list[VerifiedRow] = []
    for ref in run.session.compiled.plan.order:
        node = run.session.compiled.plan.nodes[ref]
        if node.milestone == run.name and node.issue.id in run.view.landings:
            result = IssueRun(run, ref).verify_on(tree)
            rows.append({"ref": ref, "title": node.issue.title, "ok": result.ok, "reason": result.reason})
    return rows
