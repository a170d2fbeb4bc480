"""The Claude Code plug-in: its manifests fit together, and the skill names commands and keys that exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from executor.commands import COMMANDS
from executor.config.schema import schemas
from tests.support import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = CHECKOUT / "plugin"
SKILL = PLUGIN / "skills" / "milestones" / "SKILL.md"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_manifests_name_one_plugin_and_a_server_that_is_installed() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    market, manifest = read(CHECKOUT / ".claude-plugin/marketplace.json"), read(PLUGIN / ".claude-plugin/plugin.json")
    [listed] = market["plugins"]
    assert listed["name"] == manifest["name"] == project["name"]
    assert manifest["version"] == project["version"]
    assert (CHECKOUT / listed["source"]).resolve() == PLUGIN
    [server] = read(PLUGIN / ".mcp.json")["mcpServers"].values()
    assert server["command"] in project["scripts"]
    assert server["args"][0] in COMMANDS


def test_the_skill_has_a_head_and_names_what_exists() -> None:
    _, head, body = SKILL.read_text(encoding="utf-8").split("---\n", 2)
    fields = yaml.safe_load(head)
    assert set(fields) == {"name", "description"}
    assert fields["name"] == SKILL.parent.name
    assert re.fullmatch(r"[a-z0-9-]{1,64}", fields["name"])
    assert len(fields["description"]) <= 1024
    assert len(body.splitlines()) < 500
    named = set(re.findall(r"doit ([a-z]+)(?![a-z:])", body))
    assert named - set(COMMANDS) == set()
    for example in re.findall(r"```toml\n(.*?)```", body, re.DOTALL):
        jsonschema.validate(tomllib.loads(example), schemas()["milestone"])


@pytest.mark.skipif(shutil.which("claude") is None, reason="Claude Code is not installed")
@pytest.mark.agents
@pytest.mark.parametrize("folder", [CHECKOUT, PLUGIN], ids=["marketplace", "plugin"])
def test_claude_code_accepts_the_plugin(folder: Path) -> None:
    done = subprocess.run(
        ["claude", "plugin", "validate", "--strict", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "DISABLE_AUTOUPDATER": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
