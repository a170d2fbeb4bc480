"""A draft: a milestone as another format describes it, before it becomes a declaration. Pure.

Restricts what a plan may declare about its own checks: nothing that weakens them, unless a person trusts it. Pure.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from executor.errors import Fault
from executor.importers.report import Account, Note
from executor.importers.source import Source
from executor.model.hints import Known, quoted
from executor.model.milestone import Issue
from executor.model.paths import is_test, matches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from executor.model.policy import Policy

__all__ = [
    "OWN_FORMATS",
    "Draft",
    "DraftIssue",
    "Note",
    "Reviewed",
    "Source",
    "Tree",
    "declared_keys",
    "draft_faults",
    "milestone_id",
    "reviewed",
    "slug",
    "tests_among",
]


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBERED = re.compile(
    r"(?:^\W*(?:implementation plan\W+)?(?:milestone[\s_-]+|m)(\d+(?:\.\d+)*[a-z]?)(?![A-Za-z0-9])"
    r"|[:–—|-]\s+(?:milestone\s+|m)(\d+(?:\.\d+)*[a-z]?)\s*(?:[:–—-]|$))",
    re.IGNORECASE,
)
_REQUEST = re.compile(r"\brequest[\s_#-]+(\d+)\b", re.IGNORECASE)
_LONGEST_SLUG = 48  # characters; an id is typed in commands
_LONGEST_ID = 64  # characters; ids of other tools are longer than ours, and are kept


@dataclass(frozen=True, slots=True)
class DraftIssue:
    """An issue.

    Attributes:
        id: its id in the format.
        title: one line.
        text: its specification, Markdown.
        line: its line; 0 if unknown.
        fields: keys of an issue's declaration besides id, title and spec; only those in the plan.
        done: the plan marks it as done.
        hold: why it waits for a person according to the plan; empty if it does not.
        outside: needed ids that are not in the plan.
    """

    id: str
    title: str
    text: str
    line: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False
    hold: str = ""
    outside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A milestone.

    Attributes:
        id: proposed id; empty without one.
        title: one line; empty without one.
        fields: keys of the milestone's declaration besides id and title.
        phases: names and goals.
        issues: its issues, in the order of the source.
        epic: text of its epic; empty without one.
        notes: parts that were not understood, and unproved claims.
        faults: faults that prevent the import.
        overview: the text of the plan outside of all issues.
        after: ids of milestones that the plan builds on; undeclared ones are reported.
        whole: the source is the whole plan: a need that it lacks is a fault. In filtered lists of issues it is not.
        accounts: accounts of the lines of its files.
    """

    id: str
    title: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    phases: tuple[tuple[str, str], ...] = ()
    issues: tuple[DraftIssue, ...] = ()
    epic: str = ""
    notes: tuple[Note, ...] = ()
    faults: tuple[Fault, ...] = ()
    overview: str = ""
    after: tuple[str, ...] = ()
    whole: bool = True
    accounts: tuple[Account, ...] = ()


def listed(values: Mapping[str, object], key: str) -> list[Any]:
    """Return the items of a list among the keys of a declaration; none without a list."""
    found = values.get(key)
    return list(found) if isinstance(found, list | tuple) else []


def milestone_id(*texts: str) -> str:
    """Return the id at the start of the first text with one: ``Milestone 4: ...`` and ``M4_workers.md`` give ``m4``.

    ``Request 42`` anywhere in a text gives ``request-42``. A milestone only mentioned in a title gives none.
    """
    for text in texts:
        match = _NUMBERED.search(text.rpartition("/")[2].replace("_", " "))
        if match:
            return f"m{match[1] or match[2]}".casefold()
        match = _REQUEST.search(text.replace("_", " "))
        if match:
            return f"request-{match[1]}"
    return ""


def slug(text: str, longest: int = _LONGEST_SLUG) -> str:
    """Return a title as part of a file name."""
    words = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
    return words[:longest].rstrip("-")


