"""Commands that write the files of a user's repository.

`init`: set a repository up. Adds missing files, changes none of the user's; a repeated run adds new commands.

`doit schema`: write JSON Schemas for completion and validation of milestones and rules in editors.

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
from configparser import ConfigParser
from configparser import Error as ConfigError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from executor.commands import COMMANDS
from executor.commands.base import JSON_OPTION, Command, Options, none_but_options, option, print_json, safe
from executor.config.load_rules import load_policy
from executor.config.plugins import packages_in_the_way
from executor.config.project import Project, compile_project, open_project
from executor.errors import DeclarationError, Fault, UsageError
from executor.process.files import files_in, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["FOLDER", "Init", "New", "Schema", "next_id", "write_schemas"]

_DODO = '''"""Hands the milestones of this repository to doit: `doit list`, `doit milestone:ID`."""

from executor.tasks import DOIT_CONFIG, task_milestones  # noqa: F401  (doit finds both by name)
'''
_EXAMPLE = '''# A milestone and its issues. `doit plan first` shows what a run would do, `doit milestone:first` runs it.
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


_FEW = 5  # names that fit into one line; more are counted


class Init(Command):
    """Writes dodo.py, the commands in doit's configuration, a first milestone and the line for `.gitignore`."""

    name = "init"
    doc_purpose = "set up this repository for milestones; existing files are not changed"
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
            sys.stdout.write(f"already set up; `{program} list` shows what is pending\n")
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
        return ["dodo.py already exists; add to it: from executor.tasks import DOIT_CONFIG, task_milestones"]
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
    from executor.config.schema import schema_line

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
    """Return pytest, with a single test.py, which it does not collect otherwise, or Django's runner."""
    if (root / "manage.py").is_file():
        return "python manage.py test"
    found = any([*root.glob("test_*.py"), *root.glob("*_test.py")]) or any(
        (root / name).is_dir() for name in ("tests", "test", "testing")
    )
    alone = [name for name in ("test.py", "tests.py") if (root / name).is_file()]
    return f"pytest -q {alone[0]}" if alone and not found else "pytest -q"


def _schemas(root: Path) -> list[str]:
    written = write_schemas(root)
    return [f"wrote {FOLDER}/, which lets editors complete and check milestones and rules"] if written else []


def _ignored(root: Path) -> list[str]:
    path = root / ".gitignore"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if {".cache/", ".cache", "/.cache/", "/.cache"} & {line.strip() for line in text.splitlines()}:
        return []
    with path.open("a", encoding="utf-8") as file:
        file.write(("" if not text or text.endswith("\n") else "\n") + ".cache/\n")
    return ["added .cache/ to .gitignore"]


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
            from executor.config.schema import schemas

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
    from executor.config.schema import SUFFIX, schemas

    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    changed = []
    for kind, schema in schemas().items():
        path, data = folder / f"{kind}{SUFFIX}", (json.dumps(schema, indent=2) + "\n").encode()
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data, durable=False, mode=0o644)
            changed.append(path.name)
    return changed


class New(Command):
    """Writes milestones/ID/ISSUE.md and adds the issue to milestones/ID.toml."""

    name = "new"
    doc_purpose = 'add an issue with its spec to a milestone, for example doit new m4 "Read settings from a file"'
    doc_usage = 'MILESTONE "TITLE"'
    cmd_options = (
        option("id", "id of the issue (default: the next one)"),
        option("needs", "issues that have to land first, separated by commas"),
        option("type", "type of the issue; rules/routes.toml maps it to agent and checks"),
        option("agent", "agent profile or profiles"),
        option("accept", "a command that proves it; may be repeated", list),
        option("body", "text of the spec (default: the title)"),
        option("edit", "open the spec in $VISUAL or $EDITOR", bool),
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
    from executor.config.schema import schema_line

    return schema_line(f"../{FOLDER}", "milestone") if (project.root / FOLDER).is_dir() else ""


def _faults(project: Project) -> list[Any]:
    try:
        return list(compile_project(project).faults)
    except DeclarationError as error:
        return list(error.faults)


def _editor() -> str:
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
