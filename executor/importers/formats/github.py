"""Issues of GitHub: the list of `gh issue list --json ...`, of the REST interface, or of a Projects table. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.importers.draft import Draft, DraftIssue, Note, Notes, milestone_id
from executor.importers.formats.json_csv import own_head, with_head
from executor.importers.importer import guide_of
from executor.importers.reading.fields import fields_of
from executor.importers.reading.markdown import Document, document, flat
from executor.importers.reading.places import Node
from executor.importers.reading.records import Reading, draft_of, json_of, tree_of
from executor.importers.reading.words import kind_of, priority_of, size_of, status_notes
from executor.model.hints import found

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.importers.source import Source

__all__ = ["GitHub"]

_LABEL_TYPES = {"bug": "fix", "documentation": "docs", "enhancement": "feature"}
_PREFIXED = re.compile(r"^(type|kind|priority|size)\s*[:/]\s*(.+)$", re.IGNORECASE)
_BLOCKED = re.compile(
    r"(?:depends on|blocked by|requires|needs|dependenc(?:y|ies)|prerequisites?)[*_]*\s*:?[*_]*\s*((?:(?:[\w.-]+/[\w.-]+)?#\d+|https?://\S+/issues/\d+)(?:(?:\s*,\s*|\s+and\s+|\s+)(?:(?:[\w.-]+/[\w.-]+)?#\d+|https?://\S+/issues/\d+))*)",
    re.IGNORECASE,
)
_REF = re.compile(r"([\w.-]+/[\w.-]+)?#(\d+)|https?://[^/\s]+/([\w.-]+/[\w.-]+)/issues/(\d+)")
_DENIED = re.compile(r"\b(?:no longer|not|isn't|never|don't|doesn't|nothing)\W+(?:\w+\W+){0,3}$", re.IGNORECASE)
_PASSED_OVER = (
    *("url", "id", "node_id", "createdAt", "updatedAt", "closedAt", "created_at", "updated_at", "author"),
    *("user", "html_url", "repository_url", "events_url", "labels_url", "comments_url", "locked"),
    *("author_association", "reactions", "timeline_url", "performed_via_github_app", "active_lock_reason"),
    *("stateReason", "state_reason", "isPinned", "projectItems", "projectCards", "closed"),
    *("reactionGroups",),
)
_OF_MILESTONES = (*("description", "number", "dueOn", "due_on", "open_issues", "closed_issues", "state", "creator"),)
_PULL = re.compile(r"\n+Depends on (?:#\d+(?:, )?)+\s*$")


class GitHub:
    """`gh issue list --json number,title,body,labels,milestone,state`, the REST list, or a Projects export."""

    name = "github"
    guide = guide_of("github")

    def recognises(self, source: Source) -> int:
        """Return the confidence that a source has this format, 0 to 100."""
        root = json_of(source)
        return 80 if root is not None and any(_seems(item) for item in _entries(root)[:1]) else 0

    def read(self, source: Source) -> Draft:
        """The milestone of a list of issues."""
        root = tree_of(source)
        if isinstance(root, Draft):
            return root
        reading = Reading(source)
        root.read = True
        items = _entries(root)
        for item in items:
            if item.keys is None:
                reading.fault(item.line, f"expected an issue with number and title, found {found(item.plain())}")
        items = [item for item in items if item.keys is not None]
        closed = {str(item.get("number").value) for item in items if _state(item) == "closed" and item.get("number")}  # type: ignore[union-attr]
        reading.order = [str(node.value) for item in items if (node := item.get("number")) is not None]
        title = _milestone(items)
        groups = [node for item in items if (node := item.get("milestone")) is not None]
        group = next((node for node in groups if node.text("title") == title), None)
        declared = next((node for group in groups if (node := group.get("declaration")) is not None), None)
        for item in items:
            _entry(item, reading, closed, title)
        fields: dict[str, object] = {"forge_milestone": title} if title else {}
        if group is not None and group.has("description"):
            fields["goal"] = flat(group.text("description"))
        for item in items:
            node = item.get("milestone")
            if node is not None:
                node.pass_over(*_OF_MILESTONES, *_PASSED_OVER)
        reading.notes += root.notes()
        bare = re.sub(r"^M\d[\w.]*\s*[:–—-]+\s*", "", title)
        draft = draft_of(reading, milestone_id(title, source.stem), bare, fields, whole=False)
        return with_head(draft, own_head(declared.plain())) if declared is not None else draft


def _entries(root: Node) -> list[Node]:
    """Return the issues of a list, or those in the entries of a Projects export."""
    if root.items is not None:
        return root.items
    rows = root.rows("items")
    return [_project(row) for row in rows if row.keys is not None and row.get("content") is not None]


def _project(row: Node) -> Node:
    """Return an entry of a Projects export as an issue: its content, and the project's fields."""
    content = row.get("content")
    keys = dict(content.keys or {}) if content is not None else {}
    for name, node in (row.keys or {}).items():
        if name not in {"content", "id"}:
            keys.setdefault(name, node)
    row.pass_over("id")
    return Node(None, row.line, row.path, keys=keys)


