"""Many issues at once: how long it takes, how much memory, and that twice as many take about twice as long."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

MOST_MEMORY = 200
"""MB that the process of a run may take."""


WATCH = """
import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "doit", *sys.argv[1:]], os.environ)
_, status, used = os.wait4(pid, 0)
print(used.ru_utime, used.ru_maxrss // 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A small process that starts a command line: memory is counted from the size of the one that starts it."""


def measured(repo: Repo, *arguments: str) -> tuple[float, float, int]:
    """Seconds, seconds of its own processor time, and MB of memory at most, of one command line."""
    begin = time.monotonic()
    told = [sys.executable, "-c", WATCH, *arguments]
    run = subprocess.run(told, cwd=repo.path, env=repo.environment(), text=True, check=False, capture_output=True)
    assert run.returncode == 0, run.stderr
    processor, memory = run.stderr.split()[-2:]
    return time.monotonic() - begin, float(processor), int(memory)


def declared(path: Path, count: int) -> Repo:
    """A milestone of that many issues, each of which needs up to two of those before it."""
    repo = Repo(path)
    body = []
    for number in range(count):
        needs = sorted({f"i{other}" for other in (number // 2, number - 17) if 0 <= other < number})
        body.append(issue(f"i{number}", f"echo {number} > f{number}", needs=needs))
    repo.milestone("m1", "".join(body))
    repo.commit("declare")
    return repo


@pytest.mark.campaign
def test_two_hundred_issues_by_sixteen_agents_take_little_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = declared(tmp_path / "repo", 200)
    took, _, memory = measured(repo, "milestone:m1", "-n", "16")
    assert len(repo.landed("milestone/m1-test-m1")) == 200
    with capsys.disabled():
        sys.stdout.write(f"\n200 issues by 16 agents: {took:.1f} s, {memory} MB\n")
    assert memory <= MOST_MEMORY


@pytest.mark.campaign
def test_a_plan_of_four_times_as_many_issues_takes_about_four_times_as_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, few, _ = measured(declared(tmp_path / "few", 500), "plan", "m1")
    took, many, memory = measured(declared(tmp_path / "many", 2_000), "plan", "m1")
    with capsys.disabled():
        sys.stdout.write(f"\nplan of 2,000 issues: {took:.1f} s, {memory} MB; of 500: {few:.1f} s of processor time\n")
    assert memory <= MOST_MEMORY
    assert many < 6 * few
