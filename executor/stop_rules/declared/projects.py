"""Projects in folders of one repository: every file of a change is looked at as the project sees it that it belongs to.

The paths of rules, and those that an issue declares, are relative to a project. A file of another project of the
repository is looked at as that project's: its `rules/` and `milestones/` are protected as one's own are.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from executor.git.diff import Change, FileChange

__all__ = ["Part", "parts_of_change", "projects_in"]

_NOTHING = "\0nothing"
"""A glob that no file matches: something is declared, but not here."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a change that belongs to one project.

    Attributes:
        prefix: its folder in the repository, with a slash at the end; empty at the top.
        change: its files, with paths as the project sees them.
        declared: globs of files that the issue says it changes, likewise.
    """

    prefix: str
    change: Change
    declared: tuple[str, ...]

    def inside(self, path: str) -> str:
        """Path in the repository of a path in the project."""
        return f"{self.prefix}{path}"

    def base(self, paths: Collection[str]) -> frozenset[str]:
        """Those of the repository's files that belong to it, as it sees them."""
        if not self.prefix:
            return frozenset(paths)
        return frozenset(path[len(self.prefix) :] for path in paths if path.startswith(self.prefix))


def projects_in(paths: Collection[str]) -> list[str]:
    """Folders of the repository that are projects, with a slash at the end: those with a dodo.py and milestones/."""
    folders = {path.rpartition("milestones/")[0] for path in paths if path.endswith(".toml") and "milestones/" in path}
    return sorted(folder for folder in folders if f"{folder}dodo.py" in paths)


def parts_of_change(change: Change, own: str, paths: Collection[str], declared: Sequence[str]) -> list[Part]:
    """A change, by the projects that its files belong to; the own one first.

    Args:
        change: with paths as the repository has them.
        own: folder of the project that the issue is of, with a slash at the end; empty at the top.
        paths: every file of the tree that the change was made from.
        declared: globs of files that the issue says it changes, relative to its project.
    """
    prefixes = sorted({own, "", *projects_in(paths)}, key=len, reverse=True)
    files: dict[str, list[FileChange]] = {own: []}
    for file in change.files:
        prefix = next(prefix for prefix in prefixes if file.path.startswith(prefix))
        files.setdefault(prefix, []).append(replace(file, path=file.path[len(prefix) :]))
    return [
        Part(prefix, replace(change, files=tuple(found)), _declared_in(prefix, own, declared))
        for prefix, found in files.items()
    ]


def _declared_in(prefix: str, own: str, declared: Sequence[str]) -> tuple[str, ...]:
    if prefix == own:
        return tuple(declared)
    absolute = [posixpath.normpath(f"{own}{glob}") for glob in declared]
    found = tuple(glob[len(prefix) :] for glob in absolute if glob.startswith(prefix))
    return found or ((_NOTHING,) if declared else ())
