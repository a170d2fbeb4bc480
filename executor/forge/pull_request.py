"""A pull request as values and texts: its branch, title, body and marker, written by the executor alone. Pure.

What came from outside is made harmless first: nothing in it mentions a person, closes an issue or stops a workflow.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.git.trailers import feature_prefix, inert, one_line
from executor.model.milestone import FileCheck, RunCheck

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.git.diff import Change
    from executor.model.milestone import Issue

__all__ = [
    "Box",
    "PullRequest",
    "PullText",
    "body_of",
    "boxes_of",
    "feature_branch",
    "harmless",
    "mark",
    "merged_body",
    "read_mark",
    "title_digest",
    "title_of",
]

_SLUG = 40
_SHOWN_FILES = 50
_SHOWN_BOXES = 100
_SHOWN_CHECKS = 50
_BEGIN = "<!-- milestone-executor"
_END = "<!-- /milestone-executor -->"
_MARK = re.compile(r"<!-- milestone-executor((?: [a-z_]+=[^\s<>]*)*) -->")
_BREAK = "\u200b"


@dataclass(frozen=True, slots=True)
class PullRequest:
    """One pull request as the forge has it.

    Attributes:
        number: its number on the forge.
        state: ``open``, ``closed`` (without having been merged) or ``merged``.
        draft: not yet to be merged.
        head: short name of its branch.
        sha: commit of that branch; empty when the forge does not say.
        base: short name of the branch it is to be merged into.
        title: its title.
        body: its text.
        url: where a person looks at it; empty for a local one.
        merge_commit: the commit that it became; empty before that.
        author: account that opened it.
        waiting: the forge was asked to merge it as soon as its checks are green.
        labels: names of its labels.
        node: the forge's own id for it.
    """

    number: int
    state: str
    draft: bool
    head: str
    sha: str
    base: str
    title: str = ""
    body: str = ""
    url: str = ""
    merge_commit: str = ""
    author: str = ""
    waiting: bool = False
    labels: tuple[str, ...] = ()
    node: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """One acceptance criterion in the text of a pull request; its text is ready to be shown there."""

    text: str
    done: bool


@dataclass(frozen=True, slots=True)
class PullText:
    """What the text of an issue's pull request is made of.

    Attributes:
        ref: qualified id of the issue.
        revision: that it would become.
        attempt: number of the attempt.
        spec_key: what was built.
        change: what changed.
        boxes: acceptance criteria.
        checks: names of the checks that passed on exactly this tree.
        stopped: why it waits for a person; empty when it does not.
        deviations: from the plan, in the agent's words.
        number: of the issue on the forge.
    """

    ref: str
    revision: int
    attempt: int
    spec_key: str
    change: Change
    boxes: tuple[Box, ...] = ()
    checks: tuple[str, ...] = ()
    stopped: str = ""
    deviations: tuple[str, ...] = ()
    number: int | None = None


def feature_branch(milestone: str, issue: Issue, revision: int) -> str:
    """``feat/<milestone>-<number or id>-<slug>``; a later revision has a branch of its own."""
    plain = unicodedata.normalize("NFKD", issue.title).encode("ascii", "ignore").decode().lower()
    slug = re.sub("[^a-z0-9]+", "-", plain)[:_SLUG].strip("-")
    name = f"{feature_prefix(milestone)}{issue.number or issue.id}"
    name += f"-{slug}" if slug else ""
    name += f"-r{revision}" if revision > 1 else ""
    return name


def title_of(kind: str, milestone: str, title: str, revision: int) -> str:
    """``type(milestone): title``, as the subject of the commit that it becomes."""
    later = f" (revision {revision})" if revision > 1 else ""
    return f"{harmless(f'{kind}({milestone}): {title}')[:200]}{later}"


def body_of(text: PullText, title: str) -> str:
    """The part of a pull request's body that is ours: mark, changes, acceptance as boxes, checks, deviations."""
    key = {
        "key": text.ref,
        "revision": str(text.revision),
        "attempt": str(text.attempt),
        "spec": text.spec_key,
        "title": title_digest(title),
    }
    parts = [mark(key)]
    if text.stopped:
        parts.append(f"> **Waits for a person:** {harmless(text.stopped)}")
    milestone, _, issue = text.ref.partition("/")
    closes = f" · closes #{text.number}" if text.number is not None else ""
    parts.append(f"Milestone {milestone}, issue {issue}, revision {text.revision}{closes}")
    parts.append("## Changes\n" + _changes(text.change))
    if text.boxes:
        boxes = (f"- [{'x' if box.done else ' '}] {box.text}" for box in text.boxes)
        parts.append("## Acceptance criteria\n" + "\n".join(boxes))
    if text.checks:
        passed = (f"- {_code(name)} passed" for name in text.checks[:_SHOWN_CHECKS])
        parts.append("## Checks on exactly this tree\n" + "\n".join(passed))
    if text.deviations:
        told = (f"- {harmless(line)[:500]}" for line in text.deviations[:20])
        parts.append("## Deviations from the plan, in the agent's words\n" + "\n".join(told))
    return "\n\n".join([*parts, _END]) + "\n"


