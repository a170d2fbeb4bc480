"""Collects the report of a milestone from the observer, the journal, git and the logs. Read-only.

The report of `doit report` is one frozen value; docs/report.schema.json documents its JSON form.
"""

from __future__ import annotations

import html
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from executor.checks.base import before_of
from executor.checks.spec import CommandProof, FileProof
from executor.checks.verdicts import Verdicts
from executor.git.history import Stat, stats_of, trees_of
from executor.model.fingerprint import IssueRef
from executor.process.files import end_of
from executor.report.snapshot import MoneyReport, SurvivalReport, money_of, survival_of
from executor.state import segments
from executor.state.decide import Status
from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    Collision,
    Landed,
    Overlap,
    Refused,
    Regenerated,
    Reviewed,
    Stopped,
    Verified,
)
from executor.state.model import AttemptState, IssueState
from executor.status.estimate import Selections, selections
from executor.status.progress import forecast_of

if TYPE_CHECKING:
    from executor.git.trailers import Landing
    from executor.state.model import Attempt
    from executor.state.record import Record
    from executor.status.load import MilestoneView
    from executor.status.reader import Observer
    from executor.status.rows import MilestoneRow

__all__ = [
    "AttemptReport",
    "CheckReport",
    "FindingReport",
    "IssueReport",
    "MilestoneReport",
    "OverlapReport",
    "report_of",
    "schema",
]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AttemptReport(_Value):
    """One attempt."""

    number: int = Field(description="number of the attempt, from 1 over all revisions")
    revision: int = Field(description="revision that it would land as")
    agent: str = Field(description="profile that worked; empty if unknown")
    state: str = Field(description="started, built, failed, interrupted or landed")
    kind: str = Field(description="class of its failure; empty otherwise")
    reason: str = Field(description="why it failed, one sentence")
    started_at: str = Field(description="ISO-8601 UTC; empty if unknown")
    ended_at: str = Field(default="", description="end of its checks or its landing, ISO-8601 UTC; empty if unknown")
    seconds: float = Field(description="how long the agent worked")
    cost_usd: float = Field(description="money spent, US dollars")


class CheckReport(_Value):
    """The verdict of a check on the landed tree."""

    name: str
    ok: bool
    seconds: float
    reason: str = Field(description="why it failed; empty when it passed")
    before: Literal["red", "vacuous", ""] = Field(
        default="",
        description="acceptance on the tree before the change: it failed, it passed, or it is unknown",
    )


class FindingReport(_Value):
    """Something a reviewer found."""

    description: str
    score: int = Field(description="0 to 100")
    file: str
    line: int = Field(description="0 when none was named")


class IssueReport(_Value):
    """One issue."""

    ref: str = Field(description="qualified id, m4/4.1")
    id: str
    title: str
    type: str
    phase: str
    priority: str
    size: str
    status: str = Field(description="one of the status words")
    reason: str
    hint: str = Field(description="next command; empty if no action is needed")
    needs: tuple[str, ...] = Field(description="qualified ids")
    critical: bool = Field(description="on the critical path")
    revision: int
    commit: str = Field(description="the landing; empty before there is one")
    landed_at: str = Field(description="ISO-8601 UTC; empty before it has landed")
    seconds: float = Field(description="work of agents, all attempts")
    cost_usd: float
    files: int = Field(description="files changed by the landing")
    added: int = Field(description="lines added by the landing")
    removed: int = Field(description="lines removed by the landing")
    paths: tuple[str, ...] = Field(description="the files, at most 20")
    attempts: tuple[AttemptReport, ...]
    checks: tuple[CheckReport, ...]
    findings: tuple[FindingReport, ...]
    unproved: bool = Field(
        default=False, description="no check, acceptance command, file or reviewer shows that it is done"
    )
    stop: str = Field(description="rules that stopped it; empty when none did")
    stop_lines: tuple[str, ...] = Field(description="what those rules were triggered by")
    log: str = Field(description="end of the last attempt's output, escaped; empty if it no longer exists")


class OverlapReport(_Value):
    """Which issues were expected to meet in the same files, and which did."""

    predicted: int = Field(
        default=0, description="pairs of parallel issues that were expected to change the same files"
    )
    met: int = Field(default=0, description="of these, pairs that changed the same file")
    found_early: int = Field(default=0, description="pairs whose changes conflicted before either had landed")
    conflicts: int = Field(default=0, description="results that could not be merged with the branch")
    unforeseen: int = Field(default=0, description="pairs in found_early that were not predicted")
    regenerated: int = Field(default=0, description="conflicts that a command resolved")


