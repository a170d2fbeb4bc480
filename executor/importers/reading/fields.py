"""A task in Markdown: its heading, its labelled fields, and claims of a plan that it is completed. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.importers.draft import Notes, listed
from executor.importers.reading.markdown import flat, plain
from executor.importers.reading.words import State, status_of, without_status, word_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.importers.reading.markdown import Document, Item, Section

__all__ = [
    "MILESTONE",
    "TASK",
    "Fields",
    "Head",
    "Labelled",
    "Tracking",
    "fields_of",
    "files_in",
    "goal_of",
    "head_of",
    "label_key",
    "labelled",
    "meaning",
    "own_section",
    "tracking_of",
]


_LABEL = re.compile(
    r"^(\s*)(?:[-*+]\s+)?(?:\[[ xX]\]\s+)?(?:\*\*|__|\*|_)([A-Za-z][^*_:`]{0,60}?)\s*(?::\s*(?:\*\*|__|\*|_)|(?:\*\*|__|\*|_)\s*(?:\([^()]*\)\s*)?:)\s*(.*)$"
)
_BOLD = re.compile(r"^(\s*)(?:[-*+]\s+)?\*\*([A-Za-z][^*:`]{0,60}?)\*\*\s*$")
_PLAIN = re.compile(r"^(\s*)(?:[-*+]\s+)?([A-Za-z][A-Za-z ()/.]{1,40}?)\s*:(?!//)\s*(.*)$")
_UNDER = re.compile(r"^(\s*)(?:[-*+]\s+)?_([A-Za-z][^:_]{1,40}):\s*(.*?)_\s*$")
_ITEM = re.compile(r"^(\s*)(?:[-*+]|\d+[.)])\s+(?:\[[ xX]\]\s*)?(.*\S)")
_CODE = re.compile(r"`([^`]+)`")
_NONE = frozenset(
    {"", "-", "--", "—", "–", "none", "n/a", "na", "nothing", "no", "tbd", "none.", "(none)", "nil", "keine"}
)
_PATH = re.compile(r"[\w@.*?\[\]+-]+(?:/[\w@.*?\[\]+-]+)*/?")
_NO_PATHS = frozenset({"n/a", "and/or", "e.g", "i.e", "e.g.", "i.e."})
_BARE_FILES = frozenset(
    {"dockerfile", "makefile", "license", "justfile", "procfile", "gemfile", "rakefile", "cargo.lock"}
)
# Meaning -> the labels in lower case.
_MEANINGS = {
    "files": (
        "file|files|file(s)|expected files|files created|files modified|files to create|files to modify|"
        "files to change|files changed|files affected|affected files|new files|new file|modified files|"
        "files to create/modify|files to modify/create|target files|target file|owned files|"
        "expected files to create/modify|files touched|files to touch"
    ),
    "type": "type|task type|kind",
    "needs": (
        "dependencies|dependency|depends on|depends|blocked by|prerequisites|prerequisite|requires|needs|"
        "depends-on|depends_on|after"
    ),
    "priority": "priority",
    "size": "size|est. size|estimate size",
    "accept": (
        "acceptance criteria|acceptance|success criteria|definition of done|done when|ac|acceptance criterion|"
        "exit criteria|done criteria|acceptance criteria checklist|dod"
    ),
    "number": "github issue|github issue #|issue number|github",
    "agent": "agent|assigned agent",
    "status": "status|state|current status",
    "branch": "branch|milestone branch|feature branch|git branch",
    "goal": "goal|objective|milestone goal",
    "builds_on": "builds on|depends on milestone|depends on milestones|milestone dependencies|previous milestone",
}
_KEYS = {word: key for key, words in _MEANINGS.items() for word in words.split("|")}
# Words that start sentences so often that they are labels only in bold.
_BOLD_ONLY = frozenset(
    {"after", "needs", "ac", "agent", "kind", "state", "github", "requires", "depends", "goal", "branch", "acceptance"}
)


@dataclass(slots=True)
class Labelled:
    """A field in its source form.

    Attributes:
        line: line of the label.
        label: the label in lower case, without its remark in parentheses.
        key: its meaning, a result of `meaning`, or empty.
        value: the text on the label's line and its continuation lines.
        items: the items of the list below it, or the paragraphs.
        lines: its lines.
    """

    line: int
    label: str
    key: str
    value: str = ""
    items: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Fields:
    """The fields of a task.

    Attributes:
        values: keys of an issue's declaration: type, files, priority, size, accept, number, agent.
        needs: the text of its dependencies.
        needs_line: line of that text.
        state: the meaning of its status.
        status: its status in source form.
        notes: parts that were not understood.
    """

    values: dict[str, object] = field(default_factory=dict)
    needs: str = ""
    needs_line: int = 0
    state: State = ""
    status: str = ""
    notes: Notes = field(default_factory=Notes)


def label_key(label: str) -> str:
    """Return a label in lower case, without a remark in parentheses and without emoji."""
    bare = re.sub(r"\s+\([^)]*\)\s*$", "", label.strip().rstrip(":").strip())
    return flat(re.sub(r"^[^\w(]+", "", plain(bare))).casefold().strip("* :")


def meaning(label: str) -> str:
    """Return a label's meaning: files, type, needs, priority, size, accept, number, agent, status, ...; or empty."""
    return _KEYS.get(label_key(label), "")


