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


def test_what_another_clone_landed_is_built_on(repo: Repo, up: Path) -> None:
    declared(repo)
    repo.doit("issue:m1/a").check()
    other = clone(repo, up)
    other.doit("issue:m1/c").check()
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH) == ["a@1", "c@1", "b@1"]
    assert tip(up, BRANCH) == repo.git("rev-parse", BRANCH)


def test_what_waits_for_a_person_is_pushed_as_a_branch_and_used_by_another_clone(repo: Repo, up: Path) -> None:
    declared(repo, issue("a", "echo 'x==1' > requirements.txt"))
    repo.doit("milestone:m1").check(4)
    head = "refs/heads/feat/m1-a-issue-a"
    made = tip(up, head)
    assert made == repo.git("rev-parse", "refs/attempts/m1/a/1")
    other = clone(repo, up)
    assert "the result on origin is used" in other.doit("milestone:m1").check(4).out
    other.doit("approve", "m1/a", "--reason", "wanted").check()
    other.doit("milestone:m1").check()
    assert branches(up) == ["refs/heads/main", f"refs/heads/{BRANCH}"]
    repo.doit("milestone:m1").check()
    assert repo.statuses() == {"m1/a": "landed"}
    assert repo.attempts() == []


def test_branches_that_have_both_gone_on_are_for_a_person_to_bring_together(repo: Repo, up: Path) -> None:
    declared(repo)
    repo.doit("issue:m1/a").check()
    base = repo.git("rev-parse", f"{BRANCH}^")
    other = repo.git("commit-tree", f"{base}^{{tree}}", "-p", base, "-m", "else")
    repo.git("push", "-q", "-f", "origin", f"{other}:refs/heads/{BRANCH}")
    result = repo.doit("milestone:m1").check(4)
    assert f"{BRANCH} differs here" in result.err
    assert tip(up, BRANCH) == other


def test_a_remote_that_cannot_be_reached_costs_nothing_and_is_tried_later(repo: Repo, up: Path) -> None:
    declared(repo)
    up.rename(up.with_name("away"))
    result = repo.doit("milestone:m1").check(4)
    assert 'the remote "origin" refuses' in result.err
    assert repo.attempts() == []
    up.with_name("away").rename(up)
    repo.doit("milestone:m1").check()


def test_a_remote_that_takes_no_push_to_the_branch_says_so(repo: Repo, up: Path) -> None:
    declared(repo, issue("a", "echo a > a"))
    repo.doit("status", "--refresh").check()
    hook = up / "hooks" / "pre-receive"
    hook.write_text(f"#!/bin/sh\nwhile read old new ref; do\n  [ $ref != refs/heads/{BRANCH} ] || exit 1\ndone\n")
    hook.chmod(0o755)
    out = repo.doit("milestone:m1").check(4).out
    assert f"{BRANCH} cannot be pushed to origin: [remote rejected] (pre-receive hook declined)" in out
    assert repo.statuses() == {"m1/a": "review"}
    hook.unlink()
    repo.doit("milestone:m1").check()


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ('remote = "nowhere"', 'the remote "nowhere" does not exist; run `git remote add nowhere ADDRESS`'),
        ('kind = "github"', "no token for github.com: set GITHUB_TOKEN or log in with `gh auth login`"),
    ],
)
def test_what_is_missing_is_reported_before_anything_is_done(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, rules: str, told: str
) -> None:
    for name in ("GITHUB_TOKEN", "GH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GH_CONFIG_DIR", str(repo.path.parent))
    repo.write("rules/forge.toml", f"{rules}\n")
    repo.milestone("m1", issue("a", "echo a > a"))
    assert told in repo.doit("milestone:m1").check(4).err
    assert repo.attempts() == []


def test_tracking_files_are_pushed_to_a_branch_of_their_own(repo: Repo) -> None:
    up = repo.path.parent / "up.git"
    repo.git("remote", "add", "origin", bare(up))
    repo.write("rules/forge.toml", 'kind = "local"\nremote = "origin"\n')
    repo.write("rules/status.toml", 'tracking = "docs/TRACKING.md"\npush_to = "tracking"\n')
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.commit("declare")
    repo.git("push", "-q", "origin", "main")
    out = repo.doit("milestone:m1").check().out
    assert "note" not in out
    show = ["-C", str(up), "show", "tracking:docs/TRACKING.md"]
    assert "1 of 1 landed" in repo.git(*show)
    assert repo.git("-C", str(up), "ls-tree", "-r", "--name-only", "tracking") == "docs/TRACKING.md"
    before = tip(up, "tracking")
    repo.doit("milestone:m1").check()
    assert tip(up, "tracking") == before
    repo.write("rules/status.toml", 'tracking = "docs/TRACKING.md"\npush_to = "main"\n')
    repo.milestone("m1", issue("a", "echo a > a") + issue("b", "echo b > b"))
    main = tip(up, "main")
    assert "push_to: main has other commits on origin" in repo.doit("milestone:m1").check().out
    assert tip(up, "main") == main
