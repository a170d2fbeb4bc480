"""Plans with a file for each task: Backlog.md, ccpm, spec-kitty. Pure.

Each file has its fields in the front matter; the text below it becomes the spec.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from executor.errors import Fault
from executor.importers.draft import Draft, DraftIssue, Note, listed, slug, unique_id
from executor.importers.importer import guide_of
from executor.importers.reading.fields import fields_of, files_in, meaning
from executor.importers.reading.markdown import Document, document, flat, plain
from executor.importers.reading.places import Node, PlaceError, yaml_comments, yaml_node
from executor.importers.reading.records import Reading, draft_of, needs_of
from executor.importers.reading.words import needs_in, size_of, status_notes, word_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from executor.importers.draft import Account
    from executor.importers.source import Source

__all__ = ["ASIDE", "Backlog", "Ccpm", "TaskFile", "files_of", "finish", "read_files"]

_SHOWN = 5  # names in a sentence
# Files of tasks: 12.md, 001.md, T-3.md, 005a-name.md, tasks/001-name.md
_TASK_FILE = re.compile(r"(?:tasks/)?(\d+[a-z]?|[A-Za-z]+-?\d+)(?:[-_ ][^/]*)?\.md")
ASIDE = frozenset(
    [
        *("created", "updated", "created_date", "updated_date", "createdat", "updatedat", "ordinal"),
        *("assignee", "history", "lane", "shell_pid", "subtasks", "progress", "prd", "reporter"),
        *("type", "review_status", "reviewed_by", "review_feedback", "modified_files"),
        *("planning_base_branch", "merge_target_branch", "branch_strategy", "created_at"),
        *("base_branch", "base_commit", "execution_mode", "authoritative_surface", "agent_profile"),
        *("role", "model", "tags", "last_sync"),
    ]
)
"""Keys of front matter about the course of the work, which a declaration has no place for."""
_OLD_NAME = re.compile(r"[A-Z]{0,3}\d{1,4}[a-z]?")
_NOT_UNDERSTOOD = "dependencies that were not understood"


@dataclass(slots=True)
class TaskFile:
    """A file of a folder: its path, its fields, its text."""

    path: str
    front: Node
    doc: Document
    body: str


@dataclass(slots=True)
class _Folder:
    source: Source
    reading: Reading
    files: list[TaskFile] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def files_of(source: Source, wanted: str) -> Iterator[str]:
    """Yield the files of a folder whose path matches a pattern."""
    return (path for path in source.files if re.search(wanted, path, re.IGNORECASE))


def _front(text: str, path: str) -> tuple[Node, Document, list[Note]]:
    """Return the front matter of a file as a table, its Markdown, and faults of the front matter."""
    doc = document(text, file=path)
    if doc.front is None:
        return Node(None, 1, "", keys={}), doc, []
    try:
        front = yaml_node(doc.front, first=2)
    except PlaceError as error:
        message = f"the front matter {error}; it was read line by line"
        return _lenient(doc.front), doc, [Note(error.line, message, "front matter that is not YAML", path)]
    notes = yaml_comments(doc.front, first=2, file=path)
    return (front if front.keys is not None else Node(None, 1, "", keys={})), doc, notes


def _lenient(text: str) -> Node:
    """Parse front matter that is not YAML (a colon in a title): one ``key: value`` a line."""
    keys: dict[str, Node] = {}
    for number, line in enumerate(text.split("\n"), 2):
        match = re.match(r"^(\w[\w-]*):\s*(.*)$", line)
        if match:
            value = match[2].strip().strip("\"'")
            if value.startswith("[") and value.endswith("]"):
                items = [
                    Node(part.strip().strip("\"'"), number, match[1]) for part in value[1:-1].split(",") if part.strip()
                ]
                keys[match[1]] = Node(None, number, match[1], items=items)
            else:
                keys[match[1]] = Node(value, number, match[1])
    return Node(None, 1, "", keys=keys)


def read_files(source: Source, reading: Reading, wanted: str, *, needs: Sequence[str]) -> _Folder:
    """Read the files of a folder that have the fields of the format."""
    folder = _Folder(source, reading)
    for path in files_of(source, wanted):
        text = source.beside(path)
        if text is None:
            continue
        front, doc, notes = _front(text, path)
        if any(front.get(name) is not None for name in needs):
            body = "\n".join(doc.account.lines[_first(doc) :]).strip("\n")
            folder.files.append(TaskFile(path, front, doc, body))
            folder.accounts.append(doc.account)
            doc.account.take(range(1, len(doc.account.lines) + 1))
            reading.notes += notes
            reading.notes += doc.notes
        else:
            folder.other.append(path)
    return folder


def _first(doc: Document) -> int:
    """Return the number of lines in the front matter."""
    return 0 if doc.front is None else doc.front.count("\n") + 3


def finish(
    folder: _Folder, name: str, wanted: str, title: str, fields: Mapping[str, Any], overview: str = "", *, whole: bool
) -> Draft:
    """Return the milestone of a folder; keys and files that were not read are noted."""
    reading = folder.reading
    for file in folder.files:
        reading.notes += file.front.notes(file.path)
    if folder.other:
        reading.notes.add(
            0,
            f"files that are not {name} were not read: {', '.join(folder.other[:_SHOWN])}"
            + (f" and {len(folder.other) - _SHOWN} more" if len(folder.other) > _SHOWN else ""),
        )
    known = {issue.id.casefold(): issue.id for issue in reading.issues}
    reading.issues = [_cased(issue, known) for issue in reading.issues]
    return replace(
        draft_of(reading, wanted, title, fields, whole=whole), overview=overview, accounts=tuple(folder.accounts)
    )


def _cased(issue: DraftIssue, known: Mapping[str, str]) -> DraftIssue:
    """Return an issue whose needs are spelled like the ids of the plan."""
    needs = [known.get(need.casefold(), need) for need in listed(issue.fields, "needs")]
    return replace(issue, fields={**issue.fields, "needs": needs}) if needs else issue


class Backlog:
    """``backlog/tasks/``: one issue per file."""

    name = "backlog"
    guide = guide_of("backlog")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        for path in list(files_of(source, r"\.md$"))[:3]:
            front, _, _ = _front(source.beside(path) or "", path)
            if front.has("id") and front.has("title") and {"status", "dependencies"} <= (front.keys or {}).keys():
                return 80
        return 0

    def read(self, source: Source) -> Draft:
        """The milestone of a folder."""
        reading = Reading(source)
        folder = read_files(source, reading, r"\.md$", needs=("id",))
        ids: dict[str, str] = {}
        for file in folder.files:
            name = file.front.text("id")
            other = ids.setdefault(name, file.path)
            if other != file.path:
                name = unique_id(f"{name}-{slug(file.front.text('title'), 32)}", ids)
                text = f"{file.path}: {file.front.text('id')} is already the id of {other}; this task became {name}"
                reading.notes.add(0, text, "ids that several files have", file.path)
                ids[name] = file.path
            _backlog(file, name, reading, source.part)
        return finish(folder, "tasks", slug(source.part) or "backlog", source.part, {}, whole=False)


def _priority(file: TaskFile, name: str, reading: Reading) -> str:
    """Return the priority of a file; an unknown word is noted."""
    word = file.front.text("priority")
    return word_of("priority", word, f"{name}: ", reading.notes, 0, file.path) if word else ""


def _backlog(file: TaskFile, name: str, reading: Reading, part: str) -> None:
    front = file.front
    title = flat(front.text("title"))
    group = front.text("milestone")
    if part and group.casefold() != part.casefold():
        front.plain()
        reading.gone[name] = f"in {group or 'no milestone'}"
        return
    if not name or not title:
        text = f'expected a task with id and title, found id "{name}", title "{title}"'
        reading.faults.append(Fault(reading.source.name, file.path, text))
        return
    standing = reading.standing(name, front.text("status"), 0, file.path)
    if standing is None:
        front.plain()
        return
    front.pass_over(*ASIDE)
    kind = front.text("type")
    fields: dict[str, object] = {"needs": needs_of(front.words("dependencies"))}
    fields["priority"] = _priority(file, name, reading)
    claims = listed(fields_of(file.doc.sections).values, "accept")
    fields["accept"] = [re.sub(r"^#\d+\s+", "", claim) for claim in claims]  # Backlog.md numbers its criteria
    fields["type"] = kind if re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", kind) and kind != "task" else ""
    if group:
        fields["phase"] = group
    reading.leave_out(front, name, ("labels", "references", "documentation", "parent_task_id", "parent"))
    text = re.sub(
        r"^[ \t]*<!-- (?:SECTION:\w+|AC|DOD|COMMENTS?):(?:BEGIN|END) -->[ \t]*\n?", "", file.body, flags=re.MULTILINE
    ).strip("\n")
    reading.add(name, title, text or f"# {title}", 0, fields, standing)


class Ccpm:
    """``.claude/epics/NAME/``: one issue for each task of an epic; the epic's text is the overview."""

    name = "ccpm"
    guide = guide_of("ccpm")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        inside = "/.claude/epics/" in f"/{source.place}/{source.name}/"
        if inside and "epic.md" in source.files and any(map(_TASK_FILE.fullmatch, source.files)):
            return 83
        for path in list(filter(_TASK_FILE.fullmatch, source.files))[:3]:
            front, _, _ = _front(source.beside(path) or "", path)
            if front.has("name", "title") and (
                front.get("depends_on") is not None or front.get("parallel") is not None or inside
            ):
                return 82
        return 0

    def read(self, source: Source) -> Draft:
        """The milestone of an epic."""
        reading = Reading(source)
        folder = read_files(
            source,
            reading,
            r"^(?:tasks/)?[^/]+\.md$",
            needs=("depends_on", "conflicts_with", "status", "title", "name"),
        )
        epic = next((file for file in folder.files if file.path.casefold() == "epic.md"), None)
        tasks = _tasks_of(folder)
        folder.other += [file.path for file in folder.files if file not in tasks.values() and file is not epic]
        names = {name: name for name in tasks} | _earlier_names(tasks, epic, reading)
        for name, file in tasks.items():
            _ccpm(file, name, names, reading)
        fields: dict[str, object] = {}
        title = overview = ""
        if epic is not None:
            title, overview, fields = _epic(epic, source, reading)
        folder.files = [file for file in folder.files if file in tasks.values() or file is epic]
        wanted = slug(source.place.rstrip("/").rpartition("/")[2] or source.folder, 60)
        # Some files of an epic may need others that are not part of the source.
        whole = epic is not None or len(tasks) == sum(
            _TASK_FILE.fullmatch(name) is not None for name in source.siblings
        )
        return finish(folder, "tasks", wanted, title, fields, overview, whole=whole)


