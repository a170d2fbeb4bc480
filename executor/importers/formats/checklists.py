"""Kiro and plain checklists. Pure.

Each has its own unit of work: in Kiro the first-level number, in a plain list the first-level
box. The smaller boxes are the acceptance criteria of the issue.

Lists of boxes: the groups of boxes that become issues, and the milestone of some groups. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.importers.draft import Draft, DraftIssue, Notes, listed, slug, unique_id
from executor.importers.importer import guide_of
from executor.importers.reading.fields import fields_of, files_in
from executor.importers.reading.markdown import Document, Item, Section, document, plain
from executor.importers.reading.words import without_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from executor.importers.source import Source

__all__ = [
    "NUMBER",
    "TASK",
    "TITLE",
    "Checklist",
    "Group",
    "Kiro",
    "beside",
    "boxes_of",
    "cut",
    "draft_of_groups",
    "folder_id",
    "is_markdown",
    "path_of",
    "short",
]


TASK = re.compile(r"^(?:\*\*)?(T\d{2,4}[a-z]?)\b(?:\*\*)?[:.]?(?:\*\*)?\s*((?:\[[^\]]*\]\s*)*)(.*)$")
NUMBER = re.compile(r"^(?:\*\*)?(?:Task\s+)?(\d+(?:\.\d+)*)\.?(?:\*\*|\\?\*)?\s*[:.)–—-]*\s+(.*)$", re.IGNORECASE)
_STARRED = re.compile(r"^\d+(?:\.\d+)*\.?\\?\*\s")
"""Kiro's mark of an optional task behind its number."""
TITLE = re.compile(r"^(?:implementation )?(?:tasks?|todos?|plan)(?: list)?\s*[:–—-]+\s*", re.IGNORECASE)
_LONGEST_TITLE = 120  # characters; a longer item is a paragraph, its text stays in the spec


@dataclass(slots=True)
class Group:
    """The boxes that become one issue.

    Attributes:
        id: id of the issue.
        title: title of the issue.
        line: its first line.
        lines: the numbers of its lines.
        boxes: all its boxes.
        fields: keys of its declaration.
        phase: its chapter.
        whole: the box of the group itself, if any.
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
        """Return whether all its boxes are ticked."""
        boxes = [box for box in self.boxes if box.box is not None]
        return all(box.ticked for box in boxes) if boxes else bool(self.whole and self.whole.ticked)


def boxes_of(part: Section) -> list[Item]:
    """Return the boxes of a section, including nested ones."""
    return [item for item in part.every_item() if item.box is not None]


def is_markdown(source: Source) -> bool:
    """Return whether a source is a Markdown file."""
    return not source.files and source.stem.endswith((".md", ".markdown", ".mdx", ".txt"))


def path_of(source: Source) -> str:
    """Return its path with slashes on both sides, for searches of folders in it."""
    return f"/{source.place}{source.stem}".casefold() if source.place else f"/{source.name.casefold()}"


def beside(source: Source, names: Iterable[str]) -> list[str]:
    """Return the files next to a plan that its tasks refer to, by path from the project's root."""
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
    notes: Notes,
) -> Draft:
    """Return the milestone of some groups; lines outside of all groups become its overview."""
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


def issue_of(doc: Document, group: Group, notes: Notes) -> DraftIssue:
    ticked = [box for box in group.boxes if box.ticked]
    if ticked and not group.done:
        said = ", ".join(short(box.text) for box in ticked)
        text = f"{group.id}: {len(ticked)} of {len(group.boxes)} boxes are ticked; all are required again: {said}"
        notes.add(ticked[0].first, text, "issues with some ticked boxes; all are required again")
    lines = [doc.account.lines[number - 1] for number in sorted(set(group.lines))]
    fields = {key: value for key, value in group.fields.items() if value}
    if group.phase:
        fields["phase"] = group.phase
    return DraftIssue(group.id, cut(group.title), "\n".join(lines).strip("\n"), group.line, fields, done=group.done)


def short(text: str) -> str:
    """Return the id of a box, or its first words."""
    match = TASK.match(text) or NUMBER.match(text)
    return match[1] if match else " ".join(plain(text).split()[:4])


def cut(title: str) -> str:
    """Shorten a title to one and a half terminal lines; the whole text is in the spec."""
    bare = plain(without_status(title)[0])
    return bare if len(bare) <= _LONGEST_TITLE else f"{bare[: _LONGEST_TITLE - 1].rstrip()}…"


