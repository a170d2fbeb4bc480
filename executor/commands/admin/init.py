"""`init`: set a repository up. Adds missing files, changes none of the user's; a repeated run adds new commands."""

from __future__ import annotations

import json
import re
import shutil
import sys
from configparser import ConfigParser
from configparser import Error as ConfigError
from typing import TYPE_CHECKING

from executor.commands import COMMANDS
from executor.commands.admin.new import FOLDER, write_schemas
from executor.commands.base import Command, Options, none_but_options, safe
from executor.config.load_rules import load_policy
from executor.config.plugins import packages_in_the_way
from executor.config.project import Project, open_project
from executor.config.texts import files_in
from executor.errors import DeclarationError, Fault

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
{base}
[[issue]]
id = "1"
title = "Say hello"
type = "docs"
body = """
Write a greeting to hello.txt.
"""
accept = [{ file = "hello.txt", contains = "hello" }]
agent = "script"                          # a shell command in the tree; any profile of rules/agents.toml can stand here
with = { run = "echo hello > hello.txt" }

# The next issue, for an agent: remove the marks and say what you want.
# [[issue]]
# id = "2"
# title = "..."
# body = """
# ...
# """
# agent = "{agent}"
# accept = [{ run = "{test}" }]
'''


_FEW = 5


class Init(Command):
    """Writes dodo.py, the commands in doit's configuration, a first milestone and the line for `.gitignore`."""

    name = "init"
    doc_purpose = "set up this repository for milestones; existing files stay unchanged"
    doc_usage = ""

    def run(self, _options: Options, arguments: list[str]) -> int:
        """Write missing files and settings."""
        none_but_options(self, arguments)
        project = open_project()
        for other in packages_in_the_way(project.root):
            sys.stderr.write(
                f"warning: {safe(other)} hides the package executor; rename it or use another environment\n"
            )
        root = project.root
        done = [*_configuration(root), *_dodo(project), *_milestone(project), *_ignored(root), *_schemas(root)]
        program = "doit" if shutil.which("doit") else "make-for-milestones"
        if not done:
            sys.stdout.write(f"everything is set up already; `{program} list` shows what is pending\n")
            return 0
        sys.stdout.write("".join(f"{line}\n" for line in done))
        first = next(iter(sorted(path.stem for path in project.milestones.glob("*.toml"))), "ID")
        sys.stdout.write(f"next: commit these, then `{program} plan {first}` and `{program} milestone:{first}`\n")
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
    """Write the commands to the configuration of doit 0.37: pyproject.toml, or doit.cfg without one.

    doit reads no doit.toml, although its name suggests so; of the two files doit.cfg takes precedence.
    """
    pyproject, ini = root / "pyproject.toml", root / "doit.cfg"
    missing = {name: place for name, place in COMMANDS.items() if name not in _names_in(ini)}
    if pyproject.exists():
        from executor.config.edit_toml import set_defaults

        added = set_defaults(pyproject, {f"tool.doit.plugins.command.{name}": place for name, place in missing.items()})
        names = [name.rpartition(".")[2] for name in added]
    else:
        names = list(missing)
        _add_to_ini(ini, missing)
    place = "[tool.doit.plugins.command] of pyproject.toml" if pyproject.exists() else "[COMMAND] of doit.cfg"
    text = ", ".join(names) if len(names) <= _FEW else f"{len(names)} commands"
    return [f"added {text} to {place}"] if names else []


def _names_in(ini: Path) -> set[str]:
    parser = ConfigParser(allow_no_value=True, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    try:
        parser.read(ini)
    except (ConfigError, UnicodeDecodeError) as error:
        raise DeclarationError([Fault(ini.name, "", f"doit cannot read it ({error}); correct it first")]) from error
    return set(parser.options("COMMAND")) if parser.has_section("COMMAND") else set()


def _add_to_ini(path: Path, commands: dict[str, str]) -> None:
    if not commands:
        return
    text = path.read_bytes().decode() if path.exists() else ""
    lines = "".join(f"{name} = {place}\n" for name, place in commands.items())
    header = re.search(r"^\[COMMAND\][^\n]*(\n|\Z)", text, re.MULTILINE)
    if header is None:
        text += ("" if not text or text.endswith("\n") else "\n") + f"[COMMAND]\n{lines}"
    else:
        before = text[: header.end()]
        text = before + ("" if before.endswith("\n") else "\n") + lines + text[header.end() :]
    path.write_bytes(text.encode())


def _milestone(project: Project) -> list[str]:
    if project.milestones.is_dir() and files_in(project.milestones, ".toml"):
        return []
    project.milestones.mkdir(exist_ok=True)
    from executor.model.schema import schema_line

    values = {"{base}": _base(project), "{agent}": _agent(project), "{test}": _test_command(project.root)}
    text = schema_line(f"../{FOLDER}", "milestone") + _EXAMPLE
    for mark, value in values.items():
        text = text.replace(mark, value)
    (project.milestones / "first.toml").write_text(text, encoding="utf-8")
    return ["wrote milestones/first.toml, an example of one issue"]


def _base(project: Project) -> str:
    """Return the line that names the checked-out branch as base if no branch has a usual name."""
    from executor.git.refs import Refs

    head = (project.repository.git_dir / "HEAD").read_text(encoding="utf-8").strip()
    name = head.removeprefix("ref: refs/heads/")
    usual = {"main", "master"} & {*Refs(project.repository).branches(), name}
    return "" if usual or name == head else f"base = {json.dumps(name)}\n"


def _agent(project: Project) -> str:
    """Return the first profile whose agent program is installed, else the first one."""
    try:
        agents = [agent for agent in load_policy(project.rules).agents.values() if agent.command and agent.login]
    except DeclarationError:
        return "claude"
    return next((agent.name for agent in agents if shutil.which(agent.command[0])), agents[0].name)


_TESTS = {
    "Cargo.toml": "cargo test",
    "go.mod": "go test ./...",
    "package.json": "npm test",
    "deno.json": "deno test",
    "pyproject.toml": "pytest -q",
    "setup.py": "pytest -q",
    "tox.ini": "pytest -q",
    "pom.xml": "mvn -q test",
    "build.gradle": "gradle test",
    "build.gradle.kts": "gradle test",
    "composer.json": "composer test",
    "mix.exs": "mix test",
    "Gemfile": "bundle exec rake test",
    "Makefile": "make test",
}
"""A file in the top folder -> the command that usually runs the tests of such a project."""
_WRAPPERS = {"mvn": "mvnw", "gradle": "gradlew"}
_RUNNERS = {
    "pnpm-lock.yaml": "pnpm test",
    "yarn.lock": "yarn test",
    "bun.lock": "bun run test",
    "bun.lockb": "bun run test",
}
"""A lock file -> the command of its package manager."""


def _test_command(root: Path) -> str:
    """Guess the command that runs the tests, from the files in the top folder."""
    command = next((command for name, command in _TESTS.items() if (root / name).is_file()), "make test")
    program, _, rest = command.partition(" ")
    if program == "npm":
        return next((other for name, other in _RUNNERS.items() if (root / name).is_file()), command)
    if program == "pytest":
        return _python_tests(root)
    wrapper = _WRAPPERS.get(program, "")
    return f"./{wrapper} {rest}" if wrapper and (root / wrapper).is_file() else command


def _python_tests(root: Path) -> str:
    """Return pytest, with a single test.py, which it does not find by itself, or Django's runner."""
    if (root / "manage.py").is_file():
        return "python manage.py test"
    found = any([*root.glob("test_*.py"), *root.glob("*_test.py")]) or any(
        (root / name).is_dir() for name in ("tests", "test", "testing")
    )
    alone = [name for name in ("test.py", "tests.py") if (root / name).is_file()]
    return f"pytest -q {alone[0]}" if alone and not found else "pytest -q"


def _schemas(root: Path) -> list[str]:
    written = write_schemas(root)
    return [f"wrote {FOLDER}/, with which editors complete and check milestones and rules"] if written else []


def _ignored(root: Path) -> list[str]:
    path = root / ".gitignore"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if {".cache/", ".cache", "/.cache/", "/.cache"} & {line.strip() for line in text.splitlines()}:
        return []
    with path.open("a", encoding="utf-8") as file:
        file.write(("" if not text or text.endswith("\n") else "\n") + ".cache/\n")
    return ["added .cache/ to .gitignore"]
