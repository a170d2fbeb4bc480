"""A repository from the executor's view: its paths, its declarations, and their execution order."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from executor.errors import DeclarationError, Fault, PersonNeededError, RepositoryError, StateBrokenError, UsageError
from executor.git.command import Repository, find_repository
from executor.model.fingerprint import IssueRef
from executor.process.files import NO_SPACE, content_of, files_in, state_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.config.load_milestones import Loaded
    from executor.git.checkout import Obstacle
    from executor.git.refs import Refs
    from executor.model.milestone import Milestone
    from executor.model.plan import Plan
    from executor.model.policy import Policy

__all__ = [
    "Compiled",
    "Project",
    "base_branch",
    "base_names",
    "compile_loaded",
    "compile_project",
    "has_milestones",
    "obstacles_of",
    "open_project",
    "packaged_rules",
    "prepare_cache",
    "require_settled",
    "unknown_milestone",
]


@dataclass(frozen=True)
class Project:
    """The paths of a repository. `root` holds milestones/, rules/ and .cache/."""

    root: Path
    repository: Repository

    @cached_property
    def prefix(self) -> str:
        """Folder of the project in its repository, with a slash at the end; empty at the top level."""
        top = self.repository.top.resolve()
        inside = self.root.relative_to(top).as_posix() if self.root.is_relative_to(top) else "."
        return "" if inside == "." else f"{inside}/"

    def inside(self, path: str) -> str:
        """Return the repository path of a project path."""
        return posixpath.normpath(f"{self.prefix}{path}") if self.prefix else path

    def relative(self, path: str) -> str:
        """Return the project path of a repository path."""
        return posixpath.relpath(path, self.prefix) if self.prefix else path

    def within(self, tree: Path) -> Path:
        """Return the project's folder in another checkout of the repository."""
        return tree / self.prefix

    @cached_property
    def cache(self) -> Path:
        """`.cache/`: may be deleted at any time."""
        return self.root / ".cache"

    @cached_property
    def summary(self) -> Path:
        """The stored summary of every issue's status (`executor.status.summary_cache`)."""
        return self.cache / "_board" / "pending.json"

    @cached_property
    def milestones(self) -> Path:
        """`milestones/`."""
        return self.root / "milestones"

    @cached_property
    def rules(self) -> Path:
        """`rules/`: the user's overrides."""
        return self.root / "rules"

    def state(self, milestone: str) -> Path:
        """Return the folder of a milestone's lock, journal, receipts and logs."""
        return self.cache / milestone

    def receipt(self, milestone: str, issue: str) -> Path:
        """Return the receipt of a landed issue, the doit target, which is rebuilt from git if missing."""
        return self.state(milestone) / "receipts" / f"{issue}.json"

    def step(self, milestone: str, issue: str, step: str) -> Path:
        """Return the folder of a step's outputs and receipt, doit targets that are rebuilt from git if missing."""
        return self.state(milestone) / "steps" / issue / step

    def logs(self, milestone: str, issue: str, attempt: int) -> Path:
        """Return the folder of an attempt's brief and output."""
        return self.state(milestone) / "logs" / issue / str(attempt)


@dataclass(frozen=True, slots=True)
class Compiled:
    """All valid declarations: milestones, rules, plan.

    Attributes:
        project: the project.
        loaded: the milestones, without omitted ones.
        policy: the rules.
        plan: their issues in order.
        faults: faults of the omitted milestones.
        left_out: ids of milestones with a fault, and of milestones that need them.
    """

    project: Project
    loaded: Loaded
    policy: Policy
    plan: Plan
    faults: tuple[Fault, ...] = ()
    left_out: frozenset[str] = frozenset()

    def milestone(self, name: str) -> Milestone:
        """Return a declared milestone.

        Raises:
            UsageError: it does not exist.
            DeclarationError: it is omitted because of a fault.
        """
        if name in self.loaded.drafts:
            raise UsageError(f"{name} is a draft: {self.loaded.drafts[name][0]}")
        try:
            return self.loaded.milestones[name]
        except KeyError:
            if name in self.left_out:
                raise DeclarationError(self.faults) from None
            raise UsageError(unknown_milestone(name, self.loaded.milestones)) from None

    def ref(self, name: str) -> str:
        """Return the issue ref for a user's input.

        Raises:
            UsageError: the issue does not exist.
        """
        if name in self.plan.nodes:
            return name
        milestone, slash, _ = name.partition("/")
        if not slash:
            alike = [ref for ref in self.plan.nodes if IssueRef.parse(ref).issue == name]
            if len(alike) == 1:
                return alike[0]
            which = f"several have it: {', '.join(alike)}" if alike else "write MILESTONE/ISSUE, as in m4/4.1"
            raise UsageError(f'"{name}" is not an issue; {which}')
        own = self.milestone(milestone).id
        from executor.model.hints import did_you_mean

        meant = did_you_mean(name, [ref for ref, node in self.plan.nodes.items() if node.milestone == own])
        raise UsageError(f'unknown issue "{name}"{meant or f"; `doit list --all {own}` lists the issues"}')


