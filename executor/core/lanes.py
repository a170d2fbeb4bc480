"""Spans of time in as few lanes as possible, for a drawing in which none covers another. Pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["in_lanes"]


def in_lanes(spans: Sequence[tuple[float, float]]) -> list[int]:
    """The lane of each span (begin, end), counted from 0; spans that overlap have different ones."""
    lanes = [0] * len(spans)
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    used = 0
    for place in sorted(range(len(spans)), key=lambda item: spans[item]):
        begin, end = spans[place]
        while busy and busy[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, used = used, used + 1
        lanes[place] = lane
        heapq.heappush(busy, (end, lane))
    return lanes
