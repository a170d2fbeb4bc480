"""Whether an agent could be called: its program, its version, its log-in. Asks no model and spends nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from executor.agents.command import ordinary_environment
from executor.git.trailers import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.model.agent_profile import Agent

__all__ = ["probe_agent"]

_PATIENCE = 20.0


def probe_agent(agent: Agent) -> Iterator[tuple[str, str, str]]:
    """A finding: kind (`ok`, `agent-missing`, `agent-broken`, `agent-login`), a sentence, the next step."""
    if agent.builtin:
        yield "ok", "built in", ""
        return
    name = agent.command[0]
    program = shutil.which(name)
    if program is None:
        yield "agent-missing", f"{name} is not on PATH", f"install {name}, or choose another agent"
        return
    asked = agent.version and (agent.version[0] == name or shutil.which(agent.version[0]) is not None)
    version, problem = _version(agent) if asked else ("", "")
    if problem:
        yield "agent-broken", problem, f"see why {name} does not start; install it again"
    logged_in = _login(agent)
    if agent.login and not logged_in:
        ways = " or ".join(f"set {way[1:]}" if way.startswith("$") else f"log in ({way})" for way in agent.login)
        yield "agent-login", "nothing shows that it can log in", ways
    elif not problem:
        yield "ok", ", ".join(part for part in (program, version, logged_in) if part), ""


def _version(agent: Agent) -> tuple[str, str]:
    """Its version, or the problem with asking for it."""
    environment = {**ordinary_environment(), **agent.variables}
    try:
        done = subprocess.run(
            agent.version,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"{' '.join(agent.version)} did not end within {_PATIENCE:.0f} s"
    except OSError as error:
        return "", f"{' '.join(agent.version)}: {error.strerror}"
    lines = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
    first = one_line(lines[0])[:100] if lines else ""
    if done.returncode:
        return "", f"{' '.join(agent.version)} ended with exit {done.returncode}: {first}"
    return next((one_line(line)[:100] for line in lines if any(map(str.isdigit, line))), first), ""


def _login(agent: Agent) -> str:
    """The first sign that it can log in: the name of a variable that is passed on, or a file; empty without one."""
    for way in agent.login:
        if way.startswith("$") and os.environ.get(way[1:]) and (way[1:] in agent.env or way[1:] in agent.variables):
            return f"{way[1:]} is set"
        if not way.startswith("$") and Path(way).expanduser().exists():
            return f"logged in ({way})"
    return ""
