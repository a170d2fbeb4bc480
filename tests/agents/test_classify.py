"""Classes of failed calls, told from what each command line really printed."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.agents.errors import Diagnosis, Ending, classify, parse_output
from executor.agents.output import AgentOutput
from executor.model.agent_profile import Agent

ROOT = Path(__file__).parents[2]
PROFILES = {
    name: Agent.model_validate({"name": name, **table})
    for name, table in tomllib.loads((ROOT / "rules" / "agents.toml").read_text(encoding="utf-8"))["agent"].items()
}
NOW = datetime(2026, 11, 21, 4, 30, tzinfo=UTC)
KINDS = {
    "unauthorized": "authentication",
    "limit": "limit",
    "error": "transient",
    "refuse": "refusal",
    "give-up": "gave-up",
}
RECORDED = sorted((ROOT / "tests" / "recorded").glob("*.txt"))


def ending(code: int | None = 1, *, changed: bool = False, reason: str = "exited", signal: int | None = None) -> Ending:
    return Ending(reason, code, signal, f"exit {code}" if reason == "exited" else f"killed ({reason})", changed)


def found(agent: Agent, text: str, how: Ending) -> Diagnosis | None:
    return classify(agent, how, parse_output(agent, text.splitlines(keepends=True)), NOW)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_each_command_line_printed_has_its_class(path: Path) -> None:
    name, behaviour = next(
        (profile, path.stem.removeprefix(f"{profile}-")) for profile in PROFILES if path.stem.startswith(f"{profile}-")
    )
    code = 0 if name == "aider" or behaviour in {"refuse", "give-up"} else 1
    agent = PROFILES[name]
    text = path.read_text(encoding="utf-8")
    told = AgentOutput(noise=text) if agent.output_file else parse_output(agent, text.splitlines(keepends=True))
    finding = classify(agent, ending(code), told, NOW)
    assert finding is not None
    assert finding.kind == KINDS[behaviour], finding


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("Claude AI usage limit reached|1795242000", 1795242000.0),
        ("You've hit your session limit \u00b7 resets 6am (UTC)", NOW.timestamp() + 5400),
        ("You've hit your usage limit. Try again in 3 hours 20 minutes.", NOW.timestamp() + 12000),
        ("Quota exceeded, quota will reset after 13h55m3s.", NOW.timestamp() + 50103),
        ("429 Too Many Requests, retry-after: 30", NOW.timestamp() + 30),
        ("weekly limit reached", None),
    ],
)
def test_a_limit_says_until_when(text: str, until: float | None) -> None:
    finding = found(Agent(name="x", command=("x",)), text, ending())
    assert finding is not None
    assert (finding.kind, finding.until) == ("limit", until)


def test_a_limit_in_a_structured_event_has_its_moment_from_there() -> None:
    event = '{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795242000}}\n'
    finding = found(PROFILES["claude"], event, ending())
    assert finding == Diagnosis("limit", "claude is at its limit: no message", 1795242000.0)
    opencode = (ROOT / "tests" / "recorded" / "opencode-limit.txt").read_text(encoding="utf-8")
    finding = found(PROFILES["opencode"], opencode, ending())
    assert finding is not None
    assert finding.until == NOW.timestamp() + 7


@pytest.mark.parametrize("name", ["claude", "codex", "gemini", "opencode"])
@given(text=st.text())
def test_nothing_that_a_model_says_matters_once_it_ended_well_with_a_change(name: str, text: str) -> None:
    assert found(PROFILES[name], f"{text}\nusage limit reached, 401 Unauthorized\n", ending(0, changed=True)) is None


def test_the_exit_code_of_aider_is_not_believed() -> None:
    text = (ROOT / "tests" / "recorded" / "aider-limit.txt").read_text(encoding="utf-8")
    finding = found(PROFILES["aider"], text, ending(0, changed=True))
    assert finding is not None
    assert finding.kind == "limit"


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (ending(3), "agent"),
        (ending(137), "resource"),
        (ending(None, signal=9), "resource"),
        (ending(None, reason="timeout"), "agent"),
        (ending(None, reason="idle"), "agent"),
    ],
)
def test_without_words_the_exit_decides(how: Ending, kind: str) -> None:
    finding = found(Agent(name="x", command=("x",)), "", how)
    assert finding is not None
    assert finding.kind == kind


def test_a_silent_agent_behind_a_question_waits_for_input() -> None:
    finding = found(Agent(name="x", command=("x",)), "Working\nProceed with edits? [y/N] ", ending(None, reason="idle"))
    assert finding == Diagnosis("input", "agent x waited for an answer that no one gives: Proceed with edits? [y/N]")


def test_a_command_of_the_users_own_is_judged_by_its_exit_code_only() -> None:
    agent = PROFILES["script"]
    assert found(agent, "connection refused, rate limit reached", ending(1)) == Diagnosis(
        "agent", "agent script: exit 1"
    )
    assert found(agent, "I give up", ending(0)) is None


def test_a_failed_login_names_what_to_do() -> None:
    finding = found(PROFILES["codex"], '{"type":"turn.failed","error":{"message":"401 Unauthorized"}}\n', ending())
    assert finding is not None
    assert finding.reason == (
        "agent codex cannot log in (401 Unauthorized); set OPENAI_API_KEY or set CODEX_API_KEY or log in (it keeps "
        "~/.codex/auth.json)"
    )


@given(text=st.text(), code=st.sampled_from([0, 1, None]), changed=st.booleans())
def test_any_output_has_a_class_or_none(text: str, code: int | None, changed: bool) -> None:
    for agent in PROFILES.values():
        finding = found(agent, text, ending(code, changed=changed))
        assert finding is None or finding.reason
