"""The main job: a declared milestone lands, and running it again does nothing."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

TWO = issue("a", "echo one > a.txt", accept=[{"run": "test -s a.txt"}]) + issue(
    "b", "cat a.txt a.txt > b.txt", needs=["a"]
)
BRANCH = "milestone/m1-test-m1"


def test_a_milestone_lands_with_one_commit_per_issue_and_its_trailers(repo: Repo) -> None:
    repo.milestone("m1", TWO)
    before = repo.snapshot()

    result = repo.doit("milestone:m1").check()

    assert "2 landed" in result.out
    assert repo.landed(BRANCH) == ["a@1", "b@1"]
    assert repo.git("show", f"{BRANCH}:b.txt") == "one\none"
    message = repo.git("log", "-1", "--format=%B", BRANCH)
    assert message.startswith("feat(m1): Issue b\n")
    for trailer in ("Milestone: m1", "Issue: b", "Revision: 1", "Spec-Key: sha256:", "Result-Key: sha256:"):
        assert trailer in message
    assert repo.git("log", "-1", "--format=%(trailers:key=Issue,valueonly)", BRANCH) == "b"
    assert repo.snapshot() == before
    assert repo.attempts() == []


def test_running_again_does_nothing_also_without_the_cache_and_without_doits_database(repo: Repo) -> None:
    repo.milestone("m1", TWO)
    repo.doit("milestone:m1").check()
    tip = repo.git("rev-parse", BRANCH)

    for lose in (None, "doit.json", "."):
        if lose:
            target = repo.path / ".cache" / lose
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        again = repo.doit("milestone:m1").check()
        assert "nothing to do" in again.out
        assert repo.git("rev-parse", BRANCH) == tip
        assert repo.doit("list").check().out == "nothing is pending: 2 of 2 issues have landed\n"


def test_nothing_of_ours_in_the_cache_has_a_name_that_a_milestone_may_have(repo: Repo) -> None:
    repo.write("rules/checks.toml", '[check.git]\nrun = ["git", "--version"]\nversion = ["git", "--version"]\n')
    repo.write("rules/routes.toml", '[route.feature]\nchecks = ["git"]\n')
    repo.milestone("tools.json", TWO)
    repo.doit("milestone:tools.json").check()
    repo.doit("doctor").check()
    others = {path.name for path in (repo.path / ".cache").iterdir()} - {"tools.json"}
    assert {"doit.json", "_tools.json"} <= others
    for name in others - {".gitignore"}:  # hidden files are no declarations
        repo.milestone(name, TWO)
        told = repo.doit("list").check(3).err
        assert f"milestones/{name}.toml: milestone.id: " in told
        (repo.path / "milestones" / f"{name}.toml").unlink()


def test_a_single_issue_runs_with_what_it_needs_and_nothing_else(repo: Repo) -> None:
    repo.milestone("m1", TWO + issue("c", "echo c > c.txt"))

    repo.doit("issue:m1/b").check()

    assert repo.landed(BRANCH) == ["a@1", "b@1"]
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "landed", "m1/c": "pending"}


def test_list_shows_pending_issues_in_the_order_they_would_run(repo: Repo) -> None:
    repo.milestone(
        "m1",
        issue("late", "echo", priority="P2")
        + issue("first", "echo", priority="P0")
        + issue("tail", "echo", needs=["long"])
        + issue("short", "echo")
        + issue("long", "echo"),
    )
    assert repo.doit("list", "-q").check().out.split() == ["m1/first", "m1/short", "m1/long", "m1/tail", "m1/late"]
    rows = repo.doit("list", "--json").check().json
    assert [(row["ref"], row["status"]) for row in rows][:3] == [
        ("m1/first", "pending"),
        ("m1/short", "pending"),
        ("m1/long", "pending"),
    ]
    assert not (repo.path / ".git" / "refs" / "heads" / "milestone").exists()


def test_a_failed_attempt_is_reported_to_the_next_one_and_kept_as_a_ref(repo: Repo) -> None:
    run = 'if grep -q "expected 2" "$EXECUTOR_BRIEF"; then echo two > x; else echo one > x; fi'
    repo.milestone("m1", issue("a", run, accept=[{"run": "grep -q two x || { echo expected $((1+1)); exit 1; }"}]))

    repo.doit("milestone:m1").check()

    assert repo.landed(BRANCH) == ["a@1"]
    assert repo.attempts() == ["refs/attempts/m1/a/1"]
    assert repo.git("show", "refs/attempts/m1/a/1:x") == "one"
    assert "expected 2" in repo.doit("log", "m1/a", "--brief").check().out
    assert repo.statuses() == {"m1/a": "landed"}


def test_parallel_issues_run_at_the_same_time_and_all_land(repo: Repo, tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(4)]
    together = tmp_path / "together"
    together.mkdir()
    wait = f'while [ "$(ls {together} | wc -l)" -lt 4 ]; do sleep 0.05; done'
    run = "touch {together}/{name}; {wait}; echo {name} > {name}.txt"
    repo.milestone(
        "m1", "".join(issue(name, run.format(together=together, name=name, wait=wait), size="S") for name in names)
    )

    repo.doit("milestone:m1", "-n", "4").check()

    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in names]
    assert repo.git("ls-tree", "--name-only", BRANCH).split().count("p3.txt") == 1


def test_an_agent_sees_its_tree_as_a_repository_and_only_the_allowed_environment(repo: Repo) -> None:
    script = (
        "import os,subprocess,json;"
        "log=subprocess.run(['git','log','--format=%s'],capture_output=True,text=True).stdout.split();"
        "subprocess.run('git add -A; git commit -qm mine; git config core.hooksPath evil',shell=True);"
        "json.dump({'env':sorted(os.environ),'log':log,'in':open(0).read()[:6]},open('seen.json','w'))"
    )
    repo.milestone("m1", issue("a", f'{sys.executable} -c "{script}"'))
    repo.doit("milestone:m1").check()

    import json

    seen = json.loads(repo.git("show", f"{BRANCH}:seen.json"))
    assert seen["log"] == ["start"]
    assert seen["in"] == "# m1/a"
    for name in (
        "EXECUTOR_MILESTONE",
        "EXECUTOR_ISSUE",
        "EXECUTOR_ATTEMPT",
        "EXECUTOR_SLOT",
        "EXECUTOR_BRIEF",
        "EXECUTOR_OUT",
    ):
        assert name in seen["env"]
    assert "PYTHONPATH" not in seen["env"]
    assert "evil" not in (repo.path / ".git" / "config").read_text()


def test_priority_decides_which_ready_issue_starts_first(repo: Repo) -> None:
    repo.milestone(
        "m1",
        issue("x", "echo x > x", priority="P3")
        + issue("y", "echo y > y", priority="P0", needs=["z"])
        + issue("z", "echo z > z"),
    )
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH) == ["z@1", "y@1", "x@1"]


def test_two_milestones_run_side_by_side_and_a_milestone_waits_for_what_it_needs(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "sleep 1; echo a > a"))
    repo.milestone("m2", issue("a", "sleep 1; echo b > b"))
    repo.milestone("m3", 'needs = ["m1"]\n' + issue("a", "echo c > c"))
    assert " blocked " in repo.doit("milestone:m3").check(4).out
    one, two = repo.start("milestone:m1"), repo.start("milestone:m2")
    assert (one.wait(60), two.wait(60)) == (0, 0)
    one.communicate()
    two.communicate()
    repo.doit("milestone:m3").check()
    assert set(repo.statuses().values()) == {"landed"}


def test_a_second_run_of_the_same_milestone_leaves_at_once_and_says_who_has_it(repo: Repo) -> None:
    go = repo.path.parent / "go"
    repo.milestone("m1", issue("a", f"while ! test -e {go}; do sleep 0.05; done; echo a > a"))
    first = repo.start("milestone:m1")
    while not (repo.path / ".cache" / "m1" / "logs").exists():
        time.sleep(0.05)
    second = repo.doit("milestone:m1").check(75)
    assert first.poll() is None
    assert "milestone m1 is already being run by process" in second.err
    assert repo.statuses() == {"m1/a": "running"}
    go.touch()
    assert first.wait(60) == 0
    first.communicate()


def test_a_change_that_keeps_size_and_time_of_a_file_is_seen(repo: Repo) -> None:
    body = issue("i0", "rm -f f; printf 0 > f; touch -d @0 f")
    for number in range(1, 6):
        body += issue(f"i{number}", f"rm f; printf {number} > f; touch -d @0 f", needs=[f"i{number - 1}"])
    repo.milestone("m1", body)
    repo.doit("milestone:m1").check()
    assert [repo.git("show", f"milestone/m1-test-m1~{5 - number}:f") for number in range(6)] == list("012345")
