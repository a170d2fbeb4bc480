"""`doit import PLAN.md`: other plan formats become declarations; importing again takes over only what changed."""

from __future__ import annotations

import sys
from typing import Any

from executor.commands.base import Command, safe
from executor.errors import DeclarationError, UsageError
from executor.importers.formats import FORMATS
from executor.importers.plan_files import Planned
from executor.project import open_project

__all__ = ["Import"]


def _option(name: str, kind: type, text: str) -> dict[str, Any]:
    return {"name": name, "short": "", "long": name.replace("_", "-"), "type": kind, "default": kind(), "help": text}


class Import(Command):
    """Writes milestones/<id>.toml and a spec for each issue."""

    name = "import"
    doc_purpose = "write milestones from plans of other formats; again: take over only what changed"
    doc_usage = "FILE ..."
    cmd_options = (
        _option("format", str, f"format of the files ({', '.join(FORMATS)}; default: found out)"),
        _option("id", str, "id of the milestone (default: as the plan says)"),
        _option("agent", str, "agent of its issues, written to [defaults]"),
        _option("dry_run", bool, "show what would change and write nothing"),
        _option("overwrite", bool, "where you and the plan changed the same, take the plan's word"),
    )

    def run(self, options: dict[str, Any], arguments: list[str]) -> int:
        """Read everything first; write only if nothing is wrong."""
        if not arguments:
            raise UsageError("name at least one file, for example `doit import docs/M4_workers.md`")
        if options["id"] and len(arguments) > 1:
            raise UsageError("--id names one milestone; import one file at a time")
        project = open_project()
        imports = [
            Planned(
                project,
                name,
                form=options["format"],
                wanted=options["id"],
                agent=options["agent"],
                overwrite=options["overwrite"],
            )
            for name in arguments
        ]
        faults = [fault for item in imports for fault in item.faults()]
        ids = [item.id for item in imports]
        if len(set(ids)) < len(ids):
            raise UsageError(f"several of these files are milestone {max(ids, key=ids.count)}; import them with --id")
        if faults:
            raise DeclarationError(faults)
        for item in imports:
            lines = item.told() if options["dry_run"] else item.write()
            sys.stdout.write("".join(f"{safe(line)}\n" for line in lines))
        return 0
