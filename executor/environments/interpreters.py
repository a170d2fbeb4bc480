"""The user's Python installations, the folders in which each searches for packages, and which lead into the checkout.

An ordinary installation needs no process: its folders follow from its path. Only an interpreter whose packages lead
into the user's checkout is executed. The interpreters are those on PATH. If none of these has the project, it is the
one where the user's tools keep it: `.venv` in the checkout, or a folder of Poetry, Hatch or Pipenv.

Editable installs are text: `.pth` lines, the mappings of import finders, `egg-link` files, URLs of `direct_url.json`.
Each names the checkout by its absolute path, so one `Redirection` to the tree covers all build tools.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


__all__ = [
    "Interpreter",
    "Redirection",
    "ask",
    "editable_in",
    "first_interpreter",
    "is_pointer_file",
    "leading_into",
    "likely_sites",
    "on_path",
    "pointed_to",
    "pointers_in",
]


_ASK = """
import json, site, sys, sysconfig
sites = list(site.getsitepackages())
if site.ENABLE_USER_SITE:
    sites.insert(0, site.getusersitepackages())
print(json.dumps({
    "prefix": sys.prefix, "executable": sys.executable,
    "base": getattr(sys, "_base_executable", None) or sys.executable,
    "version": "%d.%d" % sys.version_info[:2] + ("t" if "t" in getattr(sys, "abiflags", "") else ""),
    "full": sys.version.split()[0], "sites": sites, "scripts": sysconfig.get_path("scripts"),
    "virtual": sys.prefix != sys.base_prefix,
}))
"""
_PATIENCE = 20.0  # seconds; a shim of a version manager takes up to one
_NAMES = ("python3", "python")


@dataclass(frozen=True)
class Interpreter:
    """A Python installation, as it reports itself.

    Attributes:
        folder: the folder of PATH that contains it.
        prefix: folder of the installation or virtual environment.
        base: the program that its virtual environments start.
        executable: its own program.
        version: for example ``3.11``; ``3.14t`` without the global lock.
        full: the complete version.
        sites: existing folders with packages, in search order.
        scripts: folder of its commands.
        virtual: it is a virtual environment.
    """

    folder: Path
    prefix: Path
    base: Path
    executable: Path
    version: str
    full: str
    sites: tuple[Path, ...]
    scripts: Path
    virtual: bool


def on_path(path: str) -> Iterator[Path]:
    """Yield the first Python program of each folder of PATH, in order; links to one program count once per folder."""
    for part in path.split(os.pathsep):
        if not part.startswith("/"):
            continue
        for name in _NAMES:
            program = f"{part}/{name}"  # no Path before a program is found: every tree asks several times
            if os.access(program, os.X_OK) and os.path.isfile(program):  # noqa: PTH113
                yield Path(program)
                break


def likely_sites(program: Path) -> list[Path] | None:
    """Return an interpreter's package folders from its path; None if it must be executed to find them."""
    prefix = str(program.parent.parent)
    if os.path.isfile(f"{prefix}/pyvenv.cfg"):  # noqa: PTH113  (every tree asks several times)
        own = _site_folders(prefix)
        text = Path(prefix, "pyvenv.cfg").read_text("utf-8", "replace")
        shared = re.search(r"(?mi)^include-system-site-packages\s*=\s*true", text)
        home = re.search(r"(?m)^home\s*=\s*(.+?)\s*$", text)
        if shared and home:
            return [*own, *(likely_sites(Path(home[1], "python3")) or [])]
        return own
    real = os.path.realpath(program)
    if _is_script(real, os.stat(real).st_mtime_ns):  # noqa: PTH116
        return _sites_behind(program)
    return [*_site_folders(os.path.dirname(os.path.dirname(real))), *_user_folders()]  # noqa: PTH120


@lru_cache(maxsize=256)
def _is_script(program: str, _changed: int) -> bool:
    with open(program, "rb") as file:  # noqa: PTH123
        return file.read(2) == b"#!"


def ask(program: Path, cwd: Path, env: Mapping[str, str]) -> Interpreter | None:
    """Run an interpreter to describe itself; None if it does not answer.

    Args:
        program: the interpreter.
        cwd: its working folder; version managers choose by it.
        env: its environment.
    """
    return _asked(program, cwd, tuple(sorted(env.items())))


@lru_cache(maxsize=256)
def _asked(program: Path, cwd: Path, env: tuple[tuple[str, str], ...]) -> Interpreter | None:
    try:
        done = subprocess.run(
            [str(program), "-c", _ASK],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
        )
        output = json.loads(done.stdout.splitlines()[-1])
        return Interpreter(
            program.parent,
            Path(output["prefix"]),
            Path(output["base"]),
            Path(output["executable"]),
            str(output["version"]),
            str(output["full"]),
            tuple(Path(site) for site in dict.fromkeys(output["sites"]) if Path(site).is_dir()),
            Path(output["scripts"]),
            bool(output["virtual"]),
        )
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, IndexError, TypeError):
        return None


