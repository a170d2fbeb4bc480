"""The landing commit: subject, body and trailers, written by the executor alone and read back from history.

Subject ``type(milestone): title``; trailers as in `Trailers`. Landings are read from these and nothing else. Text of
others in it (titles, file names, reasons) is `inert`: it triggers nothing on a forge.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from executor.git.diff import Change

__all__ = [
    "UNBOXED",
    "UNPROVED",
    "ApprovedBy",
    "AttemptTrailers",
    "Landing",
    "ReleaseTrailers",
    "Released",
    "Trailers",
    "count",
    "decode",
    "encode",
    "exact",
    "flag",
    "inert",
    "json_value",
    "landing_message",
    "number",
    "one_line",
    "pairs_in",
    "parse_trailers",
    "plain_trailers",
    "text",
    "words",
]

T = TypeVar("T")
UNPROVED = "unproved"
"""Replaces a check key: the landed tree is not the one that the checks passed on."""
UNBOXED = "none, although {} wants one"
"""The sandbox of an agent that worked without its required sandbox."""
_UNBOXED = re.compile(UNBOXED.replace("{}", "(.+)"))
_APPROVED_BY = re.compile(r"(?P<who>.*?) for (?P<rule>\S+) on (?P<when>\S+?):(?: (?P<why>.*))?")
_KEY = "trailer"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*: \S(?:.*\S)?")
_DIGITS = 9  # digits; more is no number of ours, and int() of a hostile one takes long
_REASON = 200  # characters; it stands in one trailer
_SHOWN_FILES = 20  # lines; `git show --stat` has the rest
_SUBJECT = 100  # characters; wider than git's advice of 50, as titles of issues are sentences
_SHOWN_NOTES = 10  # lines of an agent's notes in a commit message
_NOTE = 300  # characters of such a line
_SKIP = re.compile(
    r"\[(\s*(?:skip[\s_-]+(?:ci|actions?|checks?|builds?|deploy)|(?:ci|actions?|no)[\s_-]+(?:skip|ci))\s*)\]",
    re.IGNORECASE,
)
_SKIP_WORDS = re.compile(r"(skip-checks|skip-ci|ci-skip)(\s*[:=])", re.IGNORECASE)
_STARS = re.compile(r"\*{3}(\s*no[_\s-]ci\s*)\*{3}", re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w.+-])@(?=[\w-])")
_COMMAND = re.compile(r"(?:^|(?<=\s))/(?=[A-Za-z][\w-]*(?:\s|$))")
_CLOSING = (
    r"\b((?:clos(?:e[sd]?|ing)|fix(?:e[sd]|ing)?|resolv(?:e[sd]?|ing)|implement(?:s|ed|ing)?)\s*:?\s+(?:issues?\s+)?)"
)
_CLOSES = re.compile(_CLOSING + r"([\w.-]+(?:/[\w.-]+)+|GH-)?#?(?<=[#-])(\d+)", re.IGNORECASE)
_CLOSES_ADDRESS = re.compile(_CLOSING + r"(?=https?://)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Released:
    """The latest release of a milestone, as recorded in the history of its base.

    Attributes:
        commit: the commit on the base that contains the milestone.
        tip: the released tip of the milestone branch.
    """

    commit: str
    tip: str


@dataclass(frozen=True, slots=True)
class _Key:
    """The key of a field, and the conversion of its values to lines and back."""

    name: str
    write: Callable[[Any], list[str]]
    read: Callable[[list[str]], Any]


def _field(key: _Key, default: Any) -> Any:
    return field(metadata={_KEY: key}) if default is MISSING else field(default=default, metadata={_KEY: key})


def text(name: str, default: Any = MISSING) -> Any:
    """Declare a text of one line; others' text is reduced by `one_line`."""
    return _field(_Key(name, lambda value: [one_line(value)], lambda lines: lines[-1]), default)


def exact(name: str, default: Any = MISSING) -> Any:
    """Declare a text that is restored byte for byte, such as a branch name; git refuses control characters in these."""
    return _field(_Key(name, lambda value: [value], lambda lines: lines[-1]), default)


def number(name: str, default: Any = MISSING, kind: Callable[[str], float] = int) -> Any:
    """Declare a number; an invalid one makes the whole unreadable."""
    return _field(_Key(name, lambda value: [str(value)], lambda lines: kind(lines[-1])), default)


def count(name: str) -> Any:
    """Declare a number that is 0 if missing or invalid."""

    def read(lines: list[str]) -> int:
        line = lines[-1]
        return int(line) if line.isdecimal() and line.isascii() and len(line) <= _DIGITS else 0

    return _field(_Key(name, lambda value: [str(value)], read), 0)


def flag(name: str) -> Any:
    """Declare a boolean."""
    return _field(_Key(name, lambda value: ["yes" if value else "no"], lambda lines: lines[-1] == "yes"), MISSING)


