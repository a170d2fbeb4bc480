"""Replay a range of a real history as a milestone: `python -m benchmarks history REPOSITORY A..B`.

Every first-parent commit of the range becomes an issue whose agent makes the same change. An issue needs the earlier
commits of the files in which its change does not apply to A as it is, and those that it conflicts with. The end tree
must be that of B, byte for byte, and no issue may land twice, also where the run is killed again and again
(`--kill 3`: every three seconds or so).

The bound is that of the longest chain, or of the agents' work over the workers. No order may reach it: the schedule is
that of a machine without any overhead which starts what is ready. Processor seconds show how much of the rest is ours.

The agent is `patch`, or with `--agent SECONDS` a script that sleeps and then applies the patch three-way. The files
that declare the milestone are not committed, so that they are no part of any tree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.ours import git
from executor.status.estimate import Todo, schedule
from tests.replay import STOPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Commit", "clone", "commits_of", "declared_outside", "independent_commits", "main"]

_BRANCH = "milestone/history-history"
_ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Commit:
    """A commit of the range.

    Attributes:
        id: of the commit.
        title: first line of its message.
        files: paths that it changes, against its first parent.
        needs: places in the range of the earlier commits that it needs.
        clean: whether its change applies to the start of the range as it is.
    """

    id: str
    title: str
    files: tuple[str, ...]
    needs: tuple[int, ...]
    clean: bool = True


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks history", description=__doc__)
    parser.add_argument("repository", type=Path, help="a git repository; it is only read")
    parser.add_argument("range", help="A..B")
    parser.add_argument("-n", "--workers", type=int, default=4)
    parser.add_argument("--agent", type=float, default=0.0, help="seconds that an agent takes")
    parser.add_argument("--kill", type=float, default=0.0, help="kill the run after about so many seconds, repeatedly")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="history-") as folder:
        print(_HEAD)
        print(_Replay(Path(folder), options).measured())


_HEAD = """\
| repository | range | issues | needs | longest chain | free at the start | landed | seconds | bound s | ratio \
| schedule s | ratio | processor s | kills | agents at work twice | landed twice | end tree |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def commits_of(repo: Path, start: str, end: str) -> list[Commit]:
    """The first-parent commits of a range that change something, oldest first, with what they need.

    A commit needs the earlier ones of the files in which it cannot be moved to the start, those that it conflicts with
    when both are moved there, and those that wrote the lines around its change.
    """
    found: list[Commit] = []
    moved: list[str] = []
    for line in git(repo, "log", "--first-parent", "--reverse", "--format=%H %s", f"{start}..{end}").splitlines():
        commit, _, title = line.partition(" ")
        changed = _changed(repo, f"{commit}^1", commit)
        if not changed:
            continue
        here, bound = _moved(repo, start, commit, changed)
        around = _written_by(repo, commit, changed.keys() - bound)
        needs = tuple(
            place
            for place, other in enumerate(found)
            if other.id in around
            or not bound.isdisjoint(other.files)
            or (not changed.keys().isdisjoint(other.files) and _conflicts(repo, moved[place], here)[1] - bound)
        )
        found.append(Commit(commit, title, tuple(changed), needs, not bound))
        moved.append(here)
    return found


def independent_commits(repo: Path, start: str, end: str, most: int) -> list[tuple[Commit, str]]:
    """The first commits of a range whose change makes sense on its start, each with one of that change there.

    Where lines around the change differ there, the lines of the start stay and those that the commit adds follow. Left
    out are commits of housekeeping, which bots make.
    """
    found: list[tuple[Commit, str]] = []
    for line in git(repo, "log", "--first-parent", "--reverse", "--format=%H %s", f"{start}..{end}").splitlines():
        commit, _, title = line.partition(" ")
        if len(found) == most:
            break
        changed = _changed(repo, f"{commit}^1", commit)
        here = _settled(repo, start, commit) if changed else ""
        files = tuple(_changed(repo, start, here)) if here else ()
        if any(not _HOUSEKEEPING.match(path) for path in files):
            found.append((Commit(commit, title, files, ()), here))
    return found


