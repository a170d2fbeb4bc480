"""The Python environment of a tree: the user's, but with all paths into the checkout redirected to the tree.

It is a virtual environment of links: a package of the user is a link to its installation, and only the files of
editable installs are rewritten, with the tree in place of the checkout. The user's environment is not changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from executor.environments.environment import NO_ENVIRONMENT, TreeEnvironment
from executor.environments.generated import Compiled, is_compiled
from executor.environments.interpreters import (
    LARGEST,
    Redirection,
    content_of,
    leading_into,
    led_to,
    pointed_to,
    pointer_text,
    pointers_in,
    redirection_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from executor.environments.interpreters import Interpreter


__all__ = [
    "Overlay",
    "PythonEnvironment",
    "build",
    "installed_modules",
    "overlay_key",
    "python_conditions",
    "python_environment",
]
_LONGEST_SHEBANG = 127  # bytes that Linux reads
_SCRIPT_HEAD = 4096  # bytes; Linux reads 256 of a `#!` line, wrappers continue in the next ones
_METADATA = (".dist-info", ".egg-info")
_SYSTEM = frozenset(map(Path, ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")))


@dataclass(frozen=True)
class Overlay:
    """The created environment.

    Attributes:
        folder: its folder.
        bin: its folder of commands, for PATH.
        site: its first package folder.
        pointed: paths of the checkout that the user's environment refers to, relative to the checkout.
        lost: those of them that are missing in the tree.
    """

    folder: Path
    bin: Path
    site: Path
    pointed: tuple[str, ...]
    lost: tuple[str, ...]


def build(interpreter: Interpreter, redirection: Redirection, folder: Path, path: str) -> Overlay:
    """Build the environment.

    Args:
        interpreter: the user's interpreter.
        redirection: the mapping from the checkout to the tree.
        folder: its folder; existing content is replaced.
        path: the user's PATH, whose commands of this interpreter are included.
    """
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / "lib" / f"python{interpreter.version}" / "site-packages"
    bin_folder = folder / "bin"
    for made in (home, bin_folder):
        made.mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(
        f"home = {interpreter.base.parent}\ninclude-system-site-packages = false\nversion = {interpreter.full}\n",
        encoding="utf-8",
    )
    (folder / "lib64").symlink_to("lib")
    pointed: dict[str, None] = {}
    others = []
    for number, site in enumerate(interpreter.sites):
        pointers = {entry.name for entry in pointers_in(site, redirection)}
        if number and not pointers:
            others.append(site)
            continue
        target = home if not number else folder / "sites" / str(number)
        target.mkdir(parents=True, exist_ok=True)
        if number:
            others.append(target)
        _mirror(site, target, pointers, redirection)
        pointed |= dict.fromkeys(pointed_to(site, redirection))
    lines = "".join(f"import site; site.addsitedir({str(other)!r})\n" for other in others)
    if lines:
        (home / "_other_sites.pth").write_text(lines, encoding="utf-8")
    _programs(interpreter, bin_folder, path)
    lost = tuple(name for name in pointed if not Path(redirection.tree, name).exists())
    return Overlay(folder, bin_folder, home, tuple(pointed), lost)


def installed_modules(
    interpreter: Interpreter, redirection: Redirection, is_compiled: Callable[[str], bool]
) -> list[str]:
    """Return the compiled modules of editable installs of the checkout in the first package folder."""
    found: list[str] = []
    for entry in pointers_in(interpreter.sites[0], redirection) if interpreter.sites else ():
        if entry.name.endswith(".dist-info"):
            lines = content_of(entry / "RECORD").decode("utf-8", "surrogateescape").splitlines()
            names = [line.split(",", 1)[0].strip('"') for line in lines]
            found += [name for name in names if is_compiled(name) and not name.startswith(("/", ".."))]
    return found


def overlay_key(interpreter: Interpreter, redirection: Redirection) -> str:
    """Return the digest of the tree-independent content: the interpreter, the packages, the editable installs."""
    hasher = hashlib.sha256(f"{interpreter.full}\0{interpreter.prefix}\0".encode())
    for site in interpreter.sites:
        hasher.update("\0".join(sorted(path.name for path in site.iterdir() if path.name.endswith(_METADATA))).encode())
        for entry in pointers_in(site, redirection):
            named = sorted(redirection.paths_in(pointer_text(entry))) if entry.is_file() else []
            hasher.update(f"\0{entry.name}\0{named}".encode())
    return "sha256:" + hasher.hexdigest()


def _mirror(site: Path, target: Path, pointers: set[str], redirection: Redirection) -> None:
    """Fill a package folder."""
    for entry in sorted(os.scandir(site), key=lambda entry: entry.name):
        source, place = Path(entry.path), target / entry.name
        if entry.name == "__pycache__":
            continue  # bytecode of files that are rewritten here would be taken for the user's
        if entry.name not in pointers:
            place.symlink_to(source)
        elif source.is_symlink():
            moved = led_to(source, redirection)
            assert moved is not None  # noqa: S101 - that is why it is one of the pointers
            place.symlink_to(moved)
        elif source.is_dir():
            shutil.copytree(source, place, symlinks=True)
            for file in place.iterdir():
                if file.is_file() and not file.is_symlink():
                    file.write_bytes(redirection.rewritten(content_of(file)))
        else:
            place.write_bytes(redirection.rewritten(pointer_text(source)))


def _programs(interpreter: Interpreter, folder: Path, path: str) -> None:
    """Link the interpreter under its names, and every command of the user that it runs."""
    for name in ("python", "python3", f"python{interpreter.version}"):
        (folder / name).symlink_to(interpreter.base)
    own = interpreter.scripts if interpreter.virtual else None
    for place in dict.fromkeys([*([own] if own else []), *map(Path, path.split(os.pathsep))]):
        if not place.is_absolute() or not place.is_dir() or (interpreter.virtual and place in _SYSTEM):
            continue  # a command of the system is not run by a virtual environment
        for entry in os.scandir(place):
            made = folder / entry.name
            if os.path.lexists(made) or not entry.is_file() or re.fullmatch(r"python[\d.]*t?", entry.name):
                continue
            text = _script(Path(entry.path), interpreter, folder)
            if text is not None:
                made.write_bytes(text)
                made.chmod(0o755)
            elif place == own:
                made.symlink_to(entry.path)


def _script(path: Path, interpreter: Interpreter, folder: Path) -> bytes | None:
    """Return the text of a command of this interpreter, changed to run with the environment's; None for others."""
    try:
        with path.open("rb") as file:
            if file.read(2) != b"#!":
                return None
            head = b"#!" + file.read(_SCRIPT_HEAD)
            rest = file.read(LARGEST)
    except OSError:
        return None
    first, _, after = head.partition(b"\n")
    program = os.fsdecode(first[2:].split(None, 1)[0]) if first[2:].split() else ""
    python = str(folder / "python")
    if _is_program_of(program, interpreter):
        line = f"#!{python}".encode()
        if len(line) > _LONGEST_SHEBANG or " " in python:
            line = f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''".encode()
        return line + b"\n" + after + rest
    match = re.match(rb"'''exec' [\"']?([^\"' ]+)[\"']?", after)
    if match and _is_program_of(os.fsdecode(match[1]), interpreter):
        return head.replace(match[1], os.fsencode(python)) + rest
    if b"'''exec' \"$(dirname -- \"$(realpath --" in after:  # a relocatable environment of uv
        return head + rest if path.parent == interpreter.scripts else None
    return None


