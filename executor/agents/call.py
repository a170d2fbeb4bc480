"""A call of an agent: run it, read its output, classify its failure, retry when its service failed."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from executor.agents import acp
from executor.agents.errors import IN_PLACE, Diagnosis, Ending, classify
from executor.agents.output import read_told
from executor.errors import InterruptedRunError
from executor.process.files import clock_after
from executor.process.runner import Command
from executor.state.events import AgentSilent, Spend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from executor.agents.output import Told
    from executor.model.agent_profile import Agent
    from executor.process.runner import Ended
    from executor.sandbox.policy import RunContext, Sandboxing

__all__ = ["LOG", "AgentCaller", "Called", "cost_of", "failure_of"]

LOG = "agent.log"
_MOST_ARGUMENT = 100_000
_TOO_LONG = "Your task is in the file {path}; read all of it first, then do what it says."


@dataclass(frozen=True, slots=True)
class Called:
    """The end of a call.

    Attributes:
        ended: the end as the operating system reports it.
        told: its parsed output.
        finding: its class of failure; None if it has a result.
    """

    ended: Ended
    told: Told
    finding: Diagnosis | None


class AgentCaller:
    """Calls agents for one milestone."""

    def __init__(self, context: RunContext, sandboxing: Sandboxing) -> None:
        self._context = context
        self._sandboxing = sandboxing

    def call(
        self, issue: str, agent: Agent, command: Command, changed: Callable[[], bool], told_file: Path | None
    ) -> Called:
        """Run an agent to its end; retries service failures at once, up to `limits.transient` times.

        Args:
            issue: id of the issue.
            agent: its profile.
            command: the command; its log is in a separate folder for this call.
            changed: returns whether the tree differs from its start.
            told_file: path of its structured output; None if that is printed.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        limits, ref = self._context.policy.limits, f"{self._context.name}/{issue}"
        turn = 0
        while True:
            if told_file is not None:
                told_file.unlink(missing_ok=True)
            ended = self._context.supervisor.run(command, lambda seconds: self._silent(issue, agent, seconds))
            if ended.reason in {"stopped", "lost"}:
                raise InterruptedRunError(f"{ref}: agent {agent.name} was interrupted", 130)
            told = read_told(agent, command.log, told_file)
            how = Ending(ended.reason, ended.code, ended.signal, ended.describe(), _known(changed, ended))
            finding = classify(agent, how, told, datetime.now().astimezone())
            if finding is None or finding.kind not in IN_PLACE or turn == limits.transient:
                return Called(ended, told, _dated(self._context, agent, finding))
            seconds = min(limits.backoff_s * 2**turn, limits.backoff_most_s)
            again = f"call {turn + 2} of {limits.transient + 1} {clock_after(seconds)}"
            self._context.tell("again", ref, f"{finding.reason}; {again}")
            _put_aside(command.log, told_file, turn + 1)
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
        told = f"agent {agent.name} has shown no output, work or changed file for {seconds:.0f} s"
        self._context.tell("silent", f"{self._context.name}/{issue}", told)
        self._context.record(AgentSilent(agent=agent.name, silent_s=seconds), issue)


def failure_of(context: RunContext, agent: Agent, ended: Ended, log: Path) -> Diagnosis | None:
    """Classify the end of a review, which changes no tree; None if it ended well."""
    if ended.ok:
        return None
    told = read_told(agent, log, None)
    how = Ending(ended.reason, ended.code, ended.signal, ended.describe(), changed=False)
    return _dated(context, agent, classify(agent, how, told, datetime.now().astimezone()))


def _dated(context: RunContext, agent: Agent, finding: Diagnosis | None) -> Diagnosis | None:
    """Add the time at which the account is used again to a limit or an outage."""
    if finding is not None and finding.kind == "transient":
        until, rest_s = context.accounts.outage(agent)
        return replace(finding, until=until, rest_s=rest_s)
    if finding is None or finding.kind != "limit" or finding.until is not None:
        return finding
    return replace(finding, until=time.time() + context.policy.limits.suspend_s)


def cost_of(agent: Agent, log: Path, told_file: Path | None) -> Spend:
    """Return the money and tokens of all calls with this log."""
    tokens: dict[str, int] = {}
    cost: float | None = None
    for number in range(1_000):
        part = _aside(log, number) if number else log
        if not part.exists():
            if number:
                break
            continue
        told = read_told(agent, part, _aside(told_file, number) if told_file else None)
        cost = cost if told.cost_usd is None else (cost or 0.0) + told.cost_usd
        for name, count in told.tokens.items():
            tokens[name] = tokens.get(name, 0) + count
    return Spend(None if cost is None else round(cost, 8), tokens)


def _known(changed: Callable[[], bool], ended: Ended) -> bool:
    """Return whether it changed the tree; computed only if it matters."""
    return ended.reason == "exited" and changed()


def _put_aside(log: Path, told_file: Path | None, number: int) -> None:
    """Rename the output of a call so that the next call does not overwrite it."""
    for path in (log, told_file):
        if path is not None:
            with suppress(FileNotFoundError):
                path.rename(_aside(path, number))


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}") if number else path