def goal_of(part: Section) -> str:
    """Return the goal that a section states; empty without one."""
    return next((flat(item.value) for item in labelled(part.prose()) if item.key == "goal"), "")


def labelled(lines: Sequence[tuple[int, str]]) -> Iterator[Labelled]:
    """Yield fields in the form ``**Label:** value``, ``- Label: value`` or ``_Label: value_``.

    A value ends at a blank line, a list or the next label. The items are those of the list below the label.
    """
    current: Labelled | None = None
    state = "none"
    indent = 0
    for number, line in lines:
        found = _label(line)
        if found is not None and not (current is not None and state == "items" and not found[3] and found[0] > indent):
            if current is not None:
                yield current
            indent = found[0]
            current, state = Labelled(number, label_key(found[1]), meaning(found[1]), found[2].strip()), "value"
            current.lines.append(number)
            continue
        if current is None:
            continue
        state = _continue(current, state, line)
        if state in {"value", "items"}:
            current.lines.append(number)
    if current is not None:
        yield current


def _label(line: str) -> tuple[int, str, str, bool] | None:
    """Return indent, label, value and whether the label is a known one."""
    match = _LABEL.match(line) or _UNDER.match(line)
    if match:
        return len(match[1]), match[2], match[3], bool(meaning(match[2]))
    match = _BOLD.match(line)
    if match and meaning(match[2]):
        return len(match[1]), match[2], "", True
    match = _PLAIN.match(line)
    if match and meaning(match[2]) and label_key(match[2]) not in _BOLD_ONLY:
        return len(match[1]), match[2], match[3], True
    return None


def _continue(current: Labelled, state: str, line: str) -> str:
    """Add a line to a field; the state is value, gap (blank lines behind the value), items or end."""
    item = _ITEM.match(line)
    if state == "end":
        return state
    if item and (state in {"value", "gap"} or state == "items"):
        current.items.append(item[2])
        return "items"
    if not line.strip():
        return "gap" if state == "value" else state
    if state == "value":
        current.value = f"{current.value} {line.strip()}".strip()
        return state
    if state == "items" and line.startswith((" ", "\t")):
        current.items[-1] = f"{current.items[-1]} {line.strip()}"
        return state
    return "end"


def fields_of(parts: Sequence[Section], name: str = "") -> Fields:
    """Return the fields in the sections of a task; the first section is the task's own.

    Args:
        parts: the sections.
        name: the id of the task, for notes.
    """
    found = Fields()
    who = f"{name}: " if name else ""
    for part in parts:
        raw = list(labelled(part.prose()))
        key = meaning(part.title) if part is not parts[0] else ""
        if key in {"accept", "files", "needs"}:
            raw.insert(0, Labelled(part.line, label_key(part.title), key, "", _paragraphs(part)))
        for item in raw:
            _take(found, item, who)
    return found


def _paragraphs(part: Section) -> list[str]:
    """Return the items of a section's lists, or its paragraphs without lists, and the rows of its tables."""
    items: list[str] = []
    text: list[str] = []
    for _, line in [*part.prose(), (0, "")]:
        match = _ITEM.match(line)
        if match:
            items.append(match[2])
        elif items and line.startswith((" ", "\t")) and line.strip():
            items[-1] = f"{items[-1]} {line.strip()}"
        elif _label(line) is not None:
            break
        elif not items:
            text.append(line.strip())
    if not items:
        items = [flat(block) for block in "\n".join(text).split("\n\n") if block.strip(" -*_\n")]
    return items + [
        ": ".join(filter(None, map(plain, row.cells.values()))) for table in part.tables for row in table.rows
    ]


