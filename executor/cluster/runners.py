"""Runs checks and agents on other hosts: chooses the runner, packs the order, reads the result.

The connection is a child of the same supervisor as every command here, so that it ends with the run, and the worker
with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from executor.agents.command import child_environment, secrets_of
from executor.cluster import line
from executor.cluster.desk import Desk, HostError, OrphanError, answers_of, probed
from executor.cluster.exchange import Arrived, Exchange, files_in, order_commit
from executor.cluster.line import CONNECTION
from executor.cluster.orders import Lease, Order, ProtocolError, Result, decoded, encoded, ending_of
from executor.cluster.worker import answer_in, worker_header
from executor.errors import ExecutorError, ForgeRefusedError, ForgeUnavailableError, InterruptedRunError
from executor.git.command import Git, Identity
from executor.git.objects import Store
from executor.git.refs import Refs
from executor.git.remote import Remote
from executor.model.fingerprint import digest
from executor.process.files import end_of
from executor.process.runner import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from executor.git.command import Repository
    from executor.model.outward_rules import Runner
    from executor.model.policy import Policy
    from executor.process.runner import Ended
    from executor.sandbox.policy import RunContext

__all__ = ["Crowd", "Host", "Hosts", "ask"]

_PASSED_ON = ("SSH_AUTH_SOCK", "KUBECONFIG", "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")
"""Variables of the user that connections need, beside the ordinary ones."""
_WHO = Identity("make-for-milestones", "orders@localhost")
_SETUP_S = 1800.0
"""Seconds that a set-up command may take, as `executor.cluster.bench` has it."""
_KEY = 20  # hex digits, 80 bits: two ids are never the same
_EPOCH = 0x4F000000
"""Time of a commit that only carries a tree, so that the same tree gives the same commit."""
_PATIENCE_S = 300.0
"""Seconds of silence behind a prefix, by default: a computer may sleep, or a network be away, for minutes. Rarely is
anything waited for so long, because most connections end with their client, and a killed run says farewell."""
_FAREWELL_S = 4.0  # seconds between a farewell and the kill: those of `line.py` to leave, twice


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

    def conditions(self, context: RunContext, argv: tuple[str, ...], *, python: bool) -> dict[str, str] | None:
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
                    context.tell("warning", context.name, f"runner {self.runner.name} failed: {error}")
            return None if self.down else self._known[argv]

    def run(self, context: RunContext, task: Order, log: Path, out: Path) -> tuple[Ended, str] | None:
        """Run a check there; returns its end and the host. None if the host fails.

        Args:
            context: the run.
            task: the order of the check, without id and base; its `spec` is the tree to judge.
            log: file for its output.
            out: folder for its files.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        given, answer, limit = log.with_suffix(".order"), log.with_suffix(".result"), task.limits.timeout
        order = replace(task, id=_check_id(context, task), base=_commit(context, task.spec))
        try:
            _pack(context, self.runner, {"order": asdict(order)}, order.base, given)
            with self._slots:
                ended = context.supervisor.run(_connection(self.runner, context, given, answer, log, limit))
            if ended.reason in {"stopped", "lost"}:
                raise InterruptedRunError(f"the check {task.profile} was interrupted", 130)
            try:
                return _read(answer, order, out, end_of(log, 2000)), self.name
            except (OSError, ProtocolError) as error:
                self.down = f"{ended.describe()}: {error}"
                return None
        finally:
            given.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)

    def agent_done(self, context: RunContext, order: Order, log: Path, seen: Callable[[Lease], None]) -> Arrived:
        """Run an agent there; its output goes to the log while it works.

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
            _pack(context, self.runner, {"agent": order.id}, commit, given)
            with self._slots:
                seen(Lease(order.id, 1, "", self.name or self.runner.name))
                ended = context.supervisor.run(_connection(self.runner, context, given, answer, log, limit))
            if ended.reason in {"stopped", "lost"}:
                raise InterruptedRunError(f"{order.id} was interrupted", 130)
            try:
                value = answer_in(answer, end_of(log, 2000))
                arrived = _unpacked(context, store, value, order)
            except (OSError, ProtocolError, ExecutorError) as error:
                raise HostError(f"{ended.describe()}: {error}", away=True) from error
            self.name = arrived.result.host
            return arrived
        finally:
            given.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)


class Crowd:
    """The workers of a runner as one host of checks: any worker with the required conditions runs one.

    Args:
        runner: the runner.
        hosts: the hosts of the milestone, which have the desk of its orders.
    """

    def __init__(self, runner: Runner, hosts: Hosts) -> None:
        self.runner = runner
        self.down = ""
        """Why it is not used any more in this run."""
        self._hosts = hosts
        self._known: dict[tuple[str, ...], dict[str, str]] = {}
        self._turns: dict[str, int] = {}
        self._asking, self._lock = threading.Lock(), threading.Lock()

    def conditions(self, context: RunContext, argv: tuple[str, ...], *, python: bool) -> dict[str, str] | None:
        """Return the verdict conditions of a command there, queried once; None if no host answers.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        with self._asking:
            if argv not in self._known and not self.down:
                try:
                    desk = self._hosts.desk(context, self.runner, self._hosts.outside()[0])
                    self._known[argv] = dict(desk.asked(argv, python=python))
                except (HostError, ProtocolError, ForgeRefusedError, ForgeUnavailableError) as error:
                    self.down = str(error)
                    context.tell("warning", context.name, f"runner {self.runner.name} failed: {error}")
            return None if self.down else self._known[argv]

    def run(self, context: RunContext, task: Order, log: Path, out: Path) -> tuple[Ended, str] | None:
        """Run a check on one of the hosts; returns its end and the host. None if they fail.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        remote, tip = self._hosts.outside()
        base = context.store.commit(task.spec, [tip], "Base of a check\n", _WHO, _EPOCH)
        name = _check_id(context, task)
        with self._lock:
            turn = self._turns[name] = self._turns.get(name, 0) + 1
        order = replace(task, id=f"{name}.{turn}" if turn > 1 else name, base=base)
        try:
            arrived, ended = self._hosts.desk(context, self.runner, remote).judged(order)
        except OrphanError:
            with self._asking:
                self._known.pop(task.asks, None)  # other hosts may have other conditions
            return None
        except (HostError, ForgeRefusedError, ForgeUnavailableError) as error:
            self.down = str(error)
            return None
        arrived.write(log, out)
        log.write_bytes(context.redact(log.read_bytes()))
        return ended, arrived.result.host


class Hosts:
    """The hosts of a milestone's runners.

    Args:
        policy: the rules.
        outside: returns the remote of the forge, None without one, and the commit on which work starts.
    """

    def __init__(self, policy: Policy, outside: Callable[[], tuple[Remote | None, str]] = lambda: (None, "")) -> None:
        self._policy, self.outside = policy, outside
        runners = policy.runners.items()
        self._hosts = {name: Host(runner) for name, runner in runners if not runner.claimed}
        self._crowds = {name: Crowd(runner, self) for name, runner in runners if runner.claimed}
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
        """Run the order of an agent on a host of a runner.

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

    def host_for(self, label: str, *, boxed: bool) -> Host | Crowd | None:
        """Return a host that takes a check with this label; None if it has to run here.

        Files that git ignores and declared environments do not travel, so such checks run here, too.
        """
        if self._policy.setup.include or self._policy.environments.environments:
            return None
        for name, runner in self._policy.runners.items():
            host = self._crowds[name] if runner.claimed else self._hosts[name]
            if label in runner.names and not host.down and (runner.isolated or not boxed):
                return host
        return None


