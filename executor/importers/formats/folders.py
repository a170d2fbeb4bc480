"""Plans with a file for each task: Backlog.md, ccpm, spec-kitty. Pure.

Each file has its fields in the front matter; the text below it becomes the spec.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.errors import Fault
from executor.importers.draft import Draft, DraftIssue, Note, Source, listed, slug
from executor.importers.formats.records import Reading, draft_of, needs_of
from executor.importers.guides import GUIDES
from executor.importers.reading.fields import fields_of, meaning
from executor.importers.reading.markdown import Document, document, flat
from executor.importers.reading.places import Node, PlaceError, yaml_comments, yaml_node
from executor.importers.reading.words import priority_of, size_of, status_note, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from executor.importers.account import Account

__all__ = ["Backlog", "Ccpm", "SpecKitty", "files_of"]

_SHOWN = 5
_TASK_FILE = re.compile(r"(?:\d+|[A-Za-z]+-?\d+)\.md")
_ASIDE = frozenset(
    {
        "created",
        "updated",
        "created_date",
        "updated_date",
        "createdat",
        "updatedat",
        "ordinal",
        "assignee",
        "history",
        "lane",
        "shell_pid",
        "subtasks",
        "progress",
        "prd",
        "reporter",
        "type",
        "review_status",
        "reviewed_by",
        "review_feedback",
        "modified_files",
        "planning_base_branch",
        "merge_target_branch",
        "branch_strategy",
        "created_at",
        "base_branch",
        "base_commit",
        "execution_mode",
        "authoritative_surface",
        "agent_profile",
        "role",
        "model",
        "tags",
        "last_sync",
    }
)
_STATUS_AFTER = re.compile(r"^Status:\s*(.+)$", re.MULTILINE)


@dataclass(slots=True)
class _File:
    """A file of a folder: its path, its fields, its text."""

    path: str
    front: Node
    doc: Document
    body: str

    def has(self, *names: str) -> bool:
        return self.front.has(*names)


@dataclass(slots=True)
class _Folder:
    source: Source
    reading: Reading
    files: list[_File] = field(default_factory=list)
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
        front = _lenient(doc.front)
        return (
            front,
            doc,
            [
                Note(
                    error.line,
                    f"the front matter {error}; it was read line by line",
                    "front matter that is not YAML",
                    path,
                )
            ],
        )
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


def _read(source: Source, reading: Reading, wanted: str, *, needs: Sequence[str]) -> _Folder:
    """Read the files of a folder that have the fields of the format."""
    folder = _Folder(source, reading)
    for path in files_of(source, wanted):
        text = source.beside(path)
        if text is None:
            continue
        front, doc, notes = _front(text, path)
        if any(front.get(name) is not None for name in needs):
            body = "\n".join(doc.account.lines[_first(doc) :]).strip("\n")
            folder.files.append(_File(path, front, doc, body))
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


def _state(file: _File, name: str, status: str, reading: Reading) -> tuple[bool, str, bool]:
    state = status_of(status.replace("_", " "))
    if state == "cancelled":
        reading.gone[name] = status
        reading.notes.append(
            Note(0, f'{name}: is "{status}" in the source and was left out', "cancelled issues, left out", file.path)
        )
    else:
        note = status_note(name, status.replace("_", " "), 0, file.path)
        reading.notes += [note] if note is not None else []
    return state == "done", status if state == "stopped" else "", state == "cancelled"


def _finish(
    folder: _Folder, name: str, wanted: str, title: str, fields: Mapping[str, Any], overview: str = "", *, whole: bool
) -> Draft:
    from dataclasses import replace

    reading = folder.reading
    for file in folder.files:
        reading.notes += file.front.notes(file.path)
    if folder.other:
        reading.notes.append(
            Note(
                0,
                f"files that are no {name} were not read: {', '.join(folder.other[:_SHOWN])}"
                + (f" and {len(folder.other) - _SHOWN} more" if len(folder.other) > _SHOWN else ""),
            )
        )
    known = {issue.id.casefold(): issue.id for issue in reading.issues}
    reading.issues = [_cased(issue, known) for issue in reading.issues]
    return replace(
        draft_of(reading, wanted, title, fields, whole=whole), overview=overview, accounts=tuple(folder.accounts)
    )


def _cased(issue: DraftIssue, known: Mapping[str, str]) -> DraftIssue:
    """Return an issue whose needs are spelled like the ids of the plan."""
    from dataclasses import replace

    needs = [known.get(need.casefold(), need) for need in listed(issue.fields, "needs")]
    return replace(issue, fields={**issue.fields, "needs": needs}) if needs else issue


def _accept(doc: Document, numbered: re.Pattern[str] | None = None) -> list[str]:
    """Return the criteria of a file; ``#1`` before a criterion is Backlog.md's number."""
    found = listed(fields_of([doc.sections[0], *doc.sections[1:]]).values, "accept")
    return [numbered.sub("", claim) if numbered else claim for claim in found]


