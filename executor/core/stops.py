"""Stop rules: which of them a change hits, and by which lines. Pure: the same change always gives the same hits.

Nothing that the change says about itself is believed: paths, lines and contents count, not titles or comments. A text
file that is declared binary is looked into all the same.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from executor.core.change import Line
from executor.core.declared import dependency_changes, licence_changes, tool_changes
from executor.core.globs import matches
from executor.core.sensitive import migrations, sensitive_code
from executor.core.specs import spec_problems
from executor.core.weakened import weakened

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from executor.core.change import Change, FileChange, Finding
    from executor.core.stop_rules import StopRule

__all__ = ["Hit", "spec_problems", "stops_of"]

_MOST_LINES = 10
_LONGEST = 200
_LARGEST_HIDDEN = 1_000_000
_BUILTIN: dict[str, Callable[[Sequence[FileChange], Callable[[str, bool], bytes | None]], Iterable[Finding]]] = {
    "database-migration": lambda files, _: migrations(files),
    "sensitive-code": lambda files, _: sensitive_code(files),
    "dependency-change": dependency_changes,
    "licence-change": licence_changes,
    "protected-files": tool_changes,
    "tests-weakened": weakened,
}
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that stops a change.

    Attributes:
        rule: its id.
        level: ``hard`` or ``soft``.
        reason: why it stops.
        needs: what a person has to do.
        lines: what triggered it, as ``path:12: text``; a few, shortened and printable.
    """

    rule: str
    level: str
    reason: str
    needs: str
    lines: tuple[str, ...]


def stops_of(
    change: Change,
    rules: Sequence[StopRule],
    allowed: Collection[str],
    content: Callable[[str, bool], bytes | None],
    secrets: Callable[[Sequence[Finding]], list[Finding]],
) -> list[Hit]:
    """Every rule that stops a change, hard before soft, in the order of the rules; commands are not run here.

    Args:
        change: with the lines of its files.
        rules: those of the base.
        allowed: ids of rules that do not hold for this change.
        content: a file's whole content before (False) or after (True) the change; None when there is none.
        secrets: gives those of the added lines (path, number, text) in which a secret is, with what it is.
    """
    known = cache(content)
    files = [_uncovered(file, known) for file in change.files]
    hits = []
    for rule in rules:
        if rule.enabled and rule.id not in allowed:
            looked = [file for file in files if not matches(file.path, rule.except_paths)]
            found = list(dict.fromkeys(_found(rule, looked, known, secrets)))
            if found:
                hits.append(Hit(rule.id, rule.level, rule.reason, rule.needs, _shown(found, secrets)))
    return sorted(hits, key=lambda hit: hit.level != "hard")


def _found(
    rule: StopRule,
    files: Sequence[FileChange],
    content: Callable[[str, bool], bytes | None],
    secrets: Callable[[Sequence[Finding]], list[Finding]],
) -> Iterator[Finding]:
    inside = [file for file in files if not rule.paths or matches(file.path, rule.paths)]
    if rule.paths and not rule.content and not rule.limited and not rule.run:
        yield from ((file.path, 0, file.kind) for file in inside)
    patterns = [re.compile(pattern) for pattern in rule.content]
    for file in inside if patterns else ():
        yield from (place for place in _added(file) if any(pattern.search(place[2]) for pattern in patterns))
    if rule.limited:
        yield from _over(rule, [file for file in inside if not matches(file.path, rule.uncounted)])
    if rule.builtin == "secrets":
        yield from secrets([place for file in files for place in _added(file)])
    elif rule.builtin in _BUILTIN:  # others do not look at the change and are asked elsewhere
        yield from _BUILTIN[rule.builtin](files, content)


def _added(file: FileChange) -> Iterator[Finding]:
    return ((file.path, line.number, line.text) for line in file.lines if line.added)


def _over(rule: StopRule, files: Sequence[FileChange]) -> Iterator[Finding]:
    """What is over the limits, and the largest files."""
    lines = sum(file.added + file.removed for file in files)
    over = False
    if rule.max_files is not None and len(files) > rule.max_files:
        over = True
        yield "", 0, f"{len(files)} files changed, at most {rule.max_files} may"
    if rule.max_lines is not None and lines > rule.max_lines:
        over = True
        yield "", 0, f"{lines} lines added and removed, at most {rule.max_lines} may be"
    if over:
        for file in sorted(files, key=lambda file: -file.added - file.removed):
            yield file.path, 0, f"{file.added} added, {file.removed} removed"


def _uncovered(file: FileChange, content: Callable[[str, bool], bytes | None]) -> FileChange:
    """A text file whose lines the diff does not show, because something declares it binary, with its lines."""
    if not file.binary:
        return file
    old, new = (_hidden_text(content(file.path, new)) for new in (False, True))
    if old is None or new is None:
        return file
    before, after = Counter(text for _, text in old), Counter(text for _, text in new)
    added = [Line(number, text, added=True) for number, text in new if before[text] < after[text]]
    removed = [Line(number, text, added=False) for number, text in old if after[text] < before[text]]
    return replace(file, added=len(added), removed=len(removed), lines=(*removed, *added))


def _hidden_text(data: bytes | None) -> list[tuple[int, str]] | None:
    if data is None:
        return []
    if len(data) > _LARGEST_HIDDEN:
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return list(enumerate(data.decode("utf-16", "replace").splitlines(), 1))
    if b"\0" in data:
        return None
    return list(enumerate(data.removeprefix(_MARK).decode("utf-8", "surrogateescape").splitlines(), 1))


def _shown(found: Sequence[Finding], secrets: Callable[[Sequence[Finding]], list[Finding]]) -> tuple[str, ...]:
    """The first places as text; what looks like a secret is not repeated."""
    first = found[:_MOST_LINES]
    hidden = {place[:2]: place[2] for place in secrets([place for place in first if place[1]])}
    shown = [_line(path, number, hidden.get((path, number), text)) for path, number, text in first]
    return tuple(_printable(line)[:_LONGEST] for line in shown)


def _line(path: str, number: int, text: str) -> str:
    where = f"{path}:{number}: " if number else f"{path}: " if path else ""
    return where + text.strip()[:_LONGEST]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
