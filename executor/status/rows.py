"""Rows of the table of every issue: what `doit list` and `doit status` show, as the cache keeps it between commands.

They are dictionaries because they are read from JSON as they are, without the cost of building objects. A key is added
here first; a change of meaning raises `_VERSION` of summary_cache.
"""

from __future__ import annotations

from typing import TypedDict

__all__ = ["BlockerRow", "DraftRow", "IssueRow", "KeptMilestone", "MilestoneRow", "PullRow", "RemovedRow"]


class PullRow(TypedDict):
    """An issue's pull request; `state` is draft, open, merged or closed, `head` a branch."""

    number: int
    state: str
    url: str | None
    head: str | None


class IssueRow(TypedDict):
    """One issue. `ref` is MILESTONE/ISSUE, `until` epoch seconds; `started`: an attempt was begun and not ended."""

    ref: str
    id: str
    title: str
    status: str
    act: str
    reason: str
    hint: str
    revision: int
    commit: str | None
    attempts: int
    last: int
    seconds: float
    cost_usd: float
    started: bool
    doing: str
    size: str
    built: bool
    until: float | None
    steps: int
    pr: PullRow | None


class RemovedRow(TypedDict):
    """An issue that landed and is no longer declared."""

    id: str
    commit: str
    revision: int


class BlockerRow(TypedDict):
    """What keeps an issue or a milestone from going on; `resume` is what to do about it."""

    issue: str
    blocker: str
    about: str
    reason: str
    resume: str
    pauses: bool


class KeptMilestone(TypedDict):
    """One milestone as far as it does not depend on who runs it now."""

    id: str
    title: str
    branch: str
    tip: str | None
    start: str
    percent: int
    total: int
    landed: int
    started: bool
    needs: list[str]
    words: dict[str, str]
    base: str
    tag: str | None
    pause: list[str] | None
    release: list[str] | None
    current: bool
    delivered: bool
    pushed: bool
    removed: list[RemovedRow]
    blockers: list[BlockerRow]


class MilestoneRow(KeptMilestone):
    """One milestone with its status."""

    status: str
    reason: str
    hint: str


class DraftRow(TypedDict):
    """A milestone that lacks something; `reason` is the first of its faults."""

    id: str
    file: str
    faults: int
    reason: str
