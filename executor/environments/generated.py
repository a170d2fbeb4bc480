"""Files that the user's build made in the checkout and that git ignores: version files and compiled modules.

An editable install loads them from the checkout, so that a tree without them does not work. They are copied into the
tree, where git ignores them too, and never land.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["bring_generated", "generated_files", "generated_key", "is_compiled", "is_generated"]

_COMPILED = (".so", ".pyd", ".dylib", ".dll")
_NAMES = re.compile(
    r"_?_?version(?:_info)?(?:__|_static)?\.(?:py|pyi|txt)|_build(?:_info|_config)?\.py|\w+_pb2(?:_grpc)?\.pyi?"
)
_MARKS = re.compile(rb"(?i)\bgenerated\b|do not (?:edit|change|modify)|don't (?:edit|change)")
_HEAD = 1024
_SKIPPED = re.compile(r"(?:^|/)(?:__pycache__|node_modules|build|dist|\.[^/]+|[^/]*venv[^/]*|env)(?:/|$)")
_LARGEST = 256 * 1024 * 1024


def bring_generated(
    root: Path, tree: Path, folders: Sequence[str], ignored: Callable[[Sequence[str]], Sequence[str]]
) -> tuple[str, ...]:
    """Copy the generated files of some folders of the checkout into a tree that lacks them; returns their paths.

    Args:
        root: the user's checkout.
        tree: the tree.
        folders: where editable installs lead, relative to the checkout; empty text is the checkout itself.
        ignored: names the files in these folders that git ignores.
    """
    paths = []
    for name in generated_files(root, folders, ignored):
        source, target = root / name, tree / name
        if os.path.lexists(target) or not _is_inside(target, tree):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        paths.append(name)
    return tuple(paths)


def generated_files(root: Path, folders: Sequence[str], ignored: Callable[[Sequence[str]], Sequence[str]]) -> list[str]:
    """The generated files of some folders of the checkout, relative to it."""
    return [name for name in sorted(ignored(folders)) if _may_be_brought(root / name, name)]


def generated_key(root: Path, names: Sequence[str]) -> str:
    """Digest of some generated files."""
    hasher = hashlib.sha256()
    for name in names:
        hasher.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        hasher.update(hashlib.sha256((root / name).read_bytes()).digest())
    return "sha256:" + hasher.hexdigest()


def is_compiled(name: str) -> bool:
    """Whether a file of this name is a compiled module or library."""
    return name.endswith(_COMPILED)


def is_generated(name: str, head: bytes) -> bool:
    """Whether a file that git ignores was made by a build and is needed for an import.

    Other ignored files, such as local settings, may hold secrets and are left to `include` in rules/setup.toml.
    """
    if _SKIPPED.search(name):
        return False
    parts = name.split("/")
    if is_compiled(name) or any(part.endswith(".egg-info") for part in parts[:-1]):
        return True
    if name.endswith((".py", ".pyi", ".txt")) and _NAMES.fullmatch(parts[-1]):
        return True
    return name.endswith((".py", ".pyi")) and _MARKS.search(head) is not None


def _may_be_brought(source: Path, name: str) -> bool:
    try:
        if source.is_symlink() or not source.is_file() or source.stat().st_size > _LARGEST:
            return False
        with source.open("rb") as file:
            return is_generated(name, file.read(_HEAD))
    except OSError:
        return False


def _is_inside(target: Path, tree: Path) -> bool:
    """Whether the file would be in the tree, whatever links the tree has."""
    place = os.path.realpath(target.parent)
    return (place + "/").startswith(os.path.realpath(tree) + "/")
