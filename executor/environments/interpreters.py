"""The Python installations that PATH leads to, and where each of them looks for packages.

Looking costs no process for an ordinary installation: its folders follow from its place. Only an interpreter whose
packages lead into the user's checkout is asked itself.

Text that names the user's checkout, rewritten so that it names the tree under judgement. Pure.

Editable installs are text: `.pth` lines, the mappings of import finders, `egg-link` files, URLs of `direct_url.json`.
Each of them names the checkout by its absolute path, so that one rewriting covers all build tools.

Files that the user's build made in the checkout and that git ignores: version files and compiled modules.

An editable install loads them from the checkout, so that a tree without them does not work. They are copied into the
tree, where git ignores them too, and never land.

A compiled module belongs to the sources that it was compiled from. Where those of the tree differ, or are newer than
the module, the tree's are built as a wheel, and its modules take the place of the user's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from executor.environments.environment import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "BUILD",
    "Compiled",
    "Interpreter",
    "Redirection",
    "ask",
    "bring_generated",
    "build_key",
    "generated_files",
    "generated_key",
    "is_compiled",
    "is_generated",
    "is_native",
    "is_pointer_file",
    "likely_sites",
    "must_build",
    "on_path",
    "place_modules",
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
    """A Python installation, as it describes itself.

    Attributes:
        folder: the folder of PATH in which it was found.
        prefix: folder of the installation or virtual environment.
        base: the program that a virtual environment of it starts.
        executable: its own program.
        version: such as ``3.11``; ``3.14t`` without the global lock.
        full: the whole version.
        sites: folders with packages, in the order in which it looks into them; all of them exist.
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
    """The first Python program of each folder of PATH, in order; links to the same program count once a folder."""
    for part in path.split(os.pathsep):
        if not part.startswith("/"):
            continue
        for name in _NAMES:
            program = Path(part, name)
            if os.access(program, os.X_OK) and program.is_file():
                yield program
                break


def likely_sites(program: Path) -> list[Path] | None:
    """Where an interpreter looks for packages, as its place says; None if only it can say."""
    prefix = program.parent.parent
    if (prefix / "pyvenv.cfg").is_file():
        own = _site_folders(prefix)
        text = (prefix / "pyvenv.cfg").read_text("utf-8", "replace")
        shared = re.search(r"(?mi)^include-system-site-packages\s*=\s*true", text)
        home = re.search(r"(?m)^home\s*=\s*(.+?)\s*$", text)
        if shared and home:
            return [*own, *(likely_sites(Path(home[1], "python3")) or [])]
        return own
    real = Path(os.path.realpath(program))
    with real.open("rb") as file:
        if file.read(2) == b"#!":
            return _sites_behind(program)
    real_prefix = real.parent.parent
    return [*_site_folders(real_prefix), *_user_folders()]


def ask(program: Path, cwd: Path, env: Mapping[str, str]) -> Interpreter | None:
    """What an interpreter says of itself; None if it does not answer.

    Args:
        program: the interpreter.
        cwd: where it is started; version managers choose by this folder.
        env: its environment.
    """
    return _asked(program, cwd, tuple(sorted(env.items())))


@cache
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
        told = json.loads(done.stdout.splitlines()[-1])
        return Interpreter(
            program.parent,
            Path(told["prefix"]),
            Path(told["base"]),
            Path(told["executable"]),
            str(told["version"]),
            str(told["full"]),
            tuple(Path(site) for site in dict.fromkeys(told["sites"]) if Path(site).is_dir()),
            Path(told["scripts"]),
            bool(told["virtual"]),
        )
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, IndexError, TypeError):
        return None


def _site_folders(prefix: Path) -> list[Path]:
    patterns = ("lib/python3*/site-packages", "lib64/python3*/site-packages", "lib/python3*/dist-packages")
    local = ("local/lib/python3*/dist-packages", "local/lib/python3*/site-packages")
    found = [path for pattern in (*patterns, *local) for path in sorted(prefix.glob(pattern))]
    return list({os.path.realpath(path): path for path in found}.values())


