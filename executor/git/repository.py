"""Find the user's git repository without running git or anything that it configures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.errors import RepositoryError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Repository", "find_repository", "git_directory"]


@dataclass(frozen=True, slots=True)
class Repository:
    """The paths of the trusted repository.

    Attributes:
        top: the user's checkout.
        git_dir: the git directory of that checkout; for a linked worktree, its own.
        common_dir: the directory with objects and refs, shared by all worktrees.
    """

    top: Path
    git_dir: Path
    common_dir: Path

    @property
    def objects(self) -> Path:
        """The object store."""
        return self.common_dir / "objects"


def find_repository(start: Path) -> Repository:
    """Find the repository that contains `start` (a folder).

    Raises:
        RepositoryError: there is none, or it is bare.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        dot_git = folder / ".git"
        if dot_git.is_dir():
            return Repository(folder, dot_git, _common(dot_git))
        if dot_git.is_file():
            git_dir = _pointed(dot_git)
            return Repository(folder, git_dir, _common(git_dir))
        if _looks_bare(folder):
            raise RepositoryError(
                f"{folder} is a bare repository, expected a checkout with milestones/; clone it and run there"
            )
    elsewhere = os.environ.get("GIT_DIR")
    todo = "run `git init`, commit, then `doit init`"
    if elsewhere:
        todo = f"GIT_DIR is not followed: write `gitdir: {elsewhere}` into a file .git at the top of the checkout"
    raise RepositoryError(f"{start} is not in a git repository; {todo}")


def git_directory(dot_git: Path) -> Path | None:
    """Return the git directory that a `.git` is or names; None if it is neither."""
    if dot_git.is_dir():
        return dot_git
    try:
        return _pointed(dot_git) if dot_git.is_file() else None
    except RepositoryError:
        return None


def _pointed(dot_git: Path) -> Path:
    text = dot_git.read_text(encoding="utf-8").strip()
    if not text.startswith("gitdir:"):
        raise RepositoryError(f"{dot_git}: expected a line `gitdir: ...`, found {text[:40]!r}")
    return (dot_git.parent / text.removeprefix("gitdir:").strip()).resolve()


def _common(git_dir: Path) -> Path:
    pointer = git_dir / "commondir"
    if pointer.is_file():
        return (git_dir / pointer.read_text(encoding="utf-8").strip()).resolve()
    return git_dir


def _looks_bare(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
