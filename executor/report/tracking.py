"""The tracking file of a milestone: its section, written during a run and for an export, and its push.

A plan that has a tracking section keeps it, with its headings and layout. The section is recognised by its
headings (Completed Issues, Open PRs, Blocked / Needs Review, Skipped Issues, Current Phase) at any level. Text by
people above the first item of each remains; the items are replaced. Otherwise our section stands between two marks.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.config.load_milestones import spec_text
from executor.errors import ExecutorError, UsageError
from executor.git.remote import push_files
from executor.model.fingerprint import IssueRef
from executor.process.files import write_over
from executor.report.exports import WRITERS, Tracked
from executor.report.snapshot import standing_of
from executor.report.text import as_markdown, between_marks, inline, marks_of
from executor.state import segments
from executor.status.summary_cache import pull_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from executor.engine.session import Session
    from executor.model.milestone import Milestone
    from executor.state.model import IssueState
    from executor.state.record import Record
    from executor.status.reader import Observer

__all__ = ["FORMATS", "exported", "filled", "keep_section", "keep_tracking", "tracked", "tracking_kept"]

FORMATS = ("markdown", *WRITERS)
"""Names of the formats of an export."""
_TOLD = frozenset({"attempt-started", "attempt-failed", "landed", "pull", "stopped", "verified"})
"""Kinds of events that change the tracking file."""
_LEAST_PAUSE = 1.0  # seconds; and nine times as long as a writing took, so it costs at most a tenth
_PUSHED_EVERY = 60.0  # seconds; forges count pushes, and a person looks less often
_TRACKED = "Track the milestones"
"""Subject of the commits on the branch of tracking files."""


def exported(observer: Observer, milestone: str, form: str) -> str:
    """Export a milestone in one of `FORMATS`."""
    declared, issues = observer.views[milestone].milestone, tracked(observer, milestone)
    found = standing_of(observer, milestone, held=False)
    if form == "markdown":
        return as_markdown(declared, f"{found.status} ({found.reason})", issues, _last(observer, milestone))
    return WRITERS[form](declared, str(found.status), issues, _epic(observer, declared))


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
        text = None if marks_of(milestone)[0] in before else _plan_filled(before, observer, milestone, at_work)
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


def _plan_filled(text: str, observer: Observer, milestone: str, at_work: frozenset[str]) -> str | None:
    """Return the plan with its own tracking section filled in; None if it has none."""
    issues = tracked(observer, milestone, at_work)
    landed = sum(item.status == "landed" for item in issues)
    begun = landed or any(item.pull or item.status not in {"pending", "blocked"} for item in issues)
    status = "Complete" if issues and landed == len(issues) else "In Progress" if begun else "Not Started"
    return filled(text, issues, day=_last(observer, milestone)[:10] or "never", status=status)


def _checks_shown(item: Tracked) -> str:
    """Format the state of the forge's checks with the sign that people's plans use for it."""
    state, _, why = item.checks.partition("; ")
    if state == "draft":
        return "⏳ Draft, waits for a person"
    if why and item.status == "open":
        return f"⏳ Pending: {why}"
    return f"⚠ {why}" if why else "✓ Checks passing"


def tracked(observer: Observer, milestone: str, at_work: frozenset[str] = frozenset()) -> list[Tracked]:
    """Return its issues and their progress, in the order of the file; `at_work` has qualified ids."""
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
                at_work=ref in at_work,
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


_KINDS = (
    ("done", re.compile(r"^completed? issues?\b", re.IGNORECASE)),
    ("pulls", re.compile(r"^open (?:prs?|pull requests?)\b", re.IGNORECASE)),
    ("blocked", re.compile(r"^blocked\b|^needs review\b", re.IGNORECASE)),
    ("skipped", re.compile(r"^skipped\b", re.IGNORECASE)),
    ("now", re.compile(r"^current phase\b", re.IGNORECASE)),
)
_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
_ITEM = re.compile(r"^\s*(?:([-*+])\s|\d+[.)]\s|\(none\))")
_RULE = re.compile(r"^ {0,3}(?:-{3,}|\*{3,}|_{3,})\s*$")
_FOOT = re.compile(r"^\*\*(Last Updated|Status):\*\*.*$", re.IGNORECASE)
_LEAST = 2
"""Minimum number of these headings in a tracking section."""


def filled(text: str, issues: Sequence[Tracked], *, day: str, status: str) -> str | None:
    """Return a plan with its tracking section filled in; None if it has none.

    Args:
        text: the plan.
        issues: its issues, in order.
        day: day of the latest record, ``2026-11-28``.
        status: ``Not Started``, ``In Progress`` or ``Complete``.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.split(end)
    headings = _headings(lines)
    parts = _parts(headings, len(lines))
    if len(parts) < _LEAST:
        return None
    region = max(stop for _, stop in parts.values())
    for place in range(min(start for start, _ in parts.values()), _end_of_region(lines, headings, region)):
        foot = _FOOT.match(lines[place])
        if foot:
            lines[place] = f"**{foot[1]}:** {day if foot[1].lower() == 'last updated' else status}"
    for kind, (start, stop) in sorted(parts.items(), key=lambda item: -item[1][0]):
        lines[start:stop] = _filled_part(lines[start:stop], _ITEMS[kind](issues))
    return end.join(lines)


