"""`doit list`: the pending issues in execution order; without milestones, doit's own list."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from doit.cmd_list import List as DoitList

from executor.commands.base import (
    JSON_OPTION,
    Options,
    Output,
    asks_help,
    faults_told,
    guarded,
    permuted,
    print_json,
    safe,
    show_help,
    table,
    unproved_told,
)
from executor.config.project import has_milestones, open_project
from executor.status.summary_cache import Board, board_of

if TYPE_CHECKING:
    from executor.status.rows import IssueRow, ListedIssue

__all__ = ["List"]

_TASKS = {
    "name": "tasks",
    "short": "",
    "long": "tasks",
    "type": bool,
    "default": False,
    "help": "doit's own list of tasks",
}


class List(DoitList):
    """Replaces doit's list in projects with milestones."""

    name = "list"
    doc_purpose = "list pending issues in the order they would run (--all: every issue)"
    doc_usage = "[MILESTONE ...]"
    cmd_options = (*DoitList.cmd_options, JSON_OPTION, _TASKS)

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line, options anywhere on it, and run."""
        if asks_help(in_args):
            return guarded(lambda: show_help(self), Output.VIEW)
        action = super().parse_execute
        return guarded(lambda: action(permuted(self, in_args)) or 0, Output.VIEW)

    def execute(self, params: Options, args: list[str]) -> int:
        """Called by doit."""
        tasks, here = params.pop("tasks"), has_milestones(Path.cwd())
        if tasks or not here:
            params.pop("json")
            code = int(super().execute(params, args) or 0)
            if not tasks:
                sys.stderr.write("no milestone is declared here; write milestones/ID.toml, or `doit import PLAN`\n")
            return code
        board = board_of(open_project())
        rows = _wanted(board, board.rows() if params["subtasks"] else board.pending, args)
        if params["json"]:
            print_json([_public(row) for row in rows])
        elif params["quiet"]:
            sys.stdout.write("".join(f"{row['ref']}\n" for row in rows))
        else:
            sys.stdout.write(_text(board, rows, args, every=params["subtasks"]))
        return faults_told(board.faults)


def _wanted(board: Board, rows: list[IssueRow], names: list[str]) -> list[IssueRow]:
    wanted = {name.removeprefix("milestone:") for name in names}
    board.require(wanted)
    return [row for row in rows if not wanted or row["ref"].partition("/")[0] in wanted]


def _public(row: IssueRow) -> ListedIssue:
    return {
        "id": row["ref"],
        "ref": row["ref"],
        "status": row["status"],
        "title": row["title"],
        "reason": row["reason"],
        "hint": row["hint"],
        "revision": row["revision"],
        "commit": row["commit"],
        "attempts": row["attempts"],
        "unproved": row["unproved"],
    }


def _text(board: Board, rows: list[IssueRow], names: list[str], *, every: bool) -> str:
    known = [item for item in board.milestones if not names or item["id"] in names]
    gone = [
        ["landed", f"{item['id']}/{safe(left['id'])}", "-", f"landed as {left['commit'][:10]}; no longer declared"]
        for item in (known if every else ())
        for left in item["removed"]
    ]
    told = "".join(f"{item['id']}: {safe(item['reason'])}; {item['hint']}\n" for item in known if item["pause"])
    drafts = [item for item in board.drafts if not names or item["id"] in names]
    told += "".join(f"{item['id']}: draft: {safe(item['reason'])}\n" for item in drafts)
    if rows or gone:
        shown = [[row["status"], row["ref"], row["title"], row["reason"]] for row in rows]
        return table([*shown, *gone]) + "\n" + told + unproved_told([row["ref"] for row in rows if row["unproved"]])
    landed, total = sum(item["landed"] for item in known), sum(item["total"] for item in known)
    return f"nothing is pending: {landed} of {total} issues have landed\n{told}"
