"""The nights: due times of the nightly entry, its runs, missed ones, and the digest of a period on one page.

`.cache/_nightly` has the schedule, a journal of the runs, a log of each run and the last digest. The current time and
the time zone are parameters.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError
from executor.git.trailers import one_line
from executor.model.clock import clock_time, deadline_of, next_at, zone_time
from executor.model.fingerprint import IssueRef
from executor.model.hints import counted
from executor.process.files import LOCAL, is_locked, read_json, utcnow, write_json
from executor.state import segments
from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptStarted,
    Event,
    Landed,
    MilestoneNight,
    NightEnded,
    NightStarted,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from executor.state.record import Record
    from executor.status.rows import NightRow

__all__ = [
    "Digest",
    "Item",
    "Night",
    "Nights",
    "Outlook",
    "Schedule",
    "digest_of",
    "due_before",
    "missed",
    "night_deadline",
    "night_json",
    "night_lines",
    "nights_of",
]

LATE = timedelta(minutes=2)
"""Tolerance of a due time: a night counts as missed only after it."""
_LOOKED_AT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The nightly entry.

    Attributes:
        at: time of day, ``01:30``.
        until: deadline as for `--until`, or empty.
        milestones: ids; empty for all incomplete ones.
        since: time of installation.
    """

    at: str
    until: str
    milestones: tuple[str, ...]
    since: datetime

    def data(self) -> dict[str, object]:
        """Return the schedule as JSON."""
        return {**asdict(self), "milestones": list(self.milestones), "since": self.since.isoformat()}

    @classmethod
    def read(cls, data: Any) -> Schedule | None:
        """Read a schedule from JSON; None if it is invalid."""
        try:
            clock_time(data["at"])
            since = datetime.fromisoformat(data["since"]).astimezone(UTC)
            return cls(data["at"], str(data["until"]), tuple(map(str, data["milestones"])), since)
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Night:
    """A run of the nightly entry.

    Attributes:
        run: its id.
        started: its start time.
        ended: its end time; None if it died or is still running.
        code: its exit code once it has ended.
        results: exit code of each milestone that ran.
    """

    run: str
    started: datetime
    ended: datetime | None = None
    code: int | None = None
    results: tuple[tuple[str, int], ...] = ()


def nights_of(events: Iterable[Record]) -> list[Night]:
    """Return the nights in a journal, oldest first."""
    nights: dict[str, Night] = {}
    for event in events:
        night = nights.get(event.run)
        match event.event:
            case NightStarted():
                nights[event.run] = Night(event.run, datetime.fromisoformat(event.at))
            case MilestoneNight(milestone=milestone, code=code) if night is not None:
                nights[event.run] = replace(night, results=(*night.results, (milestone, code)))
            case NightEnded(code=code) if night is not None:
                nights[event.run] = replace(night, ended=datetime.fromisoformat(event.at), code=code)
    return list(nights.values())


def due_before(at: str, moment: datetime, zone: tzinfo) -> datetime:
    """Return the last due time at or before a given time."""
    return _dues(at, moment - timedelta(days=3), moment, zone)[-1]


def missed(schedule: Schedule, nights: Sequence[Night], now: datetime, zone: tzinfo, *, alive: bool) -> list[datetime]:
    """Return due times of the last 30 days without a run before the next one, oldest first.

    Args:
        schedule: the installed entry.
        nights: its runs.
        now: the current time.
        zone: time zone of the schedule.
        alive: the last run is still in progress.
    """
    after = max(schedule.since, now - _LOOKED_AT)
    dues = _dues(schedule.at, after, now - LATE, zone)
    following = [*dues, now + timedelta(days=1)][1:]
    last = nights[-1] if nights else None
    spans = [(night.started, now if alive and night is last else night.ended or night.started) for night in nights]
    return [
        due
        for due, after_it in zip(dues, following, strict=True)
        if not any(due - LATE <= start < after_it - LATE or start <= due <= end for start, end in spans)
    ]


def night_deadline(until: str, due: datetime, zone: tzinfo) -> datetime | None:
    """Return the deadline of a run by its due time; a late run does not get the next morning instead."""
    return deadline_of(until, due, zone) if until else None


def _dues(at: str, after: datetime, before: datetime, zone: tzinfo) -> list[datetime]:
    """Return the due times between two times; once a day, even if the clock shows the time twice."""
    clock = clock_time(at)
    dues: dict[Any, datetime] = {}
    moment = next_at(clock, after, zone)
    while moment <= before:
        dues.setdefault(moment.astimezone(zone).date(), moment)
        moment = next_at(clock, moment, zone)
    return list(dues.values())


_KEPT_LOGS = 30  # logs; about a month of nights


