"""Names of the refs in which git keeps what must outlive `.cache/`."""

from __future__ import annotations

import re

__all__ = [
    "ACCEPTED",
    "ANSWERS",
    "APPROVED",
    "ATTEMPTS",
    "DELIVERED",
    "HANDOFFS",
    "MERGED",
    "REMOTE",
    "STEPS",
    "attempt_in",
    "attempt_ref",
    "parts_of",
]

ATTEMPTS = "refs/attempts"
"""Unlanded attempts: `<milestone>/<issue>/<number>` below this."""
ACCEPTED = "refs/executor/accepted"
"""Landed work that a person keeps under a changed spec: `<milestone>/<issue>` below this."""
APPROVED = "refs/executor/approved"
"""What a person has approved of although a rule stopped it: `<milestone>/<issue>` below this."""
STEPS = "refs/executor/steps"
"""Results of the steps of a workflow: `<milestone>/<issue>/<phase>.<step>` below this, until the issue has landed."""
HANDOFFS = "refs/executor/handoffs"
"""What an issue's agent leaves for the next ones: `<milestone>/<issue>` below this."""
ANSWERS = "refs/executor/answers"
"""What a person answered to an agent's questions: `<milestone>/<issue>` below this."""
MERGED = "refs/executor/merged"
"""Pull requests that were merged by hand, without our trailers: `<milestone>/<issue>/<revision>` below this."""
REMOTE = "refs/executor/remote"
"""Where the remote's milestone branch was last seen: `<milestone>` below this."""
DELIVERED = "refs/executor/released"
"""The release of which the remote has everything: `<milestone>` below this."""
_PARTS = {ATTEMPTS: 3, ACCEPTED: 2, APPROVED: 2, STEPS: 3, HANDOFFS: 2, ANSWERS: 2, MERGED: 3}
"""How many parts a name below each of these has."""
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def parts_of(ref: str) -> tuple[str, ...] | None:
    """Milestone, issue and, where there is one, attempt, step or revision that a ref is of; None if it is none of ours.

    Anybody can make a ref below the places that are ours: one with another name is not looked at.
    """
    for place, count in _PARTS.items():
        if ref.startswith(f"{place}/"):
            parts = tuple(ref[len(place) + 1 :].split("/"))
            return parts if len(parts) == count and all(parts) else None
    return None


def attempt_in(ref: str) -> tuple[str, int] | None:
    """Issue and number of the attempt that a ref below `ATTEMPTS` keeps; None if it is not named like one."""
    parts = parts_of(ref) if ref.startswith(f"{ATTEMPTS}/") else None
    return (parts[1], int(parts[2])) if parts is not None and _NUMBER.fullmatch(parts[2]) else None


def attempt_ref(milestone: str, issue: str, number: int) -> str:
    """Full name of the ref that keeps an attempt."""
    return f"{ATTEMPTS}/{milestone}/{issue}/{number}"