def unknown_milestone(name: str, known: Iterable[str]) -> str:
    """Return the message about a milestone that is not declared."""
    from executor.model.hints import did_you_mean

    known = list(known)
    hint = did_you_mean(name, known) or f"; declared in milestones/: {', '.join(known) or 'none'}"
    return f'unknown milestone "{name}"{hint}'


def open_project(start: Path | None = None) -> Project:
    """Open the project in a folder (default: the current one).

    Raises:
        RepositoryError: not a git repository, or a bare one.
    """
    root = (start or Path.cwd()).resolve()
    return Project(root, find_repository(root))


def has_milestones(root: Path) -> bool:
    """Whether this folder has milestones."""
    folder = root / "milestones"
    return folder.is_dir() and bool(files_in(folder, ".toml"))


def prepare_cache(project: Project) -> None:
    """Create `.cache/` with a `.gitignore` that covers it.

    Raises:
        StateFullError: the disk is full.
        StateBrokenError: it cannot be written for another reason.
    """
    try:
        project.cache.mkdir(parents=True, exist_ok=True)
        ignore = project.cache / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="ascii")
        probe = project.cache / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise state_error(project.cache, error) from error
        raise StateBrokenError(
            f"{project.cache} cannot be written ({error.strerror}); make it a writable folder, or remove it: "
            "it is only a cache"
        ) from error


def compile_project(project: Project) -> Compiled:
    """Read declarations and rules and compile them.

    A milestone with a fault is omitted, with those that need it, as long as another one remains. A base branch that
    does not exist is such a fault.

    Raises:
        DeclarationError: with every fault of every file; the rules are faulty, or no milestone is free of faults.
    """
    from executor.config.load_milestones import load

    return _without_missing_bases(compile_loaded(project, load(project.milestones)))


def compile_loaded(project: Project, loaded: Loaded) -> Compiled:
    """Compile loaded declarations; incomplete drafts are set aside in `loaded`, so they stop only themselves.

    Raises:
        DeclarationError: with every fault of every other file.
    """
    while True:
        try:
            return _compiled(project, loaded)
        except DeclarationError as error:
            drafts = [name for name, milestone in loaded.milestones.items() if milestone.draft]
            named = {fault.file for fault in error.faults}
            # A cycle through a draft may be reported in the other milestone's file: then all drafts are set aside.
            blamed = [name for name in drafts if loaded.files[name] in named] or drafts
            if not blamed:
                return _without_faulty(project, loaded, error)
            loaded.set_aside(blamed, error.faults)


def _compiled(project: Project, loaded: Loaded) -> Compiled:
    from executor.config.load_milestones import natural
    from executor.config.load_rules import declared_names, load_policy, name_faults, policy_faults
    from executor.model.plan import compile_plan

    faults = list(loaded.faults)
    policy = plan = None
    try:
        policy = load_policy(project.rules)
    except DeclarationError as error:
        faults += error.faults
        faults += name_faults(loaded.milestones, loaded.files, declared_names(project.rules), loaded.partial)
    if policy is not None:
        faults += policy_faults(loaded.milestones, loaded.files, policy, loaded.partial)
    try:
        by_path = policy is not None and policy.landing.order == "critical-path"
        plan = compile_plan(loaded.milestones, loaded.files, loaded.faulty, loaded.partial, by_path=by_path)
    except DeclarationError as error:
        faults += error.faults
    if faults or policy is None or plan is None:
        raise DeclarationError(sorted(faults, key=lambda fault: (natural(fault.file), natural(fault.key))))
    return Compiled(project, loaded, policy, plan)


def _without_missing_bases(compiled: Compiled) -> Compiled:
    """Compile without the milestones whose base does not exist.

    Raises:
        DeclarationError: no milestone would remain.
    """
    from executor.git.refs import Refs

    declared = list(compiled.loaded.milestones.values())
    if len(declared) <= 1:
        return compiled  # the lookup of its base reports it
    refs = Refs(compiled.project.repository)
    tips = refs.tips(list({f"refs/heads/{name}" for milestone in declared for name in base_names(milestone)}))
    faults: list[Fault] = []
    for milestone in declared:
        try:
            base_branch(milestone, refs, tips)
        except DeclarationError as error:
            faults += error.faults
        except RepositoryError:
            return compiled
    if not faults:
        return compiled
    rest = _without_faulty(compiled.project, compiled.loaded, DeclarationError(faults))
    return replace(rest, faults=(*compiled.faults, *rest.faults), left_out=compiled.left_out | rest.left_out)


