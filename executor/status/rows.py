"""Rows of the issue table for `doit list` and `doit status`, in the form of the cache.

They are dictionaries because they are used directly from JSON, without the cost of building objects. Add a key here
first; a change of meaning increments `_VERSION` of summary_cache.
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
    "ListedIssue",
    "MilestoneRow",
    "PhaseRow",
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


class PhaseRow(TypedDict):
    """A phase: `state` is waiting, running, held or done, `percent` the score of its gate, `reason` why it is held."""

    name: str
    state: str
    done: int
    total: int
    percent: int | None
    reason: str


class IssueRow(TypedDict):
    """One issue. `ref` is MILESTONE/ISSUE, `until` epoch seconds; `started`: an attempt has started and not ended.

    `unproved`: no check, acceptance command, file or reviewer proves that it is done.
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
    phases: list[PhaseRow]
    pr: PullRow | None
    unproved: bool


class RemovedRow(TypedDict):
    """An issue that landed and is no longer declared."""

    id: str
    commit: str
    revision: int


class BlockerRow(TypedDict):
    """An obstacle of an issue or a milestone; `resume` is the remedy."""

    issue: str
    blocker: str
    about: str
    reason: str
    resume: str
    pauses: bool


class MilestoneRow(TypedDict):
    """One milestone. As stored, its status is the one without a run."""

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
    phases: list[PhaseRow]
    base: str
    tag: str | None
    pause: list[str] | None
    release: list[str] | None
    current: bool
    delivered: bool
    pushed: bool
    removed: list[RemovedRow]
    blockers: list[BlockerRow]
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
    phases: list[PhaseRow]
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
    phases: list[PhaseRow]
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


class PlanOverlap(TypedDict):
    """An issue that is expected to change the same files; `cost` is 1.0 for each pair of declared globs that meet."""

    ref: str
    files: list[str]
    declared: bool
    cost: float


class PlanIssue(TypedDict):
    """An issue of `doit plan --json`; issues of a wave are independent, `act` is the action of a run."""

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
    overlaps: list[PlanOverlap]


class Calibration(TypedDict):
    """The accuracy of earlier forecasts: milestones with known durations, and those that ended within their p80."""

    milestones: int
    inside_p80: int


class Expected(TypedDict):
    """The expected seconds for the rest of a milestone; a `guess` if no duration is `known`."""

    seconds: int
    p50_s: int
    p80_s: int
    known: int
    workers: int
    guess: bool
    calibration: Calibration


class PlanLimits(TypedDict):
    """Limits of a run: attempts per issue, seconds per call of an agent, US dollars by scope."""

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
        "select_tests": str,
        "expected": Expected | None,
        "limits": PlanLimits,
    },
)
"""`doit plan --json`: `from` is the start commit of a run; `expected` is null if only a person helps."""


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
    host: str


class ProofRow(TypedDict):
    """The verdict of a check of an issue.

    Attributes:
        check: name of the check.
        tree: the tree that it judged.
        ok: whether it passed.
        by: name of the trusted key that signed it; empty if it was proved in this clone.
        host: the host of the signer, or that of the check's runner; empty if it ran on this one.
        at: ISO-8601 time of the signature; empty as above.
        run: id of the run that ran the check.
    """

    check: str
    tree: str
    ok: bool
    by: str
    host: str
    at: str
    run: str


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
    proofs: list[ProofRow]


class VerifiedRow(TypedDict):
    """A landed issue of `doit verify --json`."""

    ref: str
    title: str
    ok: bool
    reason: str


class Summary(TypedDict):
    """The cached table.

    Attributes:
        version: version of this format.
        key: digest of every input of the table.
        watch: files whose stat data are inputs, relative to the repository.
        tools: programs whose versions are inputs.
        ids: milestones whose journals are inputs.
        refs: names and prefixes of refs that are inputs.
        faults: file, key and problem of each fault.
        left_out: milestones without rows because of a fault.
        expires: epoch seconds after which the table may change by itself.
    """

    version: int
    key: str
    watch: list[str]
    tools: list[str]
    ids: list[str]
    refs: list[str]
    milestones: list[MilestoneRow]
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
    """An incomplete draft of a milestone; `reason` is the first of its faults."""

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