def words(name: str, default: Any = MISSING, separator: str = " ") -> Any:
    """Declare several texts on one line; none of them contains the separator."""

    def read(lines: list[str]) -> tuple[str, ...]:
        return tuple(word for word in lines[-1].split(separator) if word)

    return _field(_Key(name, lambda value: [separator.join(value)], read), default)


def _each(name: str, write: Callable[[Any], str], read: Callable[[str], Any]) -> Any:
    """Declare one line per value; unreadable lines are omitted."""

    def values(lines: list[str]) -> tuple[Any, ...]:
        return tuple(value for line in lines if (value := read(line)) is not None)

    return _field(_Key(name, lambda found: [write(value) for value in found], values), ())


def json_value(name: str, read: Callable[[Any], Any], default: Any = MISSING) -> Any:
    """Declare a JSON value in ASCII; `read` receives the parsed value, None if it is invalid."""

    def write(value: Any) -> list[str]:
        return [json.dumps(value, ensure_ascii=True, sort_keys=isinstance(value, dict), default=_plain)]

    return _field(_Key(name, write, lambda lines: read(_value(lines[-1]))), default)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    return dict(value)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def encode(trailers: Any) -> str:
    """Return the trailer block of an instance of a class below: ``Key: value`` lines without defaults."""
    lines = []
    for item in fields(trailers):
        key, value = item.metadata[_KEY], getattr(trailers, item.name)
        if item.default is MISSING or value != item.default:
            lines += [f"{key.name}: {line}" for line in key.write(value)]
    return "\n".join(lines)


def decode(kind: type[T], texts: Mapping[str, str] | Iterable[tuple[str, str]]) -> T | None:
    """Read an instance from trailers; None if a required one is missing or unreadable.

    Args:
        kind: one of the classes below.
        texts: key and value of each trailer; of a repeated key, the last one counts for a single value.
    """
    lines: dict[str, list[str]] = {}
    for name, value in texts.items() if isinstance(texts, Mapping) else texts:
        lines.setdefault(name, []).append(value)
    values = {}
    try:
        for item in fields(kind):  # type: ignore[arg-type]  # one of our dataclasses
            key = item.metadata[_KEY]
            if key.name in lines:
                values[item.name] = key.read(lines[key.name])
        return kind(**values)
    except (TypeError, ValueError):
        return None


def pairs_in(block: str) -> list[tuple[str, str]]:
    """Return key and value of each line of a trailer block."""
    return [(key, value.strip()) for key, mark, value in (line.partition(": ") for line in block.split("\n")) if mark]


@dataclass(frozen=True, slots=True)
class ApprovedBy:
    """A person's approval of a stopped change."""

    who: str
    rule: str
    when: str
    why: str

    def line(self) -> str:
        """Return the approval as one line; a long reason is cut."""
        why = one_line(self.why)[:_REASON].rstrip()
        return f"{one_line(self.who)} for {self.rule} on {self.when}: {why}".rstrip()

    @classmethod
    def read(cls, line: str) -> ApprovedBy | None:
        """Read an approval from such a line; None for any other."""
        hit = _APPROVED_BY.fullmatch(line)
        return cls(hit["who"], hit["rule"], hit["when"], hit["why"] or "") if hit is not None else None


@dataclass(frozen=True, slots=True)
class Trailers:
    """The trailers of a landing commit.

    Attributes:
        milestone: milestone id.
        issue: issue id within the milestone.
        revision: 1 for the first landing, incremented with each later one.
        spec_key: key of the implemented spec.
        result_key: key of the change.
        check_key: key of the checks that proved it; empty in older commits.
        work_key: the work that an agent was asked to do (`model.fingerprint.work_key`); empty in commits without one.
        was: earlier ids of the issue.
        pull: number of its pull request; 0 in commits without one.
        agent: profile of the agent.
        sandbox: its sandbox; `UNBOXED` if a required one was missing.
        approved_by: approvals that permitted its landing.
        proved_with: the tree on which its batch was proved.
        landing: the landing commit, in a record of a manual merge.
        assisted: agent and model.
    """

    milestone: str = text("Milestone")
    issue: str = text("Issue")
    revision: int = number("Revision")
    spec_key: str = text("Spec-Key")
    result_key: str = text("Result-Key")
    check_key: str = text("Check-Key", "")
    work_key: str = text("Work-Key", "")
    was: tuple[str, ...] = words("Was", ())
    pull: int = number("Pull-Request", 0)
    agent: str = text("Agent", "")
    sandbox: str = text("Sandbox", "")
    approved_by: tuple[ApprovedBy, ...] = _each("Approved-By", ApprovedBy.line, ApprovedBy.read)
    proved_with: str = text("Proved-With", "")
    landing: str = text("Landing", "")
    assisted: str = text("Assisted-by", "")


