"""The structure of the product in figures: `python -m tests.house` prints each one beside its limit and its target.

A limit is what CI holds today, a target is what the structure is meant to come to. Lower a limit when a figure falls.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from executor.config.plugins import GROUPS
from tests.support import Repo, issue

__all__ = ["FIGURES", "PACKAGE", "ROOT", "Figure", "entered", "measured", "walk"]

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "executor"
_TRACER = """
import json, sys, threading
found = {}
FUNCTION = 0x1 | 0x2  # CO_OPTIMIZED | CO_NEWLOCALS: not the body of a module or of a class
def profile(frame, event, argument):
    if event == "call" and frame.f_code.co_flags & FUNCTION == FUNCTION:
        name = frame.f_code.co_filename
        if name.startswith(sys.argv[1]) and "/__init__.py" not in name:
            found.setdefault(name[len(sys.argv[1]) + 1:], len(found))
threading.setprofile(profile)
sys.setprofile(profile)
from doit.doit_cmd import DoitMain
code = DoitMain().run(["milestone:m1"])
sys.setprofile(None)
threading.setprofile(None)
with open(sys.argv[2], "w") as file:
    json.dump(list(found), file)
sys.exit(code)
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the structure.

    Attributes:
        name: what is counted.
        limit: the most that the check allows.
        target: the most that is meant to be.
    """

    name: str
    limit: int
    target: int


MODULES = Figure("modules in executor/ with code", 203, 170)
FLAT = Figure("modules flat in executor/ besides errors and __main__", 0, 0)
LONGEST = Figure("lines of the longest file", 450, 450)
PACKAGE_SIZE = Figure("modules of the largest package, its subpackages aside", 12, 12)
ENTERED = Figure("modules entered to land one trivial issue", 72, 72)
RUN_FIRST = Figure("functions whose first parameter is the run", 16, 16)
ANY_DICTS = Figure("annotations dict[str, Any]", 9, 9)
LONG = Figure("functions of more than 45 lines", 0, 0)
BARE = Figure("numeric constants without an origin", 0, 0)
WALK = Figure("files of the walk in ARCHITECTURE.md", 16, 16)
NO_CONFORMANCE = Figure("groups of plug-ins without an example that conforms", 0, 0)
FIGURES = (MODULES, FLAT, LONGEST, PACKAGE_SIZE, ENTERED, RUN_FIRST, ANY_DICTS, LONG, BARE, WALK, NO_CONFORMANCE)


@cache
def _sources() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def _has_code(text: str) -> bool:
    """Whether a module is more than a docstring."""
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in ast.parse(text).body
    )


@cache
def measured() -> dict[Figure, int]:
    """Every figure; runs one trivial issue, which takes some seconds."""
    sources = _sources()
    modules = [path for path, text in sources.items() if _has_code(text) or path.name != "__init__.py"]
    folders = {path.parent for path in modules} - {PACKAGE}
    return {
        MODULES: len(modules),
        FLAT: len({path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py", "errors.py"}),
        LONGEST: max(text.count("\n") for text in sources.values()),
        PACKAGE_SIZE: max(len([path for path in modules if path.parent == folder]) for folder in folders),
        ENTERED: len(entered()),
        RUN_FIRST: sum(_run_first(text) for text in sources.values()),
        ANY_DICTS: sum(text.count("dict[str, Any]") for text in sources.values()),
        LONG: sum(_long(text) for text in sources.values()),
        BARE: sum(len(bare(text)) for text in sources.values()),
        WALK: len(walk()),
        NO_CONFORMANCE: len(unproved()),
    }


def unproved() -> list[str]:
    """Groups of plug-ins that the example package has none of: its tests run the conformance test of each."""
    example = tomllib.loads((ROOT / "tests" / "example_plugin" / "pyproject.toml").read_text(encoding="utf-8"))
    offered = example["project"]["entry-points"]
    return [group for group in GROUPS if f"make_for_milestones.{group}" not in offered]


def _run_first(text: str) -> int:
    found = 0
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            names = [item.arg for item in [*node.args.posonlyargs, *node.args.args] if item.arg not in {"self", "cls"}]
            found += names[:1] == ["run"]
    return found


def _long(text: str) -> int:
    """Count the functions of more than 45 lines, signature and docstring included."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    return sum((node.end_lineno or 0) - node.lineno >= 45 for node in found)


def bare(text: str) -> list[str]:
    """Return the numeric constants of a module that no comment and no docstring explains."""
    lines, body = text.splitlines(), ast.parse(text).body
    found = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and _is_number(node.value):
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            line = lines[node.lineno - 1]
            if not said and "#" not in line and not lines[node.lineno - 2].startswith("#"):
                found.append(line)
    return found


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right)
    return isinstance(node, ast.Constant) and type(node.value) in {int, float}


@cache
def entered(*, checked: bool = False) -> tuple[str, ...]:
    """Files of executor/ with a function that is called when one trivial issue lands, in the order of the first calls.

    Args:
        checked: whether the issue has a check.
    """
    with tempfile.TemporaryDirectory(prefix="house") as folder:
        repo = Repo(Path(folder) / "repo")
        repo.milestone("m1", issue("a", "echo a > a", **({"accept": [{"run": "true"}]} if checked else {})))
        found = Path(folder) / "found.json"
        subprocess.run(
            [sys.executable, "-c", _TRACER, str(PACKAGE), str(found)],
            cwd=repo.path,
            env=repo.environment(),
            check=True,
            capture_output=True,
            timeout=300,
        )
        return tuple(json.loads(found.read_text(encoding="utf-8")))


def walk() -> list[str]:
    """The files that ARCHITECTURE.md names as the life of one issue, in its order."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.partition("## The life of one issue, file by file")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([\w/]+\.py)`", section, re.MULTILINE)


def main() -> int:
    """Print every figure; returns 1 if one is above its limit."""
    values = measured()
    width = max(len(figure.name) for figure in FIGURES)
    sys.stdout.write(f"{'figure':<{width}}  today  limit  target\n")
    for figure in FIGURES:
        mark = "  above its limit" if values[figure] > figure.limit else ""
        sys.stdout.write(f"{figure.name:<{width}}  {values[figure]:>5}  {figure.limit:>5}  {figure.target:>6}{mark}\n")
    contracts = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, check=False
    ).returncode
    sys.stdout.write(f"import contracts {'kept' if contracts == 0 else 'broken, see lint-imports'}\n")
    return int(contracts != 0 or any(values[figure] > figure.limit for figure in FIGURES))


if __name__ == "__main__":
    sys.exit(main())
