"""Health: machine, configuration and state that a run depends on. docs/doctor.md shows the table `KINDS` to users."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from executor.agents.command import child_environment, probe_agent
from executor.checks.verdicts import ABSENT, ToolVersions
from executor.config.plugins import RENAME, packages_in_the_way
from executor.config.project import Compiled, compile_project, obstacles_of, open_project, prepare_cache
from executor.environments.environment import FOLDER, kept_environments
from executor.environments.interpreters import leading_into
from executor.environments.making import leading_outside
from executor.errors import (
    DeclarationError,
    ExecutorError,
    ForgeRefusedError,
    GitError,
    RepositoryError,
    StateBrokenError,
    StateFullError,
)
from executor.git.checkout import checkouts_of
from executor.git.clones import FreshCheckout
from executor.git.command import OLDEST, Git, git_version
from executor.git.objects import Store
from executor.model.clock import zone_time
from executor.model.outward_rules import token_variables
from executor.process.files import LOCAL
from executor.sandbox.layout import file_system_of
from executor.sandbox.policy import INSTALL

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from executor.config.project import Project
    from executor.model.agent_profile import Agent

__all__ = ["KINDS", "Finding", "configuration", "machine"]

PERSON, MENDABLE = 4, 1
_CODES = {
    0: (
        "ok ref-damaged not-in-checkouts order-left running branch-rewritten branch-behind receipt-missing "
        "attempt-cut-off attempt-from-git attempt-stray worktree-gone undeclared"
    ),
    MENDABLE: "cache-not-ignored holder-stale git-lock receipt-wrong receipt-stray result-ref-missing slot-broken",
    PERSON: (
        "git-missing git-broken git-old package-foreign repository-owner repository-bare unsigned "
        "dodo-unconnected cache-tracked cache-remote base-red environment-outside clock-back agent-missing "
        "agent-broken agent-login sandbox-missing sandbox-broken tool-missing forge-token verdict-key "
        "verdict-refuted git-lock-users branch-deleted branch-lost landed-twice attempt-misnamed result-lost "
        "state"
    ),
    DeclarationError.exit_code: "declaration repository",
    StateBrokenError.exit_code: "cache-broken journal-broken",
    75: "disk-low forge-limit runner-broken verdict-store",
}
KINDS = {kind: code for code, kinds in _CODES.items() for kind in kinds.split()}
"""Kind of finding -> exit code; 0 is a note."""
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})
_IGNORE = b"*\n"
_AHEAD = 120
"""Seconds that records may be ahead of the clock, which is adjusted from time to time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding.

    Attributes:
        kind: a key of `KINDS`.
        subject: the examined object.
        text: the finding and its consequence.
        todo: the next step for a person.
        mend: the repair of `doit doctor --repair`; returns a sentence about it.
        milestone: the milestone that must not run meanwhile; empty if irrelevant.
    """

    kind: str
    subject: str
    text: str
    todo: str = ""
    mend: Callable[[], str] | None = None
    milestone: str = ""

    @property
    def code(self) -> int:
        """Its exit code."""
        return KINDS[self.kind]

    @property
    def level(self) -> str:
        """``ok``, ``note`` or ``problem``."""
        return "ok" if self.kind == "ok" else "problem" if self.code else "note"


def machine() -> Generator[Finding, None, bool]:
    """Check git and the Python environment; returns False without git, which all other checks need."""
    try:
        version = git_version()
    except RepositoryError:
        yield Finding("git-missing", "git", "git is not on PATH", "install git 2.38 or newer")
        return False
    except GitError as error:
        yield Finding("git-broken", "git", str(error), "find out why, or install git 2.38 or newer")
        return False
    number = ".".join(map(str, version))
    if version[:2] < OLDEST:
        text = f"version {number} is too old, expected 2.38 or newer (merge-tree --write-tree)"
        yield Finding("git-old", "git", text, "install a newer git")
    else:
        yield Finding("ok", "git", number)
    for other in packages_in_the_way(Path.cwd()):
        yield Finding("package-foreign", "executor", f"{other} has the same name as our package", RENAME)
    return True


def configuration() -> Iterator[Finding | Compiled]:
    """Check repository, disk and declarations; the last yielded item is the compiled declarations, if valid."""
    try:
        project = open_project()
    except ExecutorError as error:
        yield Finding("repository", "repository", str(error))
        return
    yield Finding("ok", "repository", str(project.repository.top))
    yield from _damaged_refs(project)
    broken = False
    for finding in _cache(project):
        broken = broken or finding.kind == "cache-broken"
        yield finding
    if broken:
        return
    try:
        compiled = compile_project(project)
    except DeclarationError as error:
        yield from (Finding("declaration", "declaration", str(fault)) for fault in error.faults)
        return
    yield from (Finding("declaration", "declaration", str(fault)) for fault in compiled.faults)
    text = f"{len(compiled.loaded.milestones)} milestones, {len(compiled.plan.nodes)} issues"
    yield Finding("ok", "declaration", text)
    for item in obstacles_of(compiled):
        yield Finding(item.kind, "repository", item.text, item.todo)
    yield from _fresh_checkouts(project)
    yield _disk(compiled)
    yield from _clock(compiled)
    yield from _agents(compiled)
    yield from _sandbox(compiled)
    yield from _tools(compiled)
    yield from _environments(compiled)
    yield from _forge(compiled)
    yield from _shared_verdicts(compiled)
    yield from _runners(compiled)
    yield compiled


def _damaged_refs(project: Project) -> Iterator[Finding]:
    """Report refs that git passes over because their file holds no object id."""
    _, _, found = _git(project).call("for-each-ref", "--format=", "--", "refs/heads/", "refs/remotes/", "refs/tags/")
    for name in re.findall(r"(?m)^warning: ignoring broken ref (\S+)$", found.decode("utf-8", "replace")):
        text = f"{name} holds no commit, as after a power cut; git ignores it"
        todo = f"`git reflog {name}` shows its last commit: git update-ref -d {name}, then git update-ref {name} COMMIT"
        yield Finding("ref-damaged", "repository", text, todo)


def _cache(project: Project) -> Iterator[Finding]:
    own = project.cache / ".gitignore"
    altered = project.cache.is_dir() and (not own.is_file() or own.read_bytes() != _IGNORE)
    if altered and not _ignored(project):

        def mend() -> str:
            own.unlink(missing_ok=True)
            own.write_bytes(_IGNORE)
            return f"{own.relative_to(project.root)} rewritten"

        text = "git does not ignore it, so `git add` may commit logs and state"
        yield Finding("cache-not-ignored", ".cache", text, mend=mend)
    try:
        if not altered:
            prepare_cache(project)
    except StateFullError:
        pass  # `_disk` reports it
    except StateBrokenError as error:
        yield Finding("cache-broken", ".cache", str(error))
        return
    tracked = _git(project).run("ls-files", "-z", "--", _name(project), extra=_index(project)).split(b"\0")[:-1]
    if tracked:
        text = f"{len(tracked)} of its files are tracked by git, for example {tracked[0].decode('utf-8', 'replace')}"
        yield Finding("cache-tracked", ".cache", text, f"git rm -r -q --cached {_name(project)}, then commit")
    kind = file_system_of(project.cache)
    if kind in _REMOTE:
        text = f"it is on a file system ({kind}) where locks may not exclude a second machine"
        yield Finding("cache-remote", ".cache", text, "keep the repository on a local disk, or run on one machine only")


def _fresh_checkouts(project: Project) -> Iterator[Finding]:
    """Report files that are missing in the trees for agents and checks."""
    repository = project.repository
    fresh = FreshCheckout(repository, lambda source, name: Store(source, project.cache / "_store" / name))
    try:
        lacking = list(fresh.lacking(repository.git_dir / "index"))
    except GitError as error:
        yield Finding("not-in-checkouts", "checkouts", f"their needs are unknown: {error}")
        return
    commands = list(dict.fromkeys(command for _, command in lacking))
    if lacking:
        names = ", ".join(path for path, _ in lacking[:3]) + (f" and {len(lacking) - 3} more" if lacking[3:] else "")
        text = f"your checkout lacks the content of {names}, so agents and checks lack it, too"
        yield Finding("not-in-checkouts", "checkouts", text, "; ".join(commands[:3]))


def _ignored(project: Project) -> bool:
    place = f"{_name(project)}/journal"
    where = {"GIT_WORK_TREE": str(project.repository.top), **_index(project)}
    code, _, _ = _git(project).call("check-ignore", "-q", "--", place, extra=where, cwd=project.repository.top)
    return code == 0


def _name(project: Project) -> str:
    return str(project.cache.relative_to(project.repository.top))


def _git(project: Project) -> Git:
    return Git(project.repository.common_dir, project.repository.common_dir)


def _index(project: Project) -> dict[str, str]:
    return {"GIT_INDEX_FILE": str(project.repository.git_dir / "index")}


def _environments(compiled: Compiled) -> Iterator[Finding]:
    """Report the user's environments that trees overlay, stored environments, and paths that lead out of trees."""
    repository, env = compiled.project.repository, child_environment((), {}, compiled.project.repository.top)
    roots = checkouts_of(repository.top, repository.common_dir)
    for interpreter in leading_into(roots, env):
        text = f"{interpreter.prefix}: its editable installs point to the judged tree"
        yield Finding("ok", f"environment python {interpreter.full}", text)
    for kept in kept_environments(compiled.project.cache / FOLDER):
        days = int((time.time() - kept.used) // 86_400)
        text = f"{kept.key}, made in {kept.seconds:.1f} s, last used {f'{days} days ago' if days else 'today'}"
        text = text if kept.whole else "it is incomplete; doit gc removes it"
        yield Finding("ok", f"environment {kept.name}", text)
    head = Git(repository.git_dir, repository.top).call("rev-parse", "-q", "--verify", "HEAD^{tree}")
    if head[0] == 0:
        tree, home = head[1].decode().strip(), Path(env.get("HOME", "/nonexistent"))
        for place, todo in leading_outside(repository, roots, tree, (), home):
            text = "it names the checkout: without a sandbox, tools would load the checkout instead of the tree"
            yield Finding("environment-outside", place, text, todo)


def _disk(compiled: Compiled) -> Finding:
    usage = shutil.disk_usage(compiled.project.cache)
    # On a small disk the declared floor could never be met.
    floor = min(compiled.policy.limits.disk_floor_bytes, usage.total // 20)
    text = f"{usage.free // 2**20} MiB free"
    if usage.free >= floor:
        return Finding("ok", "disk", text)
    text = f"{text}, at least {floor // 2**20} are needed; no attempt starts until then"
    return Finding(
        "disk-low", "disk", text, "free some space (doit gc), or lower disk_floor_bytes in rules/limits.toml"
    )


def _clock(compiled: Compiled) -> Iterator[Finding]:
    """Report records or locks of a milestone with times in the future."""
    now = datetime.now(UTC).timestamp()
    for name in compiled.loaded.milestones:
        folder = compiled.project.state(name)
        newest = max((path.stat().st_mtime for path in folder.glob("journal.*.jsonl")), default=0.0)
        if newest > now + _AHEAD:
            here, when = (zone_time(datetime.fromtimestamp(at, UTC), LOCAL) for at in (now, newest))
            text = f"it is {here}, but the journal of {name} was written at {when}"
            yield Finding("clock-back", "clock", text, "set the clock; deadlines and retention depend on it")


def _used(compiled: Compiled) -> dict[str, str]:
    """Return the agents that issues are routed to, each with the first issue that needs it."""
    used: dict[str, str] = {}
    for ref, node in compiled.plan.nodes.items():
        for agent in compiled.policy.agents_for(node.issue):
            used.setdefault(agent.name, ref)
    return used


def _agents(compiled: Compiled) -> Iterator[Finding]:
    for name, ref in sorted(_used(compiled).items()):
        for kind, text, todo in probe_agent(compiled.policy.agents[name]):
            yield Finding(kind, f"agent {name}", text if kind == "ok" else f"{text}, needed by {ref}", todo)


def _sandbox(compiled: Compiled) -> Iterator[Finding]:
    used = [compiled.policy.agents[name] for name in sorted(_used(compiled))]
    wanting = [agent for agent in used if agent.isolation != "none"]
    if not wanting:
        return
    from executor.sandbox.bubblewrap import find_sandbox, probe, sandbox_problem

    sandbox = find_sandbox()
    if sandbox is None:
        text = f"{sandbox_problem()}, needed by agent {', '.join(agent.name for agent in wanting)}; {_then(wanting)}"
        yield Finding("sandbox-missing", "sandbox", text, INSTALL)
        return
    broken = probe(sandbox, compiled.project.cache, compiled.project.repository.git_dir)
    todo = "update bubblewrap and the kernel; docs/sandbox.md lists the requirements"
    yield from (Finding("sandbox-broken", "sandbox", sentence, todo) for sentence in broken)
    if not broken:
        yield Finding("ok", "sandbox", f"{sandbox.program}, all escape attempts failed")


def _then(wanting: list[Agent]) -> str:
    if all(agent.isolation == "auto" for agent in wanting):
        return "their work waits for a person instead of landing"
    return 'agents with isolation = "bwrap" are not started'


def _tools(compiled: Compiled) -> Iterator[Finding]:
    versions = ToolVersions(compiled.project.cache)
    used: dict[str, str] = {}
    for ref, node in compiled.plan.nodes.items():
        for check in compiled.policy.checks_for(node.issue):
            used.setdefault(check.name, ref)
    for name, ref in sorted(used.items()):
        version = versions.version(compiled.policy.checks[name])
        if version == ABSENT:
            text = f"its tool is not on PATH, needed by {ref}; it cannot pass"
            yield Finding("tool-missing", f"check {name}", text, "install it, or declare another check")
        else:
            yield Finding("ok", f"check {name}", version.splitlines()[0] if version else "no version asked")


def _forge(compiled: Compiled) -> Iterator[Finding]:
    """Report whether the forge has a token, and its remaining requests. Sends no request."""
    rules = compiled.policy.forge
    if rules.kind == "local":
        return
    from executor.forge.hosts.credentials import find_token, standings

    try:
        find_token(rules)
    except ForgeRefusedError as error:
        yield Finding("forge-token", "forge", str(error), f"set {token_variables(rules.kind)[0]}")
        return
    now = time.time()
    found = standings()
    if not found:
        yield Finding("ok", "forge", f"{rules.kind}, no requests yet from this machine")
    for item in found:
        closed = item.closed_until > now
        todo = "run again then; nothing is lost and no attempt is used up" if closed else ""
        yield Finding("forge-limit" if closed else "ok", "forge", item.describe(now), todo)


def _shared_verdicts(compiled: Compiled) -> Iterator[Finding]:
    """Report whether the store of shared verdicts answers, who believes this clone, and who is no longer believed."""
    rules, project = compiled.policy.verdicts, compiled.project
    if not rules.store:
        return
    from executor.checks.shared import refuted
    from executor.checks.signed_verdict import StoreError, public_key
    from executor.checks.verdict_stores import opened_store
    from executor.git.checkout import identity_of
    from executor.git.remote import Remote

    name = compiled.policy.forge.pushes_to
    remote = Remote(project.repository, name) if name is not None else None
    objects = Store(project.repository, project.cache / "_store")
    try:
        opened_store(rules, remote, objects, identity_of(project.repository)).get(f"ac/{'0' * 64}")
        yield Finding("ok", "verdicts", f"{rules.store}, {len(rules.trusted)} trusted keys")
    except StoreError as error:
        todo = "checks run here until it answers; see rules/verdicts.toml"
        yield Finding("verdict-store", "verdicts", str(error), todo)
    finally:
        objects.close()
    if rules.key:
        try:
            own = public_key(Path(rules.key).expanduser())
            if all(key.key != own for key in rules.trusted.values()):
                todo = f'[trusted."NAME"] key = "{own}" in rules/verdicts.toml'
                yield Finding("verdict-key", "verdicts", "no clone trusts the key of this clone", todo)
        except StoreError as error:
            yield Finding("verdict-key", "verdicts", str(error), "name a key that ssh-keygen can read")
    folder = project.cache / "_verdicts"
    for who, fact in refuted(folder).items():
        text = f"{who} signed on {fact.get('host')} that {fact.get('check')} passes on {fact.get('tree')}; it fails"
        todo = f"find out why, remove the key from rules/verdicts.toml, or delete {folder / 'refuted'}"
        yield Finding("verdict-refuted", "verdicts", text, todo)


def _runners(compiled: Compiled) -> Iterator[Finding]:
    """Try each runner as a run does before its first order."""
    if not compiled.policy.runners:
        return
    from executor.cluster.runners import tried

    checks = compiled.policy.checks.values()
    for name, runner in compiled.policy.runners.items():
        asks = any(check.runner in runner.names for check in checks)
        facts, problem = tried(runner, compiled.project.repository, compiled.policy.forge.pushes_to, asks=asks)
        todo = "install git and this package there and check the connection, see docs/hosts.md"
        yield (
            Finding("runner-broken", f"runner {name}", problem, todo)
            if problem
            else Finding("ok", f"runner {name}", facts)
        )
