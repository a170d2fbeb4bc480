"""When the rest of a milestone will have landed, as a range: p50 and p80 over many simulated runs. Pure.

Each simulated run draws a duration for every issue from what issues of its size have taken, and a shift for all issues
of a size: the fewer durations of it are known, the further its true middle may be from the estimated one.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from executor.status.estimate import Todo, durations, schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from executor.status.estimate import Durations

__all__ = ["Calibration", "Forecast", "Past", "Piece", "calibration", "forecast"]

_ROUNDS, _FEWEST = 200, 40
_DOUBT = 2.0
"""Variance of the middle of a size, in variances of a duration, before the first one is known."""
_WORK = 40_000
"""Issues times simulated runs, at most; a very large milestone is simulated less often."""
_MASK = 2**64 - 1
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Piece:
    """An issue to be forecast: its name, its size, what it needs, and its real seconds once it has landed."""

    ref: str
    size: str
    needs: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds within which the rest ends: in half of the simulated runs, and in four of five.

    `known` is the number of past durations that it rests on; 0 for a mere guess.
    """

    p50_s: float
    p80_s: float
    known: int


@dataclass(frozen=True, slots=True)
class Past:
    """A milestone that has landed: its issues with their real seconds."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of how many past milestones the work ended within the p80 that the others would have forecast."""

    milestones: int
    inside: int


def forecast(pieces: Sequence[Piece], past: Iterable[tuple[str, float]], workers: int) -> Forecast | None:
    """The forecast for issues in the order of the plan; None when there are none.

    Args:
        pieces: the issues that have not landed.
        past: size and seconds of landed issues.
        workers: how many issues are worked on at a time.
    """
    if not pieces:
        return None
    seen = list(past)
    known = durations(seen)
    counts = Counter(size for size, _ in seen)
    doubts = {size: known.spread * math.sqrt(_DOUBT / (counts[size] + 1)) for size in known.middles}
    rounds = max(_FEWEST, min(_ROUNDS, _WORK // len(pieces)))
    ends = sorted(_simulated(pieces, known, doubts, workers, number) for number in range(rounds))
    return Forecast(_quantile(ends, 0.5), _quantile(ends, 0.8), known.known)


def calibration(milestones: Sequence[Past], workers: int) -> Calibration:
    """How well forecasts would have done: each milestone, forecast from all others, against what happened."""
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
    """A normal deviate that depends on nothing but its place, so that the same facts give the same forecast.

    The mixing is that of splitmix64 (Steele, Lea and Flood, 2014).
    """
    mixed = ((number + 1) * 0x9E3779B97F4A7C15 + (place + 1) * 0xD1B54A32D192ED03) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return _NORMAL.inv_cdf(((mixed ^ (mixed >> 31)) + 0.5) / 2**64)
