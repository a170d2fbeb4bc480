"""Installs what a tree describes: by a lock file, a file of requirements, or an entry of rules/environments.toml.

`node_modules` for a tree: links to the user's packages when its lock is the same, else what the lock installs. Node
looks for packages in the folders above a file. Without its own folder, a tree inside the checkout would find the
packages of the checkout, and among them the links to the checkout's own workspaces.

A tree whose lock file differs from that of the checkout, or is not installed, gets what its lock says, by uv. It
is made once for each lock and then overlaid like an environment of the user's. Files of requirements that differ from
those of the checkout are installed into a folder that comes before the user's packages.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from executor.environments.environment import NO_ENVIRONMENT, Step, TreeEnvironment, key_of, place_of
from executor.environments.interpreters import ask, on_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from executor.environments.interpreters import Interpreter
    from executor.git.worktrees import Workspace
    from executor.model.rules import EnvironmentRule

__all__ = [
    "NodeModules",
    "declared_environment",
    "installed_key",
    "link_modules",
    "locked_step",
    "module_folders",
    "modules_step",
    "node_modules",
    "requirements_of",
    "requirements_step",
]

_NPM = ("npm", "ci", "--no-audit", "--no-fund", "--prefer-offline")
_LOCKS = {
    "package-lock.json": _NPM,
    "npm-shrinkwrap.json": _NPM,
    "pnpm-lock.yaml": ("pnpm", "install", "--frozen-lockfile", "--prefer-offline"),
    "yarn.lock": ("yarn", "install", "--frozen-lockfile", "--prefer-offline"),
}
_CACHED = """
npm_config_cache=$(npm config get cache 2>/dev/null)
[ -w "$npm_config_cache" ] || npm_config_cache="$1/.npm"
export npm_config_cache
"""
"""In a sandbox the user's cache cannot be written to."""
_FOLDER = "node_modules"
_INSTALLED = (".package-lock.json", ".modules.yaml", ".yarn-state.yml", ".yarn-integrity")
_DEEPEST = 4  # folders between the top and a workspace
_CACHES = (".cache", ".vite", ".vitest")


@dataclass(frozen=True)
class NodeModules:
    """Packages that a tree needs.

    Attributes:
        folders: the `node_modules` folders of the checkout that fit, relative to it.
        install: the command that installs them instead; empty when some fit.
        manifests: the files that determine the installation, relative to the tree.
    """

    folders: tuple[str, ...]
    install: tuple[str, ...]
    manifests: tuple[str, ...] = ()


def node_modules(root: Path, tree: Path) -> NodeModules | None:
    """Return the packages that a tree with a package.json needs; None if it needs none or has them.

    Args:
        root: the user's checkout.
        tree: the tree.
    """
    if os.path.lexists(tree / _FOLDER):
        return None
    lock = next((name for name in _LOCKS if (tree / name).is_file()), "")
    if _node_same(root / (lock or "package.json"), tree / (lock or "package.json")):
        folders = module_folders(root, tree)
        if folders:
            return NodeModules(folders, ())
    return NodeModules((), _LOCKS[lock], tuple(_manifests(tree, lock))) if lock else None


def modules_step(
    store: Path, tree: Path, needed: NodeModules, env: Mapping[str, str], finish: Callable[[Path], TreeEnvironment]
) -> Step:
    """Install the packages in a lock file of Node, once for all trees with that lock and these manifests.

    Args:
        store: folder of reusable environments.
        tree: the tree.
        needed: the packages that the tree needs.
        env: the environment of a command without this one.
        finish: called for the tree with the folder of the installed packages.
    """
    node = os.path.realpath(shutil.which("node", path=env.get("PATH", "")) or "")
    facts = f"{node} {os.stat(node).st_size}" if node else ""  # noqa: PTH116  (a program, not a path of ours)
    key = key_of({"node": facts, **{name: (tree / name).read_bytes() for name in needed.manifests}})
    place = place_of(store, "node", key)

    def prepare() -> None:
        for name in needed.manifests:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / name, place / name, follow_symlinks=False)

    program, *words = needed.install
    text = _CACHED + 'shift; exec "$@"'
    return Step(
        name=f"packages of {needed.manifests[0]}",
        argv=("sh", "-c", text, "sh", str(place), *needed.install) if program == "npm" else (program, *words),
        finish=lambda: finish(place),
        place=place,
        start=place,
        key=f"{needed.manifests[0]} {node}",
        prepare=prepare,
    )


def _manifests(tree: Path, lock: str) -> Iterator[str]:
    """Yield the lock file, then the manifests of the project and of its workspaces, and the settings next to them."""
    yield lock
    for folder in _project_folders(tree):
        for name in ("package.json", ".npmrc", ".yarnrc", ".yarnrc.yml", "pnpm-workspace.yaml", ".pnpmfile.cjs"):
            if (folder / name).is_file() and not (folder / name).is_symlink():
                yield str((folder / name).relative_to(tree))
    for inner in ("patches", ".yarn/releases", ".yarn/patches"):
        for path in sorted((tree / inner).glob("*")):
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(tree))


