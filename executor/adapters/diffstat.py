"""How much each commit of a branch changed, asked from git in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.adapters.git import Git

if TYPE_CHECKING:
    from executor.adapters.repository import Repository

__all__ = ["Stat", "stats_of"]


@dataclass(frozen=True, slots=True)
class Stat:
    """What a commit changed: paths in git's order, lines added and removed in text files."""

    paths: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0


def stats_of(repository: Repository, tip: str) -> dict[str, Stat]:
    """Commit -> what it changed, for the first-parent history of a commit.

    Raises:
        GitError: git refused.
    """
    git = Git(repository.common_dir, repository.common_dir)
    arguments = ("--first-parent", "--diff-merges=first-parent", "--numstat", "--no-renames", "--format=%x1e%H", "-z")
    output = git.run("log", *arguments, "--end-of-options", tip, "--").decode("utf-8", "replace")
    found = {}
    for record in output.split("\x1e"):
        commit, *lines = (part.strip("\n") for part in record.split("\0"))
        if commit:
            found[commit] = _stat(lines)
    return found


def _stat(lines: list[str]) -> Stat:
    paths, added, removed = [], 0, 0
    for line in lines:
        plus, _, rest = line.partition("\t")
        minus, tab, path = rest.partition("\t")
        if tab:
            paths.append(path)
            added += int(plus) if plus.isdecimal() else 0
            removed += int(minus) if minus.isdecimal() else 0
    return Stat(tuple(paths), added, removed)
