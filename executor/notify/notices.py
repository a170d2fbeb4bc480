"""Notices: one message for each change that a person should know of, made of fixed texts and inert parts. Pure.

Each has an id that comes from the event behind it, so that it is sent once however often a run looks at it again.
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
"""Kind of the event that records that a notice was sent over a channel."""
DECIDING = frozenset({"attempt-failed", "stopped"})
"""Events after which an issue may wait for a person."""
_QUESTION = "question"
_LONGEST = 500
_INERT = str.maketrans({"@": "\uff20", "<": "\u2039", ">": "\u203a", "`": "'", "\\": "/"})
"""Characters that a chat takes for a mention, a link or markup."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message.

    Attributes:
        kind: kind of notice.
        milestone: id; empty for a digest.
        issue: id; empty for the milestone.
        event: id of the event; each event is sent once over each channel.
        title: one line.
        body: plain text of several lines.
    """

    kind: NoticeKind
    milestone: str
    issue: str
    event: str
    title: str
    body: str


def event_id(milestone: str, event: Record) -> str:
    """The id of an event; unlike its number it survives a compaction of the journal."""
    return f"{milestone}/{event.key}:{event.kind}:{event.at}"


def of_rest(ref: str, title: str, decision: Decision, rules: frozenset[str], event: str) -> Notice | None:
    """The message about an issue that came to rest until a person moves it on; None for any other.

    Args:
        ref: qualified id.
        title: the issue's.
        decision: where it came to rest.
        rules: of the stop that holds it, if one does.
        event: id of the event after which it rests.
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
    """The notice about an event that deserves one; None for any other."""
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
    """The message about a milestone all issues of which have landed."""
    lines = [
        f"{milestone}: {_part(title)}",
        f"all {landed} issues have landed on {_part(branch)}",
        f"next: doit verify {milestone}, then doit release:{milestone}",
    ]
    return _notice("complete", milestone, "", f"{milestone}:complete:{tip}", f"{milestone} is complete", lines)


def of_digest(night: str, title: str, text: str) -> Notice:
    """The message about a whole night."""
    return Notice("digest", "", "", f"nightly:{night}", title, text.translate(_INERT))


def _notice(kind: NoticeKind, milestone: str, issue: str, event: str, title: str, lines: list[str]) -> Notice:
    return Notice(kind, milestone, issue, event, title, "\n".join([*lines, f"event: {event}"]) + "\n")


def _part(text: str) -> str:
    """Foreign text inside a notice: one line, bounded, without chat markup."""
    flat = one_line(text).translate(_INERT)
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 1]}…"
