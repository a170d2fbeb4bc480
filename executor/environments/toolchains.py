"""The download caches of compiled languages: readable in a sandbox, so that a check needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from executor.environments.environment import NO_ENVIRONMENT, TreeEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["toolchain_environment"]


def toolchain_environment(tree: Path, user: Mapping[str, str]) -> TreeEnvironment:
    """What Go, Cargo and Maven need beside their programs, if the tree has a project of theirs.

    Args:
        tree: the tree.
        user: the user's own environment, which says where the caches are.
    """
    home = Path(user.get("HOME") or "/nonexistent")
    made = NO_ENVIRONMENT
    if any((tree / name).is_file() for name in ("go.mod", "go.work")):
        made = made.joined(_go(tree, home, user))
    if (tree / "Cargo.toml").is_file():
        made = made.joined(_cargo(home, user))
    if (tree / "pom.xml").is_file():
        made = made.joined(TreeEnvironment(readable=_present(home / ".m2" / "repository")))
    return made


def _go(tree: Path, home: Path, user: Mapping[str, str]) -> TreeEnvironment:
    """The module cache; and no workspace file of a folder above the tree, such as the user's checkout."""
    path = Path(user.get("GOPATH", "").split(":")[0] or home / "go")
    modules = Path(user.get("GOMODCACHE") or path / "pkg" / "mod")
    shown = _present(modules)
    variables = [("GOMODCACHE", str(modules))] if shown else []
    if not (tree / "go.work").is_file():
        variables.append(("GOWORK", "off"))
    return TreeEnvironment(variables=tuple(variables), readable=shown)


def _cargo(home: Path, user: Mapping[str, str]) -> TreeEnvironment:
    """Registry and toolchains, but not the token that lies beside them."""
    cargo = Path(user.get("CARGO_HOME") or home / ".cargo")
    rustup = Path(user.get("RUSTUP_HOME") or home / ".rustup")
    own = [(key, user[key]) for key in ("CARGO_HOME", "RUSTUP_HOME") if user.get(key)]
    names = ("registry", "git", "bin", "config.toml", "config")
    return TreeEnvironment(variables=tuple(own), readable=_present(*(cargo / name for name in names), rustup))


def _present(*paths: Path) -> tuple[Path, ...]:
    return tuple(path for path in paths if path.exists())
