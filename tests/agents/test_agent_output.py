"""What is read from an agent's output: tokens, money, session, words."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.agents.errors import parse_output
from executor.model.agent_profile import Agent, Price

TABLES = tomllib.loads((Path(__file__).parents[2] / "rules" / "agents.toml").read_text(encoding="utf-8"))["agent"]
PROFILES = {name: Agent.model_validate({"name": name, **table}) for name, table in TABLES.items()}
USAGE = {"input_tokens": 1000, "cache_read_input_tokens": 200, "cache_creation_input_tokens": 0, "output_tokens": 100}
STEP = {"tokens": {"input": 1000, "output": 90, "reasoning": 10, "cache": {"read": 200, "write": 0}}, "cost": 0.00456}
MINI = {
    "info": {"model_stats": {"instance_cost": 0.5}, "exit_status": "Submitted", "submission": "done"},
    "messages": [
        {"role": "system"},
        *(
            {"extra": {"response": {"usage": {"prompt_tokens": 600, "completion_tokens": 50,
                                              "prompt_tokens_details": {"cached_tokens": 100}}}}}
            for _ in range(2)
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "events", "cost"),
    [
        ("claude", [{"type": "result", "result": "x", "total_cost_usd": 0.0152, "usage": USAGE}], 0.0152),
        (
            "codex",
            [
                {
                    "type": "turn.completed",
                    "usage": {"input_tokens": 1200, "cached_input_tokens": 200, "output_tokens": 100},
                }
            ],
            None,
        ),
        ("gemini", [{"type": "result", "stats": {"input_tokens": 1200, "cached": 200, "output_tokens": 100}}], None),
        ("opencode", [{"type": "step_finish", "sessionID": "s", "part": STEP}], 0.00456),
        ("mini-swe-agent", [MINI], 0.5),
    ],
)
def test_tokens_and_money_of_every_packaged_agent(name: str, events: list[object], cost: float | None) -> None:
    told = parse_output(PROFILES[name], [json.dumps(event) + "\n" for event in events])
    assert told.tokens == {"input": 1200, "cached": 200, "output": 100}
    assert told.cost_usd == cost


def test_parts_of_a_message_are_one_text_and_the_last_message_counts() -> None:
    def said(text: str, **more: object) -> dict[str, object]:
        return {"type": "message", "role": "assistant", "content": text, **more}

    tool = {"type": "tool_use", "tool_name": "run_shell_command", "parameters": {"command": "ls"}}
    events = [said("I look ", delta=True), said("first.", delta=True), tool, said("All ", delta=True)]
    events += [said("done.", delta=True), {"type": "result", "status": "success"}]
    told = parse_output(PROFILES["gemini"], [json.dumps(event) + "\n" for event in events])
    assert (told.text, told.commands) == ("All done.", ["ls"])
    again = [said("One.", delta=True), said("Two."), said("Three.")]
    assert parse_output(PROFILES["gemini"], [json.dumps(event) + "\n" for event in again]).text == "Three."


def test_plain_words_of_aider_are_counted() -> None:
    lines = [
        "Tokens: 2.4k sent, 1.2k cache hit, 100 received. Cost: $0.0023 message, $0.0023 session.\n",
        "Tokens: 1,024 sent, 12 received. Cost: $0.01 message, $0.0123 session.\n",
    ]
    told = parse_output(PROFILES["aider"], lines)
    assert told.tokens == {"input": 3424, "cached": 1200, "output": 112}
    assert told.cost_usd == pytest.approx(0.0123)


def test_what_several_events_say_adds_up() -> None:
    line = json.dumps({"type": "step_finish", "sessionID": "s", "part": STEP}) + "\n"
    told = parse_output(PROFILES["opencode"], [line, "noise\n", line])
    assert (told.cost_usd, told.session, told.noise) == (0.00912, "s", "noise\n")


def test_a_price_makes_money_of_tokens() -> None:
    price = Price(input=3.0, cached=0.3, output=15.0)
    assert price.of({"input": 1200, "cached": 200, "output": 100}) == pytest.approx(0.00456)
    assert Price(input=1.0, output=1.0).of({"input": 10, "cached": 10}) == pytest.approx(0.00001)


@pytest.mark.parametrize("number", ['"NaN"', "1e400", "-5", "true", '"many"', "null", "[]"])
def test_numbers_that_are_none_count_for_nothing(number: str) -> None:
    line = f'{{"type":"result","result":"x","total_cost_usd":{number},"usage":{{"output_tokens":{number}}}}}\n'
    told = parse_output(PROFILES["claude"], [line])
    assert (told.cost_usd, told.tokens) == (None, {})


@pytest.mark.parser
@given(st.lists(st.text()), st.sampled_from(sorted(PROFILES)))
def test_any_output_can_be_read(lines: list[str], name: str) -> None:
    parse_output(PROFILES[name], lines)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_any_event_can_be_read(value: object) -> None:
    for name in ("type", "info", "part", "messages"):
        event = {"type": "result", name: value, "usage": value, "error": value}
        for agent in PROFILES.values():
            parse_output(agent, [json.dumps(event) + "\n"])
