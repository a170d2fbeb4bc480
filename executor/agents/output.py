"""Parses an agent's output: conversation id, last message, errors, tokens, money. Pure. It never decides what lands.

The agent's profile declares the format (`EventRule`, `Patterns.usage`), so another agent needs no code.

Reads an agent's output or output file: follows no links, never waits, limits the size.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from executor.model.agent_profile import Agent, EventRule


__all__ = ["AgentError", "AgentOutput", "parse_output", "read_output"]


_MOST_EVENT = 4 * 1024 * 1024  # characters; a longer line is printed text, not an event; a choice
_MOST_ERRORS = 50  # errors; bounds the memory, the last kinds of error repeat the first
_MOST_DONE = 500  # commands and files; bounds the memory and the report
_WORDS = 4_000  # characters of one message; more is not shown anywhere
_NOISE = 16_000  # characters at the end of what is no event; the patterns of errors look there
_THOUSANDS = {"k": 1_000, "m": 1_000_000}


@dataclass(frozen=True, slots=True)
class AgentError:
    """An error that an agent reported in a structured event.

    Attributes:
        message: its text.
        status: HTTP status; 0 without one.
        retry_after: seconds; None if not given.
        reset: epoch seconds at which a limit ends; None if not given.
        kind: class of failure of the event; empty if its text decides.
    """

    message: str
    status: int = 0
    retry_after: float | None = None
    reset: float | None = None
    kind: str = ""


@dataclass(slots=True)
class AgentOutput:
    """The parsed output.

    Attributes:
        session: the agent's id of its session.
        text: the start of its last message.
        errors: errors in structured events, oldest first.
        noise: the end of all unstructured output: plain text, warnings, tracebacks.
        tokens: `input` (including cached ones), `cached` and `output`; empty if not reported.
        cost_usd: the cost that it reports; None if not reported.
        events: number of structured events.
        commands: executed commands, in order.
        files: names of written files, each once.
    """

    session: str = ""
    text: str = ""
    errors: list[AgentError] = field(default_factory=list)
    noise: str = ""
    tokens: dict[str, int] = field(default_factory=dict)
    cost_usd: float | None = None
    events: int = 0
    commands: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    going_on: bool = False
    """The last event was a part of a message, which the next one may continue."""


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
        for document in _documents(text):
            _take(output, agent, document)
        noise.append("" if output.events else text)
    else:
        for line in lines:
            event = _event(line) if agent.output == "jsonl" else None
            if event is not None:
                _take(output, agent, event)
            else:
                noise.append(line)
                if len(noise) > 2_000:  # noqa: PLR2004  (lines; what counts is at the end)
                    del noise[:1_000]
            if agent.patterns.usage:
                _plain_usage(output, agent.patterns.usage, line)
    output.noise = "".join(noise)[-_NOISE:]
    if not output.cost_usd and agent.price is not None and output.tokens:
        output.cost_usd = agent.price.of(output.tokens)
    if output.cost_usd is not None:
        output.cost_usd = round(output.cost_usd, 8)
    return output


def _event(line: str) -> dict[str, object] | None:
    if not line.startswith("{") or len(line) > _MOST_EVENT:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _documents(text: str) -> Iterator[dict[str, object]]:
    """Yield the JSON document in a text that may start with other text."""
    start = 0 if text.lstrip().startswith("{") else text.find("\n{") + 1
    if start == 0 and not text.lstrip().startswith("{"):
        return
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:].lstrip())
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        yield value


def _take(output: AgentOutput, agent: Agent, event: dict[str, object]) -> None:
    output.events += 1
    going_on = False
    for rule in agent.events:
        if all(_fits(event, path, wanted) for path, wanted in rule.when.items()):
            _apply(output, rule, event)
            going_on = going_on or _fits(event, rule.part, wanted=True)
    output.going_on = going_on


def _fits(event: object, path: str, wanted: object) -> bool:
    values = list(_at(event, path))
    if wanted is True:
        return any(bool(value) for value in values)
    return any(value == wanted and isinstance(value, bool) == isinstance(wanted, bool) for value in values)


def _apply(output: AgentOutput, rule: EventRule, event: dict[str, object]) -> None:
    output.session = _text(event, rule.session) or output.session
    before = output.text if output.going_on and _fits(event, rule.part, wanted=True) else ""
    output.text = (before + _text(event, rule.text))[:_WORDS] or output.text
    if (rule.error or rule.kind) and len(output.errors) < _MOST_ERRORS:
        message = _text(event, rule.error)[:_WORDS]
        if message or rule.kind:
            status = _number(event, rule.status)
            retry_after, reset = _number(event, rule.retry_after), _moment(event, rule.reset)
            output.errors.append(AgentError(message, int(status or 0), retry_after, reset, rule.kind or ""))
    for name, paths in (("input", rule.input), ("cached", rule.cached), ("output", rule.output)):
        for path in paths:
            for value in map(_as_number, _at(event, path)):
                if value is not None:
                    output.tokens[name] = output.tokens.get(name, 0) + int(value)
    _take_work(output, rule, event)
    if rule.cost:
        spent = [value for value in map(_as_number, _at(event, rule.cost)) if value is not None]
        if spent:
            output.cost_usd = (output.cost_usd or 0.0) + sum(spent)


def _take_work(output: AgentOutput, rule: EventRule, event: dict[str, object]) -> None:
    """Record the commands that the agent ran and the files that it wrote."""
    for path in rule.commands if len(output.commands) < _MOST_DONE else ():
        output.commands += [_words(value)[:_WORDS] for value in _beside(event, rule, path) if _words(value)]
    for path in rule.files if len(output.files) < _MOST_DONE else ():
        output.files += [
            value
            for value in _beside(event, rule, path)
            if isinstance(value, str) and value and value not in output.files
        ]


def _beside(event: dict[str, object], rule: EventRule, path: str) -> Iterator[object]:
    """Yield the values at a path; of the items of a list, only from those that have what `when` wants of an item.

    One message of an agent may read a file and write another.
    """
    items, star, inside = path.partition(".*.")
    wanted = {name[len(items) + 3 :]: value for name, value in rule.when.items() if name.startswith(f"{items}.*.")}
    for item in _at(event, f"{items}.*") if star and wanted else ():
        if all(_fits(item, name, value) for name, value in wanted.items()):
            yield from _at(item, inside)
    if not (star and wanted):
        yield from _at(event, path)


def _at(value: object, path: str) -> Iterator[object]:
    """Yield every value at a dotted path; ``*`` matches each item of a list."""
    if not path:
        return
    found = [value]
    for part in path.split("."):
        deeper: list[object] = []
        for item in found:
            if part == "*" and isinstance(item, list):
                deeper += item
            elif isinstance(item, dict) and part in item:
                deeper.append(item[part])
        found = deeper
    yield from found


def _text(event: dict[str, object], path: str) -> str:
    texts = [value for value in _at(event, path) if isinstance(value, str) and value]
    return "\n".join(texts)


def _words(value: object) -> str:
    """Return a command as text, from a string or a list of words."""
    if isinstance(value, list):
        return " ".join(word for word in value if isinstance(word, str))
    return value if isinstance(value, str) else ""


def _number(event: dict[str, object], path: str) -> float | None:
    return next((value for value in map(_as_number, _at(event, path)) if value is not None), None)


def _as_number(value: object) -> float | None:
    """Return a number if it is finite, not negative and within bounds."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e15 else None  # noqa: PLR2004  (NaN and infinities are not)


