"""Pictures of milestones as lines for a terminal, as wide and as high as it is. The one place that knows rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from executor.commands.base import safe
from executor.commands.words import ago, ending, event_line, headline, money, run_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.picture import Picture, Row, Working

__all__ = ["Drawing"]

_STYLES = {
    "landed": "green",
    "running": "cyan",
    "open": "cyan",
    "failed": "red",
    "skipped": "yellow",
    "review": "yellow",
    "stale": "magenta",
    "blocked": "dim",
}
_WIDE = 110
"""Columns from which on there is room for more than the necessary."""
_MOST = 120
"""Columns beyond which what belongs together would stand too far apart."""


class Drawing:
    """Draws for one terminal; colours as it has them, none with NO_COLOR."""

    def __init__(self, stream: Any) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)

    def region(self, pictures: Sequence[Picture], width: int, height: int) -> list[str]:
        """What stands below the lines of a run: how far it is and what is being worked on; active rows only."""
        parts: list[RenderableType] = []
        narrow = min(width, _MOST)
        room = max(1, (height - 3 * len(pictures)) // max(1, len(pictures)))
        for picture in pictures:
            parts += [_head(picture), _bar(picture, narrow), _working(picture.working, room, narrow)]
        return self._lines(Group(*parts), narrow)[:height]

    def screen(self, pictures: Sequence[Picture], width: int, height: int) -> list[str]:
        """A whole screen: the same, every issue as far as there is room, and the latest events."""
        lines: list[str] = []
        share = height // max(1, len(pictures))
        for picture in pictures:
            lines += self._screen(picture, width, share)
        return lines[:height]

    def _screen(self, picture: Picture, width: int, height: int) -> list[str]:
        note = run_note(picture)
        top: list[RenderableType] = [_head(picture), _bar(picture, min(width, _MOST))]
        if note:
            style = "red" if picture.run is not None and picture.run.cut_off else ""
            top.append(Text(safe(note), style))
        events = [_one_line(event_line(event), "dim") for event in picture.last]
        narrow = min(width, _MOST)
        head, tail = self._lines(Group(*top), narrow), self._lines(Group(*events), width) if events else []
        active = self._lines(_working(picture.working, max(1, height // 4), narrow), narrow) if picture.working else []
        room = height - len(head) - len(active) - len(tail) - 2
        shown, above, below = _window(picture.rows, max(1, room))
        parts = [_one_line(f"  ... {above} more above", "dim")] if above else []
        parts_below = [_one_line(f"  ... {below} more below", "dim")] if below else []
        table = self._lines(Group(*parts, _tasks(shown, width), *parts_below), width)
        lines = [*head, *active, "", *table, "", *tail]
        return lines[:height]

    def _lines(self, drawn: RenderableType, width: int) -> list[str]:
        self._console.width = width
        with self._console.capture() as capture:
            self._console.print(drawn)
        return capture.get().rstrip("\n").split("\n")


def _one_line(text: str, style: str = "") -> Text:
    return Text(safe(text), style=style, no_wrap=True, overflow="ellipsis")


def _head(picture: Picture) -> Table:
    grid = _grid()
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    title = Text.assemble((safe(picture.milestone), "bold"), " ", safe(picture.title))
    grid.add_row(title, Text(headline(picture)))
    return grid


def _bar(picture: Picture, width: int) -> Table:
    grid = _grid()
    grid.add_column(ratio=1)
    facts = [f"{picture.percent} %", money(picture.cost_usd), *ending(picture)]
    bar = ProgressBar(total=100, completed=picture.percent, width=max(8, min(60, width // 3)))
    for _ in facts:
        grid.add_column(justify="right", no_wrap=True)
    grid.add_row(bar, *(Text(fact) for fact in facts))
    return grid


def _working(working: Sequence[Working], room: int, width: int) -> RenderableType:
    grid = _grid()
    grid.add_column(no_wrap=True, max_width=max(12, width // 4), overflow="ellipsis", style="cyan")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True, max_width=max(14, width // 4), overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    shown = working if len(working) <= room else working[: max(1, room - 1)]
    for item in shown:
        tried = f"{item.what}, attempt {item.attempt}" if item.attempt > 1 or width >= _WIDE else item.what
        quiet = Text(f"{'stalled' if item.stalled else 'quiet'} {ago(item.quiet)}", "red" if item.stalled else "dim")
        grid.add_row(Text(safe(item.ref)), Text(safe(item.title)), Text(safe(tried)), Text(ago(item.elapsed)), quiet)
    if len(shown) == len(working):
        return grid
    return Group(grid, _one_line(f"  ... and {len(working) - len(shown)} more", "dim"))


def _tasks(rows: Sequence[Row], width: int) -> Table:
    grid = _grid()
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, max_width=max(12, width // 4), overflow="ellipsis")
    grid.add_column(no_wrap=True, max_width=max(20, width // 3), overflow="ellipsis")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for row in rows:
        status = Text(row.status, _STYLES.get(row.status, ""))
        grid.add_row(status, Text(safe(row.ref)), Text(safe(row.title)), Text(safe(row.reason), "dim"))
    return grid


def _window(rows: Sequence[Row], room: int) -> tuple[Sequence[Row], int, int]:
    """As many rows as there is room for, around the first that is active, and how many are above and below them."""
    if len(rows) <= room:
        return rows, 0, 0
    active = next((place for place, row in enumerate(rows) if row.status == "running"), None)
    if active is None:
        active = next((place for place, row in enumerate(rows) if row.status != "landed"), 0)
    room = max(1, room - 2)
    first = max(0, min(active - room // 4, len(rows) - room))
    return rows[first : first + room], first, len(rows) - first - room


def _grid() -> Table:
    return Table.grid(padding=(0, 2, 0, 0), expand=True)
