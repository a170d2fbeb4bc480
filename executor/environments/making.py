"""Makes the environment of a tree, by looking at what the user's tools would load and at the tree.

The download caches of compiled languages can be read in a sandbox, so that a check needs no network. Manifests and
settings that name the user's checkout belong to somebody and are not rewritten; they are found instead.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from executor.environments.environment import NO_ENVIRONMENT, Step, TreeEnvironment, first_word, place_of
from executor.environments.generated import (
    BUILD,
    bring_generated,
    build_key,
    generated_files,
    generated_key,
    is_compiled,
    is_native,
    must_build,
    place_modules,
)
from executor.environments.installing import (
    declared_environment,
    installed_key,
    link_modules,
    locked_step,
    module_folders,
    modules_step,
    node_modules,
    requirements_step,
)
from executor.environments.interpreters import Redirection, first_interpreter, leading_into
from executor.environments.python import python_conditions, python_environment
from executor.git.checkout import checkouts_of
from executor.git.command import Git
from executor.model.rules import PACKAGED, EnvironmentRule, EnvironmentRules

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from executor.environments.interpreters import Interpreter
    from executor.environments.python import PythonEnvironment
    from executor.git.command import Repository
    from executor.git.objects import Store
    from executor.git.worktrees import Workspace


__all__ = [
    "conditions_of",
    "leading_outside",
    "locked",
    "other_requirements",
    "toolchain_environment",
    "tree_environment",
]

_MANIFESTS = (
    *("go.mod", "go.work", "Cargo.toml", ".cargo/config", ".cargo/config.toml", "package.json", ".npmrc", ".yarnrc"),
    *(".yarnrc.yml", "pnpm-workspace.yaml", "tsconfig*.json", "jsconfig.json", "*.config.js", "*.config.ts"),
    *("*.config.mjs", "*.config.cjs", "pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "pytest.ini"),
    *("conftest.py", "sitecustomize.py", "requirements*.txt", "Makefile", "makefile", "GNUmakefile", "*.mk"),
    *("CMakeLists.txt", "pom.xml", "build.gradle", "build.gradle.kts", "composer.json", "Gemfile", "deno.json"),
)
_MANIFEST = re.compile(
    "(?:.*/)?(?:" + "|".join(re.escape(name).replace(r"\*", "[^/]*") for name in _MANIFESTS) + ")", re.DOTALL
)
_MOST_READ = 50  # manifests; reading more of them one by one takes longer than one process of git
_SETTINGS = (
    *(".npmrc", ".config/go/env", ".cargo/config.toml", ".cargo/config", ".config/pip/pip.conf", ".yarnrc.yml"),
)


def toolchain_environment(tree: Path, user: Mapping[str, str], left: Collection[str] = ()) -> TreeEnvironment:
    """Return what Go, Cargo and Maven need besides their programs, if the tree has a project of theirs.

    Args:
        tree: the tree.
        user: the user's environment, which determines the caches.
        left: the omitted languages: ``go``, ``cargo``, ``maven``.
    """
    home = Path(user.get("HOME") or "/nonexistent")
    made = NO_ENVIRONMENT
    if "go" not in left and any((tree / name).is_file() for name in ("go.mod", "go.work")):
        made = made.joined(_go(tree, home, user))
    if "cargo" not in left and (tree / "Cargo.toml").is_file():
        made = made.joined(_cargo(home, user))
    if "maven" not in left and (tree / "pom.xml").is_file():
        made = made.joined(TreeEnvironment(readable=_present(home / ".m2" / "repository")))
    return made


def _go(tree: Path, home: Path, user: Mapping[str, str]) -> TreeEnvironment:
    """Return the module cache; disables workspace files of parent folders, such as the user's checkout."""
    path = Path(user.get("GOPATH", "").split(":")[0] or home / "go")
    modules = Path(user.get("GOMODCACHE") or path / "pkg" / "mod")
    shown = _present(modules)
    variables = [("GOMODCACHE", str(modules))] if shown else []
    work = tree / "go.work"
    variables.append(("GOWORK", str(work) if work.is_file() else "off"))
    return TreeEnvironment(variables=tuple(variables), readable=shown)


