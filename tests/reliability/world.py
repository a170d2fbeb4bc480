"""A small milestone with one issue of every kind, copied for each trial, and what must hold when it is done."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.support import Repo, issue

__all__ = ["BRANCH", "EXPECTED", "TAG", "World", "assert_done", "copied", "leftovers", "processes", "template"]

BRANCH = "milestone/m1-test-m1"
TAG = "LC_EXECUTOR_RELIABILITY"
"""A variable that children are given, so that survivors can be found."""
EXPECTED = {"a": "a", "b": "b", "c": "c", "d": "d", "old": "new"}
"""File of the milestone branch -> what is in it in the end."""
LANDED = ["a@1", "b@1", "c@1", "d@1", "e@1"]
PATCH = """--- /dev/null
+++ b/c
@@ -0,0 +1 @@
+c
"""


class World(Repo):
    """A repository that is there already."""

    def __init__(self, path: Path) -> None:
        self.path = path


def template(path: Path) -> World:
    """A milestone that is not begun: agents, a patch, acceptance, a need, an attempt that fails, a file that changes.

    The agents write down outside of the repository, in ``../ran``, that they were asked, so that being asked twice
    for the same thing is seen.
    """
    repo = Repo(path)
    repo.write("milestones/m1/c.patch", PATCH)
    repo.write("old", "old\n")

    def says(name: str, run: str) -> str:
        return f'echo {name} >> "$LC_RAN"; {run}'

    repo.milestone(
        "m1",
        issue("a", says("a", "echo a > a"))
        + 'accept = [{ run = "test -e a" }]\n'
        + issue("b", says("b", "echo b > b"), needs=["a"])
        + issue("c", agent="patch", **{"with": {"file": "m1/c.patch"}})
        + issue("d", says("d", 'test "$EXECUTOR_ATTEMPT" != 1 && echo d > d'))
        + issue("e", says("e", "echo new > old; rm -f gone"), needs=["c"]),
    )
    repo.write("rules/limits.toml", "backoff_s = 0.0\n")
    repo.commit("declare")
    return World(path)


def assert_done(repo: World, *, idle: bool = False, restarted: bool = False) -> None:
    """Everything landed once, nothing was paid for twice, and nothing is left over.

    Args:
        repo: where.
        idle: whether the last run had nothing to do; such a run clears nothing away.
        restarted: whether the machine was; what an agent had done and was not yet under a ref is then done again.
    """
    shown = repo.git("show", *(f"{BRANCH}:{name}" for name in EXPECTED))
    assert shown.split() == list(EXPECTED.values())
    assert sorted(repo.landed(BRANCH)) == LANDED
    refs = repo.git("for-each-ref", "--format=%(contents:trailers:key=Outcome,valueonly)", "refs/attempts/")
    assert set(refs.split()) <= {"interrupted", "agent"}
    assert idle or len(refs.split()) == len(repo.attempts())
    for name in "abde":
        assert restarted or len(good_results(repo, name)) <= 1, f"{name} was paid for twice"
    assert repo.git("fsck", "--connectivity-only", "--no-dangling") == ""
    assert repo.git("status", "--porcelain") == ""
    assert leftovers(repo.path, temporary=not idle) == []


def good_results(repo: World, name: str) -> list[str]:
    """Attempts of an issue whose agent ended well, as far as that was kept."""
    found = []
    for path in sorted((repo.path / ".cache" / "m1" / "logs" / name).glob("*/agent.result.json")):
        told = json.loads(path.read_bytes())
        if told["reason"] == "exited" and told["code"] == 0:
            found.append(path.parent.name)
    return found


def leftovers(path: Path, *, temporary: bool = True) -> list[str]:
    """Locks and temporary files that nobody will remove any more."""
    git = [item for item in (path / ".git").rglob("*") if item.name.endswith(".lock") or item.name.startswith("tmp_")]
    cache = path / ".cache"
    own = [*cache.rglob("*.new"), *cache.rglob("*.lock.lock"), *cache.rglob("*.index.lock"), *cache.rglob("*.result")]
    if temporary:
        own += [item for item in cache.rglob(".*.*") if item.is_file() and "tree" not in item.parts]
    return sorted(str(item.relative_to(path)) for item in (*git, *own))


def processes(value: str) -> list[int]:
    """Living processes that carry the tag."""
    wanted = f"{TAG}={value}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if wanted in (entry / "environ").read_bytes() + b"\0":
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def copied(source: World, target: Path) -> World:
    """Another one like it."""
    shutil.copytree(source.path, target, symlinks=True)
    return World(target)
