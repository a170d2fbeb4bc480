"""Plain checklists and chapters, and the roadmaps of GSD; the groups of boxes that become issues. Pure.

An issue of a plain list is a first-level box. The smaller boxes are its acceptance criteria.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from executor.importers.draft import Draft, DraftIssue, Notes, milestone_id, slug, unique_id
from executor.importers.formats.tasks import head_fields, resolved, title_of
from executor.importers.importer import guide_of
from executor.importers.reading.fields import fields_of, labelled
from executor.importers.reading.markdown import Document, Item, Section, document, flat, plain
from executor.importers.reading.words import needs_in, without_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from executor.importers.source import Source

__all__ = [
    "NUMBER",
    "TASK",
    "TITLE",
    "Checklist",
    "Group",
    "Gsd",
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


def chapter_of(part: Section) -> str:
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
            done = found.state == "done" or without_status(own[0].title)[1]
            group.whole = Item(group.line, group.line, box="x" if done else " ")
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
        phase=chapter_of(part),
    )
    group.boxes, group.whole = [box for box in kids if box.box is not None], item
    group.fields["accept"] = [plain(box.text) for box in kids if box.box is not None or not box.children]
    return group


_SLICE = re.compile(r"^(?:\*\*)?(S\d+[a-z]?)\s*[:.–—-]\s*(.*?)(?:\*\*)?\s*((?:`[^`]*`\s*)*)$")
_PHASE_ITEM = re.compile(r"^(?:\*\*)?Phase\s+(\d+(?:\.\d+)*[a-z]?)\s*[:：.–—-]\s*(.*?)(?:\*\*(.*))?$", re.IGNORECASE)
_GSD_PHASE = re.compile(r"^(?:[^\w\s]+\s*)?Phase\s+(\d+(?:\.\d+)*[a-z]?)\s*[:：.–—-]\s*(.*)$", re.IGNORECASE)
_ASKED = frozenset({"depends on", "goal", "requirements", "success criteria", "plans"})
"""Labels of a phase of GSD; a chapter with two of them is one."""


class Gsd:
    """``M001-ROADMAP.md`` and ``.planning/ROADMAP.md`` of GSD: one issue per slice or phase."""

    name = "gsd"
    guide = guide_of("gsd")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if source.files or not source.stem.endswith(".md"):
            return 0
        doc = document(source.text)
        if any(_SLICE.match(item.text) and "depends:" in item.text for part in doc.sections for item in part.items):
            return 93
        details = [part for part in doc.sections if part.level > 1 and _GSD_PHASE.match(plain(part.title))]
        named = "roadmap" in f"{source.stem} {doc.title()}".casefold()
        if named and any(len(_ASKED & {item.label for item in labelled(part.prose())}) > 1 for part in details):
            return 88
        listed = [item for part in doc.sections for item in part.items if _PHASE_ITEM.match(item.text)]
        inside = re.search(r"(?:^|/)\.planning/", f"{source.place}/{source.name}") is not None
        return 86 if inside and named and [item for item in listed if item.box is not None] else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a roadmap."""
        doc = document(source.text)
        notes = Notes(doc.notes)
        slices = [
            (part, item, hit)
            for part in doc.sections
            for item in part.items
            if (hit := _SLICE.match(item.text)) and item.box is not None
        ]
        issues = _slices(doc, slices, notes) if slices else _phases(doc, notes)
        # The phases of earlier milestones stand in other files; a phase may need one of them.
        whole = bool(slices)
        own = {number for number, line in enumerate(doc.account.lines, 1) if number in doc.account.taken}
        rest = [part for part in doc.sections if not set(part.numbers()) <= own and part.line not in own]
        before = [part for part in doc.sections if part.line not in own]
        fields, after = head_fields([part for part in before if not _GSD_PHASE.match(plain(part.title))], notes)
        vision = next(
            (flat(item.value) for part in before for item in labelled(part.prose()) if item.label == "vision"), ""
        )
        if vision:
            fields.setdefault("goal", vision)
        for part in doc.sections:
            doc.account.inform((number for number in part.numbers() if number not in own), "")
        title = re.sub(r"^Roadmap\s*[:–—-]\s*", "", doc.title())
        wanted = milestone_id(doc.title(), source.stem) or slug(title)
        head = next((part for part in doc.sections if part.level == 1), None)
        overview = "\n\n".join(
            text for part in rest if (text := _rest_of(part, own)) and (part is not head or part.text())
        )
        return Draft(
            wanted,
            title_of(title),
            fields,
            issues=tuple(issues),
            notes=tuple(notes),
            overview=overview,
            after=tuple(after),
            whole=whole,
            accounts=(doc.account,),
        )


def _rest_of(part: Section, own: set[int]) -> str:
    kept = "\n".join(line for number, line in part.lines if number not in own).strip("\n -")
    heading = f"{'#' * max(1, part.level)} {part.title}" if part.line and part.line not in own else ""
    return "\n\n".join(filter(None, (heading, kept)))


