"""Packages import downwards only, decisions are pure, and every third-party package has one owner."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

PACKAGE = Path(__file__).resolve().parents[1] / "executor"
OWNERS = {
    "detect_secrets": {"stop_rules.content"},
    "apprise": {"notify.queue"},
    "pydantic": {
        "commands.admin.mcp",
        "config.load_milestones",
        "forge.hosts.forgejo",
        "forge.hosts.github",
        "forge.hosts.gitlab",
        "forge.hosts.rest",
        "model.agent_profile",
        "model.milestone",
        "model.outward_rules",
        "model.policy",
        "model.rules",
        "config.schema",
        "model.workflow",
        "report.collect",
    },
    "jinja2": {"report.html"},
    "jsonschema": {"config.schema"},
    "referencing": {"config.schema"},
    "distributed": {"cluster.dask_tasks"},
    "github": {"forge.hosts.github"},
    "gitlab": {"forge.hosts.gitlab"},
    "requests": {"forge.hosts.credentials", "forge.hosts.forgejo", "forge.hosts.gitlab"},
    "tomlkit": {"config.edit_toml"},
    "markdown_it": {"importers.reading.markdown"},
    "yaml": {"importers.reading.places"},
    "git": {"git.history"},
    "dotenv": {"commands.admin.cron"},
    "crontab": {"commands.admin.cron"},
    "filelock": {"process.locks"},
    "mcp": {"commands.admin.mcp"},
    "opentelemetry": {"report.exports"},
    "rich": {"commands.live"},
    "doit": {"tasks.compile", "commands", "__main__"},
}
HEAVY = {"pydantic", "git", "github", "tomlkit", "filelock", "crontab", "apprise", "asyncio", "hypothesis", "rich"}
IMPURE = {"os", "io", "subprocess", "socket", "time", "random", "secrets", "threading", "shutil", "tempfile", "signal"}
PURE = (
    "engine.landing.queue",
    *(f"state.{name}" for name in ("events", "fold", "steps", "model", "decide", "budget", "marks")),
    *("stop_rules.evaluate", "stop_rules.test_evidence.weakened_tests", "stop_rules.sensitive", "stop_rules.new_tests"),
    *("git.diff", "git.trailers", "process.redact", "checks.spec", "checks.junit", "agents.errors"),
    *("forge.pull_request", "model.", "config.schema"),
    *("status.milestone_status", "status.progress", "status.estimate", "status.collisions"),
)
"""Beginnings of the names of modules that look at values only."""
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module imported anywhere in a file, `executor.` and `from x import y` spelled out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@cache
def names(path: Path) -> Counter[str]:
    """Count the top-level definitions of each name in a module; a second definition replaces the first."""
    found: Counter[str] = Counter()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] += 1
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(it.id for target in targets for it in ast.walk(target) if isinstance(it, ast.Name))
    return found


def test_no_module_defines_a_name_twice() -> None:
    twice = [f"{module}.{name}" for module, path in MODULES.items() for name, times in names(path).items() if times > 1]
    assert twice == []


def test_every_private_name_of_a_module_is_used() -> None:
    unused = []
    for module, path in MODULES.items():
        words = Counter(re.findall(r"\w+", path.read_text(encoding="utf-8")))
        unused += [f"{module}.{name}" for name in names(path) if re.match(r"_[^_]", name) and words[name] == 1]
    assert unused == []


def test_packages_import_downwards_only() -> None:
    """The contracts in pyproject.toml, imports for type checking included."""
    assert lint_imports(config_filename=str(PACKAGE.parent / "pyproject.toml"), cache_dir=None) == 0


def test_every_pure_module_exists() -> None:
    assert [start for start in PURE if not any(name.startswith(start) for name in MODULES)] == []


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(PURE)])
def test_decisions_have_no_clock_no_chance_and_no_input_or_output(module: str) -> None:
    roots = {name.partition(".")[0] for name in imports(MODULES[module])}
    assert not roots & IMPURE
    assert roots - set(sys.stdlib_module_names) <= {"executor", "jsonschema", "pydantic", "referencing"}


@pytest.mark.parametrize("package", OWNERS)
def test_a_third_party_package_has_one_owner(package: str) -> None:
    users = {
        module for module, path in MODULES.items() if package in {name.partition(".")[0] for name in imports(path)}
    }
    owners = OWNERS[package]
    assert {user if user in owners else user.partition(".")[0] for user in users} == owners


def test_there_are_no_other_third_party_packages() -> None:
    roots = {name.partition(".")[0] for path in MODULES.values() for name in imports(path)}
    assert roots - set(sys.stdlib_module_names) - {"executor"} == set(OWNERS)


def test_a_list_and_a_run_with_nothing_to_do_load_no_heavy_package() -> None:
    """What `doit list` imports at module level, followed through the package."""
    waiting, seen = ["commands.list", "commands.run", "tasks.compile"], set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen or module not in MODULES:
            continue
        seen.add(module)
        tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import):
                assert not {alias.name.partition(".")[0] for alias in node.names} & HEAVY, module
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                assert node.module.partition(".")[0] not in HEAVY, module
                inner = node.module.removeprefix("executor.")
                waiting += [inner, *(f"{inner}.{alias.name}" for alias in node.names)]
