"""Starts workers through Dask: one task for each order, which runs `executor worker --order ID` and waits for its end.

Dask decides nothing. A task that is cancelled, started twice or lost costs a start: the lease in git says who works on
an order, and the result in git says that it is done. An order that nobody claims is asked for again after a time, and
at once if another scheduler answers at the address. No code of this package travels, only the name of a function of
Python's standard library.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import subprocess
import threading
import time
import uuid
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from executor.cluster.orders import PROTOCOL, ProtocolError, Result, is_check_id
from executor.cluster.worker import worker_header
from executor.git.remote import without_password

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from distributed import Client, Future

    from executor.cluster.orders import Order
    from executor.model.outward_rules import Runner

__all__ = ["Asked", "DaskStarter", "ask_dask", "conditions_on", "due", "lacking", "places"]

_ONE_TASK = (
    'log=$(mktemp) || exit 75; "$@" >/dev/null 2>"$log" </dev/null; code=$?; '
    'tail -c 2000 "$log"; rm -f "$log"; exit $code'
)
"""Runs the command of a task; only the end of its messages comes back through Dask."""
_LOOK_S = 1.0  # seconds between two looks at the scheduler, and for one of its answers
_PAUSE_S = 2.0
"""Seconds before an order is asked for again whose task ended without a claim; doubled with each further one."""
_DOUBLINGS = 5  # doublings of the pause at most; a choice
_SHORT = 300  # characters of a message, about four lines of a terminal


@dataclass(frozen=True, slots=True)
class Asked:
    """A task that was submitted for an order.

    Attributes:
        scheduler: id of the scheduler that got it; another scheduler knows nothing of it.
        at: when, in seconds on a clock that never goes back.
        times: how many tasks this order has had before.
        over: Dask says that the task has ended, or that it does not know it any more.
    """

    scheduler: str
    at: float
    times: int = 0
    over: bool = False


def due(asked: Asked | None, scheduler: str, *, now: float, patience: float) -> bool:
    """Return whether to submit a task for an order that no live worker holds. Pure.

    A task that waits for a free slot is asked for again as well: Dask may have lost it, and a second start does no
    harm. The pauses grow, so that a long queue is not flooded.

    Args:
        asked: the last task of the order; None if it has had none.
        scheduler: id of the scheduler that answers now.
        now: seconds on the clock of `asked`.
        patience: seconds to wait for a claim.
    """
    if asked is None or asked.scheduler != scheduler:
        return True
    growth = 2.0 ** min(asked.times, _DOUBLINGS)
    return now - asked.at >= (min(_PAUSE_S * growth, patience) if asked.over else patience * growth)


def lacking(workers: Mapping[str, Mapping[str, float]], wanted: Mapping[str, float]) -> str | None:
    """Return the reason why no worker can take a task; None if one can. Pure.

    Args:
        workers: the resources of each worker of the scheduler.
        wanted: the resources that a task takes.
    """
    if any(all(has.get(name, 0) >= amount for name, amount in wanted.items()) for has in workers.values()):
        return None
    flags = " ".join(f"{name}={amount:g}" for name, amount in wanted.items())
    if not workers:
        return f"the scheduler has no workers; start one with --resources '{flags}'"
    kinds = {" ".join(f"{name}={has[name]:g}" for name in sorted(has)) or "none" for has in workers.values()}
    found = "; ".join(sorted(kinds)[:5])
    return f"no worker offers {flags} (workers: {len(workers)}, their resources: {found})"


def places(workers: Mapping[str, Mapping[str, float]], wanted: Mapping[str, float]) -> int:
    """Return how many tasks with these resources the workers can run at the same time. Pure."""
    return sum(
        min((int(has.get(name, 0) / amount) for name, amount in wanted.items()), default=1) for has in workers.values()
    )


@dataclass(slots=True)
class _Link:
    """A connection to a scheduler, and the last task of each order there."""

    client: Client
    scheduler: str
    futures: dict[str, Future] = field(default_factory=dict)

    def busy(self, *, checks: bool) -> int:
        """Return how many tasks of agents or checks have not ended, as far as Dask knows."""
        found = (future for order, future in self.futures.items() if is_check_id(order) is checks)
        return sum(future.status == "pending" for future in found)


class DaskStarter:
    """Starts workers for orders, in a thread that talks to Dask; its methods return immediately.

    Args:
        runner: the runner, of the kind ``dask``.
        remote: the remote with the orders, as the hosts of the workers reach it.
    """

    def __init__(self, runner: Runner, remote: str) -> None:
        self.trouble = ""
        """Why no worker starts at present; empty as long as nothing is known to be wrong."""
        self._runner, self._remote = runner, without_password(remote)
        self._wanted: dict[str, float] = {}
        self._checks: dict[str, Order] = {}
        self.hosts: dict[tuple[str, ...], dict[str, Mapping[str, str]]] = {}
        """Conditions of the hosts, by command and by the address of the worker."""
        self._asked: dict[str, Asked] = {}
        self._lock = threading.Lock()
        self._over, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def want(self, order: str, asked: Order | None = None) -> None:
        """Start a worker for an order that is unclaimed or whose worker is silent.

        Args:
            order: id of the order.
            asked: the order; that of a check says which conditions its host must have.
        """
        with self._lock:
            if order not in self._wanted:
                if asked is not None and asked.asks:
                    self._checks[order] = asked
                self._wanted[order] = time.monotonic()
                self._wake.set()
            if self._thread is None and not self._over.is_set():
                self._thread = threading.Thread(target=self._work, name="dask", daemon=True)
                self._thread.start()

    def drop(self, order: str) -> None:
        """Start no further worker for an order: one has claimed it, or it is over."""
        with self._lock:
            self._wanted.pop(order, None)

    def close(self) -> None:
        """Forget all tasks. Dask drops those that wait; the workers that run go on, and their leases say so."""
        self._over.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(2 * _LOOK_S)

    def _work(self) -> None:
        link: _Link | None = None
        while not self._over.is_set():
            try:
                if link is None:
                    link = _linked(self._runner)
                self._tend(link)
            except ProtocolError as error:
                self.trouble = str(error)
                _unlinked(link)
                link = None
            except Exception as error:  # noqa: BLE001  (whatever Dask raises is a lost connection)
                self.trouble = f"{self._runner.address} broke off: {_first_line(error)}"
                _unlinked(link)
                link = None
            if self._wake.wait(_LOOK_S) and link is None:
                self._over.wait(_LOOK_S)
            self._wake.clear()
        _unlinked(link)

    def _tend(self, link: _Link) -> None:
        info = _scheduler(link.client)
        if info.id != link.scheduler:
            link.futures.clear()
            link.scheduler = info.id  # a new one, at the same address; the client has found it by itself
        with self._lock:
            wanted = dict(self._wanted)
        for order in [order for order in link.futures if order not in wanted and link.futures[order].done()]:
            del link.futures[order]
        self._asked = {order: asked for order, asked in self._asked.items() if order in wanted}
        troubles = set[str]()
        for order, since in wanted.items():
            troubles.add(self._seen(link, order))
            workers, resources = self._able(link, order, info.workers)
            room, trouble = places(workers, resources), lacking(info.workers, resources)
            troubles.add(trouble or ("" if workers else f"no worker has the conditions of {order}"))
            asked, now = self._asked.get(order), time.monotonic()
            if not due(asked, info.id, now=now, patience=self._runner.start_s):
                continue
            # Dask gives more tasks to a worker than fit, where neither a free worker gets them nor one that joins
            # later; so they wait here. Not for ever: its figures may be wrong.
            busy = link.busy(checks=is_check_id(order))
            if not workers or (busy >= room and order not in link.futures and now - since < self._runner.start_s):
                continue
            times = 0 if asked is None or asked.scheduler != info.id else asked.times + 1
            self._asked[order] = Asked(info.id, now, times)
            link.futures[order] = _submitted(link.client, self._argv(order), resources, order, sorted(workers))
            link.futures[order].add_done_callback(lambda _: self._wake.set())  # its place is free for another order
        self.trouble = min(troubles - {""}, default="")

    def _able(
        self, link: _Link, order: str, workers: dict[str, dict[str, float]]
    ) -> tuple[dict[str, dict[str, float]], Mapping[str, float]]:
        """Return the workers that can take an order, and the resources that it takes.

        A check goes only to hosts with its conditions; each worker is asked for them once.
        """
        check = self._checks.get(order)
        if check is None:
            return workers, self._runner.resources
        resources = self._runner.check_resources
        fit = {word: has for word, has in workers.items() if not lacking({word: has}, resources)}
        known = self.hosts.setdefault(check.asks, {})
        if new := fit.keys() - known.keys():
            said = _described(link, self._runner, new, check.asks, python="python" in check.conditions)
            known |= {word: _conditions(facts) for word, facts in said.items() if isinstance(facts, dict)}
        return {word: has for word, has in fit.items() if known.get(word) == check.conditions}, resources

    def _argv(self, order: str) -> list[str]:
        labels = ["--labels", ",".join(self._runner.needs)] if self._runner.needs else []
        return [*self._runner.worker, "--remote", self._remote, "--order", order, *labels]

    def _seen(self, link: _Link, order: str) -> str:
        """Note that the task of an order is over; returns why it started no worker, as far as Dask knows."""
        future, asked = link.futures.get(order), self._asked.get(order)
        if future is None or asked is None or future.status == "pending":
            return ""
        text = ""
        if future.status == "finished":
            done = future.result(timeout=_LOOK_S)
            if done.returncode:
                if order in self._checks:  # its tools may have been replaced since they were asked for
                    self.hosts.pop(self._checks[order].asks, None)
                said = done.stdout.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
                text = f"the worker for {order} ended with code {done.returncode}: {said[-1][:_SHORT]}"
        elif future.status == "error":
            text = f"Dask could not start a worker for {order}: {_first_line(future.exception(timeout=_LOOK_S))}"
        self._asked[order] = Asked(asked.scheduler, asked.at, asked.times, over=True)
        return text


@dataclass(frozen=True, slots=True)
class _Scheduler:
    id: str
    workers: dict[str, dict[str, float]]


def ask_dask(runner: Runner) -> dict[str, object]:
    """Ask a host behind a scheduler for its description, as `executor.cluster.runners.ask` does behind a prefix.

    Raises:
        ProtocolError: no scheduler answers, no worker has the resources, or the command of the worker fails there.
    """
    link = _linked(runner)
    try:
        found = _answering(link, runner, runner.resources, (), python=False)
        output = next(iter(found.values()))
        many = f"{output.get('host')} and {len(found) - 1} more" if len(found) > 1 else output.get("host")
        return {**output, "host": many}
    finally:
        _unlinked(link)


def conditions_on(runner: Runner, argv: tuple[str, ...], *, python: bool) -> list[Result]:
    """Ask each host of a scheduler that takes checks for the verdict conditions of a command.

    Raises:
        ProtocolError: no scheduler answers, no worker has the resources, or the command of the worker fails there.
    """
    link = _linked(runner)
    try:
        found = _answering(link, runner, runner.check_resources, argv, python=python)
        answers = ((word, str(facts.get("host")), _conditions(facts)) for word, facts in found.items())
        return [Result("-", 1, word, host, "exited", conditions=conditions) for word, host, conditions in answers]
    finally:
        _unlinked(link)


def _conditions(facts: Mapping[str, object]) -> dict[str, str]:
    found = facts.get("conditions")
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _answering(
    link: _Link, runner: Runner, resources: Mapping[str, float], argv: tuple[str, ...], *, python: bool
) -> dict[str, dict[str, object]]:
    """Return what the hosts with these resources say, by the address of their worker; raises if none answers."""
    workers = _scheduler(link.client).workers
    if problem := lacking(workers, resources):
        raise ProtocolError(f"{runner.address}: {problem}")
    able = [word for word, has in workers.items() if not lacking({word: has}, resources)]
    said = _described(link, runner, able, argv, python=python)
    if found := {word: facts for word, facts in said.items() if isinstance(facts, dict)}:
        return found
    raise ProtocolError(f"{runner.address}: {next(map(str, said.values()), 'no worker answers')}")


def _described(
    link: _Link, runner: Runner, addresses: Iterable[str], argv: tuple[str, ...], *, python: bool
) -> dict[str, dict[str, object] | str]:
    """Return the descriptions of hosts by the address of their worker, or the reason for a missing one.

    The question is no task, so it waits for no free slot.
    """
    header = json.dumps({"protocol": PROTOCOL, "describe": argv, "python": python}).encode() + b"\n"
    said: dict[str, object] = {}

    def ask() -> None:
        with suppress(Exception):
            said.update(
                link.client.run(
                    asyncio.to_thread,
                    subprocess.run,
                    [*runner.worker],
                    input=header,
                    capture_output=True,
                    check=False,
                    timeout=runner.connect_s,
                    workers=list(addresses),
                    on_error="return",
                )
            )

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * runner.connect_s)  # a frozen host must not hold the others up
    return {word: _fact(answer, runner) for word, answer in dict(said).items()}


def _fact(answer: object, runner: Runner) -> dict[str, object] | str:
    if not isinstance(answer, subprocess.CompletedProcess):
        return f"the worker's command fails: {_first_line(answer if isinstance(answer, BaseException) else None)}"
    try:
        return worker_header(answer.stdout, answer.stderr.decode("utf-8", "replace"), runner.address)
    except ProtocolError as error:
        return str(error)


def _linked(runner: Runner) -> _Link:
    """Return a connection to the scheduler of a runner.

    Raises:
        ProtocolError: there is none; one sentence says why.
    """
    try:
        from distributed import Client, Security
    except ImportError as error:
        raise ProtocolError(
            f"runner {runner.name} needs Dask: install make-for-milestones[cluster] ({error})"
        ) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # lost connections are reported by us, once
    files = _files(runner)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            security = Security(require_encryption=runner.address.startswith("tls:"), **files)
            client = Client(runner.address, security=security, timeout=runner.connect_s, set_as_default=False)
        return _Link(client, _scheduler(client).id)
    except Exception as error:
        raise ProtocolError(_no_connection(runner, error)) from error


def _files(runner: Runner) -> dict[str, str]:
    if runner.tls is None:
        return {}
    asked = {"tls_ca_file": runner.tls.ca, "tls_client_cert": runner.tls.cert, "tls_client_key": runner.tls.key}
    found = {name: Path(path).expanduser() for name, path in asked.items()}
    for path in found.values():
        if not path.is_file():
            raise ProtocolError(f"{path} does not exist; runner {runner.name} needs it for {runner.address}")
    return {name: str(path) for name, path in found.items()}


def _no_connection(runner: Runner, error: BaseException) -> str:
    causes: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in causes:
        causes.append(link)
        link = link.__cause__ or link.__context__
    text = " ".join(map(str, causes))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes) or "CERTIFICATE_VERIFY" in text:
        authority = runner.tls.ca if runner.tls is not None else "no authority"
        return f"{runner.address} shows a certificate that {authority} did not sign; correct tls.ca"
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or "SSL" in text:
        return (
            f"{runner.address} refuses the certificate of this machine, or speaks no TLS; expected a tls.cert that the "
            "authority of the scheduler signed"
        )
    if "reset by peer" in text and runner.address.startswith("tcp:"):
        return f"{runner.address} breaks off; if the scheduler speaks TLS, write tls:// and name the files of tls"
    # the system's own word, if it came to that before the time was over
    said = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno), causes[0])
    return f"no Dask scheduler answers at {runner.address}: {_first_line(said)}"


def _first_line(error: BaseException | None) -> str:
    text = str(error) or type(error).__name__
    return text.strip().splitlines()[0][:_SHORT]


def _scheduler(client: Client) -> _Scheduler:
    info = client.scheduler_info(n_workers=-1)
    return _Scheduler(str(info["id"]), {word: dict(facts["resources"]) for word, facts in info["workers"].items()})


def _submitted(
    client: Client, argv: Sequence[str], resources: Mapping[str, float], order: str, workers: list[str]
) -> Future:
    return client.submit(
        subprocess.run,
        ["sh", "-c", _ONE_TASK, "sh", *argv],
        stdout=subprocess.PIPE,
        start_new_session=True,
        check=False,
        resources=dict(resources),
        workers=workers if is_check_id(order) else None,
        key=f"{order.replace('/', '-')}-{uuid.uuid4().hex}",
        pure=False,
        retries=0,
    )


def _unlinked(link: _Link | None) -> None:
    if link is not None:
        with suppress(Exception):
            link.client.close(timeout=_LOOK_S)
