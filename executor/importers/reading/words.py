"""Words of plans with a defined meaning: status, priority, size, type. Pure."""

from __future__ import annotations

import re
from typing import Literal

from executor.importers.account import Note
from executor.importers.reading.markdown import flat, plain

__all__ = ["State", "kind_of", "priority_of", "size_of", "status_note", "status_of", "without_status"]

State = Literal["done", "cancelled", "stopped", "skipped", "other", ""]
"""The meaning of a status word; empty if no work has been done."""
_STATES: tuple[tuple[State, re.Pattern[str]], ...] = (
    ("stopped", re.compile(r"⛔|🛑|\bSTOP\b|needs? review|\bblocked\b|\bon hold\b|❌", re.IGNORECASE)),
    ("skipped", re.compile(r"⏭|\bskipped\b", re.IGNORECASE)),
    (
        "cancelled",
        re.compile(
            r"cancell?ed|won'?t (?:do|fix)|wontfix|duplicate|obsolete|tombstone|superseded|not planned|abandoned|rejected|\bdropped\b|deprecated",
            re.IGNORECASE,
        ),
    ),
    (
        "other",
        re.compile(
            r"🔄|🚧|⏳|in[ _-]?progress|\bwip\b|partial(?:ly)?|ready[ -]for|in[ -]review|^review$|started|deferred|\bmostly\b|\d+\s?%|not (?:done|complete|started|finished|implemented)|incomplete|unfinished|undone",
            re.IGNORECASE,
        ),
    ),
    (
        "done",
        re.compile(
            r"✅|☑|✔|\[x\]|\b(?:done|completed?|closed|finished|landed|merged|shipped|implemented|resolved|fixed|released|conclu[ií]d[ao]|erledigt|termin[ée]e?)\b",
            re.IGNORECASE,
        ),
    ),
)
_OPEN = re.compile(
    r"^(?:⬜|\[ \]|todo|to do|pending|open|backlog|not started|planned|pendente|offen|new|ready|proposed|draft|unstarted|triage|approved)?$",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"\s*(?:[-–—]\s*)?(?:[✅☑✔]\ufe0f?\s*(?:\*\*)?(?:done|completed?|finished)?(?:\*\*)?|\[x\]|[\[(]\s*(?:✅\s*)?(?:done|completed?|finished|closed)\s*[\])])\s*$",
    re.IGNORECASE,
)
_HEAD_MARK = re.compile(r"^(?:[✅☑✔]\ufe0f?|\[x\])\s*", re.IGNORECASE)
_PRIORITIES = {
    "P0": ("p0", "0", "critical", "urgent", "highest", "blocker", "must", "must have"),
    "P1": ("p1", "1", "high", "major", "should", "should have"),
    "P2": ("p2", "2", "medium", "normal", "moderate", "could", "could have"),
    "P3": ("p3", "3", "p4", "4", "low", "lowest", "minor", "trivial"),
}
_PRIORITY_WORDS = {word: level for level, words in _PRIORITIES.items() for word in words}
_SIZES = {
    "s": "S",
    "m": "M",
    "l": "L",
    "xs": "S",
    "xl": "L",
    "small": "S",
    "medium": "M",
    "large": "L",
    "extra large": "L",
}
_LONGEST_TYPE = 32
_DONE_ALONE = re.compile(
    r"^\W*(?:done|completed?|closed|finished|landed|merged|shipped|implemented|resolved|fixed|released|conclu[ií]d[ao]|erledigt|true|x)?\W*$",
    re.IGNORECASE,
)


def kind_of(word: str) -> str:
    """Return a type in declaration form: "CODING / TDD" is ``coding``; empty without such a word."""
    first = re.split(r"\s*[/,+|(]\s*|\s+[-–—&]\s+", word.strip())[0]
    found = re.sub(r"[^a-z0-9_]+", "-", first.casefold()).strip("-_")
    return found if re.fullmatch(r"[a-z][a-z0-9_-]*", found) and len(found) <= _LONGEST_TYPE else ""


def priority_of(word: str) -> str:
    """Return a priority, P0 to P3; critical, high, medium and low are these four; empty if it is none."""
    text = plain(word).casefold().strip()
    match = re.search(r"\bp([0-4])\b", text)
    return _PRIORITY_WORDS.get(f"p{match[1]}" if match else re.sub(r"[^\w ]", "", text).strip(), "")


def size_of(word: str) -> str:
    """Return a size, S, M or L; XS is S, XL is L; empty if it is none."""
    return _SIZES.get(plain(word).casefold().strip(), "")


def status_of(word: str) -> State:
    """Return the meaning of a status word, mark or sentence."""
    text = plain(word).strip()
    if _OPEN.match(text):
        return ""
    return next((state for state, pattern in _STATES if pattern.search(text)), "other")


def status_note(name: str, status: str, line: int, file: str = "") -> Note | None:
    """Return a note on a status that is not imported, or that has more details than "done"; else None."""
    state = status_of(status)
    if state in {"other", "skipped"}:
        text = f'{name}: the status "{flat(status)}" was not taken over; it is pending here'
        return Note(line, text, "a status that was not taken over", file)
    if state == "done" and not _DONE_ALONE.match(plain(status)):
        text = f'{name}: the status "{flat(status)}" was read as done'
        return Note(line, text, "a status that was read as done", file)
    return None


def without_status(title: str) -> tuple[str, bool]:
    """Return a title without its "done" mark, and whether it had one."""
    bare = _TAIL.sub("", _HEAD_MARK.sub("", title))
    return (bare, True) if bare.strip() and bare != title else (title, False)
