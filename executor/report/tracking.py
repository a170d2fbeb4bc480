"""A milestone as others read it: a Markdown section kept between two marks, GitHub's issues, CSV, JSON. Pure.

The tracking section of a milestone, from the same facts as every status.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.config.load_milestones import spec_text
from executor.errors import ExecutorError, UsageError
from executor.git.trailers import one_line
from executor.process.files import write_over
from executor.report.exports import as_github, as_json, as_rows
from executor.report.snapshot import standing_of
from executor.state import segments
from executor.status.summary_cache import pull_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from executor.engine.session import Session
    from executor.model.milestone import Issue, Milestone
    from executor.state.model import IssueState
    from executor.status.reader import Observer

__all__ = [
    "FORMATS",
    "Tracked",
    "as_markdown",
    "between_marks",
    "exported",
    "keep_section",
    "keep_tracking",
    "tracked",
]


@dataclass(frozen=True, slots=True)
class Tracked:
    """One issue and how far it is.

    Attributes:
        issue: its declaration.
        text: its specification.
        status: its status word.
        reason: one sentence.
        commit: its latest landing; empty before that.
        pull: its pull request, number or address; empty when there is none.
        checks: its state (``open``, ``draft``, ``closed``, ``merged``), then what it waits for, if that is known.
        needs: the action that a person has to take; empty for none.
        findings: reasons of a stop, one line each.
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

    @property
    def name(self) -> str:
        """How it is called: number where it has one, id, title."""
        number = f"#{self.issue.number} " if self.issue.number is not None else ""
        return f"{number}{self.issue.id} - {_said(self.issue.title)}"


def as_markdown(milestone: Milestone, status: str, issues: Sequence[Tracked], updated: str) -> str:
    """The tracking section of a milestone, with its marks.

    Args:
        milestone: its declaration.
        status: its state and reason.
        issues: in the order of the file.
        updated: time of the last thing that happened.
    """
    landed = [item for item in issues if item.status == "landed"]
    current = next((item for item in issues if item.status in {"running", "open", "pending", "stale"}), None)
    waiting = [item for item in issues if item.status in {"review", "failed"}]
    parts = [
        f"## Tracking: {milestone.id} - {_said(milestone.title)}",
        f"**Status:** {_said(status)}; {len(landed)} of {len(issues)} landed",
        "### Completed issues",
        _list(f"[{'x' if item in landed else ' '}] {item.name}{_where(item)}" for item in issues),
        "### Open pull requests",
        _list(
            f"{_said(item.pull)} {item.name}: {_said(item.checks or item.reason)}"
            for item in issues
            if item.pull and item.checks.partition(";")[0] in {"open", "draft"}
        ),
        "### Blocked / needs review",
        _list(_finding(item) for item in waiting),
        "### Skipped issues",
        _list(f"{item.name}: skipped: {_said(item.reason)}" for item in issues if item.status == "skipped"),
        "### Current phase",
        _list(
            [
                f"**Phase:** {_said((current.issue.phase if current else '') or 'none')}",
                f"**Current issue:** {current.name if current else 'none'}",
                f"**Blockers:** {', '.join(item.issue.id for item in waiting) or 'none'}",
            ]
        ),
        f"**Last updated:** {_said(updated) or 'never'}",
    ]
    begin, end = _marks(milestone.id)
    return "\n".join([begin, "\n\n".join(parts), end]) + "\n"


def between_marks(text: str, section: str, milestone: str) -> str:
    """A text with a milestone's section put in the place of the one before, or at its end; all else stays as it is.

    Raises:
        ValueError: only one of the two marks is there, or they are in the wrong order.
    """
    begin, end = _marks(milestone)
    if "\r\n" in text:
        # A file with the line ends of Windows keeps them, in our section too.
        section = section.replace("\n", "\r\n")
    start, stop = text.find(begin), text.find(end)
    if start < 0 and stop < 0:
        line = "\r\n" if "\r\n" in text else "\n"
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
    return f" ({_said(item.pull) + ', ' if item.pull else ''}{item.commit[:10]})" if item.status == "landed" else ""


