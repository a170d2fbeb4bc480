"""A milestone in external formats: a Markdown section between two marks, GitHub's issues, CSV, JSON. Pure.

The tracking section of a milestone, from the same facts as every status.
"""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.config.load_milestones import spec_text
from executor.errors import ExecutorError, UsageError
from executor.git.remote import push_files
from executor.model.fingerprint import IssueRef
from executor.process.files import write_over
from executor.report.exports import as_github, as_json, as_rows
from executor.report.plan_section import Entry, filled, inline
from executor.report.snapshot import standing_of
from executor.state import segments
from executor.status.summary_cache import pull_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from executor.engine.session import Session
    from executor.model.milestone import Issue, Milestone
    from executor.state.model import IssueState
    from executor.state.record import Record
    from executor.status.reader import Observer

_TOLD = frozenset({"attempt-started", "attempt-failed", "landed", "pull", "stopped", "verified"})
"""Kinds of events that change the tracking file."""
_LEAST_PAUSE = 1.0  # seconds; and nine times as long as a writing took, so it costs at most a tenth
_PUSHED_EVERY = 60.0  # seconds; forges count pushes, and a person looks less often
_TRACKED = "Track the milestones"
"""Subject of the commits on the branch of tracking files."""

__all__ = [
    "FORMATS",
    "Tracked",
    "as_markdown",
    "between_marks",
    "exported",
    "keep_section",
    "keep_tracking",
    "tracked",
    "tracking_kept",
]


@dataclass(frozen=True, slots=True)
class Tracked:
    """An issue and its progress.

    Attributes:
        issue: its declaration.
        text: its specification.
        status: its status word.
        reason: the reason, one sentence.
        commit: its latest landing; empty without one.
        pull: its pull request, number or address; empty without one.
        checks: its state (``open``, ``draft``, ``closed``, ``merged``), then what it waits for, if known.
        needs: the action required of a person; empty for none.
        findings: reasons of a stop, one line each.
        number: number of its pull request; 0 without one.
        review: the reviewer's verdict.
        created: day on which its pull request was opened.
        blocked: day of its last stop.
    """

    issue: Issue
    text: str
    status: str
    reason: str
    commit: str = ""
    pull: str = ""
    checks: str = ""
    needs: str = ""
    findings: tuple[str, ...] = ()
    number: int = 0
    review: str = ""
    created: str = ""
    blocked: str = ""

    @property
    def name(self) -> str:
        """Return its display name: number if it has one, id, title."""
        number = f"#{self.issue.number} " if self.issue.number is not None else ""
        return f"{number}{self.issue.id} - {inline(self.issue.title)}"


def as_markdown(milestone: Milestone, status: str, issues: Sequence[Tracked], updated: str) -> str:
    """Return the tracking section of a milestone, with its marks.

    Args:
        milestone: its declaration.
        status: its state and reason.
        issues: its issues, in the order of the file.
        updated: time of the latest record.
    """
    landed = [item for item in issues if item.status == "landed"]
    current = next((item for item in issues if item.status in {"running", "open", "pending", "stale"}), None)
    waiting = [item for item in issues if item.status in {"review", "failed"}]
    parts = [
        f"## Tracking: {milestone.id} - {inline(milestone.title)}",
        f"**Status:** {inline(status)}; {len(landed)} of {len(issues)} landed",
        "### Completed issues",
        _list(f"[{'x' if item in landed else ' '}] {item.name}{_where(item)}" for item in issues),
        "### Open pull requests",
        _list(
            f"{inline(item.pull)} {item.name}: {inline(item.checks or item.reason)}"
            for item in issues
            if item.pull and item.checks.partition(";")[0] in {"open", "draft"}
        ),
        "### Blocked / needs review",
        _list(_finding(item) for item in waiting),
        "### Skipped issues",
        _list(f"{item.name}: skipped: {inline(item.reason)}" for item in issues if item.status == "skipped"),
        "### Current phase",
        _list(
            [
                f"**Phase:** {inline((current.issue.phase if current else '') or 'none')}",
                f"**Current issue:** {current.name if current else 'none'}",
                f"**Blockers:** {', '.join(item.issue.id for item in waiting) or 'none'}",
            ]
        ),
        f"**Last updated:** {inline(updated) or 'never'}",
    ]
    begin, end = _marks(milestone.id)
    return "\n".join([begin, "\n\n".join(parts), end]) + "\n"


def between_marks(text: str, section: str, milestone: str) -> str:
    """Replace a milestone's section in a text, or append it; all else remains unchanged.

    Raises:
        ValueError: only one of the two marks exists, or they are in the wrong order.
    """
    begin, end = _marks(milestone)
    line = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    # A file with Windows line ends keeps them, also in our section. A single one does not make such a file.
    section = section.replace("\n", line)
    start, stop = text.find(begin), text.find(end)
    if start < 0 and stop < 0:
        gap = "" if not text else line if text.endswith("\n") else line * 2
        return f"{text}{gap}{section}"
    if start < 0 or stop < start or text.count(begin) > 1 or text.count(end) > 1:
        raise ValueError(f"expected one {begin} and one {end} after it")
    after = text[stop + len(end) :]
    return text[:start] + section.rstrip("\r\n") + after


