"""The result of a call of an agent: its parsed output, and the class of its failure. Pure.

A failure is classified by structured event, then by output, then by exit code. The patterns are common to agents and
their services; a profile may add its own. The profile also declares the format of the output.

An agent's output can come from anywhere, so it affects only what happens after a call without a result. After a
successful call with a change only the profile's own patterns apply; then the checks decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.agents.output import NOISE, AgentOutput, documents_in, event_of, reset_time, take, take_usage
from executor.git.trailers import one_line
from executor.state.model import FALLS_BACK, PERMANENT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from executor.agents.output import AgentError
    from executor.model.agent_profile import Agent


__all__ = ["COMMON", "FALLS_BACK", "IN_PLACE", "PERMANENT", "Diagnosis", "Ending", "classify", "parse_output"]


COMMON: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "authentication",
        (
            r"\b401\b.{0,20}unauthori[sz]ed|unauthori[sz]ed.{0,20}\b401\b",
            r"status(?: code)?:? 40[13]\b|\bAuthenticationError\b|\bPermissionDeniedError\b",
            r"(?:invalid|incorrect|missing|no) (?:x-)?api[- ]?key",
            r"api key (?:not|is not|is missing|is invalid|was not)",
            r"please (?:run /login|log ?in|sign ?in|authenticate)|not (?:logged|signed) in",
            r"OAuth token (?:has )?(?:expired|revoked)|authentication[_ ](?:error|failed)|set an auth method",
            r"could not (?:load|find) (?:the )?(?:default )?credentials",
        ),
    ),
    (
        "limit",
        (
            r"(?:usage|session|weekly|hour|hourly|daily|rate|quota|spend)[ -]limits? (?:was |is |has been )?reached",
            r"(?:usage|session|weekly|hour|hourly|daily|rate|quota|spend)[ -]limits? (?:was |is |has been )?exceeded",
            r"(?:hit|reached|exceeded) (?:your|the|a) (?:[\w-]+ ){0,3}(?:limit|quota)",
            r"\blimit (?:reached|exceeded|hit)\b|too many requests|status:? 429\b",
            r"\bRateLimitError\b|rate[_ ]limit[_ ](?:error|exceeded)|RESOURCE_EXHAUSTED",
            r"insufficient[_ ]quota|quota (?:exceeded|exhausted)|exceeded your current quota",
            r"credit balance is too low|out of (?:extra )?(?:usage|credits)",
        ),
    ),
    (
        "transient",
        (
            r"overloaded|internal server error|bad gateway|service unavailable|gateway time-?out",
            r"currently experiencing high demand|status:? 5\d\d\b",
            r"\b(?:InternalServerError|ServiceUnavailableError|APIConnectionError|BadGatewayError)\b",
            r"\bECONN(?:RESET|REFUSED|ABORTED)\b|\bETIMEDOUT\b|\bENOTFOUND\b|\bEAI_AGAIN\b",
            r"connection (?:reset|refused|error|closed)|socket hang ?up|network error|fetch failed",
            r"stream (?:disconnected|error|closed)|request timed out|unable to connect",
        ),
    ),
    (
        "resource",
        (
            r"no space left on device|\bENOSPC\b|cannot allocate memory|\bENOMEM\b|out of memory|heap limit",
            r"^MemoryError\b|std::bad_alloc",
            r"too many open files|\bEMFILE\b|resource temporarily unavailable",
        ),
    ),
    (
        "input",
        (
            r"input is not a (?:terminal|tty)|not a tty|stdin is not a|EOFError|EOF when reading a line",
            r"prompt(?:ing)? is not (?:available|supported)|requires (?:approval|confirmation|interactive)",
        ),
    ),
)
"""Class and its patterns; the first match in a line decides."""

REFUSAL = (
    r"\b(?:I|we) (?:cannot|can't|can not|won't|will not) (?:help|assist|comply|do (?:that|this)|provide|continue)",
    r"\b(?:I am|I'm|we are) (?:unable|not able) to (?:help|assist|comply|do (?:that|this)|provide|continue)",
    r"(?:violates?|against) (?:our|the|my) (?:usage |content |safety )?(?:polic(?:y|ies)|guidelines)",
    r"content[_ ]filter",
)
"""Phrases of a refusing model."""

GAVE_UP = (
    r"\b(?:I|we) (?:give|am giving|gave) up",
    r"\b(?:I|we) (?:was|were|am|are) (?:not able|unable) to (?:finish|solve|make|find|fix|implement)",
    r"\bI (?:could not|couldn't) (?:finish|solve|complete|implement|make)",
    r"cannot be (?:done|completed|solved|implemented)",
)
"""Phrases of a model that gave up."""

NO_MEMORY = (
    r"^MemoryError\b|\bstd::bad_alloc\b|cannot allocate memory|\bENOMEM\b|out of memory|\bOutOfMemoryError\b",
    r"no space left on device|\bENOSPC\b",
)
"""Final messages of a command without enough memory or disk space."""

DEPENDENCY = (
    r"^(?:ModuleNotFoundError|ImportError): No module named ",
    r"^(?:Error: |\[?)?Cannot find (?:module|package) ",
    r"error while loading shared libraries: ",
    r"^(?:\S+: )?(?:line \d+: |\d+: )?\S+: (?:command )?not found$",
    r"^(?:/usr/bin/)?env: .*: No such file or directory$",
    r"^(?:\S+: )?(?:executable file|command) not found",
)
"""Final messages of a command that lacks a module or another command."""

QUESTION = (
    r"(?:\[[yY]/[nN]\]|\([yY](?:es)?/[nN]o?\)|\(Y\)es/\(N\)o.*|press (?:enter|any key).*"
    r"|(?:password|token|continue|proceed|name|choice|select\w*|confirm\w*|allow\w*)[^\n]{0,60}[?:>])\s*[:>]?\s*$"
)
"""A final line that waits for an answer."""


IN_PLACE = frozenset({"transient"})
"""Classes after which the agent is called again at once, in its unchanged tree."""

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
    "input": " waited for an answer that no one gives",
    "transient": ": its service failed",
    "resource": ": the machine ran out of resources",
    "gave-up": " gave up",
}
_SERVER = range(500, 600)
_SIGKILL, _KILLED = 9, 137
_NOT_FOUND = frozenset({126, 127})
"""Exit codes of a shell that could not run a command."""
_LAST_LINES = 20  # lines; a choice: an error stands at the end of what was printed


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a call as the operating system reports it.

    Attributes:
        reason: ``exited``, or the cause of its end: ``timeout``, ``idle``, ``output-limit``, ``not-started``.
        code: exit code; None if a signal ended it.
        signal: number of that signal.
        phrase: one phrase for people.
        changed: whether the tree differs from its start.
    """

    reason: str
    code: int | None
    signal: int | None
    phrase: str
    changed: bool

    @property
    def ok(self) -> bool:
        """Whether it exited with code 0."""
        return self.reason == "exited" and self.code == 0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The classified failure of a call.

    Attributes:
        kind: its class.
        reason: one sentence.
        until: epoch seconds of the end of a limit, or of the next try at a failing service; None if unknown.
        rest_s: seconds for which the account of a failing service is suspended.
    """

    kind: str
    reason: str
    until: float | None = None
    rest_s: float = 0.0


def parse_output(agent: Agent, lines: Iterable[str]) -> AgentOutput:
    """Parse all lines of an agent's output.

    Args:
        agent: its profile.
        lines: the output, line by line; bytes that are not UTF-8 are replaced.
    """
    output = AgentOutput()
    noise: list[str] = []
    if agent.output == "json":
        text = "".join(lines)
        for document in documents_in(text):
            take(output, agent, document)
        noise.append("" if output.events else text)
    else:
        for line in lines:
            event = event_of(line) if agent.output == "jsonl" else None
            if event is not None:
                take(output, agent, event)
            else:
                noise.append(line)
                if len(noise) > 2_000:  # noqa: PLR2004  (lines; what counts is at the end)
                    del noise[:1_000]
            if agent.patterns.usage:
                take_usage(output, agent.patterns.usage, line)
    output.noise = "".join(noise)[-NOISE:]
    if not output.cost_usd and agent.price is not None and output.tokens:
        output.cost_usd = agent.price.of(output.tokens)
    if output.cost_usd is not None:
        output.cost_usd = round(output.cost_usd, 8)
    return output


def classify(agent: Agent, ending: Ending, output: AgentOutput, now: datetime) -> Diagnosis | None:
    """Classify a failed call; None if it succeeded with a result, even an empty one.

    Args:
        agent: its profile.
        ending: how it ended.
        output: its parsed output.
        now: the current time with the local time zone.
    """
    if ending.ok and ending.changed and not _fatal(output):
        kind, line = ("", "") if output.events else _matched(_own(agent), output.noise)
        return _worded(agent, kind, line, output, now) if kind else None
    found = None
    if not agent.deterministic:
        found = _by_event(agent, output, now) if output.errors else None
        if found is None and ending.reason in {"exited", "idle"}:
            found = _by_words(agent, ending, output, now)
    return found or (None if ending.ok else _by_exit(agent, ending, output))


def _by_exit(agent: Agent, ending: Ending, output: AgentOutput) -> Diagnosis:
    """Classify a failure by its exit code, the last resort.

    A missing module or program fails the same way in every run, a lack of memory may not. Only the last lines are
    examined, and only if the call changed nothing or is a command of the user.
    """
    lines = [line for line in output.noise.splitlines() if line.strip()][-_LAST_LINES:]
    asked = ending.reason == "exited" and not output.events and (agent.deterministic or not ending.changed)
    lacking = next((line for line in reversed(lines) if _first_match(DEPENDENCY, line)), "") if asked else ""
    if ending.code in _NOT_FOUND or lacking:
        why = one_line(lacking or (lines[-1] if lines else ending.phrase))[:300]
        return Diagnosis("dependency", f"agent {agent.name} lacks a module or a command: {why}")
    starved = asked and bool(lines) and _first_match(NO_MEMORY, lines[-1]) is not None
    killed = ending.signal == _SIGKILL or ending.code == _KILLED
    kind = "resource" if killed or starved else "agent"
    last = f": {one_line(output.errors[-1].message)[:300]}" if output.errors and output.errors[-1].message else ""
    return Diagnosis(kind, f"agent {agent.name}: {ending.phrase}{last}")


def _fatal(output: AgentOutput) -> bool:
    """Return whether an error is the last event: nothing after it would end the work."""
    return bool(output.errors) and output.errors[-1].kind not in {"", "transient"}


def _by_event(agent: Agent, output: AgentOutput, now: datetime) -> Diagnosis | None:
    """Classify by the last significant error; one followed by recovery (exit 0 and a change) does not count."""
    for error in reversed(output.errors):
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
    words = one_line(error.message)[:300] or (f"status {error.status}" if error.status else "no message")
    return Diagnosis(kind, _sentence(agent, kind, words), until)


def _by_words(agent: Agent, ending: Ending, output: AgentOutput, now: datetime) -> Diagnosis | None:
    """Classify by plain output. The model's own text is examined only for a refusal, if nothing changed."""
    kind, line = _matched(_all(agent), output.noise)
    if ending.ok and (output.events or kind == "input"):
        kind = ""  # warnings of a call that ended well
    last = _last_line(output.noise)
    if ending.reason == "idle" and (kind == "input" or re.search(QUESTION, last, re.IGNORECASE)):
        return Diagnosis("input", _sentence(agent, "input", one_line(last)[:200]))
    if ending.reason == "idle":
        return None
    if kind:
        return _worded(agent, kind, line, output, now)
    if not ending.changed:
        said = output.text or ("" if output.events else output.noise[-2_000:])
        for kind, common in (("refusal", REFUSAL), ("gave_up", GAVE_UP)):
            match = _first_match((*getattr(agent.patterns, kind), *common), said)
            if match:
                name = kind.replace("_", "-")
                return Diagnosis(name, _sentence(agent, name, one_line(_line_of(said, match))[:300]))
    return None


def _worded(agent: Agent, kind: str, line: str, output: AgentOutput, now: datetime) -> Diagnosis:
    until = (reset_time(line, now) or reset_time(output.noise, now)) if kind == "limit" else None
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


def _matched(table: Iterable[tuple[str, tuple[str, ...]]], text: str) -> tuple[str, str]:
    """Return the class that plain output shows, and the last line that shows it."""
    rows = [row for row in table if row[1]]
    for line in reversed(text.splitlines() if rows else ()):
        for kind, patterns in rows:
            if _first_match(patterns, line):
                return kind, line
    return "", ""


def _own(agent: Agent) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the profile's own patterns, which apply even after a seemingly successful call."""
    return tuple((kind, getattr(agent.patterns, kind)) for kind, _ in COMMON)


def _all(agent: Agent) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the profile's own patterns, then the common ones."""
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