def merged_body(ours: str, present: str) -> str:
    """Our part of a body in the place of the one before; what people wrote around it stays."""
    start = present.find(_BEGIN)
    end = present.find(_END, start)
    if start < 0:
        return f"{ours}\n{present}".rstrip() + "\n" if present.strip() else ours
    after = present[end + len(_END) :] if end >= 0 else ""
    return present[:start] + ours.rstrip("\n") + (after if after.strip() else "\n")


def mark(values: Mapping[str, str]) -> str:
    """The line by which a pull request is recognised as ours, with what it is about."""
    return _BEGIN + "".join(f" {key}={value}" for key, value in values.items()) + " -->"


def read_mark(body: str) -> dict[str, str]:
    """The values of the first mark in a body; none when it has no mark."""
    found = _MARK.search(body)
    return dict(pair.split("=", 1) for pair in found[1].split()) if found else {}


def title_digest(title: str) -> str:
    """By which it is told later whether a person has changed the title."""
    return hashlib.sha256(title.encode("utf-8", "replace")).hexdigest()[:12]


def harmless(text: str) -> str:
    """One line of others' text for a pull request: inert, refers to no issue and hides nothing."""
    line = inert(text).replace("<!--", "< !--").replace("-->", "-- >")
    return re.sub(r"([@#])(?=\w)", rf"\1{_BREAK}", re.sub(r"\bGH-(?=\d)", f"GH{_BREAK}-", line, flags=re.IGNORECASE))


def _changes(change: Change) -> str:
    if not change.files:
        return "No change was needed."
    lines = [f"{change.summary()}:", ""]
    lines += (f"- {file.kind} {_code(file.path)}" for file in change.files[:_SHOWN_FILES])
    more = len(change.files) - _SHOWN_FILES
    return "\n".join([*lines, *([f"- and {more} more"] if more > 0 else [])])


def _code(text: str) -> str:
    """Text as code, where a forge looks for nothing."""
    flat = one_line(text)[:300]
    fence = "`" * (max((len(run) for run in re.findall("`+", flat)), default=0) + 1)
    space = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{space}{flat}{space}{fence}"


def boxes_of(issue: Issue, *, proved: bool, reviewed: bool) -> tuple[Box, ...]:
    """The acceptance criteria of an issue as boxes; those in words are ticked only if a reviewer has looked."""
    found = []
    for item in issue.accept[:_SHOWN_BOXES]:
        if isinstance(item, RunCheck):
            found.append(Box(_code(item.name or item.run), proved))
        elif isinstance(item, FileCheck):
            found.append(Box(f"file {_code(item.file)}", proved))
        else:
            found.append(Box(harmless(item.text)[:500], reviewed))
    return tuple(found)
