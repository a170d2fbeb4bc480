"""A milestone with a remote: branches are pushed, what is on the remote counts, and nothing is done twice."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

BRANCH = "milestone/m1-test-m1"
THREE = (
    issue("a", "echo a > a")
    + issue("b", "echo b > b", needs=["a"])
    + issue("c", "echo c > c", number=7, title="Sea: view")
)


def bare(folder: Path) -> str:
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], check=True)
    return str(folder)


@pytest.fixture
def up(repo: Repo) -> Path:
    """The bare remote `origin` of the repository, with its main branch."""
    folder = repo.path.parent / "up.git"
    repo.git("remote", "add", "origin", bare(folder))
    repo.write("rules/forge.toml", 'remote = "origin"\n')
    return folder


def declared(repo: Repo, body: str = THREE) -> None:
    repo.milestone("m1", body)
    repo.commit("declare")
    repo.git("push", "-q", "origin", "main")


def tip(folder: Path, branch: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "-q", "--verify", branch], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def clone(repo: Repo, up: Path, name: str = "second") -> Repo:
    folder = repo.path.parent / name
    subprocess.run(["git", "clone", "-q", str(up), str(folder)], check=True)
    other = object.__new__(Repo)
    other.path = folder
    other.git("config", "user.name", "Other")
    other.git("config", "user.email", "other@example.org")
    return other


def branches(up: Path) -> list[str]:
    out = subprocess.run(
        ["git", "-C", str(up), "for-each-ref", "--format=%(refname)"], capture_output=True, text=True, check=True
    )
    return out.stdout.split()


def test_what_lands_is_on_the_remote_and_running_again_does_nothing(repo: Repo, up: Path) -> None:
    declared(repo)
    assert "3 landed" in repo.doit("milestone:m1").check().out
    assert sorted(repo.landed(BRANCH)) == ["a@1", "b@1", "c@1"]
    assert tip(up, BRANCH) == repo.git("rev-parse", BRANCH)
    assert branches(up) == ["refs/heads/main", f"refs/heads/{BRANCH}"]
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    shutil.rmtree(repo.path / ".cache")
    assert "nothing to do" in repo.doit("milestone:m1").check().out


def test_a_second_clone_without_a_cache_has_nothing_to_do(repo: Repo, up: Path) -> None:
    declared(repo)
    repo.doit("milestone:m1").check()
    other = clone(repo, up)
    assert "3 landed" in other.doit("milestone:m1").check().out
    assert other.git("rev-parse", BRANCH) == tip(up, BRANCH) == repo.git("rev-parse", BRANCH)
    assert other.attempts() == []
