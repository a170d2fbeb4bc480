"""What doctor finds out about an agent without calling a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.agents.command import probe_agent
from executor.model.agent_profile import Agent

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def program(folder: Path, text: str) -> str:
    path = folder / "agent"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_a_program_that_starts_and_can_log_in_is_well(tmp_path: Path) -> None:
    name = program(tmp_path, "echo agent 1.2.3")
    (tmp_path / "auth").touch()
    agent = Agent(name="x", command=(name,), version=(name, "--version"), login=("$NO_SUCH", str(tmp_path / "auth")))
    assert list(probe_agent(agent)) == [("ok", f"{name}, agent 1.2.3, logged in ({tmp_path / 'auth'})", "")]


def test_a_missing_program_is_reported() -> None:
    agent = Agent(name="x", command=("no-such-agent",))
    told = ("agent-missing", "no-such-agent is not on PATH", "install no-such-agent, or choose another agent")
    assert list(probe_agent(agent)) == [told]


def test_a_program_that_does_not_start_and_a_missing_log_in_are_reported(tmp_path: Path) -> None:
    name = program(tmp_path, "echo broken; exit 3")
    agent = Agent(name="x", command=(name,), version=(name, "--version"), login=("$NO_SUCH_KEY", "~/.no-such/auth"))
    assert [(kind, text) for kind, text, _ in probe_agent(agent)] == [
        ("agent-broken", f"{name} --version ended with exit 3: broken"),
        ("agent-login", "no sign that it can log in"),
    ]


def test_a_variable_counts_only_if_it_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = program(tmp_path, "true")
    monkeypatch.setenv("SOME_KEY", "value")
    outside = Agent(name="x", command=(name,), login=("$SOME_KEY",))
    inside = Agent(name="x", command=(name,), login=("$SOME_KEY",), env=("SOME_KEY",))
    assert [kind for kind, _, _ in probe_agent(outside)] == ["agent-login"]
    assert [kind for kind, _, _ in probe_agent(inside)] == ["ok"]
