"""Shared formatting of the views: counts, progress, events.

Snapshots as plain text: one block per snapshot or change, for pipes, screen readers and other programs.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.commands.base import safe, table
from executor.commands.output import ago, clock, money
from executor.model.fingerprint import IssueRef
from executor.model.hints import counted
from executor.state.events import (
    AttemptBuilt,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    BlockerFound,
    BranchCreated,
    BranchMoved,
    Checked,
    Collision,
    GateHeld,
    GateOpened,
    Landed,
    LandingIntended,
    MilestoneReleased,
    Notified,
    Overlap,
    PullChanged,
    Refused,
    Regenerated,
    Reviewed,
    RunEnded,
    RunStarted,
    Selected,
    StepDone,
    StepFailed,
    StepStarted,
    Stopped,
    Verified,
)
from executor.state.record import How, moment
from executor.status.progress import phase_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.report.snapshot import Row, Snapshot
    from executor.state.events import Event
    from executor.state.record import Record

__all__ = [
    "block",
    "change_block",
    "ending",
    "event_line",
    "headline",
    "run_note",
    "sentence_of",
    "snapshot_value",
]


def headline(snapshot: Snapshot) -> str:
    """Return the numbers of issues that have landed, that wait for a person and that are in progress."""
    others = [
        f"{count} {status}"
        for status, count in snapshot.counts.items()
        if status in {"failed", "skipped", "review", "running", "stale"}
    ]
    return ", ".join([f"{snapshot.landed} of {len(snapshot.rows)} landed", *others])


def ending(snapshot: Snapshot) -> list[str]:
    """Return the duration of the run and its expected end; empty without a run."""
    run = snapshot.run
    if run is None or run.how is not How.RUNNING:
        return []
    found = [ago(snapshot.at - moment(run.started))]
    if snapshot.end is not None:
        guess = "" if snapshot.end.known else " (a guess)"
        found.append(f"ends about {clock(snapshot.at + snapshot.end.seconds, snapshot.at)}{guess}")
    return found


_CUT_OFF = {How.HALTED: "halted", How.ERROR: "ended by an error"}


def run_note(snapshot: Snapshot) -> str:
    """Return who runs the milestone, or how the latest run ended and what resumes it."""
    run = snapshot.run
    if run is None:
        return _standing(snapshot)
    who = f"by {run.user} on {run.host} (process {run.pid})"
    started = clock(moment(run.started), snapshot.at)
    if run.how is How.RUNNING:
        return f"{snapshot.status}; running since {started} {who}"
    ended = clock(moment(run.ended), snapshot.at)
    if run.cut_off:
        word = _CUT_OFF.get(run.how, "interrupted")
        why = run.why or "the run died"
        flying = ", ".join(str(IssueRef(snapshot.milestone, issue)) for issue in run.in_flight)
        at_work = f", working on {flying}" if flying else ""
        return f"{word} about {ended} ({why}){at_work}; doit milestone:{snapshot.milestone} resumes it"
    return f"{_standing(snapshot)}; the last run ended at {ended} with exit code {run.code}"


def _standing(snapshot: Snapshot) -> str:
    found = snapshot.standing
    return f"{found.status}: {found.reason}" + (f"; {found.hint}" if found.hint else "")


def event_line(event: Record) -> str:
    """Format a record as a line: local time of day, issue, event."""
    at = datetime.fromtimestamp(moment(event.at)).astimezone()
    return f"{at:%H:%M:%S} {event.key or '-'}  {sentence_of(event)}"


def sentence_of(record: Record) -> str:
    """Describe a record in one sentence; for a kind without a sentence, by kind and reason."""
    sentence = _sentence_of_run(record.event) or _sentence_of_issue(record.event)
    if sentence:
        return sentence
    reason = record.data.get("reason")
    return record.kind.replace("-", " ") + (f": {reason}" if isinstance(reason, str) and reason else "")


def _sentence_of_run(event: Event) -> str:  # noqa: PLR0911  (a table of sentences)
    match event:
        case RunStarted():
            return f"run of {' '.join(event.asked)} by {event.user} on {event.host}"
        case RunEnded():
            why = f" ({event.why})" if event.why else ""
            return f"run {event.how or 'done'}{why}, exit code {event.code}"
        case BlockerFound():
            return f"{event.blocker}: {event.reason}"
        case Notified():
            return f"notified by {event.channel}"
        case MilestoneReleased():
            return f"released as {event.commit[:10]}"
        case BranchMoved():
            return f"the branch was moved to {event.new[:10]}"
        case BranchCreated():
            return f"branch {event.branch.removeprefix('refs/heads/')} created"
    return ""


def _sentence_of_attempt(event: Event) -> str:
    match event:
        case AttemptStarted():
            return f"attempt {event.attempt} by {event.agent or 'an agent'}"
        case AttemptBuilt():
            files = counted(len(event.files), "file")
            return f"attempt {event.attempt} has a result: +{event.added} -{event.removed} in {files}"
        case AttemptFailed():
            return f"attempt {event.attempt} failed: {event.reason}"
        case AttemptInterrupted():
            return f"attempt {event.attempt} was interrupted"
    return ""


def _sentence_of_issue(event: Event) -> str:  # noqa: C901, PLR0911, PLR0912  (a table of sentences)
    match event:
        case Checked():
            return f"{event.check} {'passed' if event.ok else 'failed'} in {event.seconds:.1f} s"
        case Selected():
            return f"{event.tests} of {event.of} tests of {event.check} selected by {event.by}: {event.outcome}"
        case Reviewed():
            return f"{event.reviewer} had {len(event.findings)} findings"
        case StepStarted():
            return f"step {event.step} begins"
        case StepDone():
            return f"step {event.step} is done"
        case StepFailed():
            return f"step {event.step} failed: {event.reason}"
        case GateOpened():
            return f"gate {event.step} opened with {event.percent} %"
        case GateHeld():
            return f"gate {event.reason}"
        case PullChanged():
            return f"pull request {event.number} is {event.state}"
        case Overlap():
            return f"overlaps with {', '.join(event.others)}: all may change {', '.join(event.files)}"
        case Collision():
            return f"conflicts with {event.other} in {', '.join(event.paths)}"
        case Regenerated():
            return f"`{event.command}` wrote {', '.join(event.paths)} again{f': {event.reason}' * bool(event.reason)}"
        case LandingIntended():
            return f"lands as {event.commit[:10]}"
        case Landed():
            return f"landed as {event.commit[:10]}"
        case Verified():
            return "verified again"
        case Refused():
            return f"verification failed: {event.reason}"
        case Stopped():
            return f"stopped by {event.rule}: {event.reason}"
    return _sentence_of_attempt(event)


def block(snapshot: Snapshot) -> str:
    """Format a complete snapshot: progress, every issue, the latest events."""
    lines = [_head(snapshot), *_notes(snapshot), *_rows(snapshot.rows), "latest events:"]
    return _text([*lines, *(f"  {event_line(event)}" for event in snapshot.last)] if snapshot.last else lines[:-1])


def change_block(before: Snapshot, snapshot: Snapshot) -> str:
    """Format the changes since an earlier snapshot; empty without any."""
    old = {row.ref: (row.status, row.reason) for row in before.rows}
    changed = [row for row in snapshot.rows if old.get(row.ref) != (row.status, row.reason)]
    if not changed and (before.status, _how(before)) == (snapshot.status, _how(snapshot)):
        return ""
    return _text([_head(snapshot), *_notes(snapshot), *_rows(changed)])


def snapshot_value(snapshot: Snapshot) -> dict[str, object]:
    """Return the snapshot as JSON."""
    run = snapshot.run
    ends = snapshot.at + snapshot.end.seconds if snapshot.end is not None else None
    return {
        "id": snapshot.milestone,
        "title": snapshot.title,
        "branch": snapshot.branch,
        "status": snapshot.status,
        "percent": snapshot.percent,
        "counts": snapshot.counts,
        "cost_usd": round(snapshot.cost_usd, 6),
        "ends_at": None if ends is None else datetime.fromtimestamp(ends, UTC).isoformat(timespec="seconds"),
        "run": None if run is None else {**asdict(run), "how": str(run.how)},
        "working": [asdict(item) for item in snapshot.working],
        "phases": {ref: [asdict(phase) for phase in phases] for ref, phases in snapshot.phases.items()},
        "issues": [asdict(row) for row in snapshot.rows],
        "events": [
            {"at": event.at, "issue": event.key, "event": event.kind, "text": event_line(event)}
            for event in snapshot.last
        ],
    }


def _how(snapshot: Snapshot) -> tuple[str, How] | None:
    return (snapshot.run.run, snapshot.run.how) if snapshot.run is not None else None


def _head(snapshot: Snapshot) -> str:
    at = datetime.fromtimestamp(snapshot.at).astimezone()
    text = f"{snapshot.status}, {snapshot.percent} %, {headline(snapshot)}"
    return f"{at:%Y-%m-%d %H:%M:%S %Z} {snapshot.milestone} {snapshot.title}: {text}"


def _notes(snapshot: Snapshot) -> list[str]:
    found = [run_note(snapshot)]
    if ending(snapshot):
        elapsed, *ends = ending(snapshot)
        found.append(", ".join([f"for {elapsed}", f"cost {money(snapshot.cost_usd)}", *ends]))
    found += [f"{ref}: {phase_line(phases)}" for ref, phases in snapshot.phases.items()]
    found += [
        f"{item.ref} {item.what}{f' by {item.agent}' if item.agent and item.what.startswith('step ') else ''} for "
        f"{ago(item.elapsed)}, quiet {ago(item.quiet)}"
        for item in snapshot.working
        if item.what.startswith("step ")
    ]
    quiet = (item for item in snapshot.working if item.stalled)
    found += [f"{item.ref} {item.what} no sign of life for {ago(item.quiet)}: stalled" for item in quiet]
    return [f"  {note}" for note in found if note]


def _rows(rows: Iterable[Row]) -> list[str]:
    cells = [[f"  {row.status}", row.ref, row.title, row.reason] for row in rows]
    return table(cells).splitlines()


def _text(lines: list[str]) -> str:
    return "".join(f"{safe(line)}\n" for line in lines)