def _is_program_of(program: str, interpreter: Interpreter) -> bool:
    if not program.startswith("/") or not re.fullmatch(r"python[\d.]*t?", os.path.basename(program)):  # noqa: PTH119
        return False
    if interpreter.virtual:
        return Path(program).parent in {interpreter.scripts, interpreter.prefix / "bin"}
    return os.path.realpath(program) == os.path.realpath(interpreter.executable)


@dataclass(frozen=True)
class PythonEnvironment:
    """The Python environment of a tree.

    Attributes:
        environment: its additions to the environment of a command.
        pointed: the paths of the checkout that the user's packages refer to.
        lost: those of them that the tree lacks.
        made: the environments of links, each with its source interpreter and with the project's compiled modules in its
            first package folder.
    """

    environment: TreeEnvironment
    pointed: tuple[str, ...]
    lost: tuple[str, ...]
    made: tuple[tuple[Interpreter, Overlay, tuple[str, ...]], ...] = ()

    def compiled(self, beside: Sequence[str], number: int) -> Compiled:
        """Return the compiled modules of the user's installation, for one of the interpreters."""
        interpreter, _, installed = self.made[number]
        return Compiled(tuple(beside), installed, interpreter.sites[0] if interpreter.sites else None)


def python_environment(
    roots: Sequence[Path],
    tree: Path,
    folder: Path,
    env: Mapping[str, str],
    given: Sequence[Interpreter] | None = None,
) -> PythonEnvironment:
    """Create the environment.

    Args:
        roots: the user's checkout in all spellings, and its other worktrees.
        tree: the tree.
        folder: parent folder of environments.
        env: the environment of a command without this one.
        given: the interpreters to overlay; None for those whose packages lead into the checkout.
    """
    made, pointed, lost, overlays = NO_ENVIRONMENT, dict[str, None](), dict[str, None](), []
    for number, interpreter in enumerate(leading_into(roots, env) if given is None else given):
        redirection = redirection_of(roots, tree, interpreter.prefix)
        overlay = build(interpreter, redirection, folder / f"python{number}", env.get("PATH", ""))
        overlays.append((interpreter, overlay, tuple(installed_modules(interpreter, redirection, is_compiled))))
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
    return PythonEnvironment(made, tuple(pointed), tuple(lost), tuple(overlays))


def python_conditions(roots: Sequence[Path], env: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return a digest of each source environment, by its folder, and the paths of the checkout that they lead to."""
    found, pointed = {}, dict[str, None]()
    for interpreter in leading_into(roots, env):
        redirection = redirection_of(roots, Path("/"), interpreter.prefix)
        found[f"python {interpreter.prefix}"] = overlay_key(interpreter, redirection)
        for site in interpreter.sites:
            pointed |= dict.fromkeys(pointed_to(site, redirection))
    return found, tuple(pointed)


def _active(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the variables that mark an environment as active and keep tools from modifying it."""
    return (("VIRTUAL_ENV", str(folder)), ("UV_PROJECT_ENVIRONMENT", str(folder)), ("UV_NO_SYNC", "1"))


def _first_place(made: Path, interpreter: Interpreter, env: Mapping[str, str]) -> str:
    """Return the first folder of PATH with the interpreter, or with an included command of it."""
    names = {path.name for path in made.iterdir() if not path.name.startswith("python")}
    for part in env.get("PATH", "").split(os.pathsep):
        if part == str(interpreter.folder):
            return part
        if not interpreter.virtual and any(os.path.lexists(Path(part, name)) for name in names):
            return part
    return ""
