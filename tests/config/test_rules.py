"""The packaged rules and the user's own on top of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from executor.config.load_rules import load_policy
from executor.config.project import packaged_rules
from executor.errors import DeclarationError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The user's own rules, none yet."""
    folder = tmp_path / "rules"
    folder.mkdir()
    return folder


def faults(folder: Path) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        load_policy(folder)
    assert caught.value.exit_code == 3
    return [str(fault) for fault in caught.value.faults]


def test_the_packaged_rules_are_in_order_and_all_there() -> None:
    assert sorted(path.name for path in packaged_rules().glob("*.toml")) == [
        "agents.toml",
        "checks.toml",
        "environments.toml",
        "forge.toml",
        "landing.toml",
        "limits.toml",
        "notify.toml",
        "routes.toml",
        "runners.toml",
        "setup.toml",
        "status.toml",
        "stops.toml",
        "verdicts.toml",
    ]
    assert list(load_policy(packaged_rules()).agents)[:2] == ["script", "patch"]


def test_without_rules_of_ones_own_the_packaged_ones_hold(own: Path) -> None:
    assert load_policy(own) == load_policy(own.parent / "nowhere") == load_policy(packaged_rules())


def test_own_rules_override_key_by_key(own: Path) -> None:
    packaged = load_policy(packaged_rules())
    (own / "limits.toml").write_text("attempts = 5\n", encoding="utf-8")
    (own / "agents.toml").write_text(
        '[agent.script]\ntimeout = 60\n[agent.other]\ncommand = ["other"]\n', encoding="utf-8"
    )
    (own / "routes.toml").write_text('[route.docs]\nagent = "other"\n', encoding="utf-8")
    policy = load_policy(own)
    assert policy.limits == packaged.limits.model_copy(update={"attempts": 5})
    assert policy.agents["script"] == packaged.agents["script"].model_copy(update={"timeout": 60.0})
    assert list(policy.agents) == [*packaged.agents, "other"]
    assert policy.routes["default"] == packaged.routes["default"]
    assert policy.routes["docs"].agent == ("other",)
    assert policy.checks == packaged.checks


def test_an_own_list_replaces_the_packaged_one(own: Path) -> None:
    (own / "limits.toml").write_text('ignore = ["only/"]\n', encoding="utf-8")
    (own / "checks.toml").write_text('[check.syntax]\nwhen = []\nrun = "true"\n', encoding="utf-8")
    policy = load_policy(own)
    assert policy.limits.ignore == ("only/",)
    assert (policy.checks["syntax"].when, policy.checks["syntax"].run) == ((), "true")
    assert policy.checks["syntax"].version == ("python3", "--version")


def test_own_rules_do_not_change_what_the_next_repository_gets(own: Path) -> None:
    before = load_policy(packaged_rules())
    (own / "agents.toml").write_text("[agent.script]\ntimeout = 60\n", encoding="utf-8")
    load_policy(own)
    assert load_policy(packaged_rules()) == before


def test_files_that_are_not_toml_by_name_are_left_alone(own: Path) -> None:
    (own / "notes.md").write_text("[broken", encoding="utf-8")
    (own / "prompts").mkdir()
    assert load_policy(own) == load_policy(packaged_rules())


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("agent.toml", "", 'rules/agent.toml: unknown rules file; did you mean "agents.toml"?'),
        (
            "zebra.toml",
            "[broken",
            (
                "rules/zebra.toml: unknown rules file; known files: agents.toml, checks.toml, environments.toml, "
                "forge.toml, landing.toml, limits.toml, notify.toml, routes.toml, runners.toml, setup.toml and 3 more"
            ),
        ),
        (
            "checks.toml",
            '[check.a]\nrun = "true"\nrunner = "big"',
            'rules/checks.toml: check.a.runner: no runner has the label "big"; known labels: none',
        ),
        ("limits.toml", "attemps = 5", 'rules/limits.toml: unknown key "attemps"; did you mean "attempts"?'),
        (
            "forge.toml",
            "stack = true",
            'rules/forge.toml: stack: expected a kind of forge such as kind = "github", found "local"',
        ),
        ("limits.toml", "attempts = '5'", 'rules/limits.toml: attempts: expected a whole number, found "5"'),
        ("agents.toml", "agent = 3", "rules/agents.toml: agent: expected tables [agent.NAME], found the number 3"),
        ("agents.toml", "agent.script = 3", "rules/agents.toml: agent.script: expected a table, found the number 3"),
        (
            "routes.toml",
            '[route.default]\nagent = "pacth"',
            'rules/routes.toml: route.default.agent: unknown agent "pacth"; did you mean "patch"?',
        ),
        (
            "routes.toml",
            'route.default.checks = ["tets"]',
            'rules/routes.toml: route.default.checks: unknown check "tets"; did you mean "tests"?',
        ),
        (
            "checks.toml",
            "\n[check.x\n",
            "rules/checks.toml: is not TOML: Expected ']' at the end of a table declaration (at line 2, column 9)",
        ),
        (
            "checks.toml",
            "a." * 50 + "b = 1",
            "rules/checks.toml: has a key of more than 32 dotted parts",
        ),
    ],
)
def test_a_faulty_file_of_ones_own_is_reported_where_and_why(own: Path, name: str, text: str, expected: str) -> None:
    (own / name).write_text(text, encoding="utf-8")
    assert faults(own) == [expected]


