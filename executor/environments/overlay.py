"""A Python environment for one tree: the user's own, in which each way into the checkout leads into the tree.

It is a virtual environment of links: a package of the user's is a link to where it is installed, and only the files of
editable installs are written, with the tree in place of the checkout. Nothing of the user's environment is changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from executor.environments.redirection import is_pointer_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.environments.interpreters import Interpreter
    from executor.environments.redirection import Redirection

__all__ = ["Overlay", "build", "overlay_key", "pointed_to", "pointers_in"]

_LARGEST = 4 * 1024 * 1024
_LONGEST_SHEBANG = 127  # bytes that Linux reads
_SCRIPT_HEAD = 4096
_METADATA = (".dist-info", ".egg-info")
_SYSTEM = frozenset(map(Path, ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")))


@dataclass(frozen=True)
class Overlay:
    """What was made.

    Attributes:
        folder: the environment.
        bin: its folder of commands, for PATH.
        pointed: paths of the checkout that the user's environment leads to, relative to the checkout.
        lost: those of them that the tree does not have.
    """

    folder: Path
    bin: Path
    pointed: tuple[str, ...]
    lost: tuple[str, ...]


def pointers_in(site: Path, redirection: Redirection) -> list[Path]:
    """The entries at the top of a folder of packages that lead into the checkout."""
    try:
        changed = site.stat().st_mtime_ns
    except OSError:
        return []
    return list(_pointers_in(site, changed, redirection))


@lru_cache(maxsize=64)
def _pointers_in(site: Path, _changed: int, redirection: Redirection) -> tuple[Path, ...]:
    """The same, as long as nothing is installed or removed: it is asked for each tree of a run."""
    found = []
    try:
        entries = sorted(os.scandir(site), key=lambda entry: entry.name)
    except OSError:
        return ()
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink():
            if _led_to(path, redirection):
                found.append(path)
        elif is_pointer_file(entry.name):
            if redirection.names_a_root(_text_of(path)):
                found.append(path)
        elif entry.name.endswith(".dist-info") and redirection.names_a_root(_content(path / "direct_url.json")):
            found.append(path)
    return tuple(found)


def pointed_to(site: Path, redirection: Redirection) -> Iterator[str]:
    """The paths of the checkout that a folder of packages leads to, relative to the checkout."""
    for entry in pointers_in(site, redirection):
        if entry.is_symlink():
            yield (_led_to(entry, redirection) or "").removeprefix(redirection.tree).strip("/")
        elif entry.is_file():
            yield from redirection.paths_in(_text_of(entry))


def build(interpreter: Interpreter, redirection: Redirection, folder: Path, path: str) -> Overlay:
    """Make the environment anew.

    Args:
        interpreter: the user's.
        redirection: from the checkout to the tree.
        folder: where it is made; whatever is there is replaced.
        path: the PATH of the user, whose commands of this interpreter are taken over.
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
    return Overlay(folder, bin_folder, tuple(pointed), lost)


def overlay_key(interpreter: Interpreter, redirection: Redirection) -> str:
    """Digest of what the environment holds for any tree: the interpreter, the packages, the editable installs."""
    hasher = hashlib.sha256(f"{interpreter.full}\0{interpreter.prefix}\0".encode())
    for site in interpreter.sites:
        hasher.update("\0".join(sorted(path.name for path in site.iterdir() if path.name.endswith(_METADATA))).encode())
        for entry in pointers_in(site, redirection):
            named = sorted(redirection.paths_in(_text_of(entry))) if entry.is_file() else []
            hasher.update(f"\0{entry.name}\0{named}".encode())
    return "sha256:" + hasher.hexdigest()


def _mirror(site: Path, target: Path, pointers: set[str], redirection: Redirection) -> None:
    """Fill a folder of packages."""
    for entry in sorted(os.scandir(site), key=lambda entry: entry.name):
        source, place = Path(entry.path), target / entry.name
        if entry.name == "__pycache__":
            continue  # bytecode of files that are rewritten here would be taken for the user's
        if entry.name not in pointers:
            place.symlink_to(source)
        elif source.is_symlink():
            moved = _led_to(source, redirection)
            assert moved is not None  # noqa: S101 - that is why it is one of the pointers
            place.symlink_to(moved)
        elif source.is_dir():
            shutil.copytree(source, place, symlinks=True)
            for file in place.iterdir():
                if file.is_file() and not file.is_symlink():
                    file.write_bytes(redirection.rewritten(_content(file)))
        else:
            place.write_bytes(redirection.rewritten(_text_of(source)))


def _led_to(link: Path, redirection: Redirection) -> str | None:
    """Where in the tree the target of a link in the checkout is; None if it leads elsewhere."""
    return redirection.moved(os.path.realpath(link)) or redirection.moved(
        os.path.normpath(link.parent / link.readlink())
    )


def _programs(interpreter: Interpreter, folder: Path, path: str) -> None:
    """The interpreter under its names, and every command of the user's that is run by it."""
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
    """The text of a command that this interpreter runs, made to be run by the environment's; None for others."""
    try:
        with path.open("rb") as file:
            if file.read(2) != b"#!":
                return None
            head = b"#!" + file.read(_SCRIPT_HEAD)
            rest = file.read(_LARGEST)
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


def _text_of(path: Path) -> bytes:
    """A file at the top of a folder of packages; relative lines of a `.pth` are made absolute, as Python reads them."""
    data = _content(path)
    if path.suffix not in {".pth", ".egg-link"}:
        return data
    lines = []
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        bare = line.strip()
        relative = bare and not bare.startswith(("#", "/", "import ", "import\t"))
        lines.append(os.path.normpath(path.parent / bare) if relative and "/" in bare else line)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _content(path: Path) -> bytes:
    """A small file; empty if it cannot be read or is large."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError:
        return b""
    return data if len(data) <= _LARGEST else b""