def _seems(item: Node) -> bool:
    keys = item.keys or {}
    return (
        "number" in keys and bool({"state", "labels", "body", "milestone"} & keys.keys()) and "userStories" not in keys
    )


def _state(item: Node) -> str:
    return item.text("state", "status").casefold()


def _milestone(items: Sequence[Node]) -> str:
    """Return the title of the milestone of most issues; issues of others are omitted."""
    counts: dict[str, int] = {}
    for item in items:
        node = item.get("milestone")
        name = node.text("title") if node is not None and node.keys is not None else item.text("milestone")
        if name and _state(item) != "closed":
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=lambda name: counts[name], default="")


def _entry(item: Node, reading: Reading, closed: set[str], title: str) -> None:
    number = item.get("number")
    name = item.text("id") if item.get("declaration") is not None else ""
    label = name or (number.word() if number is not None else "")
    item.pass_over(*_PASSED_OVER)
    if item.get("pull_request") is not None:
        item.pass_over(*(item.keys or {}))
        reading.gone[label] = "a pull request"
        reading.notes.add(item.line, f"#{label} is a pull request and was left out", "pull requests, left out")
        return
    heading = flat(item.text("title"))
    reading.notes += status_notes(f"#{label}", _state(item), item.line)
    if item.text("type") == "DraftIssue" or (number is None and item.get("body") is not None and not name):
        item.pass_over(*(item.keys or {}))
        reading.notes.add(
            item.line, f"{heading!r} has no number and was left out", "entries without a number, left out"
        )
        return
    if not heading or not (name or re.fullmatch(r"[1-9]\d*", label)):
        said = found(number.plain()) if number is not None else "nothing"
        titled = f", titled {heading!r}" if heading else ""
        reading.fault(item.line, f"expected an issue with number and title, found {said}{titled}")
        return
    own = item.get("milestone")
    other = "" if own is None else own.text("title") if own.keys is not None else own.word()
    if _leave_out(item, label, other, title, reading):
        return
    reading.issues.append(_issue(item, label, number, heading, reading, closed))


def _leave_out(item: Node, label: str, other: str, title: str, reading: Reading) -> bool:
    """Return whether an issue is omitted, because it is closed or of another milestone."""
    if _state(item) in {"closed", "done"}:
        item.pass_over(*(item.keys or {}))
        reading.gone[label] = "closed"
        reading.notes.add(item.line, f"#{label} is closed and was left out", "closed issues, left out")
        return True
    if title and other and other != title:
        item.pass_over(*(item.keys or {}))
        reading.gone[label] = f"in {other}"
        text = f'#{label} is in the milestone "{other}" and was left out'
        reading.notes.add(item.line, text, "issues of other milestones, left out")
        return True
    return False