def _slices(doc: Document, slices: Sequence[tuple[Section, Item, re.Match[str]]], notes: Notes) -> list[DraftIssue]:
    order = [hit[1] for _, _, hit in slices]
    issues = []
    for _, item, hit in slices:
        name = hit[1]
        depends = re.search(r"`depends:\s*\[?([^\]`]*)\]?`", hit[3])
        needs = needs_in(depends[1] if depends else "", order, name)
        resolved(needs.rest, name, item.first, notes)
        lines = [doc.account.lines[number - 1] for number in range(item.first, item.last + 1)]
        after = [re.sub(r"^\s*>\s*(?:After this:\s*)?", "", line) for line in lines if line.lstrip().startswith(">")]
        claim = flat(" ".join(after))
        text = "\n".join([f"{plain(hit[2])} {flat(hit[3])}".strip(), "", *lines[1:]]).strip("\n")
        boundaries = [
            part for part in doc.sections if re.search(rf"\b{name}\b\s*(?:→|->)|(?:→|->)\s*{name}\b", part.title)
        ]
        for part in boundaries:
            text += f"\n\n### {part.title}\n\n{part.text()}"
            doc.account.take(part.numbers())
        fields = {key: value for key, value in (("needs", needs.names), ("accept", [claim])) if any(value)}
        doc.account.take(range(item.first, item.last + 1))
        issues.append(DraftIssue(name, plain(hit[2]), text, item.first, fields, item.ticked, "", tuple(needs.unknown)))
    return issues


def _phases(doc: Document, notes: Notes) -> list[DraftIssue]:
    """Return an issue for each chapter ``Phase 1: Title``; a list of phases above them marks the finished ones."""
    heads = [(part, hit) for part in doc.sections if part.level > 1 and (hit := _GSD_PHASE.match(plain(part.title)))]
    order = [hit[1] for _, hit in heads]
    listed = {hit[1]: item for part in doc.sections for item in part.items if (hit := _PHASE_ITEM.match(item.text))}
    issues = []
    taken: set[str] = set()
    for part, hit in heads:
        own = _sections_below(doc, part)
        found = fields_of(own, hit[1])
        notes += found.notes
        name = unique_id(hit[1], taken)
        if name != hit[1]:
            notes.add(part.line, f"phase {hit[1]} occurs twice; the second became {name}")
        taken.add(name)
        needs = needs_in(re.sub(r"\bPhases?\s+", "", found.needs), order, hit[1])
        resolved(needs.rest, name, found.needs_line, notes)
        values = {key: value for key, value in found.values.items() if value}
        if needs.names:
            values["needs"] = needs.names
        item = listed.pop(hit[1], None)
        done = found.state == "done" or (item is not None and item.ticked)
        title = re.sub(r"\s*\(INSERTED\)\s*$", "", plain(hit[2]))
        for section in own:
            doc.account.take(section.numbers())
        if item is not None:
            doc.account.take(range(item.first, item.last + 1))
        text = "\n\n".join(section.text() if section is part else section.whole() for section in own).strip("\n")
        listed_as = "" if item is None else flat(re.sub(r"\*\*|^Phase\s+[\d.]+\s*[:.–—-]\s*", "", item.text))
        detail = f"{listed_as}\n\n" if listed_as and listed_as != title else ""
        if item is not None and item.last > item.first:
            detail += "\n".join(doc.account.lines[item.first : item.last]) + "\n\n"
        issues.append(
            DraftIssue(name, title, detail + text or f"# {title}", part.line, values, done, "", tuple(needs.unknown))
        )
    listed = {number: item for number, item in listed.items() if item.box is not None}
    ahead = [_listed_phase(doc, number, item, taken) for number, item in listed.items()]
    if ahead:
        message = "phases that are listed and have no chapter became issues without a goal"
        notes.add(ahead[0].line, f"{message}: {', '.join(issue.id for issue in ahead)}")
    return sorted([*ahead, *issues], key=lambda issue: [int(part) for part in re.findall(r"\d+", issue.id)][:2])


def _sections_below(doc: Document, head: Section) -> list[Section]:
    """Return a section and those below it."""
    start = next(place for place, part in enumerate(doc.sections) if part is head)
    return [head, *takewhile(lambda part: part.level > head.level, doc.sections[start + 1 :])]


def _listed_phase(doc: Document, number: str, item: Item, taken: set[str]) -> DraftIssue:
    """Return the issue of a phase that only the list of phases has."""
    name = unique_id(number, taken)
    taken.add(name)
    doc.account.take(range(item.first, item.last + 1))
    hit = _PHASE_ITEM.match(item.text)
    title = plain(hit[2]) if hit is not None else item.text
    title = re.split(r"\s+[–—-]\s+|\s*\(\d+/\d+ plans?\)", title)[0] or title
    text = "\n".join(doc.account.lines[number - 1] for number in range(item.first, item.last + 1))
    return DraftIssue(name, title, text, item.first, {}, item.ticked)
