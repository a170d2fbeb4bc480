"""Runs checks and agents on other hosts: chooses the runner, packs the order, reads the result.

The connection is a child of the same supervisor as every command here, so that it ends with the run, and the worker
with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from executor.agents.command import child_environment, secrets_of
from executor.cluster.desk import Arrived, Desk, HostError, probed
from executor.cluster.exchange import files_in, order_commit
from executor.cluster.orders import (
    PROTOCOL,
    Lease,
    Limits,
    Order,
    ProtocolError,
    Result,
    decoded,
)
from executor.errors import ExecutorError, InterruptedRunError
from executor.git.command import Git, Identity
from executor.git.refs import Refs
from executor.git.remote import Remote
from executor.process.files import end_of
from executor.process.runner import Command, Ended

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from executor.git.command import Repository
    from executor.git.objects import Store
    from executor.model.outward_rules import Runner
    from executor.model.policy import Policy
    from executor.sandbox.policy import RunContext

__all__ = ["Host", "Hosts", "Task", "ask", "worker_header"]

_PASSED_ON = ("SSH_AUTH_SOCK", "KUBECONFIG", "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")
"""Variables of the user that connections need, beside the ordinary ones."""
_TO_FILE = 'out=$1; shift; exec "$@" > "$out"'
_WHO = Identity("make-for-milestones", "orders@localhost")
_SETUP_S = 1800.0
"""Seconds that a set-up command may take, as `executor.cluster.bench` has it."""
_MOST_ANSWER = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Task:
    """A check to run elsewhere.

    Attributes:
        name: its name, for people.
        tree: the tree to judge.
        start: the project's folder in it.
        argv: its command; `OUT` stands for the folder of its report.
        env: its variables.
        timeout: seconds.
    """

    name: str
    tree: str
    start: str
    argv: tuple[str, ...]
    env: dict[str, str]
    timeout: float


class Host:
    """The host of one runner."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.name = ""
        self.down = ""
        """Why it is not used any more in this run."""
        self._slots = threading.Semaphore(runner.slots)
        self._known: dict[tuple[str, ...], dict[str, str]] = {}
        self._lock = threading.Lock()

    def conditions(self, argv: tuple[str, ...], *, python: bool) -> dict[str, str] | None:
        """Return the conditions of verdicts of a command there, asked once; None if the host does not answer."""
        with self._lock:
            if argv not in self._known and not self.down:
                try:
                    facts = ask(self.runner, argv, python=python)
                    self.name = str(facts["host"])
                    found = facts.get("conditions")
                    items = found.items() if isinstance(found, dict) else ()
                    self._known[argv] = {"sandbox": "host", **{str(name): str(value) for name, value in items}}
                except ProtocolError as error:
                    self.down = str(error)
            return None if self.down else self._known[argv]

    def run(self, context: RunContext, task: Task, log: Path, out: Path) -> Ended | None:
        """Run a check there; its output goes to the log, its files into `out`. None if the host fails.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        given, answer = log.with_suffix(".order"), log.with_suffix(".result")
        order = Order(
            id=f"{context.name}/check/{task.tree[:16]}",
            base=_commit(context, task.tree),
            argv=task.argv,
            env=task.env,
            start=task.start,
            secrets=self.runner.env,
            limits=Limits(task.timeout, 0.0, context.policy.limits.output_cap_bytes),
            prepare=tuple(step.argv for step in context.policy.setup.steps.values()),
        )
        try:
            _pack(context, {"order": asdict(order)}, order.base, given)
            with self._slots:
                ended = context.supervisor.run(_connection(self.runner, context, given, answer, log, task.timeout))
            if ended.reason in {"stopped", "lost"}:
                raise InterruptedRunError(f"the check {task.name} was interrupted", 130)
            try:
                return _read(answer, order, out)
            except (OSError, ProtocolError) as error:
                self.down = f"{ended.describe()}: {error}"
                return None
        finally:
            given.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)

    def agent_done(self, context: RunContext, order: Order, log: Path, seen: Callable[[Lease], None]) -> Arrived:
        """Have an agent work there; its output goes to the log while it works.

        Raises:
            HostError: the host fails.
            InterruptedRunError: the run is being stopped.
        """
        store = context.store
        order = replace(order, base=_commit(context, store.tree_of(order.base)), head="")
        commit = order_commit(store, order, _WHO)
        given, answer = log.with_suffix(".order"), log.with_suffix(".result")
        limit = order.limits.timeout + _SETUP_S * len(order.prepare)
        try:
            _pack(context, {"agent": order.id}, commit, given)
            with self._slots:
                seen(Lease(order.id, 1, "", self.name or self.runner.name))
                ended = context.supervisor.run(_connection(self.runner, context, given, answer, log, limit))
            if ended.reason in {"stopped", "lost"}:
                raise InterruptedRunError(f"{order.id} was interrupted", 130)
            try:
                value = _answered(answer, end_of(log, 2000))
                arrived = _unpacked(context, store, value, order)
            except (OSError, ProtocolError, ExecutorError) as error:
                raise HostError(f"{ended.describe()}: {error}", away=True) from error
            self.name = arrived.result.host
            return arrived
        finally:
            given.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)


class Hosts:
    """The hosts of a milestone's runners."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._hosts = {name: Host(runner) for name, runner in policy.runners.items() if not runner.claimed}
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()

    def desk(self, context: RunContext, runner: Runner, remote: Remote | None) -> Desk:
        """Return the desk of a runner whose orders workers claim.

        Args:
            context: the run.
            runner: the runner.
            remote: the remote of the forge, for a runner that names none.
        """
        with self._lock:
            if runner.name not in self._desks:
                if remote is None or runner.remote not in {None, remote.name}:
                    remote = Remote(context.project.repository, runner.remote or "origin")
                self._desks[runner.name] = Desk(context, runner, remote)
            return self._desks[runner.name]

    def agent_done(
        self,
        context: RunContext,
        runner: Runner,
        remote: Remote | None,
        order: Order,
        log: Path,
        seen: Callable[[Lease], None],
    ) -> Arrived:
        """Have a host of a runner do the order of an agent.

        Args:
            context: the run.
            runner: the runner.
            remote: the remote of the forge.
            order: the order.
            log: file for its output; that of a prefix arrives while it works.
            seen: called with the lease of a worker that begins, and with each of its beats.

        Raises:
            HostError: the host fails.
            InterruptedRunError: the run is being stopped.
        """
        if runner.claimed:
            return self.desk(context, runner, remote).done(order, seen)
        return self._hosts[runner.name].agent_done(context, order, log, seen)

    def tidy(self, needed: Callable[[str], bool]) -> None:
        """Remove the refs of orders that nobody needs any more."""
        for desk in self._desks.values():
            desk.tidy(needed)

    def host_for(self, label: str, *, boxed: bool) -> Host | None:
        """Return a host that takes a check with this label; None if it has to run here.

        Files that git ignores and declared environments do not travel, so such checks run here, too.
        """
        if self._policy.setup.include or self._policy.environments.environments:
            return None
        for host in self._hosts.values():
            runner = host.runner
            if label in (runner.name, *runner.labels) and not host.down and (runner.isolated or not boxed):
                return host
        return None


