"""Duration estimates for issues, and forecasts for milestones. Pure: past durations and the plan in, seconds out.

Durations are lognormal to a good approximation: many are short and a few are very long. So the estimate averages
factors instead of seconds, and the mean is above the median. A size without past durations uses those of all others.

The duration of each landed issue from the journal: time between records of the runs that worked on it. Pure.

How well the selection of tests held: the tests that it skipped, and the results with a fault that it missed. Pure.

The forecast for the rest of a milestone, as a range: p50 and p80 over many simulated runs. Pure.

Each simulated run draws a duration for every issue from past issues of its size, and a shift for all issues of a size:
the fewer durations are known, the further the true median may be from the estimated one.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from executor.model.plan import WEIGHTS
from executor.state.events import AttemptFailed, AttemptInterrupted, AttemptStarted, Checked, Landed, Selected, Stopped
from executor.state.record import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from executor.state.record import Record

__all__ = [
    "Calibration",
    "Durations",
    "Effort",
    "Forecast",
    "Past",
    "Piece",
    "Selections",
    "Todo",
    "calibration",
    "durations",
    "expected_seconds",
    "forecast",
    "schedule",
    "selections",
    "took",
]


_UNIT = 300.0
"""Seconds of the smallest size while no duration is known."""
_SPREAD = 0.7  # standard deviation of the logarithm: two of three durations within a factor of two
_LEAST_SPREAD, _MOST_SPREAD = 0.1, 1.2
_DOUBT = 0.1
"""Weight of the first guess in past durations: the first real ones replace it."""
_DOUBT_OF_SIZE = 2.0
"""Weight of other sizes in durations of one size."""
_DOUBT_OF_SPREAD = 4.0  # weight of the first guess of the spread, in durations; a choice
_SHORTEST = 0.001  # seconds; the logarithm of nothing is none


@dataclass(frozen=True, slots=True)
class Durations:
    """Expected durations, estimated from past ones.

    Attributes:
        middles: size -> median seconds of issues of that size.
        spread: standard deviation of the logarithms.
        known: number of past durations; 0 for a mere guess.
    """

    middles: Mapping[str, float]
    spread: float
    known: int

    def expected(self, size: str = "M") -> float:
        """Return the mean seconds of an issue of a size from its start to its landing."""
        return self.middles[size] * math.exp(self.spread**2 / 2)

    def left(self, size: str, elapsed: float) -> float:
        """Return the mean remaining seconds of an issue that has taken `elapsed` seconds and has not landed."""
        if elapsed <= 0:
            return self.expected(size)
        far = (math.log(elapsed) - math.log(self.middles[size])) / self.spread
        still = math.erfc(far / math.sqrt(2))
        if still < 1e-12:  # noqa: PLR2004  (beyond what the formula can tell; the tail's own rule of thumb)
            return elapsed * self.spread / far
        return max(0.0, self.expected(size) * math.erfc((far - self.spread) / math.sqrt(2)) / still - elapsed)


@dataclass(frozen=True, slots=True)
class Todo:
    """An open issue that will be worked on.

    Attributes:
        ref: its id.
        seconds: expected duration from now, or from its start.
        needs: ids of its needs; those that are not in the list count as landed.
        running: it is in progress now.
    """

    ref: str
    seconds: float
    needs: tuple[str, ...] = ()
    running: bool = False


def durations(past: Iterable[tuple[str, float]]) -> Durations:
    """Estimate durations from (size, seconds) of landed issues; without any, guess by size."""
    factors: defaultdict[str, list[float]] = defaultdict(list)
    for size, seconds in past:
        factors[size].append(math.log(max(seconds, _SHORTEST) / (_UNIT * WEIGHTS[size])))
    every = [factor for own in factors.values() for factor in own]
    common = sum(every) / (len(every) + _DOUBT)
    own_factor = {
        size: (sum(factors[size]) + _DOUBT_OF_SIZE * common) / (len(factors[size]) + _DOUBT_OF_SIZE) for size in WEIGHTS
    }
    squares = sum((factor - own_factor[size]) ** 2 for size, own in factors.items() for factor in own)
    spread = math.sqrt((squares + _DOUBT_OF_SPREAD * _SPREAD**2) / (len(every) + _DOUBT_OF_SPREAD))
    return Durations(
        {size: _UNIT * weight * math.exp(own_factor[size]) for size, weight in WEIGHTS.items()},
        min(_MOST_SPREAD, max(_LEAST_SPREAD, spread)),
        len(every),
    )


def expected_seconds(size: str, past: Iterable[tuple[str, float]]) -> float:
    """Return the mean seconds of an issue of a size (S, M or L), estimated from (size, seconds) of landed ones."""
    return durations(past).expected(size)


def schedule(todo: Sequence[Todo], workers: int) -> dict[str, float]:
    """Return the end of each issue in seconds from now, if a free worker always takes the first ready one.

    Args:
        todo: in the order of the plan; running issues keep their worker.
        workers: number of parallel issues, at least 1.
    """
    names = {item.ref for item in todo}
    left = {item.ref: sum(need in names for need in item.needs) for item in todo}
    dependents: defaultdict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(todo):
        for need in item.needs:
            dependents[need].append(place)
    busy = [(item.seconds, place) for place, item in enumerate(todo) if item.running]
    ready = [place for place, item in enumerate(todo) if not item.running and not left[item.ref]]
    heapq.heapify(busy)
    ends: dict[str, float] = {}
    now = 0.0
    while busy or ready:
        while ready and len(busy) < max(1, workers):
            place = heapq.heappop(ready)
            heapq.heappush(busy, (now + todo[place].seconds, place))
        now, place = heapq.heappop(busy)
        ends[todo[place].ref] = now
        for dependent in dependents[todo[place].ref]:
            item = todo[dependent]
            left[item.ref] -= 1
            if not left[item.ref] and not item.running:
                heapq.heappush(ready, dependent)
    return ends


_ENDS = frozenset({Landed.KIND, AttemptFailed.KIND, AttemptInterrupted.KIND, Stopped.KIND})


@dataclass(slots=True)
class Effort:
    """Work on an issue that has not landed yet.

    Attributes:
        run: the run that works on it; empty if none does.
        since: time at which that run started it, seconds since 1970.
        last: time of its latest record of the issue.
        before: seconds of earlier attempts and runs.
    """

    run: str = ""
    since: float = 0.0
    last: float = 0.0
    before: float = 0.0

    def take(self, event: Record) -> float | None:
        """Process a record of the issue; returns the total seconds if the record is its landing."""
        at = moment(event.at)
        if self.run and self.run != event.run:
            self._rest()
        if self.run:
            self.last = max(self.last, at)
        elif event.kind == AttemptStarted.KIND:
            self.run, self.since, self.last = event.run, at, at
        elif self.before and isinstance(fact := event.event, Checked):
            self.run, self.since, self.last = event.run, at - fact.seconds, at
        if event.kind in _ENDS:
            self._rest()
        if event.kind != Landed.KIND:
            return None
        seconds, self.before = self.before, 0.0
        return seconds or None

    def _rest(self) -> None:
        self.before += max(0.0, self.last - self.since)
        self.run = ""


def took(events: Iterable[Record]) -> list[tuple[str, float]]:
    """Return issue and seconds of every landing with a recorded start, oldest first."""
    efforts: dict[str, Effort] = {}
    found: list[tuple[str, float]] = []
    for event in events:
        if event.key:
            seconds = efforts.setdefault(event.key, Effort()).take(event)
            if seconds is not None:
                found.append((event.key, seconds))
    return found


_ROUNDS, _FEWEST = 200, 40
_DOUBT_OF_WORK = 2.0
"""Variance of the median of a size, in variances of a duration, before the first one is known."""
_WORK = 40_000
"""Maximum number of issues times simulated runs; a very large milestone gets fewer simulations."""
_MASK = 2**64 - 1  # 64 bits of splitmix64, whose constants follow
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Piece:
    """An issue in a forecast: its id, size and needs, and its real seconds once it has landed."""

    ref: str
    size: str
    needs: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds until the rest ends: in half of the simulated runs, and in four of five.

    `known` is the number of past durations; 0 for a mere guess.
    """

    p50_s: float
    p80_s: float
    known: int


