"""An agent as a command: its argument list, environment and files, its call, its output, the class of its failure.

A call is repeated when the agent's service failed. Its output is read without following links or waiting, up to a
limit.

`doctor` asks here whether an agent can be called: its program, version and log-in. That calls no model and spends
nothing. The ids of a trace rest on the id of the run: agents are given them while the trace is not yet written.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from executor.agents import acp
from executor.agents.errors import IN_PLACE, Diagnosis, Ending, classify, parse_output
from executor.errors import InterruptedRunError
from executor.git.trailers import one_line
from executor.model.fingerprint import IssueRef
from executor.process.files import clock_after
from executor.process.runner import Command, sane_path
from executor.state.events import AgentSilent, Spend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from executor.agents.output import AgentOutput
    from executor.model.agent_profile import Agent
    from executor.process.runner import Ended
    from executor.sandbox.policy import RunContext, Sandboxing


__all__ = [
    "LOG",
    "AgentCaller",
    "Called",
    "child_environment",
    "cost_of",
    "failure_of",
    "missing_program",
    "ordinary_environment",
    "probe_agent",
    "read_output",
    "secret_values",
    "secrets_of",
    "span_id",
    "trace_of",
    "trace_variables",
    "traces",
]


_PUBLIC = re.compile(r"_(URL|HOME|CONFIG|PROJECT|BASE|ENDPOINT|REGION|MODEL(_NAME)?|HOST|PORT|USE_\w+)$")
_ALLOWED = ("HOME", "LANG", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "USER", "XDG_RUNTIME_DIR")


def ordinary_environment(names: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the environment of a child: common variables, and those that its profile names."""
    wanted = dict.fromkeys((*_ALLOWED, *names, *(key for key in os.environ if key.startswith("LC_"))))
    environment = {key: value for key in wanted if (value := os.environ.get(key)) is not None}
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
    """Whether the variables of OpenTelemetry request traces: an endpoint, or the name of an exporter."""
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
    span = span_id(run_id, str(IssueRef(milestone, issue)), str(attempt))
    return {"TRACEPARENT": f"00-{trace_of(run_id)[0]}-{span}-01"}


def missing_program(agent: Agent, environment: Mapping[str, str]) -> str | None:
    """Return why the program of an agent cannot start in this environment; None if no reason is known."""
    name = agent.command[0]
    if "{" in name or ("/" in name and not name.startswith("/")):
        return None  # known later, or a file of the tree
    if shutil.which(name, path=environment.get("PATH", "")) is not None:
        return None
    where = "cannot be executed" if name.startswith("/") else "is not on PATH"
    return f"agent {agent.name}: {name} {where}"


_PATIENCE = 20.0  # seconds; a choice


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
        yield "agent-broken", problem, f"find out why {name} does not start, or reinstall it"
    logged_in = _login(agent)
    if agent.login and not logged_in:
        ways = " or ".join(f"set {way[1:]}" if way.startswith("$") else f"log in ({way})" for way in agent.login)
        yield "agent-login", "no sign that it can log in", ways
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


LOG = "agent.log"
_MOST_ARGUMENT = 100_000  # bytes; Linux takes at most 128 KiB in one argument (MAX_ARG_STRLEN)
_TOO_LONG = "Your task is in the file {path}; read all of it first, then do what it says."


@dataclass(frozen=True, slots=True)
class Called:
    """The end of a call.

    Attributes:
        ended: the end as the operating system reports it.
        output: its parsed output.
        finding: its class of failure; None if it has a result.
    """

    ended: Ended
    output: AgentOutput
    finding: Diagnosis | None


