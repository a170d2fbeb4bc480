"""A report as one self-contained page: no network, no external file; all external text is inert.

Positions of a milestone's issues in a dependency graph: columns from left to right. Pure.

Time spans in as few lanes as possible, so that none covers another in a drawing. Pure.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from executor.process.files import local_time
from executor.report.snapshot import MoneyReport, SurvivalReport
from executor.report.text import duration, money

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.report.collect import AttemptReport, IssueReport, MilestoneReport

__all__ = ["Drawing", "Place", "in_lanes", "layout", "page"]


_SWEEPS = 4
_TALLEST = 40
"""Maximum number of issues in a column; a larger wave takes several columns."""


@dataclass(frozen=True, slots=True)
class Place:
    """Column and row of an issue, both counted from 0."""

    column: int
    row: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """Places by id, edges as (need, dependent), and the extent."""

    places: Mapping[str, Place]
    edges: tuple[tuple[str, str], ...]
    columns: int
    rows: int


def layout(needs: Mapping[str, Sequence[str]]) -> Drawing:
    """Lay out a graph without cycles; needs outside the mapping are ignored.

    Every issue is to the right of all its needs; rows are ordered for short edges (barycentre sweeps).
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


def in_lanes(spans: Sequence[tuple[float, float]]) -> list[int]:
    """Return the lane of each span (begin, end), counted from 0; overlapping spans have different lanes."""
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


_TEMPLATES = Path(__file__).parent / "templates"
_CELL = (118, 30)
_BOX = (92, 20)
_LANE = 14
_WIDTH = 1000
_ROWS = 60
"""Maximum number of lanes; with more parallel agents the drawing would be too tall."""


@dataclass(frozen=True, slots=True)
class _Node:
    issue: IssueReport
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class _Bar:
    """An attempt in the time line; `wait` is the width of its checks and of its place in the queue."""

    issue: IssueReport
    attempt: AttemptReport
    x: float
    y: int
    width: float
    wait: float
    waited: float


def page(report: MilestoneReport) -> str:
    """Render the page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "money": money, "local": local_time}
    style, script = (_text(name) for name in ("report.css", "report.js"))
    numbers = {issue.ref: number for number, issue in enumerate(report.issues)}
    nodes, edges, size = _graph(report)
    bars, lanes, span = _timeline(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        money_table=(MoneyReport.HEAD, [report.money.cells()]),
        survival_table=(SurvivalReport.HEAD, [found.cells() for found in report.survival]),
        numbers=numbers,
        nodes=nodes,
        edges=edges,
        graph=size,
        bars=bars,
        lane=_LANE,
        lanes=lanes,
        width=_WIDTH,
        span=span,
        style=style,
        script=script,
        hashes=(_digest(style), _digest(script)),
    )


def _graph(report: MilestoneReport) -> tuple[list[_Node], list[tuple[str, bool]], tuple[int, int]]:
    """Return boxes, lines (path, whether critical) and the size of the drawing."""
    drawing = layout({issue.ref: issue.needs for issue in report.issues})
    (wide, high), (box_wide, box_high) = _CELL, _BOX
    nodes = [
        _Node(issue, drawing.places[issue.ref].column * wide + 4, drawing.places[issue.ref].row * high + 4)
        for issue in report.issues
    ]
    at = {node.issue.ref: node for node in nodes}
    critical = set(zip(report.critical_path, report.critical_path[1:], strict=False))
    edges = []
    for need, ref in sorted(drawing.edges, key=lambda edge: edge in critical):
        begin, end = at[need], at[ref]
        x1, y1, x2, y2 = begin.x + box_wide, begin.y + box_high // 2, end.x, end.y + box_high // 2
        middle = (x1 + x2) // 2
        edges.append((f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}", (need, ref) in critical))
    return nodes, edges, (drawing.columns * wide, drawing.rows * high)


def _timeline(report: MilestoneReport) -> tuple[list[_Bar], int, tuple[str, str]]:
    """Return bars of all attempts with known times, the number of lanes, and first and last time."""
    known = [
        (issue, attempt, _seconds(attempt.started_at), _seconds(attempt.ended_at or attempt.started_at))
        for issue in report.issues
        for attempt in issue.attempts
        if attempt.started_at
    ]
    if not known:
        return [], 0, ("", "")
    works = [(begin, begin + max(attempt.seconds, 0.02)) for _, attempt, begin, _ in known]
    spans = [(begin, max(end, judged)) for (begin, end), (*_, judged) in zip(works, known, strict=True)]
    first, last = min(begin for begin, _ in spans), max(end for _, end in spans)
    scale = _WIDTH / max(last - first, 1.0)
    bars = [
        _Bar(
            issue,
            attempt,
            x=round((begin - first) * scale, 1),
            y=lane * (_LANE + 2),
            width=max(round((ended - begin) * scale, 1), 2.0),
            wait=round((end - ended) * scale, 1),
            waited=end - ended,
        )
        for (issue, attempt, *_), (begin, ended), (_, end), lane in zip(
            known, works, spans, in_lanes(spans), strict=True
        )
        if lane < _ROWS
    ]
    lanes = 1 + max(bar.y // (_LANE + 2) for bar in bars)
    begins = [attempt.started_at for _, attempt, *_ in known]
    return bars, lanes, (local_time(min(begins)), local_time(datetime.fromtimestamp(last, UTC).isoformat()))


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return the hash of an inline style or script for a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
