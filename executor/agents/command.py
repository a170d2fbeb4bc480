"""Builds the command of an agent from its profile and an issue: argument list, environment, files.

Inside a sandbox, waits for processes that an agent left behind: the sandbox ends with its first process. Pure.

Outside a sandbox the supervisor does the same (`linger` of `process.runner.Command`).

Tests whether an agent can be called: its program, version and log-in. Calls no model and spends nothing.

The ids of a run's trace rest on the id of the run: agents are given them while the trace is not yet written.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from executor.git.trailers import one_line
from executor.process.runner import sane_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from executor.model.agent_profile import Agent


__all__ = [
    "child_environment",
    "missing_program",
    "ordinary_environment",
    "probe_agent",
    "secret_values",
    "secrets_of",
    "span_id",
    "trace_of",
    "trace_variables",
    "traces",
    "waiting_for_background",
]


_PUBLIC = re.compile(r"_(URL|HOME|CONFIG|PROJECT|BASE|ENDPOINT|REGION|MODEL(_NAME)?|HOST|PORT|USE_\w+)$")
_ALLOWED = ("HOME", "LANG", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "USER", "XDG_RUNTIME_DIR")


def ordinary_environment(names: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the environment of a child: common variables, and those that its profile names."""
    environment = {
        key: value for key, value in os.environ.items() if key in _ALLOWED or key in names or key.startswith("LC_")
    }
    environment["PATH"] = sane_path(os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"))
    return environment


def secrets_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the values of variables that profiles name, except ordinary ones."""
    special = sorted({name for name in names if name not in _ALLOWED and not name.startswith("LC_") and name != "PATH"})
    return tuple(dict.fromkeys(value for name in special if (value := os.environ.get(name))))


def secret_values(names: Iterable[str]) -> dict[str, str]:
    """Return secret variables by name, except addresses, paths and choices."""
    return {
        name: value
        for name in sorted(set(names))
        if (value := os.environ.get(name)) and secrets_of((name,)) and not _is_public(name, value)
    }


def _is_public(name: str, value: str) -> bool:
    return _PUBLIC.search(name) is not None and re.search(r"://[^/@\s]*:[^/@\s]+@", value) is None


def child_environment(names: tuple[str, ...], given: Mapping[str, str], tree: Path) -> dict[str, str]:
    """Return the environment of a child in `tree`; git does not search for a repository above that folder."""
    return {**ordinary_environment(names), "GIT_CEILING_DIRECTORIES": str(tree.parent), **given}


_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
"""W3C Trace Context, section 3.2."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def traces() -> bool:
    """Whether the variables of OpenTelemetry ask for traces: an endpoint, or an exporter by name."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    kind = os.environ.get("OTEL_TRACES_EXPORTER", "")
    return kind in {"otlp", "console"} or (not kind and any(os.environ.get(name) for name in _ENDPOINTS))


def span_id(*words: str) -> str:
    """The id of a span, 16 hexadecimal digits."""
    return hashlib.sha256("\0".join(words).encode("utf-8", "replace")).hexdigest()[:16]


def trace_of(run_id: str) -> tuple[str, str]:
    """The id of a run's trace, and the span of the program that started the run; empty if that has none."""
    found = _TRACEPARENT.fullmatch(os.environ.get("TRACEPARENT", ""))
    return (found[1], found[2]) if found else (hashlib.sha256(run_id.encode()).hexdigest()[:32], "")


def trace_variables(run_id: str, milestone: str, issue: str, attempt: int) -> dict[str, str]:
    """The variable that makes an agent's own spans children of its attempt; empty where nothing is traced."""
    if not traces():
        return {}
    span = span_id(run_id, f"{milestone}/{issue}", str(attempt))
    return {"TRACEPARENT": f"00-{trace_of(run_id)[0]}-{span}-01"}


def missing_program(agent: Agent, environment: Mapping[str, str]) -> str:
    """Return why the program of an agent cannot start in this environment; empty if no reason is known."""
    name = agent.command[0]
    if "{" in name or ("/" in name and not name.startswith("/")):
        return ""  # known later, or a file of the tree
    if shutil.which(name, path=environment.get("PATH", "")) is not None:
        return ""
    where = "cannot be executed" if name.startswith("/") else "is not on PATH"
    return f"agent {agent.name}: {name} {where}"


_LOOKS_A_SECOND = 5
_SCRIPT = """
"$@" || exit $?
quiet=0 last=
while [ $quiet -lt LOOKS ]; do
    seen=
    for stat in /proc/[0-9]*/stat; do
        pid=${stat#/proc/}
        pid=${pid%/stat}
        case $pid in 1 | $$) continue ;; esac
        { read -r line < "$stat"; } 2> /dev/null || continue
        set -- ${line##*) }
        [ "$1" = Z ] || seen="$seen $pid ${12} ${13}"
    done
    [ -n "$seen" ] || break
    if [ "$seen" = "$last" ]; then quiet=$((quiet + 1)); else quiet=0 last=$seen; fi
    sleep PAUSE
done
"""


def waiting_for_background(argv: tuple[str, ...], quiet_s: float) -> tuple[str, ...]:
    """Return a command that ends once `argv` and all other processes of its process namespace have ended.

    Processes without processor time for `quiet_s` seconds are not waited for; none is if `argv` fails. The exit code is
    that of `argv`.
    """
    if not quiet_s:
        return argv
    script = _SCRIPT.replace("LOOKS", str(max(1, round(quiet_s * _LOOKS_A_SECOND))))
    return ("sh", "-c", script.replace("PAUSE", str(1 / _LOOKS_A_SECOND)), "sh", *argv)


_PATIENCE = 20.0


def probe_agent(agent: Agent) -> Iterator[tuple[str, str, str]]:
    """Yield findings: kind (`ok`, `agent-missing`, `agent-broken`, `agent-login`), a sentence, the next step."""
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
    """Return its version, or why that is unavailable."""
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
    """Return the first sign of a log-in: the name of a passed variable, or a file; empty without one."""
    for way in agent.login:
        if way.startswith("$") and os.environ.get(way[1:]) and (way[1:] in agent.env or way[1:] in agent.variables):
            return f"{way[1:]} is set"
        if not way.startswith("$") and Path(way).expanduser().exists():
            return f"logged in ({way})"
    return ""
