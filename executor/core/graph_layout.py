"""Where the issues of a milestone stand in a drawing of what needs what: columns from left to right. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Drawing", "Place", "layout"]

_SWEEPS = 4
_TALLEST = 40
"""Most issues below one another; a wave of more takes several columns."""


@dataclass(frozen=True, slots=True)
class Place:
    """Column and row of an issue, both counted from 0."""

    column: int
    row: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """Places by id, edges as (what is needed, what needs it), and the extent."""

    places: Mapping[str, Place]
    edges: tuple[tuple[str, str], ...]
    columns: int
    rows: int


def layout(needs: Mapping[str, Sequence[str]]) -> Drawing:
    """The drawing of a graph without cycles; needs outside the mapping are left out.

    Every issue stands right of all that it needs; rows are ordered so that edges are short (barycentre sweeps).
    """
    inside = {ref: [need for need in wanted if need in needs] for ref, wanted in needs.items()}
    waves = _waves(inside)
    position = {ref: float(row) for wave in waves for row, ref in enumerate(wave)}
    dependents: dict[str, list[str]] = {ref: [] for ref in inside}
    for ref, wanted in inside.items():
        for need in wanted:
            dependents[need].append(ref)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        near = inside if forward else dependents
        for wave in waves if forward else reversed(waves):
            wave.sort(key=lambda ref: _middle(near[ref], position, position[ref]))
            position |= {ref: float(row) for row, ref in enumerate(wave)}
    places: dict[str, Place] = {}
    column = 0
    for wave in waves:
        for number, ref in enumerate(wave):
            places[ref] = Place(column + number // _TALLEST, number % _TALLEST)
        column += -(-len(wave) // _TALLEST)
    edges = tuple((need, ref) for ref, wanted in inside.items() for need in wanted)
    return Drawing(places, edges, column, min(_TALLEST, max(map(len, waves), default=0)))


def _waves(needs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    depth: dict[str, int] = {}
    for start in needs:
        waiting = [start]
        while waiting:
            ref = waiting[-1]
            missing = [need for need in needs[ref] if need not in depth]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            depth[ref] = max((depth[need] + 1 for need in needs[ref]), default=0)
    waves: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for ref in needs:
        waves[depth[ref]].append(ref)
    return waves


def _middle(near: Sequence[str], position: Mapping[str, float], own: float) -> float:
    return sum(position[ref] for ref in near) / len(near) if near else own
