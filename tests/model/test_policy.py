"""Rules as values, whom they give an issue to, and every way in which they do not fit the declarations."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.config.load_milestones import read_milestone
from executor.config.load_rules import policy_faults
from executor.errors import Fault
from executor.model.agent_profile import Agent
from executor.model.milestone import Issue, Milestone
from executor.model.outward_rules import Forge
from executor.model.policy import Policy, read_policy
from executor.model.rules import Check, Limits, StopRule

RULES = {
    path.stem: tomllib.loads(path.read_text(encoding="utf-8"))
    for path in (Path(__file__).parents[2] / "rules").glob("*.toml")
}
RULES["stops"] = {
    "stop": {
        path.stem: tomllib.loads(path.read_text(encoding="utf-8"))
        for path in sorted((Path(__file__).parents[2] / "rules" / "stops").glob("*.toml"))
    }
}
LIST = 'expected a list, for example ["a", "b"], found'
PACKAGED = ("claude", "codex", "gemini", "opencode", "aider", "mini-swe-agent")
KNOWN = f"known agents: script, patch, {', '.join(PACKAGED)}, model"
CONDITIONS = "expected a condition: paths, content, max_files, max_lines, max_bytes, builtin or run"
LIMIT_KEYS = list(Limits.model_fields)


def rules(stem: str = "", text: str = "") -> dict[str, Any]:
    """The packaged rules with the tables of `text` on top of those of one file."""
    merged = copy.deepcopy(RULES)
    for key, value in tomllib.loads(text).items():
        if isinstance(value, dict) and isinstance(merged[stem].get(key), dict):
            merged[stem][key] |= value
        else:
            merged[stem][key] = value
    return merged


def policy(stem: str = "", text: str = "") -> Policy:
    read, faults = read_policy(rules(stem, text), "rules")
    assert faults == []
    assert read is not None
    return read


def issue(**values: Any) -> Issue:
    return Issue.model_validate({"id": "4.1", "title": "T", "body": "b", **values})


def told(item: Issue, rule: Policy) -> list[Fault]:
    milestone = Milestone(id="m4", title="T", issues=(issue(id="first", **{"with": {"run": "true"}}), item))
    return policy_faults({"m4": milestone}, {"m4": "milestones/m4.toml"}, rule)


def fault(key: str, problem: str) -> Fault:
    return Fault("milestones/m4.toml", f"issue[1].{key}", problem)


def test_the_packaged_rules_are_read() -> None:
    read = policy()
    assert list(read.agents) == ["script", "patch", *PACKAGED]
    assert read.agents["script"] == Agent(
        name="script", command=("sh", "-c", "{run}"), deterministic=True, isolation="none"
    )
    assert read.agents["patch"] == Agent(name="patch", builtin="patch", deterministic=True, isolation="none")
    assert sorted(read.checks) == ["lint", "related", "syntax", "tests", "types"]
    assert read.checks["tests"] == Check(
        name="tests", run=("pytest", "-q", "--junitxml={report}"), version=("pytest", "--version")
    )
    assert read.routes["default"].checks == ()
    assert (read.limits.attempts, read.limits.timeout_s, read.limits.parallel) == (3, 3600, 1)
    assert read.forge == Forge(kind="local", commit_types=read.forge.commit_types)
    assert read.forge.commit_types["bug"] == "fix"


@pytest.mark.parametrize(
    ("stem", "text", "expected"),
    [
        ("agents", "agnt = 1", [("", 'unknown key "agnt"; did you mean "agent"?')]),
        ("agents", "zebra = 1", [("", 'unknown key "zebra"; known keys: agent')]),
        ("agents", "agent = 3", [("agent", "expected tables [agent.NAME], found the number 3")]),
        ("agents", "agent.x = 3", [("agent.x", "expected a table, found the number 3")]),
        ("agents", "[agent.x]", [("agent.x", "expected a command")]),
        ("agents", '[agent.patch]\ncommand = ["x"]\nbuiltin = "patch"', [("agent.patch", "expected a command")]),
        ("agents", '[agent.x]\ncommand = "x"', [("agent.x.command", f'{LIST} "x"')]),
        ("agents", "[agent.x]\ncommand = [1]", [("agent.x.command[0]", "expected text, found the number 1")]),
        (
            "agents",
            '[agent.x]\nbuiltin = "magic"',
            [("agent.x.builtin", 'expected "patch", found "magic"')],
        ),
        (
            "agents",
            '[agent.x]\ncomand = ["x"]',
            [("agent.x", 'unknown key "comand"; did you mean "command"?')],
        ),
        (
            "agents",
            '[agent.x]\ncommand = ["a", "{", "{}", "{0}", "{a b}", "{{ok}}", "{ok}"]',
            [
                (
                    "agent.x",
                    f'expected placeholders such as {{brief_file}} and doubled braces for others, found "{word}"',
                )
                for word in ("{", "{}", "{0}", "{a b}")
            ],
        ),
        (
            "agents",
            '[agent.x]\ncommand = ["x"]\ntimeout = true\nidle = -1',
            [
                ("agent.x.timeout", "expected a number, found true"),
                ("agent.x.idle", "expected a number greater than 0, found the number -1"),
            ],
        ),
        ("checks", "[check.x]", [("check.x.run", "is missing, but required")]),
        ("checks", '[check.x]\nrun = "x"\nwhen = "*.py"', [("check.x.when", f'{LIST} "*.py"')]),
        ("checks", '[check.x]\nrun = "x"\nenv = { A = 1 }', [("check.x.env.A", "expected text, found the number 1")]),
        (
            "routes",
            '[route.core]\nagent = "pacth"\nworkflow = "driect"\nchecks = ["tets", "zebra"]',
            [
                ("route.core.agent", 'unknown agent "pacth"; did you mean "patch"?'),
                ("route.core.workflow", 'unknown workflow "driect"; did you mean "direct"?'),
                ("route.core.checks", 'unknown check "tets"; did you mean "tests"?'),
                ("route.core.checks", 'unknown check "zebra"; known checks: syntax, lint, types, related, tests'),
            ],
        ),
        (
            "routes",
            '[route.core]\nagnet = "patch"',
            [("route.core", 'unknown key "agnet"; did you mean "agent"?')],
        ),
        ("limits", "attemps = 3", [("", 'unknown key "attemps"; did you mean "attempts"?')]),
        (
            "limits",
            "zebra = 3",
            [("", f'unknown key "zebra"; known keys: {", ".join(LIMIT_KEYS[:10])} and {len(LIMIT_KEYS) - 10} more')],
        ),
        ("limits", "attempts = 0", [("attempts", "expected a number at least 1, found the number 0")]),
        ("limits", "attempts = 101", [("attempts", "expected a number at most 100, found the number 101")]),
        ("limits", "parallel = true", [("parallel", "expected a whole number, found true")]),
        ("limits", 'timeout_s = "1"', [("timeout_s", 'expected a number, found "1"')]),
        ("limits", "idle_s = 0", [("idle_s", "expected a number greater than 0, found the number 0")]),
        ("limits", "ignore = 3", [("ignore", f"{LIST} the number 3")]),
        (
            "forge",
            'kind = "svn"',
            [("kind", 'expected one of "local", "forgejo", "gitea", "github", "gitlab", found "svn"')],
        ),
        ("forge", 'merge = "fast"', [("merge", 'expected "squash", "merge" or "rebase", found "fast"')]),
        (
            "forge",
            'base_url = "http://example.org"',
            [("base_url", 'expected an https address such as https://api.github.com, found "http://example.org"')],
        ),
        ("forge", 'repository = "name"', [("repository", 'expected "owner/name", found "name"')]),
        (
            "forge",
            'remote = "ext::sh -c true"',
            [
                (
                    "remote",
                    (
                        "expected the name of a remote, an https or ssh address or an absolute path, "
                        'found "ext::sh -c true"'
                    ),
                )
            ],
        ),
        ("forge", "wait = -1", [("wait", "expected a number at least 0, found the number -1")]),
        (
            "checks",
            '[check.x]\nrun = "true"\nenv = { GH_TOKEN = "x" }',
            [("check.x.env", '"x" must not get GH_TOKEN: no child process sees the forge\'s token')],
        ),
        (
            "agents",
            '[agent.x]\ncommand = ["x"]\nenv = ["GITHUB_TOKEN"]',
            [("agent.x.env", '"x" must not get GITHUB_TOKEN: no child process sees the forge\'s token')],
        ),
        ("stops", "stp = 1", [("", 'unknown key "stp"; did you mean "stop"?')]),
        ("stops", "[stop.x]", [("stop.x", CONDITIONS)]),
        ("stops", '[stop.x]\nlevel = "soft"\nexcept_paths = ["a"]', [("stop.x", CONDITIONS)]),
        ("stops", '[stop.x]\npath = ["a"]', [("stop.x", 'unknown key "path"; did you mean "paths"?')]),
        ("stops", '[stop.x]\npaths = "a"', [("stop.x.paths", f'{LIST} "a"')]),
        ("stops", '[stop.x]\npaths = [""]', [("stop.x.paths[0]", "expected text, found an empty text")]),
        (
            "stops",
            '[stop.x]\ncontent = ["a", "(b"]',
            [
                (
                    "stop.x.content[1]",
                    ('expected a regular expression, found "(b": missing ), unterminated subpattern at position 0'),
                )
            ],
        ),
        (
            "stops",
            '[stop.x]\nmax_files = 1\nlevel = "harsh"',
            [("stop.x.level", 'expected "hard" or "soft", found "harsh"')],
        ),
        (
            "stops",
            "[stop.x]\nmax_lines = -1",
            [("stop.x.max_lines", "expected a number at least 0, found the number -1")],
        ),
        ("stops", "[stop.x]\nmax_files = true", [("stop.x.max_files", "expected a whole number, found true")]),
        (
            "stops",
            '[stop.x]\nmax_files = 1\nenabled = "no"',
            [("stop.x.enabled", 'expected true or false, found "no"')],
        ),
        ("forge", 'knd = "local"', [("", 'unknown key "knd"; did you mean "kind"?')]),
    ],
)
def test_a_faulty_rule_is_reported_where_and_why(stem: str, text: str, expected: list[tuple[str, str]]) -> None:
    assert read_policy(rules(stem, text), "rules") == (
        None,
        [Fault(f"rules/{stem}.toml", key, problem) for key, problem in expected],
    )


def test_a_check_that_runs_neither_words_nor_a_shell_command_is_refused() -> None:
    read, faults = read_policy(rules("checks", "[check.x]\nrun = 3"), "rules")
    assert read is None
    assert faults
    assert {fault.file for fault in faults} == {"rules/checks.toml"}
    assert all(fault.key.startswith("check.x.run") for fault in faults)


def test_an_agent_or_check_that_is_declared_but_faulty_is_not_unknown_to_a_route() -> None:
    merged = rules("routes", '[route.core]\nagent = "x"\nchecks = ["y"]')
    merged["agents"]["agent"]["x"] = {"command": 3}
    merged["checks"]["check"]["y"] = {"when": []}
    assert read_policy(merged, "rules") == (
        None,
        [
            Fault("rules/agents.toml", "agent.x.command", f"{LIST} the number 3"),
            Fault("rules/checks.toml", "check.y.run", "is missing, but required"),
        ],
    )


def test_missing_limits_are_each_reported() -> None:
    _, faults = read_policy({**RULES, "limits": {}, "forge": {}}, "mine")
    assert faults == [
        *(
            Fault("mine/limits.toml", key, "is missing, but required")
            for key, field in Limits.model_fields.items()
            if field.is_required()
        ),
        Fault("mine/forge.toml", "kind", "is missing, but required"),
    ]


def test_a_stop_rule_is_named_by_its_table_and_its_order_is_kept() -> None:
    read = policy("stops", '[stop.x]\ncontent = ["a"]\nrun = ["true"]\n[stop.a]\nbuiltin = "secrets"')
    assert [rule.id for rule in read.stops][-2:] == ["x", "a"]
    assert read.stops[-2] == StopRule(id="x", content=("a",), run=("true",))
    assert "pytest.ini" in read.protected


def test_without_stop_rules_nothing_stops_and_nothing_is_protected() -> None:
    read, faults = read_policy({stem: value for stem, value in RULES.items() if stem != "stops"}, "rules")
    assert (read is not None, faults) == (True, [])
    assert read is not None
    assert (read.stops, read.protected) == ((), ())


ROUTED = '[route.core]\nagent = "script"\nchecks = ["lint", "tests"]\n[route.default]\nchecks = ["syntax"]'


def test_the_agent_is_the_declared_one_or_that_of_the_route() -> None:
    rule = policy("routes", ROUTED)
    assert rule.agent_for(issue(type="core")).name == "script"
    assert rule.agent_for(issue(type="core", agent="patch")).name == "patch"
    assert rule.agent_names(issue(type="docs")) == ()
    assert rule.route_of(issue(type="research")) == rule.routes["default"]
    assert rule.route_of(issue(type="docs")).checks == rule.routes["default"].checks
    assert rule.route_of(issue(type="core")).checks == rule.routes["core"].checks


@pytest.mark.parametrize(
    ("options", "agent"),
    [
        ({"run": "make"}, "script"),
        ({"file": "m4/a.patch"}, "patch"),
        ({}, None),
        ({"run": "make", "file": "x"}, None),
        ({"other": "x"}, None),
    ],
)
def test_an_agent_that_nobody_names_is_the_one_that_the_options_can_only_be_meant_for(
    options: dict[str, str], agent: str | None
) -> None:
    assert policy().agent_names(issue(**{"with": options})) == ((agent,) if agent else ())


def test_options_that_fit_two_agents_choose_neither() -> None:
    rule = policy("agents", '[agent.shell]\ncommand = ["bash", "-c", "{run}"]')
    assert rule.agent_names(issue(**{"with": {"run": "make"}})) == ()


def test_checks_are_those_of_the_route_unless_the_issue_has_a_list_of_its_own() -> None:
    rule = policy("routes", ROUTED)
    assert [check.name for check in rule.checks_for(issue(type="core"))] == ["lint", "tests"]
    assert [check.name for check in rule.checks_for(issue(type="docs"))] == ["syntax"]
    assert [check.name for check in rule.checks_for(issue(type="core", checks=["types", "lint"]))] == ["types", "lint"]
    assert rule.checks_for(issue(type="core", checks=[])) == []


AGENTS = """
[agent.model]
command = ["agent", "--model", "{model}", "{brief_file}", "--out={out}"]
options = ["effort"]
"""


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {},
            [
                (
                    "agent",
                    (
                        'no agent is declared, needed by "4.1", and the route of type "feature" names none; '
                        f"known agents: script, patch, {', '.join(PACKAGED)}, model"
                    ),
                )
            ],
        ),
        (
            {"agent": "scirpt"},
            [("agent", 'unknown agent "scirpt", needed by "4.1"; did you mean "script"?')],
        ),
        (
            {"agent": "zebra"},
            [
                ("agent", f'unknown agent "zebra", needed by "4.1"; {KNOWN}'),
            ],
        ),
        (
            {"agent": "patch"},
            [("with", 'agent "patch" needs the option "file", needed by "4.1"; write with = { file = "..." }')],
        ),
        (
            {"agent": "script", "with": {"rnu": "x"}},
            [
                ("with", 'agent "script" needs the option "run", needed by "4.1"; write with = { run = "..." }'),
                ("with", 'unknown option "rnu" of agent "script"; did you mean "run"?'),
            ],
        ),
        (
            {"agent": "model", "with": {"model": "m", "zebra": 1}},
            [("with", 'unknown option "zebra" of agent "model"; known options: effort, model')],
        ),
        (
            {"agent": "model", "with": {"model": ["m"]}},
            [("with.model", "expected text, found a list")],
        ),
        (
            {"agent": "patch", "with": {"file": "../x"}},
            [("with.file", 'expected a path inside milestones/, found "../x"')],
        ),
        (
            {"with": {"file": "/etc/passwd"}},
            [("with.file", 'expected a path inside milestones/, found "/etc/passwd"')],
        ),
        (
            {"with": {"run": "x"}, "checks": ["tests", "lnit", "zebra"]},
            [
                ("checks", 'unknown check "lnit", needed by "4.1"; did you mean "lint"?'),
                ("checks", 'unknown check "zebra", needed by "4.1"; known checks: syntax, lint, types, related, tests'),
            ],
        ),
        (
            {"with": {"run": "x"}, "workflow": "Direct"},
            [("workflow", 'unknown workflow "Direct", needed by "4.1"; did you mean "direct"?')],
        ),
        (
            {"with": {"run": "x"}, "workflow": "review"},
            [("workflow", 'unknown workflow "review", needed by "4.1"; known workflows: direct')],
        ),
        (
            {"with": {"run": "x"}, "allow": ["dependency-chang"]},
            [("allow", 'unknown stop rule "dependency-chang", needed by "4.1"; did you mean "dependency-change"?')],
        ),
        ({"with": {"run": "x"}, "allow": ["large-diff", "unsandboxed", "review-findings"]}, []),
        ({"agent": "model", "with": {"model": "m", "effort": 3}}, []),
        ({"with": {"run": "x"}, "workflow": "direct", "checks": ["tests"]}, []),
    ],
)
def test_an_issue_that_does_not_fit_the_rules_is_reported_where_and_why(
    values: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert told(issue(**values), policy("agents", AGENTS)) == [fault(key, problem) for key, problem in expected]


def test_an_issue_whose_options_fit_two_agents_has_to_name_one() -> None:
    rule = policy("agents", '[agent.mine]\ncommand = ["mine", "{run}"]\n')
    problem = (
        'no agent is declared, needed by "4.1", and the route of type "feature" names none; '
        "its options fit script and mine; name one"
    )
    assert told(issue(**{"with": {"run": "x"}}), rule)[-1] == fault("agent", problem)


def test_a_fault_is_reported_at_the_place_in_the_file_although_a_faulty_issue_was_left_out() -> None:
    text = (
        '[milestone]\nid = "m4"\ntitle = "T"\n[[issue]]\nid = "bad"\ntitle = ""\nbody = "b"\n'
        '[[issue]]\nid = "4.1"\ntitle = "A"\nbody = "b"\nagent = "pacth"\n'
    )
    read = read_milestone(tomllib.loads(text), "milestones/m4.toml", "m4")
    assert read.milestone is not None
    assert policy_faults({"m4": read.milestone}, {"m4": "milestones/m4.toml"}, policy()) == [
        fault("agent", 'unknown agent "pacth", needed by "4.1"; did you mean "patch"?')
    ]


def test_arguments_are_filled_into_the_command() -> None:
    agent = policy("agents", AGENTS).agents["model"]
    assert agent.argv({"model": 4.5, "brief_file": "/b {x}.md", "out": "/o", "more": 1}) == (
        "agent",
        "--model",
        "4.5",
        "/b {x}.md",
        "--out=/o",
    )
    assert agent.needed() == {"model"}


def test_doubled_braces_stay_braces() -> None:
    agent = Agent(name="x", command=("awk", "{{ print {column} }}"))
    assert agent.argv({"column": "$1"}) == ("awk", "{ print $1 }")
    assert agent.needed() == {"column"}


def test_a_placeholder_without_a_value_is_named() -> None:
    with pytest.raises(KeyError) as caught:
        Agent(name="x", command=("run", "{model}")).argv({"brief_file": "b"})
    assert caught.value.args == ("model",)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.sampled_from("{}!:.[]ab0 _é"), max_size=6), min_size=1, max_size=2))
def test_a_command_that_is_accepted_can_always_be_filled_in(words: list[str]) -> None:
    read, faults = read_policy({**RULES, "agents": {"agent": {"x": {"command": words}}}}, "rules")
    if read is None:
        assert {fault.key for fault in faults} == {"agent.x"}
    else:
        agent = read.agents["x"]
        assert len(agent.argv(dict.fromkeys(agent.needed(), "value"))) == len(words)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)
NAMES = st.sampled_from(["agent", "check", "route", "command", "run", "checks", "kind", "attempts", "x"])
TABLE = st.dictionaries(NAMES, JSON_LIKE, max_size=3)
DOCUMENT = st.dictionaries(NAMES, JSON_LIKE | st.dictionaries(NAMES, JSON_LIKE | TABLE, max_size=3), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(RULES)), DOCUMENT, max_size=3))
def test_whatever_stands_in_the_rules_is_read_or_reported(documents: dict[str, Any]) -> None:
    read, faults = read_policy({**RULES, **documents}, "rules")
    assert (read is None) == bool(faults)
    assert all(fault.problem and "\n" not in str(fault) for fault in faults)
