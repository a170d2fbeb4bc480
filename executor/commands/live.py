"""The live view of a run on a terminal: plain lines as ever, and below them how far it is and who is at work."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from executor.commands.drawing import Drawing
from executor.commands.region import Region, terminal_size
from executor.commands.reporter import Reporter
from executor.picture import picture_of, standing_of

if TYPE_CHECKING:
    from executor.session import Session

__all__ = ["LiveReporter"]

_EVERY = 0.5
_SHARE = 20
"""A picture of a very large milestone takes its time; it is made less often then."""


class LiveReporter(Reporter):
    """A doit reporter for a terminal; `complete_run` has to be called, it gives the terminal back."""

    stamp = "%H:%M:%S"

    def __init__(self, stream: Any, session: Session, workers: int) -> None:
        super().__init__(stream, session)
        self._workers = workers
        self._region = Region(stream, session.said)
        self._drawing = Drawing(stream)
        self._taken_up: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="live view", daemon=True)

    def initialize(self, _tasks: Any, _selected: Any) -> None:
        """The run begins."""
        self._thread.start()

    def execute_task(self, task: Any) -> None:
        """An issue is being worked on."""
        self._taken_up[task.name.partition(":")[2]] = time.time()
        super().execute_task(task)

    def add_success(self, task: Any) -> None:
        """An issue has landed."""
        self._taken_up.pop(task.name.partition(":")[2], None)
        super().add_success(task)

    def add_failure(self, task: Any, fail: Any) -> None:
        """An issue is at rest without having landed."""
        self._taken_up.pop(task.name.partition(":")[2], None)
        super().add_failure(task, fail)

    def complete_run(self) -> None:
        """The view goes away; the summary is printed by the command."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._region.show([])

    def _put(self, line: str) -> None:
        self._region.say(line)

    def _draw(self) -> None:
        pause = _EVERY
        while not self._ended.wait(pause):
            began = time.monotonic()
            width, height = terminal_size(self._stream)
            try:
                lines = self._lines(max(20, width - 1), max(3, height // 2))
            except Exception as error:  # noqa: BLE001  (a view must not end what it shows)
                lines = [f"the live view cannot be drawn: {type(error).__name__}"]
            with self._lock:
                self._region.show(lines)
            pause = max(_EVERY, _SHARE * (time.monotonic() - began))

    def _lines(self, width: int, height: int) -> list[str]:
        taken_up = dict(self._taken_up)
        pictures = [
            picture_of(
                self._session.observer,
                run.name,
                list(run.journal.events),
                at=time.time(),
                standing=standing_of(self._session.observer, run.name, held=True),
                alive=self._session.run_id,
                workers=self._workers,
                taken_up={
                    ref.partition("/")[2]: since for ref, since in taken_up.items() if ref.partition("/")[0] == run.name
                },
            )
            for run in self._session.runs()
        ]
        return self._drawing.region(pictures, width, height)