_HOUSEKEEPING = re.compile(r"\.github/|\.pre-commit-config|requirements[/.]|\.readthedocs|\.editorconfig|\.gitignore")
_CONFLICT = re.compile(
    rb"^<{7} [^\n]*\n(?P<ours>.*?)^\|{7} [^\n]*\n(?P<base>.*?)^={7}\n(?P<theirs>.*?)^>{7} [^\n]*\n",
    re.MULTILINE | re.DOTALL,
)


def _settled(repo: Path, start: str, commit: str) -> str:
    """A commit's change on the start, every conflict settled by keeping both sides; empty if that is impossible."""
    before, ours, theirs = (git(repo, "rev-parse", f"{name}^{{tree}}") for name in (f"{commit}^1", start, commit))
    base = git(repo, "commit-tree", "-m", "-", before)
    left, right = (git(repo, "commit-tree", "-m", "-", "-p", base, tree) for tree in (ours, theirs))
    tree, conflicts = _conflicts(repo, left, right)
    environment = {**os.environ, "GIT_INDEX_FILE": str(repo / ".git" / "settled.index")}
    subprocess.run(["git", "read-tree", tree], cwd=repo, env=environment, check=True)
    for path in conflicts:
        marked = subprocess.run(["git", "show", f"{tree}:{path}"], cwd=repo, capture_output=True, check=False).stdout
        if not _CONFLICT.search(marked):
            return ""
        data = _CONFLICT.sub(_both, marked)
        blob = subprocess.run(
            ["git", "hash-object", "-w", "--stdin"], cwd=repo, input=data, capture_output=True, check=True
        )
        entry = f"100644,{blob.stdout.decode().strip()},{path}"
        subprocess.run(["git", "update-index", "--cacheinfo", entry], cwd=repo, env=environment, check=True)
    written = subprocess.run(["git", "write-tree"], cwd=repo, env=environment, capture_output=True, check=True)
    return git(repo, "commit-tree", "-m", "-", "-p", start, written.stdout.decode().strip())


def _both(conflict: re.Match[bytes]) -> bytes:
    known = set(conflict["base"].splitlines())
    added = [line for line in conflict["theirs"].splitlines(keepends=True) if line.rstrip(b"\n") not in known]
    return conflict["ours"] + b"".join(added)


def clone(folder: Path, repository: Path) -> Path:
    """Clone a repository without a checkout; it shares the objects of the original."""
    git(folder.parent, "clone", "-q", "--shared", "--no-checkout", str(repository.resolve()), str(folder))
    for key, value in (("user.name", "H"), ("user.email", "h@example.org"), ("advice.detachedHead", "false")):
        git(folder, "config", key, value)
    return folder


def declared_outside(repo: Path, start: str, name: str) -> Path:
    """Check out a commit as `main` and make room for declarations that are no part of it.

    Returns:
        The folder for the files of the milestone.
    """
    git(repo, "checkout", "-q", "-f", "-B", "main", start)
    (repo / ".git" / "info" / "exclude").write_text("/milestones/\n/rules/\n/dodo.py\n/.cache/\n", encoding="utf-8")
    place = repo / "milestones" / name
    place.mkdir(parents=True)
    (repo / "dodo.py").write_text("from executor.tasks import DOIT_CONFIG, task_milestones\n", encoding="utf-8")
    (repo / "rules").mkdir(exist_ok=True)
    (repo / "rules" / "limits.toml").write_text("attempts = 1\nbackoff_s = 0.0\n", encoding="utf-8")
    return place


def _changed(repo: Path, old: str, new: str) -> dict[str, str]:
    """Path -> how many lines are added and removed."""
    fields = git(repo, "diff", "--no-renames", "--numstat", "-z", old, new).split("\0")
    rows = (field.split("\t") for field in fields if field)
    return {path: f"{added} {removed}" for added, removed, path in rows}


