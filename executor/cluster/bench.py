"""A place of a worker, which does one order of an agent or a check at a time: repository, trees, exchanged files.

The same parts as on one machine: the workspace, the supervisor, the sandbox, the import of the tree.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from executor.agents import acp
from executor.agents.command import child_environment, missing_program, secret_values, secrets_of
from executor.cluster.exchange import LOG_FILE, OUT_FOLDER
from executor.cluster.orders import Order, ProtocolError, Result, ended_as
from executor.errors import ExecutorError
from executor.git.command import Repository
from executor.git.diff import parse_diff
from executor.git.objects import Store
from executor.git.worktrees import ImportLimits, ImportRefusedError, Workspace, empty_folder
from executor.model.agent_profile import Agent
from executor.process.files import left_file
from executor.process.runner import Command
from executor.sandbox.bubblewrap import find_sandbox, object_folders, probe, sandbox_problem, waiting_for_background
from executor.sandbox.policy import copies_for, take_back
from executor.stop_rules.content import blotted, known_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.process.runner import Ended, Supervisor
    from executor.sandbox.bubblewrap import Sandbox

__all__ = ["BRIEF", "CHECK", "GIVEN", "OUT", "PACKAGE", "PYTHON", "Bench", "conditions_of"]

OUT, BRIEF, GIVEN = "@EXECUTOR_OUT@", "@EXECUTOR_BRIEF@", "@EXECUTOR_IN@"
"""Stand in arguments and variables of an order for the folder of files that come back, for the file with the brief, and
for the folder with the inputs."""
PYTHON, PACKAGE = "@EXECUTOR_PYTHON@", "@EXECUTOR_PACKAGE@"
"""Stand in the self-check of a workflow step for the interpreter, and for the folder with this package."""
CHECK = "check"
_PACKAGE = Path(__file__).resolve().parents[2]
_MOST_OUT = 32 * 2**20  # bytes of protocol files that come back; a choice, far above any report
_MOST_FILES = 200  # protocol files that come back; a choice
_MOST_LOG = 8 * 2**20  # bytes of a log that come back, its first and last half; a choice
_SETUP_S = 1800.0  # seconds for a set-up command; half an hour, for an installation on a slow network


class Bench:
    """A place of one worker.

    Args:
        home: its folder; the repository ``git`` in it exists and has the objects of the order.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.repository = Repository(home, home / "git", home / "git")
        self.store = Store(self.repository, home / "neutral")
        self._log = home / LOG_FILE

    def close(self) -> None:
        """Stop the helper processes."""
        self.store.close()

    def do(self, order: Order, inputs: Mapping[str, bytes], supervisor: Supervisor) -> tuple[Result, dict[str, bytes]]:
        """Do the order of an agent; returns its result and the files that accompany it.

        Args:
            order: the order, with its brief.
            inputs: files of its inputs, by name.
            supervisor: runs its commands and ends their whole process trees.

        Raises:
            ProtocolError: the order cannot be done by this version.
        """
        agent = _profile(order)
        result = Result(order.id, 1, "", platform.node(), "not-started", fault="host")
        boxed = agent.isolation != "none" and not order.isolated
        sandbox = _sandbox(self.home) if boxed else None
        if lacking := _lacking(order, boxed=boxed, sandbox=sandbox):
            return replace(result, problem=f"{result.host} {lacking}"), {}
        tree = self._laid_out(order, inputs)
        env = child_environment((*agent.env, *order.secrets), self._filled_in(order.env), tree.folder)
        if lacking := missing_program(agent, env):
            return replace(result, problem=f"{result.host}: {lacking}"), {}
        for argv in order.prepare:
            ended = self._ran(order, agent, tree, env, argv, supervisor, sandbox)
            if not ended.ok:
                failed = replace(result, fault="setup", problem=f"set-up {argv[-1]}: {ended.describe()}")
                return failed, self._left(agent)
        try:
            ended = self._ran(order, agent, tree, env, self._command(order), supervisor, sandbox, agent_itself=True)
        finally:
            take_back(agent, self.home / "private")
        unset = [name for name in order.hoped if name not in os.environ]
        if unset and not ended.ok:
            problem = f"{result.host} does not set {', '.join(unset)}"
            ended = replace(ended, problem=f"{ended.problem}; {problem}" if ended.problem else problem)
        return self._taken(order, agent, tree, replace(ended_as(result, ended), fault="")), self._left(agent)

    def judge(self, order: Order, supervisor: Supervisor) -> tuple[Result, dict[str, bytes]]:
        """Do the order of a check; returns its result, log and reports.

        Its conditions are those after it has run, so that a tool which is replaced meanwhile is noticed.

        Args:
            order: the order.
            supervisor: runs its commands and ends their whole process trees.
        """
        from executor.cluster.worker import perform

        result = Result(order.id, 1, "", platform.node(), "not-started", fault="host")
        if lacking := _lacking(order, boxed=False, sandbox=None):
            return replace(result, problem=f"{result.host} {lacking}"), {}
        folder = self.home / "check"
        empty_folder(folder / OUT_FOLDER)
        Workspace(folder / "tree", folder / "tree.index").prepare(self.store, self.store.tree_of(order.base))
        performed = perform(order, folder, supervisor, shown=False)
        files = {f"{OUT_FOLDER}/{name}": data for name, data in performed.files.items()}
        result = replace(performed.result, conditions=conditions_of(order))
        return result, {**files, LOG_FILE: _ends_of(folder / "log", _MOST_LOG)}

    def _laid_out(self, order: Order, inputs: Mapping[str, bytes]) -> Workspace:
        """Prepare the tree and the folders of an order."""
        tree = Workspace(self.home / "tree", self.home / "tree.index", prefix=order.start)
        tree.prepare(self.store, self.store.tree_of(order.base))
        tree.give_repository(self.repository, order.head or order.base)
        for name in (OUT_FOLDER, "in", "private"):
            empty_folder(self.home / name)
        (self.home / "brief.md").write_text(order.brief, "utf-8", "surrogateescape")
        for name, data in inputs.items():
            place = self.home / "in" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self._with_programs(data) if name == CHECK else data)
        self._log.unlink(missing_ok=True)
        return tree

    @staticmethod
    def _with_programs(script: bytes) -> bytes:
        """Return the self-check of a step with the paths of this host."""
        script = script.replace(PYTHON.encode(), os.fsencode(sys.executable))
        return script.replace(PACKAGE.encode(), os.fsencode(_PACKAGE))

    def _filled_in(self, values: Mapping[str, str]) -> dict[str, str]:
        return {name: self._with_paths(value) for name, value in values.items()}

    def _with_paths(self, word: str) -> str:
        places = {OUT: OUT_FOLDER, BRIEF: "brief.md", GIVEN: "in"}
        for mark, name in places.items():
            word = word.replace(mark, str(self.home / name))
        return word

    def _command(self, order: Order) -> tuple[str, ...]:
        return tuple(self._with_paths(word) for word in order.argv)

    def _ran(
        self,
        order: Order,
        agent: Agent,
        tree: Workspace,
        env: dict[str, str],
        argv: tuple[str, ...],
        supervisor: Supervisor,
        sandbox: Sandbox | None,
        *,
        agent_itself: bool = False,
    ) -> Ended:
        """Run a set-up command, or the agent itself, in the sandbox if there is one."""
        if sandbox is not None:
            argv = self._boxed(sandbox, order, agent, tree, env, argv, agent_itself=agent_itself)
        if agent.protocol and agent_itself:
            argv = (sys.executable, "-I", "-S", "-X", "utf8", "-B", acp.__file__, *argv)
        limits = order.limits
        command = Command(
            argv=argv,
            cwd=tree.start,
            env=env,
            log=self._log if agent_itself else self.home / "setup.log",
            stdin=self.home / "brief.md" if agent_itself and agent.brief == "stdin" else None,
            timeout=limits.timeout if agent_itself else _SETUP_S,
            idle=(limits.idle or None) if agent_itself else None,
            watch=tree.folder,
            output_cap=limits.output_cap,
            linger=limits.linger if agent_itself else 0.0,
            secrets=secrets_of((*agent.env, *order.secrets)),
        )
        return supervisor.run(command)

    def _boxed(
        self,
        sandbox: Sandbox,
        order: Order,
        agent: Agent,
        tree: Workspace,
        env: dict[str, str],
        argv: tuple[str, ...],
        *,
        agent_itself: bool,
    ) -> tuple[str, ...]:
        if agent_itself:
            argv = waiting_for_background(argv, order.limits.linger)
        read = [self.home / "brief.md", self.home / "in", *object_folders(self.repository.objects)]
        if (self.home / "in" / CHECK).exists():
            read += [Path(sys.prefix), Path(sys.base_prefix), _PACKAGE / "executor"]
        return sandbox.argv(
            argv,
            tree=tree.folder,
            start=tree.start,
            writable=[self.home / OUT_FOLDER, *_there(agent.writable)],
            readable=[*read, *_there(agent.readable)],
            hidden=(self.home, self.repository.git_dir),
            network=agent.network or not agent_itself,
            env=env,
            inherit_env=True,
            copies=copies_for(agent, self.home / "private") if agent_itself else (),
        )

    def _taken(self, order: Order, agent: Agent, tree: Workspace, result: Result) -> Result:
        """Return the result with the tree that the agent left, without the values of secrets."""
        take = order.take
        if take is None:
            return result
        excludes = self.home / "excludes"
        excludes.write_text(take.excludes, "utf-8", "surrogateescape")
        limits = ImportLimits(take.files, take.file_bytes, take.bytes)
        try:
            left = tree.result(self.store, excludes, take.declared, limits)
        except ImportRefusedError as error:
            return replace(result, fault="import", problem=str(error))
        base = self.store.tree_of(order.base)
        values = secret_values((*agent.env, *order.secrets))
        left, places = self._without(base, left, values)
        return replace(result, tree=left, fault="secret" if places else "", places=tuple(places))

    def _without(self, base: str, tree: str, values: Mapping[str, str]) -> tuple[str, list[str]]:
        """Return a tree without the values of secrets, and their places; files that cannot be cleaned are left out."""
        if not values or tree == base:
            return tree, []
        places: list[str] = []
        for remove in (False, True):
            files = parse_diff(self.store.diff(base, tree)).files
            now = tree

            def content(path: str, new: bool, now: str = now) -> bytes | None:  # noqa: FBT001  (the shape of the rules)
                return self.store.blob(now if new else base, path)

            found = list(known_secrets(files, content, values))
            places += [f"{path}:{number}: {what}" if number else what for path, number, what in found if not remove]
            names = dict.fromkeys(path for path, _, _ in found)
            cleaned = {path: None if remove else blotted(content(path, True) or b"", values) for path in names}  # noqa: FBT003
            tree = self.store.with_contents(tree, cleaned, self.home / "scratch.index") if cleaned else tree
        return tree, places

    def _left(self, agent: Agent) -> dict[str, bytes]:
        """Return the log, and the files that the agent left in its folder."""
        found: dict[str, bytes] = {}
        out, secrets, room = self.home / OUT_FOLDER, secrets_of(agent.env), _MOST_OUT
        for place, folders, names in os.walk(out):
            folders[:] = sorted(name for name in folders if not (Path(place) / name).is_symlink())
            for name in sorted(names):
                path = (Path(place) / name).relative_to(out).as_posix()
                data = left_file(out, path, secrets, room) if len(found) < _MOST_FILES else ""
                if isinstance(data, bytes):
                    found[f"{OUT_FOLDER}/{path}"] = data
                    room -= len(data)
        log = self._log if self._log.exists() else self.home / "setup.log"
        found[LOG_FILE] = _ends_of(log, _MOST_LOG)
        return found


