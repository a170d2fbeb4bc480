"""`doit repair m4`: show the damage of a refused journal, and with `--to` keep the records up to a number."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from executor.commands.base import Command, Options, safe, table
from executor.commands.meant import meant_milestone
from executor.config.project import compile_project, open_project
from executor.errors import UsageError
from executor.state.journal_repair import cut
from executor.state.segments import inspect

if TYPE_CHECKING:
    from executor.config.project import Project
    from executor.state.segments import Trouble

__all__ = ["Repair"]

_TO = {
    "name": "to",
    "short": "",
    "long": "to",
    "type": str,
    "default": "",
    "help": "number of the last record to keep; everything after it is put into a file beside the journal",
}


class Repair(Command):
    """Shows why a journal is refused, or keeps the good part of it; nothing is ever deleted."""

    name = "repair"
    doc_purpose = "show what is wrong with a corrupt journal, or keep its good part"
    doc_usage = "MILESTONE"
    cmd_options = (_TO,)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Show or repair."""
        project = open_project()
        name = meant_milestone(compile_project(project), arguments, "repair")
        if options["to"]:
            if not (options["to"].isascii() and options["to"].isdigit()):
                raise UsageError(f"--to {options['to']}: expected the number of a record")
            text = _repaired(project, name, int(options["to"]))
        else:
            text = _shown(name, inspect(project.state(name)))
        sys.stdout.write("".join(f"{safe(line)}\n" for line in text))
        return 0


def _shown(name: str, trouble: Trouble | None) -> list[str]:
    if trouble is None:
        return [f"the journal of {name} is whole; there is nothing to repair"]
    rows = [
        ["file", str(trouble.path)],
        ["problem", trouble.why],
        ["first bad record", f"{trouble.record}, at byte {trouble.offset}"],
        ["good records before it", str(trouble.good)],
    ]
    if trouble.newer:
        return [*table([*rows[:1], ["problem", "a newer version of the executor wrote it; use that one"]]).splitlines()]
    rows += [["would be moved aside", f"{size} bytes of {file}"] for file, size in trouble.cut]
    lines = [
        *table(rows).splitlines(),
        "",
        f"doit repair {name} --to {trouble.good}  keeps records 1 to {trouble.good}",
    ]
    if not trouble.good:
        lines[-1] = f"doit repair {name} --to 0  starts an empty journal"
    return [*lines, "What has landed is in git and stays; only figures of time and cost are lost."]


def _repaired(project: Project, name: str, to: int) -> list[str]:
    from executor.engine.milestone_run import hold
    from executor.engine.ports import now

    lock = hold(project, name, "repair")
    try:
        made = cut(project.state(name), to, at=now().replace(":", "").replace("-", ""))
    finally:
        (project.state(name) / "holder.json").unlink(missing_ok=True)
        lock.release()
    kept = f"records 1 to {to} are kept" if to else "it starts empty"
    return [
        f"the journal of {name} is repaired: {kept}",
        *(f"moved aside: {project.state(name) / file}" for file in made),
        f"go on with: doit milestone:{name}",
    ]
