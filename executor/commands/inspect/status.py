"""`doit status`: the computed status of everything.

`doit sessions`: the runs of milestones: time, user, task, outcome, and where they stopped.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from executor.commands.base import JSON_OPTION, Command, Options, Output, print_json, report_faults, safe, table
from executor.commands.plain import ago
from executor.config.project import open_project, unknown_milestone
from executor.errors import UsageError
from executor.model.fingerprint import IssueRef
from executor.process.files import LOCAL, local_time, utcnow
from executor.process.locks import read_holder
from executor.report.nights import Nights, night_json, night_lines
from executor.state import segments
from executor.state.record import How, RunRecord, moment, run_records
from executor.status.summary_cache import index_of

if TYPE_CHECKING:
    from executor.config.project import Project
    from executor.status.rows import IssueRow, MilestoneRow, PhaseRow, StatusIssue, StatusMilestone, StatusReport

__all__ = ["Sessions", "Status", "removed_lines", "sessions_of"]


_REFRESH = {
    "name": "refresh",
    "short": "",
    "long": "refresh",
    "type": bool,
    "default": False,
    "help": "first read changes from the remote and the forge",
}


class Status(Command):
    """Shows milestones and issues with status, reason and the next step."""

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
        index = index_of(project)
        index.require(names)
        rows = index.rows()
        shown = [item for item in index.milestones if not names or item["id"] in names]
        drafts = [item for item in index.drafts if not names or item["id"] in names]
        outlook = Nights(project.cache).outlook(utcnow(), LOCAL)
        if options["json"]:
            report: StatusReport = {
                "milestones": [_json(item, _own(rows, item["id"])) for item in shown],
                "drafts": drafts,
                "nightly": night_json(outlook),
            }
            print_json(report)
        else:
            sys.stdout.write("\n".join(_text(item, _own(rows, item["id"])) for item in shown))
            sys.stdout.write("".join(f"{item['id']}: draft: {safe(item['reason'])}\n" for item in drafts))
            sys.stdout.write("".join(f"\n{safe(line)}" for line in night_lines(outlook)) + "\n" * bool(outlook))
        return report_faults(index.faults)


def _refresh(names: list[str]) -> None:
    """Take over changes by others on the remote and the forge; running milestones do so themselves."""
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
    return [row for row in rows if IssueRef.parse(row["ref"]).milestone == milestone]


def _json(item: MilestoneRow, rows: list[IssueRow]) -> StatusMilestone:
    return {
        "id": item["id"],
        "title": item["title"],
        "status": item["status"],
        "reason": item["reason"],
        "hint": item["hint"],
        "needs": item["needs"],
        "percent": item["percent"],
        "phases": item["phases"],
        "branch": item["branch"],
        "tip": item["tip"],
        "blockers": item["blockers"],
        "removed": item["removed"],
        "issues": [_issue(row) for row in rows],
    }


def _issue(row: IssueRow) -> StatusIssue:
    return {
        "id": row["id"],
        "title": row["title"],
        "status": row["status"],
        "reason": row["reason"],
        "revision": row["revision"],
        "commit": row["commit"],
        "phases": row["phases"],
        "pr": row.get("pr"),
        "attempts": row["attempts"],
        "seconds": row["seconds"],
        "cost_usd": row["cost_usd"],
    }


def _text(item: MilestoneRow, rows: list[IssueRow]) -> str:
    landed = f"{item['landed']} of {item['total']} landed ({item['percent']} %)"
    head = f"{safe(item['id'])}: {safe(item['title'])} - {item['status']}, {landed}"
    if item["status"] in {"paused", "blocked", "released"}:
        head += f"\n{safe(item['reason'])}" + (f"; {item['hint']}" if item["hint"] else "")
    phases = {item["id"]: item["phases"]} | {row["ref"]: row["phases"] for row in rows if _has_line(row, item)}
    head += "".join(f"\n{safe(ref)}: {_phase_line(found)}" for ref, found in phases.items() if found)
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


def _phase_line(phases: list[PhaseRow]) -> str:
    from executor.status.progress import PhaseProgress, phase_line  # `doit status` without phases does without it

    return phase_line([PhaseProgress(**phase) for phase in phases])


def _has_line(row: IssueRow, item: MilestoneRow) -> bool:
    """Return whether the phases of an issue have a line; those of a milestone's planning issue are in the former's."""
    return not (item["phases"] and row["id"] == "plan")


def removed_lines(item: MilestoneRow) -> list[list[str]]:
    """Return table rows of issues that landed and left the declaration."""
    text = "landed as {}; no longer declared"
    return [["landed", safe(gone["id"]), "-", text.format(gone["commit"][:10])] for gone in item["removed"]]


def _where(row: IssueRow) -> str:
    revision = f", revision {row['revision']}" if row["revision"] > 1 else ""
    pull = row.get("pr")
    where = f": {pull['url']}" if pull and pull["url"] and pull["state"] in {"draft", "open"} else ""
    shown = f" (PR #{pull['number']} {pull['state']}{where})" if pull else ""
    return f"{row['reason']}{revision}{shown}"


_ALL = {
    "name": "all",
    "short": "a",
    "long": "all",
    "type": bool,
    "default": False,
    "help": "show all runs, not only the latest 20",
}
_SHOWN = 20  # runs; about a screen, `--all` shows the rest


_EXPLAINED = {How.INTERRUPTED, How.HALTED, How.ERROR}


class Sessions(Command):
    """Shows the runs in the journals, latest last."""

    name = "sessions"
    output = Output.VIEW
    doc_purpose = "list runs: when, who, how they ended, where they stopped"
    doc_usage = "[MILESTONE ...]"
    cmd_options = (_ALL, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print them."""
        project = open_project()
        known = sorted(path.stem for path in project.milestones.glob("*.toml"))
        names = [name.removeprefix("milestone:") for name in arguments]
        for name in names:
            if name not in known:
                raise UsageError(unknown_milestone(name, known))
        found = [(name, record) for name in names or known for record in sessions_of(project, name)]
        found.sort(key=lambda item: item[1].started)
        shown = found if options["all"] or options["json"] else found[-_SHOWN:]
        if options["json"]:
            print_json({"sessions": [_value(name, record) for name, record in shown]})
        elif not shown:
            sys.stdout.write("no run is recorded in .cache/\n")
        else:
            left_out = len(found) - len(shown)
            sys.stdout.write(f"{left_out} earlier ones are not shown; --all shows them\n" if left_out else "")
            sys.stdout.write(table([_row(name, record) for name, record in shown]) + "\n")
            sys.stdout.write(_last_run_text(*found[-1]))
        return 0


