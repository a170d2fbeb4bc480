"""Packages of Node: links to the user's, and workspaces that lead into the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from executor.environments.installing import installed_key, link_modules, node_modules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """A checkout with packages, a workspace link and a tree of it."""
    root, tree = tmp_path / "checkout", tmp_path / "tree"
    for top in (root, tree):
        (top / "packages" / "a").mkdir(parents=True)
        for name in ("package.json", "package-lock.json", "packages/a/package.json"):
            (top / name).write_text("{}")
    for name in ("left", "@w", "@t/deep", ".bin", ".cache"):
        (root / "node_modules" / name).mkdir(parents=True)
    (root / "node_modules" / ".package-lock.json").write_text("{}")
    (root / "node_modules" / "@w" / "a").symlink_to("../../packages/a")
    return root, tree


def test_packages_are_linked_and_workspaces_lead_into_the_tree(roots: tuple[Path, Path]) -> None:
    root, tree = roots
    needed = node_modules(root, tree)
    assert needed is not None
    assert (needed.folders, needed.install) == (("node_modules",), ())
    made = link_modules(root, tree, needed.folders)
    assert (tree / "node_modules" / "left").resolve() == root / "node_modules" / "left"
    assert (tree / "node_modules" / "@t" / "deep").resolve() == root / "node_modules" / "@t" / "deep"
    assert (tree / "node_modules" / "@w" / "a").resolve() == tree / "packages" / "a"
    assert "node_modules/@w/a" in made
    assert not (tree / "node_modules" / ".cache").exists()
    assert installed_key(root) != ""


def test_another_lock_is_installed(roots: tuple[Path, Path]) -> None:
    root, tree = roots
    (tree / "package-lock.json").write_text('{"other": 1}')
    needed = node_modules(root, tree)
    assert needed is not None
    assert (needed.folders, needed.install[:2]) == ((), ("npm", "ci"))


def test_a_tree_without_packages_is_left_alone(tmp_path: Path) -> None:
    assert node_modules(tmp_path, tmp_path) is None