@dataclass(frozen=True, slots=True)
class Outlook:
    """The nights up to now.

    Attributes:
        schedule: the installed entry.
        last: the last run; None without one.
        alive: it is still running.
        missed: due times without a run since the last one, oldest first.
    """

    schedule: Schedule
    last: Night | None
    alive: bool
    missed: list[datetime]


class Nights:
    """The folder of the nights."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "_nightly"
        self.digest = self.folder / "digest.md"

    def prepare(self) -> None:
        """Create the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def schedule(self) -> Schedule | None:
        """Return the installed entry by our record; the crontab takes precedence."""
        return Schedule.read(read_json(self.folder / "schedule.json"))

    def keep(self, schedule: Schedule | None) -> None:
        """Store the installed entry."""
        path = self.folder / "schedule.json"
        if schedule is None:
            path.unlink(missing_ok=True)
            return
        self.prepare()
        write_json(path, schedule.data())

    def nights(self) -> list[Night]:
        """Return the known runs, oldest first; none if their journal, which is only a cache, is unreadable."""
        try:
            return nights_of(segments.read(self.folder))
        except ExecutorError:
            return []

    def outlook(self, now: datetime, zone: tzinfo) -> Outlook | None:
        """Return the outlook on the nights; None without an installed entry."""
        schedule = self.schedule()
        if schedule is None:
            return None
        nights = self.nights()
        last = nights[-1] if nights else None
        alive = last is not None and last.ended is None and self.held()
        found = missed(schedule, nights, now, zone, alive=alive)
        return Outlook(schedule, last, alive, [due for due in found if last is None or due > last.started])

    def held(self) -> bool:
        """Return whether a nightly run is in progress."""
        return is_locked(self.folder / "lock")

    def log(self, started: datetime) -> Path:
        """Create the log of a new run; removes the oldest ones."""
        kept = sorted(self.folder.glob("*.log"))
        for path in kept[: max(0, len(kept) - _KEPT_LOGS + 1)]:
            path.unlink(missing_ok=True)
        return self.folder / f"{started:%Y%m%dT%H%M%S}.log"

    def latest_log(self) -> Path | None:
        """Return the log of the last run."""
        return max(self.folder.glob("*.log"), default=None)

    def note(self, line: str) -> None:
        """Append a line to the last log, from outside its run."""
        path = self.latest_log() or self.folder / "nightly.log"
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags, 0o600), "wb") as log:
                log.write(f"{line}\n".encode())


def night_lines(outlook: Outlook | None) -> list[str]:
    """Return the lines of `doit status` and `doit cron show` about nights; empty without an entry."""
    if outlook is None:
        return []
    last = outlook.last
    if last is None:
        before = "never ran yet"
    elif outlook.alive:
        before = f"at work since {zone_time(last.started, LOCAL)}"
    elif last.code is None:
        before = f"last run {zone_time(last.started, LOCAL)} died before its end; the next one continues from there"
    else:
        before = f"last run {zone_time(last.started, LOCAL)}, exit {last.code}"
    lines = [f"nightly: {before}; next {zone_time(next_at(clock_time(outlook.schedule.at), utcnow(), LOCAL), LOCAL)}"]
    if outlook.missed:
        nights = ", ".join(zone_time(due, LOCAL) for due in outlook.missed[-5:])
        many = len(outlook.missed)
        lines.append(
            f"nightly: {many} run{'s' if many > 1 else ''} missed: {nights}; "
            "check that the machine was on; `doit nightly` does the work now"
        )
    return lines


def night_json(outlook: Outlook | None) -> NightRow | None:
    """Return the nightly entry as JSON."""
    if outlook is None:
        return None
    last = outlook.last
    return {
        "at": outlook.schedule.at,
        "until": outlook.schedule.until,
        "milestones": list(outlook.schedule.milestones),
        "since": outlook.schedule.since.isoformat(),
        "next": next_at(clock_time(outlook.schedule.at), utcnow(), LOCAL).isoformat(),
        "running": outlook.alive,
        "last": None
        if last is None
        else {
            "started": last.started.isoformat(),
            "ended": last.ended.isoformat() if last.ended else None,
            "code": last.code,
            "milestones": dict(last.results),
        },
        "missed": [due.isoformat() for due in outlook.missed],
    }


_HEADS = (
    ("review", "Waits for you"),
    ("failed", "Failed"),
    ("skipped", "Skipped"),
    ("open", "Open"),
    ("stale", "Stale"),
    ("pending", "Not begun"),
    ("blocked", "Blocked"),
    ("running", "At work"),
)
_MOST = 30  # lines of a digest; a choice: it is read on a phone


def _cost(event: Event) -> float:
    return event.spend.cost_usd or 0.0 if isinstance(event, AttemptBuilt | AttemptFailed) else 0.0


