"""Roadmaps: GSD's slices and phases, the to-dos of a Cursor plan, the stories of Ralph. Pure."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING

from executor.importers.draft import Draft, DraftIssue, Notes, milestone_id, refused, slug, unique_id
from executor.importers.formats.tasks import head_fields, resolved, title_of
from executor.importers.formats.trackers import words_of
from executor.importers.importer import guide_of
from executor.importers.reading.fields import fields_of, labelled
from executor.importers.reading.markdown import Document, Item, Section, document, flat, plain
from executor.importers.reading.places import Node, PlaceError, yaml_comments, yaml_node
from executor.importers.reading.records import Reading, accept_of, draft_of, json_of, needs_of, tree_of
from executor.importers.reading.words import needs_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.importers.source import Source

__all__ = ["Cursor", "Gsd", "Ralph"]

_SLICE = re.compile(r"^(?:\*\*)?(S\d+[a-z]?)\s*[:.–—-]\s*(.*?)(?:\*\*)?\s*((?:`[^`]*`\s*)*)$")
_PHASE_ITEM = re.compile(r"^(?:\*\*)?Phase\s+(\d+(?:\.\d+)*[a-z]?)\s*[:：.–—-]\s*(.*?)(?:\*\*(.*))?$", re.IGNORECASE)
_PHASE = re.compile(r"^(?:[^\w\s]+\s*)?Phase\s+(\d+(?:\.\d+)*[a-z]?)\s*[:：.–—-]\s*(.*)$", re.IGNORECASE)
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
        details = [part for part in doc.sections if part.level > 1 and _PHASE.match(plain(part.title))]
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
        fields, after = head_fields([part for part in before if not _PHASE.match(plain(part.title))], notes)
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
        fields: dict[str, object] = {
            key: value for key, value in (("needs", needs.names), ("accept", [claim] if claim else [])) if value
        }
        doc.account.take(range(item.first, item.last + 1))
        issues.append(DraftIssue(name, plain(hit[2]), text, item.first, fields, item.ticked, "", tuple(needs.unknown)))
    return issues


def _phases(doc: Document, notes: Notes) -> list[DraftIssue]:
    """Return an issue for each chapter ``Phase 1: Title``; a list of phases above them marks the finished ones."""
    heads = [(part, hit) for part in doc.sections if part.level > 1 and (hit := _PHASE.match(plain(part.title)))]
    order = [hit[1] for _, hit in heads]
    listed = {hit[1]: item for part in doc.sections for item in part.items if (hit := _PHASE_ITEM.match(item.text))}
    issues = []
    taken: set[str] = set()
    for part, hit in heads:
        own = _chapter(doc, part)
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


def _chapter(doc: Document, head: Section) -> list[Section]:
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


class Cursor:
    """A Cursor plan: the to-dos of its front matter are the issues, its text is the overview."""

    name = "cursor"
    guide = guide_of("cursor")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if source.files or not source.stem.endswith(".md"):
            return 0
        front = document(source.text).front
        return 80 if front is not None and re.search(r"^todos:", front, re.MULTILINE) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a plan."""
        from dataclasses import replace

        doc = document(source.text)
        try:
            root = yaml_node(doc.front or "", first=2)
        except PlaceError as error:
            return refused(source.name, f"the front matter {error}", error.line)
        reading = Reading(source)
        root.read = True
        title, goal = flat(root.text("name", "title")), flat(root.text("overview", "description"))
        for todo in root.rows("todos"):
            if todo.keys is not None:
                _todo(todo, reading)
        root.pass_over("isProject", "createdAt", "updatedAt")
        reading.notes += [*root.notes(), *yaml_comments(doc.front or "", first=2)]
        doc.account.take(range(1, (doc.front or "").count("\n") + 4))
        for part in doc.sections:
            doc.account.inform(part.numbers(), "")
        text = "\n\n".join(text for part in doc.sections if (text := part.whole()))
        wanted = slug(title) or slug(source.stem.partition(".")[0])
        draft = draft_of(reading, wanted, title or doc.title(), {"goal": goal} if goal else {})
        return replace(draft, overview=text, accounts=(doc.account,))


def _todo(todo: Node, reading: Reading) -> None:
    content = flat(todo.text("content", "title", "name"))
    name = todo.text("id") or slug(content, 40)
    standing = reading.standing(name, todo.text("status"), todo.line)
    if standing is None:
        todo.plain()
        return
    needs = todo.words("dependencies", "depends_on")
    title = content if len(content) <= 120 else f"{content[:119].rstrip()}…"  # noqa: PLR2004
    reading.add(name, title, f"# {content}", todo.line, {"needs": needs}, (standing[0], ""))


class Ralph:
    """``prd.json``: one issue per user story, in the order of their priority numbers."""

    name = "ralph"
    guide = guide_of("ralph")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        root = json_of(source)
        if root is None:
            return 0
        if root.get("userStories") is not None:
            return 85
        first = root.items[0] if root.items else None
        return (
            72 if first is not None and first.keys is not None and {"passes", "id", "title"} <= first.keys.keys() else 0
        )

    def read(self, source: Source) -> Draft:
        """The milestone of a product requirements document."""
        root = tree_of(source)
        if isinstance(root, Draft):
            return root
        reading = Reading(source)
        stories = root.items if root.items is not None else root.rows("userStories")
        root.read = True
        found: list[tuple[float, DraftIssue]] = []
        for story in stories:
            if story.keys is None:
                continue
            order, issue = _story(story, reading)
            if issue is not None:
                found.append((order, issue))
        if [order for order, _ in found] != sorted(order for order, _ in found):
            reading.notes.add(0, "the issues are in the order of their priority numbers")
        reading.issues = [issue for _, issue in sorted(found, key=lambda item: item[0])]
        title, goal, branch = (
            root.text("project", "name", "title"),
            flat(root.text("description")),
            root.text("branchName", "branch"),
        )
        fields = {key: value for key, value in (("goal", goal), ("branch", branch)) if value}
        reading.notes += root.notes()
        return draft_of(reading, slug(branch.rpartition("/")[2]) or slug(title) or "prd", title, fields)


def _story(story: Node, reading: Reading) -> tuple[float, DraftIssue | None]:
    named = reading.named(story, "a story", "title", "name")
    if named is None:
        return 0, None
    name, title = named
    passes = story.text("passes", "completed", "done")
    status = {"true": "done", "yes": "done", "false": "", "no": ""}.get(passes.casefold(), passes)
    standing = reading.standing(name, status or story.text("status"), story.line)
    if standing is None:
        story.plain()
        return 0, None
    word = story.text("priority")
    order = float(word) if re.fullmatch(r"\d+(?:\.\d+)?", word) else float(len(reading.issues))
    node = story.get("acceptanceCriteria") or story.get("acceptance_criteria") or story.get("acceptance")
    claims = accept_of(node.plain()) if node is not None else []
    fields: dict[str, object] = {
        "accept": claims,
        "needs": needs_of(story.words("dependencies", "dependsOn", "depends_on", "blockedBy")),
    }
    if word and order == len(reading.issues) and not word.isdecimal():
        fields |= words_of(story, reading, name)
    notes = story.text("notes")
    text = story.text("description") or f"# {title}"
    text += f"\n\n## Notes\n\n{notes}" if notes.strip() else ""
    given = {key: value for key, value in fields.items() if value}
    return order, DraftIssue(name, title, text, story.line, given, *standing)