def _cargo(home: Path, user: Mapping[str, str]) -> TreeEnvironment:
    """Return registry and toolchains, without the token stored next to them."""
    cargo = Path(user.get("CARGO_HOME") or home / ".cargo")
    rustup = Path(user.get("RUSTUP_HOME") or home / ".rustup")
    own = [(key, user[key]) for key in ("CARGO_HOME", "RUSTUP_HOME") if user.get(key)]
    names = ("registry", "git", "bin", "config.toml", "config")
    return TreeEnvironment(variables=tuple(own), readable=_present(*(cargo / name for name in names), rustup))


def _present(*paths: Path) -> tuple[Path, ...]:
    return tuple(path for path in paths if path.exists())


def leading_outside(
    repository: Repository,
    roots: Sequence[Path],
    tree: str,
    programs: Iterable[Path],
    home: Path,
    store: Store | None = None,
) -> list[tuple[str, str]]:
    """Return files by which tools outside a sandbox would load the user's checkout and that cannot be redirected.

    Args:
        repository: the user's repository.
        roots: the user's checkout and its other worktrees.
        tree: the tree whose manifests are read.
        programs: the programs that will run on it, as found on PATH.
        home: the folder of the user's settings.
        store: reads a few manifests without a process; without it, git searches the tree.

    Returns:
        Each file with its remedy.
    """
    redirection = Redirection(tuple(sorted({str(root) for root in roots} | set(map(os.path.realpath, roots)))), "/")
    names = [] if store is None else [name for name in sorted(store.paths(tree)) if _MANIFEST.fullmatch(name)]
    if store is None or len(names) > _MOST_READ:
        named = _searched(Git(repository.git_dir, repository.top), redirection, tree)
    else:
        named = [name for name in names if redirection.names_a_root(store.blob(tree, name) or b"")]
    found = [(name, "write a path relative to the project there") for name in named]
    settings = [path for name in _SETTINGS if (path := home / name).is_file()]
    remedy = "remove that path during a run, or let the agent work in the sandbox"
    found += [(str(path), remedy) for path in settings if redirection.names_a_root(path.read_bytes())]
    for program in programs:
        real = Path(os.path.realpath(program))
        inside = any(real.is_relative_to(os.path.realpath(root)) for root in roots)
        if inside and not any(program.is_relative_to(root) for root in roots):
            found.append((str(program), "it is a link to the checkout, created by npm link: use the tree's program"))
    return list(dict.fromkeys(found))


def _searched(git: Git, redirection: Redirection, tree: str) -> list[str]:
    """Return the manifests of a tree that name the checkout, found by git."""
    words = [word for root in redirection.roots for word in ("-e", root)]
    globs = [f":(glob)**/{name}" for name in _MANIFESTS]
    extra = {"GIT_LITERAL_PATHSPECS": "0"}
    _, answer, _ = git.call("grep", "-z", "-l", "-I", "-F", *words, tree, "--", *globs, extra=extra)
    names = [os.fsdecode(line).partition(":")[2] for line in answer.split(b"\0") if line]
    return [name for name in names if redirection.names_a_root(git.run("cat-file", "blob", f"{tree}:{name}"))]


_PYTHON = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")
_LOCKS = ("uv.lock", "pylock.toml", "poetry.lock", "pdm.lock")
_REQUIREMENTS = ("*requirements*.txt", "requirements/*.txt")


