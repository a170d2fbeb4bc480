"""A run with nothing else to do waits for an account to be usable again, if that is soon enough."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.allowance import told_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.session import Session

__all__ = ["Patience"]


class Patience:
    """How much longer a run may wait: `limits.wait_s` in all, and never past its deadline."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._left = session.policy.limits.wait_s

    def waited(self, refs: Iterable[str]) -> bool:
        """Whether there is something to do now for these issues, after waiting for it."""
        session, now = self._session, time.time()
        decisions = {ref: session.observer.decision(ref) for ref in refs}
        moments = {ref: item.wait.until for ref, item in decisions.items() if item.wait is not None}
        soon = {ref: until for ref, until in moments.items() if until}
        if not soon or session.stopping.is_set():
            return False
        ref = min(soon, key=lambda ref: soon[ref])
        seconds = max(0.0, soon[ref] - now)
        late = session.deadline is not None and soon[ref] >= session.deadline.timestamp()
        if late or seconds > self._left:
            return False
        self._left -= seconds
        session.tell(
            "wait", ref, f"nothing else to do: {decisions[ref].reason}; goes on at {told_time(soon[ref], now)}"
        )
        return not session.stopping.wait(seconds + 0.05)
