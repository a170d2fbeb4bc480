"""Criteria of a release, boxes of an epic, the final message, the tag. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from executor.forge.pull_request import harmless
from executor.git.trailers import ReleaseTrailers, encode, inert, one_line
from executor.model.milestone import header, titled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from executor.model.milestone import Milestone

__all__ = [
    "NOT_ASKED",
    "Box",
    "Criterion",
    "Met",
    "Outcome",
    "ReleaseText",
    "box_criteria",
    "boxes",
    "next_for",
    "refusal_code",
    "release_body",
    "release_message",
    "tag_object",
    "with_ticks",
]

NOT_ASKED = "not asked before every issue has landed"
"""The reason of a criterion that depends on the landing of all issues."""
_BOX = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+\[( |x|X)\]\s+(.*\S)")
_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")
_NFR = re.compile(r"\bnfrs?\b|\bnon-?functional\b", re.IGNORECASE)
_BOXED = {"epic": "Acceptance of the epic", "nfr": "NFR targets"}
"""Kinds of criteria that are displayed as boxes, with their headings."""
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(.*\S)")


class Met(StrEnum):
    """The state of a criterion."""

    YES = "met"
    LACKING = "lacking"
    """A person, or more work, is needed."""
    FAILED = "failed"
    """A check of it failed."""
    WAITS = "waits"
    """Time alone decides: a forge's checks, or its merge."""
    WORDS = "words"
    """Declared in words; no command can check it, so the reader of the pull request judges."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A condition of a release.

    Attributes:
        kind: ``issues``, ``check``, ``accept``, ``epic``, ``nfr``, ``tag`` or ``merge``.
        name: its name.
        met: its state.
        reason: why not, or the evidence; one sentence.
    """

    kind: str
    name: str
    met: Met
    reason: str = ""

    @property
    def holds_back(self) -> bool:
        """Return whether it prevents the release in its current state."""
        return self.met in {Met.LACKING, Met.FAILED, Met.WAITS}


@dataclass(slots=True)
class Outcome:
    """The outcome of a release.

    Attributes:
        milestone: its id.
        code: exit code: 0 released, 1 a failure, 4 a person is needed, 75 time is needed.
        criteria: all evaluated criteria; empty if it was released before.
        done: completed actions, one sentence each.
    """

    milestone: str
    code: int = 0
    criteria: list[Criterion] = field(default_factory=list)
    done: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Box:
    """An acceptance box of an epic: its text, whether it is ticked, the heading above it and its line from 1."""

    text: str
    ticked: bool
    heading: str
    line: int


@dataclass(frozen=True, slots=True)
class ReleaseText:
    """Facts for the final message besides the criteria.

    Attributes:
        milestone: its declaration.
        tip: the released commit.
        closes: forge numbers of its issues.
    """

    milestone: Milestone
    tip: str
    closes: tuple[int, ...]


def boxes(text: str) -> list[Box]:
    """Return every box of a Markdown text that is not inside a code block."""
    found: list[Box] = []
    fence, heading = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        elif fence:
            continue
        elif title := _HEADING.match(line):
            heading = title[1].rstrip("# ")
        elif box := _BOX.match(line):
            found.append(Box(box[2], box[1] != " ", heading, number))
    return found


def box_criteria(found: Iterable[Box], proved: Sequence[Criterion], file: str) -> list[Criterion]:
    """Return a criterion for each box: met if a person ticked it or if an acceptance of the same name holds.

    Args:
        found: the boxes.
        proved: the criteria of the milestone's acceptance.
        file: path of the epic, for messages.
    """
    by_name = {_folded(item.name): item for item in proved}
    criteria = []
    for box in found:
        proof = by_name.get(_folded(box.text))
        name = one_line(box.text)
        kind = "nfr" if _NFR.search(box.heading) else "epic"
        if proof is not None:
            reason = "proved by the acceptance of that name" if proof.met is Met.YES else proof.reason
            criteria.append(Criterion(kind, name, proof.met, reason))
        elif box.ticked:
            criteria.append(Criterion(kind, name, Met.YES, "ticked"))
        else:
            reason = f"{file}:{box.line}: tick it, or declare an acceptance of that name"
            criteria.append(Criterion(kind, name, Met.LACKING, reason))
    return criteria


