"""Merges a plan into the declaration; it weakens no check and overwrites no edit of a person.

Every value of a repeated import exists in three versions: the last import (only as a digest), the current declaration,
and the current source. Changes of the source are applied, edits by a person are kept and reported. The checks of all
other commands examine the result before anything is written.
"""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from executor.config.load_milestones import Loaded, load, read_milestone
from executor.config.load_rules import policy_faults
from executor.config.project import Project, compile_project, prepare_cache
from executor.errors import DeclarationError, Fault, UsageError
from executor.git.checkout import identity_of
from executor.git.diff import Change
from executor.git.objects import Store
from executor.git.refs import Move, Refs
from executor.git.trailers import Trailers, landing_message
from executor.importers.draft import Draft, DraftIssue, Note, Notes, listed
from executor.model.fingerprint import IssueRef, digest, normal_text
from executor.model.milestone import Issue, commit_token, header
from executor.model.paths import is_test, matches
from executor.model.plan import compile_plan
from executor.status.reader import observe
from executor.status.summary_cache import is_held

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from executor.config.project import Project
    from executor.importers.plan_files import Planned
    from executor.model.policy import Policy

__all__ = [
    "MISSING",
    "OWN_FORMATS",
    "Merged",
    "Reviewed",
    "Side",
    "Tree",
    "declared_keys",
    "mark",
    "merged",
    "remembered_after",
    "resolve_commit",
    "reviewed",
    "settle",
    "take_as_landed",
    "tests_among",
]


MISSING = object()
"""The value does not exist."""
Side = dict[str, dict[str, object]]
"""Values by owner (empty for the milestone, else an issue's id) and key; an issue's text has the key ``spec``."""


@dataclass(slots=True)
class Merged:
    """The required changes.

    Attributes:
        changes: owner -> key -> new value, or `MISSING` to remove it.
        added: new issues, in the order of the source.
        kept: values that both sides changed, which keep the person's version: ``4.3.title``.
        gone: issues that were imported earlier, are still declared and are no longer in the source.
    """

    changes: Side = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def mark(value: Any) -> str:
    """Return the digest of a value for the record of the import."""
    text = normal_text(value) if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return digest(text.encode())[len("sha256:") :][:16]


def merged(last: Mapping[str, Mapping[str, str]], now: Side, new: Side, *, overwrite: bool) -> Merged:
    """Return the changes that make the declaration follow its source.

    Args:
        last: digests of the last import.
        now: the current declaration.
        new: the current source.
        overwrite: use the source's value if both sides changed.
    """
    found = Merged()
    for owner, values in new.items():
        declared = now.get(owner)
        if declared is None:
            if owner and owner in last and not overwrite:
                found.kept.append(owner)
                continue
            found.added.append(owner)
            found.changes[owner] = dict(values)
            continue
        before = last.get(owner, {})
        for key in dict.fromkeys([*values, *before]):
            there, wanted = declared.get(key, MISSING), values.get(key, MISSING)
            if _same(there, wanted):
                continue
            verdict = _choose(before.get(key, ""), there, wanted)
            if verdict == "both" and not overwrite:
                found.kept.append(f"{owner}.{key}" if owner else key)
            elif verdict != "keep":
                found.changes.setdefault(owner, {})[key] = wanted
    found.gone = [owner for owner in last if owner and owner in now and owner not in new]
    return found


def remembered_after(last: Mapping[str, Mapping[str, str]], new: Side, found: Merged) -> dict[str, dict[str, str]]:
    """Return the record of an import: digests of the source, but previous ones for kept values.

    So the difference is reported again until both sides agree or the plan's value is used.
    """
    kept = set(found.kept)
    values: dict[str, dict[str, str]] = {}
    for owner, keys in new.items():
        if owner in kept:
            values[owner] = dict(last.get(owner, {}))
            continue
        values[owner] = {}
        for key, value in keys.items():
            if (f"{owner}.{key}" if owner else key) not in kept:
                values[owner][key] = mark(value)
            elif key in last.get(owner, {}):
                values[owner][key] = last[owner][key]
    return values


