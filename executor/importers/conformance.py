"""Holds an importer against its protocol; a package with an importer of its own runs this in its tests.

from executor.importers.conformance import check

def test_my_importer_keeps_its_word() -> None:
    assert check(MyImporter(), [Source("plan.my", TEXT)]) == []
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from executor.importers.draft import Draft, draft_faults
from executor.importers.importer import Guide, Importer
from executor.importers.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["HOSTILE", "check", "lost"]

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
"""Texts that no importer may stumble over."""
_SURE = 100


def check(importer: Any, samples: Sequence[Source]) -> list[str]:
    """What an importer does not keep of what `Importer` promises; empty if it keeps all.

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
        yield from (f"{sample.name}: {word!r} is neither in the draft nor reported" for word in lost(draft, sample))


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


def lost(draft: Draft, source: Source) -> list[str]:
    """The long words of a source that are in no part of a draft and in none of its notes.

    Words of five letters and more that stand in the source once: shorter ones are found anywhere.
    """
    texts = [source.text, *(source.beside(name) or "" for name in source.files)]
    words = [word for text in texts for word in re.findall(r"[^\W\d_]{5,}", text)]
    once = {word for word in words if words.count(word) == 1}
    return sorted(word for word in once if word not in said(draft))


def said(draft: Draft) -> str:
    """Everything that a draft says, as one text; lines that it calls informative without a reason are kept elsewhere."""
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