def _tasks_of(folder: _Folder) -> dict[str, TaskFile]:
    """Return the files of an epic that are tasks, by id.

    ``12.md`` is a task with or without front matter. ``12-name.md`` is one only if it has a name and a status and
    there is no ``12.md``: ccpm writes ``12-analysis.md`` beside its tasks.
    """
    found: dict[str, TaskFile] = {}
    bare = {path for path in folder.source.files if re.fullmatch(r"(?:tasks/)?(?:\d+|[A-Za-z]+-?\d+)\.md", path)}
    for path in [path for path in folder.other if path in bare]:
        folder.other.remove(path)
        text = folder.source.beside(path) or ""
        front, doc, notes = _front(text, path)
        doc.account.take(range(1, len(doc.account.lines) + 1))
        folder.files.append(TaskFile(path, front, doc, text.strip("\n")))
        folder.accounts.append(doc.account)
        folder.reading.notes += [*notes, *doc.notes]
    order = {path: place for place, path in enumerate(folder.source.files)}
    for file in sorted(folder.files, key=lambda file: order.get(file.path, 0)):
        match = _TASK_FILE.fullmatch(file.path)
        if match is None:
            continue
        plain_name = file.path in bare
        if not plain_name and (
            not file.front.has("name", "title")
            or file.front.get("status") is None
            or any(path.rpartition("/")[2] == f"{match[1]}.md" for path in bare)
        ):
            continue
        name = match[1]
        if name in found:
            name = unique_id(file.path.rpartition("/")[2].removesuffix(".md"), found)
            text = f"{file.path}: {match[1]} is already the id of {found[match[1]].path}; this task became {name}"
            folder.reading.notes.add(0, text, "ids that several files have", file.path)
        found[name] = file
    return found