def tree_environment(
    repository: Repository,
    workspace: Workspace,
    slot: int,
    env: Mapping[str, str],
    store: Path,
    rules: EnvironmentRules = EnvironmentRules(),  # noqa: B008  (a frozen value)
    *,
    sabotaged: bool = False,
) -> TreeEnvironment:
    """Create the environment in which a workspace's commands load its tree, and nothing of the user's checkout.

    Args:
        repository: the user's repository.
        workspace: the freshly checked out tree.
        slot: number of its slot.
        env: the environment of a command without this one.
        store: folder of reusable environments.
        rules: the rules of rules/environments.toml.
        sabotaged: the tree is a deliberately broken copy that cannot be compiled.
    """
    tree = workspace.folder
    making = _Making(repository, workspace, checkouts_of(repository.top, repository.common_dir), env, store)
    making.sabotaged = sabotaged
    own = TreeEnvironment(tree=str(tree), slot=slot, programs=moved_programs(making.roots, tree, env))
    declared = [(name, rule) for name, rule in rules.environments.items() if _applies(rule, workspace.start)]
    replaced: set[str] = {kind for _, rule in declared for kind in rule.replaces}
    if rules.prefix:  # what runs elsewhere finds its tools there
        replaced.update(PACKAGED)
    if "python" not in replaced:
        own = own.joined(making.python())
    if "node" not in replaced and (tree / "package.json").is_file():
        own = own.joined(making.node())
    own = own.joined(toolchain_environment(tree, os.environ, replaced))
    for name, rule in declared:
        own = own.joined(declared_environment(name, rule, workspace, store))
    workspace.remember_brought(making.brought)
    return own


