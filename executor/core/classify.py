"""The class of a failed call of an agent: by structured event first, by its words second, by its exit code last. Pure.

What an agent prints can come from anywhere, so it decides only how the executor goes on after a call that brought
nothing: of a call that ended well and left a change only the profile's own signs are asked, and then the checks decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.core.agent_words import COMMON, GAVE_UP, QUESTION, REFUSAL
from executor.core.message import one_line
from executor.core.reset_time import reset_time
from executor.core.state import UNSPENT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from executor.core.agent_output import AgentError, Told
    from executor.core.profile import Agent

__all__ = ["FALLS_BACK", "IN_PLACE", "PERMANENT", "Diagnosis", "Ending", "classify"]

FALLS_BACK = UNSPENT
"""Classes after which the next agent of an ordered list is asked."""
PERMANENT = frozenset({"refusal", "authentication", "missing", "setup"})
"""Classes for which trying the same again is pointless."""
IN_PLACE = frozenset({"transient"})
"""Classes after which the agent is called again at once, in the tree as it left it."""

_STATUSES = {
    401: "authentication",
    402: "limit",
    403: "authentication",
    408: "transient",
    429: "limit",
    529: "transient",
}
_SAYS = {
    "refusal": " refused",
    "input": " waited for an answer that nobody gives",
    "transient": ": its service failed",
    "resource": ": the machine ran out of something",
    "gave-up": " gave up",
}
_SERVER = range(500, 600)
_SIGKILL, _KILLED = 9, 137


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call of an agent ended, as the system saw it.

    Attributes:
        reason: ``exited``, or why it was ended: ``timeout``, ``idle``, ``output-limit``, ``not-started``.
        code: exit code, None if a signal ended it.
        signal: number of that signal.
        told: one phrase for people.
        changed: whether the tree differs from what it was given.
    """

    reason: str
    code: int | None
    signal: int | None
    told: str
    changed: bool

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.reason == "exited" and self.code == 0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A failed call, understood.

    Attributes:
        kind: its class.
        reason: one sentence.
        until: epoch seconds at which a limit is lifted, if that is known.
    """

    kind: str
    reason: str
    until: float | None = None


def classify(agent: Agent, ending: Ending, told: Told, now: datetime) -> Diagnosis | None:
    """The class of a failed call; None when it ended well and there is a result to look at, even an empty one.

    Args:
        agent: its profile.
        ending: how it ended.
        told: what its output says.
        now: the present moment with the local time zone.
    """
    if ending.ok and ending.changed and not _fatal(told):
        kind, line = ("", "") if told.events else _told_by(_own(agent), told.noise)
        return _worded(agent, kind, line, told, now) if kind else None
    found = None
    if not agent.deterministic:
        found = _by_event(agent, told, now) if told.errors else None
        if found is None and ending.reason in {"exited", "idle"}:
            found = _by_words(agent, ending, told, now)
    return found or (None if ending.ok else _by_exit(agent, ending, told))


def _by_exit(agent: Agent, ending: Ending, told: Told) -> Diagnosis:
    """What is left: that it did not end well."""
    kind = "resource" if ending.signal == _SIGKILL or ending.code == _KILLED else "agent"
    last = f": {one_line(told.errors[-1].message)[:300]}" if told.errors and told.errors[-1].message else ""
    return Diagnosis(kind, f"agent {agent.name}: {ending.told}{last}")


def _fatal(told: Told) -> bool:
    """Whether the last thing that happened was an error: nothing was said or done after it that would end the work."""
    return bool(told.errors) and told.errors[-1].kind not in {"", "transient"}


def _by_event(agent: Agent, told: Told, now: datetime) -> Diagnosis | None:
    """What the last telling error says; one that the agent got over (exit 0 and a change) is none."""
    for error in reversed(told.errors):
        kind = error.kind or _kind_of_status(error.status) or _kind_of_words(agent, error.message)
        if kind:
            return _finding(agent, kind, error, now)
    return None


def _finding(agent: Agent, kind: str, error: AgentError, now: datetime) -> Diagnosis:
    until = None
    if kind == "limit":
        until = error.reset
        if until is None and error.retry_after is not None:
            until = now.timestamp() + error.retry_after
        if until is None:
            until = reset_time(error.message, now)
    words = one_line(error.message)[:300] or (f"status {error.status}" if error.status else "no words were given")
    return Diagnosis(kind, _sentence(agent, kind, words), until)


def _by_words(agent: Agent, ending: Ending, told: Told, now: datetime) -> Diagnosis | None:
    """What plain output says. What the model itself said is asked for a refusal only, and only when nothing changed."""
    kind, line = _told_by(_all(agent), told.noise)
    if ending.ok and (told.events or kind == "input"):
        kind = ""  # warnings of a call that ended well
    last = _last_line(told.noise)
    if ending.reason == "idle" and (kind == "input" or re.search(QUESTION, last, re.IGNORECASE)):
        return Diagnosis("input", _sentence(agent, "input", one_line(last)[:200]))
    if ending.reason == "idle":
        return None
    if kind:
        return _worded(agent, kind, line, told, now)
    if not ending.changed:
        said = told.text or ("" if told.events else told.noise[-2_000:])
        for kind, common in (("refusal", REFUSAL), ("gave_up", GAVE_UP)):
            match = _first_match((*getattr(agent.patterns, kind), *common), said)
            if match:
                name = kind.replace("_", "-")
                return Diagnosis(name, _sentence(agent, name, one_line(_line_of(said, match))[:300]))
    return None


def _worded(agent: Agent, kind: str, line: str, told: Told, now: datetime) -> Diagnosis:
    until = (reset_time(line, now) or reset_time(told.noise, now)) if kind == "limit" else None
    return Diagnosis(kind, _sentence(agent, kind, one_line(line)[:300]), until)


def _sentence(agent: Agent, kind: str, words: str) -> str:
    if kind == "authentication":
        return f"agent {agent.name} cannot log in ({words}); {_login(agent)}"
    if kind == "limit":
        return f"{agent.payer} is at its limit: {words}"
    return f"agent {agent.name}{_SAYS.get(kind, '')}: {words}"


def _login(agent: Agent) -> str:
    ways = [f"set {way[1:]}" if way.startswith("$") else f"log in (it keeps {way})" for way in agent.login]
    if not ways:
        ways = [f"set {name}" for name in agent.env]
    return " or ".join(ways) or f"log in with {agent.command[0] if agent.command else agent.name}"


def _kind_of_status(status: int) -> str:
    return _STATUSES.get(status, "transient" if status in _SERVER else "")


def _kind_of_words(agent: Agent, text: str) -> str:
    for kind, patterns in _all(agent):
        if _first_match(patterns, text):
            return kind
    return "refusal" if _first_match((*agent.patterns.refusal, *REFUSAL), text) else ""


def _told_by(table: Iterable[tuple[str, tuple[str, ...]]], text: str) -> tuple[str, str]:
    """The class that plain output shows, and the line that shows it: the last one that does."""
    rows = [row for row in table if row[1]]
    for line in reversed(text.splitlines() if rows else ()):
        for kind, patterns in rows:
            if _first_match(patterns, line):
                return kind, line
    return "", ""


def _own(agent: Agent) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The profile's own patterns: they hold even when the call seems to have ended well."""
    return tuple((kind, getattr(agent.patterns, kind)) for kind, _ in COMMON)


def _all(agent: Agent) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The profile's own patterns first, then what is common to all."""
    return (*_own(agent), *COMMON)


def _first_match(patterns: Iterable[str], text: str) -> re.Match[str] | None:
    plain = text.replace("\u2019", "'")
    for pattern in patterns:
        match = re.search(pattern, plain, re.IGNORECASE)
        if match:
            return match
    return None


def _line_of(text: str, match: re.Match[str]) -> str:
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return text[start : end if end >= 0 else len(text)]


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