def _moved(repo: Path, start: str, commit: str, changed: dict[str, str]) -> tuple[str, set[str]]:
    """A commit with the same change on the start, and the files in which that conflicts or is another change."""
    before, ours, theirs = (git(repo, "rev-parse", f"{name}^{{tree}}") for name in (f"{commit}^1", start, commit))
    # git merge-tree takes a base only from version 2.40 on, so it is given commits that have the right one.
    base = git(repo, "commit-tree", "-m", "-", before)
    left, right = (git(repo, "commit-tree", "-m", "-", "-p", base, tree) for tree in (ours, theirs))
    tree, conflicts = _conflicts(repo, left, right)
    here = _changed(repo, start, tree)
    other = {path for path in (*here, *changed) if here.get(path) != changed.get(path)}
    # Git follows renames, a patch does not: it takes away or creates a file with the content that it names.
    renamed = _names(repo, f"{commit}^1", commit, "--diff-filter=AD") & _names(repo, start, f"{commit}^1")
    return git(repo, "commit-tree", "-m", "-", "-p", start, tree), conflicts | other | renamed


_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? ", re.MULTILINE)


def _written_by(repo: Path, commit: str, files: Iterable[str]) -> set[str]:
    """Commits that wrote the lines that a commit changes, and the three above and below each change."""
    found: set[str] = set()
    for file in sorted(files):
        hunks = _HUNK.findall(_output(repo, "diff", "--no-renames", f"{commit}^1", commit, "--", file))
        ranges = [f"-L{first.decode()},+{count.decode() or 1}" for first, count in hunks if count != b"0"]
        if ranges:
            told = _output(repo, "blame", "--first-parent", "-l", "-s", *ranges, f"{commit}^1", "--", file)
            found |= {line.split(b" ", 1)[0].decode() for line in told.splitlines()}
    return found


def _conflicts(repo: Path, left: str, right: str) -> tuple[str, set[str]]:
    """The tree of a merge, and the files in conflict, which have markers in it."""
    done = subprocess.run(
        [
            "git",
            "-c",
            "merge.conflictStyle=diff3",
            "merge-tree",
            "--write-tree",
            "--name-only",
            "--no-messages",
            "-z",
            left,
            right,
        ],
        cwd=repo,
        capture_output=True,
        check=False,
    )
    tree, *conflicts = done.stdout.decode("utf-8", "surrogateescape").rstrip("\0").split("\0")
    return tree, {path for path in conflicts if path}


def _names(repo: Path, old: str, new: str, *options: str) -> set[str]:
    return set(filter(None, git(repo, "diff", "--no-renames", "--name-only", "-z", *options, old, new).split("\0")))


