"""Classes of failure: outages suspend an account, a machine that runs dry gets every attempt, a missing module none."""

from __future__ import annotations

import json
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
    assert "the service of c fails; it is asked again at" in out
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
    assert "the service of c fails; it is asked again at" in out
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
