"""The first quarter of an hour with the product, by the clock: a wheel, a package of somebody else, five typed lines.

EXECUTOR_AGENTS=1 python -m pytest -q -s -m agents tests/features/test_stopwatch.py: the agent is Claude Code against a
scripted model. The time is that of the five lines without the agent's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.features.test_real_agents import BOX, model, programs
from tests.features.test_real_projects import debian, fetched, manifest, packed, run, sdist
from tests.zygote import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.model_server import ModelServer

__all__ = ["fetched", "model", "programs"]  # fixtures

pytestmark = [pytest.mark.agents, pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")]
MOST_S = 60.0
TITLE = "Answer the question"


def itsdangerous(folder: Path) -> Path:
    return sdist("itsdangerous==2.2.0", folder)


def toolz(folder: Path) -> Path:
    return sdist("toolz==0.12.1", folder)


def ms(folder: Path) -> Path:
    tree = folder / "ms.tested"
    if not tree.exists():
        shutil.copytree(packed("ms@2.1.3", folder), tree)
        manifest(tree / "package.json", scripts={"test": "node --test"})
        head = "const t = require('node:test'), a = require('node:assert');\n"
        (tree / "ms.test.js").write_text(head + "t('minutes', () => a.equal(require('.')('2m'), 120000));\n")
    return tree


def uuid(folder: Path) -> Path:
    return debian("golang-github-google-uuid-dev", "usr/share/gocode/src/github.com/google/uuid", folder)


def fnv(folder: Path) -> Path:
    return debian("librust-fnv-dev", "usr/share/cargo/registry/fnv-*", folder)


PYTHON = "printf '\\ndef answer():\\n    return 42\\n' >> {0}; printf '{1}' > {2}"
PYTHON_TEST = "from {0} import answer\\n\\n\\ndef test_answer():\\n    assert answer() == 42\\n"
PROJECTS: dict[str, tuple[Callable[[Path], Path], str, tuple[str, ...]]] = {
    "python-src": (
        itsdangerous,
        PYTHON.format(
            "src/itsdangerous/encoding.py",
            PYTHON_TEST.format("itsdangerous.encoding"),
            "tests/test_itsdangerous/test_answer.py",
        ),
        ("-e", ".", "pytest", "freezegun"),
    ),
    "python-flat": (
        toolz,
        PYTHON.format("toolz/functoolz.py", PYTHON_TEST.format("toolz.functoolz"), "toolz/tests/test_answer.py"),
        ("-e", ".", "pytest"),
    ),
    "node": (
        ms,
        """echo 'module.exports.answer = () => 42;' >> index.js; echo "const t = require('node:test'), \
a = require('node:assert'); t('answer', () => a.equal(require('.').answer(), 42));" > answer.test.js""",
        (),
    ),
    "go": (
        uuid,
        (
            "printf '\\nfunc Answer() int { return 42 }\\n' >> uuid.go; "
            'printf \'package uuid\\n\\nimport "testing"\\n\\n'
            "func TestAnswer(t *testing.T) { if Answer() != 42 { t.Fatal() } }\\n' > answer_test.go"
        ),
        (),
    ),
    "rust": (
        fnv,
        """printf '\\npub fn answer() -> u64 { 42 }\\n\\n#[test]\\n\
fn answers() { assert_eq!(answer(), 42); }\\n' >> lib.rs""",
        (),
    ),
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run("uv", "build", "-q", "--wheel", "--out-dir", str(folder), str(CHECKOUT), cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.mark.skipif(BOX is None, reason="no sandbox here")
@pytest.mark.parametrize("name", PROJECTS)
def test_the_first_issue_lands_within_a_minute_and_five_lines(
    tmp_path: Path, fetched: Path, programs: Path, wheel: Path, model: ModelServer, name: str
) -> None:
    of, change, installs = PROJECTS[name]
    tool = {"node": "node", "go": "go", "rust": "cargo"}.get(name, "git")
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    project, venv, home = tmp_path / "project", tmp_path / "venv", tmp_path / "home"
    shutil.copytree(of(fetched), project, symlinks=True)
    home.mkdir()
    run("uv", "venv", "-q", "--seed", "-p", sys.executable, str(venv), cwd=tmp_path)
    if installs:
        run("uv", "pip", "install", "-q", "-p", str(venv / "bin/python"), *installs, cwd=project)
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "upstream")):
        run("git", "-c", "user.name=Tester", "-c", "user.email=tester@example.org", *words, cwd=project)
    model.always = "ok"
    environment = {
        **{key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
        "HOME": str(home),
        "PATH": f"{venv}/bin:{programs}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(venv),
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "none-at-all",
        "GOFLAGS": "-mod=mod",
        **{f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    lines = [
        f"uv pip install -q {wheel}",
        "make-for-milestones init",
        "git add -A && git commit -q -m 'Set up milestones'",
        f'doit new m1 "{TITLE}" --agent claude --body "$CHANGE"',
        "doit milestone:m1",
    ]
    began = time.monotonic()
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=project,
            env={**environment, "CHANGE": f"RUN: {change}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    whole = time.monotonic() - began
    told = subprocess.run(
        [str(venv / "bin/doit"), "log", "m1/1", "--json"], cwd=project, env=environment, capture_output=True, check=True
    )
    agent = sum(attempt["seconds"] for attempt in json.loads(told.stdout)["attempts"])
    print(f"{name}: {whole - agent:.1f} s of our own, {agent:.1f} s of the agent, {len(lines)} lines")  # noqa: T201
    assert whole - agent < MOST_S