def _choose(before: str, there: Any, wanted: Any) -> str:
    """Return whose value counts: ``take`` the source's, ``keep`` the person's, or ``both`` changed it."""
    edited = (before != "") if there is MISSING else mark(there) != before
    changed = (before != "") if wanted is MISSING else mark(wanted) != before
    if not changed:
        return "keep"
    if not edited or (there is MISSING and not before):
        return "take"
    return "keep" if wanted is MISSING else "both"


def _same(left: Any, right: Any) -> bool:
    if left is MISSING or right is MISSING:
        return left is right
    return mark(left) == mark(right)


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
    notes = Notes()
    fields = {key: value for key, value in draft.fields.items() if key != _COMMANDS}
    if trusted and draft.fields.get(_COMMANDS):
        fields["accept"] = [*listed(fields, "accept"), *({"run": command} for command in draft.fields[_COMMANDS])]
    if "checks" in fields and not trusted and not own:
        text = f"checks = {fields.pop('checks')} of the milestone affects the judge and was left out; --trust takes it"
        notes.add(0, text)
    names = {sample for issue in draft.issues for name in listed(issue.fields, "files") for sample in _samples(name)}
    ignored = tree.ignored(names) if names and not (trusted or own) else ()
    tree = replace(tree, ignored=lambda wanted: [name for name in wanted if name in ignored])
    issues = [_issue(issue, policy, tree, notes, trusted=trusted, own=own) for issue in draft.issues]
    return Reviewed(replace(draft, fields=fields, issues=tuple(issues)), tuple(notes))


def _issue(
    issue: DraftIssue, policy: Policy | None, tree: Tree, notes: Notes, *, trusted: bool, own: bool
) -> DraftIssue:
    fields = dict(issue.fields)
    known = declared_keys()
    for key in [key for key in fields if key not in known]:
        said = fields.pop(key)
        if not key.startswith("_"):
            text = f"{issue.id}: {key} = {said} is not a key of an issue and was left out"
            notes.add(issue.line, text, f"{key} is not a key of an issue and was left out")
    if issue.hold and "hold" in known:
        fields["hold"] = issue.hold
    if own:
        weaker = [key for key in _WEAKER[:2] if key in fields]
        if weaker:
            said = ", ".join(f"{key} = {fields[key]}" for key in weaker)
            notes.add(issue.line, f"{issue.id}: {said} weakens its judge", "keys that weaken the judge")
        return replace(issue, fields=fields)
    _agents(issue, fields, policy, notes)
    if not trusted:
        _keys(issue, fields, notes)
        _type(issue, fields, policy, notes)
        _files(issue, fields, tree, notes)
    return replace(issue, fields=fields)


def _agents(issue: DraftIssue, fields: dict[str, object], policy: Policy | None, notes: Notes) -> None:
    """Remove an agent without a profile here, such as a plan's name of a role."""
    names = fields.get("agent")
    if policy is None or names is None:
        return
    wanted = [names] if isinstance(names, str) else listed(fields, "agent")
    unknown = [name for name in wanted if name not in policy.agents]
    if unknown:
        del fields["agent"]
        text = f'{issue.id}: the agent "{", ".join(map(str, unknown))}" is not a profile of rules/agents.toml and was left out'
        notes.add(issue.line, text, "agents that are not profiles of rules/agents.toml, left out")


def _keys(issue: DraftIssue, fields: dict[str, object], notes: Notes) -> None:
    for key in _WEAKER:
        if key in fields and not (key == "workflow" and fields[key] == "kiro"):
            said = fields.pop(key)
            text = f"{issue.id}: {key} = {said} affects the judge and was left out; --trust takes it"
            notes.add(issue.line, text, f"{key} affects the judge and was left out; --trust takes it")


def _type(issue: DraftIssue, fields: dict[str, object], policy: Policy | None, notes: Notes) -> None:
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
        notes.add(issue.line, text, "types whose routes require less, left out; --trust takes them")


def _files(issue: DraftIssue, fields: dict[str, object], tree: Tree, notes: Notes) -> None:
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
            notes.add(issue.line, text, kind)


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