def _sites_behind(shim: Path) -> list[Path] | None:
    """The folders of all installations between which a version manager's script chooses; None if they are not known.

    Asking pyenv takes half a second, and most of its users have no editable install of this project in any of them.
    """
    home = shim.parent.parent
    patterns = ("versions/*", "installs/python/*")  # pyenv; asdf and mise
    prefixes = [path for pattern in patterns for path in home.glob(pattern)] if shim.parent.name == "shims" else []
    return [*(site for prefix in prefixes for site in _site_folders(prefix)), *_user_folders()] if prefixes else None


def _user_folders() -> list[Path]:
    home = os.path.expanduser("~")  # noqa: PTH111  (no exception where there is none)
    base = Path(os.environ.get("PYTHONUSERBASE") or Path(home, ".local"))
    return sorted(base.glob("lib/python3*/site-packages"))


_POINTER = re.compile(r".*\.(?:pth|egg-link)|__editable__.*|_?_?editable_.*\.py|.*(?:finder|loader|editable).*\.py")
_END = rb"(?=[/'\"\s;,:)\]}\\]|\Z)"
"""A path ends here, or goes on below: `/home/me/app` is not part of `/home/me/app-data`."""


@dataclass(frozen=True)
class Redirection:
    """From the folders of the user's checkouts to the tree.

    Attributes:
        roots: absolute paths of the checkout, under every name that it may be written with; other worktrees too.
        tree: absolute path of the tree.
        kept: absolute paths inside the roots that stay as they are, such as a virtual environment in the checkout.
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
        """Whether some text names the checkout or something in it."""
        return bool(self.roots) and self._pattern.search(data) is not None

    def rewritten(self, data: bytes) -> bytes:
        """The text with the tree in place of the checkout; URLs keep their form."""
        if not self.roots:
            return data
        tree = self.tree.encode("utf-8", "surrogateescape")
        return self._pattern.sub(lambda _: tree, data)

    def moved(self, path: str) -> str | None:
        """Where a path of the checkout is in the tree; None if it is not in the checkout, or is kept."""
        if any(_within(path, kept) for kept in self.kept):
            return None
        for root in sorted(self.roots, key=len, reverse=True):
            if _within(path, root):
                return self.tree + path[len(root) :]
        return None

    def paths_in(self, data: bytes) -> list[str]:
        """The paths of the checkout that some text names, each once, as paths relative to the checkout."""
        found: dict[str, None] = {}
        for match in self._pattern.finditer(data):
            rest = re.match(rb"/[^'\"\s;,:)\]}]*", data[match.end() :])
            found[rest.group().decode("utf-8", "surrogateescape").strip("/") if rest else ""] = None
        return list(found)


def is_pointer_file(name: str) -> bool:
    """Whether a file of this name, at the top of a site folder, may lead imports elsewhere."""
    return _POINTER.fullmatch(name) is not None


def _forms(path: str) -> Iterable[bytes]:
    """A path as it stands in text: as it is, and as part of a URL."""
    return {path.encode("utf-8", "surrogateescape"), quote(path).encode("ascii")}


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


_COMPILED = (".so", ".pyd", ".dylib", ".dll")
_GENERATED = re.compile(
    r"_?_?version(?:_info)?(?:__|_static)?\.(?:py|pyi|txt)|_build(?:_info|_config)?\.py|\w+_pb2(?:_grpc)?\.pyi?"
)
_MARKS = re.compile(rb"(?i)\bgenerated\b|do not (?:edit|change|modify)|don't (?:edit|change)")
_HEAD = 1024
_SKIPPED = re.compile(r"(?:^|/)(?:__pycache__|node_modules|build|dist|\.[^/]+|[^/]*venv[^/]*|env)(?:/|$)")
_LARGEST = 256 * 1024 * 1024
_NATIVE = re.compile(
    r".*\.(?:c|cc|cpp|cxx|h|hh|hpp|hxx|pyx|pxd|pxi|rs|f|f90|f95|for|cu|cuh|asm|s|S|i|m|mm|inc|tpp|def)"
)
_BUILD_FILE = re.compile(
    r"setup\.py|setup\.cfg|pyproject\.toml|meson\.build|meson\.options|meson_options\.txt|CMakeLists\.txt|.*\.cmake|build\.rs"
    r"|Cargo\.(?:toml|lock)|MANIFEST\.in|_?build(?:_\w+)?\.py|\w*_build(?:er)?\.py|.*\.(?:in|tmpl|template|src|tempita)"
)
_EXTENSIONS = re.compile(
    rb"ext_modules|ext-modules|\bExtension\(|cffi_modules|cythonize|maturin|scikit.build|mesonpy|setuptools.rust"
    rb"|mypycify|pybind11|nanobind|hatch.cython"
)
_NO_SOURCE = re.compile(r"(?:^|/)(?:docs?|tests?|examples?|benchmarks?)/")
BUILD = """
import importlib.metadata, importlib.util, os, pathlib, re, shutil, subprocess, sys, tempfile, zipfile
source, out = map(pathlib.Path, sys.argv[1:])
work = pathlib.Path(tempfile.mkdtemp())
left = shutil.ignore_patterns(".git", "node_modules", ".venv", "venv", "__pycache__", "*.so", ".cache")
shutil.copytree(source, work / "source", symlinks=True, ignore=left)
try:
    import tomllib
    text = (work / "source" / "pyproject.toml").read_text("utf-8")
    needed = tomllib.loads(text).get("build-system", {}).get("requires", ["setuptools"])