@dataclass(frozen=True, slots=True)
class Item:
    """A line: an issue, its title and a remark."""

    ref: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Digest:
    """Events since a given time, and the current status.

    Attributes:
        since: that time, in readable form.
        milestones: one sentence each.
        landed: landings since then.
        rest: status word -> unfinished issues.
        blockers: open blockers.
        attempts: number of attempts started since then.
        cost_usd: money spent since then.
        next: commands that help.
    """

    since: str
    milestones: tuple[str, ...]
    landed: tuple[Item, ...]
    rest: Mapping[str, tuple[Item, ...]]
    blockers: tuple[str, ...]
    attempts: int
    cost_usd: float
    next: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return one line with the most important numbers."""
        counts = {"landed": len(self.landed)}
        counts |= {word: len(self.rest.get(word, ())) for word in ("failed", "skipped")}
        waiting = len(self.rest.get("review", ()))
        lines = [f"{count} {word}" for word, count in counts.items() if count or word == "landed"]
        lines += [f"{waiting} for you"] * bool(waiting)
        return ", ".join(lines) + (f", ${self.cost_usd:.2f}" if self.cost_usd else "")

    def text(self) -> str:
        """Return the page as readable Markdown."""
        tried = counted(self.attempts, "attempt")
        lines = [f"# {self.title}", "", f"Since {self.since}: {tried}, ${self.cost_usd:.2f}.", ""]
        lines += [f"- {line}" for line in self.milestones]
        lines += _section("In the way", self.blockers)
        lines += _section("Landed", _item_lines(self.landed))
        for word, head in _HEADS:
            lines += _section(head, _item_lines(self.rest.get(word, ())))
        lines += _section("Next", tuple(f"`{command}`" for command in self.next))
        return "\n".join(lines) + "\n"

    def data(self) -> dict[str, object]:
        """Return the digest as JSON."""

        def items(found: Sequence[Item]) -> list[dict[str, str]]:
            return [{"ref": item.ref, "title": item.title, "text": item.text} for item in found]

        return {
            "since": self.since,
            "title": self.title,
            "landed": items(self.landed),
            **{word: items(found) for word, found in self.rest.items()},
            "blockers": list(self.blockers),
            "attempts": self.attempts,
            "cost_usd": round(self.cost_usd, 6),
            "next": list(self.next),
        }


def digest_of(
    since: str,
    since_text: str,
    milestones: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    events: Mapping[str, Sequence[Record]],
) -> Digest:
    """Return the digest of everything.

    Args:
        since: ISO-8601 UTC, compared with the times of events.
        since_text: `since`, formatted for people.
        milestones: rows of the milestones in the status table.
        rows: rows of the issues in the status table.
        events: milestone -> its journal.
    """
    titles = {row["ref"]: row["title"] for row in rows}
    fresh = [(name, event) for name, own in events.items() for event in own if event.at >= since]
    landed: dict[str, Item] = {}
    for name, event in fresh:
        if isinstance(fact := event.event, Landed):
            ref = str(IssueRef(name, event.key))
            landed[ref] = Item(ref, titles.get(ref, ""), fact.commit[:10])
    rest: dict[str, tuple[Item, ...]] = {}
    for row in rows:
        if row["status"] != "landed":
            item = Item(row["ref"], row["title"], row["reason"])
            rest[row["status"]] = (*rest.get(row["status"], ()), item)
    stuck = [row["hint"] for row in rows if row["status"] in {"review", "failed", "skipped"} and row["hint"]]
    todo = [f"doit milestone:{item['id']}" for item in milestones if item["status"] in {"in progress", "planned"}]
    return Digest(
        since=since_text,
        milestones=tuple(_milestone_line(item) for item in milestones),
        landed=tuple(landed.values()),
        rest=rest,
        blockers=tuple(
            f"{item['id']}: {one_line(blocker['reason'])}; {one_line(blocker['resume'])}"
            for item in milestones
            for blocker in item["blockers"]
        ),
        attempts=sum(event.kind == AttemptStarted.KIND for _, event in fresh),
        cost_usd=sum(_cost(event.event) for _, event in fresh),
        next=tuple(dict.fromkeys([*stuck, *todo]))[:_MOST],
    )


def _milestone_line(item: Mapping[str, Any]) -> str:
    return f"{item['id']} {one_line(item['title'])}: {item['status']}, {item['landed']} of {item['total']} landed"


def _item_lines(items: Sequence[Item]) -> tuple[str, ...]:
    shown = [f"{item.ref} {one_line(item.title)} - {one_line(item.text)}" for item in items[:_MOST]]
    return (*shown, f"and {len(items) - _MOST} more: doit list --all") if len(items) > _MOST else tuple(shown)


def _section(head: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {head}", "", *(f"- {line}" for line in lines)] if lines else []
