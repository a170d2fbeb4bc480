"""`doit gc` shows what it would remove, and removes nothing that has not landed before its time has come."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import issue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

NAME = "milestone/m1-test-m1"
OLD = "2020-01-01T00:00:00Z"


def aged(repo: Repo, ref: str) -> None:
    """The same commit as if made long ago."""
    tree, message = repo.git("rev-parse", f"{ref}^{{tree}}"), repo.git("log", "-1", "--format=%B", ref)
    os.environ["GIT_COMMITTER_DATE"] = OLD
    try:
        repo.git("update-ref", ref, repo.git("commit-tree", "-p", f"{ref}^", "-m", message, tree))
    finally:
        del os.environ["GIT_COMMITTER_DATE"]


def old(path: Path) -> None:
    os.utime(path, (0, 0))


def removed(repo: Repo, *options: str) -> set[str]:
    found = repo.doit("gc", "--json", *options).check().json
    return {item["what"] for item in found if not item["kept"]}


def test_failed_attempts_and_logs_go_by_age_and_only_then(repo: Repo) -> None:
    bad = issue("bad", "echo $EXECUTOR_ATTEMPT > bad", accept=[{"run": "false"}])
    wait = issue("wait", "mkdir migrations; echo > migrations/0001.sql")
    repo.milestone("m1", bad + wait + issue("good", "echo good > good"))
    repo.doit("milestone:m1").check(1)
    waiting = "refs/attempts/m1/wait/1"
    assert removed(repo, "--dry-run") == {".cache/m1/workspaces"}
    aged(repo, "refs/attempts/m1/bad/1")
    aged(repo, waiting)  # a person has yet to look at it: it stays however old it is
    repo.git("update-ref", "refs/attempts/m1/good/1", NAME)
    repo.git("update-ref", "refs/attempts/gone/a/1", "refs/attempts/m1/bad/1")
    repo.git("update-ref", "refs/attempts/gone/a/2", "refs/attempts/m1/bad/2")
    repo.git("update-ref", "refs/attempts/odd", "main")
    logs = repo.path / ".cache" / "m1" / "logs"
    for place in (logs / "bad" / "1", logs / "wait" / "1"):
        old(place)
    expected = {
        *("refs/attempts/m1/bad/1", "refs/attempts/m1/good/1", "refs/attempts/gone/a/1"),
        *(".cache/m1/workspaces", ".cache/m1/logs/bad/1"),
    }
    before = repo.git("for-each-ref")
    assert removed(repo, "--dry-run") == expected
    assert repo.git("for-each-ref") == before
    assert (logs / "bad" / "1").is_dir()
    assert removed(repo) == expected
    assert set(repo.attempts()) == {
        *("refs/attempts/m1/bad/2", "refs/attempts/m1/bad/3", waiting),
        *("refs/attempts/gone/a/2", "refs/attempts/odd"),
    }
    assert not (logs / "bad" / "1").exists()
    assert (logs / "wait" / "1").is_dir()
    assert repo.statuses() == {"m1/bad": "failed", "m1/wait": "review", "m1/good": "landed"}
    assert removed(repo) == set()
    assert "nothing to remove (attempts and logs are kept 30 days)" in repo.doit("gc").check().out


def test_a_result_of_an_outdated_spec_goes_when_it_is_old(repo: Repo) -> None:
    repo.milestone("m1", issue("wait", "mkdir migrations; echo > migrations/0001.sql"))
    repo.doit("milestone:m1").check(4)
    aged(repo, "refs/attempts/m1/wait/1")
    assert "refs/attempts/m1/wait/1" not in removed(repo, "--dry-run")
    repo.milestone("m1", issue("wait", "true", files=["other"]))
    assert "refs/attempts/m1/wait/1" in removed(repo, "--dry-run")


def test_the_work_of_a_killed_run_and_of_a_living_one_is_left_alone(repo: Repo, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    repo.milestone("m1", issue("a", f"echo half > half; touch {flag}; sleep 60"))
    run = repo.start("milestone:m1")
    while not flag.exists():
        time.sleep(0.02)
    assert removed(repo) == set()
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert removed(repo) == set()
    assert list((repo.path / ".cache" / "m1" / "workspaces").glob("*/tree/half"))
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1").check()
    assert repo.git("show", "refs/attempts/m1/a/1:half") == "half"
    assert removed(repo) == {".cache/m1/workspaces"}


def test_verdicts_that_nobody_has_made_anew_for_long_go_and_cost_only_time(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a", accept=[{"run": "true"}]))
    repo.doit("milestone:m1").check()
    for path in (repo.path / ".cache" / "_verdicts").rglob("*.json"):
        old(path)
    assert any(name.startswith(".cache/_verdicts/") for name in removed(repo))
    repo.doit("milestone:m1").check()
    repo.doit("verify", "m1").check()


def test_steps_of_an_issue_that_is_no_longer_declared_go_when_they_are_old(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a") + issue("b", "echo b > b"))
    tree = repo.git("rev-parse", "HEAD^{tree}")
    refs = [f"refs/executor/steps/{place}" for place in ("m1/a/code.write", "m1/gone/code.write", "m0/x/code.write")]
    for ref in refs:
        repo.git("update-ref", ref, repo.git("commit-tree", "-p", "HEAD", "-m", "step", tree))
    assert removed(repo, "--dry-run") == set()
    for ref in refs:
        aged(repo, ref)
    assert removed(repo) == set(refs[1:])
    assert repo.git("for-each-ref", "--format=%(refname)", "refs/executor/steps/") == refs[0]


def test_many_loose_objects_are_packed_and_nothing_else_of_git_changes(repo: Repo) -> None:
    repo.git("config", "maintenance.auto", "false")  # git 2.55 packs after a commit
    for number in range(600):
        repo.write(f"many/{number}", f"{number}\n")
    repo.git("update-ref", "refs/heads/other", repo.commit("many"))
    before = repo.git("for-each-ref"), repo.git("rev-list", "--objects", "--all")
    lost = repo.git("hash-object", "-w", "dodo.py", "pyproject.toml").split()
    assert "packed" not in repo.doit("gc", "--dry-run").check().out
    assert "loose git objects" in repo.doit("gc").check().out
    assert int(repo.git("count-objects").split()[0]) < 100
    assert (repo.git("for-each-ref"), repo.git("rev-list", "--objects", "--all")) == before
    assert all(repo.git("cat-file", "-t", name) == "blob" for name in lost)
    assert "nothing to remove" in repo.doit("gc").check().out


@pytest.mark.long
def test_many_landed_issues_leave_a_small_cache_and_take_few_processes_of_git(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2000):
        repo.write(f"src/d{number % 40}/f{number}.py", f"X = {number}\n")
    repo.commit("two thousand files")
    repo.milestone("m1", "".join(issue(f"i{number}", f"echo {number} > n{number}") for number in range(300)))
    log, wrapper = tmp_path / "calls", tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$1" >> {log}\nexec {shutil.which("git")} "$@"\n')
    wrapper.chmod(0o755)
    environment = {**repo.environment(), "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}
    monkeypatch.setattr(repo, "environment", lambda: environment)
    repo.doit("milestone:m1", "-n", "2", timeout=1800).check()
    size = sum(path.lstat().st_blocks * 512 for path in (repo.path / ".cache").rglob("*"))
    assert size <= 10 * 10**6
    assert len(log.read_text().splitlines()) <= 300 * 12