def draft_faults(
    draft: Draft, source: str, elsewhere: Mapping[str, str], *, skip_unknown: bool = False
) -> Iterator[Fault]:
    """Yield the faults of a draft as a whole: no issues, duplicate or invalid ids, unknown needs.

    Args:
        draft: the draft.
        source: the name of its source, for messages.
        elsewhere: ids of issues of other milestones -> their qualified ids.
        skip_unknown: omit unknown needs.
    """
    yield from draft.faults
    if not draft.issues and not draft.faults:
        yield Fault(source, "", "it contains no issue; `doit import --formats` shows the formats")
    first: dict[str, int] = {}
    for issue in draft.issues:
        place = f"line {issue.line}" if issue.line else ""
        if not _ID.fullmatch(issue.id):
            yield Fault(
                source, place, f"{quoted(issue.id)} cannot be an id: letters, digits, dots, dashes, underscores"
            )
        if issue.id in first:
            where = f" in line {first[issue.id]}" if first[issue.id] else ""
            yield Fault(source, place, f"{quoted(issue.id)} is already the id of the issue{where}")
        first.setdefault(issue.id, issue.line)
    if skip_unknown or not draft.whole:
        return
    known = Known(first)
    for issue in draft.issues:
        place = f"line {issue.line}" if issue.line else ""
        for need in unknown_needs(issue, first, elsewhere):
            hint = known.hint(need) or "; --skip-unknown-needs leaves it out"
            yield Fault(source, place, f"unknown issue {quoted(need)}, needed by {quoted(issue.id)}{hint}")


def unknown_needs(issue: DraftIssue, own: Mapping[str, int], elsewhere: Mapping[str, str]) -> list[str]:
    """Return the needs of an issue that neither the plan nor any other milestone has."""
    needs: Sequence[str] = (*listed(issue.fields, "needs"), *issue.outside)
    qualified = set(elsewhere.values())
    return [need for need in needs if need not in own and need not in elsewhere and need not in qualified]


def unique_id(wanted: str, taken: Mapping[str, object] | set[str]) -> str:
    """Return an id derived from a text, different from the taken ones."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")[:_LONGEST_ID].strip("-._") or "1"
    name, number = base, 2
    while name in taken:
        name, number = f"{base[: _LONGEST_ID - 4]}-{number}", number + 1
    return name


OWN_FORMATS = frozenset({"json", "csv"})
_WEAKER = ("allow", "checks", "workflow", "with")
_COMMANDS = "_commands"


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The trusted part of a draft, and remarks on omitted parts."""

    draft: Draft
    notes: tuple[Note, ...]


def declared_keys() -> frozenset[str]:
    """Return the keys that an issue may declare."""
    return frozenset(info.alias or name for name, info in Issue.model_fields.items())


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of the repository that a plan may not declare without trust.

    Attributes:
        tests: paths of the existing tests.
        ignored: returns those of some paths that git ignores; they need not exist.
    """

    tests: Sequence[str] = ()
    ignored: Callable[[Collection[str]], Collection[str]] = frozenset


def reviewed(draft: Draft, policy: Policy | None, tree: Tree, *, trusted: bool, own: bool) -> Reviewed:
    """Remove from a draft what this repository does not know, and what would weaken its checks.

    Args:
        draft: the draft as read from the plan.
        policy: the rules; None if they are faulty.
        tree: the existing tests, and what git ignores.
        trusted: a person trusts the plan's own checks.
        own: the plan is an export of the executor, read value for value.
    """
    notes: list[Note] = []
    fields = {key: value for key, value in draft.fields.items() if key != _COMMANDS}
    if trusted and draft.fields.get(_COMMANDS):
        fields["accept"] = [*listed(fields, "accept"), *({"run": command} for command in draft.fields[_COMMANDS])]
    if "checks" in fields and not trusted and not own:
        text = f"checks = {fields.pop('checks')} of the milestone affects the judge and was left out; --trust takes it"
        notes.append(Note(0, text))
    names = {sample for issue in draft.issues for name in listed(issue.fields, "files") for sample in _samples(name)}
    ignored = tree.ignored(names) if names and not (trusted or own) else ()
    tree = replace(tree, ignored=lambda wanted: [name for name in wanted if name in ignored])
    issues = [_issue(issue, policy, tree, notes, trusted=trusted, own=own) for issue in draft.issues]
    return Reviewed(replace(draft, fields=fields, issues=tuple(issues)), tuple(notes))


def _issue(
    issue: DraftIssue, policy: Policy | None, tree: Tree, notes: list[Note], *, trusted: bool, own: bool
) -> DraftIssue:
    fields = dict(issue.fields)
    known = declared_keys()
    for key in [key for key in fields if key not in known]:
        said = fields.pop(key)
        if not key.startswith("_"):
            text = f"{issue.id}: {key} = {said} is not a key of an issue and was left out"
            notes.append(Note(issue.line, text, f"{key} is not a key of an issue and was left out"))
    if issue.hold and "hold" in known:
        fields["hold"] = issue.hold
    if own:
        weaker = [key for key in _WEAKER[:2] if key in fields]
        if weaker:
            said = ", ".join(f"{key} = {fields[key]}" for key in weaker)
            notes.append(Note(issue.line, f"{issue.id}: {said} weakens its judge", "keys that weaken the judge"))
        return replace(issue, fields=fields)
    _agents(issue, fields, policy, notes)
    if not trusted:
        _keys(issue, fields, notes)
        _type(issue, fields, policy, notes)
        _files(issue, fields, tree, notes)
    return replace(issue, fields=fields)


def _agents(issue: DraftIssue, fields: dict[str, object], policy: Policy | None, notes: list[Note]) -> None:
    """Remove an agent without a profile here, such as a plan's name of a role."""
    names = fields.get("agent")
    if policy is None or names is None:
        return
    wanted = [names] if isinstance(names, str) else listed(fields, "agent")
    unknown = [name for name in wanted if name not in policy.agents]
    if unknown:
        del fields["agent"]
        text = f'{issue.id}: the agent "{", ".join(map(str, unknown))}" is not a profile of rules/agents.toml and was left out'
        notes.append(Note(issue.line, text, "agents that are not profiles of rules/agents.toml, left out"))


