"""Tools that write a specification first: spec-kit, OpenSpec and Kiro; their boxes are criteria of the issues. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.importers.draft import Draft, Notes, listed, slug, unique_id
from executor.importers.formats.checklists import (
    NUMBER,
    TASK,
    TITLE,
    Group,
    beside,
    boxes_of,
    chapter_of,
    draft_of_groups,
    folder_id,
    is_markdown,
    path_of,
    short,
)
from executor.importers.importer import guide_of
from executor.importers.reading.fields import files_in, labelled
from executor.importers.reading.markdown import Document, Item, Section, document, flat, plain
from executor.importers.reading.words import priority_of, without_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.importers.source import Source

__all__ = ["Kiro", "OpenSpec", "SpecKit"]

_PHASE = re.compile(r"^Phase\s+(\d+(?:\.\d+)*[a-z]?)\s*[:.–—-]*\s*(.*)$", re.IGNORECASE)
_ASIDE = re.compile(r"parallel|example|summary|depend|format|notes", re.IGNORECASE)
_DEPENDS = re.compile(
    r"\b(?:depends? on|after|blocked by|requires)\s+((?:T\d+[a-z]?[\s,&]*(?:and\s+)?)+)", re.IGNORECASE
)
_STORY = re.compile(r"\b(?:User Story|US)[\s-]*(\d+)\b", re.IGNORECASE)


class SpecKit:
    """``specs/001-name/tasks.md`` of spec-kit: one issue per phase, whose tasks are the criteria."""

    name = "speckit"
    guide = guide_of("speckit")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if not is_markdown(source):
            return 0
        found = [box for part in document(source.text).sections for box in boxes_of(part) if TASK.match(box.text)]
        return 90 if len(found) > 1 else 80 if found and source.stem == "tasks.md" else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a feature."""
        doc = document(source.text)
        notes = Notes()
        groups = list(_phases(doc, split=source.split))
        _speckit_needs(doc, groups, notes, split=source.split)
        twice: dict[str, int] = {}
        for group in groups:
            for box in group.boxes:
                match = TASK.match(box.text)
                if match and match[1] in twice:
                    text = f"{match[1]} is already the id of the task in line {twice[match[1]]}; both were imported"
                    notes.add(box.first, text)
                elif match:
                    twice[match[1]] = box.first
        names = ("spec.md", "plan.md", "research.md", "data-model.md", "quickstart.md", r"contracts/[^/]+")
        title = TITLE.sub("", doc.title()) or doc.title()
        return draft_of_groups(doc, groups, folder_id(source), title, beside(source, names), notes)


def _phases(doc: Document, *, split: bool) -> Iterator[Group]:
    """Yield a group for each phase; without phases, for each chapter."""
    current: Group | None = None
    taken: set[str] = set()
    ids: set[str] = set()
    level = 0
    for part in doc.sections:
        boxes = [box for box in boxes_of(part) if TASK.match(box.text)] or ([] if current is None else boxes_of(part))
        match = _PHASE.match(plain(part.title)) if part.level else None
        if match is None and current is not None and part.level > level and (boxes or not _ASIDE.search(part.title)):
            _add(current, part, boxes)
            continue
        if current is not None and not match and not (boxes and any(TASK.match(box.text) for box in boxes)):
            yield from _split(current, ids, split=split)
            current = None
            continue
        if match or boxes:
            if current is not None:
                yield from _split(current, ids, split=split)
            current, level = _phase(part, match, taken), part.level
            _add(current, part, boxes)
    if current is not None:
        yield from _split(current, ids, split=split)


def _phase(part: Section, match: re.Match[str] | None, taken: set[str]) -> Group:
    title = plain(part.title) or "Tasks"
    story = _STORY.search(title)
    wanted = f"US{story[1]}" if story else f"phase-{match[1]}" if match else slug(title, 32)
    name = unique_id(wanted, taken)
    taken.add(name)
    said = re.search(r"\(?\bPriority:?\s*(P\d)\)?", title, re.IGNORECASE)
    priority = priority_of(said[1]) if said else ""
    bare = match[2] if match and match[2] else title
    bare = re.sub(r"\s*\(?\bPriority:?\s*P\d[^)]*\)?|\s*🎯.*$|\s*\[US\d+\]", "", bare).strip(" –—-:")
    return Group(name, bare or title, part.line, fields={"priority": priority}, phase="")