def _take(found: Fields, item: Labelled, who: str) -> None:
    key = item.key
    if key == "needs":
        text = " ".join([item.value, *(f", {one}" for one in item.items)]).strip(" ,")
        if text:
            found.needs = f"{found.needs}, {text}" if found.needs else text
            found.needs_line = found.needs_line or item.line
    elif key == "status" and item.value:
        if not found.status:
            found.status, found.state = flat(plain(item.value)), status_of(item.value)
    elif key == "accept":
        texts = [flat(one) for one in [item.value, *item.items]]
        found.values["accept"] = list(
            dict.fromkeys([*listed(found.values, "accept"), *(text for text in texts if text.casefold() not in _NONE)])
        )
    elif key == "files":
        paths, odd = files_in([item.value, *item.items])
        found.values["files"] = list(dict.fromkeys([*listed(found.values, "files"), *paths]))
        if odd:
            text = f"{who}not imported as files: {', '.join(odd)}"
            found.notes.add(item.line, text, "not imported as files")
    elif key in {"type", "priority", "size", "number", "agent"} and key not in found.values:
        _word(found, key, item, who)


def _word(found: Fields, key: str, item: Labelled, who: str) -> None:
    word = plain(re.sub(r"\s*\([^)]*\)\s*$", "", item.value)).strip()
    if word.casefold() in _NONE:
        return
    if key == "number":
        digits = re.search(r"(?:#|issues/|^)(\d+)\b", item.value)
        if digits and int(digits[1]):
            found.values["number"] = int(digits[1])
        return
    if key == "agent":
        found.values["agent"] = word
    elif value := word_of(key, word, who, found.notes, item.line):
        found.values[key] = value
        if key == "type" and value != word.casefold():
            found.notes.add(item.line, f'{who}the type "{word}" became "{value}"', "a type was shortened")