def _headings(lines: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return line, level and title of every heading outside code blocks."""
    found, fence = [], ""
    for place, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1][:3]
        elif mark and line.strip().startswith(fence):
            fence = ""
        elif not fence and (heading := _HEADING.match(line)):
            found.append((place, len(heading[1]), re.sub(r"[*_`]", "", heading[2])))
    return found


def _parts(headings: Sequence[tuple[int, int, str]], count: int) -> dict[str, tuple[int, int]]:
    """Return the lines below each heading of the most complete section; the last one of several equal ones."""
    groups: list[dict[str, tuple[int, int]]] = [{}]
    for number, (place, _, title) in enumerate(headings):
        kind = next((kind for kind, pattern in _KINDS if pattern.match(title)), "")
        after = headings[number + 1][0] if number + 1 < len(headings) else count
        if not kind:
            if groups[-1]:
                groups.append({})
        elif kind in groups[-1]:
            groups.append({kind: (place + 1, after)})
        else:
            groups[-1][kind] = (place + 1, after)
    return max(reversed(groups), key=len)


def _end_of_region(lines: Sequence[str], headings: Sequence[tuple[int, int, str]], last: int) -> int:
    """Return the end of the section: the next heading below its last part, else the end of the text."""
    return next((place for place, _, _ in headings if place >= last), len(lines))


def _filled_part(lines: Sequence[str], items: Sequence[str]) -> list[str]:
    """Replace the items below one heading; keeps text above the first item, and a rule or footer below."""
    first = next((place for place, line in enumerate(lines) if _ITEM.match(line) or _FENCE.match(line)), None)
    foot = next((place for place, line in enumerate(lines) if _RULE.match(line) or _FOOT.match(line)), len(lines))
    first = foot if first is None or first > foot else first
    bullet = next((found[1] for line in lines[first:foot] if (found := _ITEM.match(line)) and found[1]), "*")
    head = list(lines[:first])
    while head and not head[-1].strip():
        head.pop()
    shown = [line.replace("* ", f"{bullet} ", 1) if line.startswith("* ") else line for line in items or ["* (none)"]]
    return [*head, "", *shown, "", *lines[foot:]]


def _completed(issues: Sequence[Tracked]) -> list[str]:
    found = []
    for item in issues:
        done = item.status == "landed"
        link = f" — {_link(item)}" if done and item.number else ""
        found.append(
            f"* [{'x' if done else ' '}] {item.short} — {inline(item.issue.title)}{' ✅ Done' if done else ''}{link}"
        )
    return found


def _pulls(issues: Sequence[Tracked]) -> list[str]:
    found = []
    for item in issues:
        if item.number and item.status in {"open", "review", "failed", "skipped", "pending", "running", "stale"}:
            found += [
                f"* {_link(item)} — {inline(item.issue.title)} ({item.short})",
                f"  - Status: {_checks_shown(item)}",
                f"  - Code Review: {inline(item.review)}",
                f"  - Created: {item.created or 'unknown'}",
            ]
    return found


def _blocked(issues: Sequence[Tracked]) -> list[str]:
    found = []
    for item in issues:
        if item.status not in {"review", "failed"}:
            continue
        found += [
            f"* **{item.short}** (plan {item.issue.id}) — {inline(item.issue.title)}",
            f"  - Reason: {inline(item.reason)}",
        ]
        if item.findings:
            found.append("  - Findings:")
            found += [f"    {place}. {inline(line)}" for place, line in enumerate(item.findings[:20], 1)]
        found += [f"  - Needs: {inline(item.needs)}"] if item.needs else []
        found += [f"  - PR: {_link(item)}"] if item.number else []
        found += [f"  - Blocked Date: {item.blocked}"] if item.blocked else []
    return found


def _skipped(issues: Sequence[Tracked]) -> list[str]:
    return [
        f"* {item.short} — {inline(item.issue.title)} — Skipped: {inline(item.reason)}"
        for item in issues
        if item.status == "skipped"
    ]


def _now(issues: Sequence[Tracked]) -> list[str]:
    """Return the issue in progress, else the first that can continue, else the first that waits for a person."""
    open_ones = [item for item in issues if item.status != "landed"]
    going = [item for item in open_ones if item.status in {"running", "open", "pending", "stale"}]
    current = next((item for item in open_ones if item.at_work), None) or next(iter([*going, *open_ones]), None)
    waiting = [item.short for item in open_ones if item.status in {"review", "failed"}]
    return [
        f"* **Phase:** {inline(current.issue.phase or '') or 'none' if current else 'Complete'}",
        f"* **Current Issue:** {current.short if current else 'None'}",
        f"* **Blockers:** {', '.join(waiting) or 'None'}",
    ]


_ITEMS: Mapping[str, Callable[[Sequence[Tracked]], list[str]]] = {
    "done": _completed,
    "pulls": _pulls,
    "blocked": _blocked,
    "skipped": _skipped,
    "now": _now,
}


def _link(item: Tracked) -> str:
    return f"[PR #{item.number}]({item.url})" if item.url else f"PR #{item.number}"
