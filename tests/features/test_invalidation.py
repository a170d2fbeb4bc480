"""README's table "what happens when something changes": one edit of a landed milestone, what ran, what it cost."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support import Repo

if TYPE_CHECKING:
    from collections.abc import Callable

BRANCH = "milestone/m1-test-m1"
BODY = """
[[issue]]
id = "1"
title = "One"
body = '''
First line.

Second line.
'''
agent = "worker"
checks = ["log"]
files = ["one"]
accept = ["It is one", { run = "echo acc >> @beside@/acc; test -f one" }]

[[issue]]
id = "2"
title = "Two"
body = "Two."
needs = ["1"]
agent = "worker"
checks = ["log"]
accept = [{ file = "two" }]
"""
AGENTS = """[agent.worker]
isolation = "none"
command = ["sh", "-c", "echo $EXECUTOR_ISSUE >> @beside@/agents; case $EXECUTOR_ISSUE in 2) f=two;; *) f=one;; esac; \
echo $(grep -c . $EXECUTOR_BRIEF) $(date +%N) > $f"]
"""
CHECKS = """[check.log]
run = "echo checked >> @beside@/checks"
version = ["cat", "@beside@/version"]
"""


class Landed:
    """A milestone of two issues that has landed; counts what is run afterwards."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.beside = repo.path.parent / "beside"
        self.beside.mkdir()
        self.write_version("1.0")
        for name, text in (("agents", AGENTS), ("checks", CHECKS)):
            repo.write(f"rules/{name}.toml", text.replace("@beside@", str(self.beside)))
        self.declare(BODY)
        repo.doit("milestone:m1").check()
        self.forget()

    def write_version(self, text: str) -> None:
        (self.beside / "version").write_text(text + "\n")

    def declare(self, body: str) -> None:
        self.repo.milestone("m1", body.replace("@beside@", str(self.beside)))

    def edit(self, *pairs: tuple[str, str]) -> None:
        path = self.repo.path / "milestones/m1.toml"
        text = path.read_text()
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new, 1)
        path.write_text(text)

    def forget(self) -> None:
        for name in ("agents", "checks", "acc"):
            (self.beside / name).unlink(missing_ok=True)

    def ran(self) -> Ran:
        def lines(name: str) -> list[str]:
            path = self.beside / name
            return path.read_text().split() if path.exists() else []

        return Ran(tuple(lines("agents")), len(lines("checks")) > 0, len(lines("acc")) > 0)


class Ran(NamedTuple):
    """Issues that an agent was paid for; whether the check and the acceptance command of issue 1 were run."""

    agents: tuple[str, ...] = ()
    checks: bool = False
    acceptance: bool = False


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Landed:
    work = tmp_path_factory.mktemp("original") / "work"
    original = Landed(Repo(work / "repo"))
    shutil.copytree(work, work.with_name("kept"), symlinks=True)
    return original


@pytest.fixture
def landed(original: Landed) -> Landed:
    """It as it was; always in the same folder, whose name its rules have."""
    work = original.repo.path.parent
    shutil.rmtree(work)
    shutil.copytree(work.with_name("kept"), work, symlinks=True)
    return original


def edit(*pairs: tuple[str, str]) -> Callable[[Landed], None]:
    return lambda landed: landed.edit(*pairs)


def rules(old: str, new: str) -> Callable[[Landed], None]:
    def change(landed: Landed) -> None:
        path = landed.repo.path / "rules/checks.toml"
        path.write_text(path.read_text().replace(old, new))

    return change