class ForecastReport(_Value):
    """When the rest would end, and how well such forecasts held."""

    p50_s: float = Field(description="seconds of work until the rest has landed, in half of the simulated runs")
    p80_s: float = Field(description="the same, in four of five")
    known: int = Field(description="past durations that it is based on; 0 for a guess")
    milestones: int = Field(description="past milestones, each forecast from all others")
    inside_p80: int = Field(description="those that ended within their p80")


class MilestoneReport(_Value):
    """One milestone."""

    format: Literal["make-for-milestones/report"] = "make-for-milestones/report"
    version: Literal[1] = 1
    generated_at: str = Field(description="ISO-8601 UTC")
    id: str
    title: str
    goal: str
    status: str
    percent: int
    branch: str
    base: str
    tip: str = Field(description="commit; empty without a branch")
    counts: dict[str, int] = Field(description="issues by status word")
    seconds: float = Field(description="work of agents, all issues")
    cost_usd: float
    began_at: str = Field(description="first attempt, ISO-8601 UTC; empty when it is not known")
    ended_at: str = Field(description="last landing or attempt, ISO-8601 UTC; empty when it is not known")
    critical_path: tuple[str, ...] = Field(description="qualified ids")
    issues: tuple[IssueReport, ...] = Field(description="in the order in which they would run")
    money: MoneyReport = Field(default_factory=MoneyReport, description="attempts and money, and their results")
    survival: tuple[SurvivalReport, ...] = Field(default=(), description="landed lines that still exist later")
    forecast: ForecastReport | None = Field(default=None, description="of the remaining work; null if none remains")
    overlaps: OverlapReport = Field(default_factory=OverlapReport, description="predicted and actual conflicts")
    selection: Selections = Field(
        default=Selections(), description="tests that ran first, and the failures that they missed"
    )

    def waiting(self) -> list[IssueReport]:
        """Return the issues that need a person."""
        return [issue for issue in self.issues if issue.status in {"review", "failed", "skipped"}]


def schema() -> str:
    """Return the JSON schema of a report."""
    import json
    from inspect import getdoc

    made = MilestoneReport.model_json_schema()
    for part in (MoneyReport, Selections, SurvivalReport):  # pydantic before 2.14 leaves both out for dataclasses
        made["$defs"][part.__name__] |= {"additionalProperties": False, "description": getdoc(part)}
    return json.dumps(made, indent=1, sort_keys=True) + "\n"


_PATHS = 20  # paths of one attempt in a report
_LOG_BYTES = 4000  # bytes of one log; a choice, about a screen
_LANDED_LOG_BYTES = 600  # bytes of the log of what has landed; a choice, some lines
_ALL_LOG_BYTES = 300_000
"""Maximum total size of all log ends as HTML: a page about a thousand issues must fit into a mail."""
_LONGEST_ESCAPE = 6  # bytes: `&quot;` or `\\u0000` for one byte of a log
_ENDED = frozenset(
    cls.KIND for cls in (AttemptBuilt, AttemptFailed, AttemptInterrupted, Landed, Stopped, Refused, Verified)
)


def report_of(observer: Observer, name: str, shown: MilestoneRow, percent: int) -> MilestoneReport:
    """Return the report of a milestone.

    Args:
        observer: facts and decisions.
        name: the milestone's id.
        shown: its row of the status table, for the status word.
        percent: its progress.
    """
    gathered = _Gatherer(observer, name)
    issues = tuple(gathered.issue(ref) for ref in observer.compiled.plan.order if ref.startswith(f"{name}/"))
    view = gathered.view
    counts = Counter(issue.status for issue in issues)
    began = [attempt.started_at for issue in issues for attempt in issue.attempts if attempt.started_at]
    return MilestoneReport(
        generated_at=_iso(datetime.now(UTC).timestamp()),
        id=name,
        title=view.milestone.title,
        goal=view.milestone.goal or "",
        status=str(shown["status"]),
        percent=percent,
        branch=view.milestone.branch,
        base=view.base.removeprefix("refs/heads/"),
        tip=view.tip if view.exists else "",
        counts={status: counts[status] for status in sorted(counts, key=lambda word: (word != "landed", word))},
        seconds=round(sum(issue.seconds for issue in issues), 3),
        cost_usd=round(sum(issue.cost_usd for issue in issues), 6),
        began_at=min(began, default=""),
        ended_at=max([gathered.ended, *(issue.landed_at for issue in issues)]),
        critical_path=gathered.critical,
        issues=issues,
        money=money_of(observer, name),
        survival=survival_of(observer, name, datetime.now(UTC).timestamp()),
        forecast=_forecast(observer, name, [item.ref for item in issues if item.status != "landed"]),
        overlaps=gathered.meetings.report(),
        selection=selections(segments.read(observer.compiled.project.state(name))),
    )