def _keys(issue: DraftIssue, fields: dict[str, object], notes: list[Note]) -> None:
    for key in _WEAKER:
        if key in fields and not (key == "workflow" and fields[key] == "kiro"):
            said = fields.pop(key)
            text = f"{issue.id}: {key} = {said} affects the judge and was left out; --trust takes it"
            notes.append(Note(issue.line, text, f"{key} affects the judge and was left out; --trust takes it"))


def _type(issue: DraftIssue, fields: dict[str, object], policy: Policy | None, notes: list[Note]) -> None:
    """Remove a type whose route requires less than the default one."""
    if policy is None or "type" not in fields:
        return
    default = policy.route_of(Issue.model_validate({"id": "x", "title": "x", "body": "x", "type": "default"}))
    try:
        own = policy.route_of(Issue.model_validate({"id": "x", "title": "x", "body": "x", "type": fields["type"]}))
    except ValueError:
        return
    fewer = set(default.checks or ()) - set(own.checks or ())
    if fewer or (default.reviewer and not own.reviewer):
        what = ", ".join(sorted(fewer)) or f"the reviewer {default.reviewer}"
        text = f'{issue.id}: the route of type "{fields.pop("type")}" does not require {what}; the type was left out, --trust takes it'
        notes.append(Note(issue.line, text, "types whose routes require less, left out; --trust takes them"))


def _files(issue: DraftIssue, fields: dict[str, object], tree: Tree, notes: list[Note]) -> None:
    """Remove existing tests and ignored files from the declared files: those may be weakened, and these may be secret."""
    files = listed(fields, "files")
    tests = [name for name in files if any(_names(name, test) for test in tree.tests)]
    ignored = [name for name in files if name not in tests and tree.ignored(_samples(name))]
    if tests or ignored:
        fields["files"] = [name for name in files if name not in {*tests, *ignored}]
        if not fields["files"]:
            del fields["files"]
    for names, what in ((tests, "tests already"), (ignored, "ignored by git")):
        if names:
            kind = f"files that are {what}, left out; --trust takes them"
            text = f"{issue.id}: {', '.join(names)}: left out of files, {what}; --trust takes them"
            notes.append(Note(issue.line, text, kind))


def _names(glob: str, path: str) -> bool:
    plain = posixpath.normpath(glob)
    return fnmatchcase(path, plain) or path.startswith(f"{plain}/") or ("/" in plain and matches(path, [plain]))


def _samples(glob: str) -> set[str]:
    """Paths that a glob matches; an empty one is none."""
    plain = re.sub(r"\[[^\]]*\]|\?", "x", posixpath.normpath(glob)).removeprefix("/").replace("**/", "")
    return {plain.replace("*", sign) for sign in ("", "x")} - {"", "."}


def tests_among(paths: Sequence[str]) -> list[str]:
    """Return the paths that belong to tests, without texts for people."""
    return [path for path in paths if is_test(path) and not path.endswith((".md", ".rst"))]
