"""Files that the user's build made in the checkout and that git ignores: version files and compiled modules.

An editable install loads them from the checkout, so that a tree without them does not work. They are copied into the
tree, where git ignores them too, and never land.

A compiled module belongs to the sources that it was compiled from. Where those of the tree differ, or are newer than
the module, the tree's are built as a wheel, and its modules take the place of the user's.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.environments.environment import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = [
    "BUILD",
    "Compiled",
    "bring_generated",
    "build_key",
    "generated_files",
    "generated_key",
    "is_compiled",
    "is_generated",
    "is_native",
    "must_build",
    "place_modules",
]


_COMPILED = (".so", ".pyd", ".dylib", ".dll")
_GENERATED = re.compile(
    r"_?_?version(?:_info)?(?:__|_static)?\.(?:py|pyi|txt)|_build(?:_info|_config)?\.py|\w+_pb2(?:_grpc)?\.pyi?"
)
_MARKS = re.compile(rb"(?i)\bgenerated\b|do not (?:edit|change|modify)|don't (?:edit|change)")
_HEAD = 1024  # bytes; generators put their mark into the first lines
_SKIPPED = re.compile(r"(?:^|/)(?:__pycache__|node_modules|build|dist|\.[^/]+|[^/]*venv[^/]*|env)(?:/|$)")
_LARGEST = 256 * 1024 * 1024  # bytes; a larger file would take longer to copy than to make
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
        beside: modules in the checkout, relative to it, beside the sources or at the target of an editable install.
        installed: modules in a package folder, relative to it, where an editable install finds them.
        site: that folder.
    """

    beside: tuple[str, ...]
    installed: tuple[str, ...]
    site: Path | None


def must_build(root: Path, tree: Path, sources: Sequence[str], compiled: Compiled) -> bool:
    """Return whether the user's compiled modules do not match the tree.

    Args:
        root: the user's checkout.
        tree: the tree.
        sources: the files of the tree that a build reads, selected by `is_native`.
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
    """Return the key of a tree's compiled modules for an interpreter."""
    return key_of({"interpreter": interpreter, **{f"file {name}": _bytes(tree / name) for name in sources}})


def is_native(path: str) -> bool:
    """Return whether a compiled module may depend on a tracked file: a compiled source, or a file of the build."""
    name = path.rpartition("/")[2]
    if _BUILD_FILE.fullmatch(name):
        return not _NO_SOURCE.search(path)
    return _NATIVE.fullmatch(name) is not None and not re.search(r"(?:^|/)(?:docs?|examples?)/", path)


def place_modules(
    made: Path, tree: Path, site: Path, pointed: Sequence[str], compiled: Compiled
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Put the compiled modules of a tree where its tools search for them.

    Args:
        made: folder with the modules in the layout of a wheel.
        tree: the tree.
        site: the package folder of the tree's environment.
        pointed: targets of editable installs, relative to the tree.
        compiled: the user's modules.

    Returns:
        The paths of the modules placed in the tree; paths of the user's modules that the tree lacks.
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
    """Return the targets of a wheel's module in the tree: where the user's is, else the first folder of its package."""
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
    """Replace a file of an environment of links; linked parent folders become folders of links."""
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
    """Return the content of a file; empty if it is no regular file."""
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
    """Copy missing generated files of some folders from the checkout into a tree; returns their paths.

    Args:
        root: the user's checkout.
        tree: the tree.
        folders: where editable installs lead, relative to the checkout; empty text is the checkout itself.
        ignored: names the files in these folders that git ignores.
        compiled: also copy compiled modules.
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
    """Return the generated files of some folders of the checkout, relative to it."""
    return [name for name in sorted(ignored(folders)) if _may_be_brought(root / name, name)]


def generated_key(root: Path, names: Sequence[str]) -> str:
    """Return the digest of some generated files."""
    hasher = hashlib.sha256()
    for name in names:
        hasher.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        hasher.update(hashlib.sha256((root / name).read_bytes()).digest())
    return "sha256:" + hasher.hexdigest()


def is_compiled(name: str) -> bool:
    """Return whether a file of this name is a compiled module or library."""
    return name.endswith(_COMPILED)


def is_generated(name: str, head: bytes) -> bool:
    """Return whether a file that git ignores was generated by a build and is needed for an import.

    Other ignored files, such as local settings, may contain secrets and are left to `include` in rules/setup.toml.
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
    """Return whether the file would be in the tree, whatever links the tree has."""
    place = os.path.realpath(target.parent)
    return (place + "/").startswith(os.path.realpath(tree) + "/")
