"""What a check's tools load is the candidate, however the project is installed in the user's environment."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from executor.sandbox.bubblewrap import find_sandbox, sandbox_problem
from tests.support import issue, small_venv

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

BRANCH = "milestone/m1-test-m1"
BOX = find_sandbox()
AGENTS = [
    "script",
    pytest.param("boxed", marks=pytest.mark.skipif(BOX is None, reason=sandbox_problem() or "-")),
]
BREAKS = "echo 'def f(): return 2' > src/app/__init__.py"
IMPROVES = (
    "echo 'def g(): return 3' >> src/app/__init__.py; "
    "printf 'import app\\ndef test_g(): assert app.g() == 3\\n' > tests/test_g.py"
)


def installed(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in src layout, installed editable in a virtual environment that has pytest too and is on PATH."""
    repo.write("src/app/__init__.py", "def f():\n    return 1\n")
    repo.write("tests/test_f.py", "import app\n\n\ndef test_f():\n    assert app.f() == 1\n")
    repo.commit("package")
    venv = small_venv(repo.path.parent / "venv")
    site = next(venv.glob("lib/*/site-packages"))
    (site / "__editable__.app-1.0.pth").write_text(f"{repo.path}/src\n")
    monkeypatch.setenv("PATH", f"{venv}/bin:{os.environ['PATH']}")
    return venv


@pytest.mark.parametrize("agent", AGENTS)
def test_an_editable_install_is_judged_by_the_candidate(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, agent: str
) -> None:
    installed(repo, monkeypatch)
    repo.write("rules/agents.toml", '[agent.boxed]\ncommand = ["sh", "-c", "{run}"]\n')
    repo.write("rules/limits.toml", "backoff_s = 0.0\nattempts = 1\n")
    body = issue("breaks", BREAKS, checks=["tests"]) + issue("improves", IMPROVES, checks=["tests"])
    repo.milestone("m1", body.replace('"script"', f'"{agent}"'))
    repo.doit("milestone:m1").check(1)
    assert repo.statuses() == {"m1/breaks": "failed", "m1/improves": "landed"}
    assert repo.git("show", f"{BRANCH}:src/app/__init__.py").startswith("def f():\n    return 1")


