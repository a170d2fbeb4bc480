"""Stop rules: which of them a change hits, and on which lines. Pure: the same change always gives the same hits.

Claims of the change about itself do not count: only paths, lines and contents do, not titles or comments. A text file
that is declared binary is examined all the same.

The checks that stop rules can name as `builtin`: our own, and entry points of other packages.

Faults of an issue's text, before work starts. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from executor.config.plugins import entry_points
from executor.git.diff import Line
from executor.model.hints import counted
from executor.model.paths import is_test, matches, suffix_of
from executor.stop_rules.commands import Reached, reached
from executor.stop_rules.content import MEDIA, known_secrets, unlookable
from executor.stop_rules.declared.dependencies import dependency_changes, licence_changes, schema_changes, tool_changes
from executor.stop_rules.sensitive import sensitive_code
from executor.stop_rules.tampering import behaves_otherwise, shadowing_modules
from executor.stop_rules.test_evidence.test_suite import judges
from executor.stop_rules.test_evidence.weakened_tests import inline_changes, weakened
from executor.stop_rules.view import View, compiled, outside_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from executor.git.diff import Change, FileChange, Finding
    from executor.model.rules import StopRule
    from executor.stop_rules.view import StopCheck, View

__all__ = [
    "GROUP",
    "Hit",
    "asked_elsewhere",
    "known_secret",
    "schema",
    "secrets",
    "sensitive",
    "shadowing",
    "spec_problems",
    "stop_checks",
    "stops_of",
    "tampering",
    "tests_weakened",
    "unlookable_content",
    "unproved",
]


GROUP = "make_for_milestones.stop_rules"
"""Entry points of this group are checks that stop rules can name."""


@cache
def stop_checks() -> Mapping[str, StopCheck]:
    """Return every check by name; other packages cannot replace ours.

    Raises:
        ImportError: an entry point cannot be loaded.
    """
    points = {point.name: point for point in entry_points(GROUP)}
    others = {name: point.load() for name, point in points.items() if name not in _OURS}
    return {**others, **_OURS}


def schema(view: View) -> Iterable[Finding]:
    """Changes to the schema of a database."""
    return schema_changes(view.files, view.content, view.lists)


def sensitive(view: View) -> Iterable[Finding]:
    """Code about logins, permissions, rates and money."""
    return sensitive_code(view.files, view.content, view.lists)


def tests_weakened(view: View) -> Iterable[Finding]:
    """Tests that prove less than before."""
    found = reached(view.commands, view.base, view.before) if view.commands else Reached()
    # an addition to the product takes no test and no threshold away; its examples may still be switched off
    if not found.doctests and all(file.kind == "created" and not is_test(file.path) for file in view.files):
        return []
    programs = [path for path in found.scripts if not judges(path, view.base)]
    inline = inline_changes(view.files, view.content, programs, doctests=found.doctests)
    return [*weakened(view.files, view.content), *inline]


def secrets(view: View) -> Iterable[Finding]:
    """Lines and file names that seem to contain a secret."""
    lines = [(file.path, line.number, line.text) for file in view.files for line in file.lines if line.added]
    names = [(file.path, 0, file.path) for file in view.files if file.kind == "created"]
    return view.secrets([*names, *lines])


def known_secret(view: View) -> Iterable[Finding]:
    """Values of variables that agents receive."""
    return known_secrets(view.files, view.content, view.values)


def unlookable_content(view: View) -> Iterable[Finding]:
    """Content that rules cannot examine."""
    return unlookable(view.files, view.content)


def tampering(view: View) -> Iterable[Finding]:
    """Product code that behaves otherwise before its tests."""
    return behaves_otherwise(view.files, view.content, view.lists, view.base)


def unproved(view: View) -> Iterable[Finding]:
    """A change of an issue without any proof."""
    return () if view.proved else (("", 0, "no check, acceptance command, file or reviewer shows that it is done"),)


def shadowing(view: View) -> Iterable[Finding]:
    """New modules that are imported in place of others."""
    return shadowing_modules(view.files, view.base, view.before)


def asked_elsewhere(_view: View) -> Iterable[Finding]:
    """Placeholder for rules that do not examine the change itself: the engine applies them at other times."""
    return ()


_OURS: Mapping[str, StopCheck] = {
    "database-migration": schema,
    "sensitive-code": sensitive,
    "dependency-change": dependency_changes,
    "licence-change": licence_changes,
    "protected-files": tool_changes,
    "secrets": secrets,
    "known-secret": known_secret,
    "unlookable": unlookable_content,
    "judge-tampering": tampering,
    "tool-shadowing": shadowing,
    "tests-weakened": tests_weakened,
    "outside-scope": outside_scope,
    "unproved": unproved,
    "tests-changed": asked_elsewhere,
    "spec-problem": asked_elsewhere,
    "new-tests": asked_elsewhere,
}


_FEWEST_WORDS = 3  # words; shorter titles say nothing without a text
_FENCE = re.compile(r"(?ms)^[ \t]*(```+|~~~+).*?(^[ \t]*\1[ \t]*$|\Z)|^(?: {4}|\t)[^\n]*$")
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
_COMMENT = re.compile(r"(?s)<!--.*?-->")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])?\s*(?:\[[ xX]\]\s*)?")
_OPEN = r"(?:TODO|TBD|TBC|FIXME|XXX|T\.B\.D\.)"
_LEFT = re.compile(
    rf"(?i)^(?:[*_#>\s]|\b[\w /-]{{1,40}}:)*\(?{_OPEN}\)?[*_\s]*(?:[.!?:…-]*\s*$|:\s*(?:describe|fill|write|add"
    rf"|explain|specify)\b.*)"
)
_VALUE = re.compile(
    r"(?:\b(?:is|are|be|=|:)\s+|\()(?:TBD|TBC|T\.B\.D\.)(?:\)|\b)|\bto be (?:determined|defined|decided"
    r"|specified)\b|\bfill (?:this|me) in\b|\bfill in (?:here|below|later)\b|^\W*fill in\W*$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"<(?:describe|insert|your|add|fill|enter|write|explain|todo|tbd|placeholder|title|description|summary|what"
    r"|why|how|issue|name of)\b[^<>\n/=\"]*>",
    re.IGNORECASE,
)
_TAG = re.compile(r"<(?:title|summary|description|issue|add|what)>", re.IGNORECASE)
_MUSTACHE = re.compile(r"\{\{[^{}\n]*\}\}")
_BRACKET = re.compile(
    r"\[(?:placeholder|insert|describe|your|fill|enter|tbd|todo|title|description|explain|add)\b[^\]\n]*\](?![(\[:])",
    re.IGNORECASE,
)
_LOREM = re.compile(r"\blorem ipsum\b", re.IGNORECASE)
_QUESTION = re.compile(r"\?{3,}|^\s*\?+\s*$")
_NEEDS = (
    re.compile(
        r"\b(?:depends? (?:up)?on|blocked by|requires?|needs?|after|waits? for)\s*:?\s*(?:\?{2,}|\bTBD\b|\bTBC\b"
        r"|\bTODO\b|\bunknown\b(?=[\s.,]*$))",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?:after|depends? (?:up)?on|blocked by|once|needs|requires|waits? for|builds? on)\s+(?:the |an?|some "
        r"|that )?"
        r"(?:other|another|previous|some(?: other)?)\s+(?:task|issue|ticket|pr|pull request|story|work|change|one)s?\b",
        re.IGNORECASE,
    ),
    re.compile(r"\bdependenc(?:y|ies)\s*(?::|are|is)\s*(?:\?+|unclear|unknown|tbd|to be determined)", re.IGNORECASE),
)


def spec_problems(text: str, title: str, accept_count: int) -> list[str]:
    """Return points that a person must clarify first; empty for a workable spec.

    Args:
        text: the body of the issue.
        title: its title.
        accept_count: number of acceptance criteria; if there are any, a meaningful title suffices.
    """
    prose = _prose(text)
    words = re.findall(r"\w+", _COMMENT.sub(" ", text))
    if not words and not (accept_count and len(re.findall(r"\w+", title)) >= _FEWEST_WORDS):
        return ["the spec is empty: describe what has to be done"]
    problems: list[str] = []
    for line in [title, *prose.splitlines()]:
        if any(pattern.search(line) for pattern in _NEEDS):
            problems.append(f"its dependencies are unclear: {_shown(line)}")
        elif _is_placeholder(line):
            problems.append(f"left from a template: {_shown(line)}")
    return list(dict.fromkeys(problems))


def _is_placeholder(line: str) -> bool:
    content = _ITEM.sub("", line, count=1)
    if _LEFT.match(content) or _VALUE.search(content) or _LOREM.search(content) or _QUESTION.search(content):
        return True
    return any(not _TAG.fullmatch(match[0]) for match in _PLACEHOLDER.finditer(content)) or bool(
        _MUSTACHE.search(content) or _BRACKET.search(content)
    )


def _prose(text: str) -> str:
    """Return the text without code and comments."""
    plain = _COMMENT.sub(" ", _FENCE.sub("\n", text.replace("\r\n", "\n")))
    return _CODE.sub("code", plain)


def _shown(line: str) -> str:
    short = " ".join(line.split())[:120]
    return "".join(char if char.isprintable() else "?" for char in short)


_MOST_LINES = 10  # lines of a finding; the change has the rest
_LONGEST = 200  # characters of such a line
_LARGEST_HIDDEN = 5_000_000  # bytes; a larger file counts as unreadable, and stops as such
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that stops a change.

    Attributes:
        rule: its id.
        level: ``hard`` or ``soft``.
        reason: why it stops.
        needs: the action required of a person.
        lines: a few triggering lines as ``path:12: text``, shortened and printable.
    """

    rule: str
    level: str
    reason: str
    needs: str
    lines: tuple[str, ...]


