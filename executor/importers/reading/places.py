"""JSON, YAML and CSV as values with positions that record whether they were read. Pure.

A reader takes values out of a `Node`; unread parts are reported as not understood. So a key that no importer knows
cannot be lost silently.
"""

from __future__ import annotations

import bisect
import csv
import io
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.importers.draft import Note
from executor.importers.reading.markdown import flat

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Node", "PlaceError", "json_lines_node", "json_node", "table_rows", "yaml_comments", "yaml_node"]

_PLACE = re.compile(r"\[\d+\]")
_MOST_NODES = 1_000_000  # nodes; YAML aliases can multiply a small file without bound


class PlaceError(ValueError):
    """A text that is invalid in its format; `line` is from 1, 0 if unknown."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


@dataclass(slots=True, eq=False)
class Node:
    """A value of JSON or YAML with its position.

    Attributes:
        value: a scalar; for YAML its source form is in `raw`.
        line: from 1.
        path: position for messages, ``tasks[3].title``.
        keys: the values of a table by key, else None.
        items: the values of a list, else None.
        raw: the source form of a scalar.
        read: it was taken, or declared irrelevant.
    """

    value: Any
    line: int
    path: str
    keys: dict[str, Node] | None = None
    items: list[Node] | None = None
    raw: str = ""
    read: bool = False
    doubled: list[Node] = field(default_factory=list)

    def get(self, *names: str) -> Node | None:
        """Return the first existing value of these keys, or None. Does not mark it as read."""
        return next((self.keys[name] for name in names if name in self.keys), None) if self.keys is not None else None

    def has(self, *names: str) -> bool:
        """Return whether one of these keys has a value that is not empty."""
        return any(not node.empty() for node in map(self.get, names) if node is not None)

    def empty(self) -> bool:
        """Return whether it is empty: null, an empty text, list or table."""
        if self.keys is not None or self.items is not None:
            return not self.keys and not self.items
        return self.value is None or (isinstance(self.value, str) and not self.value.strip())

    def pass_over(self, *names: str) -> None:
        """Mark the values of some keys as read, because a milestone needs none of them."""
        for name in names:
            found = self.get(name)
            if found is not None:
                found.plain()

    def text(self, *names: str) -> str:
        """Return the first value of some keys as text and mark it as read; empty without one."""
        for name in names:
            node = self.get(name)
            if node is not None and node.keys is None and node.items is None:
                node.read = True
                if not node.empty():
                    return node.word()
        return ""

    def word(self) -> str:
        """Return a scalar in its source form and mark it as read."""
        self.read = True
        if self.value is None or isinstance(self.value, bool):
            return "" if self.value is None else str(self.value).lower()
        return self.value if isinstance(self.value, str) else self.raw or str(self.value)

    def rows(self, *names: str) -> list[Node]:
        """Return the items of the first of some keys that is a list."""
        for name in names:
            node = self.get(name)
            if node is not None and node.items is not None:
                node.read = True
                return node.items
        return []

    def words(self, *names: str) -> list[str]:
        """Return the scalars of a list, or one scalar, as texts and mark them as read."""
        for name in names:
            node = self.get(name)
            if node is None:
                continue
            if node.items is not None:
                node.read = True
                return [
                    item.word() for item in node.items if item.keys is None and item.items is None and not item.empty()
                ]
            if node.keys is None:
                word = node.word()
                return [word] if word.strip() else []
        return []

    def plain(self) -> Any:
        """Return the whole value without positions and mark all of it as read."""
        self.read = True
        for other in self.doubled:
            other.read = True
        if self.keys is not None:
            return {name: node.plain() for name, node in self.keys.items()}
        return [node.plain() for node in self.items] if self.items is not None else self.value

    def shown(self) -> str:
        """Format the value for a sentence or a list and mark it as read."""
        if self.keys is None and self.items is None:
            return self.word()
        value = self.plain()
        if isinstance(value, list) and all(not isinstance(item, dict | list) for item in value):
            return ", ".join(map(str, value))
        return json.dumps(value, ensure_ascii=False)

    def unread(self) -> Iterator[Node]:
        """Yield unread values that are not empty, outermost first."""
        for other in self.doubled:
            if not other.read:
                yield other
        children = list(self.keys.values()) if self.keys is not None else self.items
        if children is None:
            if not self.read and not self.empty():
                yield self
            return
        if children and not self._touched():
            yield self
            return
        for child in children:
            yield from child.unread()

    def _touched(self) -> bool:
        """Return whether it, or a part of it, was read."""
        children: list[Node] = list(self.keys.values()) if self.keys is not None else self.items or []
        return self.read or any(child._touched() for child in children)  # noqa: SLF001

    def notes(self, file: str = "") -> list[Note]:
        """Return a note for each unread value; those at equal places of list items are of one kind."""
        return [
            Note(
                node.line,
                f"not imported: {node.path}: {_short(node)}",
                f"not imported: {_PLACE.sub('[]', node.path)}",
                file,
            )
            for node in self.unread()
        ]


def json_node(text: str, name: str = "") -> Node:
    """Parse a JSON text.

    Raises:
        PlaceError: it is invalid, or nested too deeply.
    """
    try:
        json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise PlaceError(error.lineno, f"is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise PlaceError(0, "is nested too deeply") from error
    except ValueError as error:
        raise PlaceError(0, f"is not JSON: {error}") from error
    try:
        return _Walk(text).value(0, name)[0]
    except RecursionError as error:
        raise PlaceError(0, "is nested too deeply") from error


def json_lines_node(text: str) -> Node:
    """Parse a text with one JSON value per line into a list.

    Raises:
        PlaceError: a line is invalid.
    """
    items: list[Node] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                node = json_node(line, f"[{len(items)}]")
            except PlaceError as error:
                raise PlaceError(number, str(error)) from error
            _move(node, number - 1)
            items.append(node)
    return Node(None, 1, "", items=items)


def yaml_node(text: str, *, first: int = 1) -> Node:
    """Parse a YAML text; scalars keep their source form.

    Args:
        text: one document.
        first: the number of its first line.

    Raises:
        PlaceError: it is invalid, or its aliases expand to an excessive size.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise PlaceError(
            (mark.line if mark else 0) + first, f"is not YAML: {flat(error.problem or str(error))}"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PlaceError(0, f"is not YAML: {flat(str(error))}") from error
    if root is None:
        return Node(None, first, "")
    try:
        return _Yaml(first).node(root, "", ())
    except RecursionError as error:
        raise PlaceError(0, "is nested too deeply") from error


def yaml_comments(text: str, *, first: int = 1, file: str = "") -> list[Note]:
    """Return a note for each comment line of YAML, which no importer reads."""
    return [
        Note(number, f"a comment was left out: {flat(line)}", "comments, left out", file)
        for number, line in enumerate(text.split("\n"), first)
        if line.lstrip().startswith("#")
    ]


def table_rows(text: str) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Return the header of a CSV text, its rows with their first lines, and the separator of its cells.

    Raises:
        PlaceError: a quotation mark is not closed or misplaced.
    """
    first = next((line for line in text.split("\n") if line.strip()), "")
    outside = re.sub(r'"[^"]*"', "", first)
    between = max(",;\t", key=outside.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
    rows: list[tuple[int, list[str]]] = []
    begin = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((begin, row))
            begin = reader.line_num + 1
    except csv.Error as error:
        problem = "a quotation mark is never closed" if "unexpected end" in str(error) else str(error)
        raise PlaceError(begin, f"is not CSV: {problem}") from error
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    return header, rows[1:], between


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _short(node: Node) -> str:
    text = flat(node.shown())
    return f"{text[:57]}..." if len(text) > 60 else text  # noqa: PLR2004


def _move(node: Node, by: int) -> None:
    node.line += by
    for child in [*(node.keys or {}).values(), *(node.items or []), *node.doubled]:
        _move(child, by)


class _Walk:
    """A walk over valid JSON text; the decoder of the standard library reads each scalar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ends = [hit.start() for hit in re.finditer("\n", text)]
        self._decode = json.JSONDecoder().raw_decode

    def value(self, at: int, path: str) -> tuple[Node, int]:
        at = self._skip(at)
        line = bisect.bisect_left(self._ends, at) + 1
        if self._text[at] == "{":
            return self._table(at, line, path)
        if self._text[at] == "[":
            return self._list(at, line, path)
        value, end = self._decode(self._text, at)
        return Node(value, line, path, raw=self._text[at:end]), end

    def _table(self, at: int, line: int, path: str) -> tuple[Node, int]:
        node = Node(None, line, path, keys={})
        at = self._skip(at + 1)
        while self._text[at] != "}":
            key, end = self._decode(self._text, at)
            child, end = self.value(self._skip(end) + 1, f"{path}.{key}" if path else key)
            _put(node, key, child)
            at = self._skip(end)
            at = self._skip(at + 1) if self._text[at] == "," else at
        return node, at + 1

    def _list(self, at: int, line: int, path: str) -> tuple[Node, int]:
        items: list[Node] = []
        at = self._skip(at + 1)
        while self._text[at] != "]":
            child, end = self.value(at, f"{path}[{len(items)}]")
            items.append(child)
            at = self._skip(end)
            at = self._skip(at + 1) if self._text[at] == "," else at
        return Node(None, line, path, items=items), at + 1

    def _skip(self, at: int) -> int:
        while at < len(self._text) and self._text[at] in " \t\r\n":
            at += 1
        return at


def _put(node: Node, key: str, child: Node) -> None:
    """Keep the last of several values of one key, as JSON and YAML do; the others count as not understood."""
    keys = node.keys if node.keys is not None else {}
    if key in keys:
        child.doubled = [*keys[key].doubled, keys[key]]
    keys[key] = child


class _Yaml:
    def __init__(self, first: int) -> None:
        self._first = first
        self._count = 0

    def node(self, node: Any, path: str, above: tuple[int, ...]) -> Node:
        import yaml

        self._count += 1
        line = node.start_mark.line + self._first
        if self._count > _MOST_NODES or id(node) in above:
            raise PlaceError(line, "refers to itself, or has too many values")
        within = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            found = Node(None, line, path, keys={})
            for key, value in node.value:
                name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
                _put(found, name, self.node(value, f"{path}.{name}" if path else name, within))
            return found
        if isinstance(node, yaml.SequenceNode):
            items = [self.node(item, f"{path}[{place}]", within) for place, item in enumerate(node.value)]
            return Node(None, line, path, items=items)
        kind = node.tag.rpartition(":")[2]
        scalar: Any = node.value
        if kind == "null":
            scalar = None
        elif kind == "bool":
            scalar = node.value.casefold() in {"true", "yes", "on"}
        return Node(scalar, line, path, raw=node.value)
