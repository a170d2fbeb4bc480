"""Makes the environment of a tree, by looking at what the user's tools would load and at the tree."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from executor.environments.environment import TreeEnvironment
from executor.environments.generated import bring_generated
from executor.environments.python import python_environment
from executor.git.command import Git

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from executor.git.repository import Repository
    from executor.git.worktrees import Workspace

__all__ = ["Place", "checkouts_of", "make_environment", "tree_environment"]


@dataclass(frozen=True)
class Place:
    """Where a tree is, and whose tools its commands would use.

    Attributes:
        roots: the user's checkout first, then the other worktrees of the repository.
        tree: the folder of the tree.
        made: the folder in which its environments are made.
        slot: number of the slot that the tree belongs to.
        env: the environment that a command would have without this one.
        ignored: names the files in some folders of the checkout that git ignores, relative to the checkout.
    """

    roots: tuple[Path, ...]
    tree: Path
    made: Path
    slot: int
    env: Mapping[str, str]
    ignored: Callable[[Sequence[str]], Sequence[str]]


def tree_environment(
    repository: Repository, workspace: Workspace, slot: int, env: Mapping[str, str]
) -> TreeEnvironment:
    """Make the environment in which the commands of a workspace load its tree, and nothing of the user's checkout.

    Args:
        repository: the user's.
        workspace: the tree, as it was checked out.
        slot: number of the slot that it belongs to.
        env: the environment that a command would have without this one.
    """
    git = Git(repository.git_dir, repository.top)

    def ignored(folders: Sequence[str]) -> list[str]:
        names = [folder or "." for folder in folders]
        asked = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", *names)
        told = git.run(*asked, extra={"GIT_WORK_TREE": str(repository.top)})
        return [os.fsdecode(name) for name in told.split(b"\0") if name]

    roots = checkouts_of(repository.top, repository.common_dir)
    made = workspace.index.with_name(f"{workspace.folder.name}.env")
    environment, brought = make_environment(Place(roots, workspace.folder, made, slot, env, ignored))
    workspace.remember_brought(brought)
    return environment


def make_environment(place: Place) -> tuple[TreeEnvironment, tuple[str, ...]]:
    """The environment of a tree, and the files that were brought into the tree from the checkout."""
    python = python_environment(place.roots, place.tree, place.made, place.env)
    brought = bring_generated(place.roots[0], place.tree, python.pointed, place.ignored) if python.pointed else None
    made = TreeEnvironment(tree=str(place.tree), slot=place.slot).joined(python.environment)
    if brought is None or not brought.paths:
        return made, ()
    part = TreeEnvironment(key=brought.key, parts=(("generated files", brought.key),))
    return replace(made.joined(part), tree=str(place.tree)), brought.paths


def checkouts_of(top: Path, common_dir: Path) -> tuple[Path, ...]:
    """The user's checkout, then the main checkout and the linked worktrees of its repository that are there."""
    found = [top]
    if common_dir.name == ".git":
        found.append(common_dir.parent)
    pointers = sorted((common_dir / "worktrees").glob("*/gitdir"))
    found += [Path(pointer.read_text("utf-8", "surrogateescape").strip()).parent for pointer in pointers]
    return tuple(dict.fromkeys(path for path in found if path.is_dir()))
