"""Code blocks in Markdown by agents. Pure.

Plans quote Markdown in Markdown: a fence inside a fence of the same length, and sometimes a fence that is never closed.
CommonMark would treat everything after it as code, or the code as text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.importers.account import Note

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["code_lines"]

_FENCE = re.compile(r"^\s*(?:>\s*|(?:[-*+]|\d+[.)])\s+)*(`{3,}|~{3,})\s*([^`]*)$")
_HEADING = re.compile(r"^\s{0,3}#{1,6}(?:\s|$)")
_MARKS = re.compile(r"[*_`~]+")


def code_lines(lines: Sequence[str], skipped: int, heading: re.Pattern[str] | None, notes: list[Note]) -> set[int]:
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
            notes.append(
                Note(
                    number,
                    f"the code fence is never closed; the code was taken to end in line {end}",
                    "a code fence is never closed",
                )
            )
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