_LIBRARIES = ("lib", "lib64", "local/lib")
_PACKAGES = ("site-packages", "dist-packages")


def _site_folders(prefix: str | Path) -> list[Path]:
    """Return the package folders of an installation, each once; every tree asks, so a look is a few calls of stat."""
    found: dict[tuple[int, int], str] = {}
    for library in _LIBRARIES:
        for version in _entries(f"{prefix}/{library}"):
            for name in _PACKAGES if version.startswith("python3") else ():
                site = f"{prefix}/{library}/{version}/{name}"
                with suppress(OSError):
                    seen = os.stat(site)  # noqa: PTH116  (many calls for each tree)
                    if stat.S_ISDIR(seen.st_mode):
                        found.setdefault((seen.st_dev, seen.st_ino), site)
    return list(map(_path, found.values()))


@lru_cache(maxsize=256)
def _path(text: str) -> Path:
    return Path(text)


def _sites_behind(shim: Path) -> list[Path] | None:
    """Return the package folders of all installations behind a version manager's script; None if unknown.

    A call of pyenv takes half a second, and for most users no installation has an editable install of this project.
    """
    home = shim.parent.parent
    folders = ("versions", "installs/python") if shim.parent.name == "shims" else ()  # pyenv; asdf and mise
    prefixes = [f"{home}/{folder}/{name}" for folder in folders for name in _entries(f"{home}/{folder}")]
    return [*(site for prefix in prefixes for site in _site_folders(prefix)), *_user_folders()] if prefixes else None


def _user_folders() -> list[Path]:
    home = os.path.expanduser("~")  # noqa: PTH111  (no exception where there is none)
    library = Path(os.environ.get("PYTHONUSERBASE") or Path(home, ".local"), "lib")
    versions = [name for name in _entries(str(library)) if name.startswith("python3")]
    return [site for name in versions if (site := library / name / "site-packages").exists()]


def _entries(folder: str) -> tuple[str, ...]:
    """Return the sorted names in a folder; empty if it cannot be read."""
    try:
        return _listed(folder, os.stat(folder).st_mtime_ns)  # noqa: PTH116  (many calls for each tree)
    except OSError:
        return ()


@lru_cache(maxsize=256)
def _listed(folder: str, _changed: int) -> tuple[str, ...]:
    """Cached variant: valid until an entry is added or removed."""
    return tuple(sorted(os.listdir(folder)))  # noqa: PTH208  (names only)


_POINTER = re.compile(r".*\.(?:pth|egg-link)|__editable__.*|_?_?editable_.*\.py|.*(?:finder|loader|editable).*\.py")
_END = rb"(?=[/'\"\s;,:)\]}\\]|\Z)"
"""The end of a path, or a deeper path: `/home/me/app` is not part of `/home/me/app-data`."""


@dataclass(frozen=True)
class Redirection:
    """The mapping from the folders of the user's checkouts to the tree.

    Attributes:
        roots: absolute paths of the checkout, in every possible spelling, and of other worktrees.
        tree: absolute path of the tree.
        kept: absolute paths inside the roots that are not mapped, such as a virtual environment in the checkout.
    """

    roots: tuple[str, ...]
    tree: str
    kept: tuple[str, ...] = ()

    @cached_property
    def _pattern(self) -> re.Pattern[bytes]:
        roots = sorted({form for root in self.roots for form in _forms(root)}, key=len, reverse=True)
        kept = [form for path in self.kept for form in _forms(path)]
        spared = rb"(?!" + rb"|".join(re.escape(form) + _END for form in kept) + rb")" if kept else b""
        return re.compile(rb"(?<![\w.~-])" + spared + rb"(?:" + rb"|".join(map(re.escape, roots)) + rb")" + _END)

    def names_a_root(self, data: bytes) -> bool:
        """Return whether a text names the checkout or a path in it."""
        return bool(self.roots) and self._pattern.search(data) is not None

    def rewritten(self, data: bytes) -> bytes:
        """Replace the checkout by the tree in a text; URLs keep their form."""
        if not self.roots:
            return data
        tree = self.tree.encode("utf-8", "surrogateescape")
        return self._pattern.sub(lambda _: tree, data)

    def moved(self, path: str) -> str | None:
        """Map a path of the checkout to the tree; None if it is outside of the checkout, or kept."""
        if any(_within(path, kept) for kept in self.kept):
            return None
        for root in sorted(self.roots, key=len, reverse=True):
            if _within(path, root):
                return self.tree + path[len(root) :]
        return None

    def paths_in(self, data: bytes) -> list[str]:
        """Return the paths of the checkout in a text, each once, relative to the checkout."""
        found: dict[str, None] = {}
        for match in self._pattern.finditer(data):
            rest = re.match(rb"/[^'\"\s;,:)\]}]*", data[match.end() :])
            found[rest.group().decode("utf-8", "surrogateescape").strip("/") if rest else ""] = None
        return list(found)


