"""Reading plans in Markdown: sections by heading, labelled fields, lists, tables; code blocks are left alone. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Row", "Section", "fields_of", "ids_in", "labelled", "plain", "sections", "tables"]

_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_LABEL = re.compile(r"^\s*(?:[-*+]\s+)?\*{1,2}([A-Za-z][^*:]{0,40}?)\s*:?\*{1,2}\s*:?\s*(.*)$")
_ITEM = re.compile(r"^(\s*)(?:[-*+]|\d+[.)])\s+(?:\[[ xX]\]\s*)?(.*\S)")
_CODE = re.compile(r"`([^`]+)`")
_NONE = frozenset({"", "-", "--", "—", "–", "none", "n/a", "na", "nothing", "no"})
_ID = re.compile(r"(?:\b(?:tasks?|issues?)\s+)?#?\b([A-Za-z]?\d+(?:\.\d+)*[a-z]?)\b", re.IGNORECASE)
_RANGE = re.compile(r"(\d[\w.]*)\s*(?:-|–|—|through|to)\s*#?(\d[\w.]*)")
_PATH = re.compile(r"[A-Za-z0-9_.@*?\[\]{}+-]+(?:/[A-Za-z0-9_.@*?\[\]{}+-]+)*")
_FIELDS = {
    "file": "files",
    "files": "files",
    "file(s)": "files",
    "expected files": "files",
    "type": "type",
    "task type": "type",
    "dependencies": "needs",
    "dependency": "needs",
    "depends on": "needs",
    "blocked by": "needs",
    "priority": "priority",
    "size": "size",
    "est. size": "size",
    "acceptance criteria": "accept",
    "acceptance": "accept",
    "success criteria": "accept",
    "github issue": "number",
    "agent": "agent",
}
"""What a label or a heading of a task means."""
_ALLOWED = {"priority": ("P0", "P1", "P2", "P3"), "size": ("S", "M", "L")}
_RULE = re.compile(r"\n+\s*(?:---+|\*\*\*+)\s*$")


@dataclass(slots=True)
class Section:
    """A heading and what follows it, up to the next heading.

    Attributes:
        level: 1 to 6; 0 for what stands before the first heading.
        title: text of the heading.
        line: its line, from 1.
        lines: number and text of each line below it; `coded` has the numbers of those in code blocks.
    """

    level: int
    title: str
    line: int
    lines: list[tuple[int, str]] = field(default_factory=list)
    coded: set[int] = field(default_factory=set)

    def text(self) -> str:
        """The lines as a text, without blank ones at both ends and without a rule at its end."""
        return _RULE.sub("", "\n".join(line.rstrip() for _, line in self.lines).rstrip()).strip("\n")

    def prose(self) -> list[tuple[int, str]]:
        """The lines outside code blocks."""
        return [item for item in self.lines if item[0] not in self.coded]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its line and its cells by column name in lower case."""

    line: int
    cells: dict[str, str]


def sections(text: str) -> list[Section]:
    """The text cut at its headings; a heading inside a code block is none."""
    found = [Section(0, "", 0)]
    fence = ""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        mark = _FENCE.match(line)
        heading = None if fence or mark else _HEADING.match(line)
        if heading:
            found.append(Section(len(heading[1]), heading[2], number))
            continue
        found[-1].lines.append((number, line))
        if fence or mark:
            found[-1].coded.add(number)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
    return found


def labelled(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str, str, list[str]]]:
    """Fields written as ``**Label:** value``: line, label in lower case, value, and the items of a list below it.

    A value goes on until a blank line, a list or the next label.
    """
    current: tuple[int, str, list[str], list[str]] | None = None
    goes_on = False
    for number, line in lines:
        match = _LABEL.match(line)
        if match and match[1].strip():
            if current:
                yield current[0], current[1], " ".join(current[2]), current[3]
            current = (number, match[1].strip().casefold(), [match[2].strip()] if match[2].strip() else [], [])
            goes_on = True
        elif current is not None:
            goes_on = goes_on and bool(line.strip()) and not _ITEM.match(line)
            if goes_on:
                current[2].append(line.strip())
            else:
                _continue(current[3], line)
    if current:
        yield current[0], current[1], " ".join(current[2]), current[3]


