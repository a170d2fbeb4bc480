"""Agent profiles: how an agent is called, its limits, and how its output is read. Pure."""

from __future__ import annotations

import re
import string
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from executor.model.hints import quoted
from executor.model.milestone import Seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ACP_EVENTS", "FLAGS", "Agent", "EventRule", "Kind", "Patterns", "Price", "Rule", "agent_problems", "regex"]

FLAGS = "{flags}"
"""The word of a command that the words of `flags` replace."""
_GIVEN = frozenset({"brief", "brief_file", "out", "flags", "model"})
_FLAG_NAMES = ("model", "tools", "budget", "sandbox")

Kind = Literal["limit", "refusal", "authentication", "transient", "resource", "input", "gave-up", "agent"]
"""Classes of failure that an agent's output can show; see core/classify.py for their effects."""


ACP_EVENTS: tuple[Mapping[str, object], ...] = (
    {"when": {"type": "session"}, "session": "id"},
    {"when": {"type": "tool", "command": True}, "commands": ["command"]},
    {"when": {"type": "tool", "path": True}, "files": ["path"]},
    {"when": {"type": "error", "code": -32000}, "error": "message", "kind": "authentication"},
    {"when": {"type": "error"}, "error": "message"},
    {"when": {"type": "end", "stop": "refusal"}, "error": "reason", "kind": "refusal"},
    {"when": {"type": "end", "stop": "max_tokens"}, "error": "reason", "kind": "agent"},
    {"when": {"type": "end", "stop": "max_turn_requests"}, "error": "reason", "kind": "agent"},
    {
        "when": {"type": "end"},
        "text": "text",
        "input": ["usage.inputTokens", "usage.cachedReadTokens", "usage.cachedWriteTokens"],
        "cached": ["usage.cachedReadTokens"],
        "output": ["usage.outputTokens", "usage.thoughtTokens"],
        "cost": "cost",
    },
)
"""The mapping of what `executor.agents.acp` prints; -32000 is the protocol's "authentication required"."""


