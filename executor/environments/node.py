"""`node_modules` for a tree: a copy of the user's when its lock is the same, else what the package manager installs.

Node looks for packages in the folders above a file. Without a folder of its own, a tree inside the checkout would find
the packages of the checkout, and among them the links to the checkout's own workspaces.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NodeModules", "copy_modules", "node_modules"]

_LOCKS = {
    "package-lock.json": ("npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"),
    "npm-shrinkwrap.json": ("npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"),
    "pnpm-lock.yaml": ("pnpm", "install", "--frozen-lockfile", "--prefer-offline"),
    "yarn.lock": ("yarn", "install", "--frozen-lockfile", "--prefer-offline"),
}
_FOLDER = "node_modules"
_DEEPEST = 4  # folders between the top and a workspace
_CACHES = {".cache", ".vite", ".vitest"}


@dataclass(frozen=True)
class NodeModules:
    """What a tree needs.

    Attributes:
        folders: the `node_modules` folders of the checkout to copy, relative to it; empty when none fits.
        install: the command that installs them instead; empty when there is no lock, or nothing to install.
        key: digest of the manifests and the lock.
    """

    folders: tuple[str, ...]
    install: tuple[str, ...]
    key: str


def node_modules(root: Path, tree: Path) -> NodeModules | None:
    """What a tree needs; None if it has no packages to install.

    Args:
        root: the user's checkout.
        tree: the tree.
    """
    if not (tree / "package.json").is_file() or os.path.lexists(tree / _FOLDER):
        return None
    manifests = [path for path in _manifests(tree) if _within(path, tree)]
    lock = next((name for name in _LOCKS if (tree / name).is_file()), "")
    inputs = [*manifests, *([tree / lock] if lock else [])]
    hasher = hashlib.sha256()
    for path in inputs:
        hasher.update(f"{path.relative_to(tree)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    decisive = [path.relative_to(tree) for path in ([tree / lock] if lock else manifests)]
    same = all(_same(root / path, tree / path) for path in decisive)
    folders = tuple(
        str(path.relative_to(root)) for path in _folders(root) if (tree / path.relative_to(root).parent).is_dir()
    )
    if same and folders:
        stamp = root / _FOLDER / ".package-lock.json"
        hasher.update(stamp.read_bytes() if stamp.is_file() else b"")
        return NodeModules(folders, (), "sha256:" + hasher.hexdigest())
    if not lock:
        return None
    return NodeModules((), _LOCKS[lock], "sha256:" + hasher.hexdigest())


def copy_modules(root: Path, tree: Path, folders: tuple[str, ...]) -> None:
    """Copy the user's folders; a link into the checkout leads into the tree instead."""
    for name in folders:
        shutil.copytree(root / name, tree / name, symlinks=True, ignore=lambda _, names: _CACHES & set(names))
        for link in _links(tree / name):
            target = link.readlink()
            if target.is_relative_to(root):
                link.unlink()
                link.symlink_to(tree / target.relative_to(root))


def _links(folder: Path) -> Iterator[Path]:
    """The links of a `node_modules` folder to packages, those of scopes too."""
    for entry in os.scandir(folder):
        if entry.is_symlink():
            yield Path(entry.path)
        elif entry.name.startswith("@") and entry.is_dir():
            yield from (Path(inner.path) for inner in os.scandir(entry.path) if inner.is_symlink())


def _manifests(tree: Path) -> Iterator[Path]:
    for folder in _project_folders(tree):
        if (folder / "package.json").is_file():
            yield folder / "package.json"


def _folders(root: Path) -> Iterator[Path]:
    for folder in _project_folders(root):
        if (folder / _FOLDER).is_dir() and not (folder / _FOLDER).is_symlink():
            yield folder / _FOLDER


def _project_folders(top: Path, depth: int = 0) -> Iterator[Path]:
    yield top
    if depth >= _DEEPEST:
        return
    for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
        skipped = entry.name == _FOLDER or entry.name.startswith(".")
        if not skipped and entry.is_dir(follow_symlinks=False):
            yield from _project_folders(Path(entry.path), depth + 1)


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _within(path: Path, tree: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(tree))
