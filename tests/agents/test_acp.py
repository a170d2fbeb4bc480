"""Agents that speak the Agent Client Protocol: one kind of profile for all of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from executor.model.agent_profile import Agent, agent_problems
from executor.sandbox.bubblewrap import find_sandbox
from tests.support import Repo, issue

SPEAKER = Path(__file__).with_name("acp_agent.py")
BRANCH = "milestone/m1-test-m1"


def profiles(repo: Repo, isolation: str, *manners: str, more: str = "") -> None:
    blocks = [
        f'[agent.{manner}]\nprotocol = "acp"\nisolation = "{isolation}"\n'
        f"command = {json.dumps([sys.executable, '-I', '-S', str(SPEAKER), manner])}\n"
        f"readable = {json.dumps([str(SPEAKER), sys.base_prefix, sys.prefix])}\n{more}"
        for manner in manners
    ]
    repo.write("rules/agents.toml", "\n".join(blocks))


@pytest.mark.parametrize("isolation", ["none", "bwrap"])
def test_an_agent_that_speaks_the_protocol_lands_an_issue_and_its_work_and_cost_are_on_record(
    repo: Repo, isolation: str
) -> None:
    if isolation == "bwrap" and find_sandbox() is None:
        pytest.skip("no sandbox here")
    profiles(repo, isolation, "works")
    repo.milestone("m1", issue("a", "", agent="works", accept=[{"file": "written.txt"}]))
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH) == ["a@1"]
    (attempt,) = repo.doit("log", "m1/a", "--json").check().json["attempts"]
    assert attempt["cost_usd"] == 0.25
    assert attempt["tokens"] == {"input": 100, "cached": 30, "output": 7}
    shown = repo.doit("log", "m1/a").check().out
    assert "It is written." in shown
    assert "ls -l" in shown
    assert "written.txt" in shown
    assert "I begin." not in shown


def test_refusals_missing_logins_and_deaths_are_distinguished(repo: Repo) -> None:
    profiles(repo, "none", "refuses", "no-login", "dies")
    repo.write("rules/limits.toml", "attempts = 1\nbackoff_s = 0.0\ntransient = 0\n")
    repo.milestone("m1", "".join(issue(name, "", agent=name) for name in ("refuses", "no-login", "dies")))
    repo.doit("milestone:m1").check(1)
    kinds = {
        name: repo.doit("log", f"m1/{name}", "--json").check().json["attempts"][0]["kind"]
        for name in ("refuses", "no-login", "dies")
    }
    assert kinds == {"refuses": "refusal", "no-login": "authentication", "dies": "agent"}


def test_an_agent_that_is_out_of_time_is_cancelled_by_the_protocol(repo: Repo) -> None:
    profiles(repo, "none", "hangs", more="timeout = 2\n")
    repo.write("rules/limits.toml", "attempts = 1\n")
    repo.milestone("m1", issue("a", "", agent="hangs"))
    repo.doit("milestone:m1").check(1)
    tree = repo.path / ".cache"
    assert [path.name for path in tree.rglob("cancelled")] == ["cancelled"]


def test_contradictions_with_the_protocol_are_named() -> None:
    agent = Agent(name="a", protocol="acp", command=("x",), brief="file")
    assert any('protocol = "acp"' in problem for problem in agent_problems(agent))
    assert not list(agent_problems(Agent(name="a", protocol="acp", command=("x",))))
