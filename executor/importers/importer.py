"""The importer protocol, and the installed importers: entry points of the group `make_for_milestones.importers`.

`guides.toml` describes the formats of this package; docs/import.md has the same text.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from executor.errors import UsageError
from executor.model.hints import Known, counted, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.importers.draft import Draft
    from executor.importers.source import Source

__all__ = ["GROUP", "Guide", "Importer", "chosen", "guide_of", "guide_text", "installed"]

GROUP = "make_for_milestones.importers"


@dataclass(frozen=True, slots=True)
class Guide:
    """The user documentation of a format.

    Attributes:
        summary: one line about the files.
        example: a short realistic file.
        becomes: part of the file -> its result.
        left_out: parts that are omitted and reported.
    """

    summary: str
    example: str
    becomes: Mapping[str, str]
    left_out: str


@cache
def _guides() -> dict[str, Guide]:
    text = files("executor.importers").joinpath("guides.toml").read_text(encoding="utf-8")
    return {name: Guide(**guide) for name, guide in tomllib.loads(text).items()}


def guide_of(name: str) -> Guide:
    """Return the guide of a format of this package."""
    return _guides()[name]


def guide_text(importer: Importer) -> str:
    """Return the page of a format, as Markdown."""
    guide = importer.guide
    rows = [f"| {part} | {becomes} |" for part, becomes in guide.becomes.items()]
    fence = "````" if "```" in guide.example else "```"
    return "\n".join(
        [
            f"### `{importer.name}`",
            "",
            f"{guide.summary[:1].upper()}{guide.summary[1:]}.",
            "",
            f"{fence}text",
            guide.example.rstrip("\n"),
            fence,
            "",
            "| part | becomes |",
            "|---|---|",
            *rows,
            "",
            f"Left out: {guide.left_out}.",
            "",
        ]
    )


@runtime_checkable
class Importer(Protocol):
    """Reads plans of one format. It is stateless; a class without arguments is registered.

    `executor.importers.conformance.check` tests an importer against this protocol.
    """

    name: str
    """The name for `--format`."""
    guide: Guide

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has its format: 0 (no) to 100. It never raises."""

    def read(self, source: Source) -> Draft:
        """Return the milestone in a source.

        It never raises for the content of a source: errors are faults of the draft, unknown parts are notes.
        """


@cache
def installed() -> dict[str, Importer]:
    """Return the importers by name; those of this package first.

    Raises:
        UsageError: an importer of another package cannot be loaded.
    """
    found: dict[str, Importer] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: not entry.value.startswith("executor.")):
        try:
            importer = entry.load()()
        except Exception as error:
            owner = entry.dist.name if entry.dist is not None else "a package"
            raise UsageError(
                f"the importer {quoted(entry.name)} of {owner} cannot be loaded ({error}); update or uninstall it"
            ) from error
        found.setdefault(entry.name, importer)
    return found


def chosen(source: Source, name: str = "") -> Importer:
    """Return the importer of a format, or the one with the highest confidence in a source.

    Raises:
        UsageError: the format does not exist, or no importer recognises the source.
    """
    known = installed()
    if name:
        if name not in known:
            raise UsageError(f"unknown format {quoted(name)}{Known(known).advice(name, 'formats')}")
        return known[name]
    sure, best = max(((importer.recognises(source), name) for name, importer in known.items()), default=(0, ""))
    if sure <= 0:
        raise UsageError(
            f"{source.name} is {seen(source)}, not a plan of a format that is known: {', '.join(known)}; "
            "`doit import --formats` shows what each looks like"
        )
    return known[best]


def seen(source: Source) -> str:
    """Describe the appearance of a source, whatever its format."""
    if source.files:
        return f"a folder of {counted(len(source.files), 'file')}"
    if not source.text.strip():
        return "an empty file"
    ending = source.stem.rpartition(".")[2]
    if ending in {"json", "jsonl", "yaml", "yml", "csv", "tsv", "toml"}:
        return f"a {ending.upper()} file"
    from executor.importers.reading.markdown import document

    parts = document(source.text).sections
    boxes = sum(item.box is not None for part in parts for item in part.every_item())
    tables = sum(len(part.tables) for part in parts)
    return f"Markdown with {sum(part.level > 0 for part in parts)} headings, {boxes} boxes and {tables} tables"