def folder_id(source: Source) -> str:
    """Return a milestone's id from the folder name of the plan."""
    folder = source.folder if not source.place else source.place.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder).strip("-._")


_HINT = re.compile(r"^_([^_:]+):\s*(.*?)_$")


class Kiro:
    """``.kiro/specs/NAME/tasks.md``: one issue for each first-level number, in sequence."""

    name = "kiro"
    guide = guide_of("kiro")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if not is_markdown(source):
            return 0
        parts = document(source.text).sections
        numbered = [item for part in parts for item in part.items if item.box is not None and NUMBER.match(item.text)]
        hints = re.search(r"^\s*[-*]\s+_Requirements?:", source.text, re.MULTILINE)
        if not numbered:
            return 0
        return 92 if hints or "/.kiro/" in path_of(source) else 45 if source.stem == "tasks.md" else 25

    def read(self, source: Source) -> Draft:
        """The milestone of a spec."""
        doc = document(source.text)
        notes = Notes()
        groups: dict[str, Group] = {}
        for part in doc.sections:
            for item in part.items:
                match = NUMBER.match(item.text) if item.box is not None else None
                if match:
                    _numbered(groups, match, item, part, notes, split=source.split)
        found = list(groups.values())
        before = ""
        for group in found:
            group.fields["needs"] = [before] if before else []
            before = group.id
        title = plain(doc.title())
        title = "" if re.fullmatch(r"(?:implementation plan|tasks?)", title, re.IGNORECASE) else TITLE.sub("", title)
        wanted = folder_id(source)
        names = ("requirements.md", "design.md", "bugfix.md")
        return draft_of_groups(
            doc, found, wanted, title or wanted.replace("-", " ").capitalize(), beside(source, names), notes
        )


def _numbered(
    groups: dict[str, Group], match: re.Match[str], item: Item, part: Section, notes: Notes, *, split: bool
) -> None:
    """Add a numbered box to the group of its first number."""
    number, title = match[1], match[2]
    major = number.split(".")[0]
    if split and item.children:
        kids = [(child, NUMBER.match(child.text)) for child in item.children if child.box is not None]
        if any(found for _, found in kids):
            for child, found in kids:
                if found:
                    _numbered(groups, found, child, part, notes, split=split)
            return
    name = number if split else major
    group = groups.get(name)
    if group is None:
        own = number in {major, f"{major}.0", name}
        group = groups[name] = Group(
            name, title if own else plain(part.title) or title, item.first, phase=_chapter(part)
        )
        group.whole = item if own else None
    group.lines += range(item.first, item.last + 1)
    boxes = [box for child in item.children for box in child.walk() if box.box is not None]
    inner = boxes or ([] if number == name else [item])
    group.boxes += inner
    claims = [plain(box.text) + (" (optional)" if _optional(box) else "") for box in inner]
    group.fields["accept"] = [*listed(group.fields, "accept"), *claims]
    optional = [short(box.text) for box in item.walk() if _optional(box)]
    if optional:
        notes.add(
            item.first, f"{name}: {', '.join(optional)} are optional in the plan", "tasks that are optional in the plan"
        )
    for child in item.walk():
        hint = _HINT.match(child.text)
        if hint and hint[1].casefold() == "agent":
            group.fields.setdefault("agent", plain(hint[2]))
        elif hint and re.search(r"file|ファイル", hint[1], re.IGNORECASE):
            group.fields["files"] = [*listed(group.fields, "files"), *files_in([hint[2]])[0]]


def _optional(box: Item) -> bool:
    """Return whether a box has Kiro's star, behind the box or behind its number."""
    return box.starred or _STARRED.match(box.text) is not None


def _chapter(part: Section) -> str:
    """Return the name of a chapter, as a phase."""
    return plain(part.title) if part.level > 1 else ""


_LIST = re.compile(r"^@?(?:to[-_ ]?dos?|fix[-_]?plan|backlog|check[-_]?list|next[-_]?steps)(?![a-z])", re.IGNORECASE)
"""Names of files whose lists are tasks, with or without boxes."""
_PLAN = re.compile(
    r"^(?!.*(?:design|handoff))@?(?:.*[-_ ])?(?:plan|roadmap|tasks|to[-_]?dos?|phases)(?:[-_ .]|$)", re.IGNORECASE
)
"""Names of files whose chapters are tasks, if they have no boxes."""
_STAGE = re.compile(
    r"^(?:[^\w\s]+\s*)?(phase|stage|step|sprint|iteration|wave|week)\s+(\d+(?:\.\d+)*[a-z]?|[IVX]+)\b\s*[:：.)–—-]*\s*(.*)$",
    re.IGNORECASE,
)


