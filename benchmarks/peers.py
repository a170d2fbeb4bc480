"""The same graph for the peers: ninja, make and plain doit, one file dependency and one target a node."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.measure import Command

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.graphs import Graph

__all__ = ["make", "ninja", "plain_doit"]

_DODO = """
import json, pathlib

DOIT_CONFIG = {{"backend": "json", "dep_file": ".doit.json", "verbosity": 0}}
GRAPH = json.loads(pathlib.Path("graph.json").read_text())


def touch(name):
    pathlib.Path(f"out/{{name}}").write_text("done")


def task_all():
    for name, needs in GRAPH.items():
        yield {{
            "basename": {basename},
            "name": {name},
            "actions": [(touch, [name])],
            "file_dep": [f"in/{{name}}", *(f"out/{{need}}" for need in needs)],
            "targets": [f"out/{{name}}"],
        }}
"""


def plain_doit(folder: Path, nodes: Graph, *, flat: bool = False) -> Path:
    """A project of plain doit with everything up to date; `flat`: tasks instead of sub-tasks."""
    import json

    _files(folder, nodes)
    (folder / "graph.json").write_text(json.dumps(nodes), encoding="utf-8")
    names = ("name", "None") if flat else ('"all"', "name")
    text = _DODO.format(basename=names[0], name=names[1])
    if flat:
        text = text.replace('            "name": None,\n', "")
    (folder / "dodo.py").write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "doit"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def ninja(folder: Path, nodes: Graph) -> Command | None:
    """Ninja with everything up to date; None where it is not installed."""
    program = shutil.which("ninja")
    if program is None:
        return None
    _files(folder, nodes)
    lines = ["rule touch", "  command = touch $out"]
    for name, needs in nodes.items():
        lines.append(f"build out/{name}: touch in/{name} {' '.join(f'out/{need}' for need in needs)}".rstrip())
    (folder / "build.ninja").write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run([program, "--quiet"], cwd=folder, check=True)
    return Command("ninja", [program], folder)


def make(folder: Path, nodes: Graph) -> Command | None:
    """Make with everything up to date; None where it is not installed."""
    program = shutil.which("make")
    if program is None:
        return None
    _files(folder, nodes)
    lines = [f"all: {' '.join(f'out/{name}' for name in nodes)}"]
    for name, needs in nodes.items():
        lines.append(f"out/{name}: in/{name} {' '.join(f'out/{need}' for need in needs)}\n\t@touch $@")
    (folder / "Makefile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run([program, "-s", "-j2"], cwd=folder, check=True)
    return Command("make", [program, "-s"], folder)


def _files(folder: Path, nodes: Graph) -> None:
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    for name in nodes:
        (folder / "in" / name).write_text(name, encoding="utf-8")
