"""`doit status`: the computed status of everything."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from executor.commands.admin.cron import night_json, night_lines
from executor.commands.base import JSON_OPTION, Command, Options, Output, faults_told, print_json, safe, table
from executor.config.project import open_project
from executor.nightly.night_log import Nights
from executor.process.files import LOCAL, utcnow
from executor.status.summary_cache import board_of

if TYPE_CHECKING:
    from executor.status.rows import IssueRow, MilestoneRow

__all__ = ["Status", "removed_lines"]


_REFRESH = {
    "name": "refresh",
    "short": "",
    "long": "refresh",
    "type": bool,
    "default": False,
    "help": "ask the remote and the forge first what others did there",
}


class Status(Command):
    """Shows milestones and issues with status, reason and what would move them on."""

    name = "status"
    output = Output.VIEW
    doc_purpose = "show the computed status of milestones and their issues"
    doc_usage = "[MILESTONE ...]"
    cmd_options = (JSON_OPTION, _REFRESH)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the status."""
        project = open_project()
        names = [name.removeprefix("milestone:") for name in arguments]
        if options["refresh"]:
            _refresh(names)
        board = board_of(project)
        board.require(names)
        rows = board.rows()
        shown = [item for item in board.milestones if not names or item["id"] in names]
        drafts = [item for item in board.drafts if not names or item["id"] in names]
        outlook = Nights(project.cache).outlook(utcnow(), LOCAL)
        if options["json"]:
            print_json(
                {
                    "milestones": [_json(item, _own(rows, item["id"])) for item in shown],
                    "drafts": drafts,
                    "nightly": night_json(outlook),
                }
            )
        else:
            sys.stdout.write("\n".join(_text(item, _own(rows, item["id"])) for item in shown))
            sys.stdout.write("".join(f"{item['id']}: draft: {safe(item['reason'])}\n" for item in drafts))
            sys.stdout.write("".join(f"\n{safe(line)}" for line in night_lines(outlook)) + "\n" * bool(outlook))
        return faults_told(board.faults)


def _refresh(names: list[str]) -> None:
    """Take over what others did on the remote and the forge; milestones that are being run do so by themselves."""
    from executor.commands.sessions import open_session
    from executor.config.project import compile_project
    from executor.errors import BusyError
    from executor.forge.reconcile import Reconciliation

    compiled = compile_project(open_project())
    if compiled.policy.forge.pushes_to is None:
        return
    with open_session(compiled) as session:
        for name in names or list(compiled.loaded.milestones):
            try:
                session.enter([compiled.milestone(name).id])
            except BusyError as error:
                sys.stderr.write(f"note: {safe(str(error))}\n")
        for run in session.runs():
            Reconciliation(run).take_over()
            for message in run.messages:
                sys.stderr.write(f"note: {safe(message)}\n")


def _own(rows: list[IssueRow], milestone: str) -> list[IssueRow]:
    return [row for row in rows if row["ref"].partition("/")[0] == milestone]


def _json(item: MilestoneRow, rows: list[IssueRow]) -> dict[str, object]:
    keys = ("id", "title", "status", "reason", "revision", "commit", "pr", "attempts", "seconds", "cost_usd")
    return {
        "id": item["id"],
        "title": item["title"],
        "status": item["status"],
        "reason": item["reason"],
        "hint": item["hint"],
        "needs": item["needs"],
        "percent": item["percent"],
        "branch": item["branch"],
        "tip": item["tip"],
        "blockers": item["blockers"],
        "removed": item["removed"],
        "issues": [{key: row.get(key) for key in keys} for row in rows],
    }


def _text(item: MilestoneRow, rows: list[IssueRow]) -> str:
    landed = f"{item['landed']} of {item['total']} landed ({item['percent']} %)"
    head = f"{safe(item['id'])}: {safe(item['title'])} - {item['status']}, {landed}"
    if item["status"] in {"paused", "blocked", "released"}:
        head += f"\n{safe(item['reason'])}" + (f"; {item['hint']}" if item["hint"] else "")
    for blocker in item["blockers"]:
        word = "paused by" if blocker["pauses"] else "blocker"
        head += f"\n{word} {blocker['blocker']}: {safe(blocker['reason'])}; {safe(blocker['resume'])}"
    lines = [[row["status"], row["id"], row["title"], _where(row)] for row in rows]
    hints = dict.fromkeys(
        row["hint"] for row in rows if row["status"] in {"failed", "skipped", "review"} and row["hint"]
    )
    after = "".join(f"  {hint}\n" for hint in hints)
    lines += removed_lines(item)
    return f"{head}\n{table(lines)}\n" + (f"next:\n{after}" if after else "")


def removed_lines(item: MilestoneRow) -> list[list[str]]:
    """Table rows of issues that landed and left the declaration."""
    told = "landed as {}; no longer declared"
    return [["landed", safe(gone["id"]), "-", told.format(gone["commit"][:10])] for gone in item["removed"]]


def _where(row: IssueRow) -> str:
    revision = f", revision {row['revision']}" if row["revision"] > 1 else ""
    pull = row.get("pr")
    where = f": {pull['url']}" if pull and pull["url"] and pull["state"] in {"draft", "open"} else ""
    shown = f" (PR #{pull['number']} {pull['state']}{where})" if pull else ""
    return f"{row['reason']}{revision}{shown}"