def settle(project: Project, plans: Sequence[Planned], policy: Policy | None) -> list[Fault]:
    """Turn plans that could not run into drafts; returns the faults that prevent any write.

    A plan that would break a valid milestone is refused. A new one, or one that was faulty before, becomes a draft,
    which stops only itself.
    """
    before = _faults(load(project.milestones), policy)
    broken = {fault.file for fault in before}
    loaded = load(project.milestones)
    refused: list[Fault] = []
    for plan in plans:
        refused += _take(loaded, plan)
    if refused:
        return refused
    known = {str(fault) for fault in before}
    fresh = [fault for fault in _faults(loaded, policy) if str(fault) not in known]
    for plan in plans:
        file = _file(plan)
        own = [fault for fault in _faults(loaded, policy) if fault.file == file]
        if not own:
            continue
        fresh = [fault for fault in fresh if fault.file != file]
        sound = plan.file.exists() and file not in broken
        if sound:
            refused += own
        else:
            plan.make_draft(own)
    if fresh and not refused:
        # A cycle through other milestones: one of their files names it, but the plans caused it.
        for plan in plans:
            if not plan.draft_faults:
                plan.make_draft(fresh)
    return refused


def _file(plan: Planned) -> str:
    return f"milestones/{plan.file.name}"


def _take(loaded: Loaded, plan: Planned) -> list[Fault]:
    """Replace the milestone by a plan; returns the faults of its file that prevent the import."""
    file = _file(plan)
    read = read_milestone(tomllib.loads(plan.text), file, plan.id)
    loaded.faults = [fault for fault in loaded.faults if fault.file != file]
    if read.faults or read.milestone is None:
        return read.faults
    loaded.milestones[plan.id] = read.milestone
    loaded.files[plan.id] = file
    loaded.partial.pop(plan.id, None)
    loaded.faulty = {ref for ref in loaded.faulty if ref != plan.id}
    return []


def _faults(loaded: Loaded, policy: Policy | None) -> list[Fault]:
    found = list(loaded.faults)
    if policy is not None:
        found += policy_faults(loaded.milestones, loaded.files, policy, loaded.partial)
    try:
        compile_plan(loaded.milestones, loaded.files, loaded.faulty, loaded.partial)
    except DeclarationError as error:
        found += error.faults
    return found


_NOTE = "Done before this milestone was declared, and counted as landed by a person."


def resolve_commit(project: Project, name: str) -> str:
    """Return the full id of a commit named by a person.

    Raises:
        UsageError: the commit does not exist.
    """
    commit = Refs(project.repository).tip(name)
    if commit is None:
        raise UsageError(f'--done-as-landed: there is no commit "{name}"; name one that has the work')
    return commit


def take_as_landed(project: Project, milestone: str, done: Sequence[str], commit: str) -> list[str]:
    """Record landings of issues that have none yet; returns their ids.

    Args:
        project: the project.
        milestone: the id of a declared milestone.
        done: ids of its issues.
        commit: a commit that contains their work.

    Raises:
        UsageError: the milestone is a draft or in progress, or its branch lacks the commit.
    """
    compiled = compile_project(project)
    declared = compiled.milestone(milestone)
    prepare_cache(project)
    if is_held(project, milestone):
        raise UsageError(f"{milestone} is being run; import with --done-as-landed when the run has ended")
    who = identity_of(project.repository)
    refs = Refs(project.repository, who)
    observer = observe(compiled, refs)
    branch = f"refs/heads/{declared.branch}"
    tip = refs.tip(branch)
    if tip is not None and not refs.contains(commit, tip):
        raise UsageError(f"{declared.branch} does not have {commit[:10]}; merge it there, or name another commit")
    wanted = [
        issue
        for issue in declared.issues
        if issue.id in done and observer.facts(str(IssueRef(milestone, issue.id))).landing is None
    ]
    store = Store(project.repository, project.cache / "_store")
    top = tip or commit
    try:
        tree = store.tree_of(top)
        for issue in wanted:
            ref = str(IssueRef(milestone, issue.id))
            key = digest(f"{tree} {ref}".encode())
            trailers = Trailers(milestone, issue.id, 1, observer.facts(ref).spec_key, key)
            token = commit_token(issue, milestone, compiled.policy.forge.commit_types)
            message = landing_message(header(token, issue.title), Change((), key), trailers, number=None, note=_NOTE)
            top = store.commit(tree, [top], message, who, refs.time_of(top))
    finally:
        store.close()
    if wanted and not refs.move([Move(branch, tip, top)], f"take {len(wanted)} issues as landed"):
        raise UsageError(f"{declared.branch} was moved by another process at the same time; try again")
    return [issue.id for issue in wanted]
