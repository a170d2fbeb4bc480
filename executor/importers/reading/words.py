"""Words of plans with a defined meaning: status, priority, size, type. Pure.

Dependencies in words: ids, ranges of ids, "all tasks before", negations, and other text. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from executor.importers.draft import Note, Notes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "Ids",
    "Needs",
    "State",
    "flat",
    "kind_of",
    "milestones_in",
    "needs_in",
    "pending_note",
    "plain",
    "priority_of",
    "size_of",
    "status_notes",
    "status_of",
    "without_status",
    "word_of",
]


_LINK = re.compile(r"!?\[([^\]]*)\]\([^()]*\)")
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
_LONGEST_TYPE = 32  # characters of a type; longer ones are sentences
_DONE_ALONE = re.compile(
    r"^\W*(?:done|completed?|closed|finished|landed|merged|shipped|implemented|resolved|fixed|released|conclu[ií]d[ao]|erledigt|true|x)?\W*$",
    re.IGNORECASE,
)


def plain(text: str) -> str:
    """Remove surrounding Markdown marks: links become their text, marks are removed in pairs only."""
    bare = _LINK.sub(r"\1", text).strip()
    while True:
        for mark in ("**", "__", "~~", "*", "_", "`"):
            inner = bare[len(mark) : -len(mark)]
            # A mark inside belongs to another pair: "`a` and `b`", "__init__ and x__".
            if len(bare) > 2 * len(mark) and bare.startswith(mark) and bare.endswith(mark) and mark[0] not in inner:
                if mark == "__" and inner.isidentifier():
                    return bare
                bare = inner.strip()
                break
        else:
            return bare


def flat(text: str) -> str:
    """Return text with single spaces."""
    return " ".join(text.split())


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


_READERS: Mapping[str, tuple[Callable[[str], str], str]] = {
    "priority": (priority_of, "P0, P1, P2, P3"),
    "size": (size_of, "S, M, L"),
    "type": (kind_of, "a word"),
}


def word_of(key: str, word: str, who: str, notes: Notes, line: int, file: str = "") -> str:
    """Return a priority, a size or a type; empty, with a note, if the word is none."""
    read, allowed = _READERS[key]
    value = read(word)
    if not value:
        kind = f"{key} that is not {allowed}"
        notes.add(line, f'{who}{key} "{word}" is not {allowed} and was left out', kind, file)
    return value


def status_of(word: str) -> State:
    """Return the meaning of a status word, mark or sentence."""
    text = plain(word).strip()
    if _OPEN.match(text):
        return ""
    return next((state for state, pattern in _STATES if pattern.search(text)), "other")


def pending_note(name: str, status: str, line: int, file: str = "") -> Note:
    """Return the note on a status that has no counterpart here."""
    text = f'{name}: the status "{flat(status)}" was not imported; it is pending here'
    return Note(line, text, "a status that was not imported", file)


def status_notes(name: str, status: str, line: int, file: str = "") -> list[Note]:
    """Return a note on a status that is not imported, or that has more details than "done"; else none."""
    state = status_of(status)
    if state in {"other", "skipped"}:
        return [pending_note(name, status, line, file)]
    if state == "done" and not _DONE_ALONE.match(plain(status)):
        text = f'{name}: the status "{flat(status)}" was read as done'
        return [Note(line, text, "a status that was read as done", file)]
    return []


def without_status(title: str) -> tuple[str, bool]:
    """Return a title without its "done" mark, and whether it had one."""
    bare = _TAIL.sub("", _HEAD_MARK.sub("", title))
    return (bare, True) if bare.strip() and bare != title else (title, False)


_NONE = frozenset({"", "-", "--", "—", "–", "none", "n/a", "na", "nothing", "no", "tbd", "null", "[]", "nil", "(none)"})
_NOTHING = re.compile(
    r"[*_`\s]*(?:none|n/a|nothing|no dependenc(?:y|ies))\b[*_`\s]*(?:[.(,;:–—-].*)?$", re.IGNORECASE | re.DOTALL
)
_DENIED = re.compile(r"\b(?:not?|no longer|n't|independent of|without|except|unlike|never|instead of)\b", re.IGNORECASE)
_SOFT = re.compile(
    r"\b(?:optional(?:ly)?|soft|nice to have|can run with|parallel with|in parallel|related|enables|blocks)\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"#?[A-Za-z]{0,12}[-_]?\d[\w]*(?:[.\-/_]\w+)*")
_RANGE_WORD = r"\s*(?:-|–|—|‑|\.{2,3}|…|through|thru|to|bis|until)\s*"
_BEFORE = re.compile(
    r"\b(?:all|every|the)\s+(?:(?:of\s+)?the\s+)?(?:previous|prior|earlier|above|preceding|other)\b|\ball (?:tasks|issues)?\s*above\b|\ball tasks\b",
    re.IGNORECASE,
)
_LAST = re.compile(r"\b(?:the\s+)?(?:previous|preceding|prior)\s+(?:task|issue|step|one)\b(?!s)", re.IGNORECASE)
_EXPLICIT = re.compile(r"(?:\b(?:tasks?|issues?|stor(?:y|ies)|steps?|wp|work packages?)\s*[:#]?\s*|#)$", re.IGNORECASE)
# Words before a bare number that is an id; after any other word it is a version, a phase, a date.
_BEFORE_ID = frozenset(
    [
        *("task", "tasks", "issue", "issues", "story", "stories", "step", "steps", "milestone", "milestones"),
        *("and", "or", "to", "on", "after", "needs", "need", "by", "both", "from", "with", "through", "thru"),
        *("item", "items", "ticket", "tickets", "wp", "until", "plus", "requires", "require", "completes"),
        *("complete", "finish", "of"),
    ]
)
_ID_ALONE = re.compile(r"[A-Za-z]{0,3}\d+[a-z]?(?:\.\d+[a-z]?)+|[A-Z]+-\d+|[A-Z]{1,3}\d+")
_MILESTONE = re.compile(
    r"\bmilestones?\s+(\d+(?:\.\d+)*[a-z]?)\b|\bM(\d+(?:\.\d+)*[a-z]?)\b(?!\s*[/.]?\s*(?:task|issue))", re.IGNORECASE
)
_WORDS = re.compile(
    r"\b(?:and|or|tasks?|issues?|milestones?|stories|story|steps?|both|from|needs?|after|depends on|blocked by|complete[d]?|done|must be|be|is|are|hard)\b|\.(?!\d)|[,;&+`*()\[\]\"':#/|✅→]|-(?=\s|$)",
    re.IGNORECASE,
)


class Ids:
    """The ids of a plan, prepared for many queries: in order, by spelling variants, by shape."""

    def __init__(self, order: Sequence[str]) -> None:
        self.order = list(order)
        self.places = {name: place for place, name in enumerate(self.order)}
        self.known = _known(self.order)
        self.shapes = {_shape(name) for name in self.order}

    def before(self, name: str) -> list[str]:
        """Return the ids before one; all of them if the plan lacks it."""
        return self.order[: self.places.get(name, len(self.order))]

    def between(self, first: str, last: str) -> list[str]:
        """Return the ids from one to another, inclusive, in plan order."""
        places = sorted((self.places[first], self.places[last]))
        return self.order[places[0] : places[1] + 1]


@dataclass(slots=True)
class Needs:
    """The meaning of a dependency text.

    Attributes:
        names: ids of the plan, in the order of the text.
        unknown: ids that it names explicitly but the plan lacks.
        milestones: numbers of named milestones.
        rest: parts that were not understood.
    """

    names: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    milestones: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)


def milestones_in(text: str) -> list[str]:
    """Return the milestones in a text as ids: ``m2``, ``m3``; ranges such as M1-M3 are expanded."""
    found: list[str] = []
    for first, last in re.findall(r"\bM(\d{1,3})\s*(?:-|–|—|to|through)\s*M?(\d{1,3})\b", text, re.IGNORECASE):
        found += [f"m{number}" for number in range(int(first), min(int(last), int(first) + 100) + 1)]
    found += [f"m{one or other}" for one, other in _MILESTONE.findall(text)]
    return list(dict.fromkeys(name.casefold() for name in found))


def needs_in(
    text: str, order: Ids | Sequence[str], own: str = "", groups: Mapping[str, Sequence[str]] | None = None
) -> Needs:
    """Return the dependencies in a text.

    Args:
        text: the text in the plan.
        order: the ids of the plan, in order.
        own: the id of the issue itself.
        groups: further names, in lower case, of several issues: ``phase 1``.
    """
    found = Needs()
    if flat(text).strip(" .*_`").casefold() in _NONE:
        return found
    if _NOTHING.match(text.strip()):
        return found
    ids = order if isinstance(order, Ids) else Ids(order)
    known = ids.known
    bare = re.sub(r"\(([^)]*)\)", lambda hit: f" ({hit[1]}) " if _only_ids(hit[1], known) else " ", text)
    if not _TOKEN.search(bare) and not _BEFORE.search(bare) and not _LAST.search(bare):
        bare = text.replace("(", " ").replace(")", " ")
    for clause in re.split(r"[;\n]|,(?=\s*(?:but|not|no)\b)|\bbut\b|(?<=[a-z0-9])\.\s+(?=[A-Z])", bare):
        _clause(clause, found, ids, own, groups or {})
    found.names = list(dict.fromkeys(found.names))
    found.unknown = list(dict.fromkeys(found.unknown))
    return found


def _only_ids(text: str, known: Mapping[str, str]) -> bool:
    return all(_found(word, known) for word in re.split(r"[\s,]+|and", text) if word)


def _clause(clause: str, found: Needs, ids: Ids, own: str, groups: Mapping[str, Sequence[str]]) -> None:
    text = clause.strip()
    if not text or flat(text).strip(" .").casefold() in _NONE:
        return
    if _DENIED.search(text) or _SOFT.search(text):
        found.rest.append(flat(text))
        return
    before = ids.before(own)
    if _LAST.search(text):
        found.names += before[-1:]
        text = _LAST.sub(" ", text)
    elif _BEFORE.search(text):
        found.names += before
        text = _BEFORE.sub(" ", text)
    for name, members in groups.items():
        pattern = re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE)
        if pattern.search(text):
            found.names += members
            text = pattern.sub(" ", text)
    text = _ranges(text, found, ids)
    text = _tokens(text, found, ids)
    rest = flat(_WORDS.sub(" ", text)).strip(" -–—.")
    if rest and rest.casefold() not in _NONE:
        found.rest.append(rest)


def _ranges(text: str, found: Needs, ids: Ids) -> str:
    """Remove the ranges from the text and record them."""
    end = r"#?(?:tasks?\s+|issues?\s+)?#?([A-Za-z]{0,12}[-_]?\d\w*(?:\.\w+)*)"

    known = ids.known

    def taken(hit: re.Match[str]) -> str:
        if _found(hit[0].strip(), known):
            return hit[0]
        first, last = _found(hit[1], known), _found(hit[2], known)
        if not first or not last:
            return hit[0]
        found.names.extend(ids.between(first, last))
        return " "

    return re.sub(rf"(?<![\w.]){end}{_RANGE_WORD}{end}(?![\w])", taken, text, flags=re.IGNORECASE)


def _tokens(text: str, found: Needs, ids: Ids) -> str:
    known, shapes = ids.known, ids.shapes
    # Only ids: each counts as one, although this plan lacks it.
    only = not re.search(r"[^\W\d]{2,}", _WORDS.sub(" ", _TOKEN.sub(" ", text)))

    def taken(hit: re.Match[str]) -> str:
        word = hit[0].rstrip(".-/_")
        name = _found(word, known)
        if name and not _in_prose(word, text[: hit.start()]):
            found.names.append(name)
            return " "
        explicit = bool(_EXPLICIT.search(text[: hit.start()])) or word.startswith("#")
        number = re.fullmatch(r"M(\d+(?:\.\d+)*[a-z]?)", word, re.IGNORECASE)
        if number or re.search(r"\bmilestones?\s+$", text[: hit.start()], re.IGNORECASE):
            found.milestones.append(f"m{number[1] if number else word}".casefold())
            return " "
        bare = word.lstrip("#")
        if "/" in bare and explicit is False and not re.fullmatch(r"[A-Za-z]\w*/\d[\w.]*", bare):
            return hit[0]
        # A number in the shape of this plan's ids is one; "Python 3.11" is not, "4.O" is a typing error.
        if (
            explicit
            or "/" in bare
            or (only and _ID_ALONE.fullmatch(bare))
            or (_shape(bare) in shapes and not re.search(r"[A-Za-z]{2,}\s+$", text[: hit.start()]))
        ):
            found.unknown.append(bare)
            return " "
        return hit[0]

    return _TOKEN.sub(taken, text)


def _in_prose(word: str, before: str) -> bool:
    """Return whether a number follows a word that makes it no id: ``Python 3.11``, ``phase 1``."""
    last = re.search(r"([A-Za-z]{2,})\s+$", before)
    return word[0].isdigit() and last is not None and last[1].casefold() not in _BEFORE_ID


def _shape(name: str) -> str:
    """Return the shape of an id: its first part, and digits as placeholders in the others."""
    first, *rest = name.casefold().split(".")
    if not rest:
        return re.sub(r"\d+", "0", first) if not first.isdecimal() else "0" * len(first)
    return ".".join([first, *("0" for _ in rest)])


def _known(order: Sequence[str]) -> dict[str, str]:
    """Map spelling variants to ids; a variant that two ids share is omitted."""
    found: dict[str, str] = {name: name for name in order}
    loose: dict[str, set[str]] = {}
    for name in order:
        # The last part alone, "0004" for story-0016-0004, is the short form in dependency tables.
        for way in (name.casefold(), _bare(name), name.casefold().rpartition("-")[2]):
            loose.setdefault(way, set()).add(name)
    for way, names in loose.items():
        if len(names) == 1:
            found.setdefault(way, next(iter(names)))
    return found


def _bare(name: str) -> str:
    """Return an id without case and leading zeros: ``#01`` and ``1`` are equal."""
    return ".".join(part.lstrip("0") or "0" for part in name.casefold().lstrip("#").split("."))


def _found(word: str, known: Mapping[str, str]) -> str:
    bare = word.strip(" `*.,")
    for way in (bare, bare.lstrip("#"), bare.casefold().lstrip("#"), _bare(bare)):
        if way in known:
            return known[way]
    return ""