class _Replay:
    """Replays one range of a history in a separate folder."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._options = folder, options
        self._repo = folder / "repo"
        self._start, _, self._end = options.range.partition("..")
        self._kills = 0

    def measured(self) -> str:
        """Declare, run until done, and compare: a row of the table."""
        commits = self._declared()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = self._run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        landed = git(
            self._repo,
            "log",
            "--first-parent",
            "--format=%(trailers:key=Issue,valueonly,separator=)",
            f"main..{_BRANCH}",
        ).split()
        twice = sum(count - 1 for count in Counter(landed).values())
        same = git(self._repo, "rev-parse", f"{_BRANCH}^{{tree}}") == git(
            self._repo, "rev-parse", f"{self._end}^{{tree}}"
        )
        chain = _longest(commits)
        bound = max(chain * self._options.agent, len(commits) * self._options.agent / self._options.workers)
        work = [Todo(f"{n}", self._options.agent, tuple(map(str, item.needs))) for n, item in enumerate(commits)]
        planned = max(schedule(work, self._options.workers).values())
        ratio, real = (f"{seconds / best:.2f}" if best else "-" for best in (bound, planned))
        free = sum(not commit.needs for commit in commits)
        return (
            f"| {_name(self._options.repository)} | {self._options.range} | {len(commits)} "
            f"| {sum(len(commit.needs) for commit in commits)} | {chain} | {free} | {len(landed)} | {seconds:.1f} "
            f"| {bound:.1f} | {ratio} | {planned:.1f} | {real} | {spent:.1f} "
            f"| {self._kills} | {self._twice_at_work()} | {twice} "
            f"| {'identical' if same else 'DIFFERENT'} |"
        )

    def _declared(self) -> list[Commit]:
        repo = clone(self._repo, self._options.repository)
        self._start, self._end = (git(repo, "rev-parse", f"{name}^{{commit}}") for name in (self._start, self._end))
        commits = commits_of(repo, self._start, self._end)
        place = declared_outside(repo, self._start, "history")
        lines = ['[milestone]\nid = "history"\ntitle = "History"\n']
        for number, commit in enumerate(commits):
            patch = place / f"{number}.patch"
            patch.write_bytes(
                _output(repo, "diff", "--binary", "--full-index", "--no-renames", f"{commit.id}^1", commit.id)
            )
            lines.append(self._issue(number, commit, patch))
        (repo / "milestones" / "history.toml").write_text("\n".join(lines), encoding="utf-8")
        return commits

    def _issue(self, number: int, commit: Commit, patch: Path) -> str:
        agent = f'agent = "patch"\nwith = {{ file = "history/{patch.name}" }}'
        if self._options.agent:
            run = f"sleep {self._options.agent:g}; git apply --3way --whitespace=nowarn '{patch}'"
            agent = f'agent = "script"\nwith = {{ run = {json.dumps(run)} }}'
        return (
            f'[[issue]]\nid = "h{number}"\ntitle = {json.dumps(commit.title[:100] or "-")}\n'
            f"body = {json.dumps(commit.title or '-')}\nallow = {json.dumps([*STOPS, 'spec-problem'])}\n"
            f"needs = {json.dumps([f'h{need}' for need in commit.needs])}\n{agent}\n"
        )

    def _run(self) -> float:
        """Run the milestone to its end, however often it is killed; returns the seconds of all runs."""
        chance = random.Random(self._options.seed)  # noqa: S311  (no secret)
        command = [sys.executable, "-m", "executor", "milestone:history", "-n", str(self._options.workers)]
        began = time.perf_counter()
        with (self._folder / "out").open("ab") as out:
            while True:
                run = subprocess.Popen(command, cwd=self._repo, stdout=out, stderr=out, env=_ENVIRONMENT)
                patience = self._options.kill * chance.uniform(0.4, 1.6) if self._options.kill else None
                try:
                    code = run.wait(patience)
                except subprocess.TimeoutExpired:
                    run.kill()
                    run.wait()
                    self._kills += 1
                    continue
                break
        if code:
            sys.stderr.write((self._folder / "out").read_text(encoding="utf-8", errors="replace")[-4000:])
        return time.perf_counter() - began

    def _twice_at_work(self) -> int:
        """Agents that ended well more than once for an issue."""
        journal = self._repo / ".cache" / "history"
        records = (line for path in sorted(journal.glob("journal.*.jsonl")) for line in path.read_bytes().splitlines())
        built = Counter(record["key"] for record in map(json.loads, records) if record["e"] == "attempt-built")
        return sum(count - 1 for count in built.values())


def _name(repository: Path) -> str:
    path = repository.resolve()
    return (path if path.name not in {"repo", ".git"} else path.parent).name


def _longest(commits: list[Commit]) -> int:
    """How many issues the longest chain of needs has."""
    depth: list[int] = []
    for commit in commits:
        depth.append(1 + max((depth[need] for need in commit.needs), default=0))
    return max(depth, default=0)


def _output(repo: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=repo, capture_output=True, check=True).stdout