def stops_of(change: Change, rules: Sequence[StopRule], allowed: Collection[str], view: View) -> list[Hit]:
    """Return every rule that stops a change, hard before soft, in the order of the rules; commands do not run here.

    Args:
        change: the change with the lines of its files.
        rules: rules of the base.
        allowed: ids of rules that do not apply to this change.
        view: view of the change; its files and lists are set for each rule.
    """
    content = cache(view.content)
    files = [_uncovered(file, content) for file in change.files]
    view = replace(view, content=content)
    hits = []
    for rule in rules:
        if rule.enabled and rule.id not in allowed:
            looked = [file for file in files if not matches(file.path, rule.except_paths)]
            found = list(dict.fromkeys(_found(rule, replace(view, files=looked, lists=rule.lists))))
            if found:
                hits.append(Hit(rule.id, rule.level, rule.reason, rule.needs, _stops_shown(found, view)))
    return sorted(hits, key=lambda hit: hit.level != "hard")


def _found(rule: StopRule, view: View) -> Iterator[Finding]:
    inside = [file for file in view.files if not rule.paths or matches(file.path, rule.paths)]
    if rule.paths and not rule.content and not rule.limited and not rule.run:
        yield from ((file.path, 0, file.kind) for file in inside)
    patterns = [compiled(pattern) for pattern in rule.content] if inside else []
    for file in inside if patterns else ():
        for place in _added(file):
            texts = {place[2], place[2] if place[2].isascii() else unicodedata.normalize("NFKC", place[2])}
            if any(pattern.search(text) for pattern in patterns for text in texts):
                yield place
    if rule.limited:
        yield from _over(rule, [file for file in inside if not matches(file.path, rule.uncounted)], view.content)
    if rule.builtin is not None:
        check = _OURS.get(rule.builtin) or stop_checks()[rule.builtin]  # ours need no look at installed packages
        yield from check(view)


