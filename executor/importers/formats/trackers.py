"""Tools that keep their tasks as JSON: task-master, beads, and the stories of Ralph. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.importers.draft import Draft, DraftIssue, refused, slug
from executor.importers.importer import guide_of
from executor.importers.reading.fields import files_in
from executor.importers.reading.markdown import flat
from executor.importers.reading.places import Node, json_lines_node
from executor.importers.reading.records import Reading, accept_of, draft_of, json_of, needs_of, tree_of
from executor.importers.reading.words import status_notes, status_of, word_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.importers.source import Source

__all__ = ["TIMES", "Beads", "Ralph", "TaskMaster", "words_of"]

TIMES = (
    *("createdAt", "updatedAt", "created_at", "updated_at", "created", "updated", "closed_at"),
    *("completed_at", "started_at", "previousStatus", "created_by", "complexity", "complexityScore"),
    *("recommendedSubtasks", "expansionPrompt", "analysisResults"),
)


def words_of(row: Node, reading: Reading, name: str) -> dict[str, object]:
    """Read priority and type of a record; unknown words are noted."""
    found: dict[str, object] = {}
    for key, given in (("priority", "priority"), ("type", "issue_type")):
        word = row.text(given)
        value = word_of(key, word, f"{name}: ", reading.notes, row.line) if word else ""
        if value and not (key == "type" and value == "task"):
            found[key] = value
        if value and key == "type" and value != word.casefold():
            text = f'{name}: {key} "{word}" is not a word, read as {value}'
            reading.notes.add(row.line, text, "type that is not a word")
    return found


class TaskMaster:
    """``.taskmaster/tasks/tasks.json``: one issue for each task of a tag, its subtasks as a checklist."""

    name = "taskmaster"
    guide = guide_of("taskmaster")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        root = json_of(source)
        return 75 if root is not None and _tags(root) else 0

    def read(self, source: Source) -> Draft:
        """Return the milestone of a tag: the requested one, the only one, or ``master``."""
        root = tree_of(source)
        if isinstance(root, Draft):
            return root
        tags = _tags(root)
        reading = Reading(source)
        tag = source.part or (next(iter(tags), "") if len(tags) == 1 else "master" if "master" in tags else "")
        if tag not in tags:
            listed = ", ".join(f"{name} ({len(tasks)} tasks)" for name, tasks in tags.items()) or "none"
            fault = (
                f"has several tags: {listed}; name one with --tag"
                if not source.part
                else f'has no tag "{source.part}"; tags: {listed}'
            )
            return refused(source.name, fault)
        others = [f"{name} ({len(tasks)} tasks)" for name, tasks in tags.items() if name != tag]
        if others:
            reading.notes.add(0, f"other tags of the file were not imported: {', '.join(others)}; name one with --tag")
        above = root.get("tags") if root.get(tag) is None else None
        for name in tags:
            node = root.get(name) or (above.get(name) if above is not None else None)
            if name != tag and node is not None:
                node.plain()
        holder = root.get(tag) or (above.get(tag) if above is not None else None) or root
        holder.pass_over("metadata")
        root.pass_over("metadata", "tag", "version", "_meta")
        holder.read = root.read = True
        tasks = holder.rows("tasks") or root.rows("tasks")
        for task in tasks:
            if task.keys is None:
                reading.notes.add(task.line, "an entry is not a task and was left out", "entries that are not tasks")
                task.plain()
                continue
            _task(task, reading)
        reading.notes += root.notes()
        wanted = "" if tag in {"master", ""} else slug(tag)
        return draft_of(reading, wanted or "tasks", "" if tag in {"master", ""} else tag, {})


def _tags(root: Node) -> dict[str, list[Node]]:
    """Return the tasks by tag; a file without tags has the tag ``master``. Only tasks of task-master count."""
    above = root.get("tags")
    nodes = {**((above.keys or {}) if above is not None else {}), **(root.keys or {})}
    found = {name: node.get("tasks") for name, node in nodes.items() if node.keys is not None}
    tags = {name: node.items for name, node in found.items() if node is not None and node.items}
    tags = tags or {name: node.items for name, node in found.items() if node is not None and node.items is not None}
    plain_tasks = root.get("tasks")
    if not tags and plain_tasks is not None and plain_tasks.items:
        tags = {"master": plain_tasks.items}
    known = {"subtasks", "testStrategy", "details", "dependencies"}
    fits = any(task.keys is not None and len(known & task.keys.keys()) > 1 for tasks in tags.values() for task in tasks)
    return tags if fits or (found and all(not tasks for tasks in tags.values())) else {}


def _task(task: Node, reading: Reading) -> None:
    named = reading.named(task, "a task", "title")
    if named is None:
        return
    name, title = named
    task.pass_over(*TIMES)
    standing = reading.standing(name, task.text("status"), task.line)
    if standing is None:
        task.plain()
        return
    texts = [task.text("description")]
    texts += [
        f"## {head}\n\n{text}"
        for key, head in (("details", "Details"), ("testStrategy", "Test strategy"))
        if (text := task.text(key))
    ]
    subtasks = [one for one in task.rows("subtasks") if one.keys is not None and not _drop(name, one, reading)]
    fields = words_of(task, reading, name)
    fields |= {key: value for key in ("phase", "agent") if (value := flat(task.text(key)))}
    criteria = task.get("acceptanceCriteria") or task.get("acceptance_criteria")
    fields["accept"] = [
        *(accept_of(criteria.plain()) if criteria is not None else ()),
        *(f"{_below(name, one.text('id'))} {flat(one.text('title'))}" for one in subtasks),
    ]
    files = [path for row in (task, *subtasks) for path in row.words("files")]
    fields["files"] = files_in([f"`{path}`" for path in dict.fromkeys(files)])[0]
    if subtasks:
        texts.append("## Subtasks\n\n" + "\n\n".join(_subtask(name, one, reading) for one in subtasks))
    fields["needs"] = _needs(name, task, subtasks)
    text = "\n\n".join(part.strip("\n") for part in texts if part.strip()) or f"# {title}"
    reading.add(name, title, text, task.line, fields, standing)


def _needs(name: str, task: Node, subtasks: Sequence[Node]) -> list[str]:
    """Return the tasks that a task and its subtasks need."""
    said: list[str] = needs_of(
        [node.word() for node in task.rows("dependencies") if node.keys is None and node.items is None]
    )
    own = {one.text("id").rpartition(".")[2] for one in subtasks}
    # A subtask may need another task or a subtask of one; a bare number is first of all a subtask beside it.
    inner = [node.word() for one in subtasks for node in one.rows("dependencies") if node.keys is None]
    said += [need for need in inner if need not in own]
    needs = [re.sub(r"^([\w-]+)\.[\d.]+$", r"\1", need) for need in said]
    return list(dict.fromkeys(need for need in needs if need and need != name))


def _below(name: str, number: str) -> str:
    """Return the id of a subtask, which a file may write with or without that of its task."""
    return number if "." in number else f"{name}.{number}"


def _drop(name: str, one: Node, reading: Reading) -> bool:
    """Return whether a subtask is cancelled, and note it."""
    status = one.text("status")
    if status_of(status) != "cancelled":
        return False
    text = f'{_below(name, one.text("id"))}: is "{status}" in the source and was left out'
    reading.notes.add(one.line, text, "cancelled subtasks, left out")
    one.plain()
    return True


def _subtask(name: str, one: Node, reading: Reading) -> str:
    """Return a subtask as text."""
    one.pass_over(*TIMES, "parentTaskId", "parentId", "priority")
    status = one.text("status")
    reading.notes += status_notes(_below(name, one.text("id")), status, one.line)
    if status_of(status) == "done":
        text = f"{name}: subtasks that are done in the source are required again: {_below(name, one.text('id'))}"
        reading.notes.add(one.line, text, "subtasks that are done in the source; they are required again")
    lines = [f"### {_below(name, one.text('id'))} {flat(one.text('title'))}"]
    lines += [
        text
        for key in ("description", "details", "testStrategy", "acceptanceCriteria", "notes")
        if (text := one.text(key).strip("\n"))
    ]
    needs = [node.word() for node in one.rows("dependencies")]
    if needs:
        lines.append(f"After: {', '.join(needs)}")
    return "\n\n".join(lines)


class Beads:
    """``.beads/issues.jsonl``: one issue per bead; only ``blocks`` orders work, epics become phases."""

    name = "beads"
    guide = guide_of("beads")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if source.files or not source.stem.endswith(".jsonl"):
            return 0
        first = next((line for line in source.text.split("\n") if line.strip()), "")
        return 85 if '"issue_type"' in first or ('"id"' in first and '"title"' in first) else 20

    def read(self, source: Source) -> Draft:
        """The milestone of a database of beads."""
        root = tree_of(source, json_lines_node)
        if isinstance(root, Draft):
            return root
        reading = Reading(source)
        root.read = True
        rows = [row for row in root.items or () if row.keys is not None and not _aside(row, reading)]
        parents = {parent for row in rows for kind, parent in _links(row) if kind == "parent-child"}
        epics = {
            row.text("id"): flat(row.text("title"))
            for row in rows
            if row.text("issue_type") == "epic" and row.text("id") in parents
        }
        for row in rows:
            _bead(row, reading, epics)
        for name, title in epics.items():
            reading.gone[name] = f"the phase {title}"
        reading.notes += root.notes()
        names = [row.text("id") for row in rows]
        prefix = re.sub(r"[-._]?[a-z0-9]*(?:\.\d+)*$", "", names[0]) if names else ""
        overview = "\n\n".join(
            f"## {epics[row.text('id')]}\n\n{text}"
            for row in rows
            if row.text("id") in epics and (text := _parts_of(row))
        )
        return replace(draft_of(reading, slug(prefix) or "beads", "", {}, whole=False), overview=overview)


def _aside(row: Node, reading: Reading) -> bool:
    """Leave out a record that is no issue: ``bd export`` also writes memories, with a key ``_type``."""
    kind = row.text("_type")
    if kind in {"", "issue"}:
        return False
    reading.notes.add(
        row.line, f"a record of type {kind} is not an issue and was left out", f"records of type {kind}, left out"
    )
    row.plain()
    return True


def _links(row: Node) -> list[tuple[str, str]]:
    """Return the kind and the other end of each dependency of a bead."""
    found = []
    for link in row.rows("dependencies"):
        if link.keys is not None:
            found.append((link.text("type", "dep_type") or "blocks", link.text("depends_on_id", "id")))
            link.pass_over("created_at", "created_by", "metadata", "thread_id")
            if link.text("issue_id") != row.text("id") and (own := link.get("issue_id")) is not None:
                own.read = False
        else:
            found.append(("blocks", link.word()))
    return found


_BEADS_OWN = (
    *("content_hash", "source_repo", "compaction_level", "original_size", "closed_by", "updated_by", "owner"),
    *("sender", "ephemeral", "comment_count", "dependency_count", "dependent_count"),
)
"""Keys of Beads about itself."""
_BEADS_PARTS = (("design", "Design"), ("notes", "Notes"))


def _bead(row: Node, reading: Reading, epics: dict[str, str]) -> None:
    named = reading.named(row, "an issue", "title")
    if named is None:
        return
    name, title = named
    links = _links(row)
    row.pass_over(*TIMES, *_BEADS_OWN)
    if name in epics:
        _epic(row, reading, name, epics[name])
        return
    standing = reading.standing(name, row.text("status"), row.line)
    if standing is None:
        row.plain()
        return
    fields = words_of(row, reading, name)
    fields["needs"] = list(dict.fromkeys(other for link, other in links if link == "blocks" and other != name))
    fields["phase"] = next((epics[other] for link, other in links if link == "parent-child" and other in epics), "")
    fields["accept"] = accept_of(row.text("acceptance_criteria"), row.text("description"))
    _not_taken(row, reading, name, links, epics)
    text = _parts_of(row) or f"# {title}"
    reading.add(name, title, text, row.line, fields, standing)


def _parts_of(row: Node) -> str:
    """Return the texts of a bead."""
    parts = [f"## {head}\n\n{text}" for key, head in _BEADS_PARTS if (text := row.text(key))]
    return "\n\n".join(part.strip("\n") for part in (row.text("description"), *parts) if part.strip())


def _epic(row: Node, reading: Reading, name: str, phase: str) -> None:
    """An epic becomes a phase."""
    words_of(row, reading, name)
    reading.standing(name, row.text("status"), row.line)
    text = f'the epic {name} became the phase "{phase}"'
    reading.notes.add(row.line, text, "epics that became phases")


def _not_taken(row: Node, reading: Reading, name: str, links: list[tuple[str, str]], epics: dict[str, str]) -> None:
    """Note links and keys that a declaration has no place for."""
    other_links = [
        f"{link} {other}"
        for link, other in links
        if link != "blocks" and (link != "parent-child" or other not in epics)
    ]
    if other_links:
        text = f"{name}: links that set no order were left out: {', '.join(other_links)}"
        reading.notes.add(row.line, text, "links that set no order, left out")
    aside = ("labels", "assignee", "external_ref", "estimated_minutes", "close_reason", "comments")
    reading.leave_out(row, name, aside, row.line)


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
