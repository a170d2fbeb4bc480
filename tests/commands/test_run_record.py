"""Whatever ends a run is recorded with exit code and reason; faults of a dodo.py are named as such."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from executor.commands import COMMANDS
from tests.support import DODO, Repo, issue

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "repo")
    repo.milestone("m1", issue("a", "echo a > a"))
    return repo


def last_run(repo: Repo) -> dict[str, Any]:
    found: dict[str, Any] = repo.doit("sessions", "m1", "--json").check().json["sessions"][-1]
    return found


FAULTS = [
    ("def task_x():\n    raise RuntimeError('boom')\n", "dodo.py, line 4 (task_x): RuntimeError: boom"),
    ("import no_such_module\n", "dodo.py, line 3: ModuleNotFoundError: No module named 'no_such_module'"),
    ("import helper\n\ndef task_x():\n    return helper.broken()\n", "helper.py, line 2 (broken): KeyError: 'x'"),
    ("def task_x(:\n", "dodo.py, line 3: SyntaxError"),
    ("import sys\nsys.exit(0)\n", "dodo.py, line 4: SystemExit"),
    (
        "def task_report():\n    return {'actions': []}\n",
        'dodo.py: task "report" has the name of a command of',
    ),
    ("def task_issue():\n    return {'actions': []}\n", 'dodo.py: "issue" is reserved for the tasks of make-for-mile'),
    ("def task_x():\n    return {'nonsense': 1}\n", "dodo.py: "),
    ("DOIT_CONFIG = 3\n", "dodo.py: DOIT_CONFIG"),
    ("DOIT_CONFIG = {'dep_file': 5}\n", "dodo.py: doit cannot open the database that DOIT_CONFIG names: TypeError"),
    ("exec('def task_x(): return {}')\n", "dodo.py: doit cannot read its tasks: OSError: could not get source code"),
]


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_a_fault_of_the_dodo_file_is_named_and_the_run_has_an_end(repo: Repo, text: str, message: str) -> None:
    repo.write("helper.py", "def broken():\n    return {}['x']\n")
    repo.write("dodo.py", f"{DODO}\n{text}")
    done = repo.doit("milestone:m1").check(3)
    assert done.err.startswith(message)
    assert "Traceback" not in done.err
    found = last_run(repo)
    assert (found["how"], found["code"]) == ("error", 3)
    assert found["why"].startswith(message)
    repo.write("dodo.py", DODO)
    assert "was ended by an error (" in repo.doit("milestone:m1").check().out
    assert last_run(repo)["how"] == "done"


def test_a_fault_of_the_dodo_file_is_named_for_tasks_of_the_users_own(repo: Repo) -> None:
    repo.write("dodo.py", f"{DODO}\ndef task_x():\n    raise RuntimeError('boom')\n")
    assert repo.doit("x").check(3).err == "dodo.py, line 4 (task_x): RuntimeError: boom\n"


def test_a_run_that_its_remote_ends_is_recorded_with_code_and_reason(repo: Repo) -> None:
    repo.write("rules/forge.toml", 'remote = "/nonexistent/x.git"\n')
    done = repo.doit("milestone:m1")
    assert done.code in {4, 75}
    found = last_run(repo)
    assert (found["how"], found["code"]) == ("error", done.code)
    assert found["why"] in done.err
    assert "died" not in repo.doit("sessions").check().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_task_is_recorded(repo: Repo, number: signal.Signals) -> None:
    repo.write("dodo.py", f"{DODO}\nimport os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(20)\n")
    done = subprocess.run(
        [sys.executable, "-m", "doit", "milestone:m1"],
        cwd=repo.path,
        env=repo.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 128 + number
    found = last_run(repo)
    assert (found["how"], found["code"], found["why"]) == ("interrupted", 128 + number, number.name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("explian m1/a", '"explian" is neither a command nor a task; did you mean "explain"?'),
        ("milestne:m1", '"milestne:m1" is neither a command nor a task; did you mean "milestone:m1"?'),
        ("sttaus", 'did you mean "status"?'),
        ("onw", 'did you mean "own"?'),
    ],
)
def test_a_word_that_is_no_command_and_no_task_has_a_hint(repo: Repo, words: str, message: str) -> None:
    repo.write("dodo.py", f'{DODO}\n\ndef task_own():\n    return {{"actions": ["true"]}}\n')
    assert message in repo.doit(*words.split()).check(3).err


def test_a_command_that_the_configuration_lacks_is_named(repo: Repo) -> None:
    repo.write("pyproject.toml", '[tool.doit.plugins.command]\nrun = "executor.commands.run:Run"\n')
    assert "`make-for-milestones init` adds it" in repo.doit("status").check(3).err


def test_a_plain_doit_project_beside_ours_may_name_its_tasks_like_our_commands(tmp_path: Path) -> None:
    shown = subprocess.run(words_of("help"), cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    doits = set(re.findall(r"(?m)^ *(?:-m|doit) ([a-z-]+)", shown))
    ours = [name for name in COMMANDS if name not in doits]
    assert {"init", "plan", "status", "report", "pause"} <= set(ours)
    tasks = "".join(
        f"def task_{number}():\n    return {{'basename': {name!r}, 'actions': ['echo ran {name}'], 'verbosity': 2}}\n"
        for number, name in enumerate(COMMANDS)
    )
    (tmp_path / "dodo.py").write_text(tasks, encoding="utf-8")
    for words, expected in ((ours, ours), (["run", *COMMANDS], COMMANDS)):
        done = subprocess.run(words_of(*words), cwd=tmp_path, capture_output=True, text=True, check=True)
        assert re.findall(r"(?m)^ran (.*)$", done.stdout) == list(expected)


def words_of(*words: str) -> list[str]:
    return [sys.executable, "-m", "doit", *words]
