"""Take issues that a plan calls done as landed with a commit that has their work: empty commits with their trailers.

A person vouches for it. What has landed is read from these commits as from any other; `doit verify` proves it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.config.project import Project, compile_project, prepare_cache
from executor.errors import UsageError
from executor.git.checkout import identity_of
from executor.git.diff import Change
from executor.git.objects import Store
from executor.git.refs import Move, Refs
from executor.git.trailers import Trailers, landing_message
from executor.model.fingerprint import digest
from executor.model.titles import commit_token, header
from executor.status.reader import observe
from executor.status.summary_cache import is_held

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["resolve_commit", "take_as_landed"]

_NOTE = "Done before this milestone was declared, and taken as landed by a person."


def resolve_commit(project: Project, name: str) -> str:
    """The full id of a commit that a person names.

    Raises:
        UsageError: there is no such commit.
    """
    commit = Refs(project.repository).tip(name)
    if commit is None:
        raise UsageError(f'--done-as-landed: there is no commit "{name}"; name one that has the work')
    return commit


def take_as_landed(project: Project, milestone: str, done: Sequence[str], commit: str) -> list[str]:
    """Record landings of issues that have none yet; returns the ids that were taken.

    Args:
        project: the project.
        milestone: the id of a declared milestone.
        done: ids of its issues.
        commit: a commit that has their work.

    Raises:
        UsageError: the milestone is a draft or runs now, or its branch does not have the commit.
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
        if issue.id in done and observer.facts(f"{milestone}/{issue.id}").landing is None
    ]
    store = Store(project.repository, project.cache / "_store")
    top = tip or commit
    try:
        tree = store.tree_of(top)
        for issue in wanted:
            ref = f"{milestone}/{issue.id}"
            key = digest(f"{tree} {ref}".encode())
            trailers = Trailers(milestone, issue.id, 1, observer.facts(ref).spec_key, key)
            token = commit_token(issue, milestone, compiled.policy.forge.commit_types)
            message = landing_message(header(token, issue.title), Change((), key), trailers, number=None, note=_NOTE)
            top = store.commit(tree, [top], message, who, refs.time_of(top))
    finally:
        store.close()
    if wanted and not refs.move([Move(branch, tip, top)], f"take {len(wanted)} issues as landed"):
        raise UsageError(f"{declared.branch} was moved by somebody else at the same moment; try again")
    return [issue.id for issue in wanted]
