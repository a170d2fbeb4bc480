"""A run with nothing else to do waits for an account to be usable again, if that is soon enough."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.allowance import told_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.session import Session

__all__ = ["waited"]


def waited(session: Session, refs: Iterable[str]) -> bool:
    """Whether there is something to do now for these issues after waiting for it, at most `limits.wait_s` in all."""
    now = time.time()
    decisions = {ref: session.observer.decision(ref) for ref in refs}
    moments = {ref: item.wait.until for ref, item in decisions.items() if item.wait is not None}
    soon = {ref: until for ref, until in moments.items() if until is not None and until > 0}
    if not soon or session.stopping.is_set():
        return False
    ref = min(soon, key=lambda ref: soon[ref])
    seconds = soon[ref] - now
    if session.waited_s + seconds > session.policy.limits.wait_s:
        return False
    session.waited_s += max(0.0, seconds)
    session.tell("wait", ref, f"nothing else to do: {decisions[ref].reason}; goes on at {told_time(soon[ref], now)}")
    return not session.stopping.wait(max(0.0, seconds) + 0.05)
