"""What collisions cost and what avoids them: `python -m benchmarks collisions REPOSITORY A..B`.

Issues are commits of a real history, with the change that each one makes of A, so that none needs another one; many of
them change the same lines. Eight agents make these changes side by side, each one on the branch as it is when the agent
starts. A result that conflicts costs an attempt: the issue is retried until it has landed, three times at most. One row
for each way of choosing and merging; the last rows switch off one part each.

The text of an issue is the message of its commit; the history before A is what is learned from. `files` names the files
that the commit really changes, as a careful author would.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.history import clone, declared_outside, independent_commits
from benchmarks.ours import git
from tests.replay import STOPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.history import Commit

__all__ = ["main"]

_BRANCH = "milestone/collisions-collisions"
_ROUNDS = 4
_HARMLESS = ["CHANGELOG*", "CHANGES*", "changelog.d/*"]


@dataclass(frozen=True)
class Way:
    """One way of choosing and merging.

    Attributes:
        name: for the table.
        overlap: the rule of that name.
        files: whether issues declare the files that they change.
        union: whether changelogs are merged as a union.
        probe_s: the rule of that name.
    """

    name: str
    overlap: str = "learned"
    files: bool = True
    union: bool = True
    probe_s: float = 0.3


WAYS = (
    Way("declaration order", "off", files=False, union=False, probe_s=0),
    Way("learned only", "learned", files=False, union=False, probe_s=0),
    Way("declared files only", "declared", union=False, probe_s=0),
    Way("union only", "off", files=False, probe_s=0),
    Way("probes only", "off", files=False, union=False),
    Way("all"),
    Way("all without learning", "declared"),
    Way("all without declared files", files=False),
    Way("all without union", union=False),
    Way("all without probes", probe_s=0),
)


@dataclass
class Counted:
    """Sums over the seeds."""

    seconds: float = 0.0
    attempts: int = 0
    conflicts: int = 0
    early: int = 0
    together: int = 0
    shared: int = 0
    landed: int = 0


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks collisions", description=__doc__)
    parser.add_argument("repository", type=Path, help="a git repository; it is only read")
    parser.add_argument("range", help="A..B")
    parser.add_argument("-n", "--workers", type=int, default=8)
    parser.add_argument("--issues", type=int, default=40, help="the first so many of the range")
    parser.add_argument("--agent", type=float, default=1.0, help="mean seconds of an agent")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each way, with other durations of agents")
    options = parser.parse_args(arguments)
    start, _, end = options.range.partition("..")
    with tempfile.TemporaryDirectory(prefix="collisions-") as folder:
        source = clone(Path(folder) / "source", options.repository)
        start, end = (git(source, "rev-parse", f"{name}^{{commit}}") for name in (start, end))
        commits = independent_commits(source, start, end, options.issues)
        print("| way | issues | landed | conflicts | attempts | pairs together | of one file | found early | seconds |")
        print("|---|---|---|---|---|---|---|---|---|")
        for way in WAYS:
            found = Counted()
            for seed in range(options.seeds):
                _Trial(Path(folder) / f"{WAYS.index(way)}-{seed}", source, commits, way, options, seed).run(found)
            share = f"{found.shared / found.together:.0%}" if found.together else "-"
            issues = len(commits) * options.seeds
            print(
                f"| {way.name} | {issues} | {found.landed} | {found.conflicts} | {found.attempts} | {found.together} | "
                f"{found.shared} ({share}) | {found.early} | {found.seconds:.0f} |",
                flush=True,
            )


class _Trial:
    """One milestone, run until every issue has landed."""

    def __init__(
        self,
        folder: Path,
        source: Path,
        commits: list[tuple[Commit, str]],
        way: Way,
        options: argparse.Namespace,
        seed: int,
    ) -> None:
        self._repo = folder
        self._commits = commits
        self._way, self._options = way, options
        self._chance = random.Random(seed)  # noqa: S311  (no secret)
        clone(folder, source)
        start = git(source, "rev-parse", f"{commits[0][1]}^1")
        place = declared_outside(folder, start, "collisions")
        lines = ['[milestone]\nid = "collisions"\ntitle = "Collisions"\n']
        lines += [self._issue(place, start, number) for number in range(len(commits))]
        (folder / "milestones" / "collisions.toml").write_text("\n".join(lines), encoding="utf-8")
        union = json.dumps(_HARMLESS if way.union else [])
        rules = f'overlap = "{way.overlap}"\nunion = {union}\nprobe_s = {way.probe_s:.1f}\nmode = "each"\n'
        (folder / "rules" / "landing.toml").write_text(rules, encoding="utf-8")
        (folder / "rules" / "environments.toml").write_text(
            '[environment.no]\nreplaces = ["python"]\n', encoding="utf-8"
        )

    def _issue(self, place: Path, start: str, number: int) -> str:
        commit, moved = self._commits[number]
        patch = place / f"{number}.patch"
        options = ("--binary", "--full-index", "--no-renames")
        patch.write_bytes(
            subprocess.run(
                ["git", "diff", *options, start, moved], cwd=self._repo, capture_output=True, check=True
            ).stdout
        )
        seconds = self._options.agent * self._chance.lognormvariate(-0.125, 0.5)
        # An agent that starts on a changed branch makes its change beside what stands there.
        marks = "-e '/^<<<<<<< /d' -e '/^=======$/d' -e '/^>>>>>>> /d'"
        both = f"git diff --name-only --diff-filter=U -z | xargs -0 -r sed -i {marks}"
        run = f"sleep {seconds:.2f}; git apply --3way --whitespace=nowarn '{patch}' || {both}"
        text = git(self._repo, "log", "-1", "--format=%B", commit.id)
        files = f"files = {json.dumps(list(commit.files))}\n" if self._way.files else ""
        return (
            f'[[issue]]\nid = "c{number}"\ntitle = {json.dumps(commit.title[:100] or "-")}\n'
            f"body = {json.dumps(text or '-')}\nallow = {json.dumps([*STOPS, 'spec-problem'])}\n{files}"
            f'agent = "script"\nwith = {{ run = {json.dumps(run)} }}\n'
        )

    def run(self, found: Counted) -> None:
        """Run, and retry what conflicted; adds to the counts."""
        command = [sys.executable, "-m", "executor"]
        began = time.perf_counter()
        for _ in range(_ROUNDS):
            done = subprocess.run(
                [*command, "milestone:collisions", "-n", str(self._options.workers)],
                cwd=self._repo,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                break
            rows = json.loads(self._output(*command, "status", "collisions", "--json"))
            waiting = [f"collisions/{row['id']}" for row in _rows(rows) if row["status"] == "skipped"]
            if not waiting:
                break  # what is left changes nothing any more
            self._output(*command, "retry", *waiting)
        found.seconds += time.perf_counter() - began
        self._count(found)

    def _output(self, *command: str) -> str:
        return subprocess.run(command, cwd=self._repo, capture_output=True, text=True, check=False).stdout

    def _count(self, found: Counted) -> None:
        folder = self._repo / ".cache" / "collisions"
        lines = [line for path in sorted(folder.glob("journal.*.jsonl")) for line in path.read_bytes().splitlines()]
        spans: list[tuple[int, int, str]] = []
        begun: dict[str, int] = {}
        for place, record in enumerate(map(json.loads, lines)):
            kind, key = record["e"], record["key"]
            found.attempts += kind == "attempt-started"
            found.early += kind == "collision"
            found.landed += kind == "landed"
            found.conflicts += kind == "stopped" and record["rule"] == "merge-conflict"
            if kind == "attempt-started":
                begun[key] = place
            elif kind in {"landed", "stopped", "attempt-failed"} and key in begun:
                spans.append((begun.pop(key), place, key))
        files = {f"c{number}": set(commit.files) for number, (commit, _) in enumerate(self._commits)}
        for one, other in combinations(spans, 2):
            if one[2] != other[2] and one[0] < other[1] and other[0] < one[1]:
                found.together += 1
                found.shared += bool(files[one[2]] & files[other[2]])


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for milestone in value.get("milestones", [value]) for row in milestone.get("issues", [])]
