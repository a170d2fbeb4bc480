"""Isolation: which children of a milestone run in a sandbox, and the consequences without one.

An agent requires a sandbox in its profile. Commands that run on trees (checks, repairs, rules) use one as soon as any
agent of the milestone requires it: such a tree contains that agent's work, also after it has landed.

A program's settings, hooks and plug-ins outside the tree later run as the user, outside of any sandbox. So an agent
gets a copy of its folder for one attempt, and only files that its profile names (a renewed log-in) are written back.

`RunContext` is the port through which agents, checks and sandboxes access the run of a milestone.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from executor.errors import UsageError
from executor.sandbox.bubblewrap import find_sandbox, object_folders, probe, sandbox_problem
from executor.state.events import Unsandboxed
from executor.state.model import UNKNOWN_AGENT, UNSANDBOXED
from executor.stop_rules.evaluate import Hit

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Mapping, Sequence

    from executor.config.project import Project
    from executor.git.objects import Store
    from executor.git.worktrees import ImportLimits, Pool
    from executor.model.agent_profile import Agent
    from executor.model.milestone import Issue
    from executor.model.policy import Policy
    from executor.process.runner import Supervisor
    from executor.sandbox.bubblewrap import Sandbox
    from executor.state.budget import Suspension, Wait
    from executor.state.events import Event
    from executor.state.model import Attempt


__all__ = ["INSTALL", "RunContext", "Sandboxing", "copies_for", "take_back", "unsandboxed_warning"]


class Accounts(Protocol):
    """The accounts of agents and reviewers. `state.budget` implements it."""

    def outage(self, agent: Agent) -> tuple[float, float]:
        """Return when an account with a failing service is used again, in epoch seconds, and the wait in seconds."""

    def reviewed(self, agent: Agent, suspension: Suspension | None) -> None:
        """Suspend the account of a reviewer after a failure of its service or a limit; free it after a success."""

    def review_wait(self, name: str | None) -> Wait | None:
        """Return why the reviewer of this name cannot be called now; None if it can."""


class RunContext(Protocol):
    """The part of a milestone's run that its children use. `engine.milestone_run` implements it."""

    @property
    def name(self) -> str:
        """Id of the milestone."""

    @property
    def run_id(self) -> str:
        """Id of the run; failing verdicts are reused only within it."""

    @property
    def project(self) -> Project:
        """Paths of the repository, rules and state."""

    @property
    def policy(self) -> Policy:
        """The rules."""

    @property
    def store(self) -> Store:
        """Object store of the repository."""

    @property
    def pool(self) -> Pool:
        """Slots with worktrees."""

    @property
    def supervisor(self) -> Supervisor:
        """Runs children."""

    @property
    def stopping(self) -> threading.Event:
        """Set when the run is being stopped."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must not appear in any log or file."""

    @property
    def excludes(self) -> Path:
        """File with the ignore rules of results."""

    @property
    def import_limits(self) -> ImportLimits:
        """Size limits of one result."""

    @property
    def sandboxed_agents(self) -> Sequence[Agent]:
        """Agents of the milestone's issues that require a sandbox, each once."""

    def redact(self, data: bytes) -> bytes:
        """Redact secrets in data."""

    def record(self, event: Event, issue: str = "") -> object:
        """Append an event to the journal, durably and redacted."""

    def tell(self, word: str, ref: str, text: str) -> None:
        """Print a line for the user."""

    def warn_unsandboxed(self, problem: str) -> None:
        """Warn once that agents work without a sandbox."""

    @property
    def accounts(self) -> Accounts:
        """Suspended accounts."""

    def require_space(self) -> None:
        """Check the free disk space.

        Raises:
            StateFullError: less is free than the rules require.
        """


INSTALL = "install bubblewrap (docs/sandbox.md says how)"


def _demand(agent: str, problem: str) -> str:
    """Return the message for an agent, or checks of its work, that require a missing sandbox."""
    by_name = 'declare isolation = "none" for it in rules/agents.toml'
    return f"agent {agent} requires a sandbox, but {problem}; {INSTALL}, or {by_name}"


