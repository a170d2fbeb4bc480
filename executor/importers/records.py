"""Issues as records: GitHub's JSON, plain JSON, CSV. Columns and keys are read by name. Pure."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any

from executor.errors import Fault
from executor.importers.draft import Draft, DraftIssue, Note, Source, milestone_id
from executor.importers.markdown import fields_of, ids_in, plain, sections
from executor.model.hints import found, quoted
from executor.model.milestone import default_branch
from executor.report.tracking import OWN_FORMAT, cell_text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_csv", "read_github", "read_json", "seems_github"]

_NAMES = {
    "id": ("id", "key", "issue key", "issue id", "#", "identifier"),
    "title": ("title", "summary", "name"),
    "text": ("description", "body", "text", "spec", "details"),
    "type": ("type", "issue type", "kind"),
    "priority": ("priority",),
    "needs": ("needs", "dependencies", "depends on", "depends_on", "blocked by", "inward issue link (blocks)"),
    "files": ("files", "file"),
    "accept": ("accept", "acceptance", "acceptance criteria", "acceptancecriteria"),
    "size": ("size", "estimate", "est. size"),
    "number": ("number", "github issue"),
    "phase": ("phase", "epic", "stage"),
    "agent": ("agent",),
}
_LABEL_TYPES = {"bug": "fix", "documentation": "docs", "enhancement": "feature"}
_PREFIXED = re.compile(r"^(type|kind|priority|size)\s*[:/]\s*(.+)$", re.IGNORECASE)
_BLOCKED = re.compile(r"(?:depends on|blocked by)\s*:?\s*((?:#\d+[\s,]*(?:and\s+)?)+)", re.IGNORECASE)
_EXACT = ("type", "priority", "needs", "files", "accept", "size", "number", "phase", "agent", "workflow", "checks")
_EXACT_MORE = ("resources", "allow", "with")
_HEAD = ("goal", "base", "branch", "needs", "context", "tag", "forge_milestone", "accept", "checks")


def seems_github(value: object) -> bool:
    """Whether a JSON value is a list of issues as GitHub gives them."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and "number" in first and not first.keys().isdisjoint({"state", "labels", "body"})


def read_github(source: Source) -> Draft:
    """Issues as `gh issue list --json number,title,body,labels,milestone,state` or GitHub itself gives them."""
    value, faults = _parsed(source)
    items = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    notes: list[Note] = []
    issues: list[DraftIssue] = []
    closed = {str(item.get("number")) for item in items if str(item.get("state", "")).casefold() == "closed"}
    no_issues = {str(item.get("number")) for item in items if "pull_request" in item}
    for item in items:
        number, title = item.get("number"), item.get("title")
        if "pull_request" in item:
            continue
        if not isinstance(number, int) or isinstance(number, bool) or not isinstance(title, str) or not title.strip():
            faults.append(Fault(source.name, "", f"expected an issue with number and title, found {found(number)}"))
        elif str(number) in closed:
            notes.append(Note(0, f"#{number} is closed there and was left out"))
        else:
            issues.append(_github_issue(item, closed | no_issues))
    group: dict[str, Any] = next((item["milestone"] for item in items if isinstance(item.get("milestone"), dict)), {})
    title = str(group.get("title") or "")
    fields = {"forge_milestone": title} if title else {}
    if group.get("description"):
        fields["goal"] = " ".join(str(group["description"]).split())
    bare = re.sub(r"^M\d[\w.]*\s*[:–—-]+\s*", "", title)
    return Draft(
        milestone_id(title, source.name), bare, fields, (), tuple(issues), notes=tuple(notes), faults=tuple(faults)
    )


