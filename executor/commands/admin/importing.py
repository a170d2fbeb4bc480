"""`doit import PLAN.md`: other plan formats become declarations; importing again takes over only what changed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from executor.commands.base import Command, safe
from executor.config.project import open_project, prepare_cache
from executor.errors import DeclarationError, UsageError
from executor.importers.draft import Source
from executor.importers.formats import FORMATS
from executor.importers.plan_files import Planned, source_of

if TYPE_CHECKING:
    from executor.config.project import Project
    from executor.forge.base import Forge

__all__ = ["Import"]


def _option(name: str, kind: type, text: str) -> dict[str, Any]:
    return {"name": name, "short": "", "long": name.replace("_", "-"), "type": kind, "default": kind(), "help": text}


class Import(Command):
    """Writes milestones/<id>.toml and a spec for each issue."""

    name = "import"
    doc_purpose = "write milestones from plans of other formats; again: take over only what changed"
    doc_usage = "FILE ... | --milestone TITLE"
    cmd_options = (
        _option("format", str, f"format of the files ({', '.join(FORMATS)}; default: found out)"),
        _option("id", str, "id of the milestone (default: as the plan says)"),
        _option("agent", str, "agent of its issues, written to [defaults]"),
        _option("milestone", str, "read the issues of this milestone from the forge instead of files"),
        _option("dry_run", bool, "show what would change and write nothing"),
        _option("overwrite", bool, "where you and the plan changed the same, take the plan's word"),
    )

    def run(self, options: dict[str, Any], arguments: list[str]) -> int:
        """Read everything first; write only if nothing is wrong."""
        title = options["milestone"]
        if title and (arguments or options["format"] not in {"", "github"}):
            raise UsageError("--milestone reads from the forge; name no files and no other format with it")
        if not title and not arguments:
            raise UsageError("name at least one file, for example `doit import docs/M4_workers.md`")
        if options["id"] and len(arguments) > 1:
            raise UsageError("--id names one milestone; import one file at a time")
        project = open_project()
        sources = [_from_forge(project, title)] if title else [source_of(project, name) for name in arguments]
        imports = [
            Planned(
                project,
                source,
                form="github" if title else options["format"],
                wanted=options["id"],
                agent=options["agent"],
                overwrite=options["overwrite"],
            )
            for source in sources
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


def _from_forge(project: Project, title: str) -> Source:
    """The issues of a milestone of the forge, in the form of its own list.

    Raises:
        UsageError: no forge with issues is declared, or the milestone has none.
        ForgeRefusedError: the forge has no such milestone.
    """
    found = [
        {
            "number": item.number,
            "title": item.title,
            "body": item.body,
            "state": item.state,
            "labels": item.labels,
            "blocked_by": item.needs,
            "milestone": {"title": title},
        }
        for item in _forge(project).issues(title)
    ]
    if not found:
        raise UsageError(f'milestone "{title}" of the forge has no issues')
    return Source(f"forge milestone {title}", json.dumps(found), _nothing, _nothing)


def _forge(project: Project) -> Forge:
    """The declared forge, without reading milestones/, which may be what needs repair."""
    from executor.config.load_rules import load_policy
    from executor.forge.credentials import find_token
    from executor.forge.plugins import Target, connected
    from executor.git.remote import Remote

    rules = load_policy(project.rules).forge
    if rules.kind == "local":
        raise UsageError("--milestone reads from a forge; declare its kind in rules/forge.toml")
    prepare_cache(project)
    token = find_token(rules)
    address = Remote(project.repository, rules.pushes_to, token).url if rules.pushes_to is not None else ""
    return connected(Target(rules, address, token, project.cache / "_forge"))


def _nothing(_path: str) -> None:
    """A forge has no files beside its issues."""