def with_ticks(text: str, met: Iterable[str]) -> str:
    """Return the text of an epic with the boxes of met criteria ticked; everything else is unchanged."""
    wanted = {_folded(name) for name in met}
    lines = text.split("\n")
    for box in boxes(text):
        if not box.ticked and _folded(box.text) in wanted:
            lines[box.line - 1] = lines[box.line - 1].replace("[ ]", "[x]", 1)
    return "\n".join(lines)


def refusal_code(criteria: Iterable[Criterion]) -> int:
    """Return the exit code for these criteria: 0 continue, 1 failed, 4 a person is needed, 75 time is needed."""
    states = {item.met for item in criteria if item.holds_back}
    if Met.FAILED in states:
        return 1
    if Met.LACKING in states:
        return 4
    return 75 if states else 0


def next_for(criteria: Iterable[Criterion], milestone: str, branch: str) -> str:
    """Return what to do about a refused release: first about an issue, else about the first criterion in the way."""
    again = f"doit release:{milestone}"
    held = [item for item in criteria if item.holds_back and item.reason != NOT_ASKED]
    first = next((item for item in held if item.kind == "issues"), held[0] if held else None)
    if first is None or first.met is Met.WAITS:
        return again
    if first.kind == "issues" and first.met is Met.FAILED and "," not in first.name:
        return f"doit log {milestone}/{first.name}, then doit retry {milestone}/{first.name}; then {again}"
    if first.kind == "issues":
        return f"doit milestone:{milestone}; then {again}"
    if first.kind in {"check", "accept"} and first.met is Met.FAILED:
        return f"make it pass on {branch}, or correct the criterion; then {again}"
    return f"{first.reason.splitlines()[0]}; then {again}" if first.reason else again


def release_message(text: ReleaseText, criteria: Sequence[Criterion]) -> str:
    """Return the message of the commit that merges a milestone into its base; its first line is a conventional one."""
    trailers = ReleaseTrailers(text.milestone.id, text.tip)
    return f"{_subject(text.milestone)}\n\n{release_body(text, criteria)}\n\n{encode(trailers)}\n"


def _subject(milestone: Milestone) -> str:
    title, token = inert(milestone.title), milestone.token or f"chore({milestone.id})"
    if milestone.pull_title is not None:
        values = {"token": token, "title": title, "milestone": milestone.id}
        return titled(inert(milestone.pull_title), values)
    return header(token, title if milestone.token else f"release {title}")


def release_body(text: ReleaseText, criteria: Sequence[Criterion]) -> str:
    """Return the body of the final pull request: summary, verification table, acceptance as boxes, issues."""
    milestone = text.milestone
    parts = [f"Completes milestone {milestone.id}: {harmless(milestone.title)}."]
    if milestone.goal:
        parts.append(harmless(milestone.goal))
    table = ["| criterion | result | shown by |", "| --- | --- | --- |"]
    table += [
        f"| {_cell(f'{item.kind}: {harmless(item.name)}')} | {item.met} | {_cell(harmless(item.reason))} |"
        for item in criteria
        if item.kind not in _BOXED
    ]
    parts.append("Verification:\n\n" + "\n".join(table))
    for kind, heading in _BOXED.items():
        ticks = [
            f"- [{'x' if item.met is Met.YES else ' '}] {harmless(item.name)}" for item in criteria if item.kind == kind
        ]
        parts += [f"{heading}:\n\n" + "\n".join(ticks)] if ticks else []
    issues = [f"- {issue.id} {harmless(issue.title)}" for issue in milestone.issues]
    parts.append("Issues:\n\n" + "\n".join(issues))
    if text.closes:
        parts.append("\n".join(f"Closes #{number}" for number in text.closes))
    return "\n\n".join(parts)


def tag_object(name: str, commit: str, tagger: str, milestone: Milestone) -> bytes:
    """Return the annotated tag in git's format; equal arguments give an equal object.

    Args:
        name: name of the tag.
        commit: full id of the release commit.
        tagger: committer line of that commit: name, address in angle brackets, seconds, zone.
        milestone: the released milestone.
    """
    text = one_line(f"{milestone.id}: {milestone.title}")
    head = f"object {commit}\ntype commit\ntag {name}\ntagger {tagger}\n"
    return f"{head}\n{text}\n\n{encode(ReleaseTrailers(milestone.id))}\n".encode()


def _folded(text: str) -> str:
    return " ".join(text.strip(" .`*_").casefold().split())


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")