def _forecast(observer: Observer, name: str, left: list[str]) -> ForecastReport | None:
    found = forecast_of(observer, name, left)
    if found is None:
        return None
    rest, proved = found
    past = {"milestones": proved.milestones, "inside_p80": proved.inside}
    return ForecastReport(p50_s=round(rest.p50_s), p80_s=round(rest.p80_s), known=rest.known, **past)


class _Gatherer:
    """Indexes for lookups of a milestone's issues."""

    def __init__(self, observer: Observer, name: str) -> None:
        self._observer = observer
        self._project = observer.compiled.project
        self._name = name
        self.view: MilestoneView = observer.views[name]
        self.critical = observer.compiled.plan.critical_path(name)
        self._critical = frozenset(self.critical)
        self._agents: dict[tuple[str, int], str] = {}
        self._findings: dict[str, list[FindingReport]] = {}
        self.ended = ""
        self._ends: dict[tuple[str, int], str] = {}
        self.meetings = _Meetings(name)
        for event in segments.read(self._project.state(name)):
            self._take(event)
        self._stats = stats_of(self._project.repository, self.view.tip) if self.view.landings else {}
        self._trees = trees_of(self._project.repository, self.view.tip) if self.view.landings else {}
        self._verdicts = Verdicts(self._project.cache / "_verdicts")
        self._log_bytes = _ALL_LOG_BYTES

    def issue(self, ref: str) -> IssueReport:
        """Return the report of one issue."""
        node = self._observer.compiled.plan.nodes[ref]
        declared = node.issue
        decision = self._observer.decision(ref)
        state = self.view.states.get(declared.id) or IssueState()
        landing = self.view.landings.get(declared.id)
        stat = self._stats.get(landing.commit, Stat()) if landing is not None else Stat()
        attempts = [attempt for _, attempt in sorted(state.attempts.items())]
        waits = decision.status in {Status.REVIEW, Status.SKIPPED}
        return IssueReport(
            ref=ref,
            id=declared.id,
            title=declared.title,
            type=declared.type,
            phase=declared.phase or "",
            priority=declared.priority,
            size=declared.size,
            status=str(decision.status),
            reason=decision.reason,
            hint=decision.hint,
            needs=node.needs,
            critical=ref in self._critical,
            revision=landing.trailers.revision if landing is not None else 0,
            commit=landing.commit if landing is not None else "",
            landed_at=_iso(landing.time) if landing is not None else "",
            seconds=round(state.seconds, 3),
            cost_usd=state.cost_usd,
            files=len(stat.paths),
            added=stat.added,
            removed=stat.removed,
            paths=stat.paths[:_PATHS],
            attempts=tuple(self._attempt(declared.id, attempt) for attempt in attempts),
            checks=self._checks(ref, landing, stat) if landing is not None else (),
            findings=tuple(self._findings.get(declared.id, ())),
            unproved=not self._observer.compiled.policy.proves(declared),
            stop=state.stop.rule if state.stop is not None and waits else "",
            stop_lines=state.stop.lines[:_PATHS] if state.stop is not None and waits else (),
            log=self._log(declared.id, attempts, landed=decision.status is Status.LANDED),
        )

    def _take(self, record: Record) -> None:
        self.meetings.take(record)
        match record.event:
            case AttemptStarted(attempt=number, agent=agent):
                self._agents[record.key, number] = agent
            case Reviewed(findings=findings):
                self._findings[record.key] = [
                    FindingReport(
                        description=str(item.get("description", "")),
                        score=int(item.get("score", 0)),
                        file=str(item.get("file", "")),
                        line=int(item.get("line", 0)),
                    )
                    for item in findings
                ]
        if record.kind in _ENDED:
            self.ended = self._ends[record.key, getattr(record.event, "attempt", 0)] = record.at

    def _attempt(self, issue: str, attempt: Attempt) -> AttemptReport:
        return AttemptReport(
            number=attempt.number,
            revision=attempt.revision,
            agent=self._agents.get((issue, attempt.number), ""),
            state=str(attempt.state),
            kind=attempt.kind,
            reason=attempt.reason,
            started_at=attempt.started_at,
            ended_at=self._ends.get((issue, attempt.number), ""),
            seconds=attempt.seconds,
            cost_usd=attempt.cost_usd,
        )

    def _checks(self, ref: str, landing: Landing, stat: Stat) -> tuple[CheckReport, ...]:
        found = []
        for item in self._observer.proofs(ref).items:
            if isinstance(item, FileProof):
                continue
            verdict = self._verdicts.find(landing.tree, item.verdict_key(item.concerned(stat.paths)))
            if verdict is not None:
                before = "" if item.named else self._before(ref, landing, item)
                found.append(
                    CheckReport(
                        name=item.name, ok=verdict.ok, seconds=verdict.seconds, reason=verdict.reason, before=before
                    )
                )
        return tuple(found)

    def _before(self, ref: str, landing: Landing, item: CommandProof) -> Literal["red", "vacuous", ""]:
        """Return the result of acceptance on the tree before the landing, or on the base of its attempt."""
        state = self.view.states.get(IssueRef.parse(ref).issue)
        bases = [attempt.base for attempt in state.attempts.values()][::-1] if state is not None else []
        parents = [self._trees.get(landing.commit, ("", ""))[1], *bases]
        words = (before_of(self._verdicts, self._trees[parent][0], item) for parent in parents if parent in self._trees)
        return next((word for word in words if word), "")

    def _log(self, issue: str, attempts: list[Attempt], *, landed: bool) -> str:
        """Return the end of the last attempt's output, or of the output of its failure."""
        if not attempts:
            return ""
        last = attempts[-1]
        most = min(_LANDED_LOG_BYTES if landed else _LOG_BYTES, self._log_bytes // _LONGEST_ESCAPE)
        text = last.detail if last.state is AttemptState.FAILED and last.detail else ""
        text = text or end_of(self._project.logs(self._name, issue, last.number) / "agent.log", most)
        shown = _plain(text[-most:]) if most else ""
        self._log_bytes -= len(html.escape(shown).encode("utf-8", "replace"))
        return shown


class _Meetings:
    """Pairs of issues that were expected to meet or that met."""

    def __init__(self, milestone: str) -> None:
        self._milestone = milestone
        self._predicted: set[frozenset[str]] = set()
        self._found: set[frozenset[str]] = set()
        self._files: dict[str, frozenset[str]] = {}
        self._count: Counter[str] = Counter()

    def take(self, record: Record) -> None:
        """Take in an event of the milestone."""
        ref = str(IssueRef(self._milestone, record.key))
        match record.event:
            case Overlap(others=others):
                self._predicted |= {frozenset({ref, other}) for other in others}
            case Collision(other=other):
                self._found.add(frozenset({ref, other}))
            case AttemptBuilt(files=files):
                self._files[ref] = frozenset(files)
            case Stopped(rule="merge-conflict"):
                self._count["conflicts"] += 1
            case Regenerated(reason=""):
                self._count["regenerated"] += 1

    def report(self) -> OverlapReport:
        """Return the numbers of all events so far."""
        none: frozenset[str] = frozenset()
        met = [
            pair for pair in self._predicted if frozenset.intersection(*(self._files.get(ref, none) for ref in pair))
        ]
        return OverlapReport(
            predicted=len(self._predicted),
            met=len(met),
            found_early=len(self._found),
            conflicts=self._count["conflicts"],
            unforeseen=len(self._found - self._predicted),
            regenerated=self._count["regenerated"],
        )


def _plain(text: str) -> str:
    """Return lines without control, format and bidirectional characters."""
    lines = (line.expandtabs() for line in text.splitlines())
    return "\n".join(
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line) for line in lines
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
