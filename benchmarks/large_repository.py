"""What a large repository costs: the first issue, the next one and a run with nothing to do, beside git's own commands.

`python -m benchmarks large [FILES ...]`; the repository is made in TMPDIR. A slot costs one checkout, for the agent and
the checks; the yardstick is `git worktree add` of the same tree, measured before and after.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.ours import CONFIG, git

__all__ = ["main"]

_PLAN = """[milestone]
id = "m"
title = "M"

[[issue]]
id = "a"
title = "A"
body = "a"
agent = "script"
with = { run = "echo a > a.txt" }
accept = [{ run = "grep -q a a.txt" }]

[[issue]]
id = "b"
title = "B"
body = "b"
agent = "script"
with = { run = "echo b > b.txt" }
accept = [{ run = "grep -q b b.txt" }]
"""
_IN_A_FOLDER = 150
_DOIT = (sys.executable, "-m", "doit")


def main(arguments: list[str]) -> None:
    """Measure repositories of so many files and print a table."""
    sys.stdout.write(
        "| files | measure | seconds | processor seconds | ratio of processor seconds |\n|---|---|---|---|---|\n"
    )
    for text in arguments or ["45000"]:
        with tempfile.TemporaryDirectory() as folder:
            _make(Path(folder) / "small", _IN_A_FOLDER)
            _timed([*_DOIT, "milestone:m"], Path(folder) / "small")  # so that Python's files are compiled
            _measure(Path(folder), int(text))


def _measure(folder: Path, files: int) -> None:
    repo = folder / "repo"
    _make(repo, files)
    before = _timed(["git", "worktree", "add", "-q", "--detach", str(folder / "before")], repo)
    first = _timed([*_DOIT, "issue:m/a"], repo)
    after = _timed(["git", "worktree", "add", "-q", "--detach", str(folder / "after")], repo)
    added = ((before[0] + after[0]) / 2, (before[1] + after[1]) / 2)
    following = _timed([*_DOIT, "issue:m/b"], repo)
    nothing = _timed([*_DOIT, "milestone:m"], repo)
    status = _timed(["git", "status", "--porcelain"], repo)
    rows = [
        ("git worktree add", added, added),
        ("first issue, over git worktree add", first, added),
        ("next issue, over git status", following, status),
        ("nothing to do, over git status", nothing, status),
    ]
    for name, (wall, used), (_, yardstick) in rows:
        sys.stdout.write(f"| {files:,} | {name} | {wall:.2f} | {used:.2f} | {used / yardstick:.2f} |\n")


def _make(repo: Path, files: int) -> None:
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    for key, value in (("user.name", "T"), ("user.email", "t@example.org")):
        git(repo, "config", key, value)
    for number in range(files):
        place = repo / f"d{number // _IN_A_FOLDER}"
        place.mkdir(exist_ok=True)
        (place / f"f{number}.txt").write_text(f"file {number}\n" * 20, encoding="utf-8")
    (repo / "pyproject.toml").write_text(CONFIG, encoding="utf-8")
    (repo / "dodo.py").write_text("from executor.tasks import DOIT_CONFIG, task_milestones\n", encoding="utf-8")
    (repo / ".gitignore").write_text(".cache/\n__pycache__/\n", encoding="utf-8")
    (repo / "milestones").mkdir()
    (repo / "milestones" / "m.toml").write_text(_PLAN, encoding="utf-8")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "files")


def _timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds, and seconds of processor time of the command and its children."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, used