@dataclass(frozen=True, slots=True)
class Past:
    """A landed milestone: its issues with their real seconds."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How many past milestones ended within the p80 forecast from all others."""

    milestones: int
    inside: int


def forecast(pieces: Sequence[Piece], past: Iterable[tuple[str, float]], workers: int) -> Forecast | None:
    """Return the forecast for issues in plan order; None without issues.

    Args:
        pieces: the issues that have not landed.
        past: size and seconds of landed issues.
        workers: number of parallel issues.
    """
    if not pieces:
        return None
    seen = list(past)
    known = durations(seen)
    counts = Counter(size for size, _ in seen)
    doubts = {size: known.spread * math.sqrt(_DOUBT_OF_WORK / (counts[size] + 1)) for size in known.middles}
    rounds = max(_FEWEST, min(_ROUNDS, _WORK // len(pieces)))
    ends = sorted(_simulated(pieces, known, doubts, workers, number) for number in range(rounds))
    return Forecast(_quantile(ends, 0.5), _quantile(ends, 0.8), known.known)


def calibration(milestones: Sequence[Past], workers: int) -> Calibration:
    """Evaluate forecasts on past milestones: each is forecast from all others and compared with reality."""
    inside = counted = 0
    for place, past in enumerate(milestones):
        others = [
            (item.size, item.seconds)
            for other in (*milestones[:place], *milestones[place + 1 :])
            for item in other.pieces
        ]
        found = forecast(past.pieces, others, workers) if others else None
        if found is not None:
            counted += 1
            inside += _end([Todo(item.ref, item.seconds, item.needs) for item in past.pieces], workers) <= found.p80_s
    return Calibration(counted, inside)


def _simulated(
    pieces: Sequence[Piece], known: Durations, doubts: Mapping[str, float], workers: int, number: int
) -> float:
    shifts = {size: doubt * _normal(number, -place) for place, (size, doubt) in enumerate(doubts.items(), 1)}
    todo = []
    for place, item in enumerate(pieces, 1):
        factor = math.exp(shifts[item.size] + known.spread * _normal(number, place))
        todo.append(Todo(item.ref, known.middles[item.size] * factor, item.needs))
    return _end(todo, workers)


def _end(todo: Sequence[Todo], workers: int) -> float:
    return max(schedule(todo, workers).values(), default=0.0)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _normal(number: int, place: int) -> float:
    """Return a normal deviate that depends only on its position, so equal facts give an equal forecast.

    The mixing is that of splitmix64 (Steele, Lea and Flood, 2014).
    """
    mixed = ((number + 1) * 0x9E3779B97F4A7C15 + (place + 1) * 0xD1B54A32D192ED03) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return _NORMAL.inv_cdf(((mixed ^ (mixed >> 31)) + 0.5) / 2**64)


@dataclass(frozen=True, slots=True)
class Selections:
    """How well the selection of tests held.

    Attributes:
        results: results for which tests were selected.
        missed: those of them whose fault none of the selected tests showed.
        failed: those that failed selected tests.
        tests: number of selected tests, all results together.
        of: number of tests of their checks.
    """

    results: int = 0
    missed: int = 0
    failed: int = 0
    tests: int = 0
    of: int = 0

    def __str__(self) -> str:
        """Format as ``skipped 70 %, missed 0 of 1,240 results``; empty without any."""
        skipped = 100 - round(100 * self.tests / self.of) if self.of else 0
        return f"skipped {skipped} %, missed {self.missed:,} of {self.results:,} results" if self.results else ""


def selections(records: Iterable[Record]) -> Selections:
    """Count the selections of tests in a journal."""
    found: dict[str, set[tuple[str, int]]] = defaultdict(set)
    tests = of = 0
    for record in records:
        if isinstance(record.event, Selected):
            found[record.event.outcome].add((record.key, record.event.attempt))
            if record.event.outcome != "missed":
                tests, of = tests + record.event.tests, of + record.event.of
    every = frozenset().union(*found.values())
    return Selections(len(every), len(found["missed"]), len(found["failed"]), tests, of)