def read_json(source: Source) -> Draft:
    """A list of issues with the usual keys, or what `doit export --format json` wrote."""
    value, faults = _parsed(source)
    if isinstance(value, dict) and value.get("format") == OWN_FORMAT:
        return _own(value)
    head: Mapping[str, Any] = {}
    if isinstance(value, dict):
        head = value.get("milestone") if isinstance(value.get("milestone"), dict) else value  # type: ignore[assignment]
        value = value.get("issues", value.get("tasks"))
    rows = value if isinstance(value, list) else []
    if not isinstance(value, list) and not faults:
        faults.append(Fault(source.name, "", f"expected a list of issues, found {found(value)}"))
    records = [({str(key).casefold(): item for key, item in row.items()}, 0) for row in rows if isinstance(row, dict)]
    title = str(head.get("title") or "")
    wanted = str(head.get("id") or "") or milestone_id(title, source.name)
    fields = {key: head[key] for key in ("goal", "branch") if isinstance(head.get(key), str)}
    return _from_records(source, wanted, title, fields, records, faults)


def read_csv(source: Source) -> Draft:
    """One issue a row; several columns of one name are taken together."""
    rows = list(csv.reader(io.StringIO(source.text.lstrip("\ufeff"), newline="")))
    faults: list[Fault] = []
    header = [name.strip().casefold() for name in rows[0]] if rows else []
    faults += (
        Fault(source.name, "line 1", f"expected a column {key}; columns: {', '.join(header)}")
        for key in ("id", "title")
        if not set(header) & set(_NAMES[key])
    )
    records: list[tuple[dict[str, Any], int]] = []
    reader = csv.reader(io.StringIO(source.text.lstrip("\ufeff"), newline=""))
    for row in reader:
        if reader.line_num == 1 or not any(cell.strip() for cell in row) or row == rows[0]:
            continue
        cells: dict[str, Any] = {}
        for name, cell in zip(header, map(cell_text, row), strict=False):
            if cell.strip():
                cells[name] = f"{cells[name]}, {cell}" if name in cells else cell
        records.append((cells, reader.line_num))
    return _from_records(
        source, milestone_id(source.name.rsplit("/", 1)[-1]), "", {}, records if not faults else [], faults
    )


def _from_records(
    source: Source,
    wanted: str,
    title: str,
    fields: dict[str, Any],
    records: list[tuple[dict[str, Any], int]],
    faults: list[Fault],
) -> Draft:
    notes: list[Note] = []
    issues = []
    phases: dict[str, str] = {}
    used = {name for names in _NAMES.values() for name in names} | {"status", "state"}
    for cells, line in records:
        name, text = str(_cell(cells, "id") or "").lstrip("#").strip(), _cell(cells, "title")
        place = f"line {line}" if line else ""
        if not name or not isinstance(text, str) or not text.strip():
            faults.append(Fault(source.name, place, f"expected an issue with id and title, found {quoted(str(name))}"))
            continue
        values = _record_fields(cells, line, notes)
        if "phase" in values:
            phases.setdefault(values["phase"], "")
        spec = str(_cell(cells, "text") or "").strip("\n") or f"# {text}"
        issues.append(DraftIssue(name, " ".join(text.split()), spec, line, values))
    unknown = sorted({key for cells, _ in records for key in cells} - used)
    if unknown:
        notes.append(Note(0, f"not taken over: {', '.join(unknown)}"))
    return Draft(wanted, title, fields, tuple(phases.items()), tuple(issues), notes=tuple(notes), faults=tuple(faults))


