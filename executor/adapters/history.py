"""Looks things up in the history of the trusted repository with GitPython, for commands that may take a moment.

GitPython is confined to this module and to the user's own repository; it never opens a tree that an agent can write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.adapters.git import git_program, safe_environment
from executor.errors import GitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from executor.adapters.repository import Repository

__all__ = ["texts_of"]

_MOST_VERSIONS = 200


def texts_of(repository: Repository, path: Path) -> Iterator[str]:
    """Texts that a file of the checkout has had on any branch, newest first, without repeats.

    Raises:
        GitError: the history cannot be read.
    """
    import git

    inside = path.resolve().relative_to(repository.top).as_posix()
    seen: set[str] = set()
    try:
        git.refresh(git_program())
        with git.Repo(repository.top, search_parent_directories=False) as opened:
            opened.git.update_environment(**safe_environment())
            for commit in opened.iter_commits("--all", paths=inside, max_count=_MOST_VERSIONS):
                try:
                    blob = commit.tree / inside
                except KeyError:
                    continue
                if blob.hexsha not in seen:
                    seen.add(blob.hexsha)
                    yield blob.data_stream.read().decode("utf-8", "replace")
    except (git.GitCommandError, git.InvalidGitRepositoryError, git.NoSuchPathError, ValueError) as error:
        raise GitError(f"the history of {inside} cannot be read: {error}") from error