class AgentCaller:
    """Calls agents for one milestone."""

    def __init__(self, context: RunContext, sandboxing: Sandboxing) -> None:
        self._context = context
        self._sandboxing = sandboxing

    def call(
        self,
        issue: str,
        agent: Agent,
        command: Command,
        changed: Callable[[], bool],
        output_file: Path | None,
        elsewhere: Callable[[Command], Ended] | None = None,
    ) -> Called:
        """Run an agent to its end; retries service failures at once, up to `limits.transient` times.

        Args:
            issue: id of the issue.
            agent: its profile.
            command: the command; its log is in a separate folder for this call.
            changed: returns whether the tree differs from its start.
            output_file: path of its structured output; None if that is printed.
            elsewhere: runs it on another host; None: the supervisor of this machine runs it.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        limits, ref = self._context.policy.limits, str(IssueRef(self._context.name, issue))
        turn = 0
        while True:
            if output_file is not None:
                output_file.unlink(missing_ok=True)
            if elsewhere is not None:
                ended = elsewhere(command)
            else:
                ended = self._context.supervisor.run(command, lambda seconds: self._silent(issue, agent, seconds))
            if ended.reason in {"stopped", "lost"}:
                raise InterruptedRunError(f"{ref}: agent {agent.name} was interrupted", 130)
            output = read_output(agent, command.log, output_file)
            how = Ending(ended.reason, ended.code, ended.signal, ended.describe(), _known(changed, ended))
            finding = classify(agent, how, output, datetime.now().astimezone())
            if finding is None or finding.kind not in IN_PLACE or turn == limits.transient:
                return Called(ended, output, _dated(self._context, agent, finding))
            seconds = min(limits.backoff_s * 2**turn, limits.backoff_most_s)
            again = f"call {turn + 2} of {limits.transient + 1} {clock_after(seconds)}"
            self._context.tell("again", ref, f"{finding.reason}; {again}")
            _put_aside(command.log, output_file, turn + 1)
            if self._context.stopping.wait(seconds):
                raise InterruptedRunError(f"{ref}: agent {agent.name} was interrupted", 130)
            turn += 1

    def command(
        self,
        agent: Agent,
        argv: tuple[str, ...],
        *,
        tree: Path,
        env: dict[str, str],
        brief: Path,
        log: Path,
        result_file: Path | None = None,
    ) -> Command:
        """Build the command of an agent in a tree, within the limits of its profile and of the policy.

        Args:
            agent: its profile.
            argv: the command line, already wrapped if it runs in a sandbox.
            tree: its working folder, watched for signs of life.
            env: its complete environment.
            brief: its brief, for standard input if it reads that.
            log: file for its output.
            result_file: file for the durable record of its end.
        """
        limits = self._context.policy.limits
        if agent.protocol:  # outside the sandbox, where our program can be read; it offers the agent nothing
            argv = (sys.executable, "-I", "-S", "-X", "utf8", "-B", acp.__file__, *argv)
        return Command(
            argv=argv,
            cwd=self._context.project.within(tree),
            env=env,
            log=log,
            stdin=brief if agent.brief == "stdin" else None,
            timeout=float(agent.timeout or limits.timeout_s),
            idle=float(agent.idle or limits.idle_s),
            silent=limits.silent_s or None,
            watch=tree,
            output_cap=limits.output_cap_bytes,
            linger=limits.background_s,
            secrets=self._context.secrets,
            result_file=result_file,
        )

    def values(self, agent: Agent, brief: Path, out: Path) -> dict[str, object]:
        """Return the placeholders of a profile's command line, besides the options of an issue."""
        values: dict[str, object] = {"brief_file": str(brief), "out": str(out)}
        values["sandbox"] = "bwrap" if self._sandboxing.is_boxed(agent) else ""
        if agent.brief == "argument":
            text = brief.read_text(encoding="utf-8", errors="surrogateescape")
            fits = len(text.encode("utf-8", "surrogateescape")) <= _MOST_ARGUMENT and "\0" not in text
            values["brief"] = text if fits else _TOO_LONG.format(path=brief)
        return values

    def _silent(self, issue: str, agent: Agent, seconds: float) -> None:
        text = f"agent {agent.name} has shown no output, work or changed file for {seconds:.0f} s"
        self._context.tell("silent", str(IssueRef(self._context.name, issue)), text)
        self._context.record(AgentSilent(agent=agent.name, silent_s=seconds), issue)


def failure_of(context: RunContext, agent: Agent, ended: Ended, log: Path) -> Diagnosis | None:
    """Classify the end of a review, which changes no tree; None if it ended well."""
    if ended.ok:
        return None
    output = read_output(agent, log, None)
    how = Ending(ended.reason, ended.code, ended.signal, ended.describe(), changed=False)
    return _dated(context, agent, classify(agent, how, output, datetime.now().astimezone()))


def _dated(context: RunContext, agent: Agent, finding: Diagnosis | None) -> Diagnosis | None:
    """Add the time at which the account is used again to a limit or an outage."""
    if finding is not None and finding.kind == "transient":
        until, rest_s = context.accounts.outage(agent)
        return replace(finding, until=until, rest_s=rest_s)
    if finding is None or finding.kind != "limit" or finding.until is not None:
        return finding
    return replace(finding, until=time.time() + context.policy.limits.suspend_s)


def cost_of(agent: Agent, log: Path, output_file: Path | None) -> Spend:
    """Return the money and tokens of all calls with this log."""
    tokens: dict[str, int] = {}
    cost: float | None = None
    for number in range(1_000):
        part = _aside(log, number) if number else log
        if not part.exists():
            if number:
                break
            continue
        output = read_output(agent, part, _aside(output_file, number) if output_file else None)
        cost = cost if output.cost_usd is None else (cost or 0.0) + output.cost_usd
        for name, count in output.tokens.items():
            tokens[name] = tokens.get(name, 0) + count
    return Spend(None if cost is None else round(cost, 8), tokens)


def _known(changed: Callable[[], bool], ended: Ended) -> bool:
    """Return whether it changed the tree; computed only if it matters."""
    return ended.reason == "exited" and changed()


def _put_aside(log: Path, output_file: Path | None, number: int) -> None:
    """Rename the output of a call so that the next call does not overwrite it."""
    for path in (log, output_file):
        if path is not None:
            with suppress(FileNotFoundError):
                path.rename(_aside(path, number))


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}") if number else path


_MOST_LINE = 8 * 2**20  # characters; bounds the memory for output without line ends
_MOST_BYTES = 256 * 2**20  # characters; bounds the time to read a log, the rest is not read
_PRINTED_NOISE = 16_000  # characters; as `NOISE`


def read_output(agent: Agent, log: Path, output_file: Path | None) -> AgentOutput:
    """Parse the output in a log.

    Args:
        agent: the profile of its agent.
        log: the log file.
        output_file: file of its structured output; None if that is in the log.
    """
    if output_file is None:
        return parse_output(agent, _lines(log))
    printed = "".join(_lines(log))[-_PRINTED_NOISE:]
    found = parse_output(agent, _lines(output_file))
    return replace(found, noise=printed)


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a regular file, long ones truncated; none for other files."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        left = _MOST_BYTES
        while left > 0 and (line := file.readline(min(_MOST_LINE, left))):
            left -= len(line)
            yield line.decode("utf-8", "replace")
