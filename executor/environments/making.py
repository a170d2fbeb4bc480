"""Files that the user's build made in the checkout and that git ignores: version files and compiled modules.

An editable install loads them from the checkout, so that a tree without them does not work. They are copied into the
tree, where git ignores them too, and never land.

`node_modules` for a tree: links to the user's packages when its lock is the same, else what the lock installs.

Node looks for packages in the folders above a file. Without a folder of its own, a tree inside the checkout would find
the packages of the checkout, and among them the links to the checkout's own workspaces.

The download caches of compiled languages: readable in a sandbox, so that a check needs no network.

Makes the environment of a tree, by looking at what the user's tools would load and at the tree.
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
from executor.environments.python import python_conditions, python_environment
from executor.git.command import Git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from executor.git.repository import Repository
    from executor.git.worktrees import Workspace

__all__ = [
    "NodeModules",
    "bring_generated",
    "checkouts_of",
    "conditions_of",
    "generated_files",
    "generated_key",
    "installed_key",
    "is_compiled",
    "is_generated",
    "link_modules",
    "node_modules",
    "toolchain_environment",
    "tree_environment",
]


_COMPILED = (".so", ".pyd", ".dylib", ".dll")
_NAMES = re.compile(
    r"_?_?version(?:_info)?(?:__|_static)?\.(?:py|pyi|txt)|_build(?:_info|_config)?\.py|\w+_pb2(?:_grpc)?\.pyi?"
)
_MARKS = re.compile(rb"(?i)\bgenerated\b|do not (?:edit|change|modify)|don't (?:edit|change)")
_HEAD = 1024
_SKIPPED = re.compile(r"(?:^|/)(?:__pycache__|node_modules|build|dist|\.[^/]+|[^/]*venv[^/]*|env)(?:/|$)")
_LARGEST = 256 * 1024 * 1024


def bring_generated(
    root: Path, tree: Path, folders: Sequence[str], ignored: Callable[[Sequence[str]], Sequence[str]]
) -> tuple[str, ...]:
    """Copy the generated files of some folders of the checkout into a tree that lacks them; returns their paths.

    Args:
        root: the user's checkout.
        tree: the tree.
        folders: where editable installs lead, relative to the checkout; empty text is the checkout itself.
        ignored: names the files in these folders that git ignores.
    """
    paths = []
    for name in generated_files(root, folders, ignored):
        source, target = root / name, tree / name
        if os.path.lexists(target) or not _is_inside(target, tree):
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
    if name.endswith((".py", ".pyi", ".txt")) and _NAMES.fullmatch(parts[-1]):
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


_NPM = ("npm", "ci", "--no-audit", "--no-fund", "--prefer-offline")
_LOCKS = {
    "package-lock.json": _NPM,
    "npm-shrinkwrap.json": _NPM,
    "pnpm-lock.yaml": ("pnpm", "install", "--frozen-lockfile", "--prefer-offline"),
    "yarn.lock": ("yarn", "install", "--frozen-lockfile", "--prefer-offline"),
}
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
    """

    folders: tuple[str, ...]
    install: tuple[str, ...]


def node_modules(root: Path, tree: Path) -> NodeModules | None:
    """The packages that a tree needs; None if it needs none, or has them.

    Args:
        root: the user's checkout.
        tree: the tree.
    """
    if not (tree / "package.json").is_file() or os.path.lexists(tree / _FOLDER):
        return None
    lock = next((name for name in _LOCKS if (tree / name).is_file()), "")
    if _same(root / (lock or "package.json"), tree / (lock or "package.json")):
        found = [path.relative_to(root) for path in _folders(root)]
        folders = tuple(str(path) for path in found if (tree / path.parent).is_dir())
        if folders:
            return NodeModules(folders, ())
    return NodeModules((), _LOCKS[lock]) if lock else None


def link_modules(root: Path, tree: Path, folders: tuple[str, ...]) -> list[str]:
    """Fill the folders with links to the user's packages; returns the links, relative to the tree.

    A link of the user's that leads into the checkout, to a workspace or by `npm link`, leads into the tree instead.
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


def installed_key(root: Path) -> str:
    """Digest of what the package manager says that it installed in the checkout; empty if it says nothing."""
    for name in _INSTALLED:
        path = root / _FOLDER / name
        if path.is_file():
            return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return ""


def _packages(folder: Path) -> Iterator[Path]:
    """The entries of a `node_modules` folder, those of scopes one by one."""
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


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _links_inside(path: Path, tree: Path) -> bool:
    return Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(tree))


def toolchain_environment(tree: Path, user: Mapping[str, str]) -> TreeEnvironment:
    """What Go, Cargo and Maven need beside their programs, if the tree has a project of theirs.

    Args:
        tree: the tree.
        user: the user's own environment, which says where the caches are.
    """
    home = Path(user.get("HOME") or "/nonexistent")
    made = NO_ENVIRONMENT
    if any((tree / name).is_file() for name in ("go.mod", "go.work")):
        made = made.joined(_go(tree, home, user))
    if (tree / "Cargo.toml").is_file():
        made = made.joined(_cargo(home, user))
    if (tree / "pom.xml").is_file():
        made = made.joined(TreeEnvironment(readable=_present(home / ".m2" / "repository")))
    return made


def _go(tree: Path, home: Path, user: Mapping[str, str]) -> TreeEnvironment:
    """The module cache; and no workspace file of a folder above the tree, such as the user's checkout."""
    path = Path(user.get("GOPATH", "").split(":")[0] or home / "go")
    modules = Path(user.get("GOMODCACHE") or path / "pkg" / "mod")
    shown = _present(modules)
    variables = [("GOMODCACHE", str(modules))] if shown else []
    if not (tree / "go.work").is_file():
        variables.append(("GOWORK", "off"))
    return TreeEnvironment(variables=tuple(variables), readable=shown)


