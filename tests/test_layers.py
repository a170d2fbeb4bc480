"""Imports go one way, the core is pure, and every third-party package has one owner."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "executor"
LAYERS = (
    ("errors",),
    ("core",),
    ("adapters",),
    ("project",),
    ("importers",),
    ("allowance", "ref_names", "spec_archive", "views"),
    ("gathering",),
    ("observe",),
    ("outside",),
    ("board", "picture", "reporting", "exclusive", "milestone_lock", "receipts", "redaction"),
    ("restart", "milestone_run", "session"),
    ("account", "phases", "tracking", "telling", "watching"),
    ("sync",),
    ("isolation",),
    ("calling", "readiness"),
    ("reviewers",),
    ("checking",),
    ("verify",),
    ("work", "parked", "handoffs", "briefing"),
    ("leavings",),
    ("attempt",),
    ("steps",),
    ("recovery",),
    ("stops",),
    ("review", "gates"),
    ("holds",),
    ("publish",),
    ("merging",),
    ("reconciling",),
    ("landing", "flow"),
    ("issue", "delivering", "release"),
    ("health",),
    ("consistency",),
    ("actions",),
    ("step_tasks",),
    ("tasks",),
    ("commands",),
)
"""Lowest first; a module imports from layers below its own, and within its layer."""
OWNERS = {
    "detect_secrets": {"adapters.secrets"},
    "apprise": {"adapters.notify"},
    "pydantic": {
        "core.check_rules",
        "core.declaration",
        "core.forge_rules",
        "core.limits",
        "core.milestone_file",
        "core.model_faults",
        "core.notice_rules",
        "core.policy",
        "core.profile",
        "core.report_model",
        "core.route_rules",
        "core.rule_tables",
        "core.setup_rules",
        "core.status_rules",
        "core.stop_rules",
        "core.workflow",
    },
    "jinja2": {"adapters.page"},
    "github": {"adapters.github_api"},
    "tomlkit": {"adapters.toml_edit"},
    "git": {"adapters.history"},
    "crontab": {"adapters.crontab"},
    "filelock": {"adapters.locks"},
    "rich": {"commands.drawing"},
    "doit": {"adapters.doit_db", "actions", "commands"},
}
IMPURE = {"os", "io", "subprocess", "socket", "time", "random", "secrets", "threading", "shutil", "tempfile", "signal"}
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
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


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_layer_and_below(module: str) -> None:
    rank = RANK[module.partition(".")[0]]
    for name in imports(MODULES[module]):
        if name.startswith("executor."):
            layer = name.split(".")[1]
            assert RANK[layer] <= rank, f"{module} imports {name}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("core.")])
def test_the_core_has_no_clock_no_chance_and_no_outside(module: str) -> None:
    roots = {name.partition(".")[0] for name in imports(MODULES[module])}
    assert not roots & IMPURE
    assert roots - set(sys.stdlib_module_names) <= {"executor", "pydantic"}


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
    heavy = {"pydantic", "git", "github", "tomlkit", "filelock", "crontab", "apprise", "asyncio", "hypothesis", "rich"}
    waiting, seen = ["commands.list", "commands.run", "tasks"], set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen or module not in MODULES:
            continue
        seen.add(module)
        tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import):
                assert not {alias.name.partition(".")[0] for alias in node.names} & heavy, module
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                assert node.module.partition(".")[0] not in heavy, module
                inner = node.module.removeprefix("executor.")
                waiting += [inner, *(f"{inner}.{alias.name}" for alias in node.names)]
