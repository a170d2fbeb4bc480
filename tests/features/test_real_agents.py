"""Real agent command lines from the package registry, driven by a run, against a scripted model on loopback.

EXECUTOR_AGENTS=1 python -m pytest -q -m agents: installs them once, about a gigabyte, into pytest's cache folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from executor.sandbox.bubblewrap import find_sandbox, sandbox_problem
from tests.features.test_environments import installed
from tests.model_server import PRICE, ModelServer
from tests.support import Repo, issue, kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.agents
ACP = "@zed-industries/claude-code-acp"
PACKAGES = {"codex": "@openai/codex", "opencode": "opencode-ai", "claude": "@anthropic-ai/claude-code"}
NAMES = tuple(PACKAGES)
BRANCH = "milestone/m1-test-m1"
BOX = find_sandbox()


@pytest.fixture(scope="session")
def programs(pytestconfig: pytest.Config) -> Path:
    """The folder with the programs, installed if need be."""
    folder = kept(pytestconfig, "agents")
    found = folder / "node_modules" / ".bin"
    if not all((found / name).exists() for name in (*NAMES, "claude-code-acp")):
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        install = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", *PACKAGES.values(), ACP]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the agents cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return found


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer(retry_after=3) as server:
        yield server


@pytest.fixture
def real(repo: Repo, programs: Path, model: ModelServer, tmp_path: Path) -> Repo:
    """A repository whose agents are the real ones, with homes of their own and no account but that of the server."""
    home = tmp_path / "home"
    home.mkdir()
    config = home / "opencode.json"
    cost = {"input": PRICE["input"], "output": PRICE["output"], "cache_read": PRICE["cached"]}
    models = {name: {"cost": cost} for name in ("ok", "refuse", "give-up", "hang")}
    stub = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{model.url}/v1", "apiKey": "none"},
        "models": models,
    }
    config.write_text(json.dumps({"provider": {"stub": stub}}), encoding="utf-8")
    provider = {"name": "stub", "base_url": f"{model.url}/v1", "wire_api": "responses", "env_key": "STUB_KEY"}
    stub_words = [
        word
        for key, value in {
            "model_provider": "stub",
            **{f"model_providers.stub.{key}": value for key, value in provider.items()},
        }.items()
        for word in ("-c", f"{key}={json.dumps(value)}")
    ]
    codex = [str(programs / "codex"), "exec", "--json", "-s", "danger-full-access", "--ephemeral"]
    rules = {
        "codex": {
            "command": [*codex, "--skip-git-repo-check", *stub_words, "{flags}", "-"],
            "model": "ok",
            "variables": {"STUB_KEY": "none"},
            "price": PRICE,
        },
        "opencode": {
            "command": [
                *(str(programs / "opencode"), "run", "--format", "json", "--auto", "--title", "issue"),
                *("{flags}", "{brief}"),
            ],
            "model": "stub/ok",
            "variables": {"OPENCODE_CONFIG": str(config)},
        },
        "claude": {
            "command": [
                *(str(programs / "claude"), "-p", "--output-format", "stream-json", "--verbose"),
                *("--permission-mode", "acceptEdits", "--allowedTools", "Bash,Edit,Write,Read", "{flags}"),
            ],
            "model": "claude-ok",
            "variables": {
                "ANTHROPIC_BASE_URL": model.url,
                "ANTHROPIC_API_KEY": "none-at-all",
                "CLAUDE_CODE_MAX_RETRIES": "1",
            },
        },
    }
    for name, rule in rules.items():
        variables: Any = rule["variables"]
        variables["HOME"] = str(home)
        lines = [f"{key} = {_toml(value)}" for key, value in {**rule, "isolation": "none", "timeout": 150.0}.items()]
        old = repo.path / "rules" / "agents.toml"
        before = old.read_text(encoding="utf-8") if old.exists() else ""
        repo.write("rules/agents.toml", "\n".join([before, f"[agent.{name}]", *lines]) + "\n")
    repo.write("rules/limits.toml", "backoff_s = 0.0\nsuspend_s = 3.0\n")
    return repo


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def task(name: str, **extra: Any) -> str:
    return issue(name, body=f"RUN: echo {name} > {name}.txt", accept=[{"file": f"{name}.txt"}], **extra)


def rows(repo: Repo) -> dict[str, dict[str, Any]]:
    found = repo.doit("status", "--json").check().json["milestones"][0]["issues"]
    return {row["id"]: row for row in found}


def refusing(name: str) -> str:
    return {"codex": "refuse", "opencode": "stub/refuse", "claude": "claude-refuse"}[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_milestone_lands_and_its_cost_is_what_the_server_billed(real: Repo, model: ModelServer, name: str) -> None:
    real.milestone("m1", task("a", agent=name) + task("b", agent=name, needs=["a"]))
    real.doit("milestone:m1", timeout=300).check()
    assert real.landed(BRANCH) == ["a@1", "b@1"]
    assert model.billed_usd > 0
    assert sum(row["cost_usd"] for row in rows(real).values()) == pytest.approx(model.billed_usd, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_suspends_and_a_later_run_goes_on(real: Repo, model: ModelServer, name: str) -> None:
    real.milestone("m1", task("a", agent=name))
    model.always = "limit"
    real.doit("milestone:m1", timeout=300).check(75)
    assert (rows(real)["a"]["status"], rows(real)["a"]["attempts"]) == ("pending", 0)
    model.always = ""
    until = time.monotonic() + 60
    while real.doit("milestone:m1", timeout=300).code == 75:
        assert time.monotonic() < until
    assert (rows(real)["a"]["status"], rows(real)["a"]["attempts"]) == ("landed", 1)


@pytest.mark.parametrize(("first", "second"), [("codex", "opencode"), ("opencode", "claude"), ("claude", "codex")])
def test_a_refusal_brings_the_next_agent(real: Repo, first: str, second: str) -> None:
    rules = (real.path / "rules" / "agents.toml").read_text(encoding="utf-8")
    own = {"codex": '"ok"', "opencode": '"stub/ok"', "claude": '"claude-ok"'}[first]
    real.write("rules/agents.toml", rules.replace(f"model = {own}", f'model = "{refusing(first)}"'))
    real.milestone("m1", task("a", agent=[first, second]))
    real.doit("milestone:m1", timeout=300).check()
    attempts = real.doit("log", "m1/a", "--json").check().json["attempts"]
    assert [(item["agent"], item["kind"]) for item in attempts] == [(first, "refusal"), (second, "")]


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_key_is_reported_as_such(real: Repo, model: ModelServer, name: str) -> None:
    real.milestone("m1", task("a", agent=name))
    model.always = "unauthorized"
    real.doit("milestone:m1", timeout=300).check(1)
    assert rows(real)["a"]["reason"].startswith(f"agent {name} cannot log in (")


def test_an_agent_that_hangs_is_ended(real: Repo, model: ModelServer) -> None:
    rules = (real.path / "rules" / "agents.toml").read_text(encoding="utf-8")
    real.write("rules/agents.toml", rules.replace("[agent.claude]", "[agent.claude]\nidle = 8.0"))
    real.write("rules/limits.toml", "backoff_s = 0.0\nattempts = 1\nsilent_s = 4.0\n")
    real.milestone("m1", task("a", agent="claude"))
    model.always = "hang"
    told = real.doit("milestone:m1", timeout=300).check(1)
    reason = rows(real)["a"]["reason"]
    assert "(idle)" in reason or "(timeout)" in reason, "one that calls its server again and again is not idle"
    assert "(timeout)" in reason or "has shown no output, work or changed file" in told.out


def test_an_agent_that_wants_a_terminal_is_found_out(real: Repo, programs: Path) -> None:
    rules = (real.path / "rules" / "agents.toml").read_text(encoding="utf-8")
    own = f'[agent.asking]\ncommand = [{json.dumps(str(programs / "codex"))}, "do it"]\nisolation = "none"\n'
    real.write("rules/agents.toml", rules + own)
    real.write("rules/limits.toml", "backoff_s = 0.0\nattempts = 1\n")
    real.milestone("m1", task("a", agent="asking"))
    real.doit("milestone:m1", timeout=300).check(1)
    assert "waited for an answer that no one gives" in rows(real)["a"]["reason"]


@pytest.fixture
def packaged(repo: Repo, programs: Path, model: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repository without rules for agents, on a machine where they are installed and set up in the user's home."""
    home = tmp_path / "home"
    models = {"ok": {"cost": {"input": PRICE["input"], "output": PRICE["output"], "cache_read": PRICE["cached"]}}}
    options = {"baseURL": f"{model.url}/v1", "apiKey": "none"}
    stub = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": models}
    files = {
        ".config/opencode/opencode.json": json.dumps({"provider": {"stub": stub}}),
        ".codex/config.toml": (
            'model_provider = "stub"\n[model_providers.stub]\nname = "stub"\nwire_api = "responses"\n'
            f'env_key = "OPENAI_API_KEY"\nbase_url = "{model.url}/v1"\n'
        ),
        ".claude/settings.json": "{}",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("OPENAI_API_KEY", "none-at-all")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none-at-all")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", model.url)
    chosen = {"codex": "ok", "opencode": "stub/ok", "claude": "claude-ok"}
    repo.write("rules/agents.toml", "".join(f'[agent.{name}]\nmodel = "{word}"\n' for name, word in chosen.items()))
    repo.write("rules/routes.toml", '[route.core]\ntools = ["Bash", "Edit", "Write", "Read"]\n')
    return repo


