"""Plug-ins as another package would offer them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.importers.draft import Draft, DraftIssue, milestone_id, unique_id
from executor.importers.importer import Guide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.git.diff import Finding
    from executor.importers.source import Source
    from executor.notify.phase_hook import Notice
    from executor.stop_rules.view import View

__all__ = ["ExampleAgent", "ExampleChannel", "ExampleCheck", "ExampleImporter", "no_shouting"]


class ExampleAgent:
    """Writes its brief into a file."""

    def profile(self) -> dict[str, Any]:
        """Keys of `[agent.NAME]`."""
        return {
            "command": ["sh", "-c", "cat > brief.txt; echo done > {file}"],
            "isolation": "none",
            "options": ["file"],
        }


class ExampleCheck:
    """Wants a certain file."""

    def check(self) -> dict[str, Any]:
        """Keys of `[check.NAME]`."""
        return {"run": ["test", "-s", "dodo.py"], "sabotage": "off", "sabotage_reason": "it looks at one file only"}


class ExampleChannel:
    """Appends titles to the file that the variable MFM_EXAMPLE_NOTICES names."""

    def send(self, notice: Notice, timeout: float) -> str | None:
        """Send a notice; returns None, or why it was not sent."""
        _ = timeout
        place = os.environ.get("MFM_EXAMPLE_NOTICES")
        if place is None:
            return "MFM_EXAMPLE_NOTICES is not set"
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(f"{notice.kind} {notice.title}\n")
        return None


class ExampleImporter:
    """Reads files that begin with `plan:`, with one issue a line."""

    name = "example"
    guide = Guide(
        "a line `plan: TITLE`, then one issue a line",
        "plan: M4 Settings\nCreate the settings class\n",
        {"plan: TITLE": "the milestone", "any other line": "an issue with that title"},
        "nothing",
    )

    def recognises(self, source: Source) -> int:
        """Sure if the first line says so."""
        return 90 if source.text.startswith("plan:") else 0

    def read(self, source: Source) -> Draft:
        """One issue a line."""
        first, _, rest = source.text.partition("\n")
        title = first.removeprefix("plan:").strip()
        issues: dict[str, DraftIssue] = {}
        for number, line in enumerate(rest.splitlines(), 2):
            if line.strip() and line.strip().isprintable():
                name = unique_id(str(len(issues) + 1), issues)
                issues[name] = DraftIssue(name, line.strip(), line.strip(), number)
        return Draft(milestone_id(title) if title else "", title, issues=tuple(issues.values()))


def no_shouting(view: View) -> Iterator[Finding]:
    """Added lines in capital letters."""
    for file in view.files:
        for line in file.lines:
            if line.added and line.text.isupper() and line.text.isascii():
                yield file.path, line.number, f"it shouts: {line.text[:40]}"