class Rule(BaseModel):
    """A table of rules/: frozen, rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def regex(text: str) -> str:
    """Return the text if it is a regular expression.

    Raises:
        ValueError: it is not.
    """
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"expected a regular expression, found {quoted(text)}: {error}") from error
    return text


_Regexes = tuple[Annotated[str, AfterValidator(regex)], ...]
_Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class EventRule(Rule):
    """The mapping of one kind of structured event. A path is dotted; ``*`` matches every item of a list.

    Attributes:
        when: path -> required value in the event; true requires any non-empty value.
        session: path of the session's id.
        text: path of the agent's message; the last one counts.
        part: path that is true in an event whose text continues that of the event before it.
        error: path of an error's message.
        status: path of the HTTP status that belongs to it.
        retry_after: path of the seconds until a retry.
        reset: path of the time (epoch seconds, or ISO-8601) at which a limit ends.
        kind: the class of failure of such an event, if its text need not be examined.
        input, cached, output: paths of tokens read (including cached ones), read from a cache, and written; the values
            of one event and of all events are added up.
        cost: path of the cost in US dollars, added up likewise.
        commands: paths of executed commands, for `doit log`.
        files: paths of names of written files, for `doit log`.
    """

    when: dict[str, str | bool | int] = Field(default_factory=dict)
    session: str = ""
    text: str = ""
    part: str = ""
    error: str = ""
    status: str = ""
    retry_after: str = ""
    reset: str = ""
    kind: Kind | None = None
    input: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    cost: str = ""
    commands: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class Patterns(Rule):
    """Case-insensitive regular expressions that map an agent's output to a class of failure.

    Attributes:
        limit, refusal, authentication, transient, resource, input, gave_up: classes of failure.
        usage: tokens and money in plain output, as groups named `input`, `cached`, `output` and `cost`; all matches are
            added up.
    """

    limit: _Regexes = ()
    refusal: _Regexes = ()
    authentication: _Regexes = ()
    transient: _Regexes = ()
    resource: _Regexes = ()
    input: _Regexes = ()
    gave_up: _Regexes = ()
    usage: Annotated[str, AfterValidator(regex)] = ""


class Price(Rule):
    """US dollars per million tokens, for agents that do not report their cost; `cached` is `input` by default."""

    input: _Money
    output: _Money
    cached: _Money | None = None

    def of(self, tokens: Mapping[str, int]) -> float:
        """Return the price of these tokens in US dollars; `input` includes cached ones."""
        cached = min(tokens.get("cached", 0), tokens.get("input", 0))
        fresh = tokens.get("input", 0) - cached
        cheap = self.input if self.cached is None else self.cached
        return (fresh * self.input + cached * cheap + tokens.get("output", 0) * self.output) / 1_000_000


class Agent(Rule):
    """How an agent is called, and its limits.

    Attributes:
        name: its name in issues.
        command: argument list; ``{brief_file}``, ``{brief}``, ``{out}``, ``{model}`` and the options of the issue's
            `with` are filled in. The word ``{flags}`` is replaced by the applicable words of `flags`.
        flags: words for properties of a call: `model`, `tools` (the route's, joined with commas), `budget` (US dollars)
            and `sandbox` (it works in the executor's), for example ``{ model = ["--model", "{model}"] }``.
        protocol: ``acp``: the command speaks the Agent Client Protocol on its standard input and output. It gets the
            brief as its prompt; `output` and `events` are known and need not be declared.
        builtin: implemented by the executor itself instead of a command.
        brief: how the brief is passed: on standard input, as a file named by ``{brief_file}``, or as the argument
            ``{brief}``. In the last two cases standard input is empty, so no read from it blocks.
        model: the model, unless the issue's `with` names another.
        options: further options that an issue may set besides those in the command.
        env: names of environment variables that it receives besides the ordinary ones.
        variables: environment variables with their values.
        timeout: seconds until it is stopped.
        idle: seconds without output, processor time or a changed file until it is stopped.
        deterministic: the same input gives the same result, so an unchanged tree is a valid result.
        isolation: ``none`` runs it as this user; ``bwrap`` requires a sandbox; ``auto`` uses one if available,
            otherwise its work waits for a person (`Limits.unsandboxed_landing`).
        network: whether it has network access inside the sandbox.
        readable: further readable paths inside the sandbox, for example its configuration in ``~``.
        writable: further writable paths there, for example a folder with its sessions.
        copied: its paths in ``~`` that it receives as copies inside the sandbox, which are discarded afterwards.
        written_back: files among them that are copied back, for example a renewed log-in.
        account: billing account; profiles with the same account are suspended together. Default: the profile's name.
        output: format of its output: text, one JSON document, or one JSON object per line.
        output_file: file with that output if it is not printed, for example ``{out}/trajectory.json``.
        events: mapping of events in JSON output.
        patterns: failure patterns of this agent, tried before the common ones.
        price: price of tokens, for an agent that does not report its cost.
        login: evidence of a log-in: ``$NAME`` for a variable, otherwise a file. One suffices.
        version: argument list that prints its version at no cost.
    """

    name: str
    command: tuple[str, ...] = ()
    flags: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    protocol: Literal["", "acp"] = ""
    builtin: Literal["patch"] | None = None
    brief: Literal["stdin", "file", "argument"] = "stdin"
    model: str = ""
    options: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    variables: dict[str, str] = Field(default_factory=dict)
    timeout: Seconds | None = None
    idle: Seconds | None = None
    deterministic: bool = False
    isolation: Literal["none", "auto", "bwrap"] = "auto"
    network: StrictBool = True
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    written_back: tuple[str, ...] = ()
    account: str = ""
    output: Literal["plain", "json", "jsonl"] = "plain"
    output_file: str = ""
    events: tuple[EventRule, ...] = ()
    patterns: Patterns = Patterns()
    price: Price | None = None
    login: tuple[str, ...] = ()
    version: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _spoken(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("protocol") == "acp":
            return {"output": "jsonl", "events": ACP_EVENTS, **given}
        return given

    @property
    def payer(self) -> str:
        """The billing account of the profile."""
        return self.account or self.name

    @property
    def costs(self) -> bool:
        """Return whether the profile allows calls that cost money."""
        return self.price is not None or bool(self.patterns.usage) or any(rule.cost for rule in self.events)

    def argv(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the argument list with every placeholder filled in.

        Args:
            values: values of placeholders; a missing or empty one of `_FLAG_NAMES` omits its flag.

        Raises:
            KeyError: a placeholder has no value.
        """
        known = {"model": self.model, **{key: value for key, value in values.items() if value != ""}}
        texts = {key: str(value) for key, value in known.items() if key != "model" or value != ""}
        words: list[str] = []
        for word in self.command:
            if word == FLAGS:
                words += (part for name in _FLAG_NAMES if texts.get(name) for part in self.flags.get(name, ()))
            else:
                words.append(word)
        return tuple(word.format_map(texts) for word in words)

    def needed(self) -> frozenset[str]:
        """Options that an issue must set."""
        if self.builtin == "patch":
            return frozenset({"file"})
        named = _named_options(self.command)
        given = _GIVEN - {"model"} if "{model}" in " ".join(self.command) and not self.model else _GIVEN
        return named - given

    def allowed(self) -> frozenset[str]:
        """Options that an issue may set."""
        chosen = self.protocol or "model" in self.flags or "model" in _named_options(self.command)
        model = {"model"} if chosen else set()
        return self.needed() | set(self.options) | model


@cache
def _named_options(command: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name for word in command for name in _placeholders(word))


def _placeholders(word: str) -> Iterator[str]:
    return (name for _, name, _, _ in string.Formatter().parse(word) if name is not None)


def _plain_placeholders(word: str) -> Iterator[str]:
    """Yield the names of placeholders; an empty one for a placeholder with a conversion or a format, such as {x!r}."""
    for _, name, form, conversion in string.Formatter().parse(word):
        if name is not None:
            yield "" if form or conversion else name


def agent_problems(agent: Agent) -> Iterator[str]:
    """Yield contradictions in a profile, one sentence each."""
    if bool(agent.command) == bool(agent.builtin):
        yield "expected a command"
    wrong = False
    for word in (*agent.command, *(part for words in agent.flags.values() for part in words), agent.output_file):
        try:
            names = list(_plain_placeholders(word))
        except ValueError:
            names = [""]
        if not all(name.isidentifier() for name in names):
            wrong = True
            yield f"expected placeholders such as {{brief_file}} and doubled braces for others, found {quoted(word)}"
    if wrong:
        return
    unknown = sorted(set(agent.flags) - set(_FLAG_NAMES))
    if unknown:
        yield f"expected flags for {', '.join(_FLAG_NAMES)}, found {quoted(unknown[0])}"
    named = _named_options(agent.command)
    if agent.protocol and (agent.brief != "stdin" or agent.output != "jsonl" or agent.output_file or agent.builtin):
        yield f'expected no brief, output, output_file or builtin together with protocol = "{agent.protocol}"'
    if agent.brief == "argument" and "brief" not in named:
        yield 'expected the word "{brief}" in the command, because brief = "argument"'
    if agent.brief == "file" and "brief_file" not in named:
        yield 'expected {brief_file} in the command, because brief = "file"'
