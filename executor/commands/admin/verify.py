"""`doit verify m4`: all checks and acceptance of landed issues, on the branch's tip.

With `--base` it tries every check and acceptance command on the base before the night, as a run does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from executor.commands.base import JSON_OPTION, Command, Options, meant_milestone, print_json, safe, table
from executor.config.project import compile_project, open_project

if TYPE_CHECKING:
    from executor.checks.base import BaseResult
    from executor.config.project import Compiled
    from executor.engine.issue import IssueRun
    from executor.engine.session import Session
    from executor.status.rows import VerifiedRow

__all__ = ["Verify", "base_rows"]

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
        from executor.commands.summary import unshared
        from executor.engine.recover import Recovery

        compiled = compile_project(open_project())
        name = meant_milestone(compiled, arguments, "verify")
        with open_session(compiled) as session:
            session.force = options["force"]
            session.enter([name])
            Recovery(session.run_of(name)).recover()
            issues, tree = _issues(session, name), session.store.tree_of(session.run_of(name).view.tip)
            if options["base"]:
                base = _base_rows(issues, tree)
                sys.stderr.write("".join(f"note: {safe(line)}\n" for line in unshared(session)))
                return _print_base(base, as_json=options["json"])
            rows = _rows([issue for issue in issues if issue.facts.landing is not None], tree)
            sys.stderr.write("".join(f"note: {safe(line)}\n" for line in unshared(session)))
        if options["json"]:
            print_json(rows)
        else:
            shown = [["passed" if row["ok"] else "failed", row["ref"], row["title"], row["reason"]] for row in rows]
            sys.stdout.write((table(shown) or f"nothing of {name} has landed yet") + "\n")
        return 0 if all(row["ok"] for row in rows) else 1


def _issues(session: Session, milestone: str) -> list[IssueRun]:
    """Return the issues of a milestone in plan order."""
    from executor.engine.issue import IssueRun

    plan, run = session.compiled.plan, session.run_of(milestone)
    return [IssueRun(run, ref) for ref in plan.order if plan.nodes[ref].milestone == milestone]


def base_rows(compiled: Compiled, name: str) -> list[tuple[BaseResult, list[str]]]:
    """Try every check and acceptance command of a milestone on its base, each once, with the issues that it is for.

    Raises:
        BusyError: the milestone is running.
    """
    from executor.commands.sessions import open_session
    from executor.engine.recover import Recovery

    with open_session(compiled) as session:
        session.enter([name])
        run = session.run_of(name)
        Recovery(run).recover()
        return _base_rows(_issues(session, name), session.store.tree_of(run.view.tip))


def _base_rows(issues: list[IssueRun], tree: str) -> list[tuple[BaseResult, list[str]]]:
    """Return every check and acceptance command of the issues on the base's tree, each once, with those issues."""
    rows: dict[tuple[str, str, str], tuple[BaseResult, list[str]]] = {}
    for issue in issues:
        for result in issue.base_check.results(tree, accepted=issue.facts.landing is None):
            rows.setdefault((result.kind, result.name, result.word), (result, []))[1].append(issue.ref)
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


def _rows(landed: list[IssueRun], tree: str) -> list[VerifiedRow]:
    rows: list[VerifiedRow] = []
    for issue in landed:
        result = issue.verify_on(tree)
        rows.append({"ref": issue.ref, "title": issue.declared.title, "ok": result.ok, "reason": result.reason})
    return rows
