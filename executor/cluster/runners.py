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
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from executor.agents.command import child_environment, secrets_of
from executor.cluster.exchange import Board, Exchange
from executor.cluster.orders import PROTOCOL, Limits, Order, ProtocolError, Result, State, Watch, decoded, same_work
from executor.errors import ExecutorError, ForgeRefusedError, ForgeUnavailableError, InterruptedRunError
from executor.git.command import Git, Identity
from executor.git.refs import Refs
from executor.git.remote import Remote
from executor.process.runner import Command, Ended

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from executor.cluster.dask_tasks import DaskStarter
    from executor.cluster.orders import Lease
    from executor.model.outward_rules import Runner
    from executor.model.policy import Policy
    from executor.sandbox.policy import RunContext

__all__ = ["Arrived", "Desk", "Host", "HostError", "Hosts", "Task", "ask", "worker_header"]

_PASSED_ON = ("SSH_AUTH_SOCK", "KUBECONFIG", "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")
"""Variables of the user that connections need, beside the ordinary ones."""
_TO_FILE = 'out=$1; shift; exec "$@" > "$out"'
_WHO = Identity("make-for-milestones", "orders@localhost")
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
                    told = ask(self.runner, argv, python=python)
                    self.name = str(told["host"])
                    found = told.get("conditions")
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
            _pack(context, order, given)
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


class HostError(ExecutorError):
    """The host of an agent fails or lacks something; the message says which. The issue is not at fault."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A result of an agent on another host.

    Attributes:
        result: the result.
        commit: its commit; its tree is the one that the agent left.
        files: log and protocol files, by name.
    """

    result: Result
    commit: str
    files: Mapping[str, bytes]


