"""Runs checks on other hosts: chooses the runner, packs the order, reads the result. A host that fails is left alone.

The connection is a child of the same supervisor as every command here, so that it ends with the run, and the worker
with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from executor.agents.command import child_environment, secrets_of
from executor.cluster.orders import PROTOCOL, Limits, Order, ProtocolError, Result, decoded
from executor.errors import InterruptedRunError
from executor.git.command import Git, Identity
from executor.process.runner import Command, Ended

if TYPE_CHECKING:
    from pathlib import Path

    from executor.model.outward_rules import Runner
    from executor.model.policy import Policy
    from executor.sandbox.policy import RunContext

__all__ = ["Host", "Hosts", "Task", "ask"]

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


class Hosts:
    """The hosts of a milestone's runners."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._hosts = {name: Host(runner) for name, runner in policy.runners.items()}

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
    return _header(done.stdout, done.stderr.decode("utf-8", "replace"), runner.name)


def _header(data: bytes, said: str, name: str) -> dict[str, object]:
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
    value = _header(answer.read_bytes(), "", "the worker")
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
