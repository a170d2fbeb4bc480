"""What a plan may say about its own judging: nothing that makes it easier, unless a person trusts the plan. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from executor.importers.draft import Draft, DraftIssue, Note, listed
from executor.model.milestone import Issue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.model.policy import Policy

__all__ = ["OWN_FORMATS", "Reviewed", "declared_keys", "reviewed", "tests_among"]

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