class Backlog:
    """``backlog/tasks/``: one issue per file."""

    name = "backlog"
    guide = GUIDES["backlog"]

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        for path in list(files_of(source, r"\.md$"))[:3]:
            front, _, _ = _front(source.beside(path) or "", path)
            if (
                front.has("id")
                and front.get("status") is not None
                and front.get("dependencies") is not None
                and front.has("title")
            ):
                return 80
        return 0

    def read(self, source: Source) -> Draft:
        """The milestone of a folder."""
        reading = Reading(source)
        folder = _read(source, reading, r"\.md$", needs=("id",))
        for file in folder.files:
            _backlog(file, reading, source.part)
        return _finish(folder, "tasks", slug(source.part) or "backlog", source.part, {}, whole=False)


def _priority(file: _File, name: str, fields: dict[str, object], reading: Reading) -> None:
    """Read the priority of a file; an unknown word is noted."""
    word = file.front.text("priority")
    fields["priority"] = priority_of(word)
    if word and not fields["priority"]:
        text = f'{name}: priority "{word}" is not P0, P1, P2, P3 and was left out'
        reading.notes.append(Note(0, text, "priority that is not P0, P1, P2, P3", file.path))


def _backlog(file: _File, reading: Reading, part: str) -> None:
    front = file.front
    name, title = front.text("id"), flat(front.text("title"))
    group = front.text("milestone")
    if part and group.casefold() != part.casefold():
        front.plain()
        reading.gone[name] = f"in {group or 'no milestone'}"
        return
    if not name or not title:
        reading.faults.append(
            Fault(
                reading.source.name, file.path, f'expected a task with id and title, found id "{name}", title "{title}"'
            )
        )
        return
    done, hold, gone = _state(file, name, front.text("status"), reading)
    if gone:
        front.plain()
        return
    front.pass_over(*_ASIDE)
    kind = front.text("type")
    fields: dict[str, object] = {"needs": needs_of(front.words("dependencies"))}
    _priority(file, name, fields, reading)
    fields["accept"] = _accept(file.doc, re.compile(r"^#\d+\s+"))
    fields["type"] = kind if re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", kind) and kind != "task" else ""
    if group:
        fields["phase"] = group
    _listed(file, name, reading, ("labels", "references", "documentation", "parent_task_id", "parent"))
    text = re.sub(
        r"^[ \t]*<!-- (?:SECTION:\w+|AC|DOD|COMMENTS?):(?:BEGIN|END) -->[ \t]*\n?", "", file.body, flags=re.MULTILINE
    ).strip("\n")
    reading.issues.append(
        DraftIssue(name, title, text or f"# {title}", 1, {k: v for k, v in fields.items() if v}, done, hold)
    )


def _listed(file: _File, name: str, reading: Reading, keys: Sequence[str]) -> None:
    for key in keys:
        node = file.front.get(key)
        if node is not None and not node.empty():
            reading.notes.append(
                Note(0, f"{name}: {key}: {node.shown()} was not taken over", f"{key} that were not taken over")
            )


class Ccpm:
    """``.claude/epics/NAME/``: one issue for each task of an epic; the epic's text is the overview."""

    name = "ccpm"
    guide = GUIDES["ccpm"]

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        inside = "/.claude/epics/" in f"/{source.place}/{source.name}/"
        for path in list(files_of(source, r"^(?:\d+|[A-Za-z]+-?\d+)\.md$"))[:3]:
            front, _, _ = _front(source.beside(path) or "", path)
            if front.has("name", "title") and (
                front.get("depends_on") is not None or front.get("parallel") is not None or inside
            ):
                return 82
        return 0

    def read(self, source: Source) -> Draft:
        """The milestone of an epic."""
        reading = Reading(source)
        folder = _read(source, reading, r"^[^/]+\.md$", needs=("depends_on", "conflicts_with", "status", "title"))
        epic = next((file for file in folder.files if file.path.casefold() == "epic.md"), None)
        tasks = [file for file in folder.files if _TASK_FILE.fullmatch(file.path)]
        folder.other += [file.path for file in folder.files if file not in tasks and file is not epic]
        names = {file.path[: -len(".md")] for file in tasks}
        for file in tasks:
            _ccpm(file, names, reading)
        fields: dict[str, object] = {}
        title = overview = ""
        if epic is not None:
            title = re.sub(r"^Epic:\s*", "", epic.doc.title()) or epic.front.text("name")
            overview = epic.body
            claims = [
                claim
                for part in epic.doc.sections
                if meaning(part.title) == "accept"
                for claim in (flat(item.text) for item in part.every_item())
            ]
            fields = {"accept": claims} if claims else {}
            note = status_note("the epic", epic.front.text("status"), 0, epic.path)
            reading.notes += [note] if note is not None else []
            if slug(epic.front.text("name")) not in {slug(title), slug(source.folder)}:
                overview = f"{epic.front.text('name')}\n\n{overview}"
            epic.front.pass_over(*_ASIDE, "github", "title", "description")
        folder.files = [file for file in folder.files if file in tasks or file is epic]
        wanted = slug(source.place.rstrip("/").rpartition("/")[2] or source.folder, 60)
        # Some files of an epic may need others that are not part of the source.
        whole = epic is not None or len(tasks) == sum(
            _TASK_FILE.fullmatch(name) is not None for name in source.siblings
        )
        return _finish(folder, "tasks", wanted, title, fields, overview, whole=whole)


