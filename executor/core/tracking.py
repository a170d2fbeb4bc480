"""A milestone as others read it: a Markdown section kept between two marks, GitHub's issues, CSV, JSON. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from executor.core.declaration import Claim, FileCheck, Issue, Milestone, RunCheck
from executor.core.message import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "OWN_FORMAT",
    "Tracked",
    "as_github",
    "as_json",
    "as_markdown",
    "as_rows",
    "between_marks",
    "cell",
    "cell_text",
]

OWN_FORMAT = "make-for-milestones/1"
"""What the JSON calls itself; `doit import` reads it back."""
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""How a cell begins that would be calculated, or one that was guarded against that."""
_COLUMNS = ("id", "title", "type", "priority", "size", "needs", "files", "accept", "number", "phase")


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
        needs: what a person has to do; empty when nothing.
        findings: what stopped it, one line each.
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
    start, stop = text.find(begin), text.find(end)
    if start < 0 and stop < 0:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}{section}"
    if start < 0 or stop < start or text.count(begin) > 1 or text.count(end) > 1:
        raise ValueError(f"expected one {begin} and one {end} after it")
    after = text[stop + len(end) :]
    return text[:start] + section.rstrip("\n") + after


def as_json(milestone: Milestone, status: str, issues: Sequence[Tracked], epic: str) -> dict[str, Any]:
    """Declaration and status as one JSON value."""
    head = milestone.model_dump(mode="json", exclude_defaults=True, exclude={"phases", "issues", "accept"})
    head |= {"accept": _accept(milestone.accept)} if milestone.accept else {}
    return {
        "format": OWN_FORMAT,
        "milestone": {**head, "id": milestone.id, "status": status},
        "phases": [{"name": phase.name, "goal": phase.goal} for phase in milestone.phases],
        "epic": epic,
        "issues": [
            {
                **_fields(item.issue),
                "text": item.text,
                "status": item.status,
                "reason": item.reason,
                "commit": item.commit,
            }
            for item in issues
        ],
    }


def as_github(milestone: Milestone, issues: Iterable[Tracked]) -> list[dict[str, Any]]:
    """Issues in the form of `gh issue list --json number,title,body,labels,milestone,state`."""
    items = list(issues)
    numbers = {item.issue.id: item.issue.number for item in items}
    found = []
    for item in items:
        issue = item.issue
        labels = [f"type:{issue.type}", issue.priority, f"size:{issue.size}"]
        needs = [f"#{numbers[need]}" for need in issue.needs if numbers.get(need) is not None]
        body = item.text.rstrip("\n") + (f"\n\nDepends on {', '.join(needs)}" if needs else "") + "\n"
        found.append(
            {
                "number": issue.number,
                "title": issue.title,
                "body": body,
                "labels": [{"name": label} for label in labels],
                "milestone": {"title": milestone.forge_milestone or milestone.title},
                "state": "CLOSED" if item.status == "landed" else "OPEN",
            }
        )
    return found


def as_rows(issues: Iterable[Tracked]) -> list[list[str]]:
    """A table with its header, one issue a row; lists are separated by spaces, acceptance criteria by lines."""
    rows = [[*_COLUMNS, "status", "reason", "commit", "description"]]
    for item in issues:
        issue = item.issue
        values = {
            **_fields(issue),
            "needs": " ".join(issue.needs),
            "files": " ".join(issue.files),
            "accept": "\n".join(one.text for one in issue.accept if isinstance(one, Claim)),
        }
        row = ["" if values.get(name) is None else str(values.get(name)) for name in _COLUMNS]
        rows.append([cell(text) for text in (*row, item.status, item.reason, item.commit, item.text)])
    return rows


def cell(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula; `cell_text` gives the text back."""
    return f"'{text}" if _FORMULA.match(text) else text


def cell_text(written: str) -> str:
    """The text of a cell."""
    return written[1:] if written.startswith("'") and _FORMULA.match(written[1:]) else written


def _fields(issue: Issue) -> dict[str, Any]:
    """An issue's declaration without what says nothing."""
    found = issue.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"accept", "spec", "body"})
    if found.get("agent") and len(issue.agent or ()) == 1:
        found["agent"] = found["agent"][0]
    return {"id": issue.id, "title": issue.title, **found} | ({"accept": _accept(issue.accept)} if issue.accept else {})


def _accept(items: Iterable[Claim | RunCheck | FileCheck]) -> list[Any]:
    """Acceptance criteria as they are declared."""
    return [item.text if isinstance(item, Claim) else item.model_dump(exclude_defaults=True) for item in items]


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