def _earlier_names(tasks: Mapping[str, TaskFile], epic: TaskFile | None, reading: Reading) -> dict[str, str]:
    """Return names that tasks had before ccpm renamed their files to issue numbers -> ids.

    A name stands before the title (``T1: Theme``), or in a table of the epic that has as many rows as there are tasks.
    """
    found: dict[str, str] = {}
    for name, file in tasks.items():
        match = re.match(r"^([A-Z]{1,3}\d+|\d{1,4})\s*[:.–—-]\s", file.front.text("name", "title"))
        if match and match[1] not in tasks:
            found.setdefault(match[1], name)
    if found or epic is None:
        return found
    for table in (table for part in epic.doc.sections for table in part.tables):
        first = [plain(next(iter(row.cells.values()), "")).lstrip("#").removesuffix(".md") for row in table.rows]
        if len(first) == len(tasks) and all(map(_OLD_NAME.fullmatch, first)) and not set(first) & set(tasks):
            found = dict(zip(first, tasks, strict=True))
            shown = ", ".join(f"{old} is {name}" for old, name in found.items())
            reading.notes.add(table.line, f"names before the files were renumbered: {shown}", file=epic.path)
            return found
    return found


def _epic(epic: TaskFile, source: Source, reading: Reading) -> tuple[str, str, dict[str, object]]:
    """Return title, overview and fields of the milestone."""
    title = re.sub(r"^Epic:\s*", "", epic.doc.title()) or epic.front.text("name")
    overview = epic.body
    claims = [
        claim
        for part in epic.doc.sections
        if meaning(part.title) == "accept"
        for claim in (flat(item.text) for item in part.every_item())
    ]
    reading.notes += status_notes("the epic", epic.front.text("status"), 0, epic.path)
    if slug(epic.front.text("name")) not in {slug(title), slug(source.folder)}:
        overview = f"{epic.front.text('name')}\n\n{overview}"
    epic.front.pass_over(*ASIDE, "github", "title", "description")
    return title, overview, {"accept": claims} if claims else {}


