"""What an approval clears, and what nothing clears: the same lines elsewhere, other rules, tests, known secrets."""

from __future__ import annotations

import base64
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.features.test_isolation import BOX, boxed, needs_sandbox, on_bare_machine, profile
from tests.support import issue, pytest_command

if TYPE_CHECKING:
    from tests.support import Repo

BRANCH = "milestone/m1-test-m1"
PAGES = "".join(
    f"def {name}(request):\n    a = 1\n    b = 2\n    c = 3\n    return a + b + c\n\n\n" for name in ("public", "admin")
)
KEY = "Zq8vKp3LmW2nTx7Rb4Yc"


def add_line(after: str) -> str:
    """Shell that adds the same line to one of two functions that look alike."""
    return (
        f"python3 -c \"t = open('app/auth.py').read(); at = t.index('def {after}'); at = t.index('    c = 3', at); "
        "open('app/auth.py', 'w').write(t[:at] + '    z = 1  # everybody may\\n' + t[at:])\""
    )


def test_the_same_line_in_another_function_is_asked_about_again(repo: Repo) -> None:
    repo.write("app/auth.py", PAGES)
    repo.commit("pages")
    script = f'if [ "$EXECUTOR_ATTEMPT" = 1 ]; then {add_line("public")}; else {add_line("admin")}; touch ok; fi'
    repo.milestone("m1", issue("a", script, accept=[{"run": "test -e ok"}]))
    repo.doit("milestone:m1").check(4)
    repo.doit("approve", "m1/a", "--reason", "fine on the public page").check()
    repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/a": "review"}
    assert repo.landed(BRANCH) == []


def test_the_landed_commit_says_who_approved_of_what_and_why(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo 'x==1' > requirements.txt"))
    repo.doit("milestone:m1").check(4)
    repo.doit("approve", "m1/a", "--reason", "its licence is fine").check()
    repo.doit("milestone:m1").check()
    told = repo.git("log", "-1", "--format=%(trailers:key=Approved-By,valueonly)", BRANCH)
    assert "Tester <tester@example.org> for dependency-change" in told
    assert told.endswith("its licence is fine")
    assert repo.git("log", "-1", "--format=%(trailers:key=Sandbox,valueonly)", BRANCH) == "none, by name"


def test_an_approval_of_another_change_of_the_same_file_meanwhile_is_asked_about_again(repo: Repo) -> None:
    repo.write("app/auth.py", PAGES)
    repo.commit("pages")
    repo.milestone("m1", issue("a", add_line("admin")))
    repo.doit("milestone:m1").check(4)
    repo.doit("approve", "m1/a", "--reason", "fine").check()
    first = "sed -i '1,3s/a = 1/a = 9/' app/auth.py"
    repo.milestone("m1", issue("a", add_line("admin")) + issue("b", first, priority="P0", allow=["sensitive-code"]))
    repo.doit("issue:m1/b").check()
    repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/a": "review", "m1/b": "landed"}
    assert "changed by others since the approval" in repo.doit("approve", "m1/a", "--show").check().out
    repo.doit("approve", "m1/a", "--reason", "still fine").check()
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH) == ["b@1", "a@1"]


def calc(repo: Repo) -> None:
    repo.write("calc.py", "def add(a, b):\n    return a + b\n")
    repo.write("tests/test_calc.py", "from calc import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n")
    repo.write("pytest.ini", "[pytest]\npythonpath = .\n")
    repo.write("rules/limits.toml", "attempts = 1\n")
    repo.commit("calc")


BREAK = "printf 'def add(a, b):\\n    return 7\\n' > calc.py; sed -i 's/== 3/== 7/' tests/test_calc.py"


def test_an_approval_of_a_package_does_not_waive_the_tests_of_the_base(repo: Repo) -> None:
    calc(repo)
    repo.milestone(
        "m1", issue("a", f"{BREAK}; mkdir sub; echo b==1 > sub/requirements.txt", accept=[{"run": pytest_command()}])
    )
    repo.doit("milestone:m1").check(4)
    repo.doit("approve", "m1/a", "--reason", "b is fine").check()
    repo.doit("milestone:m1").check(1)
    assert repo.statuses() == {"m1/a": "failed"}