except (ImportError, OSError, ValueError):
    needed = ["setuptools"]
def known(requirement):
    try:
        return importlib.metadata.version(re.match(r"[\\w.-]+", requirement.strip())[0])
    except (importlib.metadata.PackageNotFoundError, TypeError):
        return None
alone = all(map(known, needed))
uv = shutil.which("uv")
if importlib.util.find_spec("pip") and (alone or not uv):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--disable-pip-version-check"]
    command += ["-w", str(work / "wheel")]
    command += ["--no-build-isolation"] if alone else []
elif uv:
    command = [uv, "build", "--wheel", "--no-config", "--python", sys.executable, "--out-dir", str(work / "wheel")]
    command += ["--no-build-isolation"] if alone else []
else:
    sys.exit("the compiled modules of this tree cannot be built: pip is not in " + sys.prefix + ", uv is not on PATH")
done = subprocess.run([*command, str(work / "source")], cwd=work / "source")
if done.returncode:
    sys.exit("the compiled modules of this tree cannot be built: " + " ".join(command[:4]) + " failed")
for wheel in (work / "wheel").glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith((".so", ".pyd", ".dylib", ".dll")):
                place = out / re.sub(r"^[^/]*\\.data/(?:plat|pure)lib/", "", name)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(archive.read(name))
shutil.rmtree(work, ignore_errors=True)
"""
"""Builds the wheel of a source folder and leaves its compiled modules; run by the interpreter that will load them.