def _moment(event: dict[str, object], path: str) -> float | None:
    for value in _at(event, path):
        number = _as_number(value)
        if number is not None:
            return number / 1_000 if number > 1e11 else number  # noqa: PLR2004  (milliseconds)
        if isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                continue
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def _plain_usage(output: AgentOutput, pattern: str, line: str) -> None:
    for match in re.finditer(pattern, line[:10_000]):
        groups: Mapping[str, str | None] = match.groupdict()
        for name in ("input", "cached", "output"):
            count = _count(groups.get(name))
            if count is not None:
                output.tokens[name] = output.tokens.get(name, 0) + count
        cost = _as_number(groups.get("cost"))
        if cost is not None:
            output.cost_usd = (output.cost_usd or 0.0) + cost


def _count(text: str | None) -> int | None:
    """Parse a count in human form: ``512``, ``1,024``, ``2.4k``."""
    if not text:
        return None
    plain = text.replace(",", "").strip().lower()
    number = _as_number(plain.rstrip("km"))
    return None if number is None else round(number * _THOUSANDS.get(plain[-1], 1))


_MOST_LINE = 8 * 2**20  # characters; bounds the memory for output without line ends
_MOST_BYTES = 256 * 2**20  # characters; bounds the time to read a log, the rest is not read
_PRINTED_NOISE = 16_000  # characters; as `_NOISE`


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
