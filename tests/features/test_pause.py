"""`doit pause m1`: nothing more is started until `doit unpause m1`."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path


def state(repo: Repo, name: str = "m1") -> tuple[str, str]:
    found = repo.doit("status", name, "--json").check().json["milestones"][0]
    return found["status"], found["reason"]


def test_a_paused_milestone_is_not_run_and_says_who_can_change_that(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    assert "m1 is paused" in repo.doit("pause", "m1", "--reason", "wait for Ann").check().out
    shutil.rmtree(repo.path / ".cache")
    assert state(repo)[0] == "paused"
    assert "wait for Ann" in state(repo)[1]
    for task in ("milestone:m1", "issue:m1/a", "release:m1"):
        result = repo.doit(task).check(4)
        assert "wait for Ann" in result.err
        assert "doit unpause m1" in result.err
    assert "already paused" in repo.doit("pause", "m1").check().out
    assert "doit unpause m1" in repo.doit("list").check().out
    assert repo.git("for-each-ref", "refs/heads/milestone") == ""
    repo.doit("unpause", "m1").check()
    repo.doit("milestone:m1").check()
    assert state(repo)[0] == "complete"
    assert "is not paused" in repo.doit("unpause", "m1").check().out


def test_beside_others_a_paused_milestone_is_left_out(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.milestone("m2", issue("b", "echo b > b"))
    repo.doit("pause", "m1").check()
    assert "left out: milestone m1 is paused" in repo.doit("milestone:m1", "milestone:m2").check(4).out
    assert repo.statuses() == {"m1/a": "pending", "m2/b": "landed"}


def test_a_run_at_work_ends_what_it_has_begun_and_starts_nothing_more(repo: Repo) -> None:
    started, go = repo.path.parent / "started", repo.path.parent / "go"
    wait = f"touch {started}; while [ ! -e {go} ]; do sleep 0.05; done; echo a > a"
    repo.milestone("m1", issue("a", wait) + issue("b", "echo b > b", needs=["a"]))
    run = repo.start("milestone:m1", "-n", "1")
    wait_for(started)
    assert "finishes the issues that it has started" in repo.doit("pause", "m1").check().out
    go.touch()
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 4, out
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "pending"}
    assert "is paused since" in out


def test_what_is_unknown_or_released_cannot_be_paused(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    assert 'unknown milestone "m9"' in repo.doit("pause", "m9").check(3).err
    repo.commit("declare")
    repo.doit("milestone:m1", "release:m1").check()
    assert "is released; there is nothing to pause" in repo.doit("pause", "m1").check(3).err


def test_milestones_wait_for_each_other_within_one_run_and_are_reported(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.milestone("m2", 'needs = ["m1"]\n' + issue("b", "echo b > b"))
    assert state(repo, "m2") == ("blocked", "needs m1 (0 of 1 landed)")
    assert "milestone m1 is not complete (0 of 1 landed)" in repo.doit("milestone:m2").check(4).out
    out = repo.doit("milestone:m1", "milestone:m2", "-n", "2").check().out
    assert "m2 starts from main, where m1 is not released yet" in out
    assert repo.statuses() == {"m1/a": "landed", "m2/b": "landed"}


def wait_for(path: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)
