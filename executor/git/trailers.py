"""The commit that lands: subject, body, trailers - written by the executor alone, and read back from history.

Subject ``type(milestone): title``; trailers as in `Trailers`. What has landed is read from these and nothing else. What
others wrote (titles, names of files, reasons) is `inert` in it: it orders no forge to do anything.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.git.diff import Change

__all__ = [
    "UNPROVED",
    "Landing",
    "Released",
    "Trailers",
    "inert",
    "landing_message",
    "one_line",
    "parse_trailers",
]

UNPROVED = "unproved"
"""In the place of a check key: landed, but not as the tree that the checks passed on."""
_SHOWN_FILES = 20
_SUBJECT = 100
_SHOWN_NOTES = 10
_NOTE = 300
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
    """The latest release of a milestone, as the history of its base says.

    Attributes:
        commit: the commit on the base that has the milestone.
        tip: tip of the milestone branch that it released.
    """

    commit: str
    tip: str


@dataclass(frozen=True, slots=True)
class Trailers:
    """The trailers of a landing commit.

    Attributes:
        milestone: milestone id.
        issue: issue id within the milestone.
        revision: 1 for the first landing, one more for each later one.
        spec_key: key of the spec that was built.
        result_key: key of the change.
        check_key: key of the checks that proved it; empty in older commits.
        pull: number of its pull request; 0 in commits that do not say.
        work_key: the work that an agent was asked for (`model.fingerprint.work_key`); empty in commits that do not say.
        was: earlier ids of the issue, separated by spaces.
        notes: further trailers, one ``Key: value`` a line: who worked how, who approved of what.
    """

    milestone: str
    issue: str
    revision: int
    spec_key: str
    result_key: str
    check_key: str = ""
    pull: int = 0
    work_key: str = ""
    was: str = ""
    notes: str = ""

    def lines(self) -> str:
        """The trailer block, one ``Key: value`` a line."""
        pairs = [
            ("Milestone", self.milestone),
            ("Issue", self.issue),
            ("Revision", str(self.revision)),
            ("Spec-Key", self.spec_key),
            ("Result-Key", self.result_key),
        ]
        if self.check_key:
            pairs.append(("Check-Key", self.check_key))
        if self.work_key:
            pairs.append(("Work-Key", self.work_key))
        if self.was:
            pairs.append(("Was", self.was))
        if self.pull:
            pairs.append(("Pull-Request", str(self.pull)))
        return "\n".join([*(f"{key}: {value}" for key, value in pairs), *self.notes.splitlines()])


@dataclass(frozen=True, slots=True)
class Landing:
    """One landing as found in history.

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


def one_line(text: str) -> str:
    """Text for one line of a terminal, a subject or a log: control, format and bidirectional characters removed."""
    flat = "".join(" " if char.isspace() else char for char in text)
    return " ".join(
        "".join(char for char in flat if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}).split()
    )


def inert(text: str) -> str:
    """Text of others for one line of a commit or pull request: it skips no workflow, closes no issue, calls nobody.

    Markers such as ``[skip ci]``, words that close an issue together with its number, mentions and slash commands are
    written so that people still read them and forges do not.
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
    assisted: str = "",
) -> str:
    """The whole message of a landing commit.

    Args:
        header: its first line; what it has of others' words is made inert here.
        change: what it changes.
        trailers: what it says about itself.
        title: of the issue.
        number: of the issue on the forge.
        note: a sentence of the executor's own, for unusual landings.
        notes: what changed, in the agent's words, one sentence each.
        assisted: agent and model, for ``Assisted-by``; empty for none.
    """
    subject = inert(header)
    parts = [subject if len(subject) <= _SUBJECT else f"{subject[: _SUBJECT - 1].rstrip()}…"]
    if number is not None and title:
        parts.append(f"Implements issue #{number}: {inert(title)}")
    if one_line(note):
        parts.append(inert(note))
    told = [f"- {inert(line)[:_NOTE]}" for line in notes if one_line(line)]
    if told:
        parts.append("\n".join(told[:_SHOWN_NOTES]))
    if change.files:
        parts.append(_body(change))
    if number is not None:
        parts.append(f"Closes #{number}")
    parts.append(trailers.lines() + (f"\nAssisted-by: {one_line(assisted)}" if assisted else ""))
    return "\n\n".join(parts) + "\n"


def parse_trailers(pairs: Mapping[str, str]) -> Trailers | None:
    """The trailers of a landing commit, or None when these are not a landing's."""
    try:
        return Trailers(
            milestone=pairs["Milestone"],
            issue=pairs["Issue"],
            revision=int(pairs["Revision"]),
            spec_key=pairs["Spec-Key"],
            result_key=pairs["Result-Key"],
            check_key=pairs.get("Check-Key", ""),
            pull=int(pairs.get("Pull-Request", "0")),
            work_key=pairs.get("Work-Key", ""),
            was=pairs.get("Was", ""),
        )
    except (KeyError, ValueError):
        return None


def _body(change: Change) -> str:
    shown = [f"  {file.kind:<8} {inert(file.path)}" for file in change.files[:_SHOWN_FILES]]
    more = len(change.files) - _SHOWN_FILES
    if more > 0:
        shown.append(f"  and {more} more")
    return "\n".join([change.summary(), *shown])
