"""The progress of a milestone, its active agents, phases and expected end: values for every view. Pure.

Follows a journal that another process writes: new records since the last read, without rereading the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.model.plan import WEIGHTS
from executor.model.workflow import GATE
from executor.process.files import segments as segments_in
from executor.state import segments
from executor.state.decide import Status
from executor.state.events import (
    AgentSilent,
    AttemptBuilt,
    AttemptInterrupted,
    AttemptStarted,
    BaseRed,
    BlockerFound,
    Checked,
    Landed,
    Stopped,
    Verified,
    WorkHosted,
)
from executor.state.record import Damage, Record, moment, scan
from executor.state.segments import look, refuse
from executor.status.estimate import Past, Piece, Todo, calibration, durations, forecast, schedule, took

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from executor.state.record import Record
    from executor.state.steps import Flow, StepState
    from executor.status.estimate import Calibration, Forecast
    from executor.status.reader import Observer

__all__ = [
    "STALLED",
    "Activity",
    "Ahead",
    "End",
    "Part",
    "PhaseProgress",
    "Tail",
    "activities",
    "expected_end",
    "forecast_of",
    "milestone_phases",
    "past_milestones",
    "percent",
    "phase_line",
    "phases_of",
    "planned_percent",
    "stalled",
    "started_steps",
]


STALLED = 300.0
"""Seconds without a sign of life after which work counts as stalled."""
_BUILT = 0.6
"""Progress of an issue with a result that has not been proved and landed."""
_ALMOST = 0.99
"""Maximum progress of an issue's steps before it has landed."""
_WAITING_FOR_PERSONS = frozenset({Status.FAILED, Status.SKIPPED, Status.REVIEW})


@dataclass(frozen=True, slots=True)
class Part:
    """An issue's contribution to the progress of its milestone.

    Attributes:
        size: S, M or L.
        status: its status.
        built: an attempt has a result that has not landed.
        steps: per cent of its workflow's steps that are done, by the weight of their phases; 0 without steps.
    """

    size: str
    status: str
    built: bool = False
    steps: int = 0

    @property
    def share(self) -> float:
        """Its progress, from 0 to 1."""
        if self.status == Status.LANDED:
            return 1.0
        steps = min(_ALMOST, self.steps / 100)
        return max(_BUILT, steps) if self.built or self.status == Status.OPEN else steps


def percent(parts: Sequence[Part]) -> int:
    """Total progress by size in whole per cent; 100 only if everything has landed, or without issues."""
    whole = sum(WEIGHTS[part.size] for part in parts)
    done = sum(WEIGHTS[part.size] * part.share for part in parts)
    return int(done * 100 / whole + 1e-9) if whole else 100


def planned_percent(plan: Part, others: Sequence[Part], weight: int) -> int:
    """Return the progress of a milestone with its own planning phases, in whole per cent.

    Args:
        plan: the issue that plans it.
        others: the issues that its roadmap declares.
        weight: share of the planning phases in per cent; the rest is execution.
    """
    planned = 100 if plan.status == Status.LANDED else plan.steps
    if planned < 100 or not others:  # noqa: PLR2004  (per cent)
        return round(weight * planned / 100)
    return weight + (100 - weight) * percent(others) // 100


def stalled(quiet: float) -> bool:
    """Return whether work counts as stalled after so many seconds without a record."""
    return quiet >= STALLED


@dataclass(frozen=True, slots=True)
class Activity:
    """An issue in progress in a run, by the journal.

    Attributes:
        issue: its id.
        attempt: number of the attempt.
        agent: agent that works on it; empty if only checks run.
        since: time at which the run started it, seconds since 1970.
        last: time of the latest record of it.
        built: the agent has ended, and its result is being proved.
        host: the other host on which it works; empty for this machine.
    """

    issue: str
    attempt: int
    agent: str
    since: float
    last: float
    built: bool = False
    host: str = ""

    @property
    def where(self) -> str:
        """The other host as words at the end of a phrase; empty for this machine."""
        return f" on {self.host}" if self.host else ""


