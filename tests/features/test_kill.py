"""A run that is killed or interrupted at any moment is simply run again: nothing is lost, nothing lands twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.replay import declare, pack, small_releases
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Process

BRANCH = "milestone/replay-replay"
PACKAGES = ("one", "two", "three")
RELEASES = 4
TAG = "LC_EXECUTOR_TEST"
"""A variable that children are given (LC_ variables are passed on), so that survivors can be found."""


def replay(repo: Repo) -> dict[str, str]:
    packages = {
        name: [
            pack(files, repo.path.parent / f"{name}-{number}.tar")
            for number, files in enumerate(small_releases(name, RELEASES))
        ]
        for name in PACKAGES
    }
    return declare(repo, packages, {"one": "patch", "two": "script", "three": "script"})


def tagged(value: str) -> Iterator[int]:
    """Processes that carry the tag, ours excluded."""
    wanted = f"{TAG}={value}\0".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if wanted in (entry / "environ").read_bytes() + b"\0":
                    yield int(entry.name)
            except OSError:
                continue


def assert_ended_right(repo: Repo, expected: dict[str, str]) -> None:
    assert {name: repo.git("rev-parse", f"{BRANCH}:{name}") for name in expected} == expected
    landed = repo.landed(BRANCH)
    assert sorted(landed) == sorted(f"{name}-{number}@1" for name in PACKAGES for number in range(1, RELEASES + 1))
    assert repo.git("status", "--porcelain") == ""
    kept = repo.git("for-each-ref", "--format=%(contents:trailers:key=Outcome,valueonly)", "refs/attempts/").split()
    assert set(kept) <= {"interrupted"}
    assert repo.git("fsck", "--connectivity-only", "--no-dangling") == ""
    tip = repo.git("rev-parse", BRANCH)
    assert "nothing to do" in repo.doit("milestone:replay").check().out
    assert repo.git("rev-parse", BRANCH) == tip


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(8, 30))])
def test_a_killed_replay_run_again_ends_in_the_same_trees(
    repo: Repo, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = f"{os.getpid()}-{seed}"
    monkeypatch.setenv(TAG, value)
    expected = replay(repo)
    repo.commit("declare")
    run = repo.start("milestone:replay", "-n", "3")
    moment = random.Random(seed).uniform(0.1, 1.6)  # noqa: S311  (no secret)
    time.sleep(moment)
    kill(run)
    repo.doit("milestone:replay", "-n", "3").check()
    assert_ended_right(repo, expected)
    assert list(tagged(value)) == []


def test_a_run_killed_again_and_again_still_ends_right(repo: Repo) -> None:
    expected = replay(repo)
    repo.commit("declare")
    for seed in range(6):
        run = repo.start("milestone:replay", "-n", "2")
        time.sleep(random.Random(seed).uniform(0.3, 0.8))  # noqa: S311  (no secret)
        kill(run)
    repo.doit("milestone:replay", "-n", "2").check()
    assert_ended_right(repo, expected)


def killed_after_its_agent(repo: Repo, does: str, end: str = "") -> Path:
    """A run of issue `a` that died between the end of its agent and the record of that; where the agent counts."""
    pid, ran = repo.path.parent / "pid", repo.path.parent / "ran"
    wait = f"echo x >> {ran}; while [ ! -e {pid} ]; do sleep 0.05; done"
    repo.milestone("m1", issue("a", f"{wait}; {does}; kill -STOP $(cat {pid}); {end}"))
    run = repo.start("milestone:m1")
    (repo.path.parent / "pid.new").write_text(str(run.pid))
    (repo.path.parent / "pid.new").rename(pid)
    wait_for(repo.path / ".cache" / "m1" / "logs" / "a" / "1" / "agent.result.json")
    kill(run)
    return ran


@pytest.mark.parametrize("end", ["", "exit 1"])
def test_a_question_that_was_asked_when_the_run_died_is_put_to_a_person_and_no_result(repo: Repo, end: str) -> None:
    asks = "echo half > a; echo 'Which zone?' > $EXECUTOR_OUT/question.md"
    ran = killed_after_its_agent(repo, asks, end)
    out = repo.doit("milestone:m1").check(4).out
    assert "m1/a: attempt 1 had ended when the previous run died; it has a question for a person" in out
    assert "question: Which zone?" in out
    assert repo.statuses() == {"m1/a": "review"}
    assert ran.read_text() == "x\n"
    assert repo.landed("milestone/m1-test-m1") == []
    assert repo.git("show", "refs/attempts/m1/a/1:a") == "half"


def test_a_result_that_was_ready_when_the_run_died_is_used_and_not_paid_for_again(repo: Repo) -> None:
    ran = killed_after_its_agent(repo, "echo a > a")
    out = repo.doit("milestone:m1").check().out
    assert "m1/a: attempt 1 had ended when the previous run died; its result is used" in out
    assert ran.read_text() == "x\n"
    assert repo.landed("milestone/m1-test-m1") == ["a@1"]
    assert repo.attempts() == []


def kill_git(repo: Repo, chance: random.Random) -> int:
    """Kill one of the git processes that work for this repository now, if there is one."""
    told = str(repo.path).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                ours = (entry / "comm").read_text().strip() == "git" and told in (entry / "environ").read_bytes()
                if ours and chance.random() < 0.5:
                    os.kill(int(entry.name), signal.SIGKILL)
                    return 1
            except OSError:
                continue
    return 0


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 8))])
def test_git_killed_in_the_middle_again_and_again_loses_nothing(repo: Repo, seed: int) -> None:
    expected = replay(repo)
    repo.commit("declare")
    chance = random.Random(seed)  # noqa: S311  (no secret)
    killed = 0
    for _ in range(6):
        run = repo.start("milestone:replay", "-n", "2")
        while run.poll() is None:
            killed += kill_git(repo, chance)
            time.sleep(chance.uniform(0.0, 0.15))
        out, _ = run.communicate()
        assert run.returncode in {0, 1, 2, 4}, out
    assert killed > 0
    code = repo.doit("milestone:replay", "-n", "2").code
    if code == 1:  # a killed git inside an agent or its import can be a failed attempt
        failed = [ref for ref, status in repo.statuses().items() if status in {"failed", "skipped"}]
        repo.doit("retry", *failed).check()
        repo.doit("milestone:replay", "-n", "2").check()
    assert {name: repo.git("rev-parse", f"{BRANCH}:{name}") for name in expected} == expected
    landed = repo.landed(BRANCH)
    assert sorted(landed) == sorted(f"{name}-{number}@1" for name in PACKAGES for number in range(1, RELEASES + 1))
    assert repo.git("fsck", "--connectivity-only", "--no-dangling") == ""


def test_locks_that_a_killed_git_left_behind_are_no_obstacle(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    git = repo.path / ".git"
    left = ["packed-refs.lock", "refs/heads/milestone/m1-test-m1.lock", "refs/attempts/m1/a/1.lock"]
    for name in left:
        (git / name).parent.mkdir(parents=True, exist_ok=True)
        (git / name).touch()
    (git / "refs" / "heads" / "yours.lock").touch()
    out = repo.doit("milestone:m1").check().out
    for name in left:
        assert f"removed {name}, left by a killed git process" in out
        assert not (git / name).exists()
    assert (git / "refs" / "heads" / "yours.lock").exists()
    assert repo.landed("milestone/m1-test-m1") == ["a@1"]


@pytest.mark.parametrize("agent", ["script", "patch"])
def test_locks_on_the_indexes_of_a_slot_are_no_obstacle(repo: Repo, agent: str) -> None:
    repo.write("milestones/m1/a.patch", "--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+a\n")
    body = (
        issue("a", "echo a > a")
        if agent == "script"
        else issue("a", **{"agent": "patch", "with": {"file": "m1/a.patch"}})
    )
    repo.milestone("m1", body + 'accept = [{ run = "test -e a" }]\n')
    slot = repo.path / ".cache" / "m1" / "workspaces" / "0"
    slot.mkdir(parents=True)
    for name in ("tree.index", "tree.index.result", "check.index", "check.index.result", "scratch.index"):
        (slot / f"{name}.lock").touch()
    repo.doit("milestone:m1").check()
    assert repo.landed("milestone/m1-test-m1") == ["a@1"]


def test_what_an_interrupted_attempt_had_done_is_kept(repo: Repo) -> None:
    beside = repo.path.parent / "started"
    repo.milestone(
        "m1", issue("a", f"if [ -e {beside} ]; then echo a > a; else echo half > a; touch {beside}; sleep 300; fi")
    )
    run = repo.start("milestone:m1")
    wait_for(beside)
    kill(run)
    repo.doit("milestone:m1").check()
    assert repo.git("show", "refs/attempts/m1/a/1:a") == "half"
    assert repo.git("show", "milestone/m1-test-m1:a") == "a"
    assert "attempt 1 (revision 1) interrupted" in repo.doit("explain", "m1/a").check().out


def test_children_of_a_killed_run_are_gone_and_what_they_wrote_does_not_count(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = f"{os.getpid()}-children"
    monkeypatch.setenv(TAG, value)
    beside = repo.path.parent / "started"
    slow = f"touch {beside}; trap '' TERM; setsid sleep 300 & (setsid sleep 300 &); sleep 300; echo never > a"
    repo.milestone("m1", issue("a", f"if [ -e {beside} ]; then echo a > a; else {slow}; fi"))
    run = repo.start("milestone:m1")
    wait_for(beside)
    kill(run)
    repo.doit("milestone:m1").check()
    assert list(tagged(value)) == []
    assert repo.git("show", "milestone/m1-test-m1:a") == "a"
    assert "interrupted" in repo.doit("log", "m1/a").check().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_with_its_exit_code_and_the_next_run_goes_on(
    repo: Repo, number: signal.Signals, code: int
) -> None:
    beside = repo.path.parent / "started"
    slow = f"echo half > b; touch {beside}; sleep 300"
    repo.milestone("m1", issue("a", f"if [ -e {beside} ]; then echo a > a; else {slow}; fi"))
    run = repo.start("milestone:m1")
    wait_for(beside)
    run.send_signal(number)
    out, _ = run.communicate(timeout=20)
    assert run.returncode == code, out
    assert "will be resumed by the next run" in out
    assert repo.statuses() == {"m1/a": "pending"}
    assert repo.git("show", "refs/attempts/m1/a/1:b") == "half"
    repo.doit("milestone:m1").check()
    assert repo.landed("milestone/m1-test-m1") == ["a@1"]


def test_a_second_signal_ends_at_once_even_what_ignores_the_first(repo: Repo) -> None:
    beside = repo.path.parent / "started"
    repo.milestone("m1", issue("a", f"trap '' TERM; touch {beside}; while :; do sleep 1; done"))
    run = repo.start("milestone:m1")
    wait_for(beside)
    run.send_signal(signal.SIGINT)
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=5)
    assert run.returncode == 130


def kill(run: Process) -> None:
    run.kill()
    with run:
        pass


def wait_for(path: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)
