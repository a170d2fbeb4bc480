"""The time that issues take beside their agents: `python -m benchmarks overhead`.

Agents that sleep for a second work side by side; what the run takes beyond their sleep, divided by the issues, is what
one costs. The processor seconds are those of the run and of all that it starts, agents included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run a milestone of sleeping agents and print its overhead."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks overhead")
    parser.add_argument("--issues", type=int, default=300)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        repo = Repo(Path(folder) / "repo")
        for number in range(options.files):
            repo.write(f"src/{number % 40}/{number}.txt", f"{number}\n" * 20)
        numbers = range(options.issues)
        repo.milestone("m1", "".join(issue(str(number), f"sleep 1; echo > new-{number}") for number in numbers))
        repo.commit("files")
        before, start = _processor(), time.monotonic()
        command = [sys.executable, "-m", "doit", "milestone:m1", "-n", str(options.workers)]
        subprocess.run(command, cwd=repo.path, env=repo.environment(), check=True, capture_output=True)
        wall, processor = time.monotonic() - start, _processor() - before
        cache = sum(path.lstat().st_blocks * 512 for path in (repo.path / ".cache").rglob("*"))
    agents = options.issues / options.workers
    print(f"{options.issues} issues, {options.files} files, {options.workers} at a time: {wall:.1f} s")
    print(f"agents alone {agents:.1f} s, so {(wall - agents) / options.issues * 1000:.1f} ms an issue beside its agent")
    print(
        f"processor {processor / options.issues * 1000:.0f} ms an issue, agent included; .cache/ {cache / 1e6:.1f} MB"
    )
    return 0


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