def activities(events: Iterable[Record], run: str) -> dict[str, Activity]:
    """Return issue -> its activity in a run, in order of start."""
    found: dict[str, Activity] = {}
    for event in events:
        if event.run != run or not event.key:
            continue
        at, known = moment(event.at), found.get(event.key)
        match event.event:
            case AttemptStarted(attempt=number, agent=agent):
                since = known.since if known else at
                found[event.key] = Activity(event.key, number, agent, since, at)
            case Landed() | Stopped() | AttemptInterrupted() | BaseRed() | Verified():
                found.pop(event.key, None)
            case AttemptBuilt() if known:
                found[event.key] = replace(known, last=at, built=True, host="")
            case WorkHosted(host=host) if known:
                found[event.key] = replace(known, last=at, host=host)
            case Checked(seconds=seconds) if known is None:
                found[event.key] = Activity(event.key, 0, "", at - seconds, at, built=True)
            case AgentSilent() | BlockerFound():
                pass  # an announcement is no sign of life
            case _ if known:
                found[event.key] = replace(known, last=at)
    return found


@dataclass(frozen=True, slots=True)
class Ahead:
    """An issue in the estimate of the end, in plan order.

    Attributes:
        ref: its qualified id.
        size: S, M or L.
        status: its status.
        needs: refs of the issues that it needs.
        elapsed: seconds of work so far; None if it is not in progress.
    """

    ref: str
    size: str
    status: str
    needs: tuple[str, ...] = ()
    elapsed: float | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The expected time at which everything that needs no person has landed.

    Attributes:
        seconds: seconds from now.
        known: number of past durations; 0 for a guess.
        issues: number of those issues.
    """

    seconds: float
    known: int
    issues: int


def _seconds_of_checks(events: Iterable[Record]) -> float:
    """How long each check took when it last passed, together, as `doit verify --base` and runs measured it.

    It is added to a guess; durations of landed issues have it in them.
    """
    latest: dict[str, float] = {}
    for record in events:
        if isinstance(fact := record.event, Checked) and fact.ok:
            latest[fact.check] = fact.seconds
    return sum(latest.values())


def expected_end(
    ahead: Sequence[Ahead], events: Iterable[Record], sizes: Mapping[str, str], workers: int
) -> End | None:
    """Estimate the end of the remaining work; None if nothing more lands without a person.

    Args:
        ahead: issues of the milestone.
        events: its journal, for the durations of issues.
        sizes: issue id -> size.
        workers: number of parallel issues.
    """
    events = list(events)
    stuck = {item.ref for item in ahead if item.status in _WAITING_FOR_PERSONS and item.elapsed is None}
    known = durations((sizes[issue], seconds) for issue, seconds in took(events) if issue in sizes)
    checks = 0.0 if known.known else _seconds_of_checks(events)
    own = {item.ref: item for item in ahead}
    todo: list[Todo] = []
    for item in ahead:
        if item.status == Status.LANDED or item.ref in stuck:
            continue
        if any(need in stuck for need in item.needs):
            stuck.add(item.ref)
            continue
        seconds = known.left(item.size, item.elapsed or 0.0) + checks
        todo.append(Todo(item.ref, seconds, tuple(filter(own.__contains__, item.needs)), item.elapsed is not None))
    ends = schedule(todo, workers)
    return End(max(ends.values()), known.known, len(ends)) if ends else None


def past_milestones(observer: Observer) -> dict[str, Past]:
    """Return every milestone with its issues of known duration."""
    nodes = observer.compiled.plan.nodes
    found = {}
    for name in observer.compiled.loaded.milestones:
        seconds = dict(took(segments.read(observer.compiled.project.state(name))))
        own = [(ref, node) for ref, node in nodes.items() if node.milestone == name and node.issue.id in seconds]
        pieces = tuple(Piece(ref, node.issue.size, node.needs, seconds[node.issue.id]) for ref, node in own)
        if pieces:
            found[name] = Past(pieces)
    return found


def forecast_of(observer: Observer, name: str, open_refs: Sequence[str]) -> tuple[Forecast, Calibration] | None:
    """Return the forecast of the rest of a milestone and how well such forecasts held; None if nothing is left."""
    nodes, workers = observer.compiled.plan.nodes, observer.compiled.policy.limits.parallel
    milestones = past_milestones(observer)
    pieces = [Piece(ref, nodes[ref].issue.size, nodes[ref].needs) for ref in open_refs]
    past = [(piece.size, piece.seconds) for own in milestones.values() for piece in own.pieces]
    found = forecast(pieces, past, workers)
    proved = calibration([own for other, own in milestones.items() if other != name], workers)
    return None if found is None else (found, proved)


class Tail:
    """A reader of one milestone's journal; takes no lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = ""
        self._place = self._number = self._check = 0

    def read(self) -> list[Record]:
        """Return the records since the last call; the first call returns all.

        Raises:
            StateBrokenError: the journal is corrupt, or of a newer version.
        """
        names = segments_in(self._folder)
        if self._name and names and names[-1] == self._name:
            found = self._rest()
            if found is not None:
                return found
        return self._again() if names else []

    def _rest(self) -> list[Record] | None:
        """Return the data appended to the last segment; None if only a complete read can determine it."""
        path = self._folder / self._name
        try:
            with path.open("rb") as file:
                file.seek(0, 2)
                if file.tell() < self._place:
                    return None
                file.seek(self._place)
                data = file.read()
        except OSError:
            return None
        found = scan(data, self._number + 1, self._check)
        if found.damage not in {Damage.NONE, Damage.TORN}:
            return None
        self._place += found.good
        self._number += len(found.events)
        self._check = found.check
        return found.events

    def _again(self) -> list[Record]:
        """Read everything and omit records already returned."""
        chain = look(self._folder)
        refuse(self._folder, chain)
        given, last = self._number, chain.segments[-1]
        self._name = last.path.name if last.path is not None else ""
        self._place, self._number, self._check = chain.good, chain.number, chain.check
        return [event for event in chain.events if event.number > given] if given else chain.events