class _Making:
    """The environment of one tree during its creation."""

    def __init__(
        self, repository: Repository, workspace: Workspace, roots: tuple[Path, ...], env: Mapping[str, str], store: Path
    ) -> None:
        self._repository, self._workspace, self._env, self._store = repository, workspace, env, store
        self._tree = workspace.folder
        self._made = workspace.index.with_name(f"{workspace.use}.env")
        self.roots = roots
        self.sabotaged = False
        self.brought: list[str] = []

    def python(self) -> TreeEnvironment:
        """Return the overlaid user's environment, or the one that the tree's lock describes."""
        root, start = self._beside(), self._workspace.start
        project = any((start / name).is_file() for name in _PYTHON)
        lock = locked(root, start, self.roots, self._env) if project else ""
        if lock:
            files = {name: (start / name).read_bytes() for name in self._sources() if (start / name).is_file()}
            return TreeEnvironment(
                steps=(locked_step(self._store, start, lock, self._env, files, self._export, self._overlaid),)
            )
        names = other_requirements(root, start) if project else []
        interpreters = leading_into(self.roots, self._env)
        if names and not interpreters:
            interpreters = first_interpreter(self._tree, self._env)
        if not interpreters:
            return NO_ENVIRONMENT
        made = python_environment(self.roots, self._tree, self._made, self._env, interpreters)
        own = self._complete(made, self._repository.top)
        if not names:
            return own

        def finish(packages: Path) -> TreeEnvironment:
            for _, overlay, _ in made.made:
                line = f"import sys; sys.path.insert(0, {str(packages)!r})\n"
                (overlay.site / "_requirements.pth").write_text(line, encoding="utf-8")
            return TreeEnvironment(readable=(packages,))

        step = requirements_step(self._store, start, names, interpreters[0], finish)
        return own.joined(TreeEnvironment(steps=(step,)))

    def _beside(self) -> Path:
        """Return the folder of the checkout that corresponds to the project's in the tree."""
        return self._repository.top / self._workspace.prefix

    def _overlaid(self, project: Path, interpreter: Interpreter) -> TreeEnvironment:
        made = python_environment((project,), self._workspace.start, self._made, self._env, [interpreter])
        return self._complete(made, project)

    def _complete(self, made: PythonEnvironment, root: Path) -> TreeEnvironment:
        """Add the generated files of a checkout, and compiled modules that match the tree, to the environment."""
        own = made.environment
        if not made.pointed and not any(installed for _, _, installed in made.made):
            return own
        tree = self._workspace.start if root != self._repository.top else self._tree
        ignored = self._ignored_in(root)
        names = [name for name in generated_files(root, made.pointed, ignored) if is_compiled(name)]
        tracked = self._tracked(tree)
        sources = [name for name in tracked if is_native(name)]
        if self.sabotaged and any(name.endswith(".py") and not is_native(name) for name in tracked):
            sources = []  # the broken Python code is seen without a build, which would fail before the check
        rebuilt = [
            self._compiled_step(made, number, sources, names, tree)
            for number in range(len(made.made))
            if sources and must_build(root, tree, sources, made.compiled(names, number))
        ]
        self.brought += bring_generated(root, tree, made.pointed, ignored, compiled=not rebuilt)
        return replace(own, steps=(*own.steps, *rebuilt))

    def _compiled_step(
        self, made: PythonEnvironment, number: int, sources: list[str], names: list[str], tree: Path
    ) -> Step:
        interpreter, overlay, _ = made.made[number]
        compiled = made.compiled(names, number)
        place = place_of(self._store, "compiled", build_key(tree, sources, f"{interpreter.base} {interpreter.full}"))

        def finish() -> TreeEnvironment:
            placed, _ = place_modules(place, tree, overlay.site, made.pointed, compiled)
            prefix = f"{tree.relative_to(self._tree)}/" if tree != self._tree else ""
            self.brought += [f"{prefix}{name}" for name in placed]
            self._workspace.remember_brought(self.brought)
            return NO_ENVIRONMENT

        return Step(
            name="compiled modules",
            argv=(str(overlay.bin / "python"), "-c", BUILD, str(tree), str(place)),
            finish=finish,
            place=place,
            variables=versions_pretended(self._repository),
            key=f"compiled sources {interpreter.base}",
        )

    def _sources(self) -> list[str]:
        """Return the files that determine the installation of a project, apart from its code."""
        return [
            name
            for name in self._tracked(self._workspace.start)
            if is_native(name) or name in {*_LOCKS, ".python-version"}
        ]

    def _tracked(self, folder: Path) -> list[str]:
        """Return the tracked files below a folder of the tree, relative to it."""
        git = Git(self._repository.git_dir, self._repository.top)
        output = git.run("ls-files", "-z", "--cached", extra={"GIT_INDEX_FILE": str(self._workspace.index)})
        names = [os.fsdecode(name) for name in output.split(b"\0") if name]
        prefix = f"{folder.relative_to(self._tree)}/" if folder != self._tree else ""
        return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]

    def _export(self, target: Path) -> None:
        """Write the tracked files of the project into a folder."""
        for name in self._tracked(self._workspace.start):
            source, place = self._workspace.start / name, target / name
            if source.is_file() or source.is_symlink():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, place, follow_symlinks=False)

    def _ignored_in(self, root: Path) -> Callable[[Sequence[str]], Sequence[str]]:
        if root == self._repository.top:
            return _ignored_in(self._repository)
        tracked = set(self._tracked(self._workspace.start))

        def made(folders: Sequence[str]) -> list[str]:
            found = {path for folder in folders for path in (root / folder).rglob("*") if path.is_file()}
            return [name for path in found if (name := str(path.relative_to(root))) not in tracked]

        return made

    def node(self) -> TreeEnvironment:
        """Create a tree's `node_modules` if git ignores that name; its links are recorded as copied files."""
        needed = node_modules(self._repository.top, self._tree)
        if needed is None or not _is_ignored(self._repository, "node_modules/x"):
            return NO_ENVIRONMENT
        if needed.install:
            return TreeEnvironment(steps=(modules_step(self._store, self._tree, needed, self._env, self._link),))
        return self._link(self._repository.top, needed.folders)

    def _link(self, root: Path, folders: tuple[str, ...] | None = None) -> TreeEnvironment:
        folders = module_folders(root, self._tree) if folders is None else folders
        self.brought += link_modules(root, self._tree, folders)
        self._workspace.remember_brought(self.brought)
        return TreeEnvironment(readable=tuple(root / name for name in folders))


