"""Git killed at each of its system calls in the middle of a run, which is then simply run again: nothing is stuck.

The git that the product finds on PATH is a script which starts the real one; the one call that a trial is about runs
under strace, which kills it at a given system call.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.reliability.world import assert_done, copied

if TYPE_CHECKING:
    from pathlib import Path

    from tests.reliability.conftest import Templates
    from tests.reliability.hatchery import Hatched, Hatchery

STRACE = shutil.which("strace")
GIT = shutil.which("git")
CHAIN = 8
WRITING = (
    *("-m milestone m1", "-m attempt 1 failed", "-m attempt", "-m land", "hash-object -t commit"),
    *("hash-object -t tree", "write-tree", "update-index", "read-tree --reset", "apply"),
)
HIDDEN = ("write-tree", "update-index")
"""Git does these only for files that the executor does not store itself, such as hidden ones."""
MOST = 70
"""Faults of one operation, drawn where it has more."""
MANY = "fghijklm"
KINDS = {
    "-m attempt 1 failed": "d",
    "hash-object -t commit": "abcd",
    "hash-object -t tree": "abcd",
    "apply": "c",
} | dict.fromkeys(("write-tree", "read-tree --reset"), MANY)
"""The issues of the milestone in which a call is killed: many where a run kills it in one issue after the other."""
READING = ("diff-tree", "ls-files", "for-each-ref", "log", "cat-file")
"""Calls of git that the product makes, by a part of their arguments."""
SAMPLE = 30
CHANGING = {"mkdir", "unlink", "link", "rename", "rmdir", "symlink"}
SCRIPT = """#!/bin/sh
if read -r wanted 2>/dev/null < {folder}/wanted; then
  case "$*" in
  *"$wanted"*)
    read -r inject < {folder}/inject
    if mkdir {folder}/met 2>/dev/null; then exec {strace} -qq -o {folder}/trace $inject {git} "$@"; fi;;
  esac
