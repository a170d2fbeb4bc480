"""Environments that are made once, compiled modules that belong to their sources, requirements of lock files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from executor.environments.environment import kept_environments, key_of, mark_made, place_of, to_be_made
from executor.environments.generated import Compiled, build_key, is_native, must_build, place_modules
from executor.environments.installing import requirements_of
from executor.environments.making import moved_programs, other_requirements

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = ["setup.py", "src/app/_fast.c"]


@pytest.mark.parametrize(
    ("path", "native"),
    [
        ("src/app/_fast.c", True),
        ("src/app/_fast.pyx", True),
        ("src/lib.rs", True),
        ("setup.py", True),
        ("pyproject.toml", True),
        ("meson.build", True),
        ("tests/setup.py", False),
        ("docs/example.c", False),
        ("src/app/core.py", False),
        ("README.md", False),
    ],
)
def test_files_that_a_compiled_module_depends_on(path: str, native: bool) -> None:
    assert is_native(path) is native


@pytest.fixture
def compiled(tmp_path: Path) -> tuple[Path, Path]:
    """A checkout with a compiled module that is newer than its source, and a tree of it."""
    root, tree = tmp_path / "root", tmp_path / "tree"
    for top in (root, tree):
        (top / "src" / "app").mkdir(parents=True)
        (top / "setup.py").write_text("Extension('app._fast', ['src/app/_fast.c'])\n")
        (top / "src/app/_fast.c").write_text("int one;\n")
    (root / "src/app/_fast.so").write_bytes(b"old")
    for number, name in enumerate((*SOURCES, "src/app/_fast.so")):
        os.utime(root / name, (1000 + number, 1000 + number))
    return root, tree


def test_a_compiled_module_is_used_only_with_its_own_sources(compiled: tuple[Path, Path]) -> None:
    root, tree = compiled
    own, none = Compiled(("src/app/_fast.so",), (), None), Compiled((), (), None)
    assert not must_build(root, tree, SOURCES, own)
    before = build_key(tree, SOURCES, "python")
    (tree / "src/app/_fast.c").write_text("int two;\n")
    assert must_build(root, tree, SOURCES, own), "the tree has other sources"
    assert must_build(root, tree, SOURCES, none), "the tree has an extension that nobody has compiled yet"
    assert build_key(tree, SOURCES, "python") != before
    (tree / "src/app/_fast.c").write_text("int one;\n")
    os.utime(root / "src/app/_fast.c", (2000, 2000))
    assert must_build(root, tree, SOURCES, own), "the user's module is older than its source"


def test_built_modules_take_the_place_of_the_users(compiled: tuple[Path, Path], tmp_path: Path) -> None:
    root, tree = compiled
    user, site, made = tmp_path / "user", tmp_path / "site", tmp_path / "made"
    (user / "pkg").mkdir(parents=True)
    (user / "pkg" / "_core.so").write_bytes(b"user's")
    (user / "pkg" / "__init__.py").write_bytes(b"")
    site.mkdir()
    (site / "pkg").symlink_to(user / "pkg")
    for name in ("app/_fast.so", "app/_new.so", "pkg/_core.so"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"built")
    mine = Compiled(("src/app/_fast.so",), ("pkg/_core.so", "pkg/_gone.so"), user)
    placed, gone = place_modules(made, tree, site, ["src"], mine)
    assert placed == ("src/app/_fast.so", "src/app/_new.so")
    assert gone == ("pkg/_gone.so",)
    assert (site / "pkg" / "_core.so").read_bytes() == b"built"
    assert (site / "pkg" / "__init__.py").is_symlink()
    assert (user / "pkg" / "_core.so").read_bytes() == b"user's"
    assert (root / "src/app/_fast.so").read_bytes() == b"old"


def test_an_environment_is_made_once_and_counts_when_it_is_whole(tmp_path: Path) -> None:
    place = place_of(tmp_path / "store", "python", key_of({"lock": b"1"}))
    with to_be_made(place) as needed:
        assert needed
        (place / "half").write_text("made")
    with to_be_made(place) as needed:  # nobody marked it, as after a power cut
        assert needed
        assert not (place / "half").exists()
        mark_made(place, "uv.lock", 1.5)
    with to_be_made(place) as needed:
        assert not needed
    (found,) = kept_environments(tmp_path / "store")
    assert (found.name, found.key, found.seconds, found.whole) == ("python", "uv.lock", 1.5, True)
    assert key_of({"lock": b"1"}) != key_of({"lock": b"2"})


def test_the_packages_of_other_lock_files() -> None:
    poetry = """
[[package]]
name = "left"
version = "1.0"
markers = "sys_platform == 'win32'"
[[package]]
name = "right"
version = "2.0"
[package.source]
type = "git"
url = "https://example.org/right"
resolved_reference = "abc"
[[package]]
name = "here"
version = "0"
[package.source]
type = "directory"
url = "."
"""
    assert requirements_of(poetry) == (
        "left==1.0 ; sys_platform == 'win32'\nright @ git+https://example.org/right@abc\n"
    )


def test_requirements_that_the_checkout_does_not_have(tmp_path: Path) -> None:
    for top, text in (("root", "a==1\n"), ("tree", "a==2\n")):
        (tmp_path / top / "requirements").mkdir(parents=True)
        (tmp_path / top / "requirements.txt").write_text(text)
        (tmp_path / top / "requirements" / "dev.txt").write_text("same\n")
    assert other_requirements(tmp_path / "root", tmp_path / "tree") == ["requirements.txt"]


def test_folders_of_path_inside_the_checkout_are_those_of_the_tree(tmp_path: Path) -> None:
    root, tree = tmp_path / "root", tmp_path / "tree"
    (root / ".venv").mkdir(parents=True)
    (root / ".venv" / "pyvenv.cfg").write_text("")
    path = f"{root}/bin:/usr/bin:{root}/.venv/bin"
    assert moved_programs((root,), tree, {"PATH": path}) == ((f"{root}/bin", f"{tree}/bin"),)
