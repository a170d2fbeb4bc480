"""The conditions of a command in a form that means the same on every host, so that verdicts can be shared.

Locally a program is known by its path, size and time. Elsewhere only its content and the version that it reports count.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from executor.environments.environment import first_word
from executor.environments.python import editable_in, first_interpreter
from executor.git.checkout import checkouts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.git.repository import Repository

__all__ = ["portable_conditions"]

_ASK = {"go": "version", "java": "-version", "javac": "-version"}
_SHIMS = frozenset("bundle cargo dotnet go gradle java javac mvn node npm npx php pnpm ruby rustc yarn".split())  # noqa: SIM905
"""Programs whose file may be a switch to the version that runs."""
_PYTHON_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "tox.ini", "Pipfile", "uv.lock")
_PYTHON = re.compile(r"\b(?:python[\d.]*|py\.?test|tox|nox|uv|poetry|hatch|pdm)\b")
_LONGEST = 200
_PATIENCE_S = 30
_KEPT = frozenset({"sandbox", "generated files", "node_modules"})
"""Conditions that are digests of contents, or words, on every host."""


def portable_conditions(
    repository: Repository,
    argv: Sequence[str],
    env: Mapping[str, str],
    conditions: Mapping[str, str],
    include: Sequence[str] = (),
) -> dict[str, str]:
    """Return the conditions of a command by name, without paths and times of this host.

    Args:
        repository: the user's repository.
        argv: the command.
        env: its environment.
        conditions: its conditions on this host.
        include: globs of files that git ignores and that are copied into each tree.
    """
    roots = tuple(map(str, checkouts_of(repository.top, repository.common_dir)))
    found = {name: value for name, value in conditions.items() if name in _KEPT}
    found["platform"] = _platform()
    name = first_word(argv)
    program = shutil.which(name, path=env.get("PATH", "")) if name and "/" not in name.lstrip("/") else None
    if program is not None:
        word = Path(name).name
        found[f"program {word}"] = _content(program, roots, env.get("PATH", ""))
        if word in _SHIMS:
            found[f"version {word}"] = _version(program, str(repository.top))
    if _PYTHON.search(" ".join(argv)) or any((repository.top / file).is_file() for file in _PYTHON_FILES):
        found["python"] = _python(repository, env)
    files = sorted({path for glob in include for path in repository.top.glob(glob) if path.is_file()})
    if files:
        hasher = hashlib.sha256()
        for path in files:
            hasher.update(f"{path.relative_to(repository.top)}\0".encode("utf-8", "surrogateescape"))
            hasher.update(hashlib.sha256(path.read_bytes()).digest())
        found["included files"] = f"sha256:{hasher.hexdigest()}"
    return found


@cache
def _platform() -> str:
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    words = [platform.system(), platform.machine(), system.get("ID", ""), system.get("VERSION_ID", "")]
    return " ".join(word for word in words if word)


def _content(program: str, roots: tuple[str, ...], path: str) -> str:
    """Return a digest of a program; of a script without the path of its interpreter, which is digested too."""
    facts = Path(program).stat()
    return _content_at(program, roots, path, facts.st_size, facts.st_mtime_ns)


@cache
def _content_at(program: str, roots: tuple[str, ...], path: str, _size: int, _changed: int) -> str:
    data = Path(program).read_bytes()
    if not data.startswith(b"#!"):
        return "sha256:" + hashlib.sha256(data).hexdigest()
    first, _, rest = data.partition(b"\n")
    words = first[2:].decode("utf-8", "replace").split()
    words = words[1:] if words and Path(words[0]).name == "env" else words
    interpreter = shutil.which(words[0], path=path) if words else None
    behind = ""
    if interpreter is not None and Path(interpreter).read_bytes()[:2] != b"#!":
        behind = hashlib.sha256(Path(interpreter).read_bytes()).hexdigest()
    for root in roots:
        rest = rest.replace(root.encode("utf-8", "surrogateescape"), b"{checkout}")
    return "sha256:" + hashlib.sha256(behind.encode() + b"\0" + rest).hexdigest()


@cache
def _version(program: str, folder: str) -> str:
    """Return what a program reports as its version in a folder, which may choose the version."""
    argument = _ASK.get(Path(program).name, "--version")
    try:
        done = subprocess.run(
            [program, argument],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " ".join((done.stdout or done.stderr).split())[:_LONGEST]


def _python(repository: Repository, env: Mapping[str, str]) -> str:
    """Return a digest of the first interpreter's version and of its packages, without installs of the checkout."""
    hasher = hashlib.sha256()
    for interpreter in first_interpreter(repository.top, env):
        hasher.update(interpreter.full.encode())
        own = editable_in(interpreter, checkouts_of(repository.top, repository.common_dir))
        for site in interpreter.sites:
            names = {entry.name for entry in site.iterdir() if entry.name.endswith((".dist-info", ".egg-info"))} - own
            hasher.update("\0".join(sorted(names)).encode("utf-8", "surrogateescape"))
    return "sha256:" + hasher.hexdigest()
