"""Repeated import: changes of the source are applied, edits by a person are kept and reported. Pure.

Every value exists in three versions: the last import (only as a digest), the current declaration, and the current
source.

Records issues that a plan marks as done as landed, with the commit of their work: empty commits with trailers.

A person vouches for it. Landings are read from these commits as from any other; `doit verify` proves them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.config.project import Project, compile_project, prepare_cache
from executor.errors import UsageError
from executor.git.checkout import identity_of
from executor.git.diff import Change
from executor.git.objects import Store
from executor.git.refs import Move, Refs
from executor.git.trailers import Trailers, landing_message
from executor.model.fingerprint import IssueRef, digest, normal_text
from executor.model.milestone import commit_token, header
from executor.status.reader import observe
from executor.status.summary_cache import is_held

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MISSING", "Merged", "Side", "mark", "merged", "remembered_after", "resolve_commit", "take_as_landed"]


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