def _record_fields(cells: dict[str, Any], line: int, notes: list[Note]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, allowed in (("priority", ("P0", "P1", "P2", "P3")), ("size", ("S", "M", "L"))):
        word = str(_cell(cells, key) or "").strip().upper()
        if word in allowed:
            values[key] = word
        elif word:
            notes.append(Note(line, f'{key} "{word}" is none of {", ".join(allowed)} and was left out'))
    kind = re.sub(r"[^a-z0-9_-]+", "-", str(_cell(cells, "type") or "").casefold()).strip("-")
    if re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", kind):
        values["type"] = kind
    needs = _cell(cells, "needs")
    names = [str(item) for item in needs] if isinstance(needs, list) else re.split(r"[\s,;]+", str(needs or ""))
    values["needs"] = [name.lstrip("#") for name in names if name.lstrip("#").casefold() not in {"", "none", "-", "--"}]
    for key in ("files", "accept"):
        value = _cell(cells, key)
        parts = (
            value if isinstance(value, list) else re.split(r"\n|;" if key == "accept" else r"[\s,;]+", str(value or ""))
        )
        values[key] = [plain(str(part)).removeprefix("- ").strip() for part in parts if str(part).strip()]
    number = str(_cell(cells, "number") or "").lstrip("#")
    if number.isdecimal():
        values["number"] = int(number)
    for key in ("phase", "agent"):
        if isinstance(_cell(cells, key), str):
            values[key] = str(_cell(cells, key)).strip()
    return {key: value for key, value in values.items() if value}


def _cell(cells: Mapping[str, Any], key: str) -> Any:
    return next((cells[name] for name in _NAMES[key] if name in cells), None)


def _github_issue(item: Mapping[str, Any], closed: set[str]) -> DraftIssue:
    body = str(item.get("body") or "").replace("\r\n", "\n")
    own, _ = fields_of(sections(body))
    values: dict[str, Any] = {"number": item["number"]}
    values |= {key: own[key] for key in ("files", "accept", "type", "priority", "size") if key in own}
    for label in item.get("labels") or ():
        _label(str(label.get("name") if isinstance(label, dict) else label), values)
    needs = [name for text in _BLOCKED.findall(body) for name in re.findall(r"\d+", text)]
    needs += ids_in(own.get("needs", ""))[0]
    needs += [str(other.get("number") if isinstance(other, dict) else other) for other in item.get("blocked_by") or ()]
    values["needs"] = [name for name in dict.fromkeys(needs) if name not in closed and name != str(item["number"])]
    fields = {key: value for key, value in values.items() if value}
    text = body.strip("\n") or f"# {item['title']}"
    return DraftIssue(str(item["number"]), " ".join(str(item["title"]).split()), text, 0, fields)


def _label(name: str, values: dict[str, Any]) -> None:
    """What a label says of an issue."""
    match = _PREFIXED.match(name.strip())
    key, word = (match[1].casefold(), match[2].strip()) if match else ("", name.strip())
    if word.upper() in {"P0", "P1", "P2", "P3"} and key in {"", "priority"}:
        values["priority"] = word.upper()
    elif key == "size" and word.upper() in {"S", "M", "L"}:
        values["size"] = word.upper()
    elif key in {"type", "kind"} and re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,31}", word):
        values["type"] = word.casefold()
    elif not key and word.casefold() in _LABEL_TYPES:
        values["type"] = _LABEL_TYPES[word.casefold()]


def _parsed(source: Source) -> tuple[Any, list[Fault]]:
    try:
        return json.loads(source.text), []
    except json.JSONDecodeError as error:
        return None, [Fault(source.name, f"line {error.lineno}", f"is not JSON: {error.msg}")]
    except RecursionError:
        return None, [Fault(source.name, "", "is nested too deeply")]


def _own(value: Mapping[str, Any]) -> Draft:
    """What we wrote ourselves, taken over as it is; the declaration's own reader looks at the values.

    A branch that follows from id and title is left out: under another id it would be that of another milestone.
    """
    head = dict(value.get("milestone") or {})
    if head.get("branch") == default_branch(str(head.get("id", "")), str(head.get("title", ""))):
        del head["branch"]
    issues = []
    for row in value.get("issues") or ():
        fields = {key: row[key] for key in (*_EXACT, *_EXACT_MORE) if row.get(key) not in (None, [], {})}
        issues.append(
            DraftIssue(str(row.get("id", "")), str(row.get("title", "")), str(row.get("text", "")), 0, fields)
        )
    phases = tuple((str(item["name"]), str(item.get("goal") or "")) for item in value.get("phases") or ())
    fields = {key: head[key] for key in _HEAD if head.get(key) not in (None, [], {})}
    return Draft(
        str(head.get("id", "")), str(head.get("title", "")), fields, phases, tuple(issues), str(value.get("epic") or "")
    )
