"""Small milestones with issues of several kinds, copied for each trial, and what must hold when they are done."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.support import Repo, issue

__all__ = ["BRANCH", "TAG", "World", "assert_done", "copied", "leftovers", "processes", "template"]

BRANCH = "milestone/m1-test-m1"
TAG = "LC_EXECUTOR_RELIABILITY"
"""A variable that children are given, so that survivors can be found."""
EVERY = "abcde"
PATCH = """--- /dev/null
+++ b/c
@@ -0,0 +1 @@
+c
"""


class World(Repo):
    """A repository that is there already, with a milestone of these issues."""

    def __init__(self, path: Path, names: str = EVERY) -> None:
        self.path, self.names = path, names


def template(path: Path, names: str = EVERY, *, mode: str = "") -> World:
    """A milestone that is not begun, of issues with one letter each; with `mode`, a check and how results land.

    a: an agent, with acceptance. b: needs a. c: a patch. d: an attempt that fails, and a good one. e: needs c, and
    changes a file. Any other: an agent. The agents write down outside of the repository, in ``../ran``, that they were
    asked, so that being asked twice for the same thing is seen.
    """
    repo = Repo(path)
    repo.write("milestones/m1/c.patch", PATCH)
    repo.write("old", "old\n")

    def says(name: str, run: str) -> str:
        return f'echo {name} >> "$LC_RAN"; {run}'

    kinds = {
        "a": issue("a", says("a", "echo a > a")) + 'accept = [{ run = "test -e a" }]\n',
        "b": issue("b", says("b", "echo b > b"), needs=["a"]),
        "c": issue("c", agent="patch", **{"with": {"file": "m1/c.patch"}}),
        "d": issue("d", says("d", 'test "$EXECUTOR_ATTEMPT" != 1 && echo d > d')),
        "e": issue("e", says("e", "echo new > old; rm -f gone"), needs=["c"]),
    }
    others = {name: issue(name, says(name, f"echo {name} > {name}")) for name in names}
    checked = '[defaults]\nchecks = ["all"]\n' if mode else ""
    repo.milestone("m1", checked + "".join((others | kinds)[name] for name in names))
    repo.write("rules/limits.toml", "backoff_s = 0.0\n")
    if mode:
        repo.write("rules/landing.toml", f'mode = "{mode}"\n')
        check = '[check.all]\nrun = "grep -q old old"\nsabotage = "off"\nsabotage_reason = "a test"\n'
        repo.write("rules/checks.toml", check)
    repo.commit("declare")
    return World(path, names)


def assert_done(repo: World, *, idle: bool = False, restarted: bool = False) -> None:
    """Everything landed once, nothing was paid for twice, and nothing is left over.

    Args:
        repo: where.
        idle: whether the last run had nothing to do; such a run clears nothing away.
        restarted: whether the machine was; what an agent had done and was not yet under a ref is then done again.
    """
    files = [("old", "new") if name == "e" else (name, name) for name in repo.names]
    assert repo.git("show", *(f"{BRANCH}:{file}" for file, _ in files)).split() == [text for _, text in files]
    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in repo.names]
    refs = repo.git("for-each-ref", "--format=%(contents:trailers:key=Outcome,valueonly)", "refs/attempts/")
    assert set(refs.split()) <= {"interrupted", "agent"}
    assert idle or len(refs.split()) == len(repo.attempts())
    for name in set(repo.names) - {"c"}:
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
    return World(target, source.names)
