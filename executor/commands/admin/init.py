"""`doit init`: set a repository up. Adds what is missing, changes nothing that is there."""

from __future__ import annotations

import sys
from configparser import ConfigParser
from typing import TYPE_CHECKING, Any

from executor.commands.base import Command, none_but_options
from executor.config.project import Project, open_project

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Init"]

_DODO = '''"""Hands the milestones of this repository to doit: `doit list`, `doit milestone:ID`."""

from executor.tasks import DOIT_CONFIG, task_milestones  # noqa: F401  (doit finds both by name)
'''
_EXAMPLE = '''# A milestone and its issues. `doit plan first` shows what a run would do, `doit milestone:first` does it.
[milestone]
id = "first"
title = "First milestone"

[[issue]]
id = "1"
title = "Say hello"
type = "docs"
body = """
Write a greeting to hello.txt.
"""
accept = [{ run = "grep -q hello hello.txt" }]
agent = "script"                          # a shell command in the tree; any profile of rules/agents.toml can stand here
with = { run = "echo hello > hello.txt" }
'''
_PLUGINS = {"run": "executor.commands.run:Run", "list": "executor.commands.list:List"}


class Init(Command):
    """Writes dodo.py, the doit configuration, a first milestone and the line for `.gitignore`."""

    name = "init"
    doc_purpose = "set this repository up for milestones; changes nothing that is there"
    doc_usage = ""

    def run(self, _options: dict[str, Any], arguments: list[str]) -> int:
        """Write what is missing."""
        none_but_options(self, arguments)
        project = open_project()
        done = [*_dodo(project), *_configuration(project.root), *_milestone(project), *_ignored(project.root)]
        if not done:
            sys.stdout.write("everything is there already; `doit list` shows what is pending\n")
            return 0
        sys.stdout.write("".join(f"{line}\n" for line in done))
        sys.stdout.write("next: commit these, then `doit plan first` and `doit milestone:first`\n")
        return 0


def _dodo(project: Project) -> list[str]:
    path = project.root / "dodo.py"
    if not path.exists():
        path.write_text(_DODO, encoding="utf-8")
        return ["wrote dodo.py"]
    if "executor.tasks" not in path.read_text(encoding="utf-8", errors="replace"):
        return ["dodo.py is yours; add to it: from executor.tasks import DOIT_CONFIG, task_milestones"]
    return []


def _configuration(root: Path) -> list[str]:
    """Doit takes `run` and `list` of the executor in this project only; in pyproject.toml where there is one."""
    pyproject = root / "pyproject.toml"
    if pyproject.exists():
        from executor.config.edit_toml import set_defaults

        values = {f"tool.doit.plugins.command.{name}": where for name, where in _PLUGINS.items()}
        added = set_defaults(pyproject, values)
        return [f"added {', '.join(added)} to pyproject.toml"] if added else []
    path = root / "doit.cfg"
    parser = ConfigParser(allow_no_value=True, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    parser.read(path)
    missing = {name: where for name, where in _PLUGINS.items() if not parser.has_option("COMMAND", name)}
    if not missing:
        return []
    lines = "".join(f"{name} = {where}\n" for name, where in missing.items())
    if parser.has_section("COMMAND"):
        return ["doit.cfg is yours; add to its section [COMMAND]: " + "; ".join(lines.splitlines())]
    with path.open("a", encoding="utf-8") as file:
        file.write(f"[COMMAND]\n{lines}")
    return ["wrote the commands run and list to doit.cfg"]


def _milestone(project: Project) -> list[str]:
    if project.milestones.is_dir() and any(project.milestones.glob("*.toml")):
        return []
    project.milestones.mkdir(exist_ok=True)
    (project.milestones / "first.toml").write_text(_EXAMPLE, encoding="utf-8")
    return ["wrote milestones/first.toml, an example of one issue"]


def _ignored(root: Path) -> list[str]:
    path = root / ".gitignore"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if {".cache/", ".cache", "/.cache/", "/.cache"} & {line.strip() for line in text.splitlines()}:
        return []
    with path.open("a", encoding="utf-8") as file:
        file.write(("" if not text or text.endswith("\n") else "\n") + ".cache/\n")
    return ["added .cache/ to .gitignore"]
