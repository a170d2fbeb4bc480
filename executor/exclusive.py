"""Resources that issues name in their declarations and that running issues do not share."""

from __future__ import annotations

import threading

__all__ = ["Resources"]


class Resources:
    """Named resources that running issues do not share."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[str] = set()

    def acquire(self, names: tuple[str, ...]) -> None:
        """Wait until all of them are free and take them together."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy.isdisjoint(names))
            self._busy.update(names)

    def release(self, names: tuple[str, ...]) -> None:
        """Give them back."""
        with self._changed:
            self._busy.difference_update(names)
            self._changed.notify_all()
