"""Agents that cost money, reach limits, refuse, cannot log in, ask and hang: what a run makes of each."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Repo, issue, require_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

FAKE = Path(__file__).parents[1] / "fake_cli.py"
BRANCH = "milestone/m1-test-m1"


def task(name: str, **extra: Any) -> str:
    """An issue for which the fake writes a file."""
    return issue(name, body=f"RUN: echo {name} > {name}.txt", accept=[{"file": f"{name}.txt"}], **extra)


@pytest.fixture
def fake(repo: Repo, tmp_path: Path) -> Callable[..., Path]:
    """Replaces the command of packaged profiles by the fake; gives the file with the plan of the one named first."""

    def install(*names: str, plan: str = "", extra: str = "") -> Path:
        rules = []
        for name in names:
            path = tmp_path / f"{name}.plan"
            path.write_text(plan if name == names[0] else "", encoding="utf-8")
            command = json.dumps([sys.executable, str(FAKE), name, str(path)])
            rules.append(f'[agent.{name}]\ncommand = {command}\nbrief = "stdin"\nisolation = "none"\n{extra}')
        repo.write("rules/agents.toml", "\n".join(rules))
        return tmp_path / f"{names[0]}.plan"

    return install


def state(repo: Repo, ref: str = "m1/a") -> dict[str, Any]:
    rows = [item for found in repo.doit("status", "--json").check().json["milestones"] for item in found["issues"]]
    return next(row for row in rows if row["id"] == ref.partition("/")[2])


def test_an_agents_cost_and_tokens_are_kept_and_summed(repo: Repo, fake: Callable[..., Path]) -> None:
    fake("claude")
    repo.milestone("m1", task("a", agent="claude") + task("b", agent="claude", needs=["a"]))
    repo.doit("milestone:m1").check()
    assert (state(repo)["cost_usd"], state(repo)["attempts"]) == (0.25, 1)
    attempt = repo.doit("log", "m1/a", "--json").check().json["attempts"][0]
    assert (attempt["agent"], attempt["cost_usd"]) == ("claude", 0.25)
    assert attempt["tokens"] == {"input": 2400, "cached": 400, "output": 200}


def test_money_of_an_agent_that_does_not_tell_is_computed_from_its_tokens(
    repo: Repo, fake: Callable[..., Path]
) -> None:
    fake("codex", extra="price = { input = 3.0, cached = 0.3, output = 15.0 }\n")
    repo.milestone("m1", task("a", agent="codex"))
    repo.doit("milestone:m1").check()
    assert state(repo)["cost_usd"] == pytest.approx(0.00912)


def test_a_usage_limit_suspends_the_account_without_spending_an_attempt(repo: Repo, fake: Callable[..., Path]) -> None:
    fake("codex", plan="limit")
    repo.milestone("m1", task("a", agent="codex") + task("b", agent="codex") + issue("c", "echo c > c"))
    told = repo.doit("milestone:m1").check(75)
    assert repo.statuses() == {"m1/a": "pending", "m1/b": "pending", "m1/c": "landed"}
    moment = f"{datetime.fromtimestamp(time.time() + 1800).astimezone():%H}"
    row = state(repo)
    assert row["reason"].startswith(f"codex is at its limit until {moment}:") or row["reason"].startswith(
        "codex is at its"
    )
    assert row["attempts"] == 0
    assert "codex is at its limit: exceeded retry limit, last status: 429 Too Many Requests" in told.out
    repo.doit("milestone:m1").check(75)  # still suspended: nobody is called
    assert state(repo)["attempts"] == 0
    assert len(repo.doit("log", "m1/a", "--json").check().json["attempts"]) == 1


def test_a_run_goes_on_by_itself_when_the_limit_is_lifted_soon(repo: Repo, fake: Callable[..., Path]) -> None:
    repo.write("rules/limits.toml", "backoff_s = 0.0\nwait_s = 30.0\nsuspend_s = 1.0\n")
    fake("codex", plan="limit")
    repo.milestone("m1", task("a", agent="codex"))
    told = repo.doit("milestone:m1").check()
    assert "nothing else to do: codex is at its limit until" in told.out
    assert repo.landed(BRANCH) == ["a@1"]


def test_a_limit_is_reported_once_and_shown_until_work_goes_on(
    repo: Repo, fake: Callable[..., Path], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    command = json.dumps(["sh", "-c", f"cat >> {told}"])
    repo.write("rules/notify.toml", f"[notify.file]\ncommand = {command}\n")
    fake("codex", plan="limit")
    repo.milestone("m1", task("a", agent="codex") + task("b", agent="codex"))
    run = repo.doit("milestone:m1").check(75)
    assert run.out.count("limit: m1/a: codex is at its limit") == run.out.count("blocker ") == 1
    assert "blocker limit: m1/a: codex is at its limit" in repo.doit("status").check().out
    assert told.read_text(encoding="utf-8").count("codex is at its limit") == 1
    repo.doit("milestone:m1").check(75)
    assert told.read_text(encoding="utf-8").count("codex is at its limit") == 1
    fake("codex", "opencode")
    repo.milestone("m1", "".join(task(name, agent=["codex", "opencode"]) for name in "ab"))
    repo.doit("milestone:m1").check()
    assert "blocker" not in repo.doit("status").check().out


def test_the_next_run_goes_on_after_a_limit(repo: Repo, fake: Callable[..., Path]) -> None:
    repo.write("rules/limits.toml", "backoff_s = 0.0\nsuspend_s = 1.0\n")
    fake("codex", plan="limit")
    repo.milestone("m1", task("a", agent="codex"))
    repo.doit("milestone:m1").check(75)
    assert state(repo)["status"] == "pending"
    time.sleep(1.0)  # the limit itself is a matter of time
    repo.doit("milestone:m1").check()
    assert state(repo)["attempts"] == 1


@pytest.mark.parametrize("behaviour", ["limit", "refuse", "unauthorized"])
def test_the_next_agent_of_the_list_works_where_one_is_out(
    repo: Repo, fake: Callable[..., Path], behaviour: str
) -> None:
    fake("codex", "opencode", plan=behaviour)
    repo.milestone("m1", task("a", agent=["codex", "opencode"]))
    repo.doit("milestone:m1").check()
    attempts = repo.doit("log", "m1/a", "--json").check().json["attempts"]
    assert [item["agent"] for item in attempts] == ["codex", "opencode"]
    assert state(repo)["attempts"] == 1


def test_failing_checks_do_not_bring_the_next_agent(repo: Repo, fake: Callable[..., Path]) -> None:
    fake("codex", "opencode")
    repo.milestone("m1", task("a", agent=["codex", "opencode"]).replace("a.txt", "other.txt", 1))
    repo.doit("milestone:m1").check(1)
    attempts = repo.doit("log", "m1/a", "--json").check().json["attempts"]
    assert [(item["agent"], item["kind"]) for item in attempts] == [("codex", "checks"), ("codex", "checks")]


def test_a_refusal_at_the_end_of_the_list_is_final(repo: Repo, fake: Callable[..., Path]) -> None:
    fake("codex", plan="refuse")
    repo.milestone("m1", task("a", agent="codex"))
    repo.doit("milestone:m1").check(1)
    assert state(repo)["status"] == "failed"
    assert state(repo)["reason"] == "agent codex refused: I'm sorry, but I can't help with that."
    assert "escalate" in repo.doit("log", "m1/a").check().out
    repo.doit("retry", "m1/a").check()
    repo.doit("milestone:m1").check()


def test_a_failed_login_is_reported_once_and_other_agents_go_on(repo: Repo, fake: Callable[..., Path]) -> None:
    fake("opencode", "claude", plan="unauthorized")
    repo.milestone("m1", task("a", agent="opencode") + task("b", agent="opencode") + task("c", agent="claude"))
    repo.doit("milestone:m1").check(1)
    assert repo.statuses() == {"m1/a": "failed", "m1/b": "pending", "m1/c": "landed"}
    assert "agent opencode cannot log in" in state(repo)["reason"]
    assert "set OPENCODE_CONFIG" in state(repo)["reason"]
    repo.doit("milestone:m1").check(1)
    assert repo.statuses() == {"m1/a": "failed", "m1/b": "landed", "m1/c": "landed"}


def test_a_service_that_fails_is_called_again_at_once_in_the_same_attempt(
    repo: Repo, fake: Callable[..., Path]
) -> None:
    fake("codex", plan="error\nerror")
    repo.milestone("m1", task("a", agent="codex"))
    told = repo.doit("milestone:m1").check()
    assert told.out.count("its service failed") == 2
    assert state(repo)["attempts"] == 1


def test_an_agent_that_waits_for_an_answer_is_found_out(repo: Repo, fake: Callable[..., Path]) -> None:
    repo.write("rules/limits.toml", "backoff_s = 0.0\nattempts = 1\nsilent_s = 0.5\n")
    fake("claude", plan="ask", extra="idle = 2.0\n")
    repo.milestone("m1", task("a", agent="claude"))
    told = repo.doit("milestone:m1").check(1)
    assert "waited for an answer that no one gives: Allow the agent to edit files? [y/N]" in state(repo)["reason"]
    assert "has shown no output, work or changed file" in told.out


def test_money_that_is_spent_pauses_and_more_goes_on(repo: Repo, fake: Callable[..., Path]) -> None:
    fake("claude")
    repo.milestone("m1", "".join(task(name, agent="claude") for name in "abc"))
    told = repo.doit("milestone:m1", "--budget", "0.50").check(75)
    assert sorted(repo.statuses().values()) == ["landed", "landed", "pending"]
    assert "budget: $0.50 of $0.50 of this run are spent; the next run continues" in told.out
    repo.doit("milestone:m1", "--budget", "0.50").check()


def test_a_milestones_money_is_a_matter_for_a_person(repo: Repo, fake: Callable[..., Path]) -> None:
    repo.write("rules/limits.toml", "backoff_s = 0.0\nmilestone_usd = 0.25\n")
    fake("claude")
    repo.milestone("m1", task("a", agent="claude") + task("b", agent="claude"))
    repo.doit("milestone:m1").check(4)
    assert state(repo, "m1/b")["reason"] == (
        "budget: $0.25 of $0.25 of the milestone are spent; raise milestone_usd in rules/limits.toml to continue"
    )
    assert "blocker budget: m1/b: budget: $0.25 of $0.25 of the milestone" in repo.doit("status").check().out
    repo.write("rules/limits.toml", "backoff_s = 0.0\nmilestone_usd = 1.00\n")
    repo.doit("milestone:m1").check()
    assert "blocker" not in repo.doit("status").check().out


def test_a_killed_attempt_counts_with_what_was_set_aside_for_it(repo: Repo, fake: Callable[..., Path]) -> None:
    repo.write("rules/limits.toml", "backoff_s = 0.0\nattempt_usd = 2.0\nday_usd = 3.0\n")
    plan = fake("claude", plan="hang\nhang")
    repo.milestone("m1", task("a", agent="claude"))
    for left in ("hang", ""):
        run = repo.start("milestone:m1")
        while plan.read_text(encoding="utf-8").strip() != left:
            assert run.poll() is None
            time.sleep(0.05)
        run.kill()
        run.communicate()
    told = repo.doit("milestone:m1").check(75)
    assert "budget: $3.00 of $3.00 of today are spent; it continues tomorrow" in told.out


def test_what_an_agent_looks_to_and_may_use_comes_from_its_route(repo: Repo) -> None:
    require_sandbox()
    repo.write(
        "rules/agents.toml",
        '[agent.own]\ncommand = ["sh", "-c", "echo $* > args.txt", "own", "{flags}"]\n'
        'flags = { tools = ["--tools", "{tools}"], model = ["-m", "{model}"], budget = ["--most", "{budget}"] }\n'
        'model = "big"\n',
    )
    repo.write("rules/routes.toml", '[route.docs]\nagent = "own"\nfocus = "Keep it short."\ntools = ["Read", "Edit"]\n')
    repo.write("rules/limits.toml", "backoff_s = 0.0\nattempt_usd = 1.5\n")
    repo.milestone("m1", issue("a", type="docs"))
    repo.doit("milestone:m1").check()
    assert repo.git("show", f"{BRANCH}:args.txt") == "-m big --tools Read,Edit --most 1.50"
    assert "## Your role\n\nKeep it short." in repo.doit("log", "m1/a", "--brief").check().out


def test_an_agent_that_is_not_installed_costs_no_attempt_and_the_next_one_of_the_list_works(repo: Repo) -> None:
    repo.write("rules/agents.toml", '[agent.gone]\ncommand = ["no-such-cli"]\nbrief = "stdin"\n')
    repo.milestone("m1", issue("a", "echo a > a").replace('agent = "script"', 'agent = ["gone", "script"]'))
    repo.doit("milestone:m1").check()
    kinds = [item["kind"] for item in repo.doit("log", "m1/a", "--json").check().json["attempts"]]
    assert kinds == ["missing", ""]


def test_an_agent_that_is_not_installed_is_reported_and_retried_when_it_is(repo: Repo, tmp_path: Path) -> None:
    program = tmp_path / "cli"
    rule = f'[agent.gone]\ncommand = ["{program}"]\nbrief = "stdin"\nisolation = "none"\n'
    repo.write("rules/agents.toml", rule)
    repo.milestone("m1", task("a", agent="gone"))
    told = repo.doit("milestone:m1").check(1)
    assert f"agent gone: {program} cannot be executed" in told.out
    assert "install it, or correct PATH or the agent's command, then retry" in repo.doit("log", "m1/a").check().out
    program.write_text("#!/bin/sh\necho a > a.txt\n")
    program.chmod(0o755)
    repo.doit("retry", "m1/a").check()
    repo.doit("milestone:m1").check()
    assert state(repo)["status"] == "landed"
