"""Lists of boxes: the groups of boxes that become issues, and the milestone of some groups. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.importers.draft import Draft, DraftIssue, Note, Source
from executor.importers.reading.markdown import Document, Item, Section, plain
from executor.importers.reading.words import without_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "NUMBER",
    "TASK",
    "TITLE",
    "Group",
    "beside",
    "boxes_of",
    "cut",
    "draft_of_groups",
    "folder_id",
    "is_markdown",
    "path_of",
    "short",
]

TASK = re.compile(r"^(?:\*\*)?(T\d{2,4}[a-z]?)(?:\*\*)?\b[:.]?\s*((?:\[[^\]]*\]\s*)*)(.*)$")
NUMBER = re.compile(r"^(?:\*\*)?(?:Task\s+)?(\d+(?:\.\d+)*)\.?(?:\*\*)?\s*[:.)–—-]*\s+(.*)$", re.IGNORECASE)
TITLE = re.compile(r"^(?:implementation )?(?:tasks?|todos?|plan)(?: list)?\s*[:–—-]+\s*", re.IGNORECASE)
_LONGEST_TITLE = 120


@dataclass(slots=True)
class Group:
    """The boxes that become one issue.

    Attributes:
        id: of the issue.
        title: of the issue.
        line: where it begins.
        lines: the numbers of its lines.
        boxes: all its boxes.
        fields: keys of its declaration.
        phase: the chapter that it is in.
        whole: its own box, if it has one.
    """

    id: str
    title: str
    line: int
    lines: list[int] = field(default_factory=list)
    boxes: list[Item] = field(default_factory=list)
    fields: dict[str, object] = field(default_factory=dict)
    phase: str = ""
    whole: Item | None = None

    @property
    def done(self) -> bool:
        """Whether all its boxes are ticked."""
        boxes = [box for box in self.boxes if box.box is not None]
        return all(box.ticked for box in boxes) if boxes else bool(self.whole and self.whole.ticked)


def boxes_of(part: Section) -> list[Item]:
    """The boxes of a section, those inside others included."""
    return [item for item in part.every_item() if item.box is not None]


def is_markdown(source: Source) -> bool:
    """Whether a source is a Markdown file."""
    return not source.files and source.stem.endswith((".md", ".markdown", ".mdx", ".txt"))


def path_of(source: Source) -> str:
    """Its path with slashes on both sides, so that folders can be looked for in it."""
    return f"/{source.place}{source.stem}".casefold() if source.place else f"/{source.name.casefold()}"


def beside(source: Source, names: Iterable[str]) -> list[str]:
    """The files beside a plan that its tasks refer to, by their path from the project's root."""
    there = [name for name in names if name in source.siblings]
    there += [name for name in source.siblings if any(re.fullmatch(wanted, name) for wanted in names if "[" in wanted)]
    return [
        f"{source.place}{name}" for name in dict.fromkeys(there) if source.read(f"{source.place}{name}") is not None
    ]


def draft_of_groups(
    doc: Document,
    groups: Sequence[Group],
    wanted: str,
    title: str,
    context: Sequence[str],
    notes: list[Note],
) -> Draft:
    """The milestone of some groups; the lines that are in none become its overview."""
    issues = []
    for group in groups:
        doc.account.take(group.lines)
        issues.append(issue_of(doc, group, notes))
    taken = doc.account.taken
    overview = []
    for part in doc.sections:
        kept = [line for number, line in part.lines if number not in taken]
        doc.account.inform((number for number in part.numbers() if number not in taken), "")
        if "\n".join(kept).strip(" \n-*_") or (
            part.line and part.line not in taken and plain(part.title) != doc.title()
        ):
            heading = f"{'#' * max(1, part.level)} {part.title}\n\n" if part.line else ""
            overview.append(heading + re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n"))
    phases = tuple((name, "") for name in dict.fromkeys(group.phase for group in groups if group.phase))
    fields: dict[str, object] = {"context": list(context)} if context else {}
    return Draft(
        wanted,
        title,
        fields,
        phases,
        tuple(issues),
        notes=(*doc.notes, *notes),
        overview="\n\n".join(overview),
        accounts=(doc.account,),
    )


def issue_of(doc: Document, group: Group, notes: list[Note]) -> DraftIssue:
    ticked = [box for box in group.boxes if box.ticked]
    if ticked and not group.done:
        said = ", ".join(short(box.text) for box in ticked)
        text = f"{group.id}: {len(ticked)} of {len(group.boxes)} boxes are ticked; all are asked for again: {said}"
        notes.append(Note(ticked[0].first, text, "issues of which some boxes are ticked; all are asked for again"))
    lines = [doc.account.lines[number - 1] for number in sorted(set(group.lines))]
    fields = {key: value for key, value in group.fields.items() if value}
    if group.phase:
        fields["phase"] = group.phase
    return DraftIssue(group.id, cut(group.title), "\n".join(lines).strip("\n"), group.line, fields, done=group.done)


def short(text: str) -> str:
    """The id of a box, or its first words."""
    match = TASK.match(text) or NUMBER.match(text)
    return match[1] if match else " ".join(plain(text).split()[:4])


def cut(title: str) -> str:
    """A title of at most one line of a terminal and a half; the whole text is in the spec."""
    bare = plain(without_status(title)[0])
    return bare if len(bare) <= _LONGEST_TITLE else f"{bare[: _LONGEST_TITLE - 1].rstrip()}…"


def folder_id(source: Source) -> str:
    """A milestone's id from the name of the folder of the plan."""
    folder = source.folder if not source.place else source.place.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder).strip("-._")
