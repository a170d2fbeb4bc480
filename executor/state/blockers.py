"""Blockers of a run: detected automatically, reported once, each with its remedy. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from executor.model.fingerprint import IssueRef
from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    BaseRed,
    BlockerFound,
    Event,
    Landed,
    Retried,
    ReviewerCalled,
    Stopped,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from executor.state.budget import Wait
    from executor.state.record import Record

__all__ = [
    "Blocker",
    "Kind",
    "Working",
    "blockers_of",
    "from_event",
    "from_wait",
    "from_working",
    "read_blocker",
]


def _kinds(*events: type[Event]) -> frozenset[str]:
    return frozenset(event.KIND for event in events)


Kind = Literal[
    "silence", "long", "conflict", "red-base", "disk", "limit", "outage", "budget", "deadline", "declaration"
]
_CLEARED_BY = {
    "silence": _kinds(AttemptBuilt, AttemptFailed, AttemptInterrupted, AttemptStarted, Landed),
    "long": _kinds(AttemptStarted, Landed, Stopped, Retried),
    "conflict": _kinds(AttemptStarted, Landed, Retried),
    "red-base": _kinds(AttemptStarted, Landed),
    "limit": _kinds(AttemptStarted, AttemptBuilt, Landed),
    "outage": _kinds(AttemptBuilt, Landed),
    "budget": _kinds(AttemptStarted, AttemptBuilt, Landed),
}
"""Events of the issue that clear its blocker; blockers of a whole run, and a pause, end with the run."""
_SHARED = frozenset({"red-base", "limit", "outage", "budget"})
"""Blockers that affect many issues and are reported for the first one."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """An obstacle to a run.

    Attributes:
        kind: one of the known kinds.
        issue: id of the issue concerned; empty for the milestone.
        about: the exact subject; each subject is reported once.
        reason: one sentence.
        resume: the next step, or a command.
        pauses: the run that met it starts nothing more.
    """

    kind: Kind
    issue: str
    about: str
    reason: str
    resume: str
    pauses: bool = False

    @property
    def report_key(self) -> tuple[str, str, str]:
        """Key that is equal for blockers to report once."""
        return (self.kind, "" if self.kind in _SHARED else self.issue, self.about)

    def event(self) -> BlockerFound:
        """The event that records it."""
        return BlockerFound(
            blocker=self.kind, about=self.about, reason=self.reason, resume=self.resume, pauses=self.pauses
        )

    def data(self) -> dict[str, object]:
        """Its fields as the data of an event."""
        return {
            "blocker": self.kind,
            "about": self.about,
            "reason": self.reason,
            "resume": self.resume,
            "pauses": self.pauses,
        }


@dataclass(frozen=True, slots=True)
class Working:
    """An issue in progress.

    Attributes:
        issue: its id.
        attempt: number of the attempt; 0 before the first.
        seconds: time since this run started the issue.
        silent: seconds since the agent's last sign of life; None while no agent runs.
        step: the workflow step of the agent; empty for a whole attempt.
    """

    issue: str
    attempt: int
    seconds: float
    silent: float | None
    step: str = ""


def from_working(milestone: str, working: Iterable[Working], silent_s: float, long_s: float) -> list[Blocker]:
    """Return blockers for agents without a sign of life and for issues that take too long."""
    found: list[Blocker] = []
    for item in working:
        step = f" in step {item.step}" if item.step else ""
        ref = str(IssueRef(milestone, item.issue))
        if item.silent is not None and item.silent >= silent_s:
            found.append(
                Blocker(
                    "silence",
                    item.issue,
                    f"attempt {item.attempt}{step}",
                    f"the agent of {ref}{step} has given no sign of life for {_time(silent_s)}",
                    f"no action needed: it is ended when it is idle for too long; see `doit log {ref}`",
                )
            )
        if item.seconds >= long_s:
            found.append(
                Blocker(
                    "long",
                    item.issue,
                    f"attempt {item.attempt}",
                    f"{ref} has taken more than {_time(long_s)}",
                    f"see `doit log {ref}`; doit milestone:{milestone} continues with the other issues",
                )
            )
    return found


def from_event(milestone: str, record: Record) -> Blocker | None:
    """Return the blocker that follows from a record of an issue, if any."""
    ref = str(IssueRef(milestone, record.key))
    match record.event:
        case Stopped(rule="merge-conflict", attempt=number, reason=reason):
            resume = f"doit retry {ref} implements it again on the current tip"
            return Blocker("conflict", record.key, f"attempt {number}", f"{ref}: {reason}", resume)
        case BaseRed(tip=tip, reason=reason, word=word):
            wrong = "make the check pass on the branch" if word == "red" else f"doit log {ref} shows what is needed"
            resume = f"{wrong}, then doit milestone:{milestone}"
            return Blocker("red-base", record.key, f"{tip}: {reason}", f"{ref}: {reason}", resume)
        case AttemptFailed(failure="transient", reason=reason) | ReviewerCalled(failure="transient", reason=reason):
            resume = (
                f"no action needed: the account is suspended and retried later; doit milestone:{milestone} continues"
            )
            return Blocker("outage", record.key, reason, f"{ref}: {reason}", resume)
        case AttemptFailed(failure="limit", reason=reason) | ReviewerCalled(failure="limit", reason=reason):
            resume = f"doit milestone:{milestone} after the limit is reset"
            return Blocker("limit", record.key, reason, f"{ref}: {reason}", resume)
    return None


def from_wait(ref: str, wait: Wait) -> Blocker | None:
    """Return the blocker of a ready issue that waits, unless an event has reported it."""
    milestone, issue = IssueRef.parse(ref)
    again = f"doit milestone:{milestone}"
    if wait.kind == "deadline":
        return Blocker("deadline", "", f"{wait.until:.0f}", f"{ref}: {wait.reason}", f"{again} continues with it")
    if wait.kind == "budget":
        resume = f"{wait.hint}, then {again}" if wait.hint else again
        return Blocker("budget", issue, wait.reason, f"{ref}: {wait.reason}", resume)
    return None


def read_blocker(issue: str, event: BlockerFound) -> Blocker:
    """Return the blocker that an event recorded."""
    return Blocker(
        cast("Kind", event.blocker), issue, event.about, event.reason, event.resume, pauses=bool(event.pauses)
    )


def blockers_of(events: Sequence[Record]) -> list[Blocker]:
    """Return the blockers that a journal has not cleared, oldest first."""
    found: dict[tuple[str, str, str], Blocker] = {}
    run = ""
    for event in events:
        if event.run != run:
            run = event.run
            found = {key: blocker for key, blocker in found.items() if blocker.issue and not blocker.pauses}
        if isinstance(recorded := event.event, BlockerFound):
            blocker = read_blocker(event.key, recorded)
            found[blocker.report_key] = blocker
        elif found and event.key:
            found = {key: blocker for key, blocker in found.items() if not _cleared(blocker, event)}
    return list(found.values())


def _cleared(blocker: Blocker, event: Record) -> bool:
    return not blocker.pauses and blocker.issue == event.key and event.kind in _CLEARED_BY.get(blocker.kind, ())


def _time(seconds: float) -> str:
    if seconds == 3600:  # noqa: PLR2004  (an hour)
        return "an hour"
    return f"{seconds:g} s" if seconds < 120 or seconds % 60 else f"{seconds / 60:g} minutes"  # noqa: PLR2004
