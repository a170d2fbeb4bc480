"""Several projects in folders of one repository: each file of a change is judged from the view of its project.

The paths of rules, and those that an issue declares, are relative to a project. A file of another project of the
repository is judged as part of that project: its `rules/` and `milestones/` are protected like the issue's own.
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
"""A glob that matches no file: there are declared files, but not in this project."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a change that belongs to one project.

    Attributes:
        prefix: its folder in the repository, with a slash at the end; empty at the top.
        change: its files, with paths relative to the project.
        declared: globs of files that the issue declares, also relative.
    """

    prefix: str
    change: Change
    declared: tuple[str, ...]

    def inside(self, path: str) -> str:
        """Return the repository path of a project path."""
        return f"{self.prefix}{path}"

    def base(self, paths: Collection[str]) -> frozenset[str]:
        """Return the repository's files that belong to the project, as project paths."""
        if not self.prefix:
            return frozenset(paths)
        return frozenset(path[len(self.prefix) :] for path in paths if path.startswith(self.prefix))


def projects_in(paths: Collection[str]) -> list[str]:
    """Return folders of the repository with a dodo.py and milestones/, with a slash at the end."""
    folders = {path.rpartition("milestones/")[0] for path in paths if path.endswith(".toml") and "milestones/" in path}
    return sorted(folder for folder in folders if f"{folder}dodo.py" in paths)


def parts_of_change(change: Change, own: str, paths: Collection[str], declared: Sequence[str]) -> list[Part]:
    """Split a change by the projects of its files; the issue's own project comes first.

    Args:
        change: the change, with paths relative to the repository.
        own: folder of the issue's project, with a slash at the end; empty at the top.
        paths: every file of the tree that the change was made from.
        declared: globs of files that the issue declares, relative to its project.
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
