"""What a check's tools load is the candidate, however the project is installed in the user's environment."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from executor.sandbox.bubblewrap import find_sandbox, sandbox_problem
from tests.support import issue

if TYPE_CHECKING:
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
    venv = repo.path.parent / "venv"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = venv / "lib" / version / "site-packages"
    site.mkdir(parents=True)
    (venv / "bin").mkdir()
    base = Path(os.path.realpath(sys.executable))
    (venv / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    for name in ("python", "python3"):
        (venv / "bin" / name).symlink_to(base)
    (venv / "bin" / "pytest").write_text(
        f"#!{venv}/bin/python\nimport sys\nfrom pytest import console_main\nsys.exit(console_main())\n"
    )
    (venv / "bin" / "pytest").chmod(0o755)
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if entry.name.split("-")[0] in {"pytest", "_pytest", "iniconfig", "packaging", "pluggy", "pygments", "py.py"}:
            copy = shutil.copytree if entry.is_dir() else shutil.copy2
            copy(entry, site / entry.name)
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


BLIND = {
    "true": "true",
    "swallowed": "pytest -q || true",
    "a pipe": "pytest -q | tail -1",
    "another folder": "cd {root} && pytest -q",
    "wrong tests": "python3 -m unittest discover -s /usr/share/nothing-here || exit 0",
    "make": "make -s test SHELL=/bin/true",
    "a listing": "ls",
    "a version": "python3 --version",
}


@pytest.mark.parametrize("name", list(BLIND))
def test_a_blind_check_is_found_before_an_attempt_or_a_repair(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    installed(repo, monkeypatch)
    repo.write("Makefile", "test:\n\tpytest -q\n")
    run = BLIND[name].format(root=repo.path)
    repo.write("rules/checks.toml", f"[check.odd]\nrun = {run!r}\nfix = 'touch {repo.path}/repaired'\n")
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
    assert repo.attempts() == []
    out = repo.doit("milestone:m1").check(4).out
    assert repo.statuses() == {"m1/a": "landed", "m1/b": "blocked", "m1/c": "blocked"}
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
    installed(repo, monkeypatch)
    repo.write("tests/test_f.py", "import app\n\n\ndef test_f():\n    assert app.f() == 7\n")
    repo.commit("red")
    repo.milestone("m1", issue("a", "echo x = 1 > src/app/b.py", checks=["tests"]))
    said = [repo.doit("milestone:m1").check(4).out, repo.doit("log", "m1/a").out, repo.doit("explain", "m1/a").out]
    assert all("FAILED tests/test_f.py::test_f - assert 1 == 7" in text for text in said)
    assert "goes on when m1/a" not in said[0]


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
