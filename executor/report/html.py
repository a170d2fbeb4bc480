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


_SWEEPS = 4  # passes over the layers of the graph; further ones hardly move a node
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
_LARGE, _SMALL = (190, 36), (92, 20)
"""Width and height of an issue's box, with and without its title."""
_GAPS = (26, 10)
_TITLES = 100
"""Maximum number of boxes with titles; a larger drawing would be too large for a mail and a screen."""
_LANE = 14  # pixels of a bar's height
_WIDTH = 1000  # pixels of the drawing, which scales with the page
_ROWS = 60
"""Maximum number of lanes; with more parallel agents the drawing would be too tall."""
_IDLE = 0.2
"""Idle times are cut if they are longer than this share of the busy time."""
_CUT = 0.04
"""Width of a cut, as a share of the busy time."""
_DAY = 86_400.0  # seconds
_APART = 130
"""Smallest distance of the labels of the time axis."""


@dataclass(frozen=True, slots=True)
class _Node:
    issue: IssueReport
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class _Graph:
    """Boxes, lines (path, whether critical), sizes, and the number of issues without a line, which are left out."""

    nodes: list[_Node]
    edges: list[tuple[str, bool]]
    box: tuple[int, int]
    size: tuple[int, int]
    loose: int


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


@dataclass(frozen=True, slots=True)
class _TimeLine:
    """Bars in lanes; `labels` are the ids of issues with a lane each, or nothing if lanes are shared.

    Attributes:
        ticks: places from 0 to 1,000 and their times.
        cuts: places at which idle time is left out.
    """

    bars: list[_Bar]
    lanes: int
    labels: list[IssueReport]
    ticks: list[tuple[float, str]]
    cuts: list[float]
    span: tuple[str, str]


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
    return environment.get_template("report.html.j2").render(
        report=report,
        money_table=(MoneyReport.HEAD, [report.money.cells()]),
        survival_table=(SurvivalReport.HEAD, [found.cells() for found in report.survival]),
        numbers=numbers,
        graph=_graph(report),
        time=_timeline(report),
        lane=_LANE,
        width=_WIDTH,
        style=style,
        script=script,
        hashes=(_digest(style), _digest(script)),
    )