def _ccpm(file: TaskFile, name: str, names: Mapping[str, str], reading: Reading) -> None:
    front = file.front
    title = flat(front.text("title") or front.text("name")) or re.sub(
        r"^(?:Task\s*)?(?:#?\w*\d\w*)?\s*[:.–—-]\s+", "", plain(file.doc.title())
    )
    title = title or f"Task {name}"
    own = fields_of(file.doc.sections, name)
    reading.notes.adopt(own.notes, file.path)
    standing = reading.standing(name, front.text("status") or own.status, 0, file.path)
    front.pass_over(*ASIDE, "name", "id", "epic", "estimated_hours", "actual_hours", "effort", "task", "task_number")
    parallel = front.get("parallel")
    if parallel is not None and isinstance(parallel.value, bool):
        parallel.read = True  # a hint: what may run side by side follows from the dependencies
    if standing is None:
        front.plain()
        return
    needs = [_task_name(need, names) for need in front.words("depends_on", "dependencies")]
    if front.get("depends_on") is None and front.get("dependencies") is None:
        said = needs_in(own.needs, list(names), name)
        needs = [names[need] for need in said.names]
        reading.notes += (
            Note(own.needs_line, f'{name}: dependencies: "{text}" was not understood', _NOT_UNDERSTOOD, file.path)
            for text in (*said.rest, *said.unknown, *said.milestones)
        )
    files = [*front.words("files"), *listed(own.values, "files")]
    fields: dict[str, object] = {"needs": list(dict.fromkeys(needs)), "accept": own.values.get("accept")}
    fields["files"] = list(dict.fromkeys(files_in([f"`{path}`" for path in files])[0]))
    fields["priority"] = _priority(file, name, reading) or own.values.get("priority")
    fields["size"] = size_of(front.text("size")) or own.values.get("size")
    fields["agent"] = front.text("agent") or own.values.get("agent")
    phase = front.text("phase")
    fields["phase"] = f"Phase {phase}" if phase.isdecimal() else phase
    # Two tasks that conflict must not run at the same time: they share a separate resource.
    fields["resources"] = [
        "+".join(sorted((name, _task_name(other, names)))) for other in front.words("conflicts_with")
    ]
    link = re.search(r"(?:/issues/|^#?)(\d+)$", front.text("github"))
    if link:
        fields["number"] = int(link[1])
    text = file.body or f"# {title}"
    reading.add(name, title, text, 0, fields, standing)


