"""A milestone in the forms that other tools read: JSON, GitHub's list of issues, CSV. Pure.

Each form holds every key of every issue, so that `doit import` reads back what was declared.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Protocol

from executor.model.milestone import Claim, FileCheck, Issue, Milestone, RunCheck

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["OWN_COLUMNS", "OWN_FORMAT", "Exported", "as_github", "as_json", "as_rows", "cell", "cell_text"]

OWN_FORMAT = "make-for-milestones/1"
"""The name that the JSON gives itself; `doit import` reads it back."""
OWN_COLUMNS = ("id", "title", "type", "priority", "size", "needs", "files", "accept", "number", "phase")
"""The columns that every CSV export begins with; further keys that an issue uses follow."""
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""How a cell begins that would be calculated, or one that was guarded against that."""
_IN_LABELS = frozenset({"id", "title", "type", "priority", "size", "number", "needs"})


class Exported(Protocol):
    """An issue with its text and how far it is."""

    @property
    def issue(self) -> Issue:
        """Its declaration."""

    @property
    def text(self) -> str:
        """Its specification."""

    @property
    def status(self) -> str:
        """Its status word."""

    @property
    def reason(self) -> str:
        """One sentence."""

    @property
    def commit(self) -> str:
        """Its latest landing; empty before that."""


def as_json(milestone: Milestone, status: str, issues: Sequence[Exported], epic: str) -> dict[str, object]:
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


def as_github(milestone: Milestone, issues: Iterable[Exported]) -> list[dict[str, object]]:
    """Issues in the form of `gh issue list --json number,title,body,labels,milestone,state`.

    GitHub's list has no place for ids, for needs of issues without a number, and for most keys: `id`, `needs` and
    `declaration` hold them. Other readers pass over these.
    """
    items = list(issues)
    numbers = {item.issue.id: item.issue.number for item in items}
    found: list[dict[str, object]] = []
    for item in items:
        issue = item.issue
        labels = [f"type:{issue.type}", issue.priority, f"size:{issue.size}"]
        needs = [f"#{numbers[need]}" for need in issue.needs if numbers.get(need) is not None]
        body = item.text.rstrip("\n") + (f"\n\nDepends on {', '.join(needs)}" if needs else "") + "\n"
        found.append(
            {
                "number": issue.number,
                "id": issue.id,
                "title": issue.title,
                "body": body,
                "labels": [{"name": label} for label in labels],
                "milestone": {"title": milestone.forge_milestone or milestone.title},
                "state": "CLOSED" if item.status == "landed" else "OPEN",
                "needs": list(issue.needs),
                "declaration": {key: value for key, value in _fields(issue).items() if key not in _IN_LABELS},
            }
        )
    return found


def as_rows(issues: Iterable[Exported]) -> list[list[str]]:
    """A table with its header, one issue a row.

    Items of lists are separated by spaces, acceptance criteria by lines; a list that would not come back so is JSON.
    """
    items = list(issues)
    values = [_fields(item.issue) for item in items]
    more = sorted({key for row in values for key in row} - set(OWN_COLUMNS))
    names = [*OWN_COLUMNS, *more]
    rows = [[*names, "status", "reason", "commit", "description"]]
    for item, row in zip(items, values, strict=True):
        cells = [_written(name, row) for name in names]
        rows.append([cell(text) for text in (*cells, item.status, item.reason, item.commit, item.text)])
    return rows


def cell(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula; `cell_text` gives the text back."""
    return f"'{text}" if _FORMULA.match(text) else text


def cell_text(written: str) -> str:
    """The text of a cell."""
    return written[1:] if written.startswith("'") and _FORMULA.match(written[1:]) else written


def _written(name: str, row: Mapping[str, Any]) -> str:
    """A value as a cell."""
    if name not in row:
        return ""
    value = row[name]
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        between = "\n" if name == "accept" else " "
        plain = all(
            part.strip() == part and part and not re.search(r"\n" if name == "accept" else r"[\s,]", part)
            for part in value
        )
        if plain and name != "agent" and not value[0].startswith(("[", "{")):
            return between.join(value)
    if isinstance(value, str) and not value.startswith(("[", "{")):
        return value
    return (
        str(value) if isinstance(value, int) and not isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
    )


def _fields(issue: Issue) -> dict[str, object]:
    """An issue's declaration without what says nothing."""
    found = issue.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"accept", "spec", "body"})
    if found.get("agent") and len(issue.agent or ()) == 1:
        found["agent"] = found["agent"][0]
    return {"id": issue.id, "title": issue.title, **found} | ({"accept": _accept(issue.accept)} if issue.accept else {})


def _accept(items: Iterable[Claim | RunCheck | FileCheck]) -> list[Any]:
    """Acceptance criteria as they are declared."""
    return [item.text if isinstance(item, Claim) else item.model_dump(exclude_defaults=True) for item in items]
