"""A draft: a milestone as another format describes it, before it is written as a declaration. Pure.

What a plan may say about its own judging: nothing that makes it easier, unless a person trusts the plan. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from executor.errors import Fault
from executor.importers.account import Account, Note
from executor.importers.source import Source
from executor.model.hints import Known, quoted
from executor.model.milestone import Issue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from executor.model.policy import Policy

__all__ = [
    "OWN_FORMATS",
    "Draft",
    "DraftIssue",
    "Note",
    "Reviewed",
    "Source",
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
_LONGEST_SLUG = 48
_LONGEST_ID = 64


@dataclass(frozen=True, slots=True)
class DraftIssue:
    """One issue.

    Attributes:
        id: as the format has it.
        title: one line.
        text: its specification, Markdown.
        line: where it stands, 0 if its place is unknown.
        fields: keys of an issue's declaration besides id, title and spec; only those that the format says.
        done: the plan says that it is done.
        hold: the plan says that it waits for a person, and why; empty if it does not.
        outside: ids that it needs and the plan does not have.
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
        id: proposed id; empty when the format gives none.
        title: one line; empty when the format gives none.
        fields: keys of the milestone's declaration besides id and title.
        phases: names and goals.
        issues: in the order of the source.
        epic: text of its epic; empty when there is none.
        notes: what was not understood, and what is only claimed.
        faults: what makes it impossible to import.
        overview: the text of the plan that belongs to no issue.
        after: milestones that the plan builds on, as ids; those that are not declared are reported.
        whole: the source is the whole plan: an issue that it needs and does not have is a mistake. Lists of issues
            that were filtered are not.
        accounts: what became of the lines of its files.
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
    """The items of a list among the keys of a declaration; none if there is no list."""
    found = values.get(key)
    return list(found) if isinstance(found, list | tuple) else []


def milestone_id(*texts: str) -> str:
    """The id of the first text that begins with one: ``Milestone 4: ...``, ``M4 - ...``, ``M4_workers.md`` give ``m4``.

    ``Request 42`` anywhere in a text gives ``request-42``. A milestone that a title only mentions gives none.
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
    """A title as part of a file name."""
    words = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
    return words[:longest].rstrip("-")


def draft_faults(
    draft: Draft, source: str, elsewhere: Mapping[str, str], *, skip_unknown: bool = False
) -> Iterator[Fault]:
    """What is wrong with a draft as a whole: no issues, ids twice or unusable, needs that nothing has.

    Args:
        draft: the draft.
        source: the name of its source, for messages.
        elsewhere: ids of issues of other milestones -> their qualified ids.
        skip_unknown: leave out needs that nothing has.
    """
    yield from draft.faults
    if not draft.issues and not draft.faults:
        yield Fault(source, "", "no issue was found in it; `doit import --formats` shows what each format looks like")
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
    """The needs of an issue that neither the plan nor any other milestone has."""
    needs: Sequence[str] = (*listed(issue.fields, "needs"), *issue.outside)
    qualified = set(elsewhere.values())
    return [need for need in needs if need not in own and need not in elsewhere and need not in qualified]


def unique_id(wanted: str, taken: Mapping[str, object] | set[str]) -> str:
    """An id made of a text, different from those that are taken."""
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
    """A draft as far as it is trusted, and what was left out."""

    draft: Draft
    notes: tuple[Note, ...]


def declared_keys() -> frozenset[str]:
    """The keys that an issue may declare."""
    return frozenset(info.alias or name for name, info in Issue.model_fields.items())


def reviewed(draft: Draft, policy: Policy | None, tests: Sequence[str], *, trusted: bool, own: bool) -> Reviewed:
    """Leave out of a draft what this repository does not know, and what would weaken its judge.

    Args:
        draft: as the plan says.
        policy: the rules; None if they are faulty.
        tests: paths of the tests that are there already.
        trusted: a person trusts the plan with its own judging.
        own: the plan is an export of ours, and read value for value.
    """
    notes: list[Note] = []
    fields = {key: value for key, value in draft.fields.items() if key != _COMMANDS}
    if trusted and draft.fields.get(_COMMANDS):
        fields["accept"] = [*listed(fields, "accept"), *({"run": command} for command in draft.fields[_COMMANDS])]
    issues = [_issue(issue, policy, tests, notes, trusted=trusted, own=own) for issue in draft.issues]
    return Reviewed(replace(draft, fields=fields, issues=tuple(issues)), tuple(notes))


def _issue(
    issue: DraftIssue, policy: Policy | None, tests: Sequence[str], notes: list[Note], *, trusted: bool, own: bool
) -> DraftIssue:
    fields = dict(issue.fields)
    known = declared_keys()
    for key in [key for key in fields if key not in known]:
        said = fields.pop(key)
        if not key.startswith("_"):
            text = f"{issue.id}: {key} = {said} is no key of an issue here and was left out"
            notes.append(Note(issue.line, text, f"{key} is no key of an issue here and was left out"))
    if issue.hold and "hold" in known:
        fields["hold"] = issue.hold
    if own:
        weaker = [key for key in _WEAKER[:2] if key in fields]
        if weaker:
            said = ", ".join(f"{key} = {fields[key]}" for key in weaker)
            notes.append(
                Note(issue.line, f"{issue.id}: {said} makes its judge weaker", "keys that make the judge weaker")
            )
        return replace(issue, fields=fields)
    _agents(issue, fields, policy, notes)
    if not trusted:
        _keys(issue, fields, notes)
        _type(issue, fields, policy, notes)
        _files(issue, fields, tests, notes)
    return replace(issue, fields=fields)


def _agents(issue: DraftIssue, fields: dict[str, object], policy: Policy | None, notes: list[Note]) -> None:
    """Leave out an agent that is no profile here: a plan's word for a role is none."""
    names = fields.get("agent")
    if policy is None or names is None:
        return
    wanted = [names] if isinstance(names, str) else listed(fields, "agent")
    unknown = [name for name in wanted if name not in policy.agents]
    if unknown:
        del fields["agent"]
        text = f'{issue.id}: the agent "{", ".join(map(str, unknown))}" is no profile of rules/agents.toml and was left out'
        notes.append(Note(issue.line, text, "agents that are no profiles of rules/agents.toml, left out"))