def fields_of(parts: Sequence[Section]) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """Keys of a declaration that a task's sections give, and notes on what in them was not understood.

    Keys: type, files, needs (as written), priority, size, accept, number, agent.
    """
    raw: list[tuple[int, str, str, list[str]]] = []
    for part in parts:
        raw += labelled(part.prose())
        if part.title.casefold().rstrip(":") in _FIELDS and part is not parts[0]:
            items: list[str] = []
            for _, line in part.prose():
                _continue(items, line)
            raw.append((part.line, part.title.casefold().rstrip(":"), "", items))
    values: dict[str, Any] = {}
    notes: list[tuple[int, str]] = []
    for number, label, value, items in raw:
        key = _FIELDS.get(label)
        if key is not None and key not in values:
            found, problem = _value(key, value, items)
            if found:
                values[key] = found
            if problem:
                notes.append((number, problem))
    return values, notes


def tables(part: Section) -> Iterator[list[Row]]:
    """Tables of a section; each as its rows."""
    header: list[str] = []
    rows: list[Row] = []
    for number, line in [*part.prose(), (0, "")]:
        cells = _cells(line)
        if not cells:
            if rows:
                yield rows
            header, rows = [], []
        elif not header:
            header = [plain(cell).casefold() for cell in cells]
        elif not all(set(cell) <= set(":- ") for cell in cells):
            rows.append(Row(number, dict(zip(header, cells, strict=False))))


def plain(text: str) -> str:
    """Text without Markdown's marks around it."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).strip(" *_`")


def ids_in(text: str) -> tuple[list[str], list[tuple[str, str]], str]:
    """Ids that a text names, ranges of them, and what else there is in it."""
    if text.strip().strip(".").casefold() in _NONE:
        return [], [], ""
    bare = re.sub(r"\([^)]*\)", " ", text)
    ranges = [(first, last) for first, last in _RANGE.findall(bare) if "." in first or "." in last]
    for first, last in ranges:
        bare = re.sub(rf"{re.escape(first)}\s*\S+\s*#?{re.escape(last)}", " ", bare)
    names = _ID.findall(bare)
    rest = _ID.sub(" ", bare)
    rest = re.sub(r"[,;&.+]|\band\b|\btasks?\b|\bissues?\b", " ", rest, flags=re.IGNORECASE).strip(" `*-")
    return list(dict.fromkeys(names)), ranges, rest


def _continue(items: list[str], line: str) -> None:
    """Take a line into a list of items: a new one, or more of the last."""
    item = _ITEM.match(line)
    if item:
        items.append(item[2])
    elif items and line.startswith((" ", "\t")) and line.strip():
        items[-1] = f"{items[-1]} {line.strip()}"


def _value(key: str, value: str, items: list[str]) -> tuple[Any, str]:
    """A field's value and a note on it; an empty value where there is none."""
    if key == "accept":
        texts = [plain_line(item) for item in ([value] if value else []) + items]
        return [text for text in texts if text.casefold() not in _NONE], ""
    if key == "files":
        return _files([value, *items])
    if key == "needs":
        return " ".join([value, *(f", {item}" for item in items)]).strip(" ,"), ""
    if key == "number":
        digits = re.search(r"#?(\d+)", value)
        return (int(digits[1]) if digits else 0), ""
    return _word(key, plain(value.split("(", maxsplit=1)[0]).strip())


def _word(key: str, word: str) -> tuple[str, str]:
    if key == "type":
        kind = re.split(r"[\s/,+]", word)[0].casefold()
        return (kind, "") if re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", kind) else ("", f'type "{word}" is not a word')
    if key not in _ALLOWED:
        return word, ""
    if word.upper() in _ALLOWED[key]:
        return word.upper(), ""
    return "", f'{key} "{word}" is none of {", ".join(_ALLOWED[key])}'


def plain_line(text: str) -> str:
    """One line of prose, its white space made single."""
    return " ".join(text.split())


def _files(texts: Sequence[str]) -> tuple[list[str], str]:
    """Paths: those in back quotes, or the first word of a line without any."""
    found: list[str] = []
    odd: list[str] = []
    for text in texts:
        coded = _CODE.findall(text)
        words = coded or [
            word.strip(",;") for word in re.sub(r"\([^)]*\)", " ", text).split() if "." in word or "/" in word
        ]
        for word in words:
            path = re.sub(r":\d+(?:-\d+)?$", "", word.strip())
            if _PATH.fullmatch(path) and not path.startswith("/") and ".." not in path.split("/") and "{" not in path:
                found.append(path)
            else:
                odd.append(word)
    note = f"not taken as files: {', '.join(odd[:5])}" if odd else ""
    return list(dict.fromkeys(found)), note


def _cells(line: str) -> list[str]:
    line = line.strip()
    if not line.startswith("|") or line.count("|") < 2:  # noqa: PLR2004  (one cell has two bars)
        return []
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