def _added(file: FileChange) -> Iterator[Finding]:
    return ((file.path, line.number, line.text) for line in file.lines if line.added)


def _over(
    rule: StopRule, files: Sequence[FileChange], content: Callable[[str, bool], bytes | None]
) -> Iterator[Finding]:
    """Yield the exceeded limits, and the largest files."""
    lines = sum(file.added + file.removed for file in files)
    over = False
    if rule.max_files is not None and len(files) > rule.max_files:
        over = True
        yield "", 0, f"{counted(len(files), 'file')} changed, expected at most {rule.max_files}"
    if rule.max_lines is not None and lines > rule.max_lines:
        over = True
        yield "", 0, f"{lines} lines added and removed, expected at most {rule.max_lines}"
    if rule.max_bytes is not None:
        grown = sum(max(0, _size(content, file, new=True) - _size(content, file, new=False)) for file in files)
        if grown > rule.max_bytes:
            over = True
            yield "", 0, f"{grown} bytes added, expected at most {rule.max_bytes}"
    if over:
        for file in sorted(files, key=lambda file: -file.added - file.removed):
            yield file.path, 0, f"{file.added} added, {file.removed} removed"


def _size(content: Callable[[str, bool], bytes | None], file: FileChange, *, new: bool) -> int:
    return len(content(file.path, new) or b"")


def _uncovered(file: FileChange, content: Callable[[str, bool], bytes | None]) -> FileChange:
    """Return a text file whose diff hides its lines because it is declared binary, with its lines."""
    if not file.binary or suffix_of(file.path) in MEDIA:
        return file
    old, new = (_hidden_text(content(file.path, new)) for new in (False, True))
    if old is None or new is None:
        return file
    before, after = Counter(text for _, text in old), Counter(text for _, text in new)
    added = [Line(number, text, added=True) for number, text in new if before[text] < after[text]]
    removed = [Line(number, text, added=False) for number, text in old if after[text] < before[text]]
    lines = (*removed, *added)
    if file.kind != "deleted" and b"\0" in (content(file.path, True) or b""):  # noqa: FBT003  (its size in lines says nothing)
        return replace(file, lines=lines)
    return replace(file, added=len(added), removed=len(removed), lines=lines)


def _hidden_text(data: bytes | None) -> list[tuple[int, str]] | None:
    if data is None:
        return []
    if len(data) > _LARGEST_HIDDEN:
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return list(enumerate(data.decode("utf-16", "replace").splitlines(), 1))
    return list(enumerate(data.removeprefix(_MARK).decode("utf-8", "surrogateescape").splitlines(), 1))


def _stops_shown(found: Sequence[Finding], view: View) -> tuple[str, ...]:
    """Format the first places as text; a suspected secret is not repeated."""
    first = found[:_MOST_LINES]
    hidden = {place[:2]: place[2] for place in view.secrets([place for place in first if place[1]])}
    shown = [_line(path, number, hidden.get((path, number), text)) for path, number, text in first]
    return tuple(_printable(line)[:_LONGEST] for line in shown)


def _line(path: str, number: int, text: str) -> str:
    where = f"{path}:{number}: " if number else f"{path}: " if path else ""
    return where + text.strip()[:_LONGEST]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