def _issue(item: Node, label: str, number: Node | None, heading: str, reading: Reading, closed: set[str]) -> DraftIssue:
    body = item.text("body").replace("\r\n", "\n")
    exact = item.get("needs")
    if exact is not None:
        body = _PULL.sub("", body)
    doc = document(body)
    own = fields_of(doc.sections, label)
    reading.notes += (Note(item.line, note.text, note.kind) for note in own.notes)
    values: dict[str, object] = {"number": number.value} if number is not None and isinstance(number.value, int) else {}
    values |= {key: own.values[key] for key in ("files", "accept", "type", "priority", "size") if own.values.get(key)}
    _labels(item, label, values, reading.notes)
    ticked = [box for part in doc.sections for box in part.every_item() if box.ticked]
    if ticked:
        reading.notes.add(
            item.line, f"#{label}: {len(ticked)} boxes are ticked; a tick proves nothing here", "ticked boxes"
        )
    _aside(item, label, reading.notes)
    needs = exact.plain() if exact is not None else list(_needs(doc, item, label, reading))
    gone = {name: reading.gone.get(name, "closed") for name in closed}
    reading.gone |= gone
    values["needs"] = [name for name in dict.fromkeys(map(str, needs)) if name != label]
    declared = item.get("declaration")
    if declared is not None:
        values |= dict(declared.plain() or {})
    fields = {key: value for key, value in values.items() if value or key == "checks"}
    return DraftIssue(label, heading, body.strip("\n") or f"# {heading}", item.line, fields)


def _labels(item: Node, label: str, values: dict[str, object], notes: Notes) -> None:
    """Import the known labels of an issue; the others are noted."""
    unknown = []
    for node in item.rows("labels"):
        name = (node.text("name") or node.shown()) if node.keys is not None else node.word()
        node.pass_over("id", "node_id", "url", "color", "default", "description")
        if name and not _label(name, values):
            unknown.append(name)
    if unknown:
        notes.add(
            item.line, f"#{label}: labels that were not imported: {', '.join(unknown)}", "labels that were not imported"
        )


def _label(name: str, values: dict[str, object]) -> bool:
    match = _PREFIXED.match(name.strip())
    key, word = (match[1].casefold(), match[2].strip()) if match else ("", name.strip())
    if priority_of(word) and (key == "priority" or (not key and re.fullmatch(r"P[0-3]", word, re.IGNORECASE))):
        values["priority"] = priority_of(word)
    elif key == "size" and size_of(word):
        values["size"] = size_of(word)
    elif key in {"type", "kind"} and kind_of(word):
        values["type"] = kind_of(word)
    elif not key and word.casefold() in _LABEL_TYPES:
        values["type"] = _LABEL_TYPES[word.casefold()]
    else:
        return False
    return True


def _aside(item: Node, label: str, notes: Notes) -> None:
    """Note assignees and comments, which a milestone cannot represent."""
    for key in ("assignees", "comments"):
        node = item.get(key)
        if node is not None and not node.empty():
            count = len(node.items) if node.items is not None else node.value
            node.plain()
            if count:
                notes.add(item.line, f"#{label}: {count} {key} were not imported", f"{key} that were not imported")
        elif node is not None:
            node.plain()
    item.pass_over("assignee", "repository", "type")


def _needs(doc: Document, item: Node, label: str, reading: Reading) -> Iterator[str]:
    """Yield the needs of an issue: from sentences of its own prose, a field, and the forge's dependencies."""
    for part in doc.sections:
        prose = "\n".join(line for number, line in part.prose() if number not in doc.comments)
        prose = re.sub(r"`[^`]*`|<!--.*?-->", " ", prose, flags=re.DOTALL)
        for hit in _BLOCKED.finditer(prose):
            if _DENIED.search(prose[: hit.start()]):
                reading.notes.add(
                    item.line, f'#{label}: "{flat(hit[0])}" is denied and was left out', "denied dependencies"
                )
                continue
            yield from _references(hit[1], item, label, reading)
    for node in item.rows("blocked_by", "blockedBy"):
        yield node.text("number") if node.keys is not None else node.word()
        node.plain()


def _references(text: str, item: Node, label: str, reading: Reading) -> Iterator[str]:
    here = item.text("repository_url").rpartition("/repos/")[2] or "/".join(
        item.text("html_url", "url").split("/")[3:5]
    )
    for match in _REF.finditer(text):
        repository, number = (match[1] or match[3] or ""), (match[2] or match[4])
        if repository and match[1] and here.casefold() != repository.casefold():
            said = f"#{label} waits for {repository}#{number} of another repository; it was left out"
            reading.notes.add(item.line, said, "dependencies on other repositories")
        else:
            yield number
