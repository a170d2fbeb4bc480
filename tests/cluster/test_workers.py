"""Agents of a milestone work on other hosts: folders with homes of their own, and a bare remote between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import CHECKOUT, Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FAR = 'kind = "git"\nbeat_s = 0.3\npatience_s = 3.0\npoll_s = 0.2\n'
BRANCH = "milestone/m1-test-m1"


class Far:
    """A repository whose agents work on workers of a remote."""

    def __init__(self, folder: Path, repo: Repo, rules: str = "isolated = true\n") -> None:
        self.folder, self.repo, self.remote = folder, repo, folder / "origin.git"
        subprocess.run(["git", "init", "-q", "--bare", str(self.remote)], check=True)
        repo.git("remote", "add", "origin", str(self.remote))
        repo.write("rules/runners.toml", f"[runner.far]\n{FAR}{rules}")
        repo.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nrunner = "far"\n')

    def refs(self) -> list[str]:
        words = ["git", "-C", str(self.remote), "for-each-ref", "--format=%(refname)"]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()

    def start_worker(self, name: str, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a worker on a host: a folder with a home and an environment of its own."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), **variables}
        command = [sys.executable, "-m", "executor", "worker", "--remote", str(self.remote), "--poll", "0.2", *words]
        with (home / "said").open("ab") as said:
            return subprocess.Popen(command, cwd=home, env=env, stderr=said, start_new_session=True)

    @contextmanager
    def worker(self, name: str, *words: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """Have a worker during the block."""
        process = self.start_worker(name, *words, **variables)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(30)

    def events(self, kind: str, ref: str = "m1/a") -> list[Any]:
        lines = self.repo.doit("log", ref, "--events", "--json").check().out.splitlines()
        return [item for item in map(json.loads, lines) if item["event"] == kind]

    def said(self, name: str) -> str:
        return (self.folder / name / "said").read_text()


@pytest.fixture
def far(repo: Repo, tmp_path: Path) -> Far:
    return Far(tmp_path, repo)


def until(holds: Callable[[], bool], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_worker_elsewhere_does_an_issue_and_it_lands(far: Far) -> None:
    far.repo.milestone(
        "m1", issue("a", "echo $HOME > a; echo seen; head -c1 $EXECUTOR_BRIEF; git log --oneline; rm .gitignore")
    )
    with far.worker("box"):
        far.repo.doit("milestone:m1").check()
    assert far.repo.landed(BRANCH) == ["a@1"]
    assert far.repo.git("show", f"{BRANCH}:a") == str(far.folder / "box")
    assert far.repo.git("ls-tree", "--name-only", BRANCH, ".gitignore") == ""
    assert "seen" in far.repo.doit("log", "m1/a").check().out
    assert [(item["runner"], item["attempt"]) for item in far.events("work-hosted")] == [("far", 1)]
    assert far.refs() == []
    assert not list((far.folder / "box/.cache/make-for-milestones/worker").glob("*/*/pending.json"))