def _keys(issue: DraftIssue, fields: dict[str, object], notes: list[Note]) -> None:
    for key in _WEAKER:
        if key in fields and not (key == "workflow" and fields[key] == "kiro"):
            said = fields.pop(key)
            text = f"{issue.id}: {key} = {said} decides about the judge and was left out; --trust takes it"
            notes.append(Note(issue.line, text, f"{key} decides about the judge and was left out; --trust takes it"))


def _type(issue: DraftIssue, fields: dict[str, object], policy: Policy | None, notes: list[Note]) -> None:
    """Leave out a type whose route asks for less than the default one."""
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
        text = f'{issue.id}: the route of type "{fields.pop("type")}" does without {what}; the type was left out, --trust takes it'
        notes.append(Note(issue.line, text, "types whose routes ask for less, left out; --trust takes them"))


def _files(issue: DraftIssue, fields: dict[str, object], tests: Sequence[str], notes: list[Note]) -> None:
    """Leave out files that are tests already: what an issue declares to change it may also weaken."""
    files = listed(fields, "files")
    if not files or not tests:
        return
    over = [name for name in files if any(name == test or fnmatchcase(test, name) for test in tests)]
    if over:
        kept = [name for name in files if name not in over]
        fields.pop("files")
        if kept:
            fields["files"] = kept
        text = f"{issue.id}: {', '.join(over)} are tests that are there already; they were left out of files, --trust takes them"
        notes.append(Note(issue.line, text, "files that are tests already, left out; --trust takes them"))


def tests_among(paths: Sequence[str]) -> list[str]:
    """Those of some paths that look like tests."""
    pattern = re.compile(
        r"(?:^|/)(?:tests?|specs?|__tests__)/|(?:^|/)(?:test_[^/]+|[^/]+_test|[^/]+[.-](?:test|spec))\.\w+$"
    )
    return [path for path in paths if pattern.search(path) and not path.endswith((".md", ".rst", ".txt"))]
