"""`doit schema`: write JSON Schemas for completion and validation of milestones and rules in editors.

`doit new m4 "title"`: add an issue with its spec to a milestone, or create a milestone with it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from executor.commands.base import JSON_OPTION, Command, Options, none_but_options, print_json, safe
from executor.config.project import Project, compile_project, open_project
from executor.errors import DeclarationError, UsageError
from executor.process.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["FOLDER", "New", "Schema", "next_id", "write_schemas"]


FOLDER = ".schemas"
"""Folder of the schemas, beside milestones/ and rules/; to be committed, so that everybody's editor has them."""


class Schema(Command):
    """Writes a schema for milestones and one for every rules file."""

    name = "schema"
    doc_purpose = "write JSON Schemas of milestones and rules to .schemas/, for editors"
    doc_usage = ""
    cmd_options = (JSON_OPTION,)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Write the schemas, or print them as one JSON object."""
        none_but_options(self, arguments)
        if options["json"]:
            from executor.model.schema import schemas

            print_json(schemas())
            return 0
        written = write_schemas(open_project().root)
        text = f"wrote {', '.join(written)} to {FOLDER}/" if written else f"{FOLDER}/ is up to date"
        sys.stdout.write(
            f"{text}\na TOML file names its schema in its first line: #:schema ../{FOLDER}/milestone.schema.json\n"
        )
        return 0


def write_schemas(root: Path) -> list[str]:
    """Write the schemas below a folder; returns the names of the files that changed."""
    from executor.model.schema import SUFFIX, schemas

    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    changed = []
    for kind, schema in schemas().items():
        path, data = folder / f"{kind}{SUFFIX}", (json.dumps(schema, indent=2) + "\n").encode()
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data, durable=False, mode=0o644)
            changed.append(path.name)
    return changed


def _option(name: str, kind: type, text: str) -> dict[str, object]:
    return {"name": name, "short": "", "long": name, "type": kind, "default": kind(), "help": text}


class New(Command):
    """Writes milestones/ID/ISSUE.md and adds the issue to milestones/ID.toml."""

    name = "new"
    doc_purpose = 'add an issue with its spec to a milestone, for example doit new m4 "Read settings from a file"'
    doc_usage = 'MILESTONE "TITLE"'
    cmd_options = (
        _option("id", str, "id of the issue (default: the next one)"),
        _option("needs", str, "issues that have to land first, with commas between"),
        _option("type", str, "type of the issue, which rules/routes.toml routes"),
        _option("agent", str, "who works on it"),
        _option("accept", list, "a command that proves it; can be given several times"),
        _option("body", str, "text of the spec (default: the title)"),
        _option("edit", bool, "open the spec in $VISUAL or $EDITOR"),
    )

    def run(self, options: Options, arguments: list[str]) -> int:
        """Write both files, or neither if the milestone would be faulty."""
        if len(arguments) != 2 or not arguments[1].strip():  # noqa: PLR2004  (a milestone and a title)
            raise UsageError('name a milestone and a title, for example `doit new m4 "Read settings from a file"`')
        if options["edit"] and not _editor():
            raise UsageError("--edit: neither $VISUAL nor $EDITOR is set; give the text with --body, or edit the file")
        name, title = arguments[0].removeprefix("milestone:"), arguments[1].strip()
        project = open_project()
        plan = project.milestones / f"{name}.toml"
        issue = options["id"] or next_id(_ids(plan))
        spec = project.milestones / name / f"{issue}.md"
        if spec.exists():
            raise UsageError(f"{spec.relative_to(project.root)} exists; name another id with --id")
        keys = _keys(f"{name}/{issue}.md", title, options)
        try:
            _write(project, plan, spec, issue, keys, options["body"] or title)
        except DeclarationError as error:
            agent = _installed_agent(project) if _lacks_agent(error) else ""
            if not agent:
                if _lacks_agent(error):
                    sys.stderr.write(
                        "name one with --agent, for example `--agent claude`; no agent program is on PATH\n"
                    )
                raise
            _write(project, plan, spec, issue, {**keys, "agent": agent}, options["body"] or title)
        sys.stdout.write(f"added {name}/{issue}: {safe(title)}\n")
        sys.stdout.write(
            f"its spec is {spec.relative_to(project.root)}; `doit plan {name}` shows what a run would do\n"
        )
        if options["edit"]:
            return subprocess.run([*shlex.split(_editor()), str(spec)], check=False).returncode
        return 0


def next_id(known: Sequence[str]) -> str:
    """Return the id after the last one: ``4.3`` after ``4.2``, ``fix-2`` after ``fix``; ``1`` in an empty milestone."""
    if not known:
        return "1"
    last = re.fullmatch(r"(.*?)(\d+)", known[-1])
    stem, number = (last[1], int(last[2])) if last else (f"{known[-1]}-", 1)
    while f"{stem}{number + 1}" in known:
        number += 1
    return f"{stem}{number + 1}"


def _ids(plan: Path) -> list[str]:
    """Return the ids of the issues in a file, in order; its faults are reported later."""
    from executor.config.load_milestones import TomlError, read_toml

    try:
        issues = read_toml(plan).get("issue") if plan.exists() else None
    except TomlError as error:
        raise UsageError(f"milestones/{plan.name}: {error}") from error
    tables = issues if isinstance(issues, list) else []
    return [str(item["id"]) for item in tables if isinstance(item, dict) and "id" in item]


def _keys(spec: str, title: str, options: Options) -> dict[str, object]:
    needs = [word.strip() for word in options["needs"].split(",") if word.strip()]
    keys = {
        "title": title,
        "type": options["type"],
        "needs": needs,
        "spec": spec,
        "accept": [{"run": command} for command in options["accept"]],
        "agent": options["agent"],
    }
    return {key: value for key, value in keys.items() if value}


def _write(project: Project, plan: Path, spec: Path, issue: str, keys: dict[str, object], text: str) -> None:
    """Write spec and declaration; undo both if that causes a fault.

    Raises:
        DeclarationError: the milestone would have new faults.
    """
    from executor.config.edit_toml import edited_plan

    before = plan.read_bytes() if plan.exists() else None
    faults = _faults(project)
    issues = {issue: keys}
    header = {} if before is not None else {"id": plan.stem, "title": plan.stem}
    first = "" if before is not None else _first_line(project)
    new = first + edited_plan((before or b"").decode(), header, {}, [], issues)
    spec.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(spec, f"{text.rstrip()}\n".encode(), durable=False, mode=0o644)
    write_atomic(plan, new.encode(), durable=False, mode=0o644)
    added = [fault for fault in _faults(project) if fault not in faults]
    if added:
        spec.unlink()
        with suppress(OSError):  # others are in it
            spec.parent.rmdir()
        if before is None:
            plan.unlink()
        else:
            write_atomic(plan, before, durable=False, mode=0o644)
        raise DeclarationError(added)


def _lacks_agent(error: DeclarationError) -> bool:
    """Return whether the only fault is that neither the issue nor a route names an agent."""
    return all(fault.key.endswith(".agent") and "no agent is declared" in fault.problem for fault in error.faults)


def _installed_agent(project: Project) -> str:
    """Return the first profile whose installed program works unattended; empty if there is none."""
    from executor.config.load_rules import load_policy

    agents = load_policy(project.rules).agents.values()
    usable = (agent for agent in agents if agent.command and agent.login and shutil.which(agent.command[0]))
    return next((agent.name for agent in usable), "")


def _first_line(project: Project) -> str:
    from executor.model.schema import schema_line

    return schema_line(f"../{FOLDER}", "milestone") if (project.root / FOLDER).is_dir() else ""


def _faults(project: Project) -> list[Any]:
    try:
        return list(compile_project(project).faults)
    except DeclarationError as error:
        return list(error.faults)


def _editor() -> str:
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
