"""Blockers: what stands in the way of a run and is noticed by itself, told once, with the way to go on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from executor.state.budget import Wait
    from executor.state.events import Event

__all__ = [
    "BLOCKER",
    "Blocker",
    "Kind",
    "Working",
    "blockers_of",
    "from_event",
    "from_wait",
    "from_working",
    "read_blocker",
]

BLOCKER = "blocker"
"""Kind of the event that records one."""
Kind = Literal[
    "silence", "long", "conflict", "red-base", "disk", "limit", "outage", "budget", "deadline", "declaration"
]
_CLEARED_BY = {
    "silence": frozenset({"attempt-built", "attempt-failed", "attempt-interrupted", "attempt-started", "landed"}),
    "long": frozenset({"attempt-started", "landed", "stopped", "retried"}),
    "conflict": frozenset({"attempt-started", "landed", "retried"}),
    "red-base": frozenset({"attempt-started", "landed"}),
    "limit": frozenset({"attempt-started", "attempt-built", "landed"}),
    "outage": frozenset({"attempt-built", "landed"}),
    "budget": frozenset({"attempt-started", "attempt-built", "landed"}),
}
"""What of its issue makes a blocker a thing of the past; those of a whole run, and what paused it, end with it."""
_SHARED = frozenset({"red-base", "limit", "outage", "budget"})
"""What holds many issues back and is told for the first of them."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing in the way.

    Attributes:
        kind: which of the known ones.
        issue: id of the issue concerned; empty for the milestone.
        about: what exactly; the same thing is told once.
        reason: one sentence.
        resume: what to do, or a command.
        pauses: nothing more is begun in the run that met it.
    """

    kind: Kind
    issue: str
    about: str
    reason: str
    resume: str
    pauses: bool = False

    @property
    def told_as(self) -> tuple[str, str, str]:
        """The same for what is told once."""
        return (self.kind, "" if self.kind in _SHARED else self.issue, self.about)

    def data(self) -> dict[str, Any]:
        """As the data of an event."""
        return {
            "blocker": self.kind,
            "about": self.about,
            "reason": self.reason,
            "resume": self.resume,
            "pauses": self.pauses,
        }


@dataclass(frozen=True, slots=True)
class Working:
    """An issue that is being worked on.

    Attributes:
        issue: its id.
        attempt: number of the attempt, 0 while there is none.
        seconds: since this run began with the issue.
        silent: seconds since the agent's last sign of life; None while no agent is at work.
    """

    issue: str
    attempt: int
    seconds: float
    silent: float | None


def from_working(milestone: str, working: Iterable[Working], silent_s: float, long_s: float) -> list[Blocker]:
    """Agents that give no sign of life, and issues that take too long."""
    found: list[Blocker] = []
    for item in working:
        ref = f"{milestone}/{item.issue}"
        if item.silent is not None and item.silent >= silent_s:
            found.append(
                Blocker(
                    "silence",
                    item.issue,
                    f"attempt {item.attempt}",
                    f"the agent of {ref} has given no sign of life for {_time(silent_s)}",
                    f"nothing to do: it is ended when it is idle for too long; see `doit log {ref}`",
                )
            )
        if item.seconds >= long_s:
            found.append(
                Blocker(
                    "long",
                    item.issue,
                    f"attempt {item.attempt}",
                    f"{ref} has been worked on for over {_time(long_s)}",
                    f"look at `doit log {ref}`; doit milestone:{milestone} goes on with the rest",
                )
            )
    return found


def from_event(milestone: str, event: Event) -> Blocker | None:
    """The blocker that an event of an issue amounts to, if it does."""
    ref = f"{milestone}/{event.key}"
    data = event.data
    if event.kind == "stopped" and data["rule"] == "merge-conflict":
        return Blocker(
            "conflict",
            event.key,
            f"attempt {data['attempt']}",
            f"{ref}: {data['reason']}",
            f"doit retry {ref} implements it again on the present tip",
        )
    if event.kind == "base-red":
        return Blocker(
            "red-base",
            event.key,
            f"{data['tip']}: {data['reason']}",
            f"{ref}: {data['reason']}",
            f"make the check pass on the branch, then doit milestone:{milestone}",
        )
    if event.kind == "attempt-failed" and data["failure"] == "transient":
        return Blocker(
            "outage",
            event.key,
            str(data["reason"]),
            f"{ref}: {data['reason']}",
            f"nothing to do: the account rests and is asked again; doit milestone:{milestone} goes on",
        )
    if event.kind == "attempt-failed" and data["failure"] == "limit":
        return Blocker(
            "limit",
            event.key,
            str(data["reason"]),
            f"{ref}: {data['reason']}",
            f"doit milestone:{milestone} after the limit is reset",
        )
    return None


def from_wait(ref: str, wait: Wait) -> Blocker | None:
    """The blocker that keeps an issue at rest although it is ready, unless an event has told of it."""
    milestone, _, issue = ref.partition("/")
    again = f"doit milestone:{milestone}"
    if wait.kind == "deadline":
        return Blocker("deadline", "", f"{wait.until:.0f}", f"{ref}: {wait.reason}", f"{again} goes on with it")
    if wait.kind == "budget":
        resume = f"{wait.hint}, then {again}" if wait.hint else again
        return Blocker("budget", issue, wait.reason, f"{ref}: {wait.reason}", resume)
    return None


def read_blocker(event: Event) -> Blocker:
    """The blocker that an event recorded."""
    data = event.data
    return Blocker(data["blocker"], event.key, data["about"], data["reason"], data["resume"], bool(data["pauses"]))


def blockers_of(events: Sequence[Event]) -> list[Blocker]:
    """What is in the way still, as far as a journal tells, oldest first."""
    found: dict[tuple[str, str, str], Blocker] = {}
    run = ""
    for event in events:
        if event.run != run:
            run = event.run
            found = {key: blocker for key, blocker in found.items() if blocker.issue and not blocker.pauses}
        if event.kind == BLOCKER:
            blocker = read_blocker(event)
            found[blocker.told_as] = blocker
        elif found and event.key:
            found = {key: blocker for key, blocker in found.items() if not _cleared(blocker, event)}
    return list(found.values())


def _cleared(blocker: Blocker, event: Event) -> bool:
    return not blocker.pauses and blocker.issue == event.key and event.kind in _CLEARED_BY.get(blocker.kind, ())


def _time(seconds: float) -> str:
    if seconds == 3600:  # noqa: PLR2004  (an hour)
        return "an hour"
    return f"{seconds:g} s" if seconds < 120 or seconds % 60 else f"{seconds / 60:g} minutes"  # noqa: PLR2004
