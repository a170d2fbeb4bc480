"""Watching milestones from outside, the stream of events, and the runs that there were."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Repo, issue

if TYPE_CHECKING:
    from tests.support import Process

DATED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+ ")
WAIT = "while [ ! -e {0}/go ]; do sleep 0.05; done; echo {1} > {1}"


def works(repo: Repo, *names: str) -> None:
    """A milestone whose issues work until they are let go."""
    repo.milestone("m1", "".join(issue(name, WAIT.format(repo.path, name)) for name in names))


def started(repo: Repo, *names: str, workers: int = 1) -> Process:
    """A run of it that is at work on all of these."""
    run = repo.start("milestone:m1", "-n", str(workers))
    end = time.monotonic() + 60
    while any(not (repo.path / ".cache/m1/logs" / name / "1/agent.log").exists() for name in names):
        assert time.monotonic() < end
        time.sleep(0.05)
    return run


def until(watcher: Process, words: str) -> str:
    """What a watcher says until it says these words; it is killed if it does not within a minute."""
    assert watcher.stdout is not None
    timer = threading.Timer(60, watcher.kill)
    timer.start()
    said = ""
    try:
        for line in watcher.stdout:
            said += line
            if words in line:
                return said
    finally:
        timer.cancel()
    raise AssertionError(said)


def shown(repo: Repo, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = repo.doit("watch", "--json", *words).check().json["milestones"][0]
    return found


def test_without_a_terminal_every_line_has_its_time_and_is_whole(repo: Repo) -> None:
    repo.milestone("m1", "".join(issue(f"i{number}", f"echo out; echo {number} > f{number}") for number in range(8)))
    out = repo.doit("milestone:m1", "-n", "4").check().out
    said, _, table = out.partition("\n\n")
    _, *lines = said.splitlines()
    assert len(lines) == 16
    assert all(re.match(rf"{DATED.pattern}(implement|landed   ) m1/i\d ", line) for line in lines)
    assert table.count("landed  m1/i") == 8
    assert "\n8 landed\nbranch milestone/m1-test-m1\nthis run: 8 landed in 0:0" in table


def test_the_end_of_a_run_says_of_every_issue_what_moves_it_on(repo: Repo) -> None:
    repo.milestone(
        "m1",
        issue("good", "echo x > x")
        + issue("bad", "exit 1", title=f"{'A title that goes on and on ' * 3}to its end")
        + issue("after", "echo y > y", needs=["bad"])
        + issue("deps", "echo evil==1 > requirements.txt"),
    )
    table = repo.doit("milestone:m1").check(1).out.partition("\n\n")[2]
    assert re.search(r"^landed   m1/good +Issue good +0:0\d +landed as [0-9a-f]{10}$", table, re.MULTILINE)
    assert re.search(r"^failed   m1/bad +A title that goes on and on A tit\.\.\.", table, re.MULTILINE)
    assert "\n         next: doit log m1/bad, then doit retry m1/bad\n" in table
    assert "\n         needs m1/bad (failed)\n         next: none; it continues when m1/bad has landed\n" in table
    assert '\n         next: doit log m1/deps, then doit approve m1/deps --reason "..." or doit' in table


def test_the_time_that_an_agent_worked_is_reported_once_whether_it_failed_or_not(repo: Repo) -> None:
    repo.write("rules/limits.toml", "attempts = 1\n")
    repo.milestone("m1", issue("good", "sleep 1.1; echo x > x") + issue("bad", "sleep 1.1; exit 1"))
    table = repo.doit("milestone:m1", "-n", "2").check(1).out.partition("\n\n")[2]
    rows = re.findall(r"^(landed|failed) +m1/(\w+) +Issue \w+ +(\d+):(\d\d)", table, re.MULTILINE)
    assert [row[:2] for row in rows] == [("landed", "good"), ("failed", "bad")]
    for _, name, minutes, seconds in rows:
        (tried,) = repo.doit("log", f"m1/{name}", "--json").check().json["attempts"]
        assert tried["seconds"] >= 1.1
        assert int(minutes) * 60 + int(seconds) in {int(tried["seconds"]), round(tried["seconds"])}


def test_columns_stand_below_each_other_whatever_the_letters(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "true", title="日本語") + issue("b", "true", title="e\u0301t\u00e9 chaud"))
    assert (
        repo.doit("list")
        .check()
        .out.startswith(
            "pending  m1/a  日本語     not implemented yet\npending  m1/b  e\u0301té chaud  not implemented yet\n"
        )
    )


def test_a_run_is_seen_from_outside_while_it_works_and_after_it(repo: Repo) -> None:
    works(repo, "a", "b")
    before = shown(repo)
    assert (before["status"], before["run"], before["percent"], before["working"]) == ("planned", None, 0, [])
    run = started(repo, "a", "b", workers=2)
    during = shown(repo, "m1")
    assert (during["run"]["how"], during["counts"], during["run"]["pid"]) == ("running", {"running": 2}, run.pid)
    assert [(item["ref"], item["what"]) for item in sorted(during["working"], key=lambda item: item["ref"])] == [
        ("m1/a", "agent script"),
        ("m1/b", "agent script"),
    ]
    assert during["ends_at"] is not None
    repo.write("go", "")
    assert run.wait(60) == 0
    run.communicate()
    after = shown(repo, "milestone:m1")
    assert (after["status"], after["percent"], after["run"]["how"], after["run"]["code"]) == (
        "complete",
        100,
        "done",
        0,
    )
    assert [event["event"] for event in after["events"]][-1] == "run-ended"
    once = repo.doit("watch", "--once").check().out
    assert once.startswith(time.strftime("%Y-"))
    assert "m1 Test m1: complete, 100 %, 2 of 2 landed\n" in once


def test_a_plain_watcher_tells_changes_only_and_leaves_with_the_run(repo: Repo) -> None:
    works(repo, "a", "b")
    run = started(repo, "a")
    watcher = repo.start("watch", "--interval", "0.1")
    out = until(watcher, "m1/b")
    repo.write("go", "")
    assert run.wait(60) == 0
    run.communicate()
    assert watcher.stdout is not None
    out += watcher.stdout.read()
    watcher.communicate(timeout=30)
    assert watcher.returncode == 0
    blocks = [line for line in out.splitlines() if DATED.match(line)]
    assert 2 <= len(blocks) <= 6
    assert "0 %, 0 of 2 landed, 1 running" in blocks[0]
    assert "complete, 100 %, 2 of 2 landed" in blocks[-1]
    assert out.count("latest events") == 1


@pytest.mark.parametrize(
    ("number", "code", "how"), [(signal.SIGTERM, 143, "interrupted"), (signal.SIGKILL, -9, "died")]
)
def test_a_run_that_was_cut_off_is_named_at_the_next_start(repo: Repo, number: int, code: int, how: str) -> None:
    works(repo, "a", "b")
    repo.commit("declare")
    repo.write("dodo.py", (repo.path / "dodo.py").read_text() + "# changed\n")
    run = started(repo, "a")
    os.kill(run.pid, number)
    assert run.wait(60) == code
    run.communicate()
    seen = shown(repo)
    assert (seen["run"]["how"], seen["working"]) == (how, [])
    said = repo.doit("sessions").check().out
    assert "working on m1/a" in said
    assert "main@" in said
    assert "+1 changed" in said
    assert said.endswith("the last one did not finish; doit milestone:m1 resumes it\n")
    repo.write("go", "")
    out = repo.doit("milestone:m1").check().out
    assert f"(process {run.pid}) {'died' if how == 'died' else 'was interrupted (SIGTERM)'}" in out
    assert "; it was working on m1/a (attempt 1)\n" in out
    found = repo.doit("sessions", "m1", "--json").check().json["sessions"]
    assert [(item["how"], item["code"], item["landed"]) for item in found] == [
        (how, None if how == "died" else 143, []),
        ("done", 0, ["a", "b"]),
    ]
    if how == "interrupted":
        assert found[0]["following"] == ["m1/a", "m1/b"]


def test_nothing_is_said_of_an_earlier_run_that_came_to_its_end(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "exit 1"))
    repo.doit("milestone:m1").check(1)
    assert "the run of" not in repo.doit("milestone:m1").check(1).out
    assert repo.doit("sessions").check().out.count("done  exit 1") == 2
    assert 'unknown milestone "m2"' in repo.doit("sessions", "m2").check(3).err


def test_a_watcher_does_not_keep_a_run_from_starting(repo: Repo) -> None:
    works(repo, "a")
    repo.write("go", "")
    watchers = [repo.start("watch", "--follow", "--plain", "--interval", "0.01") for _ in range(2)]
    for watcher in watchers:
        until(watcher, "planned, 0 %")
    repo.doit("milestone:m1").check()
    for watcher in watchers:
        until(watcher, "complete, 100 %")
        watcher.send_signal(signal.SIGINT)
        watcher.communicate(timeout=30)
        assert watcher.returncode == 0


def test_a_watcher_survives_a_mistake_in_the_declarations(repo: Repo) -> None:
    path = repo.milestone("m1", issue("a", "echo a > a"))
    right = path.read_text()
    watcher = repo.start("watch", "--follow", "--interval", "0.05")
    until(watcher, "planned, 0 %")
    path.write_text(right + "typo = 1\n")
    until(watcher, 'unknown key "typo"')
    path.write_text(right + issue("b", "echo b > b"))
    until(watcher, "m1/b")
    until(watcher, "the declarations are valid again")
    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=30)
    assert watcher.returncode == 0


def test_events_are_one_json_object_a_line_and_can_be_followed(repo: Repo) -> None:
    works(repo, "a")
    repo.milestone("m2", issue("x", "echo x > x"))
    repo.doit("milestone:m2").check()
    follower = repo.start("log", "--events", "--follow", "m1")
    repo.write("go", "")
    repo.doit("milestone:m1").check()
    assert follower.stdout is not None
    told = []
    for line in follower.stdout:
        told.append(json.loads(line))
        if told[-1]["event"] == "run-ended":
            break
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=30)
    once = [json.loads(line) for line in repo.doit("log", "--events", "m1").check().out.splitlines()]
    assert told == once
    assert {item["milestone"] for item in once} == {"m1"}
    assert [item["number"] for item in once] == list(range(1, len(once) + 1))
    assert [item["issue"] for item in once if item["event"] == "landed"] == ["a"]
    both = [json.loads(line) for line in repo.doit("log", "--events").check().out.splitlines()]
    assert {item["milestone"] for item in both} == {"m1", "m2"}
    assert [item["at"] for item in both] == sorted(item["at"] for item in both)
    one = [json.loads(line) for line in repo.doit("log", "--events", "m1/a").check().out.splitlines()]
    assert one == [item for item in once if item["issue"] == "a"]
    assert 'unknown milestone "m3"' in repo.doit("log", "--events", "m3").check(3).err