def ask(runner: Runner, argv: tuple[str, ...], *, python: bool = False) -> dict[str, object]:
    """Ask the host of a runner what it is: ``host``, ``git``, ``python``, and ``conditions`` of a command.

    Raises:
        ProtocolError: there is no answer, or none of this version.
    """
    if runner.kind == "dask":
        from executor.cluster.dask_tasks import ask_dask

        return ask_dask(runner)
    header = json.dumps({"protocol": PROTOCOL, "describe": argv, "python": python}).encode() + b"\n"
    try:
        done = subprocess.run(
            [*runner.prefix, *runner.worker],
            input=header,
            capture_output=True,
            check=False,
            timeout=runner.connect_s,
            env=_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProtocolError(f"{runner.name} does not answer: {error}") from error
    return worker_header(done.stdout, done.stderr.decode("utf-8", "replace"), runner.name)


def tried(runner: Runner, repository: Repository, remote: str | None) -> tuple[str, str]:
    """Try a runner: ask its host, or send an order that nobody claims to its remote and take it back.

    Args:
        runner: the runner.
        repository: the repository of the coordinator.
        remote: the remote of the forge.

    Returns:
        What is known about it, and why it cannot be used; one of them is empty.
    """
    try:
        said = []
        if runner.kind != "git":
            host = ask(runner, ())
            said.append(f"{host.get('host')}, Python {host.get('python')}, {host.get('git')}")
        if runner.claimed:
            name = runner.remote or remote or "origin"
            said.append(probed(Remote(repository, name), Refs(repository, _WHO)))
        return "; ".join(said), ""
    except ExecutorError as error:
        return "", str(error)


def worker_header(data: bytes, said: str, name: str) -> dict[str, object]:
    """Return the last line of an answer; a login shell may print lines before it."""
    try:
        value = json.loads(data.strip().rpartition(b"\n")[2])
        if value["protocol"] == PROTOCOL:
            return dict(value)
        reason = f"protocol {value['protocol']}, expected {PROTOCOL}; use one version on all hosts"
    except (ValueError, KeyError, TypeError):
        reason = (said.strip().splitlines() or ["it said nothing"])[-1]
    raise ProtocolError(f"{name} gives no answer of a worker: {reason}")


def _environment() -> dict[str, str]:
    from pathlib import Path

    return child_environment(_PASSED_ON, {}, Path("/nonexistent"))


def _commit(context: RunContext, tree: str) -> str:
    """Return a commit of a tree without history, so that its pack is the tree alone."""
    return context.store.commit(tree, [], "Base of a work order\n", _WHO, 0x4F000000)


def _pack(context: RunContext, asked: Mapping[str, object], commit: str, target: Path) -> None:
    """Write a header and all objects of a commit into a file."""
    repository = context.project.repository
    git = Git(repository.common_dir, repository.common_dir)
    pack = git.run("pack-objects", "--revs", "--stdout", "-q", given=f"{commit}\n".encode())
    header = json.dumps({"protocol": PROTOCOL, **asked}).encode()
    target.write_bytes(header + b"\n" + commit.encode() + b"\n" + pack)


def _unpacked(context: RunContext, store: Store, value: Mapping[str, object], order: Order) -> Arrived:
    """Take the objects of a result into the repository.

    Raises:
        ProtocolError: it is no result of this order.
        ExecutorError: git refuses the objects.
    """
    repository = context.project.repository
    git = Git(repository.common_dir, repository.common_dir)
    try:
        pack = base64.b64decode(str(value["pack"]), validate=True)
    except (binascii.Error, KeyError, ValueError) as error:
        raise ProtocolError("its answer has no objects") from error
    git.run("index-pack", "--stdin", "--strict", "--fix-thin", given=pack)
    commit = str(value.get("result"))
    result = decoded(Result, Refs(repository).message(commit).partition("\n\n")[2].encode())
    if result.order != order.id:
        raise ProtocolError("its answer is to another order")
    return Arrived(result, commit, files_in(store, f"{commit}^2", ""))


def _connection(runner: Runner, context: RunContext, given: Path, answer: Path, log: Path, timeout: float) -> Command:
    return Command(
        argv=("sh", "-c", _TO_FILE, "sh", str(answer), *runner.prefix, *runner.worker),
        cwd=log.parent,
        env=_environment(),
        log=log,
        stdin=given,
        timeout=timeout + runner.connect_s,
        output_cap=context.policy.limits.output_cap_bytes,
        secrets=(*context.secrets, *secrets_of(runner.env)),
    )


def _answered(answer: Path, said: str = "") -> dict[str, object]:
    if answer.stat().st_size > _MOST_ANSWER:
        raise ProtocolError("its answer is too long")
    return worker_header(answer.read_bytes(), said, "the host")


def _read(answer: Path, order: Order, out: Path) -> Ended:
    """Read an answer, and write the files that came with it.

    Raises:
        ProtocolError: it is no answer to this order.
    """
    value = _answered(answer)
    result = decoded(Result, json.dumps(value.get("result")).encode())
    if result.order != order.id:
        raise ProtocolError("its answer is to another order")
    files = value.get("files")
    for name, data in files.items() if isinstance(files, dict) else ():
        if "/" in name or name.startswith("."):
            raise ProtocolError(f"it sends a file of the name {name}")
        try:
            (out / name).write_bytes(base64.b64decode(data, validate=True))
        except (binascii.Error, TypeError, ValueError) as error:
            raise ProtocolError(f"it sends {name} in another form") from error
    if result.how not in {"exited", "timeout", "idle", "output-limit", "not-started"}:
        raise ProtocolError(f"the command was {result.how} there: {result.problem}")
    return Ended(
        code=result.code,
        signal=result.signal,
        reason=result.how,  # type: ignore[arg-type]
        problem=result.problem,
        seconds=result.seconds,
        output_bytes=result.output_bytes,
        leftovers=result.leftovers,
    )