def link_modules(root: Path, tree: Path, folders: tuple[str, ...]) -> list[str]:
    """Fill the folders with links to the user's packages; returns the links, relative to the tree.

    A link that leads into the checkout (a workspace, or `npm link`) leads into the tree instead.
    """
    made = []
    for name in folders:
        if not _links_inside(tree / name, tree):
            continue
        (tree / name).mkdir(parents=True, exist_ok=True)
        for source in _packages(root / name):
            place = tree / source.relative_to(root)
            place.parent.mkdir(exist_ok=True)
            real = Path(os.path.realpath(source))
            within = real.is_relative_to(root) and _FOLDER not in real.relative_to(root).parts
            place.symlink_to(tree / real.relative_to(root) if within else source)
            made.append(str(place.relative_to(tree)))
    return made


def module_folders(root: Path, tree: Path) -> tuple[str, ...]:
    """Return the `node_modules` folders below a folder whose projects the tree also has, relative to it."""
    found = [path.relative_to(root) for path in _folders(root)]
    return tuple(str(path) for path in found if (tree / path.parent).is_dir())


def installed_key(root: Path) -> str:
    """Return the digest of the package manager's record of installed packages; empty without one."""
    for name in _INSTALLED:
        path = root / _FOLDER / name
        if path.is_file():
            return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return ""


def _packages(folder: Path) -> Iterator[Path]:
    """Yield the entries of a `node_modules` folder, those of scopes individually."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in _CACHES:
            continue
        if entry.name.startswith("@") and entry.is_dir() and not entry.is_symlink():
            yield from (Path(inner.path) for inner in sorted(os.scandir(entry.path), key=lambda inner: inner.name))
        else:
            yield Path(entry.path)


def _folders(root: Path) -> Iterator[Path]:
    for folder in _project_folders(root):
        if (folder / _FOLDER).is_dir() and not (folder / _FOLDER).is_symlink():
            yield folder / _FOLDER


def _project_folders(top: Path, depth: int = 0) -> Iterator[Path]:
    yield top
    if depth >= _DEEPEST:
        return
    for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
        skipped = entry.name == _FOLDER or entry.name.startswith(".")
        if not skipped and entry.is_dir(follow_symlinks=False):
            yield from _project_folders(Path(entry.path), depth + 1)


def _node_same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _links_inside(path: Path, tree: Path) -> bool:
    return Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(tree))


_CACHE = 'cache=$(uv cache dir 2>/dev/null) && [ -w "$cache" ] || export UV_CACHE_DIR="$1/cache"; '
"""A sandbox has no cache of the user's that can be written to; what was fetched before it is linked from there."""
_SYNC = f"""{_CACHE}
uv sync --frozen --all-groups --all-extras && exit 0
echo "not every extra can be installed together: only the default groups are installed"
exec uv sync --frozen
"""
_INSTALL = f"""{_CACHE}
[ -x "$1/venv/bin/python" ] || uv venv --quiet "$1/venv" || exit 1
uv pip install --python "$1/venv/bin/python" --no-deps -r "$1/requirements.txt" || exit 1
[ -f pyproject.toml ] || [ -f setup.py ] || exit 0
exec uv pip install --python "$1/venv/bin/python" --no-deps -e .
"""


def locked_step(
    store: Path,
    tree: Path,
    lock: str,
    env: Mapping[str, str],
    files: Mapping[str, bytes],
    export: Callable[[Path], None],
    finish: Callable[[Path, Interpreter], TreeEnvironment],
) -> Step:
    """Create the environment of a lock file, once for all trees with that lock, and overlay it.

    Args:
        store: folder of reusable environments.
        tree: the tree.
        lock: name of its lock file.
        env: the environment of a command without this one.
        files: other files that the installation depends on, by path.
        export: writes the files of the tree into a folder; the project is installed from there, never from a tree.
        finish: called for the tree with that folder and the interpreter of the environment.
    """
    program = next(iter(on_path(env.get("PATH", ""))), None)
    python = os.path.realpath(program) if program is not None else ""
    key = key_of({"lock": lock, "interpreter": python, **{f"file {name}": data for name, data in files.items()}})
    place = place_of(store, "python", key)

    def prepare() -> None:
        export(place / "project")
        _write_lock(tree, lock, place)

    def done() -> TreeEnvironment:
        interpreter = ask(place / "venv" / "bin" / "python", place, env)
        return finish(place / "project", interpreter) if interpreter is not None else NO_ENVIRONMENT

    own = str(place / "venv")
    return Step(
        name=f"packages of {lock}",
        argv=("sh", "-c", _script_of(lock), "sh", str(place)),
        finish=done,
        place=place,
        start=place / "project",
        variables=(("UV_PROJECT_ENVIRONMENT", own), ("UV_PYTHON_DOWNLOADS", "never"), ("UV_NO_PROGRESS", "1")),
        key=f"{lock} {python}",
        prepare=prepare,
        first=_FETCH if lock == "uv.lock" else (),
    )


