"""`python -m executor worker --remote URL`: claims orders of agents and checks from the refs of a remote and does them.

A lease is kept alive by its beats. The worker stops the whole process tree of an order when a beat is refused (another
worker took it over, or the coordinator cancelled it), and when the remote does not answer for as long as its patience.
What a killed worker held is claimed again at once by the next one in the same place; a result that could not be pushed
is pushed then. Each place is for agents or for checks, so that a short check does not wait for a long agent. Beside
them, the worker answers which conditions its host offers to checks.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from executor.cluster.bench import Bench, conditions_of
from executor.cluster.exchange import QUESTIONS, Exchange, Held, ResultRefusedError, result_commit
from executor.cluster.orders import (
    Do,
    Lease,
    ProtocolError,
    Result,
    State,
    Watch,
    decoded,
    encoded,
    is_order_id,
    what_to_do,
)
from executor.errors import ExecutorError, ForgeRefusedError, ForgeUnavailableError, UsageError
from executor.git.command import Identity, Repository, git_program, safe_environment
from executor.git.refs import Move, Refs
from executor.git.remote import Remote
from executor.process.files import read_json, write_json
from executor.process.locks import Held as Locked
from executor.process.locks import try_lock
from executor.process.runner import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from executor.cluster.exchange import Board
    from executor.cluster.orders import Order

__all__ = ["main"]

_WHO = Identity("make-for-milestones", "worker@localhost")
_PLACES = 1024  # places of one worker; a choice that bounds the search
_HELD, _PENDING = "held.json", "pending.json"
_LATE = "refs/late"
_MOST_LATE = 100  # late results that are kept; a choice
_AGENT, _CHECK = "agent", "check"
"""Kinds of orders that a place is for."""
_UNLIKE_S = 30.0
"""Seconds for which an order of a check that needs another host is left alone; tools may be replaced meanwhile."""


def main(words: Sequence[str]) -> int:
    """Work until there is a signal, or until the orders that the options ask for are done; returns the exit code."""
    options = _options(words)
    stopping = threading.Event()
    with suppress(ValueError):  # not in the main thread
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
    stations = _stations(options, stopping)
    problems: list[ExecutorError] = []

    def run(station: Station) -> None:
        try:
            station.work(options.poll, once=options.once, only=options.order)
        except ExecutorError as error:
            problems.append(error)
            stopping.set()

    threads = [threading.Thread(target=run, args=(station,)) for station in stations]
    if not options.order and any(_CHECK in station.kinds for station in stations):
        threads.append(threading.Thread(target=stations[0].answer, args=(options.poll, threads[:])))
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.5)  # signals arrive between two waits
    for station in stations:
        station.close()
    if problems:
        raise problems[0]
    return 0


def _stations(options: argparse.Namespace, stopping: threading.Event) -> list[Station]:
    """Return the places of a worker; the one of a worker for a single order takes both kinds."""
    labels, state = frozenset(filter(None, options.labels.split(","))), Path(options.state).expanduser()
    kinds = [frozenset({_AGENT})] * options.slots + [frozenset({_CHECK})] * options.checks
    if options.once or options.order:
        kinds = [frozenset({_AGENT, _CHECK})] * options.slots
    return [Station(options.remote, labels, state, stopping, kind) for kind in kinds]


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m executor worker", description="Do orders of a remote.")
    parser.add_argument("--remote", required=True, help="address or path of the remote with the orders")
    parser.add_argument("--labels", default="", help="labels of this host, with commas between them")
    parser.add_argument("--slots", type=int, default=1, help="agents at the same time")
    parser.add_argument("--checks", type=int, help="checks at the same time; by default as many as agents, 0 for none")
    parser.add_argument("--once", action="store_true", help="end after one order, of an agent or a check, in each slot")
    parser.add_argument("--order", default="", help="only this order; end when it is done, cancelled or removed")
    parser.add_argument("--poll", type=float, default=2.0, help="seconds between two looks for orders")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    parser.add_argument("--state", default=f"{cache}/make-for-milestones/worker", help="folder for trees and objects")
    found = parser.parse_args(list(words))
    found.checks = found.slots if found.checks is None else found.checks
    if found.slots < 0 or found.checks < 0 or not found.slots + found.checks:
        raise UsageError(f"expected at least one place, found --slots {found.slots} --checks {found.checks}")
    if found.order and not is_order_id(found.order):
        raise UsageError(f"expected an order such as m1/a/1, found {found.order}")
    if "://" not in found.remote and Path(found.remote).exists():
        found.remote = str(Path(found.remote).resolve())
    return found


class Station:
    """One slot of a worker: a place on the disk that no other process uses, and the orders done in it."""

    def __init__(
        self, address: str, labels: frozenset[str], state: Path, stopping: threading.Event, kinds: frozenset[str]
    ) -> None:
        self._labels, self._stopping, self.kinds = labels, stopping, kinds
        self._unlike: dict[str, float] = {}
        self._worker, self._host = uuid.uuid4().hex[:12], platform.node()
        folder = state / hashlib.sha256(address.encode()).hexdigest()[:12]
        self.home, self._lock = _place(folder)
        _repository(self.home / "git", address)
        self._bench = Bench(self.home)
        self._refs = Refs(self._bench.repository, _WHO)
        self._remote = Remote(self._bench.repository, address)
        self._exchange = Exchange(self._remote, self._refs, self._bench.store, _WHO)
        self._watch = Watch()

    def close(self) -> None:
        """Let other processes use the place."""
        self._bench.close()
        self._lock.release()

    def work(self, poll: float, *, once: bool = False, only: str = "") -> None:
        """Claim and do orders until the worker is stopped.

        Args:
            poll: seconds between two looks.
            once: end after one order.
            only: id of the only order to do; it ends once that is done, cancelled or removed.

        Raises:
            ForgeRefusedError: the remote does not exist, or rejects access, and was never reached.
        """
        away, reached = "", False
        while not self._stopping.is_set():
            try:
                self._push_pending()
                board = self._exchange.board(only)
                away, reached = "", True
                if only and _is_over(board, only):
                    return
                if self._one(board, only):
                    if once or only:
                        return
                    continue
            except (ForgeUnavailableError, ForgeRefusedError) as error:
                if isinstance(error, ForgeRefusedError) and not reached:
                    raise
                if str(error) != away:
                    away = str(error)
                    _say(f"waiting: {error}")
            self._stopping.wait(poll * random.uniform(0.75, 1.25))  # noqa: S311  (workers look at different times)

    def _one(self, board: Board, only: str) -> bool:
        """Claim and do one order of the board, if there is one for this worker."""
        known = [only] if only else list(board.orders)
        random.shuffle(known)
        for name in (name for name in known if name in board.orders):
            order, commit, space = board.orders[name]
            before = board.leases.get(name)
            silence = self._watch.silence(name, before[1], time.monotonic()) if before is not None else 0.0
            if before is not None and self._is_ours(before[0]):
                silence = order.patience_s
            do = what_to_do(
                order,
                before[0] if before else None,
                self._labels,
                silence=silence,
                patience=order.patience_s,
                now=time.time(),
            )
            if do is Do.LEAVE or not self._may_do(order, only):
                continue
            held = self._exchange.claim(order, before, self._worker, self._host, space)
            if held is not None:
                self._do(order, commit, held)
                return True
        return False

    def _may_do(self, order: Order, only: str) -> bool:
        """Return whether this place takes such orders and the host has the conditions of the check.

        Raises:
            ProtocolError: it is the only order of this worker, and the host has other conditions.
        """
        if not order.asks:
            return bool(order.agent) and _AGENT in self.kinds
        if _CHECK not in self.kinds or time.monotonic() < self._unlike.get(order.id, 0.0):
            return False
        here = conditions_of(order)
        if here == order.conditions:
            return True
        names = sorted(name for name in {*here, *order.conditions} if here.get(name) != order.conditions.get(name))
        text = f"{self._host} does not have the conditions of {order.id}: {', '.join(names)}"
        if only:
            raise ProtocolError(text)
        _say(text)
        now = time.monotonic()
        self._unlike = {name: until for name, until in self._unlike.items() if until > now}
        self._unlike[order.id] = now + _UNLIKE_S
        return False

    def answer(self, poll: float, working: Sequence[threading.Thread]) -> None:
        """Answer questions about this host until the worker ends, also while all its places are in use.

        Args:
            poll: seconds between two looks.
            working: threads of the places.
        """
        exchange = Exchange(self._remote, self._refs, self._bench.store, _WHO)
        while not self._stopping.wait(poll * random.uniform(0.75, 1.25)) and any(it.is_alive() for it in working):  # noqa: S311
            with suppress(ForgeUnavailableError, ForgeRefusedError):
                board = exchange.board(kinds=QUESTIONS)
                for asked, _, space in board.orders.values():
                    done = any(result.worker == self._worker for result, _ in board.results.get(asked.id, ()))
                    lacking = [name for name in asked.secrets if name not in os.environ]
                    if done or lacking or not asked.asks or not self._labels.issuperset(asked.labels):
                        continue
                    answer = Result(asked.id, 1, self._worker, self._host, "exited", conditions=conditions_of(asked))
                    exchange.answer(asked.id, space, answer)

    def _is_ours(self, lease: Lease) -> bool:
        """Return whether this worker, or a dead one of this place, holds the lease without working on it."""
        known = read_json(self.home / _HELD)
        before = known.get("worker") if isinstance(known, dict) else None
        return lease.worker in {self._worker, before}

    def _do(self, order: Order, commit: str, held: Held) -> None:
        _say(f"claimed {order.id}")
        write_json(self.home / _HELD, {"order": order.id, "worker": self._worker})
        with Supervisor(self.home / "children.lock") as supervisor:
            beating = _Beating(self._exchange, held, order, supervisor, self._stopping)
            with beating.running():
                self._keep_base(order)
                result, files = self._done(order, commit, supervisor)
        held = beating.held
        lease = held.lease
        result = replace(result, fence=lease.fence, worker=lease.worker, host=lease.host)
        pushed = result_commit(self._bench.store, result, commit, files, _WHO)
        if beating.lost or result.how == "stopped":
            _say(f"stopped {order.id}: {beating.lost or 'the worker is being stopped'}")
            if result.tree not in {"", self._bench.store.tree_of(order.base)}:
                self._keep_late(lease, pushed)
            if not beating.lost:
                self._exchange.give_back(held)
            (self.home / _HELD).unlink(missing_ok=True)
            return
        pending = {"lease": encoded(lease).decode(), "commit": held.commit, "space": held.space, "result": pushed}
        write_json(self.home / _PENDING, pending)
        self._push_pending(wait=order.beat_s)

    def _done(self, order: Order, commit: str, supervisor: Supervisor) -> tuple[Result, dict[str, bytes]]:
        """Do an order; whatever this host cannot do with it is a result and does not end the worker."""
        try:
            if order.asks:
                return self._bench.judge(order, supervisor)
            return self._bench.do(order, self._exchange.files(commit, "in"), supervisor)
        except (ExecutorError, OSError) as error:
            problem = f"{self._host}: {error}"
            return Result(order.id, 1, "", self._host, "not-started", fault="host", problem=problem), {}

    def _push_pending(self, wait: float = 0.0) -> None:
        """Push a result that is only on this disk; with `wait`, until the remote takes it or the worker is stopped."""
        pending = read_json(self.home / _PENDING)
        if not isinstance(pending, dict):
            return
        lease = decoded(Lease, str(pending["lease"]).encode())
        commit = str(pending["result"])
        result = decoded(Result, self._refs.message(commit).partition("\n\n")[2].encode())
        held, landed = Held(lease, str(pending["commit"]), str(pending["space"])), None
        while landed is None:
            try:
                landed = self._exchange.finish(held, result, commit)
            except ResultRefusedError as error:
                result = replace(result, tree="", fault="host", problem=f"{self._host}: {error}")
                commit = result_commit(self._bench.store, result, f"{commit}^1", {}, _WHO)
            except (ForgeUnavailableError, ForgeRefusedError) as error:
                if not wait or self._stopping.wait(wait):
                    raise
                _say(f"the result of {lease.order} waits: {error}")
        _say(f"{'done' if landed else 'late'} {lease.order}: {result.problem or result.how}")
        if not landed:
            self._keep_late(lease, commit)
        (self.home / _PENDING).unlink(missing_ok=True)
        (self.home / _HELD).unlink(missing_ok=True)

    def _keep_late(self, lease: Lease, commit: str) -> None:
        """Keep a result that came late, or what a stopped agent left: its order may be gone from the remote."""
        known = self._refs.listed([_LATE])
        old = sorted(known, key=lambda name: self._refs.time_of(known[name]))[: max(0, len(known) - _MOST_LATE)]
        moves = [
            Move(f"{_LATE}/{lease.order}/{lease.fence}", "", commit),
            *(Move(name, known[name], None) for name in old),
        ]
        self._refs.move(moves, "a result came late")

    def _keep_base(self, order: Order) -> None:
        """Keep the base under a ref, so that the next fetch brings only what is new."""
        name = f"refs/kept/{order.id.partition('/')[0]}"
        before = self._refs.tip(name)
        if before != order.base:
            self._refs.move([Move(name, before, order.base)], "a base of an order")


class _Beating:
    """Keeps a lease alive beside the work, and ends the work when the lease is lost."""

    def __init__(
        self, exchange: Exchange, held: Held, order: Order, supervisor: Supervisor, stopping: threading.Event
    ) -> None:
        self.held = held
        self.lost = ""
        """Why the lease is lost; empty as long as it is held."""
        self._exchange, self._order, self._supervisor, self._stopping = exchange, order, supervisor, stopping
        self._answered = time.monotonic()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Beat during the block."""
        over = threading.Event()
        threads = [threading.Thread(target=work, args=(over,), daemon=True) for work in (self._beat, self._guard)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            threads[1].join()
            threads[0].join(self._order.patience_s)

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(self._order.beat_s) and not self.lost:
            try:
                held = self._exchange.beat(self.held)
            except (ForgeUnavailableError, ForgeRefusedError):
                continue
            if held is None:
                self._lose("another worker has it, or it was cancelled")
            else:
                self.held, self._answered = held, time.monotonic()

    def _guard(self, over: threading.Event) -> None:
        """End the work when the remote is silent, even while a beat waits for it, and when the worker is stopped."""
        while not over.wait(0.2):
            if time.monotonic() - self._answered > self._order.patience_s:
                self._lose(f"the remote has not answered for {self._order.patience_s:.0f} s")
            if self._stopping.is_set() and not self.lost:
                self._supervisor.kill()
            if self.lost:
                return

    def _lose(self, why: str) -> None:
        self.lost = self.lost or why
        self._supervisor.kill()


def _is_over(board: Board, order: str) -> bool:
    lease = board.leases.get(order)
    return order not in board.orders or (lease is not None and lease[0].state in {State.DONE, State.CANCELLED})


def _place(folder: Path) -> tuple[Path, Locked]:
    """Return the first numbered folder that no process uses, and its lock."""
    for number in range(1, _PLACES):
        home = folder / str(number)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = try_lock(home / "lock")
        if lock is not None:
            return home, lock
    raise ExecutorError(f"{folder}: all {_PLACES} places are used")


def _repository(folder: Path, address: str) -> None:
    """Make the repository of a place, with the object format of the remote."""
    if (folder / "HEAD").exists():
        return
    _init(folder, "sha1")
    remote = Remote(Repository(folder.parent, folder, folder), address)
    if any(len(commit) == 64 for commit in remote.tips().values()):  # noqa: PLR2004  (length of an object id)
        _init(folder, "sha256")


def _init(folder: Path, form: str) -> None:
    if folder.exists():
        import shutil

        shutil.rmtree(folder)
    words = [git_program(), "init", "-q", "--bare", f"--object-format={form}", str(folder)]
    done = subprocess.run(words, env=dict(safe_environment()), cwd=folder.parent, capture_output=True, check=False)
    if done.returncode:
        raise ExecutorError(f"git init: {done.stderr.decode('utf-8', 'replace').strip()}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
