"""Signals during a run: the first one lets it end, the second one kills what it has begun."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.session import Session

__all__ = ["CODES", "signals_heeded"]

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
"""Exit codes of a run that a signal ended."""


@contextmanager
def signals_heeded(session: Session) -> Iterator[list[int]]:
    """First signal: nothing new is started, children are asked to end. Second: they are killed."""
    received: list[int] = []

    def handle(number: int, _frame: object) -> None:
        received.append(number)
        session.stop(kill=len(received) > 1)

    before = {number: signal.signal(number, handle) for number in CODES}
    try:
        yield received
    finally:
        for number, old in before.items():
            signal.signal(number, old)
