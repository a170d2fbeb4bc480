"""The same graph as a milestone: declared, and landed without running ten thousand agents.

The history is written with `git fast-import`; its messages come from the executor itself, so that it takes them for
what they are: landings.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from executor.commands import COMMANDS
from executor.config.project import compile_project, open_project
from executor.git.diff import Change, parse_diff
from executor.git.trailers import Trailers, landing_message
from executor.status.reader import Observer, observe

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.graphs import Graph

__all__ = ["BRANCH", "CONFIG", "declare", "land_everything"]

BRANCH = "milestone/bench-benchmark"
CONFIG = "[tool.doit.plugins.command]\n" + "".join(f'{name} = "{place}"\n' for name, place in COMMANDS.items())
_DODO = "from executor.tasks import DOIT_CONFIG, task_milestones  # noqa: F401\n"


def declare(folder: Path, nodes: Graph) -> Path:
    """A repository with a milestone of one issue a node, each with a spec file; nothing has landed."""
    (folder / "milestones" / "bench").mkdir(parents=True)
    lines = ['[milestone]\nid = "bench"\ntitle = "Benchmark"\n']
    for name, needs in nodes.items():
        (folder / "milestones" / "bench" / f"{name}.md").write_text(f"Build {name}.\n", encoding="utf-8")
        lines.append(
            f'[[issue]]\nid = "{name}"\ntitle = "Build {name}"\nspec = "bench/{name}.md"\n'
            f'needs = {json.dumps(needs)}\nwith = {{ run = "echo {name} > {name}" }}\n'
        )
    (folder / "milestones" / "bench.toml").write_text("\n".join(lines), encoding="utf-8")
    (folder / "dodo.py").write_text(_DODO, encoding="utf-8")
    (folder / "pyproject.toml").write_text(CONFIG, encoding="utf-8")
    (folder / ".gitignore").write_text(".cache/\n", encoding="utf-8")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Bench")
    git(folder, "config", "user.email", "bench@example.org")
    git(folder, "add", "dodo.py", "pyproject.toml", ".gitignore")
    git(folder, "commit", "-q", "-m", "start")
    return folder


def land_everything(folder: Path) -> None:
    """Give the milestone branch one landing for every issue."""
    project = open_project(folder)
    compiled = compile_project(project)
    from executor.git.refs import Refs

    observer = observe(compiled, Refs(project.repository))
    stream = bytearray()
    for number, ref in enumerate(compiled.plan.order):
        stream += _landing(observer, ref, first=number == 0)
    subprocess.run(["git", "fast-import", "--quiet", "--done"], cwd=folder, input=bytes(stream) + b"done\n", check=True)


def git(folder: Path, *arguments: str) -> str:
    """Plain git."""
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _landing(observer: Observer, ref: str, *, first: bool) -> bytes:
    node = observer.compiled.plan.nodes[ref]
    name = node.issue.id
    content = f"{name}\n".encode()
    change = _change(name)
    trailers = Trailers("bench", name, 1, observer.spec_key(ref), change.key, observer.proofs(ref).key)
    message = landing_message(f"feat(bench): {node.issue.title}", change, trailers, number=None).encode()
    parent = b"from refs/heads/main^0\n" if first else b""
    return (
        f"commit refs/heads/{BRANCH}\ncommitter Bench <bench@example.org> 1700000000 +0000\n".encode()
        + b"data %d\n%s\n" % (len(message), message)
        + parent
        + b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(content), content)
    )


def _change(name: str) -> Change:
    return parse_diff(
        f"diff --git a/{name} b/{name}\nnew file mode 100644\nindex {'0' * 40}..{'1' * 40}\n--- /dev/null\n"
        f"+++ b/{name}\n@@ -0,0 +1 @@\n+{name}\n".encode()
    )