def is_pointer_file(name: str) -> bool:
    """Return whether a file of this name, at the top of a site folder, may redirect imports."""
    return _POINTER.fullmatch(name) is not None


def _forms(path: str) -> Iterable[bytes]:
    """Return a path in its textual forms: plain, and as part of a URL."""
    return {path.encode("utf-8", "surrogateescape"), quote(os.fsencode(path)).encode("ascii")}


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


LARGEST = 4 * 1024 * 1024  # bytes; a script or .pth file is far smaller, the bound is for hostile ones


def pointers_in(site: Path, redirection: Redirection) -> list[Path]:
    """Return the top-level entries of a package folder that lead into the checkout."""
    try:
        changed = site.stat().st_mtime_ns
    except OSError:
        return []
    return list(_pointers_in(site, changed, redirection))


@lru_cache(maxsize=64)
def _pointers_in(site: Path, _changed: int, redirection: Redirection) -> tuple[Path, ...]:
    """Cached variant, because every tree of a run needs it; valid until a package is installed or removed."""
    found = []
    try:
        entries = sorted(os.scandir(site), key=lambda entry: entry.name)
    except OSError:
        return ()
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink():
            if led_to(path, redirection):
                found.append(path)
        elif is_pointer_file(entry.name):
            if redirection.names_a_root(pointer_text(path)):
                found.append(path)
        elif entry.name.endswith(".dist-info") and redirection.names_a_root(content_of(path / "direct_url.json")):
            found.append(path)
    return tuple(found)


def pointed_to(site: Path, redirection: Redirection) -> Iterator[str]:
    """Yield the paths of the checkout that a package folder leads to, relative to the checkout."""
    for entry in pointers_in(site, redirection):
        if entry.is_symlink():
            yield (led_to(entry, redirection) or "").removeprefix(redirection.tree).strip("/")
        elif entry.is_file():
            yield from redirection.paths_in(pointer_text(entry))


def led_to(link: Path, redirection: Redirection) -> str | None:
    """Map the target of a link in the checkout to the tree; None if it leads elsewhere."""
    return redirection.moved(os.path.realpath(link)) or redirection.moved(
        os.path.normpath(link.parent / link.readlink())
    )


def pointer_text(path: Path) -> bytes:
    """Return a top-level file of a package folder, with absolute lines in a `.pth`, as Python reads them."""
    data = content_of(path)
    if path.suffix not in {".pth", ".egg-link"}:
        return data
    lines = []
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        bare = line.strip()
        relative = bare and not bare.startswith(("#", "/", "import ", "import\t"))
        lines.append(os.path.normpath(path.parent / bare) if relative and "/" in bare else line)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def content_of(path: Path) -> bytes:
    """Return a small file; empty if it is unreadable or large."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError:
        return b""
    return data if len(data) <= LARGEST else b""


_TOOL_FOLDERS = (
    ".cache/pypoetry/virtualenvs/*",
    ".local/share/virtualenvs/*",
    ".local/share/hatch/env/virtual/*/*/*",
)


def first_interpreter(tree: Path, env: Mapping[str, str]) -> list[Interpreter]:
    """Return the interpreter that a command on PATH would use, as a list; empty without one."""
    program = next(iter(on_path(env.get("PATH", ""))), None)
    interpreter = ask(program, tree, env) if program is not None else None
    return [interpreter] if interpreter is not None else []


def editable_in(interpreter: Interpreter, roots: Sequence[Path]) -> set[str]:
    """Return the names of the entries in an interpreter's package folders that lead into the checkouts."""
    redirection = redirection_of(roots, Path("/"), interpreter.prefix)
    return {entry.name for site in interpreter.sites for entry in pointers_in(site, redirection)}


def leading_into(roots: Sequence[Path], env: Mapping[str, str]) -> list[Interpreter]:
    """Return the interpreters whose packages lead into the checkout, each installation once: on PATH, or a kept one."""
    return list(_leading(on_path(env.get("PATH", "")), roots, env)) or list(
        islice(_leading(_kept_by_tools(roots, env), roots, env), 1)
    )


def _kept_by_tools(roots: Sequence[Path], env: Mapping[str, str]) -> Iterator[Path]:
    """Yield interpreters of environments that project tools create for the checkout without adding them to PATH."""
    home = Path(env.get("HOME", "/nonexistent"))
    for root in roots:
        for name in (".venv", "venv", "env"):
            yield root / name / "bin" / "python"
    for pattern in _TOOL_FOLDERS:
        if (home / pattern.partition("/*")[0]).is_dir():
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


def _leads(sites: Sequence[Path], roots: Sequence[Path], prefix: Path) -> bool:
    redirection = redirection_of(roots, Path("/"), prefix)
    return any(pointers_in(site, redirection) for site in sites)


def redirection_of(roots: Sequence[Path], tree: Path, prefix: Path) -> Redirection:
    names = {str(root) for root in roots} | {os.path.realpath(root) for root in roots}
    return Redirection(tuple(sorted(names)), str(tree), (str(prefix), os.path.realpath(prefix)))
