"""Rows of the table of every issue: what `doit list` and `doit status` show, as the cache keeps it between commands.

They are dictionaries because they are read from JSON as they are, without the cost of building objects. A key is added
here first; a change of meaning raises `_VERSION` of summary_cache.
"""

from __future__ import annotations

from typing import TypedDict

__all__ = [
    "SHAPES",
    "AllRows",
    "BlockerRow",
    "DraftRow",
    "Explanation",
    "IssueRow",
    "KeptMilestone",
    "ListedIssue",
    "MilestoneRow",
    "PullRow",
    "RemovedRow",
    "Summary",
]


class PullRow(TypedDict):
    """An issue's pull request; `state` is draft, open, merged or closed, `head` a branch."""

    number: int
    state: str
    url: str | None
    head: str | None


class IssueRow(TypedDict):
    """One issue. `ref` is MILESTONE/ISSUE, `until` epoch seconds; `started`: an attempt was begun and not ended.

    `unproved`: no check, acceptance command, file or reviewer shows that it is done.
    """

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
    unproved: bool


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


class ListedIssue(TypedDict):
    """One issue of `doit list --json`; `id` and `ref` are both MILESTONE/ISSUE."""

    id: str
    ref: str
    status: str
    title: str
    reason: str
    hint: str
    revision: int
    commit: str | None
    attempts: int
    unproved: bool


class StatusIssue(TypedDict):
    """One issue of `doit status --json`."""

    id: str
    title: str
    status: str
    reason: str
    revision: int
    commit: str | None
    pr: PullRow | None
    attempts: int
    seconds: float
    cost_usd: float


class StatusMilestone(TypedDict):
    """One milestone of `doit status --json`."""

    id: str
    title: str
    status: str
    reason: str
    hint: str
    needs: list[str]
    percent: int
    branch: str
    tip: str | None
    blockers: list[BlockerRow]
    removed: list[RemovedRow]
    issues: list[StatusIssue]


class LastNight(TypedDict):
    """The last nightly run, with the exit code of each milestone; times are ISO-8601."""

    started: str
    ended: str | None
    code: int | None
    milestones: dict[str, int]


class NightRow(TypedDict):
    """The nightly entry; times are ISO-8601, `at` and `until` times of day."""

    at: str
    until: str
    milestones: list[str]
    since: str
    next: str
    running: bool
    last: LastNight | None
    missed: list[str]


class StatusReport(TypedDict):
    """`doit status --json`."""

    milestones: list[StatusMilestone]
    drafts: list[DraftRow]
    nightly: NightRow | None


class PlanIssue(TypedDict):
    """One issue of `doit plan --json`; issues of one wave need none of each other, `act` is what a run would do."""

    ref: str
    title: str
    wave: int
    priority: str
    size: str
    needs: list[str]
    status: str
    act: str
    why: str
    agent: str
    unproved: bool
    vacuous: list[str]


class Calibration(TypedDict):
    """How earlier forecasts did: milestones with known durations, and those that ended within their p80."""

    milestones: int
    inside_p80: int


class Expected(TypedDict):
    """How long the rest of a milestone will take, in seconds; a `guess` where no duration is `known`."""

    seconds: int
    p50_s: int
    p80_s: int
    known: int
    workers: int
    guess: bool
    calibration: Calibration


class PlanLimits(TypedDict):
    """Limits of a run: attempts at an issue, seconds for a call of an agent, US dollars by scope."""

    attempts: int
    timeout_s: float
    usd: dict[str, float]


PlanReport = TypedDict(
    "PlanReport",
    {
        "milestone": str,
        "title": str,
        "branch": str,
        "base": str,
        "from": str,
        "critical_path": list[str],
        "issues": list[PlanIssue],
        "obstacles": list[str],
        "note": str,
        "expected": Expected | None,
        "limits": PlanLimits,
    },
)
"""`doit plan --json`: `from` is the commit that a run starts from; `expected` is null where only a person helps."""


class CauseRow(TypedDict):
    """The input that caused a decision, with its fingerprints."""

    input: str
    old: str
    new: str


class AttemptRow(TypedDict):
    """An attempt of `doit explain --json`."""

    number: int
    revision: int
    state: str
    reason: str


class Explanation(TypedDict):
    """`doit explain --json`."""

    ref: str
    status: str
    act: str
    reason: str
    hint: str
    cause: CauseRow | None
    difference: list[str]
    attempts: list[AttemptRow]
    verdicts: list[str]


class VerifiedRow(TypedDict):
    """One landed issue of `doit verify --json`."""

    ref: str
    title: str
    ok: bool
    reason: str


class Summary(TypedDict):
    """The table as the cache keeps it.

    Attributes:
        version: of this shape.
        key: digest of every input of the table.
        watch: files whose stat data are inputs, relative to the repository.
        tools: programs whose versions are.
        ids: milestones whose journals are.
        refs: names and beginnings of names of refs that are.
        faults: file, key and problem of each fault.
        left_out: milestones without rows because of a fault.
        expires: epoch seconds from which on the table may be another one.
    """

    version: int
    key: str
    watch: list[str]
    tools: list[str]
    ids: list[str]
    refs: list[str]
    milestones: list[KeptMilestone]
    faults: list[list[str]]
    left_out: list[str]
    pending: list[IssueRow]
    drafts: list[DraftRow]
    expires: float


class AllRows(TypedDict):
    """Rows of all issues, for the summary with the same key."""

    key: str
    rows: list[IssueRow]


class DraftRow(TypedDict):
    """A milestone that lacks something; `reason` is the first of its faults."""

    id: str
    file: str
    faults: int
    reason: str


SHAPES: dict[str, object] = {
    "list": list[ListedIssue],
    "status": StatusReport,
    "plan": PlanReport,
    "explain": Explanation,
    "verify": list[VerifiedRow],
}
"""The JSON of commands by their names; docs/json.schema.json is generated from it."""
