"""One attempt as a person reads it: who worked how long for how much, the agent's last words, commands, files, checks.

What an agent did is read from its output by its profile's own mapping; the output as it is has `doit log --raw`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from executor.git.trailers import one_line
from executor.status.estimate import moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.agents.output import Told
    from executor.state.model import Attempt

__all__ = ["CheckRun", "Session", "attempt_lines", "local_time"]

_MOST = 20
_LAST_LINES = 40


@dataclass(frozen=True, slots=True)
class Session:
    """One call of an agent, or the calls of one step.

    Attributes:
        step: the step of a workflow; empty for a whole attempt.
        told: what its output says.
        output: the end of its output, for agents whose output has no structure.
    """

    step: str
    told: Told
    output: str = ""


@dataclass(frozen=True, slots=True)
class CheckRun:
    """A check that ran in an attempt.

    Attributes:
        name: of the check, or the command of an acceptance.
        ok: whether it passed.
        seconds: how long it ran.
        output: the end of its output, where it failed.
    """

    name: str
    ok: bool
    seconds: float
    output: str = ""


def local_time(at: str) -> str:
    """An ISO-8601 moment on the clock here, with its zone; empty for an empty one."""
    if not at:
        return ""
    here = datetime.fromtimestamp(moment(at)).astimezone()
    return f"{here:%Y-%m-%d %H:%M:%S %Z}"


def attempt_lines(
    attempt: Attempt, sessions: Sequence[Session], files: Sequence[str], checks: Sequence[CheckRun]
) -> list[str]:
    """The attempt as lines.

    Args:
        attempt: as it is known.
        sessions: the calls of its agents, in their order.
        files: what it changed in the end.
        checks: the checks that ran on its result, in their order.
    """
    facts = [f"{attempt.seconds:.0f} s"] if attempt.seconds else []
    facts += [f"${attempt.cost_usd:.4f}"] if attempt.cost_known else []
    facts += [_tokens(attempt.tokens)] if attempt.tokens else []
    began = f" began {local_time(attempt.started_at)}" if attempt.started_at else ""
    who = f" by {attempt.agent}" if attempt.agent else ""
    lines = [f"attempt {attempt.number}{who}{began}: {', '.join([str(attempt.state), *facts])}"]
    lines += [f"  why: {one_line(attempt.reason)}"] if attempt.reason else []
    for session in sessions:
        lines += _session(session)
    lines += [f"  files changed ({len(files)}): {_listed(files)}"] if files else []
    for check in checks:
        lines.append(f"  check {check.name}: {'passed' if check.ok else 'failed'} in {check.seconds:.1f} s")
        lines += [f"    {line}" for line in check.output.splitlines()[-_LAST_LINES:]]
    return lines


def _session(session: Session) -> list[str]:
    told = session.told
    where = f"  step {session.step}: " if session.step else "  "
    lines: list[str] = []
    if told.text.strip():
        lines += [f"{where}the agent said at its end:", *(f"    {line}" for line in told.text.strip().splitlines())]
    elif session.output.strip():
        last = session.output.rstrip().splitlines()
        more = f" (the last {_LAST_LINES} of {len(last)} lines)" if len(last) > _LAST_LINES else ""
        lines += [f"{where}the agent printed{more}:", *(f"    {line}" for line in last[-_LAST_LINES:])]
    if told.commands:
        shown = told.commands[:_MOST]
        lines += [
            f"{where}commands ({len(told.commands)}):",
            *(f"    $ {one_line(command)[:300]}" for command in shown),
        ]
        more_commands = len(told.commands) - len(shown)
        lines += [f"    and {more_commands} more"] if more_commands else []
    if told.files:
        lines.append(f"{where}files it wrote ({len(told.files)}): {_listed(told.files)}")
    lines += [f"{where}error: {one_line(error.message)[:300]}" for error in told.errors[-3:] if error.message]
    return lines


def _tokens(tokens: Mapping[str, int]) -> str:
    cached = f" ({tokens['cached']:,} cached)" if tokens.get("cached") else ""
    return f"{tokens.get('input', 0):,} tokens read{cached}, {tokens.get('output', 0):,} written"


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(one_line(item) for item in items[:_MOST])
    return f"{shown} and {len(items) - _MOST} more" if len(items) > _MOST else shown
