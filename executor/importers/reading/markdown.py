"""Markdown plans as sections, list items and tables, each with its lines. Pure.

A CommonMark parser finds the structure, in a copy whose code lines are blank. The text itself is
never changed.

Plans quote Markdown in Markdown: a fence inside a fence of the same length, and sometimes a fence that is never closed.
CommonMark would treat everything after it as code, or the code as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from executor.importers.draft import Account, Note, Notes
from executor.importers.reading.words import flat, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["Document", "Item", "Row", "Section", "Table", "document", "flat", "plain"]

_TIGHT = re.compile(r"^(\s{0,3}#{1,6})(?=[A-Za-z\[*✅~])(.*)$")
_MARKER = re.compile(r"^(?:[-*+]|\d+[.)])\s+")
_BOX = re.compile(r"^(\*\*|__)?\\?\[([ xX~/\-*>!])\\?\](\\?\*(?!\*))?(?:\s+|$)")
"""A box, also within a bold text; formatters such as prettier write its brackets, and the star behind it, with a backslash."""
_RULE = re.compile(r"\n+[ \t]*(?:-{3,}|\*{3,}|_{3,})[ \t]*$")
_FENCE = re.compile(r"^\s*(?:>\s*|(?:[-*+]|\d+[.)])\s+)*(`{3,}|~{3,})\s*([^`]*)$")
_HEADING = re.compile(r"^\s{0,3}#{1,6}(?:\s|$)")
_MARKS = re.compile(r"[*_`~]+")
_FRONT_MOST = 400  # lines; front matter is shorter, a rule at line 1 without an end is none
_SILENT = frozenset({"code_block", "blockquote_open", "html_block", "table_open"})


@dataclass(slots=True)
class Item:
    """A list item.

    Attributes:
        first: its first line.
        last: its last line, including its children.
        text: its text on one line, without marker and box.
        box: the character in its box; None without a box.
        starred: its box is followed by a star, Kiro's mark of an optional task.
        number: the number of its marker, or empty.
        children: the items of nested lists.
        own: its lines without those of its children.
    """

    first: int
    last: int
    text: str = ""
    box: str | None = None
    starred: bool = False
    number: str = ""
    children: list[Item] = field(default_factory=list)
    own: list[int] = field(default_factory=list)

    @property
    def ticked(self) -> bool:
        """Return whether its box is ticked."""
        return self.box is not None and self.box in "xX"

    def walk(self) -> Iterator[Item]:
        """Yield the item and all items below it, in order."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Row:
    """A table row: its line, and its cells by lower-case column name."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the line of its header, the lower-case column names, its rows."""

    line: int
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(slots=True)
class Section:
    """A heading and the text up to the next heading.

    Attributes:
        level: 1 to 6; 0 for the text before the first heading.
        title: the text of the heading.
        line: line of the heading; 0 without one.
        lines: number and text of each line below it.
        silent: numbers of those lines that are code, comment, quotation or table.
        items: top-level items of its lists.
        tables: its tables.
    """

    level: int
    title: str
    line: int
    lines: list[tuple[int, str]] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)
    items: list[Item] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def text(self) -> str:
        """Return the lines without blank ones at both ends and without a rule at the end."""
        return _RULE.sub("", "\n".join(line for _, line in self.lines).rstrip("\n \t")).strip("\n")

    def prose(self) -> list[tuple[int, str]]:
        """Return the lines that are neither code, comment, quotation nor table."""
        return [item for item in self.lines if item[0] not in self.silent]

    def numbers(self) -> list[int]:
        """Return the numbers of its lines, including the heading."""
        return ([self.line] if self.line else []) + [number for number, _ in self.lines]

    def whole(self) -> str:
        """Return the heading and the text."""
        heading = f"{'#' * max(1, self.level)} {self.title}" if self.line else ""
        return "\n\n".join(part for part in (heading, self.text()) if part)

    def every_item(self) -> Iterator[Item]:
        """Yield all items of its lists, including nested ones."""
        for item in self.items:
            yield from item.walk()


@dataclass(slots=True)
class Document:
    """A Markdown text.

    Attributes:
        sections: its parts by heading; the first one is before any heading.
        front: the lines of its front matter, without the marks; None without one.
        account: the account of its lines.
        notes: remarks on its structure.
        code: line numbers of code blocks.
        comments: line numbers of comments.
    """

    sections: list[Section]
    front: str | None
    account: Account
    notes: Notes
    code: set[int]
    comments: set[int]

    def title(self) -> str:
        """Return the text of the first heading of level 1, without marks."""
        return next((plain(part.title) for part in self.sections if part.level == 1), "")


