"""Every shape of repository: landed once, nothing of the user's changed, nothing paid for twice.

The suite has a cheap slice; the campaign has every shape with every course of events.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.repositories.shapes import BRANCH, SHAPES, at, identified, sh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.repositories.shapes import Shape
    from tests.support import Repo

EVENTS = ("run", "kill", "no-cache", "clone", "release")
CHEAP = {"run": True, "release": True}


def digest(top: Path) -> dict[str, str]:
    """Every file of a checkout, ignored ones included, without git's and the executor's own folders."""
    found = {}
    for path in sorted(files(top)):
        name = str(path.relative_to(top))
        found[name] = str(path.readlink()) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def files(top: Path) -> Iterator[Path]:
    for folder, names, plain in os.walk(top):
        names[:] = [name for name in names if name not in {".git", ".cache", "__pycache__"}]
        yield from (Path(folder) / name for name in plain if name != ".git")
        yield from (Path(folder) / name for name in names if (Path(folder) / name).is_symlink())


def top_of(repo: Repo) -> Path:
    return Path(repo.git("rev-parse", "--show-toplevel"))


def tree_of(repo: Repo, commit: str) -> set[str]:
    return set(repo.git("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).split("\0"))


def landed_tip(repo: Repo) -> str:
    """The commit that has everything that landed: the branch, or the place beyond it where a checkout cannot follow."""
    held = repo.git("rev-parse", "-q", "--verify", "refs/executor/ahead/m1", check=False)
    return held or repo.git("rev-parse", f"refs/heads/{BRANCH}")


def assert_landed_once(repo: Repo, commit: str) -> None:
    """Both issues have landed, each with one attempt, and their files are where they belong."""
    landed = [line for line in repo.landed(commit) if line]
    assert sorted(landed) == ["1@1", "2@1"], landed
    assert repo.statuses() == {"m1/1": "landed", "m1/2": "landed"} | {
        ref: status for ref, status in repo.statuses().items() if not ref.startswith("m1/")
    }
    prefix = repo.git("rev-parse", "--show-prefix")
    assert {f"{prefix}one.txt", f"{prefix}two.txt"} <= tree_of(repo, commit)


def attempts_made(repo: Repo) -> int:
    """Attempts that were begun, by what is left of their logs."""
    return len(list((repo.path / ".cache" / "m1" / "logs").glob("*/[0-9]*")))


@pytest.fixture
def before() -> dict[str, dict[str, str]]:
    return {}


def cases() -> list[object]:
    found: list[object] = []
    for shape in SHAPES.values():
        for event in EVENTS:
            cheap = shape.cheap and CHEAP.get(event, False) and (event == "run" or shape.name == "plain")
            marks = () if cheap else (pytest.mark.campaign,)
            found.append(pytest.param(shape, event, id=f"{shape.name}-{event}", marks=marks))
    return found


@pytest.mark.parametrize(("shape", "event"), cases())
def test_every_issue_lands_once_and_the_users_files_stay(shape: Shape, event: str, tmp_path: Path) -> None:
    """Whatever the repository is like, and whatever happens to the run."""
    repo = shape.build(tmp_path)
    top = top_of(repo)
    was, status = digest(top), repo.git("status", "--porcelain")
    on_branch = repo.git("symbolic-ref", "-q", "HEAD", check=False) == f"refs/heads/{BRANCH}"
    COURSES[event](repo)
    tip = landed_tip(repo)
    assert_landed_once(repo, tip)
    now = digest(top)
    assert {name: now.get(name) for name in was} == was, "a file of the user's changed"
    if on_branch and not status:
        assert now.keys() - was.keys() == {"one.txt", "two.txt"}
    elif not on_branch:
        assert now == was
    assert repo.git("status", "--porcelain") == status
    repo.doit("milestone:m1").check(0)
    assert attempts_made(repo) <= (3 if event == "kill" else 2)
    if event == "release":
        release(repo, shape)


def run(repo: Repo) -> None:
    repo.doit("milestone:m1").check(0)


def kill(repo: Repo) -> None:
    """Kill the run somewhere in the middle, then run again."""
    process = repo.start("milestone:m1")
    time.sleep(0.9)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    repo.doit("milestone:m1").check(0)


def no_cache(repo: Repo) -> None:
    repo.doit("milestone:m1").check(0)
    shutil.rmtree(repo.path / ".cache")


def fresh_clone(repo: Repo) -> None:
    """What landed is pushed to a hub by hand; a clone of it, on another machine, knows it."""
    repo.doit("milestone:m1").check(0)
    top = top_of(repo)
    inside = repo.path.resolve().relative_to(top.resolve())
    hub = top.parent / "hub.git"
    tip = landed_tip(repo)
    if repo.git("rev-parse", "--is-shallow-repository") == "true" or (top / ".git/info/grafts").is_file():
        return  # git pushes from it as far as it can; that is no clone to look at
    form = repo.git("rev-parse", "--show-object-format")
    sh(top, f"git init -q --bare --object-format={form} '{hub}'")
    sh(top, f"git push -q '{hub}' {tip}:refs/heads/{BRANCH} HEAD:refs/heads/work")
    base = next((name for name in ("main", "master", "trunk") if repo.git("branch", "--list", name)), "")
    if base:
        sh(top, f"git push -q '{hub}' refs/heads/{base}:refs/heads/{base}")
    sh(top.parent, f"git clone -q -b {base or 'work'} '{hub}' fresh")
    fresh = identified(top.parent / "fresh")
    there = at(fresh.path / inside)
    if not base:
        return
    assert set(there.statuses("m1").values()) == {"landed"}
    there.doit("milestone:m1").check(0)
    assert attempts_made(there) == 0


def release(repo: Repo, shape: Shape) -> None:
    if repo.git("status", "--porcelain", "--untracked-files=no"):
        return  # a person commits first; what is held back has tests of its own
    lock = Path(repo.git("rev-parse", "--absolute-git-dir")) / "index.lock"
    if lock.exists():
        assert "index.lock" in repo.doit("release:m1").check(4).out
        lock.unlink()
    repo.doit("release:m1").check(0)
    prefix = repo.git("rev-parse", "--show-prefix")
    assert {f"{prefix}one.txt", f"{prefix}two.txt"} <= tree_of(repo, f"refs/heads/{shape.base}")
    found = repo.doit("status", "--json").check(0).json["milestones"]
    assert {item["id"]: item["status"] for item in found}["m1"] == "released"
    assert not repo.git("status", "--porcelain", "--untracked-files=no")


COURSES = {"run": run, "kill": kill, "no-cache": no_cache, "clone": fresh_clone, "release": run}
