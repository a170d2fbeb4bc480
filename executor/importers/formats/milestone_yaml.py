"""Plans in YAML: ``.milestones/active/NAME.yaml``, the sprint of BMAD with its stories, plans of Cursor. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from executor.importers.draft import Draft, refused, slug
from executor.importers.formats.folders import files_of
from executor.importers.formats.trackers import TIMES
from executor.importers.importer import guide_of
from executor.importers.reading.fields import fields_of
from executor.importers.reading.markdown import document, flat, plain
from executor.importers.reading.places import Node, PlaceError, yaml_comments, yaml_node
from executor.importers.reading.records import Reading, accept_of, draft_of, needs_of, tree_of
from executor.importers.reading.words import priority_of, size_of, status_of

if TYPE_CHECKING:
    from executor.importers.source import Source

__all__ = ["Bmad", "Cursor", "MilestoneYaml", "Stories"]


class MilestoneYaml:
    """``.milestones/active/NAME.yaml``: tasks with dependencies, success criteria and the weights of KIRO's phases."""

    name = "milestone-yaml"
    guide = guide_of("milestone-yaml")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if source.files or not source.stem.endswith((".yaml", ".yml")):
            return 0
        try:
            root = yaml_node(source.text)
        except PlaceError:
            return 60 if "/.milestones/" in f"/{source.name}" else 10
        root = _milestone_of(root)
        return 85 if root.get("tasks") is not None else 40 if root.get("id") is not None else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a file."""
        whole = tree_of(source, yaml_node)
        if isinstance(whole, Draft):
            return whole
        root = _milestone_of(whole)
        reading = Reading(source)
        root.read = whole.read = True
        wanted, title = root.text("id"), flat(root.text("title", "name"))
        fields: dict[str, object] = {"goal": flat(root.text("description", "goal"))}
        fields["accept"] = [*accept_of(_plain(root, "success_criteria")), *_deliverables(root)]
        after = _requires(root, reading)
        rows = root.rows("tasks")
        pairs = [row for row in rows if row.keys is not None]
        table = root.get("tasks")
        if table is not None and table.keys is not None:
            pairs = [_named_row(name, row) for name, row in table.keys.items() if row.keys is not None]
            table.read = True
        for row in pairs:
            _yaml_task(row, reading, root)
        _asides(root, reading)
        reading.notes += [*whole.notes(), *yaml_comments(source.text)]
        draft = draft_of(
            reading,
            wanted or source.stem.rpartition(".")[0],
            title,
            {key: value for key, value in fields.items() if value},
        )
        return replace(draft, after=tuple(after), overview=_overview(root))


def _milestone_of(root: Node) -> Node:
    inner = root.get("milestone")
    return inner if inner is not None and inner.keys is not None and root.get("tasks") is None else root


def _named_row(name: str, row: Node) -> Node:
    return (
        row
        if row.get("id") is not None
        else Node(None, row.line, row.path, keys={"id": Node(name, row.line, row.path), **(row.keys or {})})
    )


def _plain(root: Node, *names: str) -> Any:
    node = root.get(*names)
    if node is None:
        return None
    value = node.plain()
    if isinstance(value, dict):
        return [f"{key}: {flat(str(item))}" for key, item in value.items()]
    if isinstance(value, list):
        return [
            flat(str(item.get("description") or item.get("name") or item.get("criterion") or item))
            if isinstance(item, dict)
            else item
            for item in value
        ]
    return value


def _deliverables(root: Node) -> list[str]:
    """Return the acceptance criteria of the deliverables, each with the name of its deliverable."""
    found = []
    for node in root.rows("deliverables"):
        if node.keys is None:
            found.append(node.word())
            continue
        name = flat(node.text("name", "title"))
        node.pass_over("type", "status")
        claims = node.words("acceptance_criteria", "criteria")
        found += [f"{name}: {claim}" for claim in claims] or ([name] if name else [])
    return [claim for claim in found if claim.strip()]


def _requires(root: Node, reading: Reading) -> list[str]:
    node = root.get("dependencies")
    if node is None:
        return []
    node.read = True
    if node.keys is None:
        return needs_of([item.shown() for item in node.items or ()])
    for key in ("enables", "external", "blocks", "optional"):
        other = node.get(key)
        if other is not None and not other.empty():
            reading.notes.add(other.line, f"dependencies.{key}: {other.shown()} sets no order and was left out")
        elif other is not None:
            other.plain()
    return needs_of(node.words("requires", "depends_on", "milestones"))


def _yaml_task(row: Node, reading: Reading, root: Node) -> None:
    named = reading.named(row, "a task", "title", "name")
    if named is None:
        return
    name, title = named
    row.pass_over(*TIMES)
    standing = reading.standing(name, row.text("status").replace("_", " "), row.line)
    if standing is None:
        row.plain()
        return
    fields: dict[str, object] = {"needs": needs_of(row.words("dependencies", "depends_on", "needs"))}
    fields["priority"] = priority_of(row.text("priority"))
    fields["size"] = size_of(row.text("size")) or _size_of_hours(row.text("estimated_hours", "estimate"))
    fields["accept"] = accept_of(_plain(row, "acceptance_criteria", "success_criteria", "acceptance"))
    fields["files"] = row.words("files")
    who = row.text("assigned_to", "assignee", "agent")
    if who:
        fields["agent"] = who
    flow = row.get("kiro_workflow")
    if flow is not None:
        enabled = flow.text("enabled")
        if enabled == "true":
            fields["workflow"] = "kiro"
            _weights(root, reading, row.line)
        elif enabled not in {"", "false"}:
            said = f'{name}: kiro_workflow.enabled is "{enabled}", expected true or false; it was read as false'
            reading.notes.add(flow.line, said, "kiro_workflow.enabled that is neither true nor false")
        flow.read = True
        flow.pass_over("current_phase", "phases", "approval_gates")
    text = row.text("description") or f"# {title}"
    more = [
        f"## {key.capitalize()}\n\n{value}"
        for key in ("notes", "deliverables", "details")
        if row.has(key) and (value := _listed(row, key))
    ]
    text = "\n\n".join([text.strip("\n"), *more])
    reading.add(name, title, text, row.line, fields, standing)


def _listed(row: Node, key: str) -> str:
    node = row.get(key)
    if node is None:
        return ""
    return "\n".join(f"- {item.shown()}" for item in node.items) if node.items is not None else node.shown()


def _size_of_hours(word: str) -> str:
    """Convert hours to a size: up to 2 is S, up to 8 is M, more is L."""
    if not re.fullmatch(r"\d+(?:\.\d+)?", word):
        return ""
    hours = float(word)
    return "S" if hours <= 2 else "M" if hours <= 8 else "L"  # noqa: PLR2004


def _weights(root: Node, reading: Reading, line: int) -> None:
    """Note the weights of KIRO's phases if they differ from those of the packaged workflow."""
    node = root.get("kiro_configuration")
    weights = node.get("phase_weights") if node is not None else None
    value = weights.plain() if weights is not None else None
    usual = {"design": 15, "spec": 25, "task": 20, "execute": 40}
    if (
        isinstance(value, dict)
        and {key: int(str(item)) if str(item).isdecimal() else item for key, item in value.items()} != usual
    ):
        said = ", ".join(f"{key} {item}" for key, item in value.items())
        text = f"phase weights ({said}) differ from those of the workflow kiro; set them in rules/workflows/kiro.toml"
        reading.notes.add(line, text, "phase weights that differ from those of the workflow kiro")


