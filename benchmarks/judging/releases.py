"""Real consecutive releases, split into issues, each of them a change that the project's own tests accept.

Releases come from PyPI (`pip download`), npm (`npm pack`) and, for Go, from git tags. Nothing of them is part of this
repository. Between two releases, each changed file of the product with its tests is one issue, as long as the tests
pass after it; what only passes together is one issue together.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "PROJECTS",
    "TIMEOUT",
    "Project",
    "RealIssue",
    "Scratch",
    "Tree",
    "changed",
    "environment",
    "issues_of",
    "tools_of",
    "write",
]

Tree = dict[str, bytes]
"""Path -> content of every file."""
_MOST_FILES = 8
_MOST_LINES = 300
"""Git may count more lines than difflib; above 400 the rule `large-diff` stops a change."""
_PATIENCE = 30
TIMEOUT = "timeout"
"""The output of a run that did not end in time."""
_NPM_TOOLS = (
    *("tape", "iconv-lite", "safer-buffer", "qs-iconv", "mock-property", "has-override-mistake", "es-value-fixtures"),
    *("has-symbols", "for-each", "object-inspect", "side-channel", "has-property-descriptors", "has-tostringtag"),
    *("make-arrow-function", "core-js@2", "error-cause", "functions-have-names", "string.prototype.repeat"),
    *("globalthis", "has-bigints", "has-proto", "mkdirp"),
)
"""What the tests of the npm projects import; installed once, outside of every tree."""
_PYTHON_TOOLS = (
    "pytest",
    "freezegun",
    "setuptools<80",
    "wheel",
    "flit_core",
    "hatchling",
    "hatch-vcs",
    "poetry-core",
    "setuptools_scm",
)
"""Backends that pip asks for the name of a source distribution, and what the tests of the Python projects import."""
_SUFFIX = {"python": ".py", "javascript": ".js", "go": ".go"}
_ASIDE = frozenset(
    {"docs", "doc", "examples", "example", "benchmark", "benchmarks", "scripts", "tools", "bench", "dist"}
)


@dataclass(frozen=True)
class Project:
    """A project of others and its releases, oldest first.

    Attributes:
        name: on its registry; of a Go project, ``owner/name`` of its repository.
        language: python, javascript or go.
        versions: consecutive releases; of a Go project, git tags.
        tests: command of its tests; ``{python}``, ``{tape}`` and ``{modules}`` stand for the tools.
    """

    name: str
    language: str
    versions: tuple[str, ...]
    tests: str

    @property
    def slug(self) -> str:
        """Its name as a folder."""
        return self.name.replace("/", "-")

    def is_test(self, path: str) -> bool:
        """Whether a file belongs to its tests."""
        name = PurePosixPath(path).name
        if self.language == "go":
            return name.endswith("_test.go") or "testdata/" in path
        return path.startswith(("tests/", "test/", "testing/")) or name.startswith("test_")

    def is_product(self, path: str) -> bool:
        """Whether a file is code of the product."""
        parts = PurePosixPath(path).parts
        return (
            path.endswith(_SUFFIX[self.language])
            and not self.is_test(path)
            and _ASIDE.isdisjoint(parts)
            and parts[-1] not in {"setup.py", "conf.py", "benchmark.py"}
        )


_PYTEST = "{python} -m pytest -q -p no:cacheprovider tests"
_TAPE = "NODE_PATH={modules} node {tape} 'test/*.js'"
_GO = "go test -v -trimpath ./..."
"""Equal files are compiled once, in whatever folder they are."""
PROJECTS = (
    Project(
        "cachetools",
        "python",
        ("4.1.0", "4.2.0", "4.2.4", "5.0.0", "5.1.0", "5.2.0", "5.3.0"),
        f"PYTHONPATH=src {_PYTEST}",
    ),
    Project(
        "tabulate",
        "python",
        ("0.8.6", "0.8.7", "0.8.9", "0.8.10"),
        f"PYTHONPATH=. {_PYTEST.removesuffix(' tests')} test",
    ),
    Project("itsdangerous", "python", ("2.0.0", "2.0.1", "2.1.0", "2.1.2", "2.2.0"), f"PYTHONPATH=src {_PYTEST}"),
    Project(
        "iniconfig",
        "python",
        ("1.1.0", "1.1.1", "2.0.0"),
        "PYTHONPATH=src:. {python} -m pytest -q -p no:cacheprovider testing",
    ),
    Project(
        "inflection",
        "python",
        ("0.3.1", "0.4.0", "0.5.0", "0.5.1"),
        "PYTHONPATH=. {python} -m pytest -q -p no:cacheprovider test_inflection.py",
    ),
    Project(
        "humanize",
        "python",
        ("3.0.0", "3.1.0", "3.2.0", "3.3.0", "3.5.0", "3.8.0", "3.10.0", "3.12.0"),
        f"PYTHONPATH=src {_PYTEST}",
    ),
    Project(
        "toolz",
        "python",
        ("0.9.0", "0.10.0", "0.11.0", "0.11.1", "0.12.0", "0.12.1"),
        "PYTHONPATH=. {python} -m pytest -q -p no:cacheprovider toolz",
    ),
    Project(
        "more-itertools",
        "python",
        ("8.4.0", "8.6.0", "8.8.0", "8.10.0", "8.12.0", "8.14.0", "9.0.0"),
        f"PYTHONPATH=. {_PYTEST}",
    ),
    Project("minimist", "javascript", ("1.2.0", "1.2.2", "1.2.3", "1.2.5", "1.2.6", "1.2.7", "1.2.8"), _TAPE),
    Project(
        "shell-quote",
        "javascript",
        ("1.6.1", "1.6.3", "1.7.0", "1.7.1", "1.7.2", "1.7.3", "1.7.4", "1.8.0", "1.8.1"),
        _TAPE,
    ),
    Project(
        "object-inspect",
        "javascript",
        ("1.7.0", "1.8.0", "1.9.0", "1.10.0", "1.11.0", "1.12.0", "1.12.2", "1.13.1"),
        _TAPE,
    ),
    Project("qs", "javascript", ("6.5.0", "6.5.2", "6.6.0", "6.7.0", "6.8.0"), _TAPE),
    Project("google/uuid", "go", ("v1.1.0", "v1.1.2", "v1.2.0", "v1.3.0", "v1.4.0", "v1.5.0", "v1.6.0"), _GO),
    Project("gorilla/mux", "go", ("v1.6.1", "v1.6.2", "v1.7.0", "v1.7.2", "v1.7.4", "v1.8.0"), _GO),
    Project("spf13/pflag", "go", ("v1.0.3", "v1.0.4", "v1.0.5", "v1.0.6", "v1.0.7"), _GO),
    Project("Masterminds/semver", "go", ("v3.0.1", "v3.0.3", "v3.1.0", "v3.1.1", "v3.2.0", "v3.2.1"), _GO),
)


@dataclass(frozen=True)
class RealIssue:
    """One change between two releases.

    Attributes:
        project: whose.
        name: unique within the project.
        base: every file that it starts from.
        change: path -> new content; None removes the file.
        compatible: whether the tests of the base pass on the changed product.
    """

    project: Project
    name: str
    base: Tree
    change: Mapping[str, bytes | None]
    compatible: bool

    @property
    def good(self) -> Tree:
        """Every file after the change."""
        return changed(self.base, self.change)

    @property
    def small(self) -> bool:
        """Whether it is of a size that is reviewed at once."""
        return len(self.change) <= _MOST_FILES and _lines(self.base, self.change) <= _MOST_LINES

    @property
    def product(self) -> list[str]:
        """Changed files of the product that exist after it."""
        return [path for path, data in self.change.items() if data is not None and self.project.is_product(path)]


def changed(tree: Mapping[str, bytes], change: Mapping[str, bytes | None]) -> Tree:
    """A tree with a change applied."""
    found = {path: data for path, data in tree.items() if path not in change}
    return found | {path: data for path, data in change.items() if data is not None}


class Scratch:
    """A folder in which trees are tried, one after another."""

    def __init__(self, folder: Path, project: Project, tools: Mapping[str, str]) -> None:
        self._folder = folder
        self.command = project.tests.format_map(tools)
        self._there: Tree = {}
        self._known: dict[str, tuple[bool, str]] = {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def run(self, tree: Tree) -> tuple[bool, str]:
        """Whether the project's tests pass on a tree, and the output; a run that does not end has not passed."""
        key = _digest(tree)
        if key not in self._known:
            self._known[key] = self._run(tree)
        return self._known[key]

    def _run(self, tree: Tree) -> tuple[bool, str]:
        self._write(tree)
        child = subprocess.Popen(
            ["sh", "-c", self.command],
            cwd=self._folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = child.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            return False, TIMEOUT
        return child.returncode == 0, output.decode("utf-8", "replace")

    def _write(self, tree: Tree) -> None:
        for path in self._there.keys() - tree.keys():
            (self._folder / path).unlink(missing_ok=True)
        for path, data in tree.items():
            if self._there.get(path) != data:
                write(self._folder / path, data)
        self._there = dict(tree)


def _digest(tree: Tree) -> str:
    found = hashlib.sha256()
    for path, data in sorted(tree.items()):
        found.update(f"{path}\0{len(data)}\0".encode() + data)
    return found.hexdigest()


def write(target: Path, data: bytes) -> None:
    """Write a file and the folders above it; a file in the place of a folder gives way."""
    for parent in reversed(target.parents):
        if parent.is_file():
            parent.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    target.write_bytes(data)


def environment() -> dict[str, str]:
    """The environment of every command: no caches in the tree, no module downloads."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "NODE_"))}
    go = {"GOFLAGS": "-mod=mod", "GOPROXY": "off", "GO111MODULE": "on"}
    return {**plain, "PYTHONDONTWRITEBYTECODE": "1", **go}


def tools_of(folder: Path) -> dict[str, str]:
    """Where the tools of the tests are; installed on first use."""
    python = folder / "python" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *_PYTHON_TOOLS], check=True)
    modules = folder / "tools" / "node_modules"
    if shutil.which("npm") and not (modules / "tape").is_dir():
        modules.parent.mkdir(parents=True, exist_ok=True)
        (modules.parent / "package.json").write_text('{"private": true}')
        subprocess.run(
            ["npm", "install", "--silent", "--no-save", "--ignore-scripts", *_NPM_TOOLS], cwd=modules.parent, check=True
        )
    return {"python": str(python), "tape": str(modules / "tape" / "bin" / "tape"), "modules": str(modules)}


def issues_of(project: Project, folder: Path, scratch: Scratch, repositories: Path | None) -> Iterator[RealIssue]:
    """The issues of a project, in order.

    Args:
        project: whose.
        folder: where downloads are kept.
        scratch: to try trees in.
        repositories: folder with clones of git projects as ``owner+name/repo``; None: they are cloned from GitHub.
    """
    for old, new in pairwise(project.versions):
        base = _tree(project, old, folder, repositories)
        target = _tree(project, new, folder, repositories)
        if base and target and scratch.run(base)[0]:
            yield from _between(project, f"{old}..{new}", base, target, scratch)


def _between(project: Project, name: str, base: Tree, target: Tree, scratch: Scratch) -> Iterator[RealIssue]:
    changes: dict[str, bytes | None] = {
        path: target.get(path)
        for path in sorted(base.keys() | target.keys())
        if base.get(path) != target.get(path) and (project.is_product(path) or project.is_test(path))
    }
    waiting: dict[str, bytes | None] = {}
    number = 0
    for group in _groups(project, changes):
        waiting |= {path: changes[path] for path in group}
        if not any(project.is_product(path) for path in waiting) or not scratch.run(changed(base, waiting))[0]:
            continue
        number += 1
        if len(waiting) <= _MOST_FILES and _lines(base, waiting) <= _MOST_LINES:
            product = {path: data for path, data in waiting.items() if project.is_product(path)}
            compatible = scratch.run(changed(base, product))[0]
            yield RealIssue(project, f"{name}#{number}", base, dict(waiting), compatible)
        base, waiting = changed(base, waiting), {}


def _groups(project: Project, changes: Mapping[str, bytes | None]) -> list[list[str]]:
    """Changed files that belong together: one of the product and the tests that have its name; then the rest."""
    product = [path for path in changes if project.is_product(path)]
    rest = [path for path in changes if path not in product]
    groups = []
    for path in product:
        stem = PurePosixPath(path).stem.strip("_")
        own = [other for other in rest if stem and stem in PurePosixPath(other).stem]
        rest = [other for other in rest if other not in own]
        groups.append([path, *own])
    return [*groups, rest] if rest else groups


def _lines(base: Tree, change: Mapping[str, bytes | None]) -> int:
    count = 0
    for path, data in change.items():
        old, new = (text.decode("utf-8", "replace").splitlines() for text in (base.get(path, b""), data or b""))
        count += sum(line[:1] in "+-" for line in difflib.unified_diff(old, new, n=0, lineterm="")) - 2
    return count


def _tree(project: Project, version: str, folder: Path, repositories: Path | None) -> Tree:
    home = folder / "releases" / f"{project.slug}-{version}"
    if not home.is_dir():
        partial = home.with_name(f".{home.name}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            _fetch(project, version, partial, repositories)
        except (subprocess.CalledProcessError, OSError) as error:
            sys.stderr.write(f"{project.name} {version}: left out: {error}\n")
            return {}
        partial.rename(home)
    [archive] = home.iterdir()
    found: Tree = {}
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            path = member.name.partition("/")[2]
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None and path and not _unwanted(path):
                found[path] = file.read()
    return found


def _unwanted(path: str) -> bool:
    """Files of packaging and of services, which are no part of a project's own work."""
    return (
        re.search(r"(^|/)(\.github|\.circleci|[^/]*\.egg-info|node_modules|\.git)(/|$)|PKG-INFO$|\.orig$", path)
        is not None
    )


def _fetch(project: Project, version: str, folder: Path, repositories: Path | None) -> None:
    if project.language == "python":
        pip = [str(folder.parent.parent / "python" / "bin" / "python"), "-m", "pip", "download", "-q", "--no-deps"]
        source = ["--no-binary", ":all:", "--no-build-isolation", "-d", str(folder)]
        _run([*pip, *source, f"{project.name}=={version}"])
    elif project.language == "javascript":
        _run(["npm", "pack", "--silent", f"{project.name}@{version}", "--pack-destination", str(folder)])
    else:
        clone = (repositories or folder.parent.parent / "clones") / project.name.replace("/", "+") / "repo"
        if not clone.is_dir():
            _run(["git", "clone", "-q", "--bare", f"https://github.com/{project.name}.git", str(clone)])
        _run(["git", "-C", str(clone), "archive", "--prefix=x/", "-o", str(folder / "release.tar"), version])


def _run(argv: Sequence[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=600)