def moved_programs(roots: Sequence[Path], tree: Path, env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return folders of PATH inside the checkout, each with the corresponding folder of the tree to put before it.

    Tools such as direnv put `bin` or `node_modules/.bin` of the checkout on PATH. Virtual environments are excluded.
    """
    found = []
    for part in env.get("PATH", "").split(os.pathsep):
        inside = next((Path(part).relative_to(root) for root in roots if Path(part).is_relative_to(root)), None)
        if inside is not None and not (Path(part).parent / "pyvenv.cfg").is_file():
            found.append((part, str(tree / inside)))
    return tuple(found)


def versions_pretended(repository: Repository) -> tuple[tuple[str, str], ...]:
    """Return the version of the last tag for build tools that ask git, since a copy of a tree has no history."""
    code, found, _ = Git(repository.git_dir, repository.top).call("describe", "--tags", "--abbrev=0")
    match = re.search(r"\d[\w.]*", found.decode("utf-8", "replace")) if code == 0 else None
    version = match[0] if match else "0.0.0"
    names = ("SETUPTOOLS_SCM_PRETEND_VERSION", "PDM_BUILD_SCM_VERSION", "POETRY_DYNAMIC_VERSIONING_BYPASS")
    return tuple((name, version) for name in names)


def _applies(rule: EnvironmentRule, start: Path) -> bool:
    return not rule.when or any(next(start.glob(glob), None) is not None for glob in rule.when)


def conditions_of(repository: Repository, argv: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """Return the conditions of a command besides its tree, by name: program, user's environment, generated files."""
    roots = checkouts_of(repository.top, repository.common_dir)
    found, pointed = python_conditions(roots, env)
    if pointed:
        names = generated_files(repository.top, pointed, _ignored_in(repository))
        if names:
            found["generated files"] = generated_key(repository.top, names)
    installed = installed_key(repository.top)
    if installed:
        found["node_modules"] = installed
    name = first_word(argv)
    program = shutil.which(name, path=env.get("PATH", "")) if name and "/" not in name.lstrip("/") else None
    if program is not None:
        facts = os.stat(program)  # noqa: PTH116  (one call, for each verdict)
        found[f"program {name}"] = f"{program} {facts.st_size} {facts.st_mtime_ns}"
    return found


def _is_ignored(repository: Repository, path: str) -> bool:
    git = Git(repository.git_dir, repository.top)
    extra = {"GIT_WORK_TREE": str(repository.top), "GIT_LITERAL_PATHSPECS": "0"}  # check-ignore refuses literal ones
    code, _, _ = git.call("check-ignore", "-q", path, extra=extra)
    return code == 0


def _ignored_in(repository: Repository) -> Callable[[Sequence[str]], Sequence[str]]:
    """Return a function that lists the files in folders of the checkout that git ignores, relative to the checkout."""
    git = Git(repository.git_dir, repository.top)

    def ignored(folders: Sequence[str]) -> list[str]:
        names = [folder or "." for folder in folders if (repository.top / folder).exists()]
        if not names:
            return []
        asked = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", *names)
        output = git.run(*asked, extra={"GIT_WORK_TREE": str(repository.top)})
        return [os.fsdecode(name) for name in output.split(b"\0") if name]

    return ignored


def locked(root: Path, tree: Path, roots: Sequence[Path], env: Mapping[str, str]) -> str:
    """Return the lock file of a tree whose packages must be installed; empty if the user's environment has them."""
    name = next((name for name in _LOCKS if (tree / name).is_file()), "")
    if not name or shutil.which("uv", path=env.get("PATH", "")) is None:
        return ""
    same = (root / name).is_file() and (root / name).read_bytes() == (tree / name).read_bytes()
    return "" if same and leading_into(roots, env) else name


def other_requirements(root: Path, tree: Path) -> list[str]:
    """Return the requirements files of a tree that are new, or differ from those of the checkout."""
    found = sorted({path for glob in _REQUIREMENTS for path in tree.glob(glob) if path.is_file()})
    names = [str(path.relative_to(tree)) for path in found if not path.is_symlink()]
    return [
        name
        for name in names
        if not (root / name).is_file() or (root / name).read_bytes() != (tree / name).read_bytes()
    ]
