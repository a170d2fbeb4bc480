"""How fast verified results land: `python -m benchmarks queue`, with real processor work as the suite.

The suite runs again, without its load, in a fresh checkout of every pushed head. Below the row stand the seconds in
which a suite ran, what everything else costs, and the rate of the same run with a suite that takes ten times as long.

`--simulate` prints the model instead, from the product's own decision function: check runs for each result by failure
rate and batch size, and results in the time of one suite by failure rate and slots.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.ours import git
from executor.engine.landing.queue import batch_size
from executor.state.record import moment
from tests.engine.queue_model import Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_SUITE = """\
import sys, time
from pathlib import Path
if "again" not in sys.argv:
    end = time.process_time() + {seconds}
    while {works} and time.process_time() < end:
        sum(range(1000))
    time.sleep(0 if {works} else {seconds})
    with open({runs!r}, "a") as file:
        file.write("run\\n")
sys.exit(any("bad" in path.read_text() for path in Path().glob("r*.txt")))
"""


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks queue", description=__doc__)
    parser.add_argument("--issues", type=int, default=100)
    parser.add_argument("--bad", type=float, default=0.02, help="share of results that fail the suite")
    parser.add_argument("--seconds", type=float, default=6.0, help="processor seconds of the suite")
    parser.add_argument("--sleep", action="store_true", help="the suite sleeps, as one that waits for services does")
    parser.add_argument("--agent", type=float, default=0.0, help="seconds that an agent takes")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--mode", default="auto", choices=["auto", "each", "batch"])
    parser.add_argument("--simulate", action="store_true", help="print the model only")
    options = parser.parse_args(arguments)
    if options.simulate:
        _simulate()
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _measure(Path(folder), options)


def _measure(folder: Path, options: argparse.Namespace) -> None:
    repo, runs = folder / "repo", folder / "runs"
    chance = random.Random(1)  # noqa: S311  (no secret)
    bad = {number for number in range(options.issues) if chance.random() < options.bad}
    _declare(repo, runs, bad, options)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "doit", "milestone:m", "-n", str(options.workers)],
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == (1 if bad else 0), done.stdout + done.stderr
    branch = "milestone/m-m"
    landed = int(git(repo, "rev-list", "--first-parent", "--count", f"main..{branch}"))
    count = len(runs.read_text().splitlines())
    wrong = git(repo, "log", "--first-parent", "--format=%(trailers:key=Issue,valueonly,separator=)", branch).split()
    assert not {f"{number}" for number in bad} & set(wrong), "a bad result has landed"
    assert landed == options.issues - len(bad), f"{landed} landed, {options.issues - len(bad)} are good"
    pushed = _pushed(repo, branch)
    red = [head for head in pushed if _is_red(repo, head, folder / "again")]
    bound = _entropy(options.bad)
    print(
        "| mode | issues | bad | suite s | workers | seconds | landed/h | runs a landing | bound H2(p) | pushes "
        "| red pushes |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {options.mode} | {options.issues} | {len(bad)} | {options.seconds:g} | {options.workers} | {seconds:.1f} "
        f"| {landed / seconds * 3600:.0f} | {count / max(1, landed):.2f} | {bound:.2f} | {len(pushed)} | {len(red)} |"
    )
    busy = _busy(repo / ".cache" / "m")
    used = spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime
    suites = 0.0 if options.sleep else count * options.seconds
    slow = seconds + 9 * busy
    print(
        f"\nA suite ran for {busy:.1f} of {seconds:.1f} seconds. Everything else took "
        f"{max(0.0, used - suites) / max(1, landed) * 1000:.0f} ms of a processor for each landing.\n"
        f"With a suite of {10 * options.seconds:g} s the same run takes {slow:.0f} s: "
        f"{landed / slow * 3600:.0f} landed/h."
    )
    assert not red, red


def _busy(folder: Path) -> float:
    """Seconds in which at least one suite ran."""
    lines = [line for path in sorted(folder.glob("journal.*.jsonl")) for line in path.read_bytes().splitlines()]
    checked = [record for record in map(json.loads, lines) if record["e"] == "checked"]
    spans = sorted((moment(item["t"]) - item["seconds"], moment(item["t"])) for item in checked)
    total, until = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(until, start))
        until = max(until, end)
    return total


def _declare(repo: Path, runs: Path, bad: set[int], options: argparse.Namespace) -> None:
    repo.mkdir()
    (repo / "milestones").mkdir()
    (repo / "rules").mkdir()
    text = _SUITE.format(seconds=options.seconds, runs=str(runs), works=not options.sleep)
    (repo / "suite.py").write_text(text, encoding="utf-8")
    lines = ['[milestone]\nid = "m"\ntitle = "M"\n[defaults]\nagent = "script"\nchecks = ["suite"]\n']
    for number in range(options.issues):
        word = "bad" if number in bad else "good"
        run = f"sleep {options.agent:g}; echo {word} > r{number}.txt"
        lines.append(f'[[issue]]\nid = "{number}"\ntitle = "r{number}"\nbody = "r"\nwith = {{ run = "{run}" }}\n')
    (repo / "milestones" / "m.toml").write_text("\n".join(lines), encoding="utf-8")
    check = f'[check.suite]\nrun = "{sys.executable} suite.py"\nsabotage = "off"\nsabotage_reason = "a benchmark"\n'
    (repo / "rules" / "checks.toml").write_text(check, encoding="utf-8")
    (repo / "rules" / "landing.toml").write_text(f'mode = "{options.mode}"\n', encoding="utf-8")
    (repo / "rules" / "limits.toml").write_text("attempts = 1\n", encoding="utf-8")
    git(repo, "init", "-q", "-b", "main")
    subprocess.run([sys.executable, "-m", "executor", "init"], cwd=repo, check=True, capture_output=True)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "start")


def _pushed(repo: Path, branch: str) -> list[str]:
    """Commits that were the tip after a push: each landing alone, and the last one of each batch."""
    form = "%H %T %(trailers:key=Proved-With,valueonly,separator=)"
    rows = [
        line.split() for line in git(repo, "log", "--first-parent", f"--format={form}", f"main..{branch}").splitlines()
    ]
    return [row[0] for row in rows if len(row) == 2 or row[1] == row[2]]


def _is_red(repo: Path, head: str, folder: Path) -> bool:
    """Whether the suite fails in a fresh checkout of a commit."""
    git(repo, "worktree", "add", "-q", "--detach", str(folder), head)
    done = subprocess.run([sys.executable, "suite.py", "again"], cwd=folder, check=False)
    git(repo, "worktree", "remove", "--force", str(folder))
    return done.returncode != 0


_RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_HALVING: dict[float, tuple[float, ...]] = {
    0.005: (1, 0.51, 0.28, 0.16, 0.10, 0.08, 0.07),
    0.01: (1, 0.52, 0.28, 0.19, 0.14, 0.13, 0.13),
    0.02: (1, 0.54, 0.33, 0.24, 0.22, 0.21, 0.22),
    0.05: (1, 0.60, 0.45, 0.40, 0.41, 0.43, 0.44),
    0.1: (1, 0.69, 0.61, 0.63, 0.67, 0.70, 0.72),
    0.15: (1, 0.78, 0.76, 0.83, 0.87, 0.91, 0.93),
    0.2: (1, 0.86, 0.92, 0.99, 1.05),
    0.3: (1, 1.02, 1.13, 1.27),
}
"""Runs for each result of recursive halving with full runs, by rate and batch size, to compare ours with."""


def _simulate() -> None:
    print("Check runs for each result (in brackets: recursive halving with full runs)\n")
    print("| p | " + " | ".join(f"b={size}" for size in _SIZES) + " | chosen | bound H2(p) |")
    print("|---" * (len(_SIZES) + 3) + "|")
    for rate in _RATES:
        halving = (*(f"{cost:.2f}" for cost in _HALVING[rate]), "-", "-", "-")
        costs = " | ".join(
            f"{_trial(rate, size).cost:.2f} ({other})" for size, other in zip(_SIZES, halving, strict=False)
        )
        print(f"| {rate:.1%} | {costs} | {batch_size(rate, 64)} | {_entropy(rate):.3f} |")
    slots = (1, 2, 4, 8)
    print("\nResults that land in the time of one suite (in brackets: slots x (1 - p) / runs for each result)\n")
    print("| p | batch | " + " | ".join(f"{count} slots" for count in slots) + " |")
    print("|---" * (len(slots) + 2) + "|")
    for rate in _RATES:
        size = batch_size(rate, 64)
        found = [_trial(rate, size, count) for count in slots]
        rates = " | ".join(
            f"{trial.pace:.1f} ({count * (1 - rate) / trial.cost:.1f})"
            for count, trial in zip(slots, found, strict=True)
        )
        print(f"| {rate:.1%} | {size} | {rates} |")


@dataclass(frozen=True)
class _Outcome:
    """Full check runs for each result, and results that land in the time of one."""

    cost: float
    pace: float


def _trial(rate: float, size: int, slots: int = 1) -> _Outcome:
    """A few simulated queues; a run of only the failed checks counts as a tenth, in processor time."""
    chance = random.Random(size)  # noqa: S311  (no secret)
    runs, count, landed, clock = 0.0, 0, 0, 0.0
    for _ in range(4):
        names = [f"c{number}" for number in range(256)]
        bad = {name for name in names if chance.random() < rate}
        trial = Trial(names, bad, size=size, slots=slots, chance=chance)
        trial.run()
        runs += trial.runs + trial.partial / 10
        count += len(names)
        landed += len(trial.landed)
        clock += trial.clock
    return _Outcome(runs / count, landed / clock)


def _entropy(rate: float) -> float:
    """The least number of runs for each result that any method needs."""
    return -rate * math.log2(rate) - (1 - rate) * math.log2(1 - rate) if 0 < rate < 1 else 0.0