@dataclass(frozen=True, slots=True)
class AttemptTrailers:
    """The trailers of an attempt without a candidate; a candidate has `Trailers`, which are also readable as these.

    Attributes:
        attempt: its number; 0 for a candidate.
        outcome: kind of its failure, ``interrupted`` or ``question``; empty for a candidate.
        failure: fingerprint of the failure.
        reason: one sentence.
        step: the workflow step that failed.
        change_key: key of the change of a question, which is shown on a forge; it is no result.
    """

    milestone: str = text("Milestone", "")
    issue: str = text("Issue", "")
    attempt: int = count("Attempt")
    revision: int = count("Revision")
    spec_key: str = text("Spec-Key", "")
    outcome: str = text("Outcome", "")
    failure: str = text("Failure", "")
    reason: str = text("Reason", "")
    step: str = text("Step", "")
    pull: int = count("Pull-Request")
    result_key: str = text("Result-Key", "")
    agent: str = text("Agent", "")
    sandbox: str = text("Sandbox", "")
    change_key: str = text("Change-Key", "")

    @property
    def unsandboxed(self) -> str | None:
        """Return the agent that worked without its required sandbox; None if the commit does not record it."""
        hit = _UNBOXED.fullmatch(self.sandbox)
        return hit[1] if hit is not None else "" if self.sandbox or self.outcome else None


@dataclass(frozen=True, slots=True)
class Landing:
    """A landing as found in history.

    Attributes:
        commit: full id of the landing commit.
        tree: full id of its tree.
        position: 0 for the oldest landing of the milestone on the first-parent history, counting up.
        time: committer time in seconds since the epoch.
        trailers: the commit's trailers.
    """

    commit: str
    tree: str
    position: int
    time: int
    trailers: Trailers


@dataclass(frozen=True, slots=True)
class ReleaseTrailers:
    """The release of a milestone; its tag names no tip."""

    milestone: str = text("Milestone-Released")
    tip: str = text("Released-Tip", "")


def one_line(text: str) -> str:
    """Format text for one line of a terminal, subject or log; removes control, format and bidirectional characters."""
    flat = "".join(" " if char.isspace() else char for char in text)
    return " ".join(
        "".join(char for char in flat if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}).split()
    )


def inert(text: str) -> str:
    """Neutralise text of others for one line of a commit or pull request.

    Markers such as ``[skip ci]``, words that close an issue together with its number, mentions and slash commands are
    rewritten so that people can still read them and forges ignore them.
    """
    line = one_line(text)
    line = _STARS.sub(r"\1", _SKIP_WORDS.sub(r"\1 ", _SKIP.sub(r"(\1)", line)))
    line = _CLOSES_ADDRESS.sub(r"\1see ", _CLOSES.sub(lambda hit: f"{hit[1]}{hit[2] or ''} no. {hit[3]}", line))
    return " ".join(_COMMAND.sub("./", _MENTION.sub("(at)", line)).split())


def landing_message(
    header: str,
    change: Change,
    trailers: Trailers,
    *,
    title: str = "",
    number: int | None,
    note: str = "",
    notes: Iterable[str] = (),
) -> str:
    """Return the message of a landing commit.

    Args:
        header: its first line; text of others in it is made inert here.
        change: the change of the commit.
        trailers: its trailers.
        title: title of the issue.
        number: number of the issue on the forge.
        note: a sentence of the executor for unusual landings.
        notes: the agent's description of the change, one sentence each.
    """
    subject = inert(header)
    parts = [subject if len(subject) <= _SUBJECT else f"{subject[: _SUBJECT - 1].rstrip()}…"]
    if number is not None and title:
        parts.append(f"Implements issue #{number}: {inert(title)}")
    if one_line(note):
        parts.append(inert(note))
    lines = [f"- {inert(line)[:_NOTE]}" for line in notes if one_line(line)]
    if lines:
        parts.append("\n".join(lines[:_SHOWN_NOTES]))
    if change.files:
        parts.append(_body(change))
    if number is not None:
        parts.append(f"Closes #{number}")
    parts.append(encode(trailers))
    return "\n\n".join(parts) + "\n"


def parse_trailers(pairs: Mapping[str, str]) -> Trailers | None:
    """Return the trailers of a landing commit; None if these are not from a landing."""
    return decode(Trailers, pairs)


def plain_trailers(commit: bytes) -> str | None:
    """Return the trailers of a commit from its bytes, as git prints them; None if only git can parse them.

    They are plain if each line of the last paragraph is a trailer, as in all messages of the executor.
    """
    head, _, message = commit.partition(b"\n\n")
    _, gap, last = message.decode("utf-8", "replace").rstrip("\n").rpartition("\n\n")
    known = gap and b"\nencoding " not in head and all(map(_PLAIN.fullmatch, last.split("\n")))
    return last if known else None


def _body(change: Change) -> str:
    shown = [f"  {file.kind:<8} {inert(file.path)}" for file in change.files[:_SHOWN_FILES]]
    more = len(change.files) - _SHOWN_FILES
    if more > 0:
        shown.append(f"  and {more} more")
    return "\n".join([change.summary(), *shown])