NOTHING = Ran()
VERIFIED = Ran(checks=True, acceptance=True)
EDITS: dict[str, tuple[Callable[[Landed], None], Ran, str]] = {
    "nothing": (lambda _: None, NOTHING, "no input has changed since"),
    "a comment": (edit(("[[issue]]", "# a comment\n[[issue]]")), NOTHING, "no input has changed"),
    "priority and size": (edit(('id = "1"', 'id = "1"\npriority = "P0"\nsize = "L"')), NOTHING, "no input has changed"),
    "a title": (edit(('"One"', '"One!"')), NOTHING, "+One!"),
    "a doubled blank line": (
        edit(("line.\n\n", "line.\n\n\n\n")),
        NOTHING,
        "its spec has changed since, but not the required work",
    ),
    "white space": (edit(("First line.", "First line.   ")), NOTHING, "no input has changed"),
    "expected files": (edit(('files = ["one"]', 'files = ["one", "more"]')), NOTHING, "+more"),
    "a type": (edit(('title = "One"', 'title = "One"\ntype = "core"')), NOTHING, "+core"),
    "an acceptance command that holds": (
        edit(("test -f one", "test -e one")),
        Ran(acceptance=True),
        "no longer asked",
    ),
    "an acceptance file that is there": (
        edit(('accept = [{ file = "two" }]', 'accept = [{ file = "two" }, { file = "one" }]')),
        NOTHING,
        "",
    ),
    "a criterion in words": (edit(('"It is one"', '"It is 1"')), Ran(("1",), checks=True, acceptance=True), "+"),
    "the text": (edit(("Second line.", "Second line!")), Ran(("1",), checks=True, acceptance=True), "+Second line!"),
    "an agent": (edit(('agent = "worker"', 'agent = ["worker", "claude"]')), NOTHING, "no input has changed"),
    "a need removed": (edit(('needs = ["1"]\n', "")), NOTHING, "no input has changed"),
    "a check's command": (rules("echo checked", "echo again"), Ran(checks=True), "check log: command echo checked"),
    "a check's time limit": (
        rules("version =", "timeout = 77\nversion ="),
        VERIFIED,
        "check log: timeout 1800 s -> 77 s",
    ),
    "a check's environment": (
        rules("version =", "env = { A = 'b' }\nversion ="),
        VERIFIED,
        "check log: environment (none) -> A=b",
    ),
    "a check removed": (edit(('checks = ["log"]', "checks = []")), NOTHING, "check log: no longer asked"),
    "the version of a tool that a command prints": (
        lambda landed: landed.write_version("2.0"),
        VERIFIED,
        "check log: tool version 1.0 -> 2.0",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_a_landed_milestone_costs_what_readme_says(landed: Landed, name: str) -> None:
    change, expected, told = EDITS[name]
    change(landed)
    if "version of a tool" in name:
        landed.repo.doit("milestone:m1").check()
        assert landed.ran().agents == ()
        assert landed.ran().checks
        return
    assert told in landed.repo.doit("explain", "m1/1").check().out
    landed.repo.doit("milestone:m1").check()
    ran = landed.ran()
    assert ran.agents[:1] == expected.agents
    assert (ran.checks, ran.acceptance) >= (expected.checks, False)
    if expected == NOTHING:
        assert ran.agents == ()
    statuses = landed.repo.statuses()
    assert set(statuses.values()) == {"landed"}
    if name in {"a title", "an acceptance command that holds"}:  # the decision needs no `.cache/`
        landed.forget()
        shutil.rmtree(landed.repo.path / ".cache")
        landed.repo.doit("milestone:m1").check()
        assert landed.ran().agents == ()


def test_an_acceptance_command_that_fails_on_the_landed_tree_costs_one_agent(landed: Landed) -> None:
    landed.edit(("test -f one", "test -f one && test -f three"))
    agents = (landed.repo.path / "rules/agents.toml").read_text()
    landed.repo.write("rules/agents.toml", agents.replace("> $f", "> $f; echo > three"))
    assert "to be verified again: its checks changed" in landed.repo.doit("explain", "m1/1").check().out
    landed.repo.doit("milestone:m1").check()
    assert landed.ran().agents[:1] == ("1",)
    assert "1@2" in landed.repo.landed(BRANCH)


def test_a_renamed_issue_keeps_its_landing(landed: Landed) -> None:
    landed.edit(('id = "1"', 'id = "11"\nwas = ["1"]'), ('needs = ["1"]', 'needs = ["11"]'))
    assert landed.repo.statuses() == {"m1/11": "landed", "m1/2": "landed"}
    landed.repo.doit("milestone:m1").check()
    assert landed.ran() == NOTHING
    landed.edit(("Second line.", "Another line."))
    landed.repo.doit("milestone:m1").check()
    assert landed.ran().agents[0] == "11"
    assert landed.repo.landed(BRANCH)[-1] in {"11@2", "2@2"}
    shutil.rmtree(landed.repo.path / ".cache")
    landed.repo.doit("milestone:m1").check()
    assert landed.repo.statuses() == {"m1/11": "landed", "m1/2": "landed"}


def test_a_rename_that_is_evident_is_asked_about_before_an_agent_is_paid(landed: Landed) -> None:
    landed.edit(('id = "1"', 'id = "11"'), ('needs = ["1"]', 'needs = ["11"]'))
    out = landed.repo.doit("milestone:m1").check(4).out
    assert "m1/1 has landed with the same spec and is no longer declared; was it renamed to 11?" in out
    assert landed.ran() == NOTHING
    assert 'write `was = ["1"]` into m1/11' in landed.repo.doit("explain", "m1/11").check().out
    landed.edit(('id = "11"', 'id = "11"\nwas = []'))
    landed.repo.doit("milestone:m1").check()
    assert landed.ran().agents[0] == "11"


def test_renumbered_issues_keep_their_landings_although_the_ids_are_in_use(landed: Landed) -> None:
    new = '[[issue]]\nid = "1"\ntitle = "New"\nbody = "A new one."\nagent = "worker"\n'
    landed.edit(
        ('id = "2"', 'id = "3"\nwas = ["2"]'), ('needs = ["1"]', 'needs = ["2"]'), ('id = "1"', 'id = "2"\nwas = ["1"]')
    )
    path = landed.repo.path / "milestones/m1.toml"
    path.write_text(path.read_text() + new)
    assert "pending" not in {landed.repo.statuses()["m1/2"], landed.repo.statuses()["m1/3"]}
    landed.repo.doit("milestone:m1").check()
    assert landed.ran().agents == ("1",)
    shutil.rmtree(landed.repo.path / ".cache")
    assert landed.repo.statuses() == {"m1/2": "landed", "m1/3": "landed", "m1/1": "landed"}


def test_an_issue_that_landed_and_left_the_declaration_stays_visible(landed: Landed) -> None:
    text = (landed.repo.path / "milestones/m1.toml").read_text()
    landed.repo.write("milestones/m1.toml", text[: text.index('[[issue]]\nid = "2"')])
    assert "landed  m1/2  -    landed as" in landed.repo.doit("list", "--all").check().out
    assert "no longer declared" in landed.repo.doit("status").check().out
    assert landed.repo.doit("status", "--json").json["milestones"][0]["removed"][0]["id"] == "2"
    assert "it is no longer declared" in landed.repo.doit("explain", "m1/2").check().out
    assert landed.repo.doit("explain", "m1/2", "--json").json["status"] == "landed"


def test_without_the_cache_explain_shows_what_changed_in_the_rules(landed: Landed) -> None:
    landed.repo.commit("rules")
    landed.repo.git("checkout", "-q", BRANCH)
    landed.repo.git("merge", "-q", "main")
    landed.repo.git("checkout", "-q", "main")
    rules("echo checked", "echo again")(landed)
    shutil.rmtree(landed.repo.path / ".cache")
    lines = landed.repo.doit("explain", "m1/1", "--json").json["difference"]
    assert any("no longer in .cache/" in line for line in lines)
    assert json.dumps(lines)