def _ccpm(file: _File, names: set[str], reading: Reading) -> None:
    front = file.front
    name = file.path[: -len(".md")]
    title = flat(front.text("title") or front.text("name")) or re.sub(r"^Task:\s*", "", file.doc.title())
    title = title or f"Task {name}"
    done, hold, gone = _state(file, name, front.text("status"), reading)
    front.pass_over(*_ASIDE, "name", "id", "epic", "estimated_hours", "effort")
    parallel = front.get("parallel")
    if parallel is not None and isinstance(parallel.value, bool):
        parallel.read = True  # a hint: what may run side by side follows from the dependencies
    if gone:
        front.plain()
        return
    own = fields_of(file.doc.sections, name)
    reading.notes += (Note(note.line, note.text, note.kind, file.path) for note in own.notes)
    needs = [_task_name(need, names) for need in front.words("depends_on", "dependencies")]
    fields: dict[str, object] = {"needs": needs, "accept": own.values.get("accept"), "files": own.values.get("files")}
    _priority(file, name, fields, reading)
    fields["size"] = size_of(front.text("size")) or own.values.get("size")
    # Two tasks that conflict must not run at the same time: they share a separate resource.
    fields["resources"] = [
        "+".join(sorted((name, _task_name(other, names)))) for other in front.words("conflicts_with")
    ]
    link = re.search(r"/issues/(\d+)$", front.text("github"))
    if link:
        fields["number"] = int(link[1])
    text = file.body or f"# {title}"
    reading.issues.append(DraftIssue(name, title, text, 1, {k: v for k, v in fields.items() if v}, done, hold))


def _task_name(word: str, names: set[str]) -> str:
    """Return a dependency as the name of a file: ``1`` and ``001`` are equal."""
    bare = word.strip().lstrip("#").removesuffix(".md")
    if bare in names:
        return bare
    return next((name for name in names if name.lstrip("0") == bare.lstrip("0")), bare)


class SpecKitty:
    """``kitty-specs/NAME/tasks/WP01-*.md``: one issue per work package."""

    name = "speckitty"
    guide = GUIDES["speckitty"]

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        return 84 if any(re.search(r"(?:^|/)WP\d+[^/]*\.md$", path) for path in source.files) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a mission."""
        reading = Reading(source)
        folder = _read(
            source, reading, r"(?:^|/)WP\d+[^/]*\.md$", needs=("work_package_id", "title", "lane", "subtasks")
        )
        for file in folder.files:
            _package(file, reading)
        parts = [part for part in source.name.rstrip("/").split("/") if part not in {"tasks", "", "."}]
        wanted = slug(parts[-1] if parts else "", 60)
        return _finish(folder, "work packages", wanted, (parts[-1] if parts else "").replace("-", " "), {}, whole=False)


def _package(file: _File, reading: Reading) -> None:
    front = file.front
    named = re.search(r"WP\d+", file.path)
    name = front.text("work_package_id") or (named[0] if named else "")
    title = flat(front.text("title")) or re.sub(r"^.*?WP\d+\s*[:–—-]\s*", "", file.doc.title()) or name
    status = front.text("lane") or front.text("status")
    done, hold, gone = _state(
        file,
        name,
        status.replace("for_review", "in review").replace("doing", "in progress").replace("planned", ""),
        reading,
    )
    if gone:
        front.plain()
        return
    front.pass_over(*_ASIDE, "agent", "requirement_refs", "priority")
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
    reading.issues.append(DraftIssue(name, title, text, 1, {k: v for k, v in fields.items() if v}, done, hold))