def sessions_of(project: Project, name: str) -> list[RunRecord]:
    """Return the runs of a milestone, oldest first.

    Raises:
        StateBrokenError: its journal is corrupt.
    """
    folder = project.state(name)
    holder = read_holder(folder)
    return run_records(segments.read(folder), holder.run if holder is not None and holder.alive else "")


def _value(name: str, record: RunRecord) -> dict[str, object]:
    return {"id": record.run, "milestone": name, **asdict(record), "how": str(record.how)}


def _row(name: str, record: RunRecord) -> list[str]:
    git = f"{record.git.get('branch') or 'detached'}@{str(record.git.get('commit', ''))[:10]}"
    changed = record.git.get("changed")
    took = ago(moment(record.ended) - moment(record.started)) if record.ended else ""
    code = "" if record.code is None else f"exit {record.code}"
    return [
        local_time(record.started),
        name,
        str(record.how) + (f" ({record.why.splitlines()[0]})" if record.why and record.how in _EXPLAINED else ""),
        code,
        took,
        f"{record.user}@{record.host}" + (f", agents on {', '.join(record.hosts)}" if record.hosts else ""),
        git + (f" +{changed} changed" if changed else ""),
        f"{len(record.landed)} landed",
        _left(name, record),
    ]


def _left(name: str, record: RunRecord) -> str:
    """Return its issues in progress, and the next ones."""
    flying = ", ".join(str(IssueRef(name, issue)) for issue in record.in_flight)
    following = ", ".join(record.following[:3]) + (" ..." if len(record.following) > 3 else "")  # noqa: PLR2004
    parts = [f"working on {flying}" if flying else "", f"next {following}" if following else ""]
    return "; ".join(part for part in parts if part)


def _last_run_text(name: str, record: RunRecord) -> str:
    return f"the last one did not finish; doit milestone:{name} resumes it\n" if record.cut_off else ""
