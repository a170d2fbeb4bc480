"""The Python environments of a tree: each of the user's whose packages lead into the checkout is overlaid.

They are those of PATH. When none of these knows the project, it is the one in which the user's tools keep it: `.venv`
in the checkout, or a folder of Poetry, Hatch or Pipenv.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from executor.environments.environment import NO_ENVIRONMENT, TreeEnvironment
from executor.environments.interpreters import ask, likely_sites, on_path
from executor.environments.overlay import build, overlay_key, pointed_to, pointers_in
from executor.environments.redirection import Redirection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from executor.environments.interpreters import Interpreter

_TOOL_FOLDERS = (
    ".cache/pypoetry/virtualenvs/*",
    ".local/share/virtualenvs/*",
    ".local/share/hatch/env/virtual/*/*/*",
)

__all__ = ["PythonEnvironment", "leading_into", "python_conditions", "python_environment"]


@dataclass(frozen=True)
class PythonEnvironment:
    """The environment of a tree, and the paths of the checkout that the user's leads to; those that the tree lacks."""

    environment: TreeEnvironment
    pointed: tuple[str, ...]
    lost: tuple[str, ...]


def python_environment(roots: Sequence[Path], tree: Path, folder: Path, env: Mapping[str, str]) -> PythonEnvironment:
    """Make the environment.

    Args:
        roots: the user's checkout under each of its names, and its other worktrees.
        tree: the tree.
        folder: where environments are made.
        env: the environment that a command would have without this one.
    """
    made, pointed, lost = NO_ENVIRONMENT, dict[str, None](), dict[str, None]()
    for number, interpreter in enumerate(leading_into(roots, env)):
        redirection = _redirection(roots, tree, interpreter.prefix)
        overlay = build(interpreter, redirection, folder / f"python{number}", env.get("PATH", ""))
        pointed |= dict.fromkeys(overlay.pointed)
        lost |= dict.fromkeys(overlay.lost)
        virtual = _active(overlay.folder) if interpreter.virtual and not number else ()
        made = made.joined(
            TreeEnvironment(
                variables=virtual,
                programs=((_first_place(overlay.bin, interpreter, env), str(overlay.bin)),),
                moved=((str(interpreter.scripts), str(overlay.bin)),) if interpreter.virtual else (),
                readable=(overlay.folder, *((interpreter.prefix,) if interpreter.virtual else ()), *interpreter.sites),
            )
        )
    return PythonEnvironment(made, tuple(pointed), tuple(lost))


def python_conditions(roots: Sequence[Path], env: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """A digest of each environment that a tree's is made from, by its folder, and where in the checkout they lead."""
    found, pointed = {}, dict[str, None]()
    for interpreter in leading_into(roots, env):
        redirection = _redirection(roots, Path("/"), interpreter.prefix)
        found[f"python {interpreter.prefix}"] = overlay_key(interpreter, redirection)
        for site in interpreter.sites:
            pointed |= dict.fromkeys(pointed_to(site, redirection))
    return found, tuple(pointed)


def leading_into(roots: Sequence[Path], env: Mapping[str, str]) -> list[Interpreter]:
    """The interpreters whose packages lead into the checkout, one installation once: those of PATH, or a kept one."""
    return list(_leading(on_path(env.get("PATH", "")), roots, env)) or list(
        islice(_leading(_kept_by_tools(roots, env), roots, env), 1)
    )


def _kept_by_tools(roots: Sequence[Path], env: Mapping[str, str]) -> Iterator[Path]:
    """Interpreters of environments that project tools make for the checkout without putting them on PATH."""
    home = Path(env.get("HOME", "/nonexistent"))
    for root in roots:
        for name in (".venv", "venv", "env"):
            yield root / name / "bin" / "python"
    for pattern in _TOOL_FOLDERS:
        yield from sorted(home.glob(f"{pattern}/bin/python"))


def _leading(programs: Iterable[Path], roots: Sequence[Path], env: Mapping[str, str]) -> Iterator[Interpreter]:
    seen: set[Path] = set()
    for program in programs:
        if not program.is_file():
            continue
        sites = likely_sites(program)
        if sites is not None and not _leads(sites, roots, program.parent.parent):
            continue
        interpreter = ask(program, roots[0], env)
        if interpreter is None or interpreter.prefix in seen:
            continue
        seen.add(interpreter.prefix)
        if _leads(interpreter.sites, roots, interpreter.prefix):
            yield interpreter


def _active(folder: Path) -> tuple[tuple[str, str], ...]:
    """The variables by which tools take an environment for the active one, and leave it as it is."""
    return (("VIRTUAL_ENV", str(folder)), ("UV_PROJECT_ENVIRONMENT", str(folder)), ("UV_NO_SYNC", "1"))


def _leads(sites: Sequence[Path], roots: Sequence[Path], prefix: Path) -> bool:
    redirection = _redirection(roots, Path("/"), prefix)
    return any(pointers_in(site, redirection) for site in sites)


def _redirection(roots: Sequence[Path], tree: Path, prefix: Path) -> Redirection:
    names = {str(root) for root in roots} | {os.path.realpath(root) for root in roots}
    return Redirection(tuple(sorted(names)), str(tree), (str(prefix), os.path.realpath(prefix)))


def _first_place(made: Path, interpreter: Interpreter, env: Mapping[str, str]) -> str:
    """The first folder of PATH that has the interpreter, or a command of it that was taken over."""
    names = {path.name for path in made.iterdir() if not path.name.startswith("python")}
    for part in env.get("PATH", "").split(os.pathsep):
        if part == str(interpreter.folder):
            return part
        if not interpreter.virtual and any(os.path.lexists(Path(part, name)) for name in names):
            return part
    return ""
