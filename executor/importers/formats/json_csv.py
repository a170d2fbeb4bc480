"""JSON and CSV: our own exports, foreign records by their keys and columns, workspaces of EvoClaw. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from executor.errors import Fault
from executor.importers.draft import Draft, DraftIssue, milestone_id, refused, slug
from executor.importers.importer import guide_of
from executor.importers.reading.markdown import document, flat, plain
from executor.importers.reading.places import Node, PlaceError, table_rows
from executor.model.hints import found as found_text
from executor.model.hints import quoted
from executor.model.milestone import default_branch
from executor.report.exports import OWN_COLUMNS, OWN_FORMAT, cell_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from executor.importers.source import Source

from executor.importers.reading.records import NAMES, Reading, draft_of, issue_of, take_record, tree_of

__all__ = ["Csv", "EvoClaw", "Json", "own_head", "with_head"]

_HEAD = ("goal", "base", "branch", "needs", "context", "tag", "forge_milestone", "accept", "checks")


class Json:
    """A list of issues with the usual keys, or an export of `doit export --format json`."""

    name = "json"
    guide = guide_of("json")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        return 40 if not source.files and source.stem.endswith(".json") else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a JSON file."""
        root = tree_of(source)
        if isinstance(root, Draft):
            return root
        name = root.text("format")
        if name == OWN_FORMAT:
            return _own(source, root)
        if name.startswith(OWN_FORMAT.rpartition("/")[0] + "/"):
            fault = f"expected the format {OWN_FORMAT}, found {name}; export it again with this version"
            return refused(source.name, fault, root.line)
        reading = Reading(source)
        head = root.get("milestone") or root
        rows = _rows(root)
        if rows is None:
            fault = f"expected a list of issues, found {found_text(root.plain())}; `doit import --formats` shows the formats"
            return refused(source.name, fault, root.line)
        rows.read = True
        fields, title, wanted = _head(head if head.keys is not None else Node(None, 1, "", keys={}), reading)
        for row in rows.items or ():
            if row.keys is None:
                reading.notes.add(
                    row.line, f"expected an issue, found {_shown(row)}; it was left out", "entries that are not issues"
                )
                continue
            record = take_record(row)
            issue_of(record, reading)
        reading.notes += root.notes()
        return draft_of(reading, wanted or milestone_id(title, source.stem), title, fields)


def _shown(row: Node) -> str:
    return quoted(flat(row.shown()))


def _rows(root: Node) -> Node | None:
    if root.items is not None:
        return root
    for name in ("issues", "tasks", "items", "stories", "todos", "workItems"):
        node = root.get(name)
        if node is not None and node.items is not None:
            return node
    return None


def _head(head: Node, reading: Reading) -> tuple[dict[str, object], str, str]:
    """The fields of the milestone, its title and its id."""
    fields: dict[str, object] = {}
    for key in _HEAD:
        node = head.get(key)
        if node is None or node.empty():
            continue
        value = node.plain()
        if key in {"needs", "context", "accept", "checks"}:
            value = [value] if isinstance(value, str | dict) else value
        if isinstance(value, str | list) and (key not in {"goal", "base", "branch", "tag"} or isinstance(value, str)):
            fields[key] = value
        else:
            reading.notes.add(node.line, f"not imported: {key}: {found_text(value)}")
    title = head.text("title", "name")
    wanted = head.text("id")
    if "goal" not in fields and head.has("description"):
        fields["goal"] = flat(head.text("description"))
    return fields, title, wanted