def document(text: str, heading: re.Pattern[str] | None = None, *, file: str = "") -> Document:
    """Parse a text into sections.

    Args:
        text: the Markdown.
        heading: pattern of a task heading, without marks; used to repair structures that hide one.
        file: its name, if it is not the plan itself.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    notes = Notes()
    front, skipped = _front(lines)
    code = _code_lines(lines, skipped, heading, notes)
    copy = ["" if number in code or number <= skipped else line for number, line in enumerate(lines, 1)]
    _loosen(copy, heading, notes)
    found = Document([Section(0, "", 0)], front, Account(lines, file), notes, code, set())
    if skipped:
        found.account.inform((1, skipped), "")
    _cut(found, lines, copy, skipped)
    if heading is not None:
        found.notes += _hidden(found, lines, heading)
    return found


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": 60}).enable("table")
    # Only the structure is needed: the importers read the words of a line themselves.
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


@lru_cache(maxsize=4)
def _tokens(text: str) -> list[Token]:
    """Return the structure of a text; every importer inspects it before one of them reads it."""
    return _parser().parse(text)


def _front(lines: Sequence[str]) -> tuple[str | None, int]:
    """Return the front matter and its number of lines."""
    if not lines or lines[0].rstrip() != "---":
        return None, 0
    for number, line in enumerate(lines[1:_FRONT_MOST], 2):
        if line.rstrip() in {"---", "..."}:
            return "\n".join(lines[1 : number - 1]), number
        if line.startswith("#") and ":" not in line:
            break
    return None, 0


def _loosen(copy: list[str], heading: re.Pattern[str] | None, notes: Notes) -> None:
    """Treat ``##Task 1: A`` as a heading."""
    for number, line in enumerate(copy, 1):
        mark = _TIGHT.match(line) if heading is not None else None
        if mark and heading is not None and heading.match(plain(mark[2])):
            copy[number - 1] = f"{mark[1]} {mark[2]}"
            notes.add(number, "a space is missing after #; the line was read as a heading")


def _cut(found: Document, lines: Sequence[str], copy: Sequence[str], skipped: int) -> None:
    """Create the sections."""
    tokens = _tokens("\n".join(copy))
    starts: dict[int, tuple[Section, int]] = {}
    silent = set(found.code)
    pieces: list[tuple[int, Item | Table]] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        first, last = _range(token)
        if token.type == "heading_open" and token.level == 0:
            title = flat(tokens[place + 1].content)
            starts[first] = (Section(int(token.tag[1]), title, first), last)
        elif token.type in _SILENT:
            silent.update(range(first, last + 1))
            if token.type == "html_block" and lines[first - 1].lstrip().startswith("<!--"):
                found.comments.update(range(first, last + 1))
            elif token.type == "table_open":
                pieces.append((first, _table(tokens, place)))
        elif token.type in {"bullet_list_open", "ordered_list_open"} and token.level == 0:
            place, items = _items(tokens, place, lines, silent)
            pieces += ((item.first, item) for item in items)
        place += 1
    _fill(found, lines, starts, silent, skipped)
    _place(found.sections, pieces)


def _fill(
    found: Document, lines: Sequence[str], starts: Mapping[int, tuple[Section, int]], silent: set[int], skipped: int
) -> None:
    """Assign the lines to their sections."""
    until = 0
    for number, line in enumerate(lines, 1):
        if number in starts:
            found.sections.append(starts[number][0])
            until = starts[number][1]
        if number > max(skipped, until):
            found.sections[-1].lines.append((number, line))
            if number in silent:
                found.sections[-1].silent.add(number)


def _place(sections: list[Section], pieces: Iterable[tuple[int, Item | Table]]) -> None:
    order = sorted(pieces, key=lambda piece: piece[0])
    place = 0
    for line, piece in order:
        while place + 1 < len(sections) and sections[place + 1].line <= line:
            place += 1
        if isinstance(piece, Item):
            sections[place].items.append(piece)
        else:
            sections[place].tables.append(piece)


def _range(token: Token) -> tuple[int, int]:
    """Return the first and the last line of a token, from 1."""
    return (token.map[0] + 1, token.map[1]) if token.map else (0, 0)


def _items(tokens: Sequence[Token], place: int, lines: Sequence[str], silent: set[int]) -> tuple[int, list[Item]]:
    """Return the items of the list that opens at a token, and the token where it closes."""
    closing = tokens[place].type.replace("open", "close")
    level = tokens[place].level
    items: list[Item] = []
    place += 1
    while not (tokens[place].type == closing and tokens[place].level == level):
        token = tokens[place]
        first, last = _range(token)
        if token.type == "list_item_open" and token.level == level + 1:
            while last > first and not lines[last - 1].strip():
                last -= 1
            items.append(Item(first, last, number=token.info, own=list(range(first, last + 1))))
        elif token.type in {"bullet_list_open", "ordered_list_open"}:
            place, children = _items(tokens, place, lines, silent)
            items[-1].children += children
        elif token.type in _SILENT:
            silent.update(range(first, last + 1))
        place += 1
    for item in items:
        _words(item, lines, silent)
    return place, items