class Sandboxing:
    """Runs the children of one milestone in sandboxes, as its agents require."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def wrap_agent(
        self,
        agent: Agent,
        argv: tuple[str, ...],
        *,
        issue: str,
        attempt: int,
        tree: Path,
        writable: Sequence[Path],
        readable: Sequence[Path],
        env: Mapping[str, str],
        private: Path,
    ) -> tuple[str, ...]:
        """Wrap an agent's command as its profile requires; a run without the required sandbox is recorded first.

        The profile's `copied` paths are copied below `private`; `take_back` ends that.

        Raises:
            UsageError: the profile requires a sandbox and there is none.
        """
        if agent.isolation == "none":
            return argv
        sandbox, problem = _sandbox(self._context.project)
        if sandbox is None:
            if agent.isolation == "bwrap":
                raise UsageError(f"{self._context.name}/{issue}: {_demand(agent.name, problem)}")
            self._context.warn_unsandboxed(problem)
            self._context.record(Unsandboxed(attempt=attempt, agent=agent.name, why=problem), issue)
            return argv
        objects = object_folders(self._context.project.repository.objects)
        read, write = [*readable, *objects, *_expanded(agent.readable)], [*writable, *_expanded(agent.writable)]
        copies = copies_for(agent, private)
        return self._wrapped(sandbox, argv, tree, write, read, env, network=agent.network, copies=copies)

    def is_boxed(self, agent: Agent) -> bool:
        """Return whether an agent works in the sandbox here."""
        return agent.isolation != "none" and _sandbox(self._context.project)[0] is not None

    def lacking(self) -> bool:
        """Return whether a required sandbox is missing: a person decides before more runs."""
        return bool(self._context.sandboxed_agents) and not self.judges()

    def judges(self) -> bool:
        """Return whether commands on this milestone's trees run in a sandbox.

        Raises:
            UsageError: an agent of the milestone requires a sandbox and there is none.
        """
        wanting = self._context.sandboxed_agents
        if not wanting:
            return False
        sandbox, problem = _sandbox(self._context.project)
        if sandbox is not None:
            return True
        strict = next((agent.name for agent in wanting if agent.isolation == "bwrap"), None)
        if strict is not None:
            raise UsageError(_demand(strict, problem))
        return False

    def wrap(
        self,
        argv: tuple[str, ...],
        *,
        tree: Path,
        env: Mapping[str, str],
        writable: Sequence[Path] = (),
        readable: Sequence[str] = (),
        network: bool = False,
        start: Path | None = None,
    ) -> tuple[str, ...]:
        """Wrap a command of the user that works on a tree, in a sandbox or unchanged, as this milestone requires.

        Args:
            argv: the command.
            tree: its clean checkout.
            env: its whole environment.
            writable: further writable paths.
            readable: further readable paths; ``~`` is the user's home.
            network: whether it has network access inside the sandbox.
            start: its working folder; None for the project's in the tree.
        """
        if not self.judges():
            return argv
        sandbox, _ = _sandbox(self._context.project)
        assert sandbox is not None  # noqa: S101 - asked a line above
        return self._wrapped(sandbox, argv, tree, writable, _expanded(readable), env, network=network, begin=start)

    def unsandboxed(self, issue: Issue, attempt: Attempt) -> list[Hit]:
        """Return the stop of a change that was made, or would now be checked, without its agent's required sandbox."""
        policy = self._context.policy
        agent = policy.agents.get(attempt.agent) or policy.agent_for(issue)
        if policy.limits.unsandboxed_landing == "allow" or UNSANDBOXED in issue.allow:
            return []
        name = attempt.unsandboxed
        if name == UNKNOWN_AGENT:
            if agent.isolation == "none":
                return []
            name = f"{agent.name} (no record of its sandbox)"
        if not name:
            if agent.isolation == "none" or _sandbox(self._context.project)[0] is not None:
                return []
            name = agent.name
            self._context.warn_unsandboxed(_sandbox(self._context.project)[1])
        return [
            Hit(
                UNSANDBOXED,
                "hard",
                f"agent {name} required a sandbox but had none, so it could access everything that you can",
                f"Review the change as you would a stranger's, and approve it; or {INSTALL} and retry. To allow it: "
                f'isolation = "none" for agent {name} in rules/agents.toml, or unsandboxed_landing = "allow" in '
                "rules/limits.toml.",
                (),
            )
        ]

    def _wrapped(
        self,
        sandbox: Sandbox,
        argv: tuple[str, ...],
        tree: Path,
        writable: Sequence[Path],
        readable: Sequence[Path],
        env: Mapping[str, str],
        *,
        network: bool,
        copies: Sequence[tuple[Path, Path]] = (),
        begin: Path | None = None,
    ) -> tuple[str, ...]:
        project = self._context.project
        repository = project.repository
        return sandbox.argv(
            argv,
            tree=tree,
            start=begin or project.within(tree),
            writable=writable,
            readable=readable,
            hidden=(project.cache, repository.top, repository.git_dir, repository.common_dir),
            network=network,
            env=env,
            inherit_env=True,
            copies=copies,
        )


