"""Notices: one message for each relevant change, built from fixed texts and inert parts. Pure.

The id of a notice comes from its event, so it is sent once, however often a run encounters it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.git.trailers import one_line
from executor.state.blockers import read_blocker
from executor.state.decide import Status
from executor.state.events import BlockerFound, MilestoneReleased

if TYPE_CHECKING:
    from executor.model.outward_rules import NoticeKind
    from executor.state.decide import Decision
    from executor.state.record import Record

__all__ = ["DECIDING", "NOTIFIED", "Notice", "event_id", "of_completion", "of_digest", "of_event", "of_rest"]

NOTIFIED = "notified"
"""Kind of the event that records the delivery of a notice over a channel."""
DECIDING = frozenset({"attempt-failed", "stopped"})
"""Events after which an issue may wait for a person."""
_QUESTION = "question"
_LONGEST = 500
_INERT = str.maketrans({"@": "\uff20", "<": "\u2039", ">": "\u203a", "`": "'", "\\": "/"})
"""Characters that a chat may interpret as a mention, a link or markup."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A message.

    Attributes:
        kind: kind of notice.
        milestone: id; empty for a digest.
        issue: id; empty for the milestone.
        event: id of the event; each event is sent once over each channel.
        title: its title, one line.
        body: plain text of several lines.
    """

    kind: NoticeKind
    milestone: str
    issue: str
    event: str
    title: str
    body: str


def event_id(milestone: str, event: Record) -> str:
    """Return the id of an event; unlike its number it survives a compaction of the journal."""
    return f"{milestone}/{event.key}:{event.kind}:{event.at}"


def of_rest(ref: str, title: str, decision: Decision, rules: frozenset[str], event: str) -> Notice | None:
    """Return the notice about an issue that waits for a person; None for others.

    Args:
        ref: qualified id.
        title: title of the issue.
        decision: its final decision.
        rules: rules of the current stop, if any.
        event: id of the event that decided it.
    """
    milestone, _, issue = ref.partition("/")
    kind: NoticeKind
    if decision.status is Status.REVIEW:
        kind, says = ("question", "asks a question") if _QUESTION in rules else ("review", "waits for a person")
    elif decision.status is Status.FAILED:
        kind, says = "failed", "failed"
    elif decision.status is Status.SKIPPED:
        kind, says = "skipped", "was skipped"
    else:
        return None
    lines = [f"{ref}: {_part(title)}", _part(decision.reason), f"next: {_part(decision.hint)}", f"more: doit log {ref}"]
    return _notice(kind, milestone, issue, event, f"{ref} {says}", lines)


def of_event(milestone: str, event: Record) -> Notice | None:
    """Return the notice about an event; None for events without one."""
    recorded = event.event
    if isinstance(recorded, BlockerFound):
        blocker = read_blocker(event.key, recorded)
        says = f"{milestone} pauses: {blocker.kind}" if blocker.pauses else f"{milestone} is blocked: {blocker.kind}"
        lines = [_part(blocker.reason), f"next: {_part(blocker.resume)}"]
        return _notice("blocker", milestone, event.key, event_id(milestone, event), says, lines)
    if isinstance(recorded, MilestoneReleased):
        tag = f", tagged {_part(recorded.tag)}" if recorded.tag else ""
        lines = [f"{milestone} is in its base as {_part(recorded.commit)[:10]}{tag}"]
        return _notice("released", milestone, "", event_id(milestone, event), f"{milestone} is released", lines)
    return None


def of_completion(milestone: str, title: str, landed: int, branch: str, tip: str) -> Notice:
    """Return the notice about a milestone whose issues have all landed."""
    lines = [
        f"{milestone}: {_part(title)}",
        f"all {landed} issues have landed on {_part(branch)}",
        f"next: doit verify {milestone}, then doit release:{milestone}",
    ]
    return _notice("complete", milestone, "", f"{milestone}:complete:{tip}", f"{milestone} is complete", lines)


def of_digest(night: str, title: str, text: str) -> Notice:
    """Return the notice about a whole night."""
    return Notice("digest", "", "", f"nightly:{night}", title, text.translate(_INERT))


def _notice(kind: NoticeKind, milestone: str, issue: str, event: str, title: str, lines: list[str]) -> Notice:
    return Notice(kind, milestone, issue, event, title, "\n".join([*lines, f"event: {event}"]) + "\n")


def _part(text: str) -> str:
    """Format foreign text for a notice: one line, bounded, without chat markup."""
    flat = one_line(text).translate(_INERT)
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 1]}…"