def _marks(milestone: str) -> tuple[str, str]:
    return f"<!-- milestone {milestone}: begin -->", f"<!-- milestone {milestone}: end -->"


def _list(lines: Iterable[str]) -> str:
    found = [f"- {line}" for line in lines]
    return "\n".join(found or ["- (none)"])


def _where(item: Tracked) -> str:
    return f" ({inline(item.pull) + ', ' if item.pull else ''}{item.commit[:10]})" if item.status == "landed" else ""


def _finding(item: Tracked) -> str:
    lines = [f"**{item.name}**: {inline(item.reason)}" + (f"; needs: {inline(item.needs)}" if item.needs else "")]
    lines += [f"  {place}. {inline(line)}" for place, line in enumerate(item.findings[:20], 1)]
    return "\n".join(lines)


def exported(observer: Observer, milestone: str, form: str) -> str:
    """Export a milestone in one of `FORMATS`."""
    view = observer.views[milestone]
    return FORMATS[form](observer, view.milestone, tracked(observer, milestone))


def keep_section(path: Path, observer: Observer, milestone: str, at_work: frozenset[str] = frozenset()) -> bool:
    """Update a milestone's section of a Markdown file; returns whether anything changed.

    A plan with a tracking section keeps it, with its headings; otherwise ours is put between marks.

    Args:
        path: the file.
        observer: facts about all milestones.
        milestone: its id.
        at_work: qualified ids of issues with a working agent.

    Raises:
        UsageError: the file's marks are damaged.
    """
    try:
        before = path.read_bytes().decode("utf-8") if path.exists() else ""
        text = None if _marks(milestone)[0] in before else _own_section_filled(before, observer, milestone, at_work)
        if text is None:
            text = between_marks(before, exported(observer, milestone, "markdown"), milestone)
    except ValueError as error:
        raise UsageError(f"{path.name}: {error}; repair the marks, or remove both") from error
    if text == before:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_over(path, text.encode())
    return True


def keep_tracking(session: Session, *, push: bool = True) -> list[str]:
    """Update the tracking files of the milestones, and push them if the rules say so; returns the problems."""
    problems, files = [], {}
    for run in session.runs():
        name = run.milestone.tracking or session.policy.status.tracking
        if not name:
            continue
        try:
            path = session.project.root / name
            keep_section(path, session.observer, run.name, frozenset(session.working))
            files[name] = path.read_bytes()
        except (ExecutorError, OSError) as error:
            problems.append(f"{name} was not updated: {error}")
    branch, remote = session.policy.status.push_to, session.remote
    if push and files and branch is not None and remote is not None:
        found = (_TRACKED, session.identity, int(time.time()))
        try:
            problem = push_files(remote, session.refs, session.store, branch, files, found)
        except ExecutorError as error:
            problem = str(error)
        problems += [f"rules/status.toml: push_to: {problem}"] if problem else []
    return problems


@contextmanager
def tracking_kept(session: Session) -> Iterator[None]:
    """Keep the tracking files of a session up to date inside the block."""
    keeper = _Keeper(session)
    session.listeners.append(keeper.hear)
    try:
        yield
    finally:
        session.listeners.remove(keeper.hear)
        keeper.close()