def _cargo(home: Path, user: Mapping[str, str]) -> TreeEnvironment:
    """Registry and toolchains, but not the token that lies beside them."""
    cargo = Path(user.get("CARGO_HOME") or home / ".cargo")
    rustup = Path(user.get("RUSTUP_HOME") or home / ".rustup")
    own = [(key, user[key]) for key in ("CARGO_HOME", "RUSTUP_HOME") if user.get(key)]
    names = ("registry", "git", "bin", "config.toml", "config")
    return TreeEnvironment(variables=tuple(own), readable=_present(*(cargo / name for name in names), rustup))


def _present(*paths: Path) -> tuple[Path, ...]:
    return tuple(path for path in paths if path.exists())


def tree_environment(
    repository: Repository, workspace: Workspace, slot: int, env: Mapping[str, str]
) -> TreeEnvironment:
    """Make the environment in which the commands of a workspace load its tree, and nothing of the user's checkout.

    Args:
        repository: the user's.
        workspace: the tree, as it was checked out.
        slot: number of the slot that it belongs to.
        env: the environment that a command would have without this one.
    """
    roots = checkouts_of(repository.top, repository.common_dir)
    made = workspace.index.with_name(f"{workspace.folder.name}.env")
    python = python_environment(roots, workspace.folder, made, env)
    brought: list[str] = []
    if python.pointed:
        ignored = _ignored_in(repository)
        brought += bring_generated(repository.top, workspace.folder, python.pointed, ignored)
    node = _node_environment(repository, workspace.folder, brought)
    workspace.remember_brought(brought)
    own = TreeEnvironment(tree=str(workspace.folder), slot=slot)
    return own.joined(python.environment).joined(node).joined(toolchain_environment(workspace.folder, os.environ))


def _node_environment(repository: Repository, tree: Path, brought: list[str]) -> TreeEnvironment:
    """Give a tree its `node_modules`, if git ignores that name; the links are added to what was brought."""
    needed = node_modules(repository.top, tree)
    if needed is None or not _is_ignored(repository, "node_modules/x"):
        return NO_ENVIRONMENT
    if needed.install:
        return TreeEnvironment(install=needed.install)
    brought += link_modules(repository.top, tree, needed.folders)
    return TreeEnvironment(readable=tuple(repository.top / name for name in needed.folders))


def conditions_of(repository: Repository, argv: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """What a command does depends on beside its tree, by name: its program, the user's environment, generated files."""
    roots = checkouts_of(repository.top, repository.common_dir)
    found, pointed = python_conditions(roots, env)
    if pointed:
        names = generated_files(repository.top, pointed, _ignored_in(repository))
        if names:
            found["generated files"] = generated_key(repository.top, names)
    installed = installed_key(repository.top)
    if installed:
        found["node_modules"] = installed
    name = _first_word(argv)
    program = shutil.which(name, path=env.get("PATH", "")) if name and "/" not in name.lstrip("/") else None
    if program is not None:
        facts = os.stat(program)  # noqa: PTH116  (one call, for each verdict)
        found[f"program {name}"] = f"{program} {facts.st_size} {facts.st_mtime_ns}"
    return found


def _first_word(argv: Sequence[str]) -> str:
    """The program of a command; of a shell command its first word, if that is one."""
    if tuple(argv[:2]) != ("sh", "-c"):
        return argv[0]
    words = re.match(r"\s*(?:\w+=\S*\s+)*([\w.+-]+)(?:\s|$)", argv[2])
    return words[1] if words else ""


def _is_ignored(repository: Repository, path: str) -> bool:
    git = Git(repository.git_dir, repository.top)
    extra = {"GIT_WORK_TREE": str(repository.top), "GIT_LITERAL_PATHSPECS": "0"}  # check-ignore refuses literal ones
    code, _, _ = git.call("check-ignore", "-q", path, extra=extra)
    return code == 0


def _ignored_in(repository: Repository) -> Callable[[Sequence[str]], Sequence[str]]:
    """Names the files in some folders of the checkout that git ignores, relative to the checkout."""
    git = Git(repository.git_dir, repository.top)

    def ignored(folders: Sequence[str]) -> list[str]:
        names = [folder or "." for folder in folders if (repository.top / folder).exists()]
        if not names:
            return []
        asked = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", *names)
        told = git.run(*asked, extra={"GIT_WORK_TREE": str(repository.top)})
        return [os.fsdecode(name) for name in told.split(b"\0") if name]

    return ignored


def checkouts_of(top: Path, common_dir: Path) -> tuple[Path, ...]:
    """The user's checkout, then the main checkout and the linked worktrees of its repository that are there."""
    found = [top]
    if common_dir.name == ".git":
        found.append(common_dir.parent)
    pointers = sorted((common_dir / "worktrees").glob("*/gitdir"))
    found += [Path(pointer.read_text("utf-8", "surrogateescape").strip()).parent for pointer in pointers]
    return tuple(dict.fromkeys(path for path in found if path.is_dir()))