def _bullets(doc: Document) -> list[tuple[Item, Section]]:
    """Return the first-level items of a list without boxes, with their chapters."""
    return [(item, part) for part in doc.sections for item in part.items if item.text]


def _chapters(doc: Document) -> list[tuple[Section, re.Match[str]]]:
    """Return the chapters ``Phase 1: Title`` of the highest level that has some."""
    found = [(part, hit) for part in doc.sections if part.level and (hit := _STAGE.match(plain(part.title)))]
    top = min((part.level for part, _ in found), default=0)
    return [(part, hit) for part, hit in found if part.level == top]


def _chaptered(doc: Document, notes: Notes) -> Iterator[Group]:
    """Yield a group for each chapter, in sequence."""
    heads = {id(part): hit for part, hit in _chapters(doc)}
    group: Group | None = None
    own: list[Section] = []
    level = 0
    before = ""
    taken: set[str] = set()
    for part in [*doc.sections, Section(1, "", 0)]:
        hit = heads.get(id(part))
        if group is not None and (hit or (part.level and part.level <= level)):
            found = fields_of(own, group.id)
            notes += found.notes
            accept = {"accept": found.values.get("accept")}
            group.fields = {"needs": [before] if before else [], **{k: v for k, v in accept.items() if v}}
            group.whole = Item(group.line, group.line, "", " ", starred=False, number="", depth=0)
            group.whole.box = "x" if found.state == "done" or without_status(own[0].title)[1] else " "
            before = group.id
            yield group
            group = None
        if hit:
            name = unique_id(f"{hit[1].casefold()}-{hit[2]}", taken)
            taken.add(name)
            group, own, level = Group(name, hit[3] or part.title, part.line), [], part.level
        if group is not None:
            own.append(part)
            group.lines += part.numbers()
    if before:
        notes.add(0, "the plan has no list of tasks; each chapter became an issue that needs the previous one")


class Checklist:
    """A list of boxes: one issue for each first-level box, identified by its words; else chapters, or a list."""

    name = "checklist"
    guide = guide_of("checklist")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if not is_markdown(source):
            return 0
        doc = document(source.text)
        if any(item.box is not None for part in doc.sections for item in part.items):
            return 20
        # plan.md beside a spec is the design of the feature; its tasks are in another file.
        if doc.front is not None and re.search(r"^description:", doc.front, re.MULTILINE):
            return 0  # a command of an assistant, whose lists are instructions
        plan = _PLAN.match(source.stem) and not {"spec.md", "tasks.md"} & {*source.siblings} - {source.stem}
        return 15 if (plan and len(_chapters(doc)) > 1) or (_LIST.match(source.stem) and _bullets(doc)) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a list; of chapters if there is no list of tasks."""
        doc = document(source.text)
        notes = Notes()
        items = [(item, part) for part in doc.sections for item in part.items if item.box is not None]
        if not items and len(_chapters(doc)) > 1:
            groups = list(_chaptered(doc, notes))
        else:
            groups = []
            taken: set[str] = set()
            for item, part in items or _bullets(doc):
                if (item.box is None or item.box in "-~") and item.text.startswith("~~"):
                    notes.add(item.first, f'"{plain(item.text)}" is struck out and was left out')
                    continue
                groups.append(_boxed(item, part, taken))
        wanted = slug(doc.title()) if doc.title() else slug(source.stem.rpartition(".")[0])
        return draft_of_groups(doc, groups, wanted, doc.title(), (), notes)


def _boxed(item: Item, part: Section, taken: set[str]) -> Group:
    match = NUMBER.match(item.text)
    task = TASK.match(item.text)
    number = match[1] if match else task[1] if task else ""
    # The text instead of the position is the id: a new box in the middle must not get another one's landed work.
    name = unique_id(number or slug(plain(item.text), 40) or "task", taken)
    taken.add(name)
    kids = [box for child in item.children for box in child.walk()]
    group = Group(
        name,
        match[2] if match else item.text,
        item.first,
        list(range(item.first, item.last + 1)),
        kids,
        phase=_chapter(part),
    )
    group.boxes, group.whole = [box for box in kids if box.box is not None], item
    group.fields["accept"] = [plain(box.text) for box in kids if box.box is not None or not box.children]
    return group