def test_a_generated_file_of_the_checkout_is_in_the_tree_and_does_not_land(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(repo, monkeypatch)
    repo.write(".gitignore", ".cache/\n__pycache__/\n_version.py\nlocal_settings.py\n")
    repo.write("src/app/__init__.py", "from app._version import version\n\n\ndef f():\n    return 1\n")
    repo.commit("generated version")
    repo.write("src/app/_version.py", "version = '1.0'\n")
    repo.write("src/app/local_settings.py", "TOKEN = 'x'\n")
    run = "ls src/app > seen; echo x = 1 > src/app/new.py"
    repo.milestone("m1", issue("a", run, checks=["tests"], files=["src/**", "seen"]))
    repo.doit("milestone:m1").check()
    assert "_version.py" in repo.git("show", f"{BRANCH}:seen")
    assert "local_settings.py" not in repo.git("show", f"{BRANCH}:seen")
    assert repo.git("ls-tree", "-r", "--name-only", BRANCH, "src").split() == ["src/app/__init__.py", "src/app/new.py"]


def test_a_blind_check_is_found_before_an_attempt_or_a_repair(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(repo, monkeypatch)
    rule = f"[check.odd]\nrun = 'cd {repo.path} && pytest -q'\nfix = 'touch {repo.path}/repaired'\n"
    repo.write("rules/checks.toml", rule)
    repo.commit("rules")
    repo.milestone("m1", issue("a", "echo x = 1 > src/app/new.py", checks=["odd"]))
    out = repo.doit("milestone:m1").check(4).out
    assert 'the check "odd" is blind: it passes although' in out
    assert repo.statuses() == {"m1/a": "blocked"}
    assert repo.attempts() == []
    assert not (repo.path / "repaired").exists()


def test_a_check_that_a_person_vouches_for_is_not_proved(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(repo, monkeypatch)
    rule = '[check.odd]\nrun = "true"\nsabotage = "off"\nsabotage_reason = "asks a server"\n'
    repo.write("rules/checks.toml", rule)
    repo.commit("rules")
    repo.milestone("m1", issue("a", "echo x = 1 > src/app/new.py", checks=["odd"]))
    repo.doit("milestone:m1").check()


def test_a_change_that_makes_a_check_blind_does_not_land(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(repo, monkeypatch)
    repo.write("check.sh", "pytest -q\n")
    repo.write("rules/checks.toml", '[check.tests]\nrun = "sh check.sh"\nwhen = []\n')
    repo.commit("rules")
    repo.write("rules/limits.toml", "backoff_s = 0.0\nattempts = 1\n")
    repo.milestone(
        "m1", issue("a", "echo true > check.sh", checks=["tests"], allow=["judge-tampering", "protected-files"])
    )
    out = repo.doit("milestone:m1").check(1).out
    assert "with this change the check is blind" in out


def test_the_base_is_asked_before_the_night_and_before_an_attempt(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(repo, monkeypatch)
    repo.write("rules/checks.toml", '[check.odd]\nrun = "true"\n')
    new = 'python3 -c "import app; assert app.g() == 3"'
    old = 'python3 -c "import app; assert app.f() == 1"'
    must = [{"run": old, "must_fail_before": True}]
    body = issue("a", IMPROVES, checks=["tests"], accept=[{"run": new}, {"run": old}])
    body += issue("b", "echo x = 1 > src/app/b.py", checks=["odd"]) + issue("c", "echo c > src/app/c.py", accept=must)
    repo.milestone("m1", body)
    tried = repo.doit("verify", "m1", "--base", "--json").check(1).json
    assert {(row["check"], row["status"]) for row in tried} == {
        ("tests", "green"),
        (new, "red"),
        (old, "vacuous"),
        ("odd", "blind"),
    }
    found = {row["subject"]: row["kind"] for row in repo.doit("doctor", "--base", "--json").json}
    assert (found["check odd"], found["check tests"], found[f"acceptance {new}"]) == ("base-red", "ok", "ok")
    assert repo.attempts() == []
    planned = repo.doit("plan", "m1", "--json").check().json["issues"]
    assert {item["ref"]: item["vacuous"] for item in planned} == {"m1/a": [old], "m1/b": [], "m1/c": [old]}
    out = repo.doit("milestone:m1").check(4).out
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "blocked", "m1/c": "blocked"}
    report = repo.doit("report", "m1", "--format", "json").check().json["issues"][0]["checks"]
    assert [(check["name"], check["before"]) for check in report] == [("tests", ""), (new, "red"), (old, "vacuous")]
    assert f'm1/a: the acceptance "{old}" passes on {BRANCH} before anything was done' in out
    kinds = [event for event in _events(repo) if event["event"] == "base-red"]
    assert [(event["issue"], event["word"], event["proof"]) for event in kinds] == [
        ("b", "blind", "check"),
        ("c", "vacuous", "acceptance"),
    ]
    assert len(repo.attempts()) == 0 or all("/a/" in name for name in repo.attempts())


def test_the_output_of_a_check_that_fails_on_the_base_is_in_the_run_the_log_and_the_explanation(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = installed(repo, monkeypatch)
    repo.write("tests/test_f.py", "import app\n\n\ndef test_f():\n    assert app.f() == 7\n")
    repo.write(".gitignore", ".cache/\n__pycache__/\nlocal.env\n")
    repo.commit("red")
    repo.write("local.env", "X=1\n")
    repo.milestone("m1", issue("a", "echo x = 1 > src/app/b.py", checks=["tests"]))
    said = [repo.doit("milestone:m1").check(4).out, repo.doit("log", "m1/a").out, repo.doit("explain", "m1/a").out]
    assert all("FAILED tests/test_f.py::test_f - assert 1 == 7" in text for text in said)
    assert all("ignored: local.env" in text for text in (said[0], said[2])), "the checkout has what the tree lacks"
    assert "continues when m1/a" not in said[0]
    (next(venv.glob("lib/python3*/site-packages")) / "another-1.0.dist-info").mkdir()
    why = repo.doit("explain", "m1/a", "--json").json["verdicts"]
    assert any("the verdict of tests is not reused: python" in line for line in why)


def _events(repo: Repo) -> list[dict[str, Any]]:
    return [json.loads(line) for line in repo.doit("log", "--events", "m1").check().out.splitlines()]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("agent", AGENTS)
def test_a_workspace_of_node_is_judged_by_the_candidate(repo: Repo, agent: str) -> None:
    repo.write(".gitignore", ".cache/\nnode_modules/\n")
    repo.write("package.json", '{"name": "w", "workspaces": ["packages/*"], "scripts": {"test": "node --test"}}')
    repo.write("packages/a/package.json", '{"name": "@w/a", "main": "index.js"}')
    repo.write("packages/a/index.js", "exports.f = () => 1;\n")
    test = "const t = require('node:test'), a = require('node:assert');\n"
    repo.write("test/a.test.js", test + "t('f', () => a.equal(require('@w/a').f(), 1));\n")
    repo.write("rules/checks.toml", '[check.tests]\nrun = ["node", "--test", "test/"]\n')
    repo.write("rules/agents.toml", '[agent.boxed]\ncommand = ["sh", "-c", "{run}"]\n')
    repo.write("rules/limits.toml", "backoff_s = 0.0\nattempts = 1\n")
    repo.commit("workspace")
    (repo.path / "node_modules" / "@w").mkdir(parents=True)
    (repo.path / "node_modules" / "@w" / "a").symlink_to("../../packages/a")
    breaks = "echo 'exports.f = () => 2;' > packages/a/index.js"
    more = test + "t('g', () => a.equal(require('@w/a').g(), 3));"
    improves = f"echo 'exports.g = () => 3;' >> packages/a/index.js; cat > test/g.test.js <<'E'\n{more}\nE"
    body = issue("breaks", breaks, checks=["tests"]) + issue("improves", improves, checks=["tests"])
    repo.milestone("m1", body.replace('"script"', f'"{agent}"'))
    repo.doit("milestone:m1").check(1)
    assert repo.statuses() == {"m1/breaks": "failed", "m1/improves": "landed"}


def test_a_prefix_that_enters_another_folder_is_blind_and_repairs_nothing_there(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(repo, monkeypatch)
    wrapper = repo.path.parent / "exec-backend"
    wrapper.write_text(f'#!/bin/sh\ncd {repo.path}\nexec "$@"\n')
    wrapper.chmod(0o755)
    rule = f'[check.syntax]\nprefix = ["{wrapper}"]\nfix = ["sh", "-c", "echo repaired >> src/app/__init__.py"]\n'
    repo.write("rules/checks.toml", f'{rule}[check.tests]\nprefix = ["{wrapper}"]\n')
    repo.commit("rules")
    repo.write("src/app/__init__.py", "def f():\n    return 1\n\n\nmine = 'uncommitted'\n")
    before = (repo.path / "src/app/__init__.py").read_bytes()
    body = issue("a", "echo 'def f(:' > src/app/__init__.py", checks=["syntax"])
    repo.milestone("m1", body + issue("b", BREAKS, checks=["tests"]))
    repo.doit("milestone:m1").check(4)
    assert [event["word"] for event in _events(repo) if event["event"] == "base-red"] == ["blind", "blind"]
    assert (repo.path / "src/app/__init__.py").read_bytes() == before
    assert repo.attempts() == []


def test_a_prefix_that_mounts_the_tree_is_right(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(repo, monkeypatch)
    docker = repo.path.parent / "docker"
    docker.write_text(
        '#!/bin/sh\nshift 2\n[ "$1" = -v ] && [ "$3" = -w ] && [ "$2" = "$4:$4" ] || exit 9\ncd "$4" || exit 8\n'
        'shift 5\nexec "$@"\n'
    )
    docker.chmod(0o755)
    prefix = f'["{docker}", "run", "--rm", "-v", "{{tree}}:{{tree}}", "-w", "{{tree}}", "image"]'
    repo.write("rules/checks.toml", f"[check.tests]\nprefix = {prefix}\n")
    repo.write("rules/limits.toml", "backoff_s = 0.0\nattempts = 1\n")
    repo.commit("rules")
    repo.milestone("m1", issue("a", BREAKS, checks=["tests"]) + issue("b", IMPROVES, checks=["tests"]))
    repo.doit("milestone:m1").check(1)
    assert repo.statuses() == {"m1/a": "failed", "m1/b": "landed"}


def test_a_declared_environment_is_made_once_for_every_tree(repo: Repo) -> None:
    make = 'cd "$EXECUTOR_ENVIRONMENT"; mkdir bin; echo made >> ../made; cp {tree}/tools.lock {environment}/bin/tool'
    run = json.dumps(f"{make}; chmod +x bin/tool")
    rule = f'[environment.tools]\nrun = {run}\ninputs = ["tools.lock"]\nprograms = ["{{environment}}/bin"]\n'
    repo.write("rules/environments.toml", rule + 'variables = { TOOLS = "{environment} {slot} {tree}" }\n')
    repo.write("tools.lock", "#!/bin/sh\necho one\n")
    repo.commit("tools")
    accept = [{"run": 'test "$(tool)" = one && test "${TOOLS##* }" = "$PWD" && test -f a'}]
    body = issue("a", 'test "$(tool)" = one && echo a > a', accept=accept)
    body += issue(
        "b", "printf '#!/bin/sh\\necho two\\n' > tools.lock", accept=[{"run": 'test "$(tool)" = two'}], needs=["a"]
    )
    repo.milestone("m1", body)
    repo.doit("milestone:m1").check()
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "landed"}
    assert (repo.path / ".cache" / "_environments" / "made").read_text() == "made\nmade\n", "once for each lock"
    found = repo.doit("gc", "--dry-run", "--json").check().json
    assert not [row for row in found if "_environments" in row["what"]], "what was used today is kept"
    for mark in (repo.path / ".cache" / "_environments").glob("*/.made.json"):
        os.utime(mark, (1, 1))
    assert len([row for row in repo.doit("gc", "--json").check().json if "_environments" in row["what"]]) == 2
    assert not list((repo.path / ".cache" / "_environments").glob("tools-*/bin"))


def test_an_environment_that_cannot_be_made_stops_with_its_output(repo: Repo) -> None:
    repo.write(
        "rules/environments.toml", '[environment.tools]\nrun = "echo no such tool >&2; exit 3"\nwhen = ["dodo.py"]\n'
    )
    repo.write("rules/checks.toml", '[check.odd]\nrun = "true"\n')
    repo.commit("tools")
    repo.milestone("m1", issue("a", "echo a > a", checks=["odd"]))
    said = repo.doit("milestone:m1").check(4).out
    assert "environment tools: exit 3" in said
    assert "no such tool" in said
    assert "no such tool" in repo.doit("explain", "m1/a").out


def test_one_prefix_is_for_checks_fixes_acceptance_and_set_up(repo: Repo) -> None:
    log = repo.path.parent / "calls"
    wrapper = repo.path.parent / "enter"
    wrapper.write_text(f'#!/bin/sh\ntest "$1" = "$EXECUTOR_TREE" || exit 9\nshift\necho "$*" >> {log}\nexec "$@"\n')
    wrapper.chmod(0o755)
    repo.write("rules/environments.toml", f'prefix = ["{wrapper}", "{{tree}}"]\n')
    repo.write("rules/setup.toml", '[setup.own]\nrun = ["true", "set-up"]\n')
    check = "grep -q good src/a.py"
    repo.write(
        "rules/checks.toml",
        f'[check.own]\nrun = "{check}"\nfix = "echo good > src/a.py"\n'
        '[check.not]\nrun = "grep -q . src/a.py"\nprefix = []\n',
    )
    repo.write("src/a.py", "good\n")
    repo.commit("rules")
    repo.milestone(
        "m1", issue("a", "echo bad > src/a.py; echo b > b", checks=["own", "not"], accept=[{"run": "test -f b"}])
    )
    repo.doit("milestone:m1").check()
    calls = log.read_text()
    assert all(word in calls for word in ("true set-up", check, "echo good > src/a.py", "test -f b"))
    assert "grep -q ." not in calls


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
def test_a_lock_that_nobody_has_installed_is_installed_once(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    text = (repo.path / "pyproject.toml").read_text()
    project = '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.8"\n[tool.uv]\npackage = false\n'
    repo.write("pyproject.toml", f"{project}{text}")
    repo.write(
        "uv.lock",
        'version = 1\nrevision = 3\nrequires-python = ">=3.8"\n\n'
        '[[package]]\nname = "app"\nversion = "1"\nsource = { virtual = "." }\n',
    )
    repo.commit("lock")
    accept = [{"run": 'case "$(command -v python3)" in *.env/*) test -f a ;; *) exit 5 ;; esac'}]
    repo.milestone("m1", issue("a", "echo a > a", accept=accept))
    repo.doit("milestone:m1").check()
    kept = list((repo.path / ".cache" / "_environments").glob("python-*/venv/bin/python"))
    assert len(kept) == 1


def test_what_leads_to_the_checkout_without_a_sandbox_is_named_before_an_attempt(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = repo.path.parent / "home"
    (home / ".config" / "go").mkdir(parents=True)
    (home / ".config" / "go" / "env").write_text(f"GOWORK={repo.path}/go.work\n")
    monkeypatch.setenv("HOME", str(home))
    (repo.path.parent / "bin").mkdir()
    (repo.path.parent / "bin" / "mytool").symlink_to(repo.path / "tool.sh")
    monkeypatch.setenv("PATH", f"{repo.path.parent / 'bin'}:{os.environ['PATH']}")
    repo.write("tool.sh", "#!/bin/sh\nexit 0\n").chmod(0o755)
    repo.write("sub/go.mod", f"module m\nreplace lib => {repo.path}/lib\n")
    repo.write("sub/notes.md", f"{repo.path} is where I work\n")
    repo.write("rules/checks.toml", '[check.own]\nrun = ["mytool"]\n')
    repo.commit("start")
    repo.milestone("m1", issue("a", "echo a > a", checks=["own"]))
    rows = repo.doit("verify", "m1", "--base", "--json").check(1).json
    outside = [row["check"] for row in rows if row["status"] == "outside"]
    assert outside == ["sub/go.mod", f"{home}/.config/go/env", f"{repo.path.parent}/bin/mytool"]
    said = repo.doit("milestone:m1").check(4).out
    assert "sub/go.mod leads to your checkout" in said
    assert repo.attempts() == []
    kinds = {row["subject"]: row["kind"] for row in repo.doit("doctor", "--json").json}
    assert kinds["sub/go.mod"] == "environment-outside"
