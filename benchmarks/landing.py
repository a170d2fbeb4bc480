"""What a landing costs beside the bare git commands that it needs, with the same trees, agent, check and durability."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.measure import as_installed
from benchmarks.ours import CONFIG, git

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["bare_git", "milestone"]

_FILES = 200
_RUN = "echo {name} > {name}"
_CHECK = "grep -q {name} {name}"


def milestone(folder: Path, count: int) -> float:
    """Seconds an issue for a milestone of `count` issues, one at a time, each with one check."""
    _repository(folder)
    lines = ['[milestone]\nid = "m"\ntitle = "M"\n']
    for number in range(count):
        name = f"n{number}"
        lines.append(
            f'[[issue]]\nid = "{name}"\ntitle = "{name}"\nbody = "{name}"\n'
            f'with = {{ run = "{_RUN.format(name=name)}" }}\n'
            f'accept = [{{ run = "{_CHECK.format(name=name)}" }}]\n'
        )
    (folder / "milestones").mkdir()
    (folder / "milestones" / "m.toml").write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "doit", "milestone:m", "-n", "1"]
    empty = _timed([sys.executable, "-m", "doit", "list"], folder)
    seconds = _timed(command, folder)
    landed = git(folder, "rev-list", "--first-parent", "--count", "main..milestone/m-m")
    assert landed == str(count), f"{landed} of {count} landed"
    return (seconds - empty) / count


def bare_git(folder: Path, count: int) -> float:
    """Seconds an issue for the same by hand: two work trees, agent, import, diff, commit, check, two ref updates."""
    _repository(folder)
    state = folder / ".cache"
    work, check = state / "work", state / "check"
    work.mkdir(parents=True)
    check.mkdir()
    tip = git(folder, "rev-parse", "HEAD")
    began = time.perf_counter()
    branch = "refs/heads/milestone/m"
    _bare(folder, "update-ref", branch, tip, "0" * 40)
    for number in range(count):
        name = f"n{number}"
        here = {"GIT_INDEX_FILE": str(state / "work.index"), "GIT_WORK_TREE": str(work)}
        there = {"GIT_INDEX_FILE": str(state / "check.index"), "GIT_WORK_TREE": str(check)}
        _bare(folder, "clean", "-ffdxq", env=here, cwd=work)
        _bare(folder, "read-tree", "--reset", "-u", tip, env=here, cwd=work)
        subprocess.run(["sh", "-c", _RUN.format(name=name)], cwd=work, check=True)
        _bare(folder, "add", "--all", ".", env=here, cwd=work)
        tree = _bare(folder, "write-tree", env=here)
        _bare(folder, "diff-tree", "-r", "-p", "--full-index", tip, tree)
        commit = _bare(folder, "commit-tree", tree, "-p", tip, "-m", name)
        _bare(folder, "update-ref", f"refs/attempts/{name}", commit, "0" * 40)
        _bare(folder, "clean", "-ffdxq", env=there, cwd=check)
        _bare(folder, "read-tree", "--reset", "-u", tree, env=there, cwd=check)
        subprocess.run(["sh", "-c", _CHECK.format(name=name)], cwd=check, check=True)
        _bare(folder, "update-ref", branch, commit, tip)
        _bare(folder, "update-ref", "-d", f"refs/attempts/{name}", commit)
        tip = commit
    return (time.perf_counter() - began) / count


def _repository(folder: Path) -> None:
    folder.mkdir()
    for number in range(_FILES):
        path = folder / f"folder{number % 10}" / f"file{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"file {number}\n" * 20, encoding="utf-8")
    (folder / "dodo.py").write_text("from executor.tasks import DOIT_CONFIG, task_milestones\n", encoding="utf-8")
    (folder / "pyproject.toml").write_text(CONFIG, encoding="utf-8")
    (folder / ".gitignore").write_text(".cache/\n", encoding="utf-8")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Bench")
    git(folder, "config", "user.email", "bench@example.org")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "start")


def _bare(folder: Path, *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(
        ["git", f"--git-dir={folder / '.git'}", "-c", "core.fsync=committed", *arguments],
        cwd=cwd or folder,
        env={**os.environ, **(env or {})},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def _timed(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=as_installed(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
