"""The importer protocol, and the installed importers: entry points of the group `make_for_milestones.importers`.

`check_importer` holds an importer of another package against the protocol; that package runs it in its tests:

    assert check_importer(MyImporter(), [Source("plan.my", TEXT)]) == []

`guides.toml` describes the formats of this package; docs/import.md has the same text.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from executor.errors import UsageError
from executor.model.hints import Known, counted, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from executor.importers.draft import Draft
    from executor.importers.source import Source


__all__ = [
    "GROUP",
    "HOSTILE",
    "WORD",
    "Guide",
    "Importer",
    "check_importer",
    "chosen",
    "guide_of",
    "guide_text",
    "installed",
    "keeps",
    "keeps_at",
    "lost",
    "planted",
    "said",
]

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

    `check_importer` tests an importer against this protocol.
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
            f"{source.name} is {seen(source)}, not a plan in a known format: {', '.join(known)}; "
            "`doit import --formats` shows them"
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


HOSTILE = (
    "",
    "\n\n\n",
    "{",
    "[[[[",
    '{"a": [1, {"b": null}]}',
    "---\na: [\n---\n",
    "# T\n\n```\nnever closed",
    "- [ ] \n- [x]\n",
    "| a | b |\n|---|---|\n| 1 |\n",
    'id,title\n1,"x\n',
    "a: &a [*a]\n",
    "\ufeff# M1\n\x00\x07",
)
"""Texts that every importer must survive."""
WORD = "zqxjkvword"
"""A word that occurs in no plan."""
_LEFT = re.compile(r"left out|not read|not imported")
# A key without a value has no content.
_EMPTY = re.compile(r"[\w-]*\"?\s*:\s*(?:\"\"|\[\]|[{][}]|null)")
_SURE = 100  # per cent
_PLACES = 60  # places that the test for lost text changes, spread over the source; a choice


def check_importer(importer: Any, samples: Sequence[Source]) -> list[str]:
    """Return the promises of `Importer` that an importer breaks; empty if it keeps all.

    Args:
        importer: the importer.
        samples: sources of its format, each with at least one issue.
    """
    return list(_problems(importer, samples))


def _problems(importer: Any, samples: Sequence[Source]) -> Iterator[str]:
    from executor.importers.draft import draft_faults
    from executor.importers.source import Source

    if not isinstance(importer, Importer) or not isinstance(importer.guide, Guide):
        yield "it lacks name, guide, recognises or read"
        return
    if not re.fullmatch(r"[a-z][a-z0-9-]*", importer.name):
        yield f"its name {importer.name!r} is not a word of lowercase letters, digits and dashes"
    for text in HOSTILE:
        yield from _survives(importer, Source("plan.txt", text), "a hostile text")
    for sample in samples:
        sure = importer.recognises(sample)
        if not 0 < sure <= _SURE:
            yield f"{sample.name}: it is {sure} sure of a source of its own format, expected 1 to 100"
        yield from _survives(importer, sample, sample.name)
        draft = importer.read(sample)
        yield from (f"{sample.name}: {fault}" for fault in draft_faults(draft, sample.name, {}))
        if draft != importer.read(sample):
            yield f"{sample.name}: it reads the same source differently the second time"
        yield from (f"{place}: a word is neither in the draft nor reported" for place in lost(importer, sample))


def _survives(importer: Any, source: Source, what: str) -> Iterator[str]:
    from executor.importers.draft import Draft, draft_faults

    try:
        sure: Any = importer.recognises(source)
        draft: Any = importer.read(source)
        list(draft_faults(draft, source.name, {}))
    except Exception as error:  # noqa: BLE001  (whatever a stranger's importer raises is what is looked for)
        yield f"it raises {type(error).__name__} for {what}: {error}"
        return
    if not isinstance(sure, int) or not 0 <= sure <= _SURE:
        yield f"it is {sure!r} sure of {what}, expected 0 to 100"
    if not isinstance(draft, Draft):
        yield f"it reads {what} as {type(draft).__name__}, expected a Draft"


def lost(importer: Any, source: Source, places: int = _PLACES) -> list[str]:
    """Return the lines of a source from which a word is lost without a report.

    An unknown word is inserted after words of the source, one at a time, at evenly spread places. It must appear in the
    draft, in a note, in a fault, or on a line that the account calls informative.

    Args:
        importer: the importer.
        source: a source of its format.
        places: number of places to try.
    """
    found = [(name, at) for name, text in _texts(source).items() for at in _words(text)]
    step = max(1, len(found) // places)
    return [
        f"{name or source.name}: line {_texts(source)[name][:at].count(chr(10)) + 1}"
        for name, at in found[::step]
        if not keeps_at(importer, source, name, at)
    ]


def keeps_at(importer: Any, source: Source, name: str, at: int) -> bool:
    """Return whether a word inserted at a position of a file (empty: of the plan itself) is kept."""
    if _EMPTY.match(_texts(source)[name], at):
        return True
    return keeps(importer, planted(source, name, at), importer.read(source), name)


def planted(source: Source, name: str, at: int) -> Source:
    """Return a source with the word inserted at a position of one of its files (empty: of its own text)."""
    text = _texts(source)[name]
    changed = f"{text[:at]} {WORD}{text[at:]}"
    if not name:
        return replace(source, text=changed)
    return replace(source, beside=lambda path: changed if path == name else source.beside(path))


def keeps(importer: Any, source: Source, before: Draft | None = None, file: str = "") -> bool:
    """Return whether the word is in the draft of a source, in a note, or on an informative line.

    It also counts as kept if nothing is imported, if the draft reports that it omits an entry that it took without the
    word, or if it names the file as one that is not read, or that agents read in place.
    """
    draft = importer.read(source)
    if draft.faults or not draft.issues:
        return True
    known = {note.text for note in before.notes} if before is not None else set()
    if any(_LEFT.search(note.text) for note in draft.notes if note.text not in known):
        return True
    if file and file in said(replace(draft, issues=())):
        return True
    lines = [account.lines[line - 1] for account in draft.accounts for line, why in account.informative.items() if why]
    return WORD in said(draft) or any(WORD in line for line in lines)


def _texts(source: Source) -> dict[str, str]:
    """Return the texts of a source by file; its own text has an empty name."""
    if not source.files:
        return {"": source.text}
    return {name: source.beside(name) or "" for name in source.files}


def _words(text: str) -> list[int]:
    """Return the ends of the words of a text."""
    return [hit.end() for hit in re.finditer(r"[A-Za-z]{4,}", text)]


def said(draft: Draft) -> str:
    """Return all texts of a draft as one; lines that are informative without a reason are kept elsewhere."""
    parts = [
        draft.id,
        draft.title,
        draft.epic,
        draft.overview,
        repr(draft.fields),
        repr(draft.phases),
        repr(draft.after),
    ]
    for issue in draft.issues:
        parts += [issue.id, issue.title, issue.text, repr(issue.fields), issue.hold, repr(issue.outside)]
    notes = [*draft.notes, *(note for account in draft.accounts for note in account.notes())]
    parts += [note.text for note in notes]
    parts += [str(fault) for fault in draft.faults]
    return "\n".join(parts)