def conditions_of(order: Order) -> dict[str, str]:
    """Return the conditions of this host for a check or a question."""
    from executor.cluster.worker import conditions_here

    return conditions_here(order.asks, python="python" in order.conditions)


def _profile(order: Order) -> Agent:
    try:
        return Agent.model_validate(dict(order.agent))
    except ValueError as error:
        raise ProtocolError(f"the profile of {order.id} has another version: {error}") from error


def _lacking(order: Order, *, boxed: bool, sandbox: Sandbox | None) -> str | None:
    """Return what this host lacks for an order; None if nothing is known."""
    missing = [name for name in order.secrets if name not in os.environ]
    if missing:
        return f"does not set {', '.join(missing)}"
    if boxed and sandbox is None:
        return f"has no sandbox: {sandbox_problem() or 'the sandbox does not hold'}"
    return None


@cache
def _sandbox(home: Path) -> Sandbox | None:
    """Return the sandbox of this host if it holds; it is tried once in each place of a worker."""
    sandbox = find_sandbox()
    return sandbox if sandbox is not None and not probe(sandbox, home, home / "git") else None


def _there(paths: tuple[str, ...]) -> list[Path]:
    return [path for path in (Path(name).expanduser() for name in paths) if path.exists()]


def _ends_of(path: Path, most: int) -> bytes:
    """Return a file, or its first and last half if it is longer than `most`."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if size <= most:
                return file.read()
            first = file.read(most // 2)
            file.seek(size - most // 2)
            return first + b"\n[...]\n" + file.read()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            return b""
        raise ExecutorError(f"{path} cannot be read: {error.strerror}") from error
