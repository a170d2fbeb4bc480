"""The session that the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import CHECKOUT

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
CHANGING = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z0-9+-]+", "TIME"),
    (r"\b[0-9a-f]{10}\b", "COMMIT"),
    (r"\b\d+:\d\d\b", "DURATION"),
    (r"added \d+ commands", "added COMMANDS"),
]


def same(text: str) -> str:
    """Text without what is different each time."""
    for pattern, word in CHANGING:
        text = re.sub(pattern, word, text)
    return text


def run(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_first_run_is_as_the_readme_shows_it(tmp_path: Path) -> None:
    run("git init -q -b main && git config user.name A && git config user.email a@example.org", tmp_path)
    session = README.partition("## A first run")[2]
    [shown] = re.findall(r"^```console\n(.*?)^```", session, re.MULTILINE | re.DOTALL)
    commands = [line[2:] for line in shown.splitlines() if line.startswith("$ ")]
    assert len(commands) == 5
    happened = "".join(f"$ {command}\n{run(command, tmp_path)}" for command in commands)
    assert same(happened) == same(shown)
    [block] = re.findall(r"^```sh\n(doit new.*?)^doit doctor", session, re.MULTILINE | re.DOTALL)
    assert run(block, tmp_path).startswith("added m1/1: Read settings from the environment\n")
    assert "m1/1" in run("doit plan m1 && make-for-milestones list", tmp_path)