def _add(group: Group, part: Section, boxes: Sequence[Item]) -> None:
    group.lines += part.numbers() if group.lines else [number for number, _ in part.lines]
    if not group.lines:
        group.lines = part.numbers()
    if part.line == group.line and part.line:
        group.lines = [*group.lines, part.line]
    group.boxes += boxes
    claims = [_claim(box) for box in boxes]
    claims += [
        f"{item.label.capitalize()}: {flat(item.value)}"
        for item in labelled(part.prose())
        if item.label in {"independent test", "checkpoint"} and item.value
    ]
    group.fields["accept"] = list(dict.fromkeys([*listed(group.fields, "accept"), *claims]))
    paths = [path for box in boxes for path in files_in([box.text])[0] if "/" in path]
    group.fields["files"] = list(dict.fromkeys([*listed(group.fields, "files"), *paths]))


def _claim(box: Item) -> str:
    """Return a box as a criterion: its id and its words, without the marks for parallel work and story."""
    match = TASK.match(box.text)
    if match is None:
        return plain(box.text)
    return flat(f"{match[1]} {match[3] or match[2]}")


def _split(group: Group, taken: set[str], *, split: bool) -> Iterator[Group]:
    """Yield a group, or one group for each of its tasks; `taken` are the ids of the tasks so far."""
    if not group.boxes:
        return
    if not split:
        yield group
        return
    for box in group.boxes:
        match = TASK.match(box.text)
        name = unique_id(match[1] if match else slug(box.text, 32), taken)
        taken.add(name)
        marks = match[2] if match else ""
        found = Group(
            name,
            match[3] if match else box.text,
            box.first,
            list(range(box.first, box.last + 1)),
            [box],
            phase=group.title,
        )
        found.fields = {
            "priority": group.fields.get("priority", ""),
            "files": [path for path in files_in([box.text])[0] if "/" in path],
            "_parallel": "[P]" in marks,
        }
        yield found


def _speckit_needs(doc: Document, groups: list[Group], notes: Notes, *, split: bool) -> None:
    """Add the phase order: stories wait for the phases before the first story, other phases for all earlier ones."""
    inline = _inline_needs(groups, notes)
    if split:
        last: list[str] = []
        wave: list[str] = []
        for group in groups:
            if not group.fields.pop("_parallel", False):
                last, wave = [*wave] or last, []
            if last:
                group.fields["needs"] = list(last)
            wave.append(group.id)
        for group in groups:
            group.fields["needs"] = list(dict.fromkeys([*listed(group.fields, "needs"), *inline.get(group.id, ())]))
        return
    said = _said_needs(doc, groups, inline)
    base: list[str] = []
    stories: list[str] = []
    for group in groups:
        if group.id.startswith("US"):
            needs = [*base[-1:], *said.get(group.id, ())]
            stories.append(group.id)
        else:
            needs = [*(stories or base[-1:]), *said.get(group.id, ())]
            base.append(group.id)
            stories = []
        group.fields["needs"] = [name for name in dict.fromkeys(needs) if name != group.id]
    if said:
        text = "; ".join(f"{name} needs {', '.join(needs)}" for name, needs in said.items())
        notes.add(0, f"dependencies read from sentences: {text}")


def _inline_needs(groups: Sequence[Group], notes: Notes) -> dict[str, list[str]]:
    """Return dependencies behind tasks, ``(depends on T001, T002)``, on earlier groups; later ones are noted."""
    places = {
        match[1]: place for place, group in enumerate(groups) for box in group.boxes if (match := TASK.match(box.text))
    }
    found: dict[str, list[str]] = {}
    for place, group in enumerate(groups):
        for box in group.boxes:
            others = [name for clause in _DEPENDS.findall(box.text) for name in re.findall(r"T\d+[a-z]?", clause)]
            found.setdefault(group.id, []).extend(
                groups[places[name]].id for name in others if places.get(name, place) < place
            )
            late = [name for name in others if places.get(name, -1) > place or name not in places]
            if late:
                text = f"{short(box.text)} depends on {', '.join(late)}, which comes later or does not exist; left out"
                notes.add(box.first, text, "dependencies on later tasks, left out")
    return {name: list(dict.fromkeys(needs)) for name, needs in found.items() if needs}