class Desk:
    """The orders of one milestone's run on the refs of a remote; its threads share one look at the remote.

    Args:
        context: the run.
        runner: a runner of a kind whose orders workers claim.
        remote: the remote.
    """

    def __init__(self, context: RunContext, runner: Runner, remote: Remote) -> None:
        self._context, self._runner = context, runner
        refs = Refs(context.project.repository, _WHO)
        self._exchange = Exchange(remote, refs, context.store, _WHO)
        self._refs = refs
        self._lock = threading.Lock()
        self._board, self._looked = Board(), float("-inf")
        self._watch = Watch()
        self._starter: DaskStarter | None = None
        self._reported = ""
        if runner.kind == "dask":
            from executor.cluster.dask_tasks import DaskStarter

            self._starter = DaskStarter(runner, remote.url)

    def done(self, order: Order, claimed: Callable[[Lease], None]) -> Arrived:
        """Publish an order, or adopt the same order of a run before, and wait for its result.

        Args:
            order: the order.
            claimed: called for each worker that claims it.

        Raises:
            HostError: nobody claims it, or it was withdrawn by somebody else.
            InterruptedRunError: the run is being stopped; the order is cancelled.
            ForgeRefusedError: the remote does not take orders.
        """
        self._send(order)
        try:
            return self._awaited(order, claimed)
        finally:
            if self._starter is not None:
                self._starter.drop(order.id)

    def _awaited(self, order: Order, claimed: Callable[[Lease], None]) -> Arrived:
        seen, since, away = 0, time.monotonic(), False
        while True:
            if self._context.stopping.wait(self._runner.poll_s):
                self.cancel(order.id)
                raise InterruptedRunError(f"{order.id} was interrupted", 130)
            try:
                board = self._look()
            except ForgeUnavailableError as error:
                if not away:
                    self._context.tell("warning", self._context.name, f"{order.id} waits: {error}")
                away = True
                continue
            away = False
            found = board.counting(order.id)
            if found is not None:
                result, commit = found
                return self._arrived(result, commit)
            lease = board.leases.get(order.id)
            if order.id not in board.orders or (lease is not None and lease[0].state is State.CANCELLED):
                raise HostError(f"the order {order.id} was withdrawn from the remote by somebody else")
            if lease is not None and lease[0].fence > seen and lease[0].state is State.HELD:
                seen = lease[0].fence
                claimed(lease[0])
            now = time.monotonic()
            silent = self._watch.silence(order.id, lease[1], now) if lease is not None else now - since
            self._start_worker(order, lease[0] if lease is not None else None, silent)
            if silent > self._runner.claim_s:
                self.cancel(order.id)
                raise HostError(self._unclaimed(order, silent))

    def _arrived(self, result: Result, commit: str) -> Arrived:
        try:
            return Arrived(result, commit, self._exchange.files(f"{commit}^2", ""))
        except ProtocolError as error:
            raise HostError(f"the result of {result.order} cannot be used: {error}") from error

    def _start_worker(self, order: Order, lease: Lease | None, silent: float) -> None:
        """Have a worker started for an order without a living one; its lease says so, and never Dask."""
        if self._starter is None:
            return
        if lease is None or lease.state is State.FREE or silent > self._runner.patience_s:
            self._starter.want(order.id)
        else:
            self._starter.drop(order.id)
        if self._starter.trouble and self._starter.trouble != self._reported:
            self._reported = self._starter.trouble
            self._context.tell("warning", self._context.name, f"runner {self._runner.name}: {self._reported}")

    def _unclaimed(self, order: Order, silent: float) -> str:
        if self._starter is not None:
            why = self._starter.trouble or f"{self._runner.address} starts none, for whatever reason"
            return f"no worker has claimed {order.id} within {silent:.0f} s: {why}"
        asked = f" with the labels {', '.join(order.labels)}" if order.labels else ""
        return (
            f"no worker{asked} has claimed {order.id} within {silent:.0f} s; start one: "
            f"python -m executor worker --remote {self._exchange.name}"
        )

    def _send(self, order: Order) -> None:
        """Publish an order unless the same one is on the remote; another one of its id is removed first."""
        board = self._look(fresh=True)
        there = board.orders.get(order.id)
        if there is not None:
            lease = board.leases.get(order.id)
            ended = lease is not None and lease[0].state is State.CANCELLED
            if not ended and same_work(there[0], order):
                return
            self._exchange.cancel(order.id)
            self._exchange.remove([order.id])
        self._exchange.publish([order])

    def _look(self, *, fresh: bool = False) -> Board:
        with self._lock:
            if fresh or time.monotonic() - self._looked > self._runner.poll_s / 2:
                self._board = self._exchange.board(f"{self._context.name}/")
                self._looked = time.monotonic()
            return self._board

    def cancel(self, order: str) -> None:
        """Put a tombstone on an order; the worker ends its processes. A remote that is away changes nothing."""
        with suppress(ForgeUnavailableError, ForgeRefusedError):
            self._exchange.cancel(order)

    def tidy(self, needed: Callable[[str], bool]) -> None:
        """Remove the refs of orders of this milestone that nobody needs any more; the run ends."""
        if self._starter is not None:
            self._starter.close()
        with suppress(ForgeUnavailableError, ForgeRefusedError):
            board = self._look(fresh=True)
            over = [order for order in {*board.orders, *board.leases, *board.results} if not needed(order)]
            if over:
                self._exchange.remove(over)


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
                if runner.remote is not None or remote is None:
                    remote = Remote(context.project.repository, runner.remote or "origin")
                self._desks[runner.name] = Desk(context, runner, remote)
            return self._desks[runner.name]

    def agent_done(
        self,
        context: RunContext,
        runner: Runner,
        remote: Remote | None,
        order: Order,
        claimed: Callable[[Lease], None],
    ) -> Arrived:
        """Have a host of a runner do the order of an agent.

        Args:
            context: the run.
            runner: the runner.
            remote: the remote of the forge.
            order: the order.
            claimed: called for each worker that begins.

        Raises:
            HostError: the host fails.
            InterruptedRunError: the run is being stopped.
        """
        return self.desk(context, runner, remote).done(order, claimed)

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


def _pack(context: RunContext, order: Order, target: Path) -> None:
    """Write an order and the objects of its base into a file."""
    repository = context.project.repository
    git = Git(repository.common_dir, repository.common_dir)
    pack = git.run("pack-objects", "--revs", "--stdout", "-q", given=f"{order.base}\n".encode())
    header = json.dumps({"protocol": PROTOCOL, "order": asdict(order)}).encode()
    target.write_bytes(header + b"\n" + order.base.encode() + b"\n" + pack)


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


def _read(answer: Path, order: Order, out: Path) -> Ended:
    """Read an answer, and write the files that came with it.

    Raises:
        ProtocolError: it is no answer to this order.
    """
    if answer.stat().st_size > _MOST_ANSWER:
        raise ProtocolError("its answer is too long")
    value = worker_header(answer.read_bytes(), "", "the worker")
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
