"""Parses the output of an agent: its conversation, messages, errors, tokens, money and times of limits. Pure.

The agent's profile declares the format (`EventRule`, `Patterns.usage`), so another agent needs no code. The end of a
limit is given in seconds, as a duration, an epoch or a time of day.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from executor.model.agent_profile import Agent, EventRule


__all__ = ["AgentError", "AgentOutput", "reset_time"]


_MOST_EVENT = 4 * 1024 * 1024  # characters; a longer line is printed text, not an event; a choice
_MOST_ERRORS = 50  # errors; bounds the memory, the last kinds of error repeat the first
_MOST_DONE = 500  # commands and files; bounds the memory and the report
_WORDS = 4_000  # characters of one message; more is not shown anywhere
NOISE = 16_000  # characters at the end of what is no event; the patterns of errors look there
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


def event_of(line: str) -> dict[str, object] | None:
    if not line.startswith("{") or len(line) > _MOST_EVENT:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def documents_in(text: str) -> Iterator[dict[str, object]]:
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


def take(output: AgentOutput, agent: Agent, event: dict[str, object]) -> None:
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


def take_usage(output: AgentOutput, pattern: str, line: str) -> None:
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


_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FARTHEST = 32 * 86_400  # seconds; a choice: no limit of an agent resets later than a month from now
_PART = r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![A-Za-z])"
_DURATION = re.compile(
    r"(?:retry|try again|wait|resets?|available|lifted|again)(?:\s+\w+){0,2}?\s*(?:in|after|for|:|=)?\s*"
    rf"({_PART}(?:[\s,]*(?:and\s+)?{_PART})*)",
    re.IGNORECASE,
)
_SECONDS = re.compile(r"retry[-_ ]after[\"']?\s*[:=]?\s*[\"']?(\d+(?:\.\d+)?)(?![\d:])", re.IGNORECASE)
_EPOCH = re.compile(r"(?:\||reset\w*[\"']?\s*(?:at\s*)?[:=]?\s*)(1[5-9]\d{8}|2\d{9})(\d{3})?\b", re.IGNORECASE)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)")
_CLOCK = re.compile(
    r"(?:resets?|try again|available|until|lifted|after)\s+(?:again\s+)?(?:at\s+|on\s+)?"
    r"(?:(?P<month>[A-Z][a-z]{2,8})\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+(?:(?P<year>\d{4})\s*,?\s+)?(?:at\s+)?)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?\s*(?P<half>[ap])?\.?m?\.?(?![\w:])\s*(?:\((?P<zone>[A-Za-z_+\-/0-9]+)\)|(?P<utc>UTC|GMT))?",
    re.IGNORECASE,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def reset_time(text: str, now: datetime) -> float | None:
    """Find the time after `now` in a text, as epoch seconds; None if it has none within a month.

    Args:
        text: for example ``resets 6am (UTC)``, ``Please try again in 1h 20m``, ``limit reached|1763704800``.
        now: the current time, with the time zone of times of day.
    """
    for read in (_epoch, _iso, _seconds, _duration, _clock):
        found = read(text, now)
        if found is not None and 0 <= found - now.timestamp() <= _FARTHEST:
            return found
    return None


def _epoch(text: str, _now: datetime) -> float | None:
    match = _EPOCH.search(text)
    return float(match[1]) if match else None


def _iso(text: str, now: datetime) -> float | None:
    match = _ISO.search(text)
    if match is None:
        return None
    try:
        moment = datetime.fromisoformat(match[1])
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo or UTC)).timestamp()


def _seconds(text: str, now: datetime) -> float | None:
    match = _SECONDS.search(text)
    if match is None or _DURATION.match(text, match.start()):
        return None
    return now.timestamp() + float(match[1])


def _duration(text: str, now: datetime) -> float | None:
    match = _DURATION.search(text)
    if match is None:
        return None
    return now.timestamp() + sum(
        float(number) * _UNITS["ms" if unit.lower().startswith(("ms", "milli")) else unit[0].lower()]
        for number, unit in re.findall(_PART, match[1], re.IGNORECASE)
    )


def _clock(text: str, now: datetime) -> float | None:
    for match in _CLOCK.finditer(text):
        if match["half"] is None and match["minute"] is None:
            continue
        hour, minute = int(match["hour"]), int(match["minute"] or 0)
        if match["half"]:
            hour = hour % 12 + (12 if match["half"].lower() == "p" else 0)
        local = now.astimezone(_zone(match["zone"] or match["utc"], now.tzinfo))
        try:
            moment = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
            if match["month"]:
                month = _MONTHS.index(match["month"][:3].lower()) + 1
                moment = moment.replace(year=int(match["year"] or local.year), month=month, day=int(match["day"]))
        except ValueError:
            continue
        if not match["month"] and moment <= local:
            moment += timedelta(days=1)
        return moment.timestamp()
    return None


def _zone(name: str | None, own: tzinfo | None) -> tzinfo | None:
    if name is None:
        return own
    try:
        return UTC if name.upper() in {"UTC", "GMT"} else ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return own