class _Keeper:
    """Writes after important events, for a tenth of the time at most; the end of the run reports a failure."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._due: threading.Timer | None = None
        self._next = self._next_push = 0.0

    def hear(self, _milestone: str, record: Record) -> None:
        """Process an event; writes the file now or after the pause, so the last event of a burst is not lost."""
        if record.kind not in _TOLD:
            return
        with self._lock:
            if self._due is None:
                self._due = threading.Timer(max(0.0, self._next - time.monotonic()), self._write)
                self._due.daemon = True
                self._due.start()

    def close(self) -> None:
        """Stop writing; returns once a write in progress has ended."""
        with self._lock:
            if self._due is not None:
                self._due.cancel()
        with self._writing:
            pass

    def _write(self) -> None:
        with self._lock:
            self._due = None  # an event from now on asks for another write
        with self._writing:
            began = time.monotonic()
            push = began >= self._next_push
            with suppress(ExecutorError):  # the end of the run writes once more, and reports its failure
                keep_tracking(self._session, push=push)
            self._next_push = began + _PUSHED_EVERY if push else self._next_push
            self._next = time.monotonic() + max(_LEAST_PAUSE, 9 * (time.monotonic() - began))


def _own_section_filled(text: str, observer: Observer, milestone: str, at_work: frozenset[str]) -> str | None:
    """Return the plan with its own tracking section filled in; None if it has none."""
    issues = tracked(observer, milestone)
    landed = sum(item.status == "landed" for item in issues)
    begun = landed or any(item.pull or item.status not in {"pending", "blocked"} for item in issues)
    status = "Complete" if issues and landed == len(issues) else "In Progress" if begun else "Not Started"
    entries = [_entry(item, str(IssueRef(milestone, item.issue.id)) in at_work) for item in issues]
    return filled(text, entries, day=_last(observer, milestone)[:10] or "never", status=status)


def _entry(item: Tracked, at_work: bool) -> Entry:  # noqa: FBT001  (one caller)
    issue = item.issue
    return Entry(
        name=f"#{issue.number}" if issue.number is not None else issue.id,
        id=issue.id,
        title=issue.title,
        status=item.status,
        reason=item.reason,
        phase=issue.phase or "",
        pull=item.number,
        url=item.pull if item.pull.startswith("http") else "",
        checks=_checks_shown(item),
        review=item.review,
        created=item.created,
        blocked=item.blocked,
        needs=item.needs,
        findings=item.findings,
        at_work=at_work,
    )


def _checks_shown(item: Tracked) -> str:
    """Format the state of the forge's checks with the sign that people's plans use for it."""
    state, _, why = item.checks.partition("; ")
    if state == "draft":
        return "⏳ Draft, waits for a person"
    if why and item.status == "open":
        return f"⏳ Pending: {why}"
    return f"⚠ {why}" if why else "✓ Checks passing"


def tracked(observer: Observer, milestone: str) -> list[Tracked]:
    """Return its issues and their progress, in the order of the file."""
    view = observer.views[milestone]
    created, blocked = _days(observer, milestone)
    found = []
    for issue in view.milestone.issues:
        ref = str(IssueRef(milestone, issue.id))
        decision = observer.decision(ref)
        state, landing = view.states.get(issue.id), view.landings.get(issue.id)
        stop = state.stop if state is not None and decision.status in {"review", "skipped"} else None
        pull = pull_of(state, landing)
        text = spec_text(observer.compiled.loaded, milestone, issue)
        found.append(
            Tracked(
                issue,
                text,
                str(decision.status),
                decision.reason,
                landing.commit if landing else "",
                pull=(pull["url"] or f"#{pull['number']}") if pull else "",
                checks=_checks(pull["state"], state) if pull else "",
                needs=(stop.needs if stop else "") or decision.hint,
                findings=stop.lines if stop else (),
                number=int(pull["number"] or 0) if pull else 0,
                review=_review_shown(state),
                created=created.get(issue.id, ""),
                blocked=blocked.get(issue.id, "") if stop else "",
            )
        )
    return found


def _days(observer: Observer, milestone: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the days on which each issue's pull request was opened, and of its last stop."""
    created: dict[str, str] = {}
    blocked: dict[str, str] = {}
    for record in segments.read(observer.compiled.project.state(milestone)):
        if record.kind == "pull" and record.data.get("number"):
            created.setdefault(record.key, record.at[:10])
        elif record.kind == "stopped":
            blocked[record.key] = record.at[:10]
    return created, blocked


def _review_shown(state: IssueState | None) -> str:
    review = state.reviews.get(state.last()) if state is not None else None
    if review is None:
        return "⏳ Pending"
    count = len(review.findings)
    return f"⚠ {count} issue{'s' if count > 1 else ''} found ({review.reviewer})" if count else "✓ No issues"


def _checks(word: str, state: IssueState | None) -> str:
    """Return the state of a pull request and its last known obstacle: checks, a review, a merge."""
    seen = state.pull if state is not None else None
    return f"{word}; {seen.reason}" if seen is not None and seen.waits and seen.reason else word


def _markdown(observer: Observer, milestone: Milestone, issues: list[Tracked]) -> str:
    found = standing_of(observer, milestone.id, held=False)
    status = f"{found.status} ({found.reason})"
    return as_markdown(milestone, status, issues, _last(observer, milestone.id))


def _last(observer: Observer, milestone: str) -> str:
    """Return the time of the latest known record."""
    events = segments.read(observer.compiled.project.state(milestone))
    view = observer.views[milestone]
    landed = max((landing.time for landing in view.landings.values()), default=0)
    at = datetime.fromtimestamp(landed, UTC).isoformat().replace("+00:00", "Z") if landed else ""
    return max([at, *(event.at for event in events[-1:])])


def _epic(observer: Observer, milestone: Milestone) -> str:
    path = observer.compiled.project.milestones / (milestone.epic or "")
    return path.read_text(encoding="utf-8", errors="replace") if milestone.epic and path.is_file() else ""


def _json(observer: Observer, milestone: Milestone, issues: list[Tracked]) -> str:
    status = str(standing_of(observer, milestone.id, held=False).status)
    value = as_json(milestone, status, issues, _epic(observer, milestone))
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def _github(observer: Observer, milestone: Milestone, issues: list[Tracked]) -> str:
    value = as_github(milestone, issues, _epic(observer, milestone))
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def _csv(observer: Observer, milestone: Milestone, issues: list[Tracked]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(as_rows(milestone, issues, _epic(observer, milestone)))
    return out.getvalue()


FORMATS: dict[str, Callable[[Observer, Milestone, list[Tracked]], str]] = {
    "markdown": _markdown,
    "json": _json,
    "github": _github,
    "csv": _csv,
}
"""Names of the formats and their functions."""