class Csv:
    """One issue per row, columns by name: our export, Jira, Linear, or any table with an id and a title."""

    name = "csv"
    guide = guide_of("csv")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        return 60 if not source.files and source.stem.endswith((".csv", ".tsv")) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a table."""
        try:
            header, rows, _ = table_rows(source.text.lstrip("\ufeff"))
        except PlaceError as error:
            return refused(source.name, str(error), error.line)
        names = [name.casefold() for name in header]
        names = _with_id(names, rows)
        missing = [key for key in ("id", "title") if not set(names) & set(NAMES[key])]
        if missing:
            faults = [
                Fault(source.name, "line 1", f"expected a column {key}; columns: {', '.join(names)}") for key in missing
            ]
            return Draft("", "", faults=tuple(faults))
        reading = Reading(source)
        own = {"reason", "commit", "description"} <= set(names) and names[: len(OWN_COLUMNS)] == list(OWN_COLUMNS)
        for line, row in rows:
            if len(row) > len(header):
                more = ", ".join(quoted(cell) for cell in row[len(header) :] if cell.strip())
                if more:
                    reading.notes.add(line, f"cells after the last column: {more}", "cells after the last column")
            node = _row_node(names, row, line)
            if own:
                _own_row(node, reading)
            else:
                issue_of(take_record(node), reading)
            if node.text("id", "key", "issue key") not in reading.gone:
                reading.notes += node.notes()
        projects = {str(issue.fields["phase"]) for issue in reading.issues if issue.fields.get("phase")}
        project = _one(names, rows, "project")
        wanted = (
            milestone_id(source.stem, *sorted(projects)[:1]) or slug(project) or slug(source.stem.rpartition(".")[0])
        )
        found = draft_of(reading, wanted, project, {}, whole=False)
        return with_head(found, own_head(_decoded("", _one(names, rows, "milestone")))) if own else found


def _with_id(names: list[str], rows: Sequence[tuple[int, list[str]]]) -> list[str]:
    """Return the names of the columns; without an id column, the addresses of the issues provide the ids."""
    if set(names) & set(NAMES["id"]) or "url" not in names:
        return names
    place = names.index("url")
    for _, row in rows:
        found = re.search(r"/(?:issues|pull)/(\d+)$", row[place].strip()) if len(row) > place else None
        if found is None:
            return names
        row[place] = found[1]
    return ["id" if name == "url" else name for name in names]


def _one(names: Sequence[str], rows: Iterable[tuple[int, list[str]]], column: str) -> str:
    """Return the value of a column if it is equal in all rows."""
    if column not in names:
        return ""
    place = names.index(column)
    values = {row[place].strip() for _, row in rows if len(row) > place and row[place].strip()}
    return next(iter(values)) if len(values) == 1 else ""


def _row_node(names: Sequence[str], row: Sequence[str], line: int) -> Node:
    """Return a row as a record; several columns of one name are combined."""
    keys: dict[str, Node] = {}
    for name, written in zip(names, row, strict=False):
        cell = cell_text(written)
        if not cell.strip() or not name:
            continue
        text = f"{keys[name].value}, {cell}" if name in keys else cell
        keys[name] = Node(text, line, name)
    return Node(None, line, "", keys=keys)


def _own_row(node: Node, reading: Reading) -> None:
    """Read a row of our export, value for value; lists that a line cannot represent are JSON."""
    node.pass_over("status", "reason", "commit", "milestone")
    fields: dict[str, object] = {}
    for name, cell in (node.keys or {}).items():
        if name in {"id", "title", "description", "status", "reason", "commit", "milestone"}:
            continue
        text = cell.word()
        fields[name] = _decoded(name, text)
    fields.pop("", None)
    name = node.text("id")
    text = node.text("description").rstrip("\n") or f"# {node.text('title')}"
    reading.issues.append(DraftIssue(name, node.text("title"), text, node.line, fields))


def with_head(found: Draft, head: Draft) -> Draft:
    """Return a milestone with the declaration in its export; without one, unchanged."""
    if not head.id:
        return found
    # The planning issue follows from the workflow of the milestone; it is not declared.
    planned = bool(head.fields.get("workflow"))
    issues = tuple(item for item in found.issues if not (planned and item.fields.get("type") == "planning"))
    return replace(head, issues=issues, notes=found.notes, faults=found.faults, whole=found.whole)


def _decoded(name: str, text: str) -> Any:
    if text.startswith(("[", "{", '"[', '"{')):
        try:
            return json.loads(text)
        except ValueError:
            pass
    if name in {"needs", "files", "resources", "allow", "was"}:
        return text.split()
    if name == "accept":
        return text.split("\n")
    if name == "number":
        return int(text) if text.isdecimal() else text
    return text


def _own(source: Source, root: Node) -> Draft:
    """Read our own export unchanged; the declaration's reader validates the values.

    A branch that follows from id and title is omitted: with another id it would be that of another milestone.
    """
    value = root.plain()
    faults = _misplaced(source, root, value)
    if faults:
        return Draft("", "", faults=tuple(faults))
    left = {"text", "status", "reason", "commit", "id", "title"}
    issues = [
        DraftIssue(
            str(row.get("id", "")),
            str(row.get("title", "")),
            str(row.get("text", "")),
            0,
            {key: item for key, item in row.items() if key not in left and item is not None},
        )
        for row in value.get("issues") or []
    ]
    return with_head(Draft("", "", issues=tuple(issues)), own_head(value))


def _misplaced(source: Source, root: Node, value: Mapping[str, Any]) -> list[Fault]:
    """Return the parts of our own export that should be tables or lists of tables and are not."""
    faults = []
    for key, kind in (("milestone", dict), ("issues", list), ("phases", list)):
        item = value.get(key) or kind()
        if not isinstance(item, kind):
            node = root.get(key)
            word = "table" if kind is dict else "list"
            text = f"{key}: expected a {word}, found {found_text(item)}"
            faults.append(Fault(source.name, f"line {node.line if node else 1}", text))
    if faults:
        return faults
    rows = [place for key in ("issues", "phases") for place in root.rows(key) if place.keys is None]
    return [
        Fault(source.name, f"line {row.line}", f"{row.path}: expected a table, found {found_text(row.plain())}")
        for row in rows
    ]


def own_head(value: object) -> Draft:
    """Return the milestone that our own export declares, without its issues; empty if it declares none."""
    table = value if isinstance(value, dict) else {}
    head = dict(table.get("milestone") or {}) if isinstance(table.get("milestone"), dict) else {}
    if head.get("branch") == default_branch(str(head.get("id", "")), str(head.get("title", ""))):
        del head["branch"]
    phases = [item for item in table.get("phases") or [] if isinstance(item, dict)]
    listed = tuple((str(item.get("name", "")), str(item.get("goal") or "")) for item in phases)
    fields = {
        key: item for key, item in head.items() if key not in {"id", "title", "status", "epic"} and item is not None
    }
    title = plain(str(head.get("title", ""))) if not isinstance(head.get("title"), str) else head["title"]
    return Draft(str(head.get("id", "")), title, fields, listed, epic=str(table.get("epic") or ""))


_EDGE = frozenset({"source_id", "target_id", "source_title", "target_title"})


class EvoClaw:
    """A workspace of the EvoClaw benchmark: ``milestones.csv``, ``dependencies.csv``, ``srs/ID/SRS.md``."""

    name = "evoclaw"
    guide = guide_of("evoclaw")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        return 95 if {"milestones.csv", "dependencies.csv"} <= set(source.files) else 0

    def read(self, source: Source) -> Draft:
        """Return the milestone of a workspace, whose milestones become issues."""
        reading = Reading(source)
        rows = _table(source, "milestones.csv", reading)
        chosen = _ids(source, "selected_milestone_ids.txt")
        ungraded = _ids(source, "non-graded_milestone_ids.txt")
        needs = _edges(source, reading, {row.get("id", "").strip() for _, row in rows})
        if ungraded:
            reading.notes.add(
                0, f"milestones that are not graded are imported like the others: {', '.join(sorted(ungraded))}"
            )
        for line, row in rows:
            name = row.get("id", "").strip()
            if chosen and name not in chosen:
                reading.gone[name] = "not selected"
                text = f"{name} is not in selected_milestone_ids.txt and was left out"
                reading.notes.add(line, text, "unselected milestones, left out", "milestones.csv")
                continue
            _work(name, row, line, [need for need in needs.get(name, ()) if need], source, reading)
        return draft_of(reading, slug(source.folder, 60), "", {})


def _ids(source: Source, name: str) -> set[str]:
    return {line.strip() for line in (source.beside(name) or "").split("\n") if line.strip()}


def _edges(source: Source, reading: Reading, known: set[str]) -> dict[str, list[str]]:
    """Return the needs of each milestone; keys that mean nothing here and unknown milestones are noted."""
    weak = 0
    needs: dict[str, list[str]] = {}
    for name in ("dependencies.csv", "additional_dependencies.csv"):
        for _, row in _table(source, name, reading) if name in source.files else ():
            weak += "weak" in " ".join(row.values()).casefold()
            more = {key: value for key, value in row.items() if key not in _EDGE and value.strip()}
            if more:
                said = ", ".join(f"{key}: {value}" for key, value in more.items())
                reading.notes.add(0, f"not imported: {said}", f"not imported: {', '.join(more)}", name)
            needs.setdefault(row.get("target_id", ""), []).append(row.get("source_id", ""))
    if weak:
        reading.notes.add(0, f"{weak} weak dependencies were imported like strong ones", file="dependencies.csv")
    strange = sorted({name for target, sources in needs.items() for name in (target, *sources) if name not in known})
    if strange:
        text = f"dependencies of milestones that are not in milestones.csv were left out: {', '.join(strange)}"
        reading.notes.add(0, text, file="dependencies.csv")
    return {target: [name for name in sources if name in known] for target, sources in needs.items()}


def _table(source: Source, name: str, reading: Reading) -> list[tuple[int, dict[str, str]]]:
    try:
        header, rows, _ = table_rows(source.beside(name) or "")
    except PlaceError as error:
        reading.faults.append(Fault(f"{source.name}/{name}", f"line {error.line}", str(error)))
        return []
    return [(line, dict(zip([column.casefold() for column in header], row, strict=False))) for line, row in rows]


def _work(name: str, row: Mapping[str, str], line: int, needs: list[str], source: Source, reading: Reading) -> None:
    text = source.beside(f"srs/{name}/SRS.md")
    title = flat(row.get("title") or row.get("name") or "")
    if text is None:
        reading.notes.add(
            line, f"{name}: srs/{name}/SRS.md was not found; write its spec", "specs that were not found; write them"
        )
        text = "\n".join(f"- {key}: {value}" for key, value in row.items() if value.strip())
    title = title or document(text).title() or name.replace("_", " ")
    fields: dict[str, object] = {"needs": needs} if needs else {}
    more = {key: value for key, value in row.items() if key not in {"id", "title", "name"} and value.strip()}
    if more:
        said = ", ".join(f"{key}: {value}" for key, value in more.items())
        reading.notes.add(line, f"not imported: {said}", f"not imported: {', '.join(more)}", "milestones.csv")
    tests = [path for path in source.files if path.startswith(f"test_results/{name}/")]
    if tests:
        remark = f"{name}: its lists of tests ({', '.join(tests)}) were not imported; declare the command that runs them as acceptance"
        reading.notes.add(line, remark, "lists of tests that were not imported", "milestones.csv")
    reading.issues.append(DraftIssue(name, title, text.strip("\n"), line, fields))