def _said_needs(doc: Document, groups: Sequence[Group], inline: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return dependencies between stories in sentences, ``User Story 2: Depends on US1``, added to those of tasks."""
    ids = [group.id for group in groups]
    found = {name: list(needs) for name, needs in inline.items()}
    for part in doc.sections:
        if not re.search(r"depend", part.title, re.IGNORECASE):
            continue
        for item in part.every_item():
            head, depends, tail = re.sub(r"\*", "", item.text).partition("epends on")
            own = _STORY.search(head)
            if not depends or own is None or re.search(r"\bno\b|\bnot\b|independent", tail, re.IGNORECASE):
                continue
            needs = [f"US{number}" for number in _STORY.findall(tail.split(" but ")[0])]
            needs = [
                name
                for name in needs
                if name in ids and name != f"US{own[1]}" and ids.index(name) < _at(ids, f"US{own[1]}")
            ]
            if needs and f"US{own[1]}" in ids:
                found.setdefault(f"US{own[1]}", []).extend(needs)
    return found


def _at(ids: Sequence[str], name: str) -> int:
    return ids.index(name) if name in ids else -1


class OpenSpec:
    """``openspec/changes/NAME/``: one issue per change; its boxes are the criteria."""

    name = "openspec"
    guide = guide_of("openspec")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if source.files:
            names = set(source.files)
            return 85 if "tasks.md" in names and ({"proposal.md"} & names or "/changes/" in f"/{source.name}") else 0
        if not is_markdown(source) or source.stem != "tasks.md":
            return 0
        inside = "/openspec/" in path_of(source) or "proposal.md" in source.siblings
        return 91 if inside and _units(document(source.text)) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a change."""
        text = source.beside("tasks.md") or "" if source.files else source.text
        doc = document(text, file="tasks.md" if source.files else "")
        notes = Notes()
        wanted = folder_id(source)
        bare = re.sub(r"^\d{4}-\d{2}-\d{2}-", "", wanted)
        proposal = source.beside("proposal.md") or ""
        title = re.sub(
            r"^(?:change(?: proposal)?|proposal)\s*[:–—-]\s*", "", document(proposal).title(), flags=re.IGNORECASE
        )
        if not title or re.fullmatch(r"(?:proposal|why|change)", title, re.IGNORECASE):
            title = bare.replace("-", " ").capitalize()
        boxes = _units(doc)
        groups = list(_parts(doc)) if source.split else [_whole(doc, bare, title, boxes)]
        if "/archive/" in path_of(source) and groups:
            notes.add(0, "the change is in archive/, so the plan calls it done")
        if proposal:
            groups[0].fields["_proposal"] = ""
        names = ("proposal.md", "design.md", r"specs/[^/]+/spec[.]md", r"specs/[^/]+")
        return draft_of_groups(
            doc, [group for group in groups if group.boxes], wanted, title, beside(source, names), notes
        )


def _units(doc: Document) -> list[Item]:
    """Return the tasks of a change: its boxes; without any, the items of its lists; else its numbered chapters."""
    boxes = [box for part in doc.sections for box in boxes_of(part)]
    chapters = [
        Item(part.line, part.line, bare, "x" if done else " ")
        for part in doc.sections
        for bare, done in (without_status(part.title),)
        if part.level > 1 and NUMBER.match(plain(bare))
    ]
    numbered = [item for part in doc.sections for item in part.items if item.number]
    return boxes or numbered or chapters or [item for part in doc.sections for item in part.items]


def _whole(doc: Document, name: str, title: str, boxes: Sequence[Item]) -> Group:
    first = boxes[0].first if boxes else 0
    group = Group(name or "change", title, first, boxes=list(boxes))
    group.lines = [number for part in doc.sections for number in part.numbers()]
    group.fields["accept"] = [plain(box.text) for box in boxes]
    group.fields["files"] = list(
        dict.fromkeys(path for box in boxes for path in files_in(re.findall(r"`[^`]+`", box.text))[0] if "/" in path)
    )
    return group


def _parts(doc: Document) -> Iterator[Group]:
    """Yield a group for each chapter of a change, in sequence."""
    before = ""
    taken: set[str] = set()
    for part in doc.sections:
        boxes = boxes_of(part)
        if not boxes:
            continue
        match = NUMBER.match(plain(part.title))
        name = unique_id(match[1] if match else slug(part.title, 32) or "tasks", taken)
        taken.add(name)
        group = Group(
            name,
            match[2] if match else plain(part.title) or "Tasks",
            part.line or boxes[0].first,
            part.numbers(),
            boxes,
        )
        group.fields = {"accept": [plain(box.text) for box in boxes], "needs": [before] if before else []}
        before = name
        yield group


_STARRED = re.compile(r"^\d+(?:\.\d+)*\.?\\?\*\s")
"""Kiro's mark of an optional task behind its number."""
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
            name, title if own else plain(part.title) or title, item.first, phase=chapter_of(part)
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