fi
exec {git} "$@"
"""


@dataclass(frozen=True)
class Fault:
    """The n-th system call of a name in the first call of git that has these words."""

    operation: str
    call: str
    nth: int
    changes: bool
    """Whether the call makes, moves or removes a file."""

    @property
    def inject(self) -> str:
        return f"-e trace={self.call} -e inject={self.call}:signal=KILL:when={self.nth}"


class KilledGit:
    """Runs in which one call of git is watched or killed."""

    def __init__(self, hatchery: Hatchery, templates: Templates, folder: Path) -> None:
        self.hatchery, self.templates, self.folder = hatchery, templates, folder
        self.repo = templates("a")
        self.killed = 0
        (folder / "bin").mkdir()
        script = folder / "bin" / "git"
        script.write_text(SCRIPT.format(folder=folder, strace=STRACE, git=GIT))
        script.chmod(0o755)
        self.env = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "LC_RAN": str(folder / "ran")}

    def begin(self, operation: str) -> None:
        """Go on in a repository where nothing was done yet."""
        shutil.rmtree(self.folder / "repo", ignore_errors=True)
        self.repo = copied(self.templates(KINDS.get(operation, "a")), self.folder / "repo")
        if operation in HIDDEN:
            declared = self.folder / "repo" / "milestones" / "m1.toml"
            text = re.sub(r"echo (\w) > \1", r"echo \1 > \1; echo \1 > .\1", declared.read_text())
            declared.write_text(text)
            self.repo.git("commit", "-q", "-a", "-m", "hidden files")

    def calls_of(self, operation: str) -> list[Fault]:
        """Every system call of that operation, where a run is killed that is not killed otherwise."""
        self.begin(operation)
        self._run(operation, "-e trace=all").check()
        trace = self.folder / "trace"
        if not trace.exists():
            return []
        seen: Counter[str] = Counter()
        found = []
        for line in trace.read_text(errors="replace").splitlines():
            name = line.partition("(")[0]
            if name.isidentifier():
                seen[name] += 1
                changes = name in CHANGING or "O_CREAT" in line
                found.append(Fault(operation, name, seen[name], changes))
        return found[1:]  # the first one starts it

    def kill(self, fault: Fault) -> None:
        """One run in which this happens, if it comes to it."""
        ended = self._run(fault.operation, fault.inject)
        assert ended.code in {0, 1, 2, 4}, f"{fault}\n{ended.out}"
        assert "Traceback" not in ended.out, f"{fault}\n{ended.out}"
        trace = self.folder / "trace"
        self.killed += trace.exists() and "killed by SIGKILL" in trace.read_text(errors="replace")

    def in_chains(self, faults: list[Fault]) -> None:
        """Every fault in a run of its own, several one after the other in the same repository."""
        rest = list(faults)
        while rest:
            self.begin(rest[-1].operation)
            chain: list[Fault] = []
            while rest and len(chain) < CHAIN:
                before = self.killed
                chain.append(rest.pop())
                self.kill(chain[-1])
                if self.killed == before:  # nothing like it was left to do, so that nothing was disturbed
                    rest += [chain.pop()] if len(chain) > 1 else []
                    break
            self.finish(chain)

    def finish(self, faults: list[Fault]) -> None:
        """Run again; now everything has to come to its end."""
        (self.folder / "wanted").unlink(missing_ok=True)
        ended = self.hatchery.run(self.repo.path, "milestone:m1", env=self.env)
        assert ended.code == 0, f"{faults}\n{ended.out}"
        try:
            assert_done(self.repo, idle="nothing to do" in ended.out)
        except AssertionError as error:
            raise AssertionError(f"{faults}\n{ended.out}\n{error}") from error

    def _run(self, operation: str, inject: str) -> Hatched:
        (self.folder / "wanted").write_text(f"{operation}\n")
        (self.folder / "inject").write_text(f"{inject}\n")
        (self.folder / "trace").unlink(missing_ok=True)
        shutil.rmtree(self.folder / "met", ignore_errors=True)
        return self.hatchery.run(self.repo.path, "milestone:m1", "-n", "1", env=self.env)


@pytest.fixture
def git(hatchery: Hatchery, templates: Templates, in_memory: Path) -> KilledGit:
    if STRACE is None or subprocess.run([STRACE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("strace is not installed, or may not trace here")
    return KilledGit(hatchery, templates, in_memory)


def changing(faults: list[Fault]) -> list[Fault]:
    """Those from the first one on that can leave something behind."""
    first = next((n for n, fault in enumerate(faults) if fault.changes), len(faults))
    return faults[first:]


@pytest.mark.parametrize("operation", ["-m land", "hash-object -t tree", "write-tree"])
def test_a_git_killed_in_the_middle_is_made_up_for_by_the_next_run(git: KilledGit, operation: str) -> None:
    faults = random.Random(5).sample(changing(git.calls_of(operation)), 5)  # noqa: S311  (no secret)
    git.begin(operation)
    for fault in faults:
        git.kill(fault)
    git.finish(faults)
    assert git.killed >= 1


@pytest.mark.campaign
@pytest.mark.parametrize("operation", WRITING)
def test_a_git_killed_at_every_system_call_is_made_up_for_by_the_next_run(git: KilledGit, operation: str) -> None:
    faults = changing(git.calls_of(operation))
    faults = random.Random(operation).sample(faults, min(MOST, len(faults)))  # noqa: S311  (no secret)
    git.in_chains(faults)
    assert git.killed > 0.9 * len(faults)


@pytest.mark.campaign
@pytest.mark.parametrize("operation", READING)
def test_a_git_that_only_reads_killed_anywhere_is_made_up_for_by_the_next_run(git: KilledGit, operation: str) -> None:
    faults = random.Random(operation).sample(git.calls_of(operation), SAMPLE)  # noqa: S311  (no secret)
    git.in_chains(faults)
    assert git.killed > 0.5 * SAMPLE
