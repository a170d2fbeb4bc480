"""`doit sessions`: the runs of milestones: when, who, on what, how they ended, where they stopped."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from executor.commands.base import JSON_OPTION, Command, Options, Output, print_json, table
from executor.commands.plain import ago
from executor.config.project import open_project, unknown_milestone
from executor.errors import UsageError
from executor.process.locks import read_holder
from executor.state import segments
from executor.state.runs import How, RunRecord, run_records
from executor.status.estimate import moment

if TYPE_CHECKING:
    from executor.config.project import Project

__all__ = ["Sessions", "sessions_of"]

_ALL = {
    "name": "all",
    "short": "a",
    "long": "all",
    "type": bool,
    "default": False,
    "help": "every run, not only the latest 20",
}
_SHOWN = 20


_EXPLAINED = {How.INTERRUPTED, How.HALTED, How.ERROR}


class Sessions(Command):
    """Shows the runs in the journals, latest last."""

    name = "sessions"
    output = Output.VIEW
    doc_purpose = "show runs: when, who, how they ended, where they stopped"
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
            sys.stdout.write(_told_last(*found[-1]))
        return 0


def sessions_of(project: Project, name: str) -> list[RunRecord]:
    """The runs of a milestone, oldest first.

    Raises:
        StateBrokenError: its journal is corrupt.
    """
    folder = project.state(name)
    holder = read_holder(folder)
    return run_records(segments.read(folder), holder.run if holder is not None and holder.alive else "")


def _value(name: str, record: RunRecord) -> dict[str, object]:
    return {"id": record.run, "milestone": name, **asdict(record), "how": str(record.how)}


def _row(name: str, record: RunRecord) -> list[str]:
    started = f"{record.started[:16].replace('T', ' ')}Z"
    git = f"{record.git.get('branch') or 'detached'}@{str(record.git.get('commit', ''))[:10]}"
    changed = record.git.get("changed")
    took = ago(moment(record.ended) - moment(record.started)) if record.ended else ""
    code = "" if record.code is None else f"exit {record.code}"
    return [
        started,
        name,
        str(record.how) + (f" ({record.why.splitlines()[0]})" if record.why and record.how in _EXPLAINED else ""),
        code,
        took,
        f"{record.user}@{record.host}",
        git + (f" +{changed} changed" if changed else ""),
        f"{len(record.landed)} landed",
        _left(name, record),
    ]


def _left(name: str, record: RunRecord) -> str:
    """Its issues in progress, and the next ones."""
    flying = ", ".join(f"{name}/{issue}" for issue in record.in_flight)
    following = ", ".join(record.following[:3]) + (" ..." if len(record.following) > 3 else "")  # noqa: PLR2004
    parts = [f"at work on {flying}" if flying else "", f"next {following}" if following else ""]
    return "; ".join(part for part in parts if part)


def _told_last(name: str, record: RunRecord) -> str:
    return f"the last one did not come to its end; doit milestone:{name} resumes it\n" if record.cut_off else ""