The build happens in a copy, since a build writes into its folder. What the build system needs is taken from the user's
environment where it is all there, else from the isolated build environment of pip or uv.
"""


@dataclass(frozen=True)
class Compiled:
    """The compiled modules of the user's installation of one project.

    Attributes:
        beside: those in the checkout, relative to it, beside the sources or where an editable install leads.
        installed: those in a folder of packages, relative to that folder, in which an editable install finds them.
        site: that folder.
    """

    beside: tuple[str, ...]
    installed: tuple[str, ...]
    site: Path | None


def must_build(root: Path, tree: Path, sources: Sequence[str], compiled: Compiled) -> bool:
    """Whether the user's compiled modules are not those of the tree.

    Args:
        root: the user's checkout.
        tree: the tree.
        sources: the files of the tree that a build reads, as `is_native` names them.
        compiled: the user's modules.
    """
    places = [root / name for name in compiled.beside]
    places += [compiled.site / name for name in compiled.installed] if compiled.site else []
    if not places:
        return any(not _same(root / name, tree / name) for name in sources) and any(
            _EXTENSIONS.search(_bytes(tree / name)) for name in ("setup.py", "setup.cfg", "pyproject.toml")
        )
    if any(not _same(root / name, tree / name) for name in sources):
        return True
    made = min((_changed(place) for place in places), default=0.0)
    return any(_changed(root / name) > made for name in sources if _NATIVE.fullmatch(name.rpartition("/")[2]))


def build_key(tree: Path, sources: Iterable[str], interpreter: str) -> str:
    """The key of the compiled modules of a tree, for an interpreter."""
    return key_of({"interpreter": interpreter, **{f"file {name}": _bytes(tree / name) for name in sources}})


def is_native(path: str) -> bool:
    """Whether a compiled module may depend on a tracked file: a source that is compiled, or a file of the build."""
    name = path.rpartition("/")[2]
    if _BUILD_FILE.fullmatch(name):
        return not _NO_SOURCE.search(path)
    return _NATIVE.fullmatch(name) is not None and not re.search(r"(?:^|/)(?:docs?|examples?)/", path)


def place_modules(
    made: Path, tree: Path, site: Path, pointed: Sequence[str], compiled: Compiled
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Put the compiled modules of a tree where its tools look for them.

    Args:
        made: folder with the modules, as they lie in a wheel.
        tree: the tree.
        site: the folder of packages of the tree's environment.
        pointed: where editable installs lead, relative to the tree.
        compiled: the user's modules.

    Returns:
        the paths of those placed in the tree; the paths of the user's that the tree does not have.
    """
    placed, names = [], [str(path.relative_to(made)) for path in sorted(made.rglob("*")) if is_compiled(path.name)]
    for name in names:
        if name in compiled.installed:
            _replace(site, name, made / name)
            continue
        for target in _targets(name, tree, pointed, compiled.beside):
            if _is_inside(tree / target, tree):
                (tree / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(made / name, tree / target)
                placed.append(target)
    gone = [name for name in compiled.installed if name not in names]
    for name in gone:
        _replace(site, name, None)
    return tuple(placed), tuple(gone)


def _targets(name: str, tree: Path, pointed: Sequence[str], beside: Sequence[str]) -> list[str]:
    """Where in the tree a module of a wheel belongs: where the user's lies, else in the first folder of its package."""
    same = [path for path in beside if path == name or path.endswith(f"/{name}")]
    if same:
        return same
    package, _, inner = name.partition("/")
    for folder in (*pointed, "", "src"):
        if (tree / folder / name).parent.is_dir() and (not inner or (tree / folder / package).is_dir()):
            return [f"{folder}/{name}".lstrip("/")]
        if inner and folder.rpartition("/")[2] == package and (tree / folder / inner).parent.is_dir():
            return [f"{folder}/{inner}"]
    return []


def _replace(site: Path, name: str, source: Path | None) -> None:
    """Replace a file of an environment of links; folders on the way that are links become folders of links."""
    folder = site
    for part in name.split("/")[:-1]:
        folder /= part
        if folder.is_symlink():
            real = folder.resolve()
            folder.unlink()
            folder.mkdir()
            for entry in os.scandir(real):
                if entry.name != "__pycache__":
                    (folder / entry.name).symlink_to(entry.path)
        folder.mkdir(exist_ok=True)
    place = site / name
    place.unlink(missing_ok=True)
    if source is not None:
        shutil.copy2(source, place)


def _same(one: Path, other: Path) -> bool:
    return _bytes(one) == _bytes(other)


def _bytes(path: Path) -> bytes:
    """A file; empty if it is none, or a link."""
    try:
        return path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    except OSError:
        return b""


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def bring_generated(
    root: Path,
    tree: Path,
    folders: Sequence[str],
    ignored: Callable[[Sequence[str]], Sequence[str]],
    *,
    compiled: bool = True,
) -> tuple[str, ...]:
    """Copy the generated files of some folders of the checkout into a tree that lacks them; returns their paths.

    Args:
        root: the user's checkout.
        tree: the tree.
        folders: where editable installs lead, relative to the checkout; empty text is the checkout itself.
        ignored: names the files in these folders that git ignores.
        compiled: whether compiled modules are copied too.
    """
    paths = []
    for name in generated_files(root, folders, ignored):
        source, target = root / name, tree / name
        if (is_compiled(name) and not compiled) or os.path.lexists(target) or not _is_inside(target, tree):
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
    if name.endswith((".py", ".pyi", ".txt")) and _GENERATED.fullmatch(parts[-1]):
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
