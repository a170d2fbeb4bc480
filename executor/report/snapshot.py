"""A snapshot of a milestone, the data for every view of a run. Read-only, takes no lock.

What became of the money and of the landed lines: spend that never landed, lines that are still there after days.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from executor.git.command import Git
from executor.git.diff import lines_left, parse_diff
from executor.model.fingerprint import IssueRef
from executor.process.locks import last_sign
from executor.state import segments
from executor.state.decide import Status, counts
from executor.state.events import RunStarted, Verified, spend_of
from executor.state.model import AttemptState, IssueState
from executor.state.record import RunRecord, moment, run_records
from executor.status.milestone_status import MilestoneFacts, Standing, standing
from executor.status.progress import Ahead, End, Part, activities, expected_end, stalled, started_steps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.git.command import Repository
    from executor.git.diff import Change
    from executor.git.trailers import Landing
    from executor.state.decide import Decision
    from executor.state.record import Record
    from executor.status.progress import Activity, PhaseProgress
    from executor.status.reader import Observer

__all__ = [
    "MoneyReport",
    "Row",
    "Snapshot",
    "SurvivalReport",
    "Working",
    "money_of",
    "snapshot_of",
    "standing_of",
    "survival_of",
]

_AT_REST = frozenset({Status.LANDED, Status.FAILED, Status.SKIPPED, Status.REVIEW})
_LAST = 5  # events; lines of the live view


@dataclass(frozen=True, slots=True)
class Row:
    """An issue: its status, and remarks for a person."""

    ref: str
    title: str
    status: str
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Working:
    """An issue in progress, or one step of it.

    Attributes:
        ref: its qualified id.
        title: its title.
        what: the current activity: ``agent claude``, ``step design.keep``, ``check tests``.
        agent: the agent's profile; empty while only checks run.
        attempt: number of the attempt; 0 if unknown.
        elapsed: seconds since the run started the issue or the step.
        quiet: seconds since the last sign of life.
        stalled: that is too long.
    """

    ref: str
    title: str
    what: str
    agent: str
    attempt: int
    elapsed: float
    quiet: float
    stalled: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The data of a view on a milestone.

    Attributes:
        at: time of the snapshot, seconds since 1970.
        milestone: its id.
        title: its title.
        branch: its branch.
        standing: its state, the reason, and the command that advances it.
        percent: its progress.
        rows: every issue, in execution order.
        working: active issues, longest first; one entry per step.
        phases: phases of the milestone by its id, and of issues that have started theirs by qualified id.
        run: the current run, else the latest one; None before the first.
        end: expected end of the rest, during a run.
        cost_usd: money spent by that run.
        last: the latest records, oldest first.
    """

    at: float
    milestone: str
    title: str
    branch: str
    standing: Standing
    percent: int
    rows: tuple[Row, ...]
    working: tuple[Working, ...]
    phases: Mapping[str, tuple[PhaseProgress, ...]]
    run: RunRecord | None
    end: End | None
    cost_usd: float
    last: tuple[Record, ...]

    @property
    def status(self) -> str:
        """Its status word."""
        return str(self.standing.status)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of issues of each status, landed first."""
        return counts(row.status for row in self.rows)

    @property
    def landed(self) -> int:
        """Return the number of landed issues."""
        return self.counts.get(Status.LANDED, 0)


def snapshot_of(
    observer: Observer,
    name: str,
    events: Sequence[Record],
    *,
    at: float,
    standing: Standing,
    alive: str = "",
    workers: int = 0,
    taken_up: Mapping[str, float] | None = None,
) -> Snapshot:
    """Take a snapshot of a milestone.

    Args:
        observer: facts and decisions.
        name: the milestone.
        events: its journal.
        at: the current time, seconds since 1970.
        standing: its state.
        alive: id of the run with a living process; empty without one.
        workers: number of parallel issues of the run; by default as recorded by the run.
        taken_up: issue -> start time in the run, if the caller is the run itself.
    """
    plan, view = observer.compiled.plan, observer.views[name]
    refs = [ref for ref in plan.order if plan.nodes[ref].milestone == name]
    decisions = {ref: observer.decision(ref) for ref in refs}
    working = _in_hand(observer, decisions, activities(events, alive) if alive else {}, at, taken_up)
    rows = [_row(observer, ref, item, working.get(ref, ())) for ref, item in decisions.items()]
    runs = run_records(events, alive)
    run = next((item for item in runs if item.run == alive), runs[-1] if runs else None)
    return Snapshot(
        at=at,
        milestone=name,
        title=view.milestone.title,
        branch=view.milestone.branch,
        standing=standing,
        percent=observer.percent(name, {row.ref: _part(observer, row) for row in rows}),
        rows=tuple(rows),
        working=tuple(sorted((item for own in working.values() for item in own), key=_place)),
        phases=observer.shown_phases(name, _going_on(observer, refs, working)),
        run=run,
        end=_end(observer, decisions, working, events, workers or _workers(events, alive)) if alive else None,
        cost_usd=sum(_cost(event) for event in events if run is not None and event.run == run.run),
        last=tuple(events[-_LAST:]),
    )


def _row(observer: Observer, ref: str, decision: Decision, working: Sequence[Working]) -> Row:
    title = observer.compiled.plan.nodes[ref].issue.title
    if working:
        return Row(ref, title, str(Status.RUNNING), _words(working), decision.hint)
    return Row(ref, title, str(decision.status), decision.reason, decision.hint)


def _part(observer: Observer, row: Row) -> Part:
    """How far an issue is, for the percentage of its milestone."""
    node = observer.compiled.plan.nodes[row.ref]
    state = observer.views[node.milestone].states.get(node.issue.id) or IssueState()
    return Part(node.issue.size, row.status, state.built, observer.steps_percent(row.ref))


def _going_on(observer: Observer, refs: Sequence[str], working: Mapping[str, Sequence[Working]]) -> list[str]:
    """Return the issues whose phases are shown: running ones, and those with finished steps."""
    return [ref for ref in refs if ref in working or observer.steps_percent(ref)]


def _end(
    observer: Observer,
    decisions: Mapping[str, Decision],
    working: Mapping[str, Sequence[Working]],
    events: Sequence[Record],
    workers: int,
) -> End | None:
    """When the rest is expected to have landed."""
    nodes = {ref: observer.compiled.plan.nodes[ref] for ref in decisions}
    ahead = [
        Ahead(
            ref,
            nodes[ref].issue.size,
            str(decision.status),
            nodes[ref].needs,
            working[ref][0].elapsed if ref in working else None,
        )
        for ref, decision in decisions.items()
    ]
    return expected_end(ahead, events, {node.issue.id: node.issue.size for node in nodes.values()}, workers)


def _place(item: Working) -> tuple[int, str, str]:
    return -int(item.elapsed), item.ref, item.what


def _in_hand(
    observer: Observer,
    decisions: Mapping[str, Decision],
    busy: Mapping[str, Activity],
    at: float,
    taken_up: Mapping[str, float] | None,
) -> dict[str, list[Working]]:
    """Return the active issues: those that are busy in the journal, and those that the run itself has started."""
    found = {}
    for ref, decision in decisions.items():
        issue = IssueRef.parse(ref).issue
        if taken_up is not None and issue not in taken_up:
            continue
        if issue in busy and decision.status not in _AT_REST:
            found[ref] = _working(observer, ref, busy[issue], at)
        elif taken_up is not None:
            title = observer.compiled.plan.nodes[ref].issue.title
            found[ref] = [Working(ref, title, "checks", "", 0, at - taken_up[issue], 0.0, stalled=False)]
    return found


def _working(observer: Observer, ref: str, item: Activity, at: float) -> list[Working]:
    """Return an activity with the signs of life from its logs, one entry for each active step."""
    milestone = IssueRef.parse(ref).milestone
    node = observer.compiled.plan.nodes[ref]
    logs = observer.compiled.project.logs(milestone, item.issue, item.attempt)
    states = (observer.views[milestone].states.get(item.issue) or IssueState()).steps
    steps = [] if item.built else started_steps(states, item.attempt)
    found = []
    for name in steps:
        began = moment(states[name].started_at)
        written, _ = last_sign(logs / "steps" / name)
        quiet = max(0.0, at - max(written, began))
        agent = observer.compiled.policy.workflow_of(node.issue).agent_of(name) or item.agent
        elapsed = max(0.0, at - began)
        what = f"step {name}{item.where}"
        found.append(Working(ref, node.issue.title, what, agent, item.attempt, elapsed, quiet, stalled(quiet)))
    if found:
        return found
    written, log = last_sign(logs)
    quiet = max(0.0, at - max(written, item.last))
    gate = next((phase.name for phase in observer.phases(ref) if phase.state in {"running", "held"}), "")
    if item.built or not item.agent:
        what, agent = (f"check {log}" if log not in {"", "agent"} else "checks"), ""
    else:
        what, agent = (f"gate {gate}", "") if gate else (f"agent {item.agent}{item.where}", item.agent)
    elapsed = max(0.0, at - item.since)
    return [Working(ref, node.issue.title, what, agent, item.attempt, elapsed, quiet, stalled(quiet))]


def _words(working: Sequence[Working]) -> str:
    """Describe the work on an issue in one phrase."""
    first = working[0].what
    return first if len(working) == 1 else f"{first} and {len(working) - 1} more"


def _workers(events: Sequence[Record], run: str) -> int:
    found = (item.event for item in events if item.run == run)
    return next((event.workers for event in found if isinstance(event, RunStarted)), 1)


def _cost(event: Record) -> float:
    return spend_of(event.data).cost_usd or 0.0


def standing_of(observer: Observer, name: str, *, held: bool) -> Standing:
    """Return the state of a milestone and the command that advances it."""
    view = observer.views[name]
    statuses = {need: _statuses(observer, need) for need in (name, *view.milestone.needs)}
    own = statuses[name]
    return standing(
        MilestoneFacts(
            name,
            len(own),
            _landed(own),
            waiting={issue: status for issue, status in own.items() if status != Status.LANDED},
            started=bool(view.landings or view.states),
            held=held,
            pause=view.pause,
            needs={need: (_landed(statuses[need]), len(statuses[need])) for need in view.milestone.needs},
            release=view.release,
            current=view.release_current,
        )
    )


def _statuses(observer: Observer, name: str) -> dict[str, str]:
    issues = observer.views[name].milestone.issues
    return {issue.id: str(observer.decision(str(IssueRef(name, issue.id))).status) for issue in issues}


def _landed(statuses: Mapping[str, str]) -> int:
    return sum(status == Status.LANDED for status in statuses.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyReport:
    """Attempts, landings and cost of a milestone."""

    attempts: int = field(default=0, metadata={"description": "attempts of agents that were started, of all revisions"})
    landed: int = field(default=0, metadata={"description": "attempts whose result landed"})
    reused: int = field(
        default=0, metadata={"description": "landings that were verified again after a change, without an agent"}
    )
    skipped: int = field(default=0, metadata={"description": "skipped issues"})
    reverted: int = field(default=0, metadata={"description": "reverted landings"})
    spent_usd: float = field(default=0.0, metadata={"description": "cost of all attempts"})
    unlanded_usd: float = field(default=0.0, metadata={"description": "cost of attempts that never landed"})

    HEAD: ClassVar = ("Attempts", "Landed", "Reused", "Skipped", "Reverted", "Spent", "Spent without landing")

    def cells(self) -> list[str]:
        """Return its figures as a row of a table."""
        counts = map(str, (self.attempts, self.landed, self.reused, self.skipped, self.reverted))
        return [*counts, f"${self.spent_usd:.2f}", f"${self.unlanded_usd:.2f}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalReport:
    """Survival of the latest landings of one agent and type of issue.

    The lines of a landing count as alive while they stand unchanged in the file that they landed in.
    """

    agent: str
    type: str
    days: int = field(metadata={"description": "age in days, 7 or 30"})
    landings: int = field(metadata={"description": "landings of at least that age"})
    lines: int = field(metadata={"description": "lines that they added"})
    alive: int = field(metadata={"description": "of these, lines that still existed at that age"})
    reverted: int = field(metadata={"description": "landings that were reverted by then"})

    HEAD: ClassVar = ("Agent", "Type", "After", "Landings", "Lines", "Still there", "Reverted")

    def cells(self) -> list[str]:
        """Return its figures as a row of a table."""
        counts = map(str, (self.landings, self.lines, self.alive, self.reverted))
        return [self.agent, self.type, f"{self.days} days", *counts]


_AGES = (7, 30)
_DAY = 86_400  # seconds


def money_of(observer: Observer, name: str) -> MoneyReport:
    """Return what the attempts at a milestone came to; without `.cache/`, what git still knows."""
    view = observer.views[name]
    attempts = [item for state in view.states.values() for item in state.attempts.values()]
    events = segments.read(observer.compiled.project.state(name))
    issues = [observer.decision(str(IssueRef(name, issue.id))).status for issue in view.milestone.issues]
    return MoneyReport(
        attempts=len(attempts),
        landed=sum(item.state is AttemptState.LANDED for item in attempts),
        reused=sum(isinstance(item.event, Verified) for item in events),
        skipped=issues.count(Status.SKIPPED),
        reverted=len(view.reverted),
        spent_usd=round(sum(item.cost_usd for item in attempts), 6),
        unlanded_usd=round(sum(item.cost_usd for item in attempts if item.state is not AttemptState.LANDED), 6),
    )


def survival_of(observer: Observer, name: str, now: float) -> tuple[SurvivalReport, ...]:
    """Return the landed lines that remain after 7 and 30 days, by agent and type; only for landings of that age."""
    view, repository = observer.views[name], observer.compiled.project.repository
    types = {issue.id: issue.type for issue in view.milestone.issues}
    old = {issue: item for issue, item in view.landings.items() if now - item.time >= _AGES[0] * _DAY}
    tips = _tips(repository, [view.tip, view.base]) if old else []
    sums: defaultdict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for issue, landing in old.items():
        added = _change(repository, f"{landing.commit}^", landing.commit)
        for days in _AGES:
            until = landing.time + days * _DAY
            if until > now:
                continue
            later = _tip_at(tips, until, landing)
            alive = lines_left(added, _change(repository, landing.commit, later, [file.path for file in added.files]))
            revert = view.reverted.get(issue)
            found = (1, added.added, alive, int(revert is not None and revert.time <= until))
            total = sums[_agent_of(view.states.get(issue), landing), types.get(issue, ""), days]
            total[:] = [left + right for left, right in zip(total, found, strict=True)]
    return tuple(
        SurvivalReport(agent=agent, type=kind, days=days, landings=n, lines=lines, alive=alive, reverted=reverted)
        for (agent, kind, days), (n, lines, alive, reverted) in sorted(sums.items())
    )


def _agent_of(state: IssueState | None, landing: Landing) -> str:
    """Return the profile that made a landing: from the journal, otherwise from the commit, which may not name it."""
    attempts = state.attempts.values() if state is not None else ()
    return next((item.agent for item in attempts if item.commit == landing.commit), landing.trailers.agent)


def _change(repository: Repository, old: str, new: str, paths: Sequence[str] = ()) -> Change:
    words = ("diff-tree", "-r", "-p", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", old, new)
    return parse_diff(Git(repository.git_dir, repository.top).run(*words, "--", *paths))


def _tips(repository: Repository, refs: Sequence[str]) -> list[tuple[int, str, int]]:
    """Return the first-parent commits of the milestone's branch and of its base: time, id, and which of the two.

    Commits of one second stay in the order of the history.
    """
    git, found = Git(repository.git_dir, repository.top), []
    for place, ref in enumerate(refs):
        output = git.run("log", "--first-parent", "--format=%ct %H", "--end-of-options", ref, "--").decode("ascii")
        lines = [line.split() for line in reversed(output.splitlines())]
        found += [(int(when), commit, place) for when, commit in lines]
    return sorted(found, key=lambda item: item[0])


def _tip_at(tips: Sequence[tuple[int, str, int]], until: float, landing: Landing) -> str:
    """Return the last commit at a time: of the base once it went on after the branch, else of the branch."""
    before = tips[: bisect_right(tips, int(until), key=lambda item: item[0])]
    branch = [item for item in before if item[2] == 0]
    last = branch[-1] if branch else (landing.time, landing.commit, 0)
    base = [item for item in before if item[2] == 1 and item[0] >= last[0]]
    return base[-1][1] if base else last[1]