def _finding(item: Tracked) -> str:
    lines = [f"**{item.name}**: {_said(item.reason)}" + (f"; needs: {_said(item.needs)}" if item.needs else "")]
    lines += [f"  {place}. {_said(line)}" for place, line in enumerate(item.findings[:20], 1)]
    return "\n".join(lines)


def _said(text: str) -> str:
    """Somebody else's words on one line of Markdown, without marks of ours and without calling anybody."""
    plain = one_line(text).replace("<!--", "< !--").replace("-->", "-- >")
    return re.sub(r"@(?=[A-Za-z0-9])", "@\u200b", plain)


def exported(observer: Observer, milestone: str, form: str) -> str:
    """A milestone in one of `FORMATS`."""
    view = observer.views[milestone]
    return FORMATS[form](observer, view.milestone, tracked(observer, milestone))


def keep_section(path: Path, observer: Observer, milestone: str) -> bool:
    """Bring a milestone's section of a Markdown file up to date; whether anything changed.

    Raises:
        UsageError: the file's marks are damaged.
    """
    try:
        before = path.read_bytes().decode("utf-8") if path.exists() else ""
        text = between_marks(before, exported(observer, milestone, "markdown"), milestone)
    except ValueError as error:
        raise UsageError(f"{path.name}: {error}; mend it, or remove both") from error
    if text == before:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_over(path, text.encode())
    return True


def keep_tracking(session: Session) -> list[str]:
    """At the end of a run, bring the file of `rules/status.toml` up to date; says what went wrong."""
    name = session.policy.status.tracking
    problems = []
    for run in session.runs() if name else ():
        try:
            keep_section(session.project.root / name, session.observer, run.name)
        except (ExecutorError, OSError) as error:
            problems.append(f"{name} was not updated: {error}")
    return problems


def tracked(observer: Observer, milestone: str) -> list[Tracked]:
    """Its issues and how far they are, in the order of the file."""
    view = observer.views[milestone]
    found = []
    for issue in view.milestone.issues:
        ref = f"{milestone}/{issue.id}"
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
            )
        )
    return found


def _checks(word: str, state: IssueState | None) -> str:
    """State of a pull request and its last known obstacle: checks, a review, a merge."""
    seen = state.pull if state is not None else None
    return f"{word}; {seen.reason}" if seen is not None and seen.waits and seen.reason else word


def _markdown(observer: Observer, milestone: Milestone, issues: list[Tracked]) -> str:
    found = standing_of(observer, milestone.id, held=False)
    status = f"{found.status} ({found.reason})"
    return as_markdown(milestone, status, issues, _last(observer, milestone.id))


def _last(observer: Observer, milestone: str) -> str:
    """When the last thing happened that is known of."""
    events = segments.read(observer.compiled.project.state(milestone))
    view = observer.views[milestone]
    landed = max((landing.time for landing in view.landings.values()), default=0)
    at = datetime.fromtimestamp(landed, UTC).isoformat().replace("+00:00", "Z") if landed else ""
    return max([at, *(event.at for event in events[-1:])])


def _json(observer: Observer, milestone: Milestone, issues: list[Tracked]) -> str:
    path = observer.compiled.project.milestones / (milestone.epic or "")
    epic = path.read_text(encoding="utf-8", errors="replace") if milestone.epic and path.is_file() else ""
    value = as_json(milestone, str(standing_of(observer, milestone.id, held=False).status), issues, epic)
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def _github(_observer: Observer, milestone: Milestone, issues: list[Tracked]) -> str:
    return json.dumps(as_github(milestone, issues), indent=1, ensure_ascii=True) + "\n"


def _csv(_observer: Observer, _milestone: Milestone, issues: list[Tracked]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(as_rows(issues))
    return out.getvalue()


FORMATS: dict[str, Callable[[Observer, Milestone, list[Tracked]], str]] = {
    "markdown": _markdown,
    "json": _json,
    "github": _github,
    "csv": _csv,
}
"""Names of the formats and what writes them."""
