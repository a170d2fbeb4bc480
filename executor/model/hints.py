"""Texts for faults: found, expected, "did you mean". No decisions."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Known", "all_landed", "counted", "did_you_mean", "dotted", "expected", "found", "listed", "quoted"]

_LONGEST = 60  # characters of a quoted value; a line of a terminal has room for it
_SEARCHES = 20  # near misses that are searched for; each compares all names
_SHOWN = 10  # names in a list of valid ones
_SHORTEST_PREFIX = 3  # letters; fewer fit too many names
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LOOKALIKES = str.maketrans("oil_ ", "011--")
_EXPECTED = {
    "string_type": "text",
    "tuple_type": 'a list, for example ["a", "b"]',
    "list_type": 'a list, for example ["a", "b"]',
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "string_pattern_mismatch": "a word of letters, digits, dashes and underscores",
}


class Known:
    """A set of known names for queries about unknown names, optimised for many queries.

    The first queries search all names for a near miss, later ones only look-alikes: ten thousand wrong names are one
    mistake made ten thousand times.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._folded: dict[str, str] = {}
        for name in self.names:
            self._folded.setdefault(_folded(name), name)
        self._searches = _SEARCHES

    def nearest(self, name: str) -> str | None:
        """Return the one probable intended name: a look-alike (``4.O``, ``4.0``), a prefix, or a typing error."""
        alike = self._folded.get(_folded(name))
        if alike is not None:
            return alike
        if self._searches == 0:
            return None
        self._searches -= 1
        begun = [known for known in self.names if known.startswith(name)] if len(name) >= _SHORTEST_PREFIX else []
        return begun[0] if len(begun) == 1 else _closest(name, self.names)

    def hint(self, name: str) -> str:
        """Return the end of a message: ``; did you mean "4.0"?``, or empty without a near name."""
        near = self.nearest(name)
        return "" if near is None else f"; did you mean {quoted(near)}?"

    def advice(self, name: str, kind: str) -> str:
        """Return a suggestion, or the known names: ``; known agents: patch, script``."""
        return self.hint(name) or f"; known {kind}: {listed(self.names)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message: ``; did you mean "4.0"?``, or empty without a near name."""
    return Known(known).hint(name)


def listed(names: Sequence[str]) -> str:
    """Return the first names for a message, and the number of the others; ``none`` for none."""
    more = len(names) - _SHOWN
    shown = ", ".join(_printable(name) for name in names[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown or "none"


def quoted(text: str) -> str:
    """Return text in double quotes, on one line, shortened, with invisible characters as escapes."""
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return _printable(json.dumps(short, ensure_ascii=False))


def found(value: object) -> str:  # noqa: PLR0911  (one for each kind of value)
    """Describe a value, worded to follow "found"."""
    match value:
        case str():
            return quoted(value)
        case bool():
            return str(value).lower()
        case int() | float():
            huge = isinstance(value, int) and abs(value) >= 10**_LONGEST
            return "a huge number" if huge else f"the number {value}"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case dict():
            return "a table"
        case None:
            return "nothing"
        case _:
            return f"{_printable(str(value)[:_LONGEST])}, a date or time"


def dotted(parts: Iterable[str | int]) -> str:
    """Format a position in a file: ``issue[2].needs``; keys that are not bare are quoted."""
    out = ""
    for part in parts:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            out += ("." if out else "") + (part if _BARE.fullmatch(part) else quoted(part))
    return out


def expected(error: Mapping[str, Any], known: Sequence[str] = ()) -> str:
    """Describe one of pydantic's validation errors as a sentence.

    Args:
        error: one element of ``ValidationError.errors()``.
        known: valid keys at that position, for errors about unknown keys.
    """
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    match kind:
        case "missing":
            return "is missing, but required"
        case "extra_forbidden":
            name = str(error["loc"][-1])
            return f"unknown key {quoted(name)}{Known(known).advice(name, 'keys')}"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"expected {context['expected'].replace(chr(39), chr(34))}, found {found(value)}"
        case "greater_than" | "greater_than_equal" | "less_than_equal":
            word = {"greater_than": "greater than", "greater_than_equal": "at least", "less_than_equal": "at most"}[
                kind
            ]
            return f"expected a number {word} {next(iter(context.values())):g}, found {found(value)}"
        case _:
            wanted = _EXPECTED.get(kind)
            return f"expected {wanted}, found {found(value)}" if wanted else f"{error['msg']}, found {found(value)}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _folded(name: str) -> str:
    return name.casefold().translate(_LOOKALIKES)


def _closest(name: str, names: Iterable[str]) -> str | None:
    """Return the name with the fewest typing errors, if they are few for its length and no other name has as few."""
    limit = (len(name) >= 3) + (len(name) >= 6) + (len(name) >= 10)  # noqa: PLR2004  (3, 6, 10 letters: 1, 2, 3 slips)
    best: list[str] = []
    for known in names:
        if abs(len(known) - len(name)) > limit:
            continue
        slips = _slips(name.casefold(), known.casefold())
        if slips < limit or (slips == limit and not best):
            best = [*best, known] if slips == limit else [known]
            limit = slips
        elif slips == limit:
            best.append(known)
    return best[0] if len(best) == 1 and limit else None


def _slips(left: str, right: str) -> int:
    """Return the fewest insertions, deletions, replacements and transpositions between two texts (Damerau)."""
    while left and right and left[-1] == right[-1]:
        left, right = left[:-1], right[:-1]
    while left and right and left[0] == right[0]:
        left, right = left[1:], right[1:]
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, char in enumerate(left, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (char != other))
            if i > 1 and j > 1 and char == right[j - 2] and left[i - 2] == other:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]


def all_landed(total: int) -> str:
    """Return the statement that each issue of a milestone has landed: ``all 2 issues have landed``."""
    return "its issue has landed" if total == 1 else f"all {total} issues have landed"


def counted(number: int, noun: str, several: str = "") -> str:
    """Return a number with its noun: ``1 issue``, ``2 issues``; `several` is the plural of a noun that takes no s."""
    return f"{number} {noun if number == 1 else several or noun + 's'}"
