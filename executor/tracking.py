"""What is told of a milestone to people who do not ask us: gathered from the same facts as every status."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.adapters import segments
from executor.adapters.declarations import spec_text
from executor.adapters.files import write_atomic
from executor.board import pull_of
from executor.core.tracking import Tracked, as_github, as_json, as_markdown, as_rows, between_marks
from executor.errors import ExecutorError, UsageError
from executor.picture import standing_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from executor.core.declaration import Milestone
    from executor.core.state import IssueState
    from executor.observe import Observer
    from executor.session import Session

__all__ = ["FORMATS", "exported", "keep_section", "keep_tracking", "tracked"]


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
    write_atomic(path, text.encode(), durable=False, mode=0o644)
    return True


def keep_tracking(session: Session) -> list[str]:
    """At the end of a run, bring the file of `rules/status.toml` up to date; says what went wrong."""
    name = session.policy.status.tracking
    problems = []
    for run in session.runs() if name else ():
        try:
            keep_section(session.project.root / name, session.observer, run.name)
        except (ExecutorError, OSError) as error:
            problems.append(f"{name} was not brought up to date: {error}")
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
    """State of a pull request and what it was last seen to wait for: checks, a review, a merge."""
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
