"""What environments cost: `python -m benchmarks environments [--json FILE]`.

Measures the time to create the environment of a uv.lock from a warm cache and to prepare an unchanged environment for
another tree, the same for a package installed editable, and the check runs that prove that a check looks at the tree.
Needs uv and the package index.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.ours import CONFIG, git
from executor.agents.command import child_environment
from executor.environments.environment import FOLDER, kept_environments
from executor.environments.making import tree_environment
from executor.git.command import find_repository
from executor.git.objects import Store
from executor.git.worktrees import Workspace

__all__ = ["main"]

PACKAGES = (
    *("requests", "flask", "django", "click", "rich", "jinja2", "sqlalchemy", "pydantic", "httpx", "attrs", "pytest"),
    *(
        "networkx",
        "sympy",
        "pygments",
        "beautifulsoup4",
        "python-dateutil",
        "pyyaml",
        "packaging",
        "tomlkit",
        "docutils",
    ),
)
UNCHANGED, LOCKED, PROOFS = 1.0, 5.0, 1.0
"""Seconds until an environment is ready when nothing changed, and for a lock from a warm cache; proofs of a check."""
_ROUNDS = 7
_DOIT = (sys.executable, "-m", "doit")
_PROJECT = """[project]
name = "app"
version = "1.0"
requires-python = ">=3.11"
dependencies = {packages}

[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
"""
_PLAN = """[milestone]
id = "m"
title = "M"
"""
_ISSUE = """
[[issue]]
id = "{name}"
title = "{name}"
body = "{name}"
agent = "script"
with = {{ run = "echo x = 1 > src/app/{name}.py" }}
checks = ["own"]
"""


@dataclass(frozen=True)
class Figure:
    """One line: a measure with its figure and its bound."""

    measure: str
    figure: float
    bound: float

    def text(self) -> str:
        """As a row of a Markdown table."""
        met = "met" if self.figure <= self.bound else "MISSED"
        return f"| {self.measure} | {self.figure:.2f} | <= {self.bound:g} | {met} |"


def main(arguments: list[str]) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks environments", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args(arguments)
    if shutil.which("uv") is None:
        sys.exit("uv is not installed")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        figures = [*_locked(Path(folder, "locked")), *_editable(Path(folder, "editable"))]
    sys.stdout.write("| measure | figure | bound | |\n|---|---|---|---|\n")
    sys.stdout.write("".join(f"{figure.text()}\n" for figure in figures))
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n", encoding="utf-8")


def _locked(repo: Path) -> list[Figure]:
    _make(repo, PACKAGES, run="python -m pytest -q")
    _run(["uv", "lock", "-q"], repo)
    _run(["uv", "sync", "-q", "--frozen"], repo)  # the cache is warm then
    shutil.rmtree(repo / ".venv")
    _commit(repo)
    _run([*_DOIT, "milestone:m"], repo)
    (kept,) = [kept for kept in kept_environments(repo / ".cache" / FOLDER) if kept.name == "python"]
    packages = (repo / "uv.lock").read_text(encoding="utf-8").count("[[package]]")
    return [
        Figure(f"seconds to make the environment of a lock of {packages} packages", kept.seconds, LOCKED),
        Figure("seconds until it is ready for another tree with the lock", _ready(repo), UNCHANGED),
    ]


def _editable(repo: Path) -> list[Figure]:
    count = repo.parent / "count"
    word = 'if grep -q "broken on purpose" src/app/__init__.py; then echo copy; else echo tree; fi'
    _make(repo, (), run=f"({word}) >> {count}; pytest -q")
    _run(["uv", "venv", "-q", str(repo.parent / "venv")], repo)
    python = str(repo.parent / "venv" / "bin" / "python")
    _run(["uv", "pip", "install", "-q", "-p", python, "-e", ".", "pytest"], repo)
    _commit(repo)
    path = f"{repo.parent}/venv/bin:{os.environ['PATH']}"
    _run([*_DOIT, "milestone:m"], repo, PATH=path)
    lines = count.read_text(encoding="ascii").split()
    os.environ["PATH"] = path
    return [
        Figure("seconds until the environment of an editable install is ready for a tree", _ready(repo), UNCHANGED),
        Figure(
            f"runs for the proof that a check looks at trees, beside {lines.count('tree')}", lines.count("copy"), PROOFS
        ),
    ]


def _ready(repo: Path) -> float:
    """The median of the seconds until the environment of a tree is ready, when it is known."""
    repository = find_repository(repo)
    store = Store(repository, repo.parent / "objects")
    workspace = Workspace(repo.parent / "check", repo.parent / "check.index")
    workspace.prepare(store, store.tree_of(git(repo, "rev-parse", "HEAD").strip()))
    env = child_environment((), {}, workspace.folder)
    times = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        made = tree_environment(repository, workspace, 0, env, repo / ".cache" / FOLDER)
        for step in made.steps:
            made = made.joined(step.finish())
        times.append(time.perf_counter() - begun)
    store.close()
    return statistics.median(times)


def _make(repo: Path, packages: tuple[str, ...], run: str) -> None:
    """A package with a test, and a milestone of three issues."""
    for name, text in {
        "src/app/__init__.py": "def f():\n    return 1\n",
        "tests/test_f.py": "import app\n\n\ndef test_f():\n    assert app.f() == 1\n",
        "pyproject.toml": _PROJECT.format(packages=json.dumps(packages)) + CONFIG,
        "dodo.py": "from executor.tasks import DOIT_CONFIG, task_milestones  # noqa: F401\n",
        ".gitignore": ".cache/\n__pycache__/\n.venv/\n*.egg-info/\n",
        "rules/checks.toml": f"[check.own]\nrun = {json.dumps(run)}\n",
        "milestones/m.toml": _PLAN + "".join(_ISSUE.format(name=name) for name in ("a", "b", "c")),
    }.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(text, encoding="utf-8")


def _commit(repo: Path) -> None:
    git(repo, "init", "-q", "-b", "main")
    git(repo, "add", "-A")
    git(repo, "-c", "user.name=B", "-c", "user.email=b@example.org", "commit", "-q", "-m", "start")


def _run(argv: list[str], cwd: Path, **env: str) -> None:
    path = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path, **env}
    )
    if done.returncode:
        sys.exit(f"{' '.join(argv[:4])}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