def _task_name(word: str, names: Mapping[str, str]) -> str:
    """Return a dependency as the id of a task: ``1`` and ``001`` are equal."""
    bare = word.strip().lstrip("#").removesuffix(".md")
    if bare in names:
        return names[bare]
    return next((own for name, own in names.items() if name.lstrip("0") == bare.lstrip("0")), bare)


class SpecKitty:
    """``kitty-specs/NAME/tasks/WP01-*.md``: one issue per work package."""

    name = "speckitty"
    guide = guide_of("speckitty")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        return 84 if any(re.search(r"(?:^|/)WP\d+[^/]*\.md$", path) for path in source.files) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a mission."""
        reading = Reading(source)
        folder = read_files(
            source, reading, r"(?:^|/)WP\d+[^/]*\.md$", needs=("work_package_id", "title", "lane", "subtasks")
        )
        for file in folder.files:
            _package(file, reading)
        parts = [part for part in source.name.rstrip("/").split("/") if part not in {"tasks", "", "."}]
        wanted = slug(parts[-1] if parts else "", 60)
        return finish(folder, "work packages", wanted, (parts[-1] if parts else "").replace("-", " "), {}, whole=False)


def _package(file: TaskFile, reading: Reading) -> None:
    front = file.front
    named = re.search(r"WP\d+", file.path)
    said = front.text("work_package_id")
    # Later versions keep a unique id there; the others still need the package by the number in its file's name.
    name = said if re.fullmatch(r"WP\d+", said) or not named else named[0]
    title = flat(front.text("title")) or re.sub(r"^.*?WP\d+\s*[:–—-]\s*", "", file.doc.title()) or name
    status = front.text("lane") or front.text("status")
    word = status.replace("for_review", "in review").replace("doing", "in progress").replace("planned", "")
    standing = reading.standing(name, word, 0, file.path)
    if standing is None:
        front.plain()
        return
    front.pass_over(
        *ASIDE, "work_package_id", "id", "wp_code", "mission_id", "feature", "agent", "requirement_refs", "priority"
    )
    own = fields_of(file.doc.sections, name)
    checks = [
        flat(item.text)
        for part in file.doc.sections
        if re.search(r"definition of done", part.title, re.IGNORECASE)
        for item in part.every_item()
    ]
    fields: dict[str, object] = {
        "needs": needs_of(front.words("dependencies", "depends_on")),
        "files": front.words("owned_files"),
    }
    fields["accept"] = list(dict.fromkeys([*listed(own.values, "accept"), *checks]))
    fields["phase"] = front.text("phase")
    text = file.body or f"# {title}"
    reading.add(name, title, text, 0, fields, standing)
