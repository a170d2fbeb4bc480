"""The environment of a command that works on a tree, as a value; `making` creates it.

Reusable environments are stored in `.cache/` by the inputs that they depend on, for all trees with these inputs: a lock
file, or an entry of rules/environments.toml. They are created under a lock on which parallel slots wait, and are valid
only with a completion mark. Each use renews the mark, by which `doit gc` finds unused ones.

The conditions of a command in a form that means the same on every host, so that verdicts can be shared.

Locally a program is known by its path, size and time. Elsewhere only its content and the version that it reports count.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from executor.git.checkout import checkouts_of
from executor.git.worktrees import empty_folder
from executor.process.files import read_json, write_json
from executor.process.locks import short_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from executor.git.command import Repository

__all__ = [
    "FOLDER",
    "NO_ENVIRONMENT",
    "KeptEnvironment",
    "Step",
    "TreeEnvironment",
    "fetching_variables",
    "first_word",
    "has_python",
    "kept_environments",
    "key_of",
    "mark_made",
    "place_of",
    "portable_conditions",
    "to_be_made",
]


FOLDER = "_environments"
"""Folder of `.cache/` with the environments."""
_FETCHING = re.compile(
    r"(?:UV|PIP|BUNDLE|YARN)_\w+|npm_config_\w+|(?:https?|all|no)_proxy|SSL_CERT_(?:FILE|DIR)|NODE_EXTRA_CA_CERTS"
    r"|(?:REQUESTS_CA|CURL_CA)_BUNDLE|GOPROXY|GONOSUMDB|GOSUMDB|GOPRIVATE",
    re.IGNORECASE,
)
_CREDENTIAL = re.compile(r"TOKEN|PASSWORD|SECRET|AUTH|USERNAME|KEY|CREDENTIAL|CONFIG_FILE|USERCONFIG", re.IGNORECASE)
_MARK = ".made.json"
_PATIENCE = 3600.0  # seconds; a first installation can take that long
_KEY = 20  # characters of a key in the name of a folder


@dataclass(frozen=True)
class Step:
    """A command that completes the environment of a tree before anything else runs there.

    Attributes:
        name: name in messages and of its log.
        argv: the command; ``{tree}`` is replaced by the folder of the tree.
        finish: called after its success, or if it was not needed; returns the additions to the environment.
        place: the folder that it fills, once for all trees with the same key; None if it fills the tree itself.
        start: folder in which it runs; None for the tree.
        variables: variables in addition to the ordinary ones.
        writable: further writable folders in a sandbox, besides the tree and `place`.
        boxed: it runs code of the tree, so it uses the sandbox if there is one.
        network: it has network access in the sandbox.
        timeout: seconds until it is stopped; None for the timeout of checks.
        key: the inputs of the content of `place`, for messages and `doit doctor`.
        prepare: fills `place` before the command runs; None for nothing.
        first: command that runs before, never in the sandbox, because it runs no code of the tree; it may fail.
    """

    name: str
    argv: tuple[str, ...]
    finish: Callable[[], TreeEnvironment]
    place: Path | None = None
    start: Path | None = None
    variables: tuple[tuple[str, str], ...] = ()
    writable: tuple[Path, ...] = ()
    boxed: bool = True
    network: bool = True
    timeout: float | None = None
    key: str = ""
    prepare: Callable[[], None] | None = None
    first: tuple[str, ...] = ()


@dataclass(frozen=True)
class TreeEnvironment:
    """The tools of one tree.

    Attributes:
        tree: the folder of the tree; empty while unknown.
        slot: number of its slot.
        variables: variables in addition to the ordinary ones.
        programs: folders for PATH, each with the folder that it precedes (empty: at the front).
        moved: programs by their folder, for commands that name it: the user's, the tree's.
        readable: further paths that must be readable in a sandbox.
        steps: commands that complete it, in order.
    """

    tree: str = ""
    slot: int = 0
    variables: tuple[tuple[str, str], ...] = ()
    programs: tuple[tuple[str, str], ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    readable: tuple[Path, ...] = ()
    steps: tuple[Step, ...] = ()

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of a command: the given ones, this environment's, and its tools on PATH."""
        path = given.get("PATH", "").split(os.pathsep)
        for before, folder in self.programs:
            place = path.index(before) if before in path else 0
            path.insert(place, folder)
        own = {key: self.filled(value) for key, value in self.variables}
        if self.tree:
            own["EXECUTOR_TREE"] = self.tree
        values = {key: self.filled(value) for key, value in given.items()}
        return {**own, **values, "PATH": os.pathsep.join(path)}

    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Fill in ``{tree}`` and ``{slot}`` in a command, and replace the user's programs by the tree's."""
        return tuple(self._moved(self.filled(word)) for word in argv)

    def filled(self, text: str) -> str:
        """Fill in ``{tree}`` and ``{slot}`` in a text."""
        return text.replace("{tree}", self.tree).replace("{slot}", str(self.slot)) if self.tree else text

    @property
    def shown(self) -> list[str]:
        """Return the paths that must be readable in a sandbox."""
        return [str(path) for path in self.readable]

    def joined(self, other: TreeEnvironment) -> TreeEnvironment:
        """Combine both environments; the tree is this one's."""
        return replace(
            self,
            variables=(*self.variables, *other.variables),
            programs=(*self.programs, *other.programs),
            moved=(*self.moved, *other.moved),
            readable=(*self.readable, *other.readable),
            steps=(*self.steps, *other.steps),
        )

    def without_steps(self) -> TreeEnvironment:
        """Return the environment before its completion, for readers of a tree."""
        return replace(self, steps=())

    def _moved(self, word: str) -> str:
        for before, folder in self.moved:
            word = word.replace(f"{before}/", f"{folder}/")
        return word


