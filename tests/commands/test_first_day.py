"""What a new user meets: help with where to start, versions, new issues, names that are meant, schemas."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from executor.commands import COMMANDS, GROUPS
from executor.commands.admin.scaffold import next_id
from executor.commands.base import as_typed
from tests.support import DODO, Repo, issue, usual_environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "repo")
    repo.write("rules/routes.toml", '[route.default]\nagent = "claude"\n')
    return repo


def test_help_begins_with_where_to_start_and_names_every_command(repo: Repo) -> None:
    lines = repo.doit("help").check().out.splitlines()
    assert lines[2] == "Start here"
    assert [line for line in lines if line in GROUPS] == list(GROUPS)
    assert {line.split()[0] for line in lines if line.startswith("  ")} >= set(COMMANDS)
    assert "Your own tasks (doit)" in lines
    assert "--json" in repo.doit("help", "status").check().out


def test_version_names_this_program_first(repo: Repo) -> None:
    found = repo.doit("version", "--json").check().json
    assert found["make-for-milestones"] == version("make-for-milestones")
    assert set(found) == {"make-for-milestones", "doit", "python", "git"}
    assert repo.doit("version").check().out.startswith(f"make-for-milestones {found['make-for-milestones']}\ndoit ")


@pytest.mark.parametrize(
    ("known", "following"),
    [
        ([], "1"),
        (["1", "2"], "3"),
        (["4.1", "4.2"], "4.3"),
        (["4.9"], "4.10"),
        (["fix"], "fix-2"),
        (["a1", "a3", "a2"], "a4"),
        (["m-09"], "m-10"),
    ],
)
def test_the_next_id_continues_the_last_one(known: list[str], following: str) -> None:
    assert next_id(known) == following


def test_new_begins_a_milestone_and_goes_on_with_it(repo: Repo) -> None:
    repo.doit("new", "m4", "Say hello", "--accept", "test -s hello", "--accept", "true", "--agent", "claude").check()
    repo.doit("new", "m4", "Say good bye", "--needs", "1", "--type", "docs", "--body", "Write bye.").check()
    declared = tomllib.loads((repo.path / "milestones" / "m4.toml").read_text(encoding="utf-8"))
    assert declared["milestone"] == {"id": "m4", "title": "m4"}
    assert declared["issue"] == [
        {
            "id": "1",
            "title": "Say hello",
            "spec": "m4/1.md",
            "accept": [{"run": "test -s hello"}, {"run": "true"}],
            "agent": "claude",
        },
        {"id": "2", "title": "Say good bye", "type": "docs", "needs": ["1"], "spec": "m4/2.md"},
    ]
    assert (repo.path / "milestones/m4/2.md").read_text(encoding="utf-8") == "Write bye.\n"


def test_texts_with_an_equals_sign_are_no_variables_of_doit(repo: Repo) -> None:
    words = ("new", "m1", "Read LEVEL=3", "--agent", "claude", "--accept", "A=1 true", "--body", "Set LEVEL=3 as x=y.")
    repo.doit(*words).check()
    text = (repo.path / "milestones/m1.toml").read_text(encoding="utf-8")
    assert 'title = "Read LEVEL=3"' in text
    assert '"A=1 true"' in text
    assert "Set LEVEL=3 as x=y." in text + "".join(
        path.read_text() for path in (repo.path / "milestones").rglob("*.md")
    )
    repo.doit("pause", "m1", "--reason", "a=b").check()
    assert "a=b" in repo.doit("status").out


@pytest.mark.parametrize(
    ("words", "line", "restored"),
    [
        (["m1/a"], ["answer", "m1/a", "x=1"], ["m1/a", "x=1"]),
        (["m1/a", "--reason"], ["answer", "m1/a", "--reason", "x=1"], ["m1/a", "--reason", "x=1"]),
        (["m1/a", "--reason=x=1"], ["answer", "m1/a", "--reason=x=1"], ["m1/a", "--reason=x=1"]),
        (["m1/a"], ["-f", "dodo.py", "answer", "m1/a"], ["m1/a"]),
        (["m1/a"], ["pytest", "-q"], ["m1/a"]),
        (["m1/a"], ["answer", "m1/b", "x=1"], ["m1/a"]),
    ],
)
def test_the_words_of_a_command_are_those_of_its_line(words: list[str], line: list[str], restored: list[str]) -> None:
    assert as_typed("answer", words, line) == restored


def test_new_keeps_comments_and_writes_nothing_when_a_fault_would_come_of_it(repo: Repo) -> None:
    text = repo.milestone("m1", "# mine\n" + issue("a", "true")).read_text(encoding="utf-8")
    done = repo.doit("new", "m1", "b", "--needs", "aa").check(3)
    assert 'issue[1].needs: unknown issue "aa"' in done.err
    assert repo.milestone("m1", "# mine\n" + issue("a", "true")).read_text(encoding="utf-8") == text
    assert not (repo.path / "milestones/m1").is_dir() or not list((repo.path / "milestones/m1").iterdir())
    repo.doit("new", "m1", "b", "--needs", "a").check()
    assert "# mine" in (repo.path / "milestones/m1.toml").read_text(encoding="utf-8")
    assert list(repo.statuses("m1")) == ["m1/a", "m1/a-2"]


def test_new_names_an_agent_that_is_installed_where_no_rule_names_one(repo: Repo) -> None:
    (repo.path / "rules/routes.toml").unlink()
    repo.write("bin/codex", "#!/bin/sh\n").chmod(0o755)
    repo.environment = lambda: {**usual_environment(), "PATH": f"{repo.path}/bin:/usr/bin:/bin"}  # type: ignore[method-assign]
    repo.doit("new", "m1", "t").check()
    assert 'agent = "codex"' in (repo.path / "milestones/m1.toml").read_text(encoding="utf-8")
    (repo.path / "bin/codex").unlink()
    assert "no agent is declared" in repo.doit("new", "m2", "t").check(3).err


def test_new_is_refused_by_name(repo: Repo) -> None:
    for words, message in (
        ((), "name a milestone and a title"),
        (("m1",), "name a milestone and a title"),
        (("m1", " "), "name a milestone and a title"),
        (("m1", "t", "--id", "no good"), "issue[0].id: "),
    ):
        assert message in repo.doit("new", *words).check(3).err
    assert not (repo.path / "milestones" / "m1.toml").exists()


def test_schemas_are_written_once_and_named_by_new_milestones(repo: Repo) -> None:
    assert "milestone.schema.json" in repo.doit("schema").check().out
    assert "up to date" in repo.doit("schema").check().out
    assert json.loads((repo.path / ".schemas/milestone.schema.json").read_text(encoding="utf-8"))["title"]
    repo.doit("new", "m1", "First").check()
    first = (repo.path / "milestones/m1.toml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "#:schema ../.schemas/milestone.schema.json"


def test_a_command_without_a_name_takes_the_only_milestone(repo: Repo) -> None:
    repo.milestone("slow", issue("a", "true"))
    assert repo.doit("plan").check().out == repo.doit("plan", "slow").check().out
    assert repo.doit("explain", "a").check().out == repo.doit("explain", "slow/a").check().out
    repo.milestone("other", issue("a", "true"))
    assert "name one milestone, for example `doit plan other`; there are other, slow" in repo.doit("plan").check(3).err
    assert "several have it: other/a, slow/a" in repo.doit("explain", "a").check(3).err


@pytest.mark.parametrize("words", ["milestone:slw", "plan slw", "status slw", "list slw", "pause slw", "sessions slw"])
def test_a_milestone_that_is_misspelt_has_a_hint(repo: Repo, words: str) -> None:
    repo.milestone("slow", issue("a", "true"))
    assert 'unknown milestone "slw"; did you mean "slow"?' in repo.doit(*words.split()).check(3).err


def test_what_doit_has_for_tasks_works_or_says_what_to_use_instead(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a") + issue("b", "echo b > b", needs=["a"]))
    repo.write(
        "dodo.py",
        f"{DODO}\ndef task_own():\n    return {{'actions': ['touch made'], 'targets': ['made'], 'clean': True}}\n",
    )
    repo.doit("issue:m1/a").check()
    assert "up-to-date" in repo.doit("info", "m1/a").check().out
    assert ".cache/m1/receipts/a.json" in repo.doit("info", "issue:m1/b").check(1).out
    for words, told in {
        ("info", "m1/c"): '"issue:m1/c" is not a task; `doit list --tasks`',
        ("info", "step:m1/a/x"): "`doit explain m1/a` says why",
        ("clean", "m1/a"): "`doit gc` removes",
        ("forget", "issue:m1/a"): "`doit retry ISSUE`",
        ("forget",): "name the tasks to forget",
        ("forget", "nosuch"): "'nosuch' is not a task; `doit list --tasks`",
    }.items():
        err = repo.doit(*words).check(3).err
        assert told in err, (words, err)
        assert "Traceback" not in err
    repo.doit("own").check()
    assert "forgetting own" in repo.doit("forget", "own").check().out
    repo.doit("clean", "own").check()
    assert not (repo.path / "made").exists()