def _graph(report: MilestoneReport) -> _Graph:
    """Return the drawing of the issues that need others or are needed."""
    refs = {issue.ref for issue in report.issues}
    needs = {issue.ref: [need for need in issue.needs if need in refs] for issue in report.issues}
    needed = {need for wanted in needs.values() for need in wanted}
    shown = [issue for issue in report.issues if needs[issue.ref] or issue.ref in needed]
    drawing = layout({issue.ref: issue.needs for issue in shown})
    box_wide, box_high = box = _LARGE if len(shown) <= _TITLES else _SMALL
    wide, high = box_wide + _GAPS[0], box_high + _GAPS[1]
    at = {
        issue.ref: _Node(issue, drawing.places[issue.ref].column * wide + 4, drawing.places[issue.ref].row * high + 4)
        for issue in shown
    }
    critical = set(zip(report.critical_path, report.critical_path[1:], strict=False))
    edges = []
    for need, ref in sorted(drawing.edges, key=lambda edge: edge in critical):
        begin, end = at[need], at[ref]
        x1, y1, x2, y2 = begin.x + box_wide, begin.y + box_high // 2, end.x, end.y + box_high // 2
        middle = (x1 + x2) // 2
        edges.append((f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}", (need, ref) in critical))
    size = (drawing.columns * wide - _GAPS[0] + 8, drawing.rows * high - _GAPS[1] + 8)
    return _Graph(list(at.values()), edges, box, size, len(report.issues) - len(shown))


def _timeline(report: MilestoneReport) -> _TimeLine:
    """Return all attempts with known times; each issue has a lane, or attempts share lanes if there are too many."""
    known = [
        (issue, attempt, _seconds(attempt.started_at), _seconds(attempt.ended_at or attempt.started_at))
        for issue in report.issues
        for attempt in issue.attempts
        if attempt.started_at
    ]
    if not known:
        return _TimeLine([], 0, [], [], [], ("", ""))
    works = [(begin, begin + max(attempt.seconds, 0.02)) for _, attempt, begin, _ in known]
    spans = [(begin, max(end, judged)) for (begin, end), (*_, judged) in zip(works, known, strict=True)]
    pieces = _pieces(spans)
    places = [
        (_place(begin, pieces), _place(ended, pieces), _place(end, pieces))
        for (begin, ended), (_, end) in zip(works, spans, strict=True)
    ]
    issues = {issue.ref: issue for issue, *_ in known}
    rows = {ref: row for row, ref in enumerate(issues)}
    labelled = len(issues) <= _ROWS and not _overlap(known, spans)
    lanes = [rows[issue.ref] for issue, *_ in known] if labelled else in_lanes(spans)
    bars = [
        _Bar(
            issue,
            attempt,
            x=round(x, 1),
            y=lane * (_LANE + 2),
            width=max(round(worked - x, 1), 2.0),
            wait=round(judged - worked, 1),
            waited=end - ended,
        )
        for (issue, attempt, *_), (x, worked, judged), (_, ended), (_, end), lane in zip(
            known, places, works, spans, lanes, strict=True
        )
        if lane < _ROWS
    ]
    return _TimeLine(
        bars,
        1 + max(lane for lane in lanes if lane < _ROWS),
        list(issues.values()) if labelled else [],
        _ticks(pieces),
        [round(piece.x - _CUT * _WIDTH / 2, 1) for piece in pieces[1:]],
        (_moment(pieces[0].begin), _moment(pieces[-1].end)),
    )


def _moment(seconds: float) -> str:
    return local_time(datetime.fromtimestamp(seconds, UTC).isoformat())


def _overlap(known: Sequence[tuple[IssueReport, object, float, float]], spans: Sequence[tuple[float, float]]) -> bool:
    """Return whether two attempts of one issue overlap in time."""
    ends: dict[str, float] = {}
    for (begin, end), ref in sorted(zip(spans, (issue.ref for issue, *_ in known), strict=True)):
        if begin < ends.get(ref, begin):
            return True
        ends[ref] = end
    return False


@dataclass(frozen=True, slots=True)
class _Piece:
    """A busy part of the time axis: from the place x on, `scale` places for a second."""

    begin: float
    end: float
    x: float
    scale: float


def _pieces(spans: Sequence[tuple[float, float]]) -> list[_Piece]:
    """Cut the time axis at idle times that are long compared with the busy time, such as nights."""
    merged: list[list[float]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    busy = max(sum(end - begin for begin, end in merged), 1.0)
    parts = [merged[0]]
    for begin, end in merged[1:]:
        if begin - parts[-1][1] > busy * _IDLE:
            parts.append([begin, end])
        else:
            parts[-1][1] = end
    cut = _CUT * _WIDTH
    total = max(sum(end - begin for begin, end in parts), 1.0)
    scale = max(_WIDTH - cut * (len(parts) - 1), _WIDTH / 2) / total
    pieces, x = [], 0.0
    for begin, end in parts:
        pieces.append(_Piece(begin, end, x, scale))
        x += (end - begin) * scale + cut
    return pieces


def _place(moment: float, pieces: Sequence[_Piece]) -> float:
    piece = next(piece for piece in reversed(pieces) if piece.begin <= moment)
    return piece.x + (moment - piece.begin) * piece.scale


def _ticks(pieces: Sequence[_Piece]) -> list[tuple[float, str]]:
    """Return the labels of the axis: beginnings of busy parts, or quarters if there is one part."""
    first, last = pieces[0].begin, pieces[-1].end
    moments = [piece.begin for piece in pieces]
    if len(pieces) == 1:
        moments = [first + (last - first) * quarter / 4 for quarter in range(4)]
    shown: list[tuple[float, str]] = []
    for moment in moments:
        x = round(_place(moment, pieces), 1)
        if not shown or x - shown[-1][0] >= _APART:
            text = local_time(datetime.fromtimestamp(moment, UTC).isoformat())
            shown.append((x, text[11:19] if last - first < _DAY else text[5:16]))
    return shown


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return the hash of an inline style or script for a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