@pytest.mark.skipif(BOX is None, reason=sandbox_problem() or "-")
@pytest.mark.parametrize("name", NAMES)
def test_the_packaged_profile_works_in_the_sandbox(
    packaged: Repo, model: ModelServer, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "home" / ".ssh" / "id_test"
    secret.parent.mkdir()
    secret.write_text("secret", encoding="utf-8")
    look = f"test -e {secret} && echo seen >> a.txt; echo a >> a.txt"
    packaged.milestone("m1", issue("a", body=f"RUN: {look}", accept=[{"file": "a.txt"}], agent=name, type="core"))
    packaged.doit("milestone:m1", timeout=300).check()
    assert packaged.git("show", f"{BRANCH}:a.txt") == "a"
    assert model.billed_usd > 0


@pytest.mark.skipif(BOX is None, reason=sandbox_problem() or "-")
@pytest.mark.parametrize("name", NAMES)
def test_an_issue_of_a_package_installed_editable_lands_with_one_line_of_configuration(
    repo: Repo, programs: Path, model: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The packaged profile in the sandbox; `agent = "claude"` is the line, and the account is that of the server."""
    if name != "claude":
        pytest.skip(f"{name} takes the address of its service from a file only, not from one line")
    installed(repo, monkeypatch)
    home = tmp_path / "home"
    home.mkdir()
    model.always = "ok"
    for key, value in {
        "HOME": str(home),
        "PATH": f"{os.environ['PATH']}:{programs}",
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "none-at-all",
    }.items():
        monkeypatch.setenv(key, value)
    test = "import app\\ndef test_g(): assert app.g() == 3\\n"
    right = f"RUN: echo 'def g(): return 3' >> src/app/__init__.py; printf '{test}' > tests/test_g.py"
    wrong = "RUN: echo 'def f(): return 2' > src/app/__init__.py"
    repo.write("rules/limits.toml", "backoff_s = 0.0\nattempts = 1\n")
    body = issue("wrong", body=wrong, agent=name, checks=["tests"])
    repo.milestone("m1", body + issue("right", body=right, agent=name, checks=["tests"]))
    said = repo.doit("milestone:m1", timeout=500)
    assert repo.statuses() == {"m1/wrong": "failed", "m1/right": "landed"}, said.out
    assert not (repo.path / "rules" / "agents.toml").exists()


def test_an_agent_that_speaks_the_agent_client_protocol_lands_an_issue(
    repo: Repo, programs: Path, model: ModelServer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    variables = {
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "none-at-all",
        "IS_SANDBOX": "1",  # it refuses to start as root without it
    }
    model.always = "ok"  # it also calls a small model for the title of its session
    rule = {
        "protocol": "acp",
        "command": [str(programs / "claude-code-acp")],
        "isolation": "none",
        "model": "claude-ok",
        "timeout": 150.0,
    }
    lines = [f"{key} = {_toml(value)}" for key, value in {**rule, "variables": variables}.items()]
    repo.write("rules/agents.toml", "\n".join(["[agent.speaker]", *lines]) + "\n")
    repo.milestone("m1", task("a", agent="speaker"))
    repo.doit("milestone:m1", timeout=300).check()
    assert repo.landed(BRANCH) == ["a@1"]
    assert "claude-ok" in {asked.model for asked in model.asked}
    shown = repo.doit("log", "m1/a").check().out
    assert "echo a > a.txt" in shown
    assert "Done." in shown