def test_changed_tests_that_are_declared_are_named_to_a_person(repo: Repo) -> None:
    calc(repo)
    more = "printf '\\n\\ndef test_new():\\n    assert add(2, 2) == 7\\n' >> tests/test_calc.py"
    declared = {"accept": [{"run": pytest_command()}], "files": ["calc.py", "tests/test_calc.py"]}
    honest = "printf '\\n\\ndef test_new():\\n    assert add(2, 2) == 4\\n' >> tests/test_calc.py"
    repo.milestone("m1", issue("a", f"{BREAK}; {more}", **declared) + issue("b", honest, **declared))
    repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/a": "review", "m1/b": "landed"}
    shown = repo.doit("approve", "m1/a", "--show", "--json").check().json
    assert shown["rule"] == "tests-changed"
    assert shown["lines"] == ["tests/test_calc.py: test_add"]
    repo.doit("approve", "m1/a", "--reason", "seven is wanted now").check()


@pytest.mark.parametrize(
    "form",
    [KEY, base64.b64encode(KEY.encode()).decode(), KEY[::-1], f"\\000{KEY}"],
    ids=["plain", "base64", "reversed", "binary"],
)
def test_a_secret_that_is_known_by_value_neither_lands_nor_is_pushed(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("MYKEY", KEY)
    remote = repo.path.parent / "remote.git"
    repo.git("init", "-q", "--bare", str(remote))
    repo.git("remote", "add", "origin", str(remote))
    repo.write("rules/forge.toml", 'remote = "origin"\n')
    repo.write(
        "rules/agents.toml",
        '[agent.boxed]\ncommand = ["sh", "-c", "{run}"]\nenv = ["MYKEY"]\nisolation = "none"\n',
    )
    repo.commit("remote")
    repo.git("push", "-q", "origin", "main")
    repo.milestone("m1", boxed("a", f"printf 'K = \"{form}\"\\n' > k.py"))
    repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/a": "review"}
    assert form[-12:] not in repo.git("log", "--all", "-p", "--text")
    assert "k.py" not in repo.git("-C", str(remote), "log", "--all", "-p")
    assert "no change to approve" in repo.doit("approve", "m1/a", "--reason", "go").check(3).err
    repo.milestone("m1", boxed("a", "echo 1 > k.py"))
    repo.doit("retry", "m1/a").check()
    repo.doit("milestone:m1").check()


@needs_sandbox
def test_work_made_without_a_sandbox_waits_for_a_person_also_without_the_journal(repo: Repo) -> None:
    assert BOX is not None
    profile(repo)
    repo.milestone("m1", boxed("a", "echo a > a"))
    on_bare_machine(repo, "milestone:m1").check(4)
    shutil.rmtree(repo.path / ".cache")
    repo.doit("milestone:m1").check(4)
    assert repo.statuses() == {"m1/a": "review"}
    assert "Sandbox: none, although boxed wants one" in repo.git("log", "-1", "--format=%B", "refs/attempts/m1/a/1")


@needs_sandbox
def test_without_a_sandbox_no_repair_runs_what_the_agent_wrote(repo: Repo) -> None:
    profile(repo)
    ran = repo.path.parent / "code-ran"
    repo.write("rules/checks.toml", '[check.app]\nrun = ["python3", "app.py"]\nfix = ["python3", "app.py"]\n')
    body = f'echo \'open("{ran}", "a").write("x")\' > app.py'
    repo.milestone("m1", boxed("a", body, checks=["app"]))
    repo.write("app.py", "")
    repo.commit("app")
    on_bare_machine(repo, "milestone:m1").check(4)
    assert not ran.exists()
    stopped = 'echo \'open("ran", "w")\' > app.py; echo x==1 > requirements.txt'
    repo.milestone("m1", boxed("a", stopped, checks=["app"]))
    repo.doit("milestone:m1").check(4)
    assert "fix-1-app.log" not in [path.name for path in (repo.path / ".cache").rglob("*.log")]
