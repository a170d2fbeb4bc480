"""The words in which every view says the same things: counts, times, money, how a run goes, what has happened."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from executor.core.effort import moment
from executor.core.sessions import How
from executor.core.told import told

if TYPE_CHECKING:
    from executor.core.event import Event
    from executor.picture import Picture

__all__ = ["ago", "clock", "ending", "event_line", "headline", "money", "run_note"]

_HOUR = 3600


def ago(seconds: float) -> str:
    """A length of time: ``0:04``, ``12:31``, ``1:02:03``."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, _HOUR)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def clock(at: float, now: float) -> str:
    """A time of day here, with the day of the week if it is not today's, with the date if that is not this week's."""
    there, here = (datetime.fromtimestamp(item).astimezone() for item in (at, now))
    days = abs((there.date() - here.date()).days)
    if not days:
        return f"{there:%H:%M}"
    return f"{there:%a %H:%M}" if days < 7 else f"{there:%Y-%m-%d %H:%M}"  # noqa: PLR2004  (days of a week)


def money(dollars: float) -> str:
    """An amount of money."""
    return f"${dollars:.2f}"


def headline(picture: Picture) -> str:
    """How many have landed, and how many wait for a person or are being worked on."""
    others = [
        f"{count} {status}"
        for status, count in picture.counts.items()
        if status in {"failed", "skipped", "review", "running", "stale"}
    ]
    return ", ".join([f"{picture.landed} of {len(picture.rows)} landed", *others])


def ending(picture: Picture) -> list[str]:
    """For how long the run has been going on and when it will have ended; nothing if none is under way."""
    run = picture.run
    if run is None or run.how is not How.RUNNING:
        return []
    found = [ago(picture.at - moment(run.started))]
    if picture.end is not None:
        guess = "" if picture.end.known else " (a guess)"
        found.append(f"ends about {clock(picture.at + picture.end.seconds, picture.at)}{guess}")
    return found


def run_note(picture: Picture) -> str:
    """Who runs it, or how the latest run ended and what resumes it."""
    run = picture.run
    if run is None:
        return _standing(picture)
    who = f"by {run.user} on {run.host} (process {run.pid})"
    started = clock(moment(run.started), picture.at)
    if run.how is How.RUNNING:
        return f"{picture.status}; running since {started} {who}"
    ended = clock(moment(run.ended), picture.at)
    if run.cut_off:
        word = "halted" if run.how is How.HALTED else "interrupted"
        why = run.why or "the run died"
        flying = ", ".join(f"{picture.milestone}/{issue}" for issue in run.in_flight)
        at_work = f", at work on {flying}" if flying else ""
        return f"{word} about {ended} ({why}){at_work}; doit milestone:{picture.milestone} resumes it"
    return f"{_standing(picture)}; the last run ended at {ended} with exit code {run.code}"


def _standing(picture: Picture) -> str:
    found = picture.standing
    return f"{found.status}: {found.reason}" + (f"; {found.hint}" if found.hint else "")


def event_line(event: Event) -> str:
    """A record as a line: time of day here, issue, what happened."""
    at = datetime.fromtimestamp(moment(event.at)).astimezone()
    return f"{at:%H:%M:%S} {event.key or '-'}  {told(event)}"
