"""`doit watch`: a dashboard of any milestone, from another terminal; reads only, never disturbs a run."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from executor.commands.base import JSON_OPTION, Command, print_json, safe
from executor.commands.reporter import on_a_terminal
from executor.core.sessions import How
from executor.errors import UsageError
from executor.project import open_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.commands.looking import Looker
    from executor.picture import Picture

__all__ = ["Watch"]

_SHARE = 4
"""At most every so many times as often as a picture takes to make."""


def _flag(name: str, told: str) -> dict[str, Any]:
    return {"name": name, "short": "", "long": name, "type": bool, "default": False, "help": told}


_INTERVAL = {
    "name": "interval",
    "short": "",
    "long": "interval",
    "type": float,
    "default": 1.0,
    "help": "seconds between two looks",
}


class Watch(Command):
    """Shows milestones being run, or how the latest run of them ended."""

    name = "watch"
    doc_purpose = "watch milestones being run, from another terminal"
    doc_usage = "[MILESTONE ...]"
    cmd_options = (
        _flag("plain", "plain text, one block for each change"),
        _flag("once", "show it once"),
        _flag("follow", "stay when no run is under way, until interrupted"),
        _INTERVAL,
        JSON_OPTION,
    )

    def run(self, options: dict[str, Any], arguments: list[str]) -> int:
        """Show it until no run is under way."""
        from executor.commands.looking import Looker

        if options["interval"] <= 0:
            raise UsageError("--interval: expected a number of seconds above 0")
        looker = Looker(open_project(), [name.removeprefix("milestone:") for name in arguments])
        if not looker.names:
            raise UsageError("milestones/ declares nothing to watch; `doit init` shows how to begin")
        plain = options["plain"] or not on_a_terminal(sys.stdout)
        if options["json"]:
            from executor.commands.block import picture_value

            print_json({"milestones": [picture_value(picture) for picture in looker.pictures()]})
        elif options["once"] and plain:
            _Blocks().show(looker.pictures(), "")
        elif options["once"]:
            _Screen().rest(looker.pictures())
        else:
            _watch(looker, _Blocks() if plain else _Screen(), options["interval"], follow=options["follow"])
        return 0


def _watch(looker: Looker, view: _Blocks | _Screen, interval: float, *, follow: bool) -> None:
    """Show pictures until no run is under way, or for ever; interrupting is the way out."""
    pictures: list[Picture] = []
    with view.open():
        try:
            while True:
                began = time.monotonic()
                pictures = looker.pictures()
                view.show(pictures, looker.problem)
                if not follow and not any(item.run and item.run.how is How.RUNNING for item in pictures):
                    break
                time.sleep(max(interval, _SHARE * (time.monotonic() - began)))
        except KeyboardInterrupt:
            pass
    view.rest(pictures)


class _Blocks:
    """Plain text: everything once, then what changes."""

    def __init__(self) -> None:
        self._before: dict[str, Picture] = {}
        self._problem = ""

    @contextmanager
    def open(self) -> Iterator[None]:
        yield

    def show(self, pictures: Sequence[Picture], problem: str) -> None:
        from executor.commands.block import block, change_block

        for picture in pictures:
            before = self._before.get(picture.milestone)
            text = block(picture) if before is None else change_block(before, picture)
            if text:
                self._before[picture.milestone] = picture
                sys.stdout.write(text)
        if problem != self._problem:
            self._problem = problem
            sys.stdout.write(f"{safe(problem)}\n" if problem else "the declarations are in order again\n")
        sys.stdout.flush()

    def rest(self, pictures: Sequence[Picture]) -> None:
        """Everything has been said."""


class _Screen:
    """The whole terminal, drawn again and again; what stood there before comes back, and the last picture stays."""

    def __init__(self) -> None:
        from executor.commands.drawing import Drawing

        self._drawing = Drawing(sys.stdout)

    @contextmanager
    def open(self) -> Iterator[None]:
        before = signal.signal(signal.SIGTERM, _terminated)
        sys.stdout.write("\x1b[?1049h\x1b[H\x1b[2J")
        try:
            yield
        finally:
            sys.stdout.write("\x1b[?1049l")
            sys.stdout.flush()
            signal.signal(signal.SIGTERM, before)

    def show(self, pictures: Sequence[Picture], problem: str) -> None:
        lines = self._lines(pictures, 2 if problem else 0)
        lines += ["", safe(problem)] if problem else []
        sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        sys.stdout.flush()

    def rest(self, pictures: Sequence[Picture]) -> None:
        sys.stdout.write("".join(f"{line}\n" for line in self._lines(pictures, 1)))

    def _lines(self, pictures: Sequence[Picture], less: int) -> list[str]:
        from executor.commands.region import terminal_size

        width, height = terminal_size(sys.stdout)
        return self._drawing.screen(pictures, max(20, width - 1), max(8, height - less))


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(143)
