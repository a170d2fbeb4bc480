"""Which format a file has, and the draft that it holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from executor.errors import UsageError
from executor.importers.autopilot import read_autopilot
from executor.importers.markdown import sections
from executor.importers.records import read_csv, read_github, read_json, seems_github
from executor.importers.task_loop import TASK, read_task_loop
from executor.model.hints import Known, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.importers.draft import Draft, Source

__all__ = ["FORMATS", "detected", "read"]

FORMATS: dict[str, Callable[[Source], Draft]] = {
    "tasks": read_task_loop,
    "autopilot": read_autopilot,
    "github": read_github,
    "csv": read_csv,
    "json": read_json,
}


def read(source: Source, name: str) -> Draft:
    """The draft of a milestone that a source holds; `name` is the format, or empty to find out.

    Raises:
        UsageError: there is no such format.
    """
    name = name or detected(source)
    if name not in FORMATS:
        raise UsageError(f"unknown format {quoted(name)}{Known(FORMATS).advice(name, 'formats')}")
    return FORMATS[name](source)


def detected(source: Source) -> str:
    """The name of a source's format, from its name and content."""
    lower = source.name.casefold()
    if lower.endswith(".csv"):
        return "csv"
    if lower.endswith(".json"):
        try:
            return "github" if seems_github(json.loads(source.text)) else "json"
        except (ValueError, RecursionError):
            return "json"
    return "tasks" if any(TASK.match(part.title) for part in sections(source.text) if part.level) else "autopilot"
