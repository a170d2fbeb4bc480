"""Makes the environment of a tree, by looking at what the user's tools would load and at the tree."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from executor.environments.environment import NO_ENVIRONMENT, TreeEnvironment
from executor.environments.generated import bring_generated, generated_files, generated_key
from executor.environments.node import installed_key, link_modules, node_modules
from executor.environments.python import python_conditions, python_environment
from executor.environments.toolchains import toolchain_environment
from executor.git.command import Git

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from executor.git.repository import Repository
    from executor.git.worktrees import Workspace

__all__ = ["checkouts_of", "conditions_of", "tree_environment"]


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
    roots = checkouts_of(repository.top, repository.common_dir)
    made = workspace.index.with_name(f"{workspace.folder.name}.env")
    python = python_environment(roots, workspace.folder, made, env)
    brought: list[str] = []
    if python.pointed:
        ignored = _ignored_in(repository)
        brought += bring_generated(repository.top, workspace.folder, python.pointed, ignored)
    node = _node_environment(repository, workspace.folder, brought)
    workspace.remember_brought(brought)
    own = TreeEnvironment(tree=str(workspace.folder), slot=slot)
    return own.joined(python.environment).joined(node).joined(toolchain_environment(workspace.folder, os.environ))


def _node_environment(repository: Repository, tree: Path, brought: list[str]) -> TreeEnvironment:
    """Give a tree its `node_modules`, if git ignores that name; the links are added to what was brought."""
    needed = node_modules(repository.top, tree)
    if needed is None or not _is_ignored(repository, "node_modules/x"):
        return NO_ENVIRONMENT
    if needed.install:
        return TreeEnvironment(install=needed.install)
    brought += link_modules(repository.top, tree, needed.folders)
    return TreeEnvironment(readable=tuple(repository.top / name for name in needed.folders))


def conditions_of(repository: Repository, argv: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """What a command does depends on beside its tree, by name: its program, the user's environment, generated files."""
    roots = checkouts_of(repository.top, repository.common_dir)
    found, pointed = python_conditions(roots, env)
    if pointed:
        names = generated_files(repository.top, pointed, _ignored_in(repository))
        if names:
            found["generated files"] = generated_key(repository.top, names)
    installed = installed_key(repository.top)
    if installed:
        found["node_modules"] = installed
    name = _first_word(argv)
    program = shutil.which(name, path=env.get("PATH", "")) if name and "/" not in name.lstrip("/") else None
    if program is not None:
        facts = os.stat(program)  # noqa: PTH116  (one call, for each verdict)
        found[f"program {name}"] = f"{program} {facts.st_size} {facts.st_mtime_ns}"
    return found


def _first_word(argv: Sequence[str]) -> str:
    """The program of a command; of a shell command its first word, if that is one."""
    if tuple(argv[:2]) != ("sh", "-c"):
        return argv[0]
    words = re.match(r"\s*(?:\w+=\S*\s+)*([\w.+-]+)(?:\s|$)", argv[2])
    return words[1] if words else ""


def _is_ignored(repository: Repository, path: str) -> bool:
    git = Git(repository.git_dir, repository.top)
    extra = {"GIT_WORK_TREE": str(repository.top), "GIT_LITERAL_PATHSPECS": "0"}  # check-ignore refuses literal ones
    code, _, _ = git.call("check-ignore", "-q", path, extra=extra)
    return code == 0


def _ignored_in(repository: Repository) -> Callable[[Sequence[str]], Sequence[str]]:
    """Names the files in some folders of the checkout that git ignores, relative to the checkout."""
    git = Git(repository.git_dir, repository.top)

    def ignored(folders: Sequence[str]) -> list[str]:
        names = [folder or "." for folder in folders if (repository.top / folder).exists()]
        if not names:
            return []
        asked = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", *names)
        told = git.run(*asked, extra={"GIT_WORK_TREE": str(repository.top)})
        return [os.fsdecode(name) for name in told.split(b"\0") if name]

    return ignored


def checkouts_of(top: Path, common_dir: Path) -> tuple[Path, ...]:
    """The user's checkout, then the main checkout and the linked worktrees of its repository that are there."""
    found = [top]
    if common_dir.name == ".git":
        found.append(common_dir.parent)
    pointers = sorted((common_dir / "worktrees").glob("*/gitdir"))
    found += [Path(pointer.read_text("utf-8", "surrogateescape").strip()).parent for pointer in pointers]
    return tuple(dict.fromkeys(path for path in found if path.is_dir()))