EXECUTE = "execute"
"""Phase of a milestone in which the issues of its roadmap are worked on."""


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """A phase in the workflow of one issue.

    Attributes:
        name: name of the phase.
        state: ``waiting`` for the phase before it, ``running``, ``held`` by its gate, or ``done``.
        done: number of finished steps.
        total: number of steps.
        percent: score of its gate once it has run; None before, and without a gate.
        reason: why its gate is held; empty otherwise.
    """

    name: str
    state: str
    done: int
    total: int
    percent: int | None = None
    reason: str = ""


def phases_of(flow: Flow, done: Mapping[str, bool], states: Mapping[str, StepState]) -> tuple[PhaseProgress, ...]:
    """Return the phases of a flow in order.

    Args:
        flow: the steps and gates of the issue.
        done: ``phase.step`` and ``phase.gate`` -> whether it is done.
        states: states of steps and gates in the journal.
    """
    found: list[PhaseProgress] = []
    complete = True
    for name in dict.fromkeys(step.phase for step in flow.steps):
        own = [step.id for step in flow.steps if step.phase == name and step.gate is None]
        gate = next((step.id for step in flow.steps if step.phase == name and step.gate is not None), None)
        ready = sum(done.get(step, False) for step in own)
        asked = states.get(gate) if gate is not None else None
        is_open = gate is None or done.get(gate, False)
        held = asked is not None and asked.word == "held" and not is_open
        going = "held" if held else "running" if complete else "waiting"
        state = "done" if ready == len(own) and is_open else going
        percent = asked.percent if asked is not None and (held or is_open) and asked.word else None
        reason = asked.reason if asked is not None and held else ""
        found.append(PhaseProgress(name, state, ready, len(own), percent, reason))
        complete = complete and state == "done"
    return tuple(found)


def milestone_phases(planning: Sequence[PhaseProgress], landed: int, total: int) -> tuple[PhaseProgress, ...]:
    """Return the phases of a milestone with a workflow: those of its planning issue, and the execution of its issues.

    Args:
        planning: phases of the planning issue.
        landed: number of landed issues that the roadmap declares.
        total: number of all issues that it declares.
    """
    planned = all(phase.state == "done" for phase in planning)
    state = "waiting" if not planned else "done" if total and landed == total else "running"
    return (*planning, PhaseProgress(EXECUTE, state, landed, total))


def started_steps(states: Mapping[str, StepState], attempt: int) -> list[str]:
    """Return the names of the steps in progress within an attempt."""
    return sorted(
        name
        for name, item in states.items()
        if item.word == "started" and item.attempt == attempt and not name.endswith(f".{GATE}")
    )


def phase_line(phases: Sequence[PhaseProgress]) -> str:
    """Format the phases as one line, for example ``design done 83 %, spec 2 of 5, task -, execute -``."""
    return ", ".join(_words(phase) for phase in phases)


def _words(phase: PhaseProgress) -> str:
    gate = f" {phase.percent} %" if phase.percent is not None else ""
    match phase.state:
        case "done":
            return f"{phase.name} done{gate}"
        case "held":
            return f"{phase.name} held{gate}"
        case "running":
            return f"{phase.name} {phase.done} of {phase.total}"
        case _:
            return f"{phase.name} -"