def _asides(root: Node, reading: Reading) -> None:
    """Skip values that a milestone computes itself, and note those that it cannot represent."""
    root.pass_over("progress", "execution", "category", "tags", "metadata", *TIMES)
    status = root.text("status")
    if status_of(status.replace("_", " ")) == "done":
        reading.notes.add(
            root.line, f'the milestone\'s status "{status}" was not imported; what has landed is read from git'
        )
    priority = root.text("priority")
    if priority:
        reading.notes.add(
            root.line, f'the priority "{priority}" of the milestone was not imported; only issues have one'
        )
    for key in ("timeline", "kiro_configuration", "resources", "stakeholders", "blockers"):
        node = root.get(key)
        if node is not None and not node.empty():
            said = flat(node.shown())
            reading.notes.add(node.line, f"{key} was not imported: {said[:80]}{'...' if said[80:] else ''}")


def _overview(root: Node) -> str:
    """Return the risks and other text of a milestone, for the agents of all issues."""
    parts = []
    for key in ("risks", "notes", "context", "constraints"):
        node = root.get(key)
        if node is not None and not node.empty():
            lines = [_risk(item) for item in node.items] if node.items is not None else [node.shown()]
            parts.append(f"## {key.capitalize()}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _risk(item: Node) -> str:
    if item.keys is None:
        return f"- {item.shown()}"
    said = "; ".join(f"{key}: {flat(node.shown())}" for key, node in item.keys.items())
    return f"- {said}"


class Bmad:
    """``sprint-status.yaml``: one issue per story, with its story file as the spec; epics are phases."""

    name = "bmad"
    guide = guide_of("bmad")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        if source.files or not source.stem.endswith((".yaml", ".yml")):
            return 0
        return 95 if re.search(r"^development_status:", source.text, re.MULTILINE) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a sprint."""
        root = tree_of(source, yaml_node)
        if isinstance(root, Draft):
            return root
        reading = Reading(source)
        project, place = root.text("project"), root.text("story_location")
        root.pass_over("generated", "project_key", "tracking_system", "last_updated", "date")
        table = root.get("development_status")
        root.read = True
        for key, node in (table.keys or {}).items() if table is not None else ():
            _sprint_line(key, node, place, reading)
        reading.notes += [*root.notes(), *yaml_comments(source.text)]
        return draft_of(reading, slug(project) or "sprint", project, {})


def _story(key: str, place: str, reading: Reading) -> str | None:
    """Return the text of a story file at the declared place or next to the status file; None without one."""
    folder = place.removeprefix("{project-root}/").rstrip("/")
    text = reading.source.read(f"{folder}/{key}.md") if folder else None
    if text is not None:
        return text
    if folder and not reading.source.place.startswith(folder):
        reading.notes.add(0, f"story_location {place} lacks some story files; those next to the file were read")
    return reading.source.beside(f"{key}.md")


def _sprint_line(key: str, node: Node, place: str, reading: Reading) -> None:
    status = node.word()
    if re.fullmatch(r"(?:\w+-)?epic-[\w.]+|.+-retrospective", key):
        said = f"the status of epics was not imported: {key}: {status}"
        reading.notes.add(node.line, said, "the status of epics was not imported")
        return
    match = re.fullmatch(r"([a-z]{0,4}\d+[a-z]?)-(\d+[a-z]?(?:-\d+)?)-(.+)", key)
    # An entry without numbers, such as a spike, is work as well; its key is its id.
    name = f"{match[1]}-{match[2]}" if match else slug(key, 60)
    standing = reading.standing(name, status, node.line)
    if standing is None:
        return
    text = _story(key, place, reading)
    title = (match[3] if match else key).replace("-", " ")
    fields: dict[str, object] = {"phase": f"Epic {match[1]}"} if match else {}
    if text is None:
        if not standing[0]:
            remark = f"{name}: its story file {key}.md was not found in {place or 'its folder'}; write its spec"
            reading.notes.add(node.line, remark, "story files that were not found; write their specs")
        text = f"# {title}"
    else:
        doc = document(text, file=f"{key}.md")
        title = re.sub(r"^Story\s+[\d.]+[a-z]?\s*[:–—-]+\s*", "", doc.title()) or title
        own = fields_of(doc.sections, name)
        fields["accept"] = own.values.get("accept")
        reading.notes.adopt(own.notes, f"{key}.md")
    title = plain(title)
    reading.add(name, title[:1].upper() + title[1:], text.strip("\n"), node.line, fields, standing)


_STATUS_AFTER = re.compile(r"^Status:\s*(.+)$", re.MULTILINE)


class Stories:
    """A story of BMAD, or a folder of them: an issue for each ``# Story 1.2: Title``."""

    name = "story"
    guide = guide_of("story")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        texts = (
            [source.beside(path) or "" for path in list(files_of(source, r"^\d+[-.]\d+.*\.md$"))[:2]]
            if source.files
            else [source.text]
        )
        return 78 if any(re.search(r"^# Story \d+\.\d+", text, re.MULTILINE) for text in texts) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of the stories."""
        reading = Reading(source)
        accounts = []
        named = (
            [(path, source.beside(path) or "") for path in files_of(source, r"\.md$")]
            if source.files
            else [("", source.text)]
        )
        for path, text in named:
            doc = document(text, file=path)
            match = next(
                (
                    hit
                    for part in doc.sections
                    if (hit := re.match(r"^Story\s+(\d+)\.(\d+[a-z]?)\s*[:–—-]*\s*(.*)$", plain(part.title)))
                ),
                None,
            )
            if match is None:
                reading.notes.add(0, f"{path or source.name} is not a story and was not read")
                continue
            status = _STATUS_AFTER.search(text)
            name = f"{match[1]}-{match[2]}"
            state = status_of(status[1]) if status else ""
            own = fields_of(doc.sections, name)
            doc.account.take(range(1, len(doc.account.lines) + 1))
            accounts.append(doc.account)
            fields = {"accept": own.values.get("accept")}
            reading.add(name, match[3] or f"Story {name}", text.strip("\n"), 1, fields, (state == "done", ""))
        return replace(
            draft_of(reading, slug(source.folder) or "stories", "", {}, whole=False), accounts=tuple(accounts)
        )


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