def _expanded(paths: Sequence[str]) -> list[Path]:
    """Return existing paths only: an agent that was never set up here has its home in memory."""
    return [path for path in (Path(name).expanduser() for name in paths) if path.exists()]


def _sandbox(project: Project) -> tuple[Sandbox | None, str]:
    """Return the sandbox of this machine, or why there is no effective one."""
    return _probed(project.cache, project.repository.common_dir)


@cache
def _probed(state: Path, repository: Path) -> tuple[Sandbox | None, str]:
    """Find and probe the sandbox from inside, once per process."""
    sandbox = find_sandbox()
    if sandbox is None:
        return None, sandbox_problem()
    broken = probe(sandbox, state, repository)
    return (sandbox, "") if not broken else (None, f"the sandbox of {sandbox.program} can be escaped: {broken[0]}")


def unsandboxed_warning(agents: Iterable[Agent], problem: str, *, lands: bool) -> str:
    """Format the warning that agents work without a sandbox.

    Args:
        agents: agents that require one.
        problem: why there is none.
        lands: whether the rules permit their work to land anyway.
    """
    names = sorted({agent.name for agent in agents if agent.isolation == "auto"})
    who = f"agent{'s' if len(names) > 1 else ''} {', '.join(names)}"
    then = (
        "unsandboxed_landing in rules/limits.toml lets their work land anyway"
        if lands
        else "their work waits for a person instead of landing"
    )
    access = "their processes can access everything that you can"
    return f"NO SANDBOX for {who}: {problem}; {access}; {then}. Better: {INSTALL}"


_LARGEST = 5_000_000
"""Maximum bytes of a copied file."""
_MOST = 5_000
"""Maximum number of copied files."""
_LARGEST_BACK = 256 * 1024
"""Maximum bytes of a file that is written back."""
_LEFT_OUT = frozenset(
    ("projects", "sessions", "history", "file-history", "todos", "logs", "log", "debug", "tmp", "shell-snapshots")
) | {"statsig", "telemetry", "storage", "snapshot", "tool-output", "archived_sessions", "backups"}
"""Folders of past sessions: large, and not needed by an agent."""


def copies_for(agent: Agent, folder: Path) -> list[tuple[Path, Path]]:
    """Copy the `copied` paths of a profile again; returns pairs of the copy and the path at which it appears.

    Raises:
        OSError: no space is left for them.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pairs: list[tuple[Path, Path]] = []
    for number, name in enumerate(agent.copied):
        place = Path(name).expanduser()
        if not place.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        copy = folder / str(number)
        if place.is_dir():
            _copy_folder(place, copy)
        else:
            shutil.copy2(place, copy)
        pairs.append((copy, place))
    return pairs


def take_back(agent: Agent, folder: Path) -> None:
    """Write the `written_back` files of a profile back if they are still of the same kind; then remove the copies.

    Only a regular file of limited size counts, and only if the file existed before; JSON must remain a JSON object.
    """
    if not folder.is_dir():
        return
    try:
        for name in agent.written_back:
            place = Path(name).expanduser()
            data = _written(_copy_of(place, agent.copied, folder))
            if data is None or not place.is_file() or data == place.read_bytes() or not _fits(place, data):
                continue
            fresh = place.with_name(f"{place.name}.{os.getpid()}.new")
            fresh.write_bytes(data)
            shutil.copymode(place, fresh)
            fresh.replace(place)
    except OSError:
        pass  # the log-in of the next attempt is the one from before
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_folder(place: Path, copy: Path) -> None:
    count = 0
    for root, folders, files in os.walk(place):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        inside = copy / Path(root).relative_to(place)
        inside.mkdir(mode=0o700, exist_ok=True)
        for name in files:
            path = Path(root, name)
            facts = path.lstat()
            if stat.S_ISREG(facts.st_mode) and facts.st_size <= _LARGEST and count < _MOST:
                shutil.copy2(path, inside / name)
                count += 1
            elif path.is_symlink():
                (inside / name).symlink_to(path.readlink())


def _copy_of(place: Path, copied: Sequence[str], folder: Path) -> Path | None:
    for number, name in enumerate(copied):
        root = Path(name).expanduser()
        if place == root or root in place.parents:
            return folder / str(number) / place.relative_to(root) if place != root else folder / str(number)
    return None


def _written(path: Path | None) -> bytes | None:
    """Return the content of a file from an untrusted process; None if it, or a folder of its path, is a link."""
    if path is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LARGEST_BACK or path.resolve() != path.absolute():
            return None
        return file.read(_LARGEST_BACK + 1)


def _fits(place: Path, data: bytes) -> bool:
    if place.suffix != ".json":
        return b"\0" not in data
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False