def _without_faulty(project: Project, loaded: Loaded, error: DeclarationError) -> Compiled:
    """Compile without milestones that have a fault or need a faulty one, if any remain."""
    out = _left_out(loaded, error.faults)
    rest = {name: item for name, item in loaded.milestones.items() if name not in out}
    if not rest:
        raise error
    loaded.milestones, loaded.faults, loaded.faulty, loaded.partial = rest, [], set(), {}
    try:
        return replace(_compiled(project, loaded), faults=tuple(error.faults), left_out=out)
    except DeclarationError:
        raise error from None


def _left_out(loaded: Loaded, faults: Iterable[Fault]) -> frozenset[str]:
    """Return milestones with a fault, and those that need them; all of them if another file is faulty."""
    folder = f"{loaded.folder.name}/"
    found = {fault.file.removeprefix(folder).removesuffix(".toml") for fault in faults}
    if any(not fault.file.startswith(folder) or "/" in fault.file.removeprefix(folder) for fault in faults):
        return frozenset(loaded.milestones) | found
    while True:
        more = {name for name, item in loaded.milestones.items() if name not in found and _needed_by(item) & found}
        if not more:
            return frozenset(found)
        found |= more


def _needed_by(milestone: Milestone) -> set[str]:
    """Return other milestones that one needs, as a whole or for an issue."""
    needs = [need for issue in milestone.issues for need in issue.needs if "/" in need]
    return {*milestone.needs, *(need.partition("/")[0] for need in needs)}


def obstacles_of(compiled: Compiled) -> list[Obstacle]:
    """Return everything that a person must settle before any declared work can run."""
    from executor.git.checkout import obstacles

    unsigned = compiled.policy.limits.unsigned_landing == "allow"
    tags = any(milestone.tag for milestone in compiled.loaded.milestones.values())
    return [
        *obstacles(compiled.project.repository, unsigned=unsigned, tags=tags),
        *_unconnected(compiled.project.root),
    ]


def require_settled(compiled: Compiled) -> None:
    """Verify that the repository has no obstacle to every run.

    Raises:
        PersonNeededError: with everything that a person must settle first.
    """
    found = obstacles_of(compiled)
    if found:
        raise PersonNeededError("\n".join(map(str, found)))


def _unconnected(root: Path) -> list[Obstacle]:
    """Return the obstacle of a user's dodo.py that lacks our tasks."""
    from executor.git.checkout import Obstacle

    dodo = root / "dodo.py"
    configured = any(b"dodoFile" in content_of(root / name) for name in ("doit.cfg", "pyproject.toml"))
    if configured or not dodo.is_file() or b"executor" in content_of(dodo):
        return []
    line = "from executor.tasks import DOIT_CONFIG, task_milestones"
    return [Obstacle("dodo-unconnected", f"{dodo.name} does not import the tasks of milestones", f"add to it: {line}")]


def base_names(milestone: Milestone) -> list[str]:
    """Return the possible base branches of a milestone; the first existing one applies."""
    return [milestone.base] if milestone.base else ["main", "master"]


def base_branch(milestone: Milestone, refs: Refs, tips: dict[str, str]) -> str:
    """Return the full name of the branch that a milestone starts from and is released to.

    A branch that only a remote has is used in its last seen state; a release creates it locally. Without a declared
    base, and without main and master, the default branch of the remote applies, or the only branch.

    Args:
        milestone: its declaration.
        refs: used only if the branch is not in `tips`.
        tips: commits of existing candidate branches, by full name; found ones are added.

    Raises:
        RepositoryError: the repository has no commits, or the branch does not exist.
    """
    wanted = base_names(milestone)
    for name in wanted:
        if f"refs/heads/{name}" in tips:
            return f"refs/heads/{name}"
    for name in wanted if milestone.base else [*wanted, *refs.default_branches()]:
        seen = refs.remote_tips([name])
        tip = refs.tip(f"refs/heads/{name}") or seen.get(f"refs/remotes/origin/{name}") or next(iter(seen.values()), "")
        if tip:
            tips[f"refs/heads/{name}"] = tip
            return f"refs/heads/{name}"
    branches = refs.branches()
    if not branches and refs.tip("HEAD") is None:
        raise RepositoryError(
            f"the repository has no commits, but milestone {milestone.id} starts from branch "
            f'"{wanted[0]}"; commit first'
        )
    known = ", ".join(branches) or "none"
    raise DeclarationError(
        [
            Fault(
                f"milestones/{milestone.id}.toml",
                "milestone.base",
                f'branch "{wanted[0]}" does not exist; branches here: {known}; create it, or declare another base',
            )
        ]
    )


@cache
def packaged_rules() -> Path:
    """Return the folder of the packaged rules: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_rules"
    return installed if installed.is_dir() else package.parent / "rules"