def _words(item: Item, lines: Sequence[str], silent: set[int]) -> None:
    inner = {number for child in item.children for number in range(child.first, child.last + 1)}
    item.own = [number for number in item.own if number not in inner]
    words = []
    for number in item.own:
        if number in silent and number != item.first:
            continue
        line = lines[number - 1].strip()
        words.append(_MARKER.sub("", line.lstrip("> "), count=1) if number == item.first else line)
    text = flat(" ".join(words))
    box = _BOX.match(text)
    if box:
        item.box, item.starred, text = box[2], bool(box[3]), f"{box[1] or ''}{text[box.end() :]}"
    item.text = text


def _table(tokens: Sequence[Token], place: int) -> Table:
    columns: list[str] = []
    rows: list[Row] = []
    line = _range(tokens[place])[0]
    cells: list[str] = []
    at = 0
    for token in tokens[place:]:
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            cells, at = [], _range(token)[0]
        elif token.type == "inline":
            cells.append(token.content)
        elif token.type == "tr_close":
            if columns:
                rows.append(Row(at, _named(columns, cells)))
            else:
                columns = [plain(cell).casefold() for cell in cells]
    return Table(line, tuple(columns), tuple(rows))


def _named(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, cell in zip(columns, cells, strict=False):
        found[name] = f"{found[name]}, {cell}" if found.get(name) and cell else found.get(name) or cell
    return found


def _hidden(found: Document, lines: Sequence[str], heading: re.Pattern[str]) -> Iterator[Note]:
    """Yield task headings that the parser ignores: in comments, in quotations."""
    heads = {part.line for part in found.sections}
    for number, line in enumerate(lines, 1):
        if number in heads or number in found.code or not line.lstrip(" >").startswith("#"):
            continue
        if heading.match(plain(line.lstrip(" >#").strip())):
            where = "in a comment" if number in found.comments else "in a quotation or a list"
            yield Note(number, f"looks like a task, but is {where}, and was left out", f"looks like a task {where}")


def _code_lines(lines: Sequence[str], skipped: int, heading: re.Pattern[str] | None, notes: Notes) -> set[int]:
    """Return the lines of fenced code, including the fences.

    A fence with a language inside an open one opens a nested block: CommonMark would treat it as text and the next
    fence as the end, which would invert everything after it.
    """
    code: set[int] = set()
    number = skipped + 1
    while number <= len(lines):
        if not _FENCE.match(lines[number - 1]):
            number += 1
            continue
        end, closed = _block(lines, number)
        if not closed:
            end = _unclosed(lines, number, heading)
            text = f"the code fence is never closed; the code was assumed to end in line {end}"
            notes.add(number, text, "a code fence is never closed")
        code.update(range(number, end + 1))
        number = end + 1
    return code


def _block(lines: Sequence[str], first: int) -> tuple[int, bool]:
    """Return the last line of the code that starts at a line, and whether a fence ends it there."""
    opened: list[str] = []
    for number in range(first, len(lines) + 1):
        mark = _FENCE.match(lines[number - 1])
        if mark is None:
            continue
        fence, language = mark[1], mark[2].strip()
        if not opened or (language and fence[0] == opened[-1][0] and len(fence) >= len(opened[-1])):
            opened.append(fence)
        elif not language and fence[0] == opened[-1][0] and len(fence) >= len(opened[-1]):
            opened.pop()
            if not opened:
                return number, True
    return len(lines), False


def _unclosed(lines: Sequence[str], first: int, heading: re.Pattern[str] | None) -> int:
    """Return the end of the code of an unclosed fence.

    It is before the next task heading, else at the next fence without a language, else before the next heading after a
    blank line, else at the end of the text.
    """
    plain_end = 0
    for number in range(first + 1, len(lines) + 1):
        line = lines[number - 1]
        if heading is not None and _HEADING.match(line) and heading.match(_MARKS.sub("", line.strip().lstrip("# "))):
            return number - 1
        mark = _FENCE.match(line)
        if mark and not mark[2].strip() and not plain_end:
            plain_end = number
            if heading is None:
                break
    if plain_end:
        return plain_end
    for number in range(first + 2, len(lines) + 1):
        if _HEADING.match(lines[number - 1]) and not lines[number - 2].strip():
            return number - 1
    return len(lines)
