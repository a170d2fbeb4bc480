"""What stands in the way is noticed by itself, recorded and told once, with the way to go on."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from tests.support import Repo, issue, small_disk

if TYPE_CHECKING:
    from pathlib import Path


def blockers(repo: Repo, milestone: str = "m1") -> list[dict[str, Any]]:
    """What the journal has of them."""
    lines = (repo.path / ".cache" / milestone / "journal.000001.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["e"] == "blocker"]


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_agent_that_falls_silent_is_reported_once_and_goes_on(repo: Repo) -> None:
    repo.write("rules/limits.toml", "silent_s = 0.6\n")
    repo.milestone("m1", issue("a", "echo a > a; echo working; sleep 1.6"))
    run = repo.doit("milestone:m1").check()
    assert run.out.count("silence: the agent of m1/a has given no sign of life for 0.6 s") == 1
    assert [(item["blocker"], item["key"], item["pauses"]) for item in blockers(repo)] == [("silence", "a", False)]
    assert "blocker" not in repo.doit("status").check().out


def test_after_an_issue_that_takes_too_long_nothing_more_is_begun_until_the_next_run(repo: Repo) -> None:
    repo.write("rules/limits.toml", "long_s = 0.6\n")
    repo.milestone("m1", issue("a", "echo a > a; sleep 1.6") + issue("b", "echo b > b"))
    run = repo.doit("milestone:m1").check(4)
    told = "m1/a has taken more than 0.6 s"
    assert run.out.count(f"long: {told}") == 1
    assert f"not started: the run pauses because {told}" in run.out
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "pending"}
    assert f"paused by long: {told}; see `doit log m1/a`; doit milestone:m1 continues" in repo.doit("status").out
    assert repo.doit("status", "--json").json["milestones"][0]["blockers"][0]["blocker"] == "long"
    repo.write("rules/limits.toml", "long_s = 600\n")
    repo.doit("milestone:m1").check()
    assert "paused" not in repo.doit("status").check().out


def test_the_rules_say_what_pauses(repo: Repo) -> None:
    repo.write("rules/limits.toml", "long_s = 0.6\npause_on = []\n")
    repo.milestone("m1", issue("a", "echo a > a; sleep 1.2") + issue("b", "echo b > b"))
    assert "long: m1/a has taken more than" in repo.doit("milestone:m1").check().out
    assert [item["key"] for item in blockers(repo)].count("a") == 1


def test_a_red_base_is_reported_once_for_all_issues_and_in_all_runs(repo: Repo) -> None:
    repo.write("rules/checks.toml", '[check.red]\nrun = "test -e fixed"\n')
    repo.milestone("m1", issue("a", "echo a > a", checks=["red"]) + issue("b", "echo b > b", checks=["red"]))
    assert repo.doit("milestone:m1").check(4).out.count("blocker ") == 1
    assert "blocker " not in repo.doit("milestone:m1").check(4).out
    assert [item["blocker"] for item in blockers(repo)] == ["red-base"]
    assert "blocker red-base: m1/a: " in repo.doit("status").check().out
    repo.write("fixed", "")
    repo.commit("fix")
    repo.git("branch", "-f", "milestone/m1-test-m1")
    repo.doit("milestone:m1").check()
    assert "blocker" not in repo.doit("status").check().out


def test_a_conflict_is_reported_with_the_way_to_go_on(repo: Repo) -> None:
    ready = repo.path.parent / "ready"
    wait = f"touch {ready}-$EXECUTOR_ISSUE; while [ $(ls {ready}-* | wc -l) -lt 2 ]; do sleep 0.05; done"
    repo.milestone("m1", issue("a", f"{wait}; echo a > x") + issue("b", f"{wait}; echo b > x"))
    run = repo.doit("milestone:m1", "-n", "2").check(1)
    assert run.out.count("conflict: m1/") == 1
    assert "implements it again on the current tip" in run.out
    assert [item["blocker"] for item in blockers(repo)] == ["conflict"]


def test_a_declaration_that_changes_during_the_run_is_reported_and_taken_by_the_next(repo: Repo) -> None:
    ready, go = repo.path.parent / "ready", repo.path.parent / "go"
    repo.write("milestones/m1/b.md", "Do b as it was.\n")
    wait = f"echo a > a; touch {ready}; while [ ! -e {go} ]; do sleep 0.05; done"
    repo.milestone(
        "m1",
        issue("a", wait)
        + issue("b", 'grep "Do b" $EXECUTOR_BRIEF > b', spec="m1/b.md").replace('body = "Do b."\n', ""),
    )
    repo.write("rules/limits.toml", "silent_s = 0.6\n")
    run = repo.start("milestone:m1")
    wait_for(ready)
    repo.write("milestones/m1/b.md", "Do b anew.\n")
    journal = repo.path / ".cache" / "m1" / "journal.000001.jsonl"
    end = time.monotonic() + 20
    while '"declaration"' not in journal.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    go.touch()
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0, out
    assert out.count("declaration: milestones/m1/b.md changed during the run; the run uses the versions") == 1
    assert repo.git("show", "milestone/m1-test-m1:b") == "Do b as it was."
    assert repo.statuses()["m1/b"] == "stale"
    repo.doit("milestone:m1").check()
    assert "Do b anew." in repo.git("show", "milestone/m1-test-m1:b").splitlines()


def test_a_disk_that_fills_up_during_the_run_ends_it_and_nothing_more_is_begun(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 60) as disk:
        repo = Repo(disk / "repo")
        repo.write("rules/limits.toml", "long_s = 2\n")
        fill = "echo a > a; head -c 59500000 /dev/zero > $EXECUTOR_OUT/big; sleep 1.4; rm $EXECUTOR_OUT/big"
        repo.milestone("m1", issue("a", fill) + issue("b", "echo b > b"))
        run = repo.doit("milestone:m1").check(75)
        assert "blocker   m1   disk: " in run.out
        assert ("disk", True) in [(item["blocker"], item["pauses"]) for item in blockers(repo)]
        assert "paused by disk: " in repo.doit("status").check().out
        repo.doit("milestone:m1").check()