def ask(runner: Runner, argv: tuple[str, ...], *, python: bool = False) -> dict[str, object]:
    """Ask the host of a runner for its description: ``host``, ``git``, ``python``, and ``conditions`` of a command.

    Raises:
        ProtocolError: there is no answer, or none of this version.
    """
    if runner.kind == "dask":
        from executor.cluster.dask_tasks import ask_dask

        return ask_dask(runner)
    header = json.dumps({"protocol": CONNECTION, "describe": argv, "python": python}).encode() + b"\n"
    try:
        output, said = line.asked((*runner.prefix, *runner.worker), header, runner.connect_s, _environment())
    except OSError as error:
        raise ProtocolError(f"{runner.name} does not answer: {error}") from error
    return worker_header(output, said, runner.name)


def tried(runner: Runner, repository: Repository, remote: str | None, *, asks: bool) -> tuple[str, str]:
    """Try a runner: ask its host, or push a probe to its remote and delete it.

    Args:
        runner: the runner.
        repository: the repository of the coordinator.
        remote: the remote of the forge.
        asks: a check uses it.

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
            said += [_judges(runner, repository, name)] if asks else []
        return "; ".join(said), ""
    except ExecutorError as error:
        return "", str(error)


def _judges(runner: Runner, repository: Repository, name: str) -> str:
    """Ask the workers of a runner for their verdict conditions, as a check does; returns the hosts that answer.

    Raises:
        ProtocolError: none does.
    """
    until = time.monotonic() + runner.connect_s

    def waits(_: object) -> bool:
        time.sleep(runner.poll_s)
        return time.monotonic() < until

    with TemporaryDirectory(prefix="doctor-") as folder:
        store = Store(repository, Path(folder))
        try:
            exchange = Exchange(Remote(repository, name), Refs(repository, _WHO), store, _WHO)
            found = answers_of(exchange, runner, "doctor", ("git",), python=False, waits=waits)
        finally:
            store.close()
    if not found:
        raise ProtocolError(
            f"no worker for checks answers within {runner.connect_s:g} s; start one: python -m executor worker "
            f"--remote {name}"
        )
    return f"checks: {', '.join(sorted({item.host for item in found}))}"


def _environment() -> dict[str, str]:
    return child_environment(_PASSED_ON, {}, Path("/nonexistent"))


def _check_id(context: RunContext, order: Order) -> str:
    """Return the id of the order of a check, with a digest of all that it asks for."""
    return f"{context.name}/check/k{digest(encoded(order)).partition(':')[2][:_KEY]}"


def _commit(context: RunContext, tree: str) -> str:
    """Return a commit of a tree without history, so that its pack is the tree alone."""
    return context.store.commit(tree, [], "Base of a work order\n", _WHO, _EPOCH)


def _pack(context: RunContext, runner: Runner, asked: Mapping[str, object], commit: str, target: Path) -> None:
    """Write a header and all objects of a commit into a file."""
    repository = context.project.repository
    git = Git(repository.common_dir, repository.common_dir)
    pack = git.run("pack-objects", "--revs", "--stdout", "-q", given=f"{commit}\n".encode())
    rest = commit.encode() + b"\n" + pack
    beats = {"beat_s": runner.beat_s, "patience_s": _patience(runner), "size": len(rest)}
    header = json.dumps({"protocol": CONNECTION, **beats, **asked}).encode()
    target.write_bytes(header + b"\n" + rest)


def _patience(runner: Runner) -> float:
    return runner.patience_s if "patience_s" in runner.model_fields_set else max(_PATIENCE_S, 2 * runner.beat_s)


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
        raise ProtocolError("it answered another order")
    return Arrived(result, commit, files_in(store, f"{commit}^2", ""))


def _connection(runner: Runner, context: RunContext, given: Path, answer: Path, log: Path, timeout: float) -> Command:
    return Command(
        argv=line.command(str(given), str(answer), runner.beat_s, _patience(runner), (*runner.prefix, *runner.worker)),
        cwd=log.parent,
        env=_environment(),
        log=log,
        timeout=timeout + runner.connect_s,
        farewell=_FAREWELL_S,
        output_cap=context.policy.limits.output_cap_bytes,
        secrets=(*context.secrets, *secrets_of(runner.env)),
    )


def _read(answer: Path, order: Order, out: Path, said: str) -> Ended:
    """Read an answer, and write the files that came with it.

    Raises:
        ProtocolError: it is no answer to this order.
    """
    value = answer_in(answer, said)
    result = decoded(Result, json.dumps(value.get("result")).encode())
    if result.order != order.id:
        raise ProtocolError("it answered another order")
    files = value.get("files")
    for name, data in files.items() if isinstance(files, dict) else ():
        if "/" in name or name.startswith("."):
            raise ProtocolError(f"it sent a file with the refused name {name}")
        try:
            (out / name).write_bytes(base64.b64decode(data, validate=True))
        except (binascii.Error, TypeError, ValueError) as error:
            raise ProtocolError(f"it sent {name} in another form") from error
    ended = ending_of(result)
    if ended is None:
        raise ProtocolError(f"the command was {result.how} there: {result.problem}")
    return ended