_FETCH = (
    "uv",
    "sync",
    "--frozen",
    "--no-install-workspace",
    "--no-build",
    "--all-groups",
    "--all-extras",
    "--quiet",
)
"""Fetches what a uv.lock names; `--no-build` runs no code of the packages while the network is open."""


def _script_of(lock: str) -> str:
    """Return the shell script that installs from a lock file of this name."""
    if lock == "uv.lock":
        return _SYNC
    return _INSTALL.replace("requirements.txt", "pylock.toml") if lock == "pylock.toml" else _INSTALL


def _write_lock(tree: Path, lock: str, place: Path) -> None:
    """Write a lock file where its script expects it; uv.lock comes with the files of the tree."""
    if lock == "pylock.toml":
        shutil.copy2(tree / lock, place / lock)
    elif lock != "uv.lock":
        (place / "requirements.txt").write_text(requirements_of((tree / lock).read_text("utf-8")), "utf-8")


def requirements_of(lock: str) -> str:
    """Return the packages of poetry.lock or pdm.lock as requirements, each with its exact version.

    Raises:
        ValueError: it is not TOML.
    """
    lines = []
    for package in tomllib.loads(lock).get("package", []):
        source = package.get("source", package)
        marker = package.get("markers", package.get("marker", ""))
        if isinstance(marker, dict):
            marker = marker.get("main", "")
        if source.get("type") == "git" or "git" in package:
            url = source.get("url") or package.get("git")
            commit = source.get("resolved_reference") or package.get("revision", "")
            line = f"{package['name']} @ git+{url}@{commit}"
        elif source.get("type") in {"directory", "file"} or "path" in package or not package.get("version"):
            continue
        else:
            line = f"{package['name']}=={package['version']}"
        lines.append(f"{line} ; {marker}" if marker else line)
    return "\n".join(lines) + "\n"


def requirements_step(
    store: Path, tree: Path, names: Sequence[str], interpreter: Interpreter, finish: Callable[[Path], TreeEnvironment]
) -> Step:
    """Install requirements files into a folder, once for all trees with these files."""
    key = key_of({"interpreter": str(interpreter.executable), **{name: (tree / name).read_bytes() for name in names}})
    place = place_of(store, "requirements", key)
    words = [word for name in names for word in ("-r", name)]
    own, packages = str(interpreter.executable), str(place / "packages")
    uv = ("uv", "pip", "install", "--quiet", "--python", own, "--target", packages, *words)
    pip = (own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", packages, *words)
    has_uv = shutil.which("uv") is not None
    return Step(
        name=f"packages of {', '.join(names)}",
        argv=("sh", "-c", f'{_CACHE}shift; exec "$@"', "sh", str(place), *uv) if has_uv else pip,
        finish=lambda: finish(place / "packages"),
        place=place,
        key=f"{' '.join(names)} {own}",
        first=(*uv, "--no-build") if has_uv else (),
    )


def declared_environment(name: str, rule: EnvironmentRule, workspace: Workspace, store: Path) -> TreeEnvironment:
    """Return an environment of rules/environments.toml; its command fills a folder for each content of its inputs."""
    start = workspace.start
    files = {
        str(path.relative_to(start)): path.read_bytes()
        for glob in rule.inputs
        for path in sorted(start.glob(glob))
        if path.is_file() and not path.is_symlink()
    }
    argv = ("sh", "-c", rule.run) if isinstance(rule.run, str) else tuple(rule.run)
    key = key_of({"run": repr(argv), **{f"file {path}": data for path, data in files.items()}})
    place = place_of(store, re.sub(r"[^\w.]+", "_", name), key)

    def filled(text: str) -> str:
        return text.replace("{environment}", str(place))

    made = TreeEnvironment(
        variables=tuple((variable, filled(value)) for variable, value in rule.variables.items()),
        programs=tuple(("", filled(folder)) for folder in reversed(rule.programs)),
        readable=(*(Path(filled(path)).expanduser() for path in rule.readable), *((place,) if argv else ())),
    )
    if not argv:
        return made
    step = Step(
        name=f"environment {name}",
        argv=tuple(map(filled, argv)),
        finish=lambda: made,
        place=place,
        variables=(("EXECUTOR_ENVIRONMENT", str(place)),),
        network=rule.network,
        timeout=rule.timeout,
        key=f"rules/environments.toml {' '.join(files)}".strip(),
    )
    return TreeEnvironment(steps=(step,))
