"""Issues as records of JSON and CSV, with keys and columns read by name; unknown names are reported. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.errors import Fault
from executor.importers.draft import Draft, DraftIssue, Note, Notes, listed, refused, slug
from executor.importers.reading.fields import files_in
from executor.importers.reading.markdown import document, flat
from executor.importers.reading.places import Node, PlaceError, json_node
from executor.importers.reading.words import status_notes, status_of, word_of
from executor.model.hints import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from executor.importers.source import Source

__all__ = [
    "NAMES",
    "Reading",
    "Record",
    "accept_of",
    "draft_of",
    "issue_of",
    "json_of",
    "needs_of",
    "take_record",
    "tree_of",
]

_NAMES = {
    "id": "id|key|issue key|identifier|issue id|task id|#|work item key|work item id",
    "title": "title|summary|name|content",
    "text": "description|body|text|spec",
    "type": "type|issue type|issue_type|kind|work item type",
    "priority": "priority",
    "needs": (
        "needs|dependencies|depends on|depends_on|dependson|blocked by|blocked_by|blockedby|"
        "inward issue link (blocks)|inward work item link (blocks)"
    ),
    "files": "files|file|owned_files",
    "accept": (
        "accept|acceptance|acceptance criteria|acceptancecriteria|acceptance_criteria|success_criteria|"
        "custom field (acceptance criteria)"
    ),
    "size": "size|est. size|estimate",
    "number": "number|github issue",
    "phase": "phase|epic|stage|project milestone",
    "agent": "agent|assigned_agent|assigned agent",
    "status": "status|state|passes|done|completed",
}
NAMES = {meaning: tuple(keys.split("|")) for meaning, keys in _NAMES.items()}
"""Meaning -> the possible keys. Of several existing ones the first counts; the others are texts that are added to the
spec, or are reported."""
_MORE_TEXT = ("details", "design", "notes", "teststrategy", "test_strategy", "implementation", "rationale", "overview")
_TITLES = {"teststrategy": "Test strategy", "test_strategy": "Test strategy"}
_TRUSTED = ("workflow", "checks", "resources", "allow", "with", "token", "slug", "was")
_NONE = frozenset({"", "none", "-", "--", "n/a", "null", "[]"})


@dataclass(slots=True)
class Record:
    """An issue in its source form: its values by meaning, and the texts of its spec."""

    line: int
    values: dict[str, object] = field(default_factory=dict)
    texts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Reading:
    """The state of a reading: notes, faults, the issues so far, omitted issues with the reason, all ids."""

    source: Source
    notes: Notes = field(default_factory=Notes)
    faults: list[Fault] = field(default_factory=list)
    issues: list[DraftIssue] = field(default_factory=list)
    gone: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def fault(self, line: int, text: str) -> None:
        """Add a fault of a line; 0 if it is unknown."""
        self.faults.append(Fault(self.source.name, f"line {line}" if line else "", text))

    def named(self, row: Node, what: str, *titles: str) -> tuple[str, str] | None:
        """Return id and title of a record; None, with a fault, if it lacks one of them."""
        name, title = row.text("id"), flat(row.text(*titles))
        if name and title:
            return name, title
        self.fault(row.line, f'expected {what} with id and title, found id "{name}", title "{title}"')
        return None

    def standing(self, name: str, status: str, line: int, file: str = "") -> tuple[bool, str] | None:
        """Return whether an issue is done, and why it waits for a person; None if it is cancelled and so left out."""
        word = status.replace("_", " ")
        state = status_of(word)
        if state == "cancelled":
            self.cancel(name, status, line, file)
            return None
        self.notes += status_notes(name, word, line, file)
        return state == "done", status if state == "stopped" else ""

    def cancel(self, name: str, status: str, line: int, file: str = "") -> None:
        """Leave out a cancelled issue."""
        self.gone[name] = status
        text = f'{name}: is "{status}" in the source and was left out'
        self.notes.add(line, text, "cancelled issues, left out", file)

    def leave_out(self, row: Node, name: str, keys: Iterable[str], line: int = 0) -> None:
        """Note the values of keys that a declaration has no place for."""
        for key in keys:
            node = row.get(key)
            if node is not None and not node.empty():
                text = f"{name}: {key}: {node.shown()} was not imported"
                self.notes.add(line, text, f"{key} that were not imported")

    def add(
        self,
        name: str,
        title: str,
        text: str,
        line: int,
        fields: Mapping[str, object],
        standing: tuple[bool, str] = (False, ""),
    ) -> None:
        """Add an issue; keys with empty values are omitted."""
        given = {key: value for key, value in fields.items() if value}
        self.issues.append(DraftIssue(name, title, text, line, given, *standing))


def tree_of(source: Source, parse: Callable[[str], Node] = json_node) -> Node | Draft:
    """Return the values of a source, or the draft that refuses it."""
    try:
        return parse(source.text)
    except PlaceError as error:
        return refused(source.name, str(error), error.line)


def json_of(source: Source) -> Node | None:
    """Return a JSON file as a tree; None if it is none."""
    if source.files or not source.stem.endswith(".json"):
        return None
    found = tree_of(source)
    return None if isinstance(found, Draft) else found


def take_record(row: Node) -> Record:
    """Return the values of a record by meaning; keys that no importer knows stay unread."""
    record = Record(row.line)
    keys = {name.casefold(): name for name in row.keys or {}}
    for meaning, names in NAMES.items():
        there = [keys[name] for name in names if name in keys and row.keys and not row.keys[keys[name]].empty()]
        if there:
            record.values[meaning] = _value(row.keys[there[0]], meaning) if row.keys else None
        if meaning == "text":
            record.texts += ((name, row.text(name)) for name in there[1:])
    for name in _MORE_TEXT:
        if name in keys and row.keys and row.keys[keys[name]].keys is None:
            node = row.keys[keys[name]]
            text = node.word() if node.items is None else "\n".join(f"- {item.shown()}" for item in node.items)
            if node.items is not None:
                node.plain()
            if text.strip():
                record.texts.append((_TITLES.get(name, keys[name].capitalize()), text))
    for name in _TRUSTED:
        if name in keys and row.keys:
            record.values[name] = row.keys[keys[name]].plain()
    return record


def _value(node: Node, meaning: str) -> Any:
    if meaning in {"needs", "files", "accept"}:
        if node.items is not None:
            node.read = True
            return [item.plain() if item.keys is not None else item.word() for item in node.items if not item.empty()]
        return node.plain() if node.keys is not None else node.word()
    return node.word() if node.keys is None and node.items is None else node.plain()


def issue_of(record: Record, reading: Reading) -> None:
    """Convert a record to an issue, or report why it is none."""
    values = record.values
    name = _id_of(values.get("id"))
    title = flat(str(values.get("title") or ""))
    if not name or not title:
        said = f"id {quoted(name)}, title {quoted(title)}"
        reading.fault(record.line, f"expected an issue with id and title, found {said}")
        return
    status = str(values.get("status") or "")
    state = "done" if status == "true" else "" if status == "false" else status_of(status)
    if state == "cancelled":
        reading.cancel(name, status, record.line)
        return
    hold = status if state == "stopped" else ""
    if status not in {"true", "false"}:
        reading.notes += status_notes(name, status, record.line)
    fields = _fields(name, record, reading.notes)
    reading.issues.append(
        DraftIssue(name, title, _text(title, record), record.line, fields, done=state == "done", hold=hold)
    )


def _id_of(value: Any) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value).strip().lstrip("#").strip()


def _text(title: str, record: Record) -> str:
    main = str(record.values.get("text") or "").replace("\r\n", "\n").strip("\n")
    more = [f"## {name[:1].upper()}{name[1:]}\n\n{text.strip(chr(10))}" for name, text in record.texts]
    return "\n\n".join([main, *more] if main else [f"# {title}", *more])


def _fields(name: str, record: Record, notes: Notes) -> dict[str, object]:
    values, line = record.values, record.line
    found: dict[str, object] = {}
    for key in ("priority", "size", "type"):
        word = values.get(key)
        if word is not None and str(word).strip().casefold() not in {*_NONE, "no priority"}:
            found[key] = word_of(key, str(word), f"{name}: ", notes, line)
    found["needs"] = needs_of(values.get("needs"))
    notes += (
        Note(line, f"{name}: keys of a need were left out: {need}", "keys of needs, left out")
        for need in listed(values, "needs")
        if isinstance(need, dict) and need.keys() - {"id", "key"}
    )
    found["files"] = _files(name, values.get("files"), line, notes)
    found["accept"] = accept_of(values.get("accept"), values.get("text"))
    number = str(values.get("number") or "").lstrip("#")
    if number.isdecimal() and int(number):
        found["number"] = int(number)
    for key in ("phase", "agent"):
        if isinstance(values.get(key), str) and str(values[key]).strip():
            found[key] = flat(str(values[key]))
    found |= {key: values[key] for key in _TRUSTED if key in values}
    return {key: value for key, value in found.items() if value or key == "checks"}


def needs_of(value: Any) -> list[str]:
    """Return the ids in a list, or in a text with commas, semicolons or spaces between them."""
    names = value if isinstance(value, list) else re.split(r"[\s,;]+", str(value or ""))
    texts = [str(name.get("id") or name.get("key") or "") if isinstance(name, dict) else str(name) for name in names]
    return list(
        dict.fromkeys(text.strip().lstrip("#") for text in texts if text.strip().lstrip("#").casefold() not in _NONE)
    )


def _files(name: str, value: Any, line: int, notes: Notes) -> list[str]:
    if isinstance(value, list):
        return [str(part) for part in value if str(part).strip()]
    paths, odd = files_in(re.split(r"[\n;]+", str(value or "")))
    if odd:
        notes.add(line, f"{name}: not imported as files: {', '.join(odd)}", "not imported as files")
    return paths


def accept_of(value: Any, body: Any = None) -> list[Any]:
    """Return acceptance criteria: items of a list unchanged, lines or sentences of a text; else those of the body."""
    if isinstance(value, list):
        return [
            _criterion(part) if isinstance(part, dict) else _claim(str(part)) for part in value if str(part).strip()
        ]
    text = str(value or "").strip()
    if not text and isinstance(body, str):
        from executor.importers.reading.fields import fields_of

        return listed(fields_of(document(body).sections).values, "accept")
    parts = text.split("\n")
    if len(parts) == 1:
        # A semicolon separates criteria only if each of them starts like one.
        parts = re.split(r";\s*(?=[A-Z`\[*-])|;\s*$", text)
    return [claim for part in parts if (claim := _claim(part))]


_PROOFS = frozenset({"run", "file", "name", "contains", "must_fail_before", "timeout", "network"})
_STATES = frozenset({"id", "passes", "status", "done", "completed", "checked"})
_SENTENCES = ("text", "description", "criterion", "criteria", "title", "name", "requirement")


def _criterion(part: Mapping[str, Any]) -> Any:
    """Return a criterion that is a table: ours (``run``, ``file``) unchanged, any other as a sentence of its values."""
    if part.keys() & {"run", "file"} and part.keys() <= _PROOFS:
        return {key: item for key, item in part.items() if item is not None}
    main = next((key for key in _SENTENCES if isinstance(part.get(key), str) and part[key].strip()), "")
    more = [
        f"{key}: {item}" for key, item in part.items() if key != main and key not in _STATES and item not in (None, "")
    ]
    return _claim("; ".join([str(part[main]), *more] if main else more or [str(dict(part))]))


def _claim(text: str) -> str:
    return flat(re.sub(r"^\s*(?:[-*+]\s+|\d+[.)]\s+)?(?:\[[ xX]\]\s*)?", "", text))


def draft_of(
    reading: Reading, wanted: str, title: str, fields: Mapping[str, Any], *, whole: bool = True, epic: str = ""
) -> Draft:
    """Return the milestone of a reading; needs of omitted issues are omitted with them."""
    issues = [_without(issue, reading) for issue in reading.issues]
    phases = dict.fromkeys(str(issue.fields["phase"]) for issue in issues if issue.fields.get("phase"))
    return Draft(
        _usable(wanted),
        title,
        dict(fields),
        tuple((name, "") for name in phases),
        tuple(issues),
        epic=epic,
        notes=tuple(reading.notes),
        faults=tuple(reading.faults),
        whole=whole,
    )


def _usable(wanted: str) -> str:
    return wanted if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", wanted) else slug(wanted)


def _without(issue: DraftIssue, reading: Reading) -> DraftIssue:
    needs = listed(issue.fields, "needs")
    gone = [need for need in needs if need in reading.gone]
    if not gone:
        return issue
    text = f"{issue.id} does not wait for {', '.join(gone)}, which {'is' if len(gone) == 1 else 'are'} left out"
    reading.notes.add(issue.line, text, "needs of issues that are left out")
    kept = [need for need in needs if need not in reading.gone]
    fields = {key: value for key, value in issue.fields.items() if key != "needs"} | ({"needs": kept} if kept else {})
    return DraftIssue(issue.id, issue.title, issue.text, issue.line, fields, issue.done, issue.hold, issue.outside)