NO_ENVIRONMENT = TreeEnvironment()


@dataclass(frozen=True)
class KeptEnvironment:
    """An environment in `.cache/`.

    Attributes:
        folder: its folder.
        name: its kind, such as ``python``.
        key: its inputs, in words.
        seconds: duration of its creation.
        used: time of its last use, in epoch seconds.
        whole: its creation was completed.
    """

    folder: Path
    name: str
    key: str
    seconds: float
    used: float
    whole: bool


def key_of(parts: Mapping[str, bytes | str]) -> str:
    """Return the key of an environment: these parts by name, and the platform."""
    hasher = hashlib.sha256(f"{platform.system()} {platform.machine()} {platform.libc_ver()}".encode())
    for name, part in sorted(parts.items()):
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        hasher.update(f"\0{name}\0{len(data)}\0".encode("utf-8", "surrogateescape") + data)
    return hasher.hexdigest()


def place_of(store: Path, name: str, key: str) -> Path:
    """Return the folder of the environment of that name and key."""
    return store / f"{name}-{key[:_KEY]}"


def fetching_variables(env: Mapping[str, str], *, trusted: bool) -> dict[str, str]:
    """The variables by which package managers find their registries: indexes, certificates, proxies.

    Args:
        env: the user's own environment.
        trusted: no code of a tree runs; otherwise those that hold or may hold credentials are left out.
    """
    found = {name: value for name, value in env.items() if _FETCHING.fullmatch(name)}
    if trusted:
        return found
    return {
        name: value
        for name, value in found.items()
        if not _CREDENTIAL.search(name) and not re.search(r"://[^/\s]*@", value)
    }


@contextmanager
def to_be_made(place: Path) -> Iterator[bool]:
    """Yield whether an environment must be created in the block; it is then empty and locked for others.

    Raises:
        BusyError: another process has been creating it for an hour.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if _is_whole(place):
        os.utime(place / _MARK)
        yield False
        return
    with short_lock(place.with_name(f"{place.name}.lock"), _PATIENCE):
        whole = _is_whole(place)
        if not whole:
            empty_folder(place)
        yield not whole


def mark_made(place: Path, key: str, seconds: float) -> None:
    """Mark an environment as complete."""
    facts = {"key": key, "seconds": round(seconds, 3), "made": round(time.time())}
    write_json(place / _MARK, facts, durable=False)


def kept_environments(store: Path) -> Iterable[KeptEnvironment]:
    """Yield the environments in a folder, by name."""
    for folder in sorted(store.glob("*-*")) if store.is_dir() else ():
        if not folder.is_dir():
            continue
        facts = read_json(folder / _MARK)
        known = facts if isinstance(facts, dict) else {}
        try:
            used = (folder / _MARK if known else folder).stat().st_mtime
        except OSError:
            continue
        name = folder.name.rpartition("-")[0]
        yield KeptEnvironment(
            folder, name, str(known.get("key", "")), float(known.get("seconds", 0.0)), used, whole=bool(known)
        )


def _is_whole(place: Path) -> bool:
    return (place / _MARK).is_file()


def first_word(argv: Sequence[str]) -> str:
    """Return the program of a command; for a shell command its first word, if that is a program."""
    if tuple(argv[:2]) != ("sh", "-c"):
        return argv[0]
    words = re.match(r"\s*(?:\w+=\S*\s+)*([\w.+-]+)(?:\s|$)", argv[2])
    return words[1] if words else ""


_ASK = {"go": "version", "java": "-version", "javac": "-version"}
_SHIMS = frozenset("bundle cargo dotnet go gradle java javac mvn node npm npx php pnpm ruby rustc yarn".split())  # noqa: SIM905
"""Programs whose file may be a switch to the version that runs."""
_PYTHON_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "tox.ini", "Pipfile", "uv.lock")
_PYTHON = re.compile(r"\b(?:python[\d.]*|py\.?test|tox|nox|uv|poetry|hatch|pdm)\b")
_LONGEST = 200  # characters of a version; more is no version
_PATIENCE_S = 30  # seconds; a tool that does not print its version by then has none
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
    if _PYTHON.search(" ".join(argv)) or has_python(repository):
        found["python"] = _python(repository, env)
    files = sorted({path for glob in include for path in repository.top.glob(glob) if path.is_file()})
    if files:
        hasher = hashlib.sha256()
        for path in files:
            hasher.update(f"{path.relative_to(repository.top)}\0".encode("utf-8", "surrogateescape"))
            hasher.update(hashlib.sha256(path.read_bytes()).digest())
        found["included files"] = f"sha256:{hasher.hexdigest()}"
    return found


def has_python(repository: Repository) -> bool:
    """Return whether a checkout has a file of a Python project at its top."""
    return any((repository.top / file).is_file() for file in _PYTHON_FILES)


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


@lru_cache(maxsize=256)
def _version(program: str, folder: str) -> str:
    """Return what a program reports as its version in a folder, which may choose the version."""
    argument = _ASK.get(Path(program).name, "--version")
    try:
        done = subprocess.run(
            [program, argument],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
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
    from executor.environments.interpreters import editable_in, first_interpreter

    hasher = hashlib.sha256()
    for interpreter in first_interpreter(repository.top, env):
        hasher.update(interpreter.full.encode())
        own = editable_in(interpreter, checkouts_of(repository.top, repository.common_dir))
        for site in interpreter.sites:
            names = {entry.name for entry in site.iterdir() if entry.name.endswith((".dist-info", ".egg-info"))} - own
            hasher.update("\0".join(sorted(names)).encode("utf-8", "surrogateescape"))
    return "sha256:" + hasher.hexdigest()