def files_in(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the paths in some texts, and path-like words that a declaration does not accept.

    Paths are texts in back quotes, and words with a slash or a suffix.
    """
    found: list[str] = []
    odd: list[str] = []
    for text in texts:
        coded = _CODE.findall(text)
        rest = re.sub(r"^\s*(?:\*\*)?[A-Za-z ]+(?:\*\*)?\s*:\s+", " ", _CODE.sub(" ", text))
        rest = re.sub(r"\([^)]*\)", " ", rest)
        words = [word.strip(" ,;:\"'*") for word in re.split(r"\s+|,(?!\S*\})", rest)]
        bare = [word for word in words if _like_a_path(word)]
        for word in [*coded, *bare]:
            path = re.sub(r"(?::\d+(?:-\d+)?|#L\d+(?:-L?\d+)?)$", "", word.strip())
            path = path.removeprefix("./")
            if _PATH.fullmatch(path) and not path.startswith("/") and ".." not in path.split("/"):
                found.append(f"{path}**" if path.endswith("/") else path)
            elif path.casefold() not in _NONE:
                odd.append(word)
    return list(dict.fromkeys(found)), odd


def _like_a_path(word: str) -> bool:
    if word.casefold() in _BARE_FILES:
        return True
    if "://" in word or not re.search(r"[A-Za-z]", word) or word.casefold() in _NO_PATHS:
        return False
    return (
        "/" in word.strip("/")
        or bool(re.fullmatch(r"[\w.*{}<>\[\]-]*\.[A-Za-z][A-Za-z0-9]{0,5}", word))
        or word.endswith("/")
    )


_ID = r"[A-Za-z]{0,3}\d+[A-Za-z]?(?:[.-]\d+[A-Za-z]?)*(?![\w])(?!\.\d)|[A-Z]{1,2}\d*(?=\s*[:.–—-])|[A-Z]{1,2}\.\d+(?![\w.])"
_HEAD = r"^(?:\[[ xX]\]\s*)?(?:[^\w\s\[(~`*]+\s*)?\[?{unit}(?:s[\s#]+|[\s#:_-]+|s?(?=\d))({id})\]?\s*(?:[:.)–—-]+\s*|\s+|$)(.*)$"
# An id stands apart from its unit unless it begins with a digit: "Tasks: sync" names no task "s".
TASK = re.compile(_HEAD.format(unit="Task", id=_ID), re.IGNORECASE)
MILESTONE = re.compile(_HEAD.format(unit="Milestone", id=_ID), re.IGNORECASE)
_WORDS = {"to", "of", "in", "a", "an", "is", "as", "at", "on", "or", "by", "if", "we", "it", "do", "go"}


@dataclass(slots=True)
class Head:
    """A task heading: its id, its title, and the meaning of its marks."""

    id: str
    title: str
    done: bool = False
    struck: bool = False


def head_of(title: str, pattern: re.Pattern[str] = TASK) -> Head | None:
    """Return the task of a heading; None if it names none."""
    struck = title.strip().startswith("~~")
    match = pattern.match(plain(title.replace("~~", "")))
    if match is None or (not match[1].isupper() and match[1].casefold() in _WORDS):
        return None
    rest = match[2]
    bare, done = without_status(rest)
    if re.match(r"^\W*(?:\[[xX]\]|[✅☑✔])", title.strip()):
        done = True
    return Head(match[1], plain(bare.replace("~~", "").strip()), done, struck)


_KINDS = (
    ("done", re.compile(r"^completed? issues?|^done\b", re.IGNORECASE)),
    ("stopped", re.compile(r"^blocked|needs review|^stopped", re.IGNORECASE)),
    ("skipped", re.compile(r"^skipped", re.IGNORECASE)),
    ("pulls", re.compile(r"^open (?:prs?|pull requests?)", re.IGNORECASE)),
    ("now", re.compile(r"^current phase", re.IGNORECASE)),
)
_SAMPLE = re.compile(
    r"^(?:\(none\)|none\b|\**(?:enhanced|standard|code review findings)?\s*\**format)|[{][^}]*[}]|<[A-Z_]+>|#XX",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"#?\(?(?:plan\s+)?#([\w.]+)|^\W*([A-Za-z]?\d[\w.]*)")
_OWN = re.compile(r"<!-- milestone \S+: (?:begin|end) -->")


@dataclass(slots=True)
class Tracking:
    """The claims of a plan: ids of finished issues, of stopped or skipped ones with the reason, the section's lines."""

    done: set[str] = field(default_factory=set)
    stopped: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    lines: set[int] = field(default_factory=set)


def own_section(part: Section) -> bool:
    """Return whether a section was written by `doit export`, which is never read back."""
    return bool(re.match(r"^Tracking: \S+ - ", part.title))


def tracking_of(doc: Document, order: Sequence[str], notes: Notes) -> Tracking:
    """Return the claims of a plan's progress sections.

    Args:
        doc: the plan.
        order: the ids of its issues.
        notes: receives parts that were not understood.
    """
    found = Tracking()
    written = False
    for part in doc.sections:
        if any(_OWN.search(line) and "begin" in line for _, line in part.lines):
            written = True
        kind = next((kind for kind, pattern in _KINDS if pattern.search(plain(part.title))), "")
        if kind and not written and not own_section(part):
            for item in part.items:
                _claim(kind, item, found, order, notes)
        if kind or re.match(r"^tracking\b", part.title, re.IGNORECASE):
            found.lines.add(part.line)
            doc.account.inform(part.numbers(), "since it tracks progress, which is read from git")
        if any(_OWN.search(line) and "end" in line for _, line in part.lines):
            written = False
    return found


def _claim(kind: str, item: Item, found: Tracking, order: Sequence[str], notes: Notes) -> None:
    if _SAMPLE.search(item.text):
        return
    names = _names(item.text, order)
    if kind == "done":
        if item.ticked or status_of(item.text) == "done":
            found.done.update(names[:1])
            if not names:
                notes.add(item.first, f'"{plain(item.text)}" is ticked, but is not an issue of this plan')
    elif kind in {"stopped", "skipped"}:
        reason = _reason(item)
        if not names:
            notes.add(item.first, f'{kind}: "{plain(item.text)}" names no issue of this plan')
        elif kind == "stopped":
            found.stopped[names[0]] = reason
        else:
            found.skipped[names[0]] = reason
    elif kind == "pulls":
        text = f'the open pull request "{plain(item.text)}" was not imported'
        notes.add(item.first, text, "open pull requests that were not imported")


def _names(text: str, order: Sequence[str]) -> list[str]:
    known = {name.casefold(): name for name in order} | {name.casefold().lstrip("0"): name for name in order}
    # A finding's heading has the forge's number first and the plan's in parentheses, which counts.
    hits = re.findall(r"\(plan #([\w.]+)\)", text) + [one or other for one, other in _NUMBER.findall(plain(text))]
    return [known[hit.casefold().strip(".")] for hit in hits if hit.casefold().strip(".") in known]


def _reason(item: Item) -> str:
    parts = re.split(r"\s+[—–-]\s+", plain(item.text))
    words = [part for part in parts[1:] if re.match(r"^(?:STOP|Skipped|Needs|Reason)\b", part, re.IGNORECASE)]
    lines = [
        child.text
        for child in item.children
        for child in child.walk()
        if re.match(r"^\**(?:Reason|Needs|Fix)\b", child.text, re.IGNORECASE)
    ]
    text = "; ".join([*words, *map(plain, lines)]) or plain(item.text)
    return flat(re.sub(r"^(?:STOP|Skipped)\s*:\s*", "", text, flags=re.IGNORECASE))
