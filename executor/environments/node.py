"""`node_modules` for a tree: links to the user's packages when its lock is the same, else what the lock installs.

Node looks for packages in the folders above a file. Without a folder of its own, a tree inside the checkout would find
the packages of the checkout, and among them the links to the checkout's own workspaces.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NodeModules", "installed_key", "link_modules", "node_modules"]

_NPM = ("npm", "ci", "--no-audit", "--no-fund", "--prefer-offline")
_LOCKS = {
    "package-lock.json": _NPM,
    "npm-shrinkwrap.json": _NPM,
    "pnpm-lock.yaml": ("pnpm", "install", "--frozen-lockfile", "--prefer-offline"),
    "yarn.lock": ("yarn", "install", "--frozen-lockfile", "--prefer-offline"),
}
_FOLDER = "node_modules"
_INSTALLED = (".package-lock.json", ".modules.yaml", ".yarn-state.yml", ".yarn-integrity")
_DEEPEST = 4  # folders between the top and a workspace
_CACHES = (".cache", ".vite", ".vitest")


@dataclass(frozen=True)
class NodeModules:
    """Packages that a tree needs.

    Attributes:
        folders: the `node_modules` folders of the checkout that fit, relative to it.
        install: the command that installs them instead; empty when some fit.
    """

    folders: tuple[str, ...]
    install: tuple[str, ...]


def node_modules(root: Path, tree: Path) -> NodeModules | None:
    """The packages that a tree needs; None if it needs none, or has them.

    Args:
        root: the user's checkout.
        tree: the tree.
    """
    if not (tree / "package.json").is_file() or os.path.lexists(tree / _FOLDER):
        return None
    lock = next((name for name in _LOCKS if (tree / name).is_file()), "")
    if _same(root / (lock or "package.json"), tree / (lock or "package.json")):
        found = [path.relative_to(root) for path in _folders(root)]
        folders = tuple(str(path) for path in found if (tree / path.parent).is_dir())
        if folders:
            return NodeModules(folders, ())
    return NodeModules((), _LOCKS[lock]) if lock else None


def link_modules(root: Path, tree: Path, folders: tuple[str, ...]) -> list[str]:
    """Fill the folders with links to the user's packages; returns the links, relative to the tree.

    A link of the user's that leads into the checkout, to a workspace or by `npm link`, leads into the tree instead.
    """
    made = []
    for name in folders:
        if not _is_inside(tree / name, tree):
            continue
        (tree / name).mkdir(parents=True, exist_ok=True)
        for source in _packages(root / name):
            place = tree / source.relative_to(root)
            place.parent.mkdir(exist_ok=True)
            real = Path(os.path.realpath(source))
            within = real.is_relative_to(root) and _FOLDER not in real.relative_to(root).parts
            place.symlink_to(tree / real.relative_to(root) if within else source)
            made.append(str(place.relative_to(tree)))
    return made


def installed_key(root: Path) -> str:
    """Digest of what the package manager says that it installed in the checkout; empty if it says nothing."""
    for name in _INSTALLED:
        path = root / _FOLDER / name
        if path.is_file():
            return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return ""


def _packages(folder: Path) -> Iterator[Path]:
    """The entries of a `node_modules` folder, those of scopes one by one."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in _CACHES:
            continue
        if entry.name.startswith("@") and entry.is_dir() and not entry.is_symlink():
            yield from (Path(inner.path) for inner in sorted(os.scandir(entry.path), key=lambda inner: inner.name))
        else:
            yield Path(entry.path)


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


def _is_inside(path: Path, tree: Path) -> bool:
    return Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(tree))
