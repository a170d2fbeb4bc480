"""Names of the refs in which git keeps what must outlive `.cache/`."""

from __future__ import annotations

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
_PARTS = 5


def attempt_in(ref: str) -> tuple[str, int] | None:
    """Issue and number of the attempt that a ref below `ATTEMPTS` keeps; None if it is not named like one."""
    parts = ref.split("/")
    if len(parts) != _PARTS or not (parts[-1].isascii() and parts[-1].isdigit()):
        return None
    return parts[3], int(parts[4])


def attempt_ref(milestone: str, issue: str, number: int) -> str:
    """Full name of the ref that keeps an attempt."""
    return f"{ATTEMPTS}/{milestone}/{issue}/{number}"
