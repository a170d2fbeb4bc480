"""Lines at the foot of a terminal that are drawn again and again, below lines that stay. Not safe for threads."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Region", "terminal_size"]

_UP, _WIPE, _HOME = "\x1b[{}A", "\x1b[J", "\x1b[H\x1b[2J"


def terminal_size(stream: Any) -> tuple[int, int]:
    """Columns and lines of the terminal that a stream leads to."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return (size.columns or 80), (size.lines or 24)


class Region:
    """The foot of one terminal.

    After a change of size nobody knows where the old lines are: the screen is cleared, and the latest lines that stay
    are written again; `said` are those that were written before there was a foot.
    """

    def __init__(self, stream: Any, said: Sequence[str] = ()) -> None:
        self._stream = stream
        self._shown: list[str] = []
        self._said: deque[str] = deque(said, maxlen=200)
        self._size = terminal_size(stream)

    def say(self, line: str) -> None:
        """A line that stays."""
        self._said.append(line)
        self._put(f"{self._wiped()}{line}\n", self._shown)

    def show(self, lines: Sequence[str]) -> None:
        """What stands at the foot from now on."""
        size = terminal_size(self._stream)
        if size != self._size:
            self._size = size
            kept = list(self._said)[-max(0, size[1] - len(lines) - 1) :]
            self._shown = []
            self._put(_HOME + "".join(f"{line}\n" for line in kept), list(lines))
        elif list(lines) != self._shown:
            self._put(self._wiped(), list(lines))

    def _wiped(self) -> str:
        """Takes the lines at the foot off the screen."""
        return f"\r{_UP.format(len(self._shown))}{_WIPE}" if self._shown else ""

    def _put(self, before: str, lines: list[str]) -> None:
        self._stream.write(before + "".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._shown = lines
