"""What a person decides, kept in git as a commit under a ref."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.adapters.refs import Move
from executor.adapters.store import Store
from executor.errors import ExecutorError

if TYPE_CHECKING:
    from executor.adapters.refs import Refs
    from executor.adapters.store import Identity
    from executor.project import Project

__all__ = ["keep_mark"]


def keep_mark(
    project: Project, refs: Refs, who: Identity, name: str, *, on: str, message: str, what: str, adding: bool
) -> None:
    """Put a commit with this message and the tree of `on` under the ref; `adding` keeps what was there as its parent.

    Args:
        project: where.
        refs: those of its repository.
        who: the person who decides.
        name: full name of the ref.
        on: the commit that it is about.
        message: of the commit.
        what: the reason of the move, for the ref's log.
        adding: whether it builds on what the person said before.

    Raises:
        ExecutorError: somebody else moved the ref meanwhile.
    """
    before = refs.tip(name)
    store = Store(project.repository, project.cache / "_store")
    parent = before if adding and before else on
    commit = store.commit(store.tree_of(on), [parent], message, who, int(time.time()))
    store.close()
    if not refs.move([Move(name, before, commit)], what):
        raise ExecutorError(f"{name} was changed by somebody else at the same moment; try again")
