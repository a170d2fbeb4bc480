"""Reading git history: which issues have landed, what was released, what a person reverted. Pure functions of records.

A landing is recognised wherever it is: on the branch, on the base after a merge, a rebase or a cherry-pick, and inside
a squashed commit whose message repeats the trailers of what was squashed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.git.trailers import Landing, Released, Trailers, parse_trailers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Record", "Revert", "active_reverts", "landings_in", "milestones_in", "releases_in", "reverts_in"]

_PAIR = re.compile(r"[ \t]*([A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)*): (.*)")
_KEYS = frozenset(
    {"Milestone", "Issue", "Revision", "Spec-Key", "Result-Key", "Check-Key", "Work-Key", "Was", "Pull-Request"}
)
_NEEDED = frozenset({"Milestone", "Issue", "Revision", "Spec-Key", "Result-Key"})
_REVERTS = re.compile(
    r"^This reverts commit ([0-9a-f]{7,64})(?:, reversing\s+changes made to ([0-9a-f]{7,64}))?", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Record:
    """One commit of the history that says something to us.

    Attributes:
        commit: full id.
        tree: full id of its tree.
        time: committer time in seconds since the epoch.
        text: its message.
    """

    commit: str
    tree: str
    time: int
    text: str


@dataclass(frozen=True, slots=True)
class Revert:
    """A commit that takes another one back.

    Attributes:
        commit: the one that reverts.
        time: its committer time in seconds since the epoch.
        reverted: the commit that it takes back, as its message names it.
        onto: for a merge that is taken back: the parent that is kept; otherwise empty.
    """

    commit: str
    time: int
    reverted: str
    onto: str = ""


def landings_in(
    records: Iterable[Record], milestone: str, recognised: Mapping[str, Trailers] | None = None
) -> list[Landing]:
    """Landings of a milestone, oldest first; positions count from 0.

    The same landing found twice (a merge commit that repeats it, a cherry-picked copy) counts once, as the later one.

    Args:
        records: commits, parents before children.
        milestone: milestone id.
        recognised: commits that are landings although their messages do not say so.
    """
    found: dict[tuple[str, int, str, str], tuple[Record, Trailers]] = {}
    for record in records:
        known = (recognised or {}).get(record.commit)
        for trailers in _told(record.text) or ([known] if known is not None else []):
            if trailers.milestone == milestone:
                key = (trailers.issue, trailers.revision, trailers.spec_key, trailers.result_key)
                found.pop(key, None)
                found[key] = (record, trailers)
    return [
        Landing(record.commit, record.tree, place, record.time, trailers)
        for place, (record, trailers) in enumerate(found.values())
    ]


def milestones_in(record: Record) -> set[str]:
    """Milestones of which a commit has a landing."""
    return {trailers.milestone for trailers in _told(record.text)}


def releases_in(records: Iterable[Record]) -> dict[str, Released]:
    """The latest release of each milestone."""
    found: dict[str, Released] = {}
    for record in records:
        pairs = dict(_pairs(record.text))
        if "Milestone-Released" in pairs and "Released-Tip" in pairs:
            found[pairs["Milestone-Released"]] = Released(record.commit, pairs["Released-Tip"])
    return found


def reverts_in(records: Iterable[Record]) -> list[Revert]:
    """What was reverted, as git's own message says it, in the order of the records."""
    return [
        Revert(record.commit, record.time, hit[1], hit[2] or "")
        for record in records
        for hit in _REVERTS.finditer(record.text)
    ]


def active_reverts(reverts: Sequence[Revert]) -> list[Revert]:
    """Those that were not reverted themselves; a revert of a revert brings the change back."""
    undone: set[str] = set()
    for revert in reversed(reverts):
        if revert.commit not in undone:
            undone |= {other.commit for other in reverts if other.commit.startswith(revert.reverted)}
    return [revert for revert in reverts if revert.commit not in undone]


def _told(text: str) -> list[Trailers]:
    """What a message says of landings: its trailers, or those of every commit that was squashed into it."""
    found = [trailers for block in _blocks(text) if (trailers := parse_trailers(block)) is not None]
    return list(dict.fromkeys(found))


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """Runs of lines that are pairs; a run is cut where a key comes again."""
    block: dict[str, str] = {}
    for line in (*text.splitlines(), ""):
        hit = _PAIR.fullmatch(line)
        if hit is None or hit[1] in block:
            if block.keys() >= _NEEDED:
                yield block
            block = {}
        if hit is not None and hit[1] in _KEYS:
            block[hit[1]] = hit[2].strip()


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        hit = _PAIR.fullmatch(line)
        if hit is not None and not line[:1].isspace():
            yield hit[1], hit[2].strip()
