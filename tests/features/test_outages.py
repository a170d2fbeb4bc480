"""Classes of failure: outages suspend an account, a machine that runs dry gets every attempt, a missing module none."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

BRANCH = "milestone/m1-test-m1"
LIMITS = "backoff_s = 0.0\ntransient = 0\noutage_s = 0.3\noutage_most_s = 1.0\n"


def events(repo: Repo, *kinds: str) -> list[dict[str, object]]:
    lines = (repo.path / ".cache/m1/journal.000001.jsonl").read_text().splitlines()
    return [event for line in lines if (event := json.loads(line))["e"] in kinds]


def profile(name: str, script: str) -> str:
    words = json.dumps(script.replace("{", "{{").replace("}", "}}"))
    return f'[agent.{name}]\nisolation = "none"\ncommand = ["sh", "-c", {words}]\n'


def body(count: int, agent: str = '"c"') -> str:
    return "".join(
        f'[[issue]]\nid = "{number}"\ntitle = "Issue {number}"\nbody = "x"\nagent = {agent}\n'
        for number in range(count)
    )


def service(beside: Path, failures: int) -> str:
    """An agent whose service fails for the first calls, and works then."""
    return (
        f"echo x >> {beside}/calls; "
        f"[ $(wc -l < {beside}/calls) -gt {failures} ] || {{ echo connection reset by peer; exit 1; }}; "
        "echo done > $EXECUTOR_ISSUE"
    )


def test_an_outage_spends_no_attempt_and_everything_lands_in_the_same_run(repo: Repo) -> None:
    repo.write("rules/limits.toml", LIMITS + "attempts = 1\n")
    repo.write("rules/agents.toml", profile("c", service(repo.path.parent, 4)))
    repo.milestone("m1", body(5))
    out = repo.doit("milestone:m1", "-n", "2").check().out
    assert len(repo.landed(BRANCH)) == 5
    assert "the service of c is failing; it is retried at" in out
    failed = events(repo, "attempt-failed")
    assert {event["failure"] for event in failed} == {"transient"}
    rests = [float(str(event["rest_s"])) for event in failed]
    assert rests == sorted(rests)
    assert rests[-1] > rests[0]
    assert len(events(repo, "blocker")) >= 1


def test_another_account_works_on_while_one_rests(repo: Repo) -> None:
    repo.write("rules/limits.toml", LIMITS + "outage_wait_s = 0.0\n")
    repo.write(
        "rules/agents.toml",
        profile("c", "echo 503 service unavailable; exit 1") + profile("d", "echo > $EXECUTOR_ISSUE"),
    )
    repo.milestone("m1", body(2, '["c", "d"]') + body(3).replace('id = "', 'id = "x'))
    out = repo.doit("milestone:m1").check(75).out
    assert sorted(repo.landed(BRANCH)) == ["0@1", "1@1"]
    assert "the service of c is failing; it is retried at" in out
    assert {item["status"] for item in repo.doit("status", "m1", "--json").json["milestones"][0]["issues"]} == {
        "landed",
        "pending",
    }


def test_a_machine_that_ran_out_of_memory_gets_every_attempt(repo: Repo) -> None:
    beside = repo.path.parent
    script = (
        f"echo x >> {beside}/calls; [ $(wc -l < {beside}/calls) -gt 2 ] || {{ echo MemoryError; exit 1; }}; echo > a"
    )
    repo.milestone("m1", issue("a", script))
    repo.doit("milestone:m1").check()
    assert [event["failure"] for event in events(repo, "attempt-failed")] == ["resource", "resource"]
    assert repo.landed(BRANCH) == ["a@1"]


def test_a_missing_module_or_command_fails_at_once(repo: Repo) -> None:
    repo.milestone(
        "m1",
        issue("a", "python3 -c 'import no_such_module'") + issue("b", "no-such-command") + issue("c", "echo c > c"),
    )
    repo.doit("milestone:m1").check(1)
    failed = events(repo, "attempt-failed")
    assert [(event["key"], event["failure"]) for event in failed] == [("a", "dependency"), ("b", "dependency")]
    assert "ModuleNotFoundError: No module named 'no_such_module'" in str(failed[0]["reason"])
    assert repo.landed(BRANCH) == ["c@1"]


def test_the_pause_between_attempts_holds_in_workflows_too_and_is_said(repo: Repo) -> None:
    repo.write("rules/limits.toml", "backoff_s = 0.3\nattempts = 2\n")
    repo.write("rules/workflows/one.toml", '[phase.a]\n[phase.a.step.b]\ndoes = "x"\ntree = true\n')
    repo.milestone("m1", issue("a", "echo $EXECUTOR_ATTEMPT > f; exit $EXECUTOR_ATTEMPT", workflow="one"))
    out = repo.doit("milestone:m1").check(1).out
    assert "attempt 2 of 2 in 1 s, at " in out
    begun = [str(event["t"]) for event in events(repo, "attempt-started", "attempt-failed")]
    assert len(begun) == 4

    pause = datetime.fromisoformat(begun[2]) - datetime.fromisoformat(begun[1])
    assert pause.total_seconds() >= 0.6


LATE = "(sleep 0.7; echo late > late; echo more > more) > /dev/null 2>&1 & echo early > early"


def test_what_an_agent_left_at_work_is_waited_for(repo: Repo) -> None:
    repo.milestone("m1", issue("a", LATE))
    repo.doit("milestone:m1").check()
    assert {"early", "late", "more"} <= set(repo.git("ls-tree", "--name-only", BRANCH).split())


def test_what_an_agent_left_at_work_is_waited_for_in_the_sandbox_too(repo: Repo) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    repo.write("rules/agents.toml", profile("c", LATE).replace('"none"', '"bwrap"'))
    repo.milestone("m1", body(1))
    repo.doit("milestone:m1").check()
    assert {"early", "late", "more"} <= set(repo.git("ls-tree", "--name-only", BRANCH).split())


@pytest.mark.parametrize("isolation", ["none", "bwrap"])
def test_a_process_that_only_sits_there_is_ended_after_a_while(repo: Repo, isolation: str) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    repo.write("rules/limits.toml", "background_s = 0.4\n")
    idle = "sleep 300 > /dev/null 2>&1 & echo early > early"
    repo.write("rules/agents.toml", profile("c", idle).replace('"none"', f'"{isolation}"'))
    repo.milestone("m1", body(1))
    begun = time.monotonic()
    repo.doit("milestone:m1").check()
    assert time.monotonic() - begun < 20
    assert repo.landed(BRANCH) == ["0@1"]


OUTAGE_S = float(os.environ.get("EXECUTOR_OUTAGE_S", "2"))
"""Seconds for which a service is out; 600 plays the night with the limits as they are packaged, in real time."""


def out_for_a_while(name: Path, after: int, seconds: float) -> str:
    """Shell words of a service that works for some calls and is then out for some time."""
    return (
        f"echo x >> {name}; now=$(date +%s%3N); "
        f"if [ $(wc -l < {name}) -gt {after} ]; then [ -e {name}-out ] || echo $now > {name}-out; "
        f"[ $now -gt $(( $(cat {name}-out) + {seconds * 1000:.0f} )) ] "
        "|| { echo 503 service unavailable; exit 1; }; fi; "
    )


@pytest.fixture
def night(repo: Repo) -> Repo:
    """Twenty issues by one agent, half of them reviewed; both services are out for ten minutes, or for OUTAGE_S.

    One issue meets a machine without memory twice.
    """
    beside, scale = repo.path.parent, OUTAGE_S / 600
    scaled = {"outage_s": 30, "outage_most_s": 900, "backoff_s": 1, "backoff_most_s": 300}
    limits = "".join(f"{name} = {value * scale}\n" for name, value in scaled.items())
    (repo.path / "rules/limits.toml").unlink()
    if scale != 1:
        repo.write("rules/limits.toml", limits)
    work = (
        out_for_a_while(beside / "calls", 5, OUTAGE_S) + "if [ $EXECUTOR_ISSUE = 7 ] && "
        f"[ $(cat {beside}/memory | wc -l) -lt 2 ]; then echo x >> {beside}/memory; echo MemoryError; exit 1; fi; "
        "echo done > $EXECUTOR_ISSUE"
    )
    read = out_for_a_while(beside / "reviews", 2, OUTAGE_S) + "echo '[]' > $EXECUTOR_OUT/findings.json"
    (beside / "memory").touch()
    reviewer = REVIEWER.replace("{script}", json.dumps(read.replace("{", "{{").replace("}", "}}")))
    repo.write("rules/agents.toml", profile("c", work) + reviewer)
    repo.write("rules/routes.toml", '[route.feature]\nreviewer = "reader"\n')
    plain = body(20).split("[[issue]]\n")[1:]
    kinds = [f"[[issue]]\n{text}" + ('type = "docs"\n' if place % 2 else "") for place, text in enumerate(plain)]
    repo.milestone("m1", "".join(kinds))
    return repo


@pytest.mark.campaign
def test_a_night_of_twenty_issues_outlasts_outages_and_a_lack_of_memory(night: Repo) -> None:
    night.doit("nightly", timeout=OUTAGE_S * 4 + 240).check()
    assert sorted(night.landed(BRANCH)) == sorted(f"{number}@1" for number in range(20))
    failed = events(night, "attempt-failed")
    assert [event["key"] for event in failed if event["failure"] == "resource"] == ["7", "7"]
    assert {event["failure"] for event in failed} == {"transient", "resource"}
    assert {event["failure"] for event in events(night, "reviewer-called")} == {"transient", ""}
    assert not events(night, "stopped", "retried")
    digest = night.doit("digest", "--json").check().json
    assert (len(digest["landed"]), digest["next"]) == (20, [])


REVIEWER = """[agent.reader]
isolation = "none"
command = ["sh", "-c", {script}]
"""


def reviewed_by(repo: Repo, script: str) -> None:
    words = json.dumps(script.replace("{", "{{").replace("}", "}}"))
    repo.write("rules/agents.toml", REVIEWER.replace("{script}", words))
    repo.write("rules/routes.toml", '[route.feature]\nreviewer = "reader"\n')


def test_a_reviewer_whose_service_fails_for_a_while_needs_no_person(repo: Repo) -> None:
    """Three issues wait for a reviewer that works again only once a fourth one has landed, which nobody reviews."""
    repo.write("rules/limits.toml", LIMITS)
    works = f"git -C {repo.path} cat-file -e {BRANCH}:d 2> /dev/null"
    reviewed_by(repo, f"{works} || {{ echo connection reset; exit 1; }}; echo '[]' > $EXECUTOR_OUT/findings.json")
    reviewed = "".join(issue(name, f"echo {name} > {name}") for name in "abc")
    repo.milestone("m1", reviewed + issue("d", "echo d > d", type="docs"))
    out = repo.doit("milestone:m1").check().out
    assert repo.landed(BRANCH)[0] == "d@1"
    assert sorted(repo.landed(BRANCH)) == ["a@1", "b@1", "c@1", "d@1"]
    assert not events(repo, "attempt-failed", "stopped")
    assert "the service of reviewer reader is failing; it is retried at" in out
    assert [event["blocker"] for event in events(repo, "blocker")] == ["outage"]


def test_a_reviewer_without_memory_is_called_again(repo: Repo) -> None:
    calls = repo.path.parent / "reviews"
    failing = f"echo x >> {calls}; [ $(wc -l < {calls}) -gt 2 ] || {{ echo MemoryError; exit 1; }}; "
    reviewed_by(repo, failing + "echo '[]' > $EXECUTOR_OUT/findings.json")
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1").check()
    assert [event["failure"] for event in events(repo, "reviewer-called")] == ["resource", "resource", ""]
    assert not events(repo, "attempt-failed", "stopped")


def test_a_reviewer_at_its_limit_keeps_the_result_for_a_later_run(repo: Repo) -> None:
    repo.write("rules/limits.toml", LIMITS + "suspend_s = 600.0\n")
    done = repo.path.parent / "done"
    reviewed_by(
        repo, f"[ -e {done} ] || {{ echo usage limit reached; exit 1; }}; echo '[]' > $EXECUTOR_OUT/findings.json"
    )
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1").check(75)
    assert repo.statuses() == {"m1/a": "open"}
    done.touch()
    repo.doit("milestone:m1").check()
    assert len(events(repo, "attempt-started")) == 1
    assert repo.landed(BRANCH) == ["a@1"]
