"""Tests an importer against its protocol; a package with its own importer runs this in its tests.

from executor.importers.conformance import check

def test_my_importer_keeps_its_word() -> None:
    assert check(MyImporter(), [Source("plan.my", TEXT)]) == []
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from executor.importers.draft import Draft, draft_faults
from executor.importers.importer import Guide, Importer
from executor.importers.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["HOSTILE", "WORD", "check", "keeps", "keeps_at", "lost", "planted", "said"]

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
_SURE = 100
_PLACES = 60


def check(importer: Any, samples: Sequence[Source]) -> list[str]:
    """Return the promises of `Importer` that an importer breaks; empty if it keeps all.

    Args:
        importer: the importer.
        samples: sources of its format, each with at least one issue.
    """
    return list(_problems(importer, samples))


def _problems(importer: Any, samples: Sequence[Source]) -> Iterator[str]:
    if not isinstance(importer, Importer) or not isinstance(importer.guide, Guide):
        yield "it lacks name, guide, recognises or read"
        return
    if not re.fullmatch(r"[a-z][a-z0-9-]*", importer.name):
        yield f"its name {importer.name!r} is no word of small letters, digits and dashes"
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