def test_faults_of_all_files_come_at_once(own: Path) -> None:
    (own / "agents.toml").write_bytes(b"\xff")
    (own / "limit.toml").touch()
    (own / "limits.toml").write_text("parallel = 0", encoding="utf-8")
    (own / "forge.toml").write_text('kind = "sourcehut"', encoding="utf-8")
    assert faults(own) == [
        "rules/agents.toml: is not UTF-8 in line 1: byte 0xff at 0; save it as UTF-8",
        'rules/limit.toml: unknown rules file; did you mean "limits.toml"?',
        "rules/limits.toml: parallel: expected a number at least 1, found the number 0",
        'rules/forge.toml: kind: expected one of "local", "forgejo", "gitea", "github", "gitlab", found "sourcehut"',
    ]


def test_the_packaged_stop_rules_are_hard_but_for_the_size() -> None:
    policy = load_policy(packaged_rules())
    hard = {rule.id for rule in policy.stops if rule.level == "hard"}
    assert hard >= {
        "database-migration",
        "sensitive-code",
        "dependency-change",
        "licence-change",
        "protected-files",
        "secrets",
        "tests-weakened",
    }
    assert [rule.id for rule in policy.stops if rule.level == "soft"] == ["large-diff", "outside-scope"]
    assert all(rule.reason.endswith(".") and rule.needs for rule in policy.stops)
    assert {"conftest.py", ".github/**", "rules/**", "dodo.py"} <= set(policy.protected)


TABLES = """
[stop.large-diff]
max_files = 20
[stop.secrets]
enabled = false
[stop.no-eval]
content = ["eval"]
"""
LISTED = """
[[stop]]
id = "large-diff"
max_files = 20
[[stop]]
id = "secrets"
enabled = false
[[stop]]
id = "no-eval"
content = ["eval"]
"""


@pytest.mark.parametrize("text", [TABLES, LISTED], ids=["tables", "list"])
def test_own_stop_rules_override_key_by_key_in_either_form(own: Path, text: str) -> None:
    packaged = {rule.id: rule for rule in load_policy(packaged_rules()).stops}
    (own / "stops.toml").write_text(text, encoding="utf-8")
    rules = {rule.id: rule for rule in load_policy(own).stops}
    assert list(rules) == [*packaged, "no-eval"]
    assert rules["large-diff"] == packaged["large-diff"].model_copy(update={"max_files": 20})
    assert rules["secrets"] == packaged["secrets"].model_copy(update={"enabled": False})
    assert (rules["no-eval"].level, rules["no-eval"].content) == ("hard", ("eval",))
    assert rules["tests-weakened"] == packaged["tests-weakened"]


def test_the_protected_files_are_those_of_ones_own_rule(own: Path) -> None:
    (own / "stops.toml").write_text('[stop.protected-files]\npaths = ["ci/**"]\n', encoding="utf-8")
    assert load_policy(own).protected == ("ci/**",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stop = 3", "rules/stops.toml: stop: expected tables [stop.NAME], found the number 3"),
        ("stop = [3]", "rules/stops.toml: stop[0]: expected a table, found the number 3"),
        ("[[stop]]\nmax_files = 1", "rules/stops.toml: stop[0].id: is missing, but required"),
        ("[[stop]]\nid = 3", "rules/stops.toml: stop[0].id: expected text, found the number 3"),
        (
            '[[stop]]\nid = "a"\nmax_files = 1\n[[stop]]\nid = "a"',
            'rules/stops.toml: stop[1].id: "a" is already the id of another rule',
        ),
        (
            '[[stop]]\nid = "large-diff"\nmax_file = 1',
            'rules/stops.toml: stop.large-diff: unknown key "max_file"; did you mean "max_files"?',
        ),
    ],
)
def test_faulty_stop_rules_of_ones_own_are_reported(own: Path, text: str, expected: str) -> None:
    (own / "stops.toml").write_text(text, encoding="utf-8")
    assert faults(own) == [expected]
