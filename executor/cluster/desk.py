"""The orders of a run on the refs of a remote: published, adopted after a crash, waited for, cancelled and removed."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.cluster.exchange import SPACES, Board, Exchange
from executor.cluster.orders import ProtocolError, Result, State, Watch, same_work
from executor.errors import (
    ExecutorError,
    ForgeRefusedError,
    ForgeUnavailableError,
    InterruptedRunError,
    TakenOverError,
)
from executor.git.command import Identity
from executor.git.refs import Move, Refs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from executor.cluster.dask_tasks import DaskStarter
    from executor.cluster.orders import Lease, Order
    from executor.git.remote import Remote
    from executor.model.outward_rules import Runner
    from executor.sandbox.policy import RunContext

__all__ = ["Arrived", "Desk", "HostError", "probed"]

_WHO = Identity("make-for-milestones", "orders@localhost")


class HostError(ExecutorError):
    """The host of an agent fails or lacks something; the message says which. The issue is not at fault.

    Args:
        text: the reason.
        away: it may be better later; otherwise a person has to change something.
    """

    def __init__(self, text: str, *, away: bool = False) -> None:
        super().__init__(text)
        self.away = away


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

    def done(self, order: Order, seen: Callable[[Lease], None]) -> Arrived:
        """Publish an order, or adopt the same order of a run before, and wait for its result.

        Args:
            order: the order.
            seen: called with each lease of a worker, and with each beat of it.

        Raises:
            HostError: nobody claims it, or it was withdrawn by somebody else.
            InterruptedRunError: the run is being stopped; the order is cancelled.
            ForgeRefusedError: the remote does not take orders.
        """
        self._send(order)
        try:
            return self._awaited(order, seen)
        finally:
            if self._starter is not None:
                self._starter.drop(order.id)

    def _awaited(self, order: Order, seen: Callable[[Lease], None]) -> Arrived:
        last, since, away = "", time.monotonic(), False
        while True:
            if self._context.stopping.wait(self._runner.poll_s):
                self.cancel(order.id)
                raise InterruptedRunError(f"{order.id} was interrupted", 130)
            try:
                board = self._look()
            except (
                ForgeUnavailableError,
                ForgeRefusedError,
            ) as error:  # it has taken the order, so it was right before
                if not away:
                    self._context.tell(
                        "warning", self._context.name, f"{order.id} waits for {self._runner.name}: {error}"
                    )
                away = True
                continue
            away = False
            found, lease = board.counting(order.id), board.leases.get(order.id)
            if found is not None:
                if lease is not None:
                    seen(lease[0])  # it may have been claimed and done between two looks
                return self._arrived(*found)
            gone = order.id not in board.orders and not any(
                ref.endswith(f"/orders/{order.id}") for ref in board.strange
            )
            if gone or (lease is not None and lease[0].state is State.CANCELLED):
                raise HostError(f"the order {order.id} was withdrawn from the remote by somebody else", away=True)
            if lease is not None and lease[1] != last and lease[0].state is State.HELD:
                last = lease[1]
                seen(lease[0])
            now = time.monotonic()
            silent = self._watch.silence(order.id, lease[1], now) if lease is not None else now - since
            self._start_worker(order, lease[0] if lease is not None else None, silent)
            if silent > self._runner.claim_s:
                self.cancel(order.id)
                raise HostError(self._unclaimed(order, silent), away=True)

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
                began = time.monotonic()  # an order that is published meanwhile may be missing in this look
                self._board = self._exchange.board(f"{self._context.name}/")
                self._looked = began
            return self._board

    def board(self) -> Board:
        """Return the orders of the milestone as the remote has them now."""
        return self._look(fresh=True)

    def cancel(self, order: str) -> None:
        """Put a tombstone on an order; the worker ends its processes. A remote that is away changes nothing."""
        with suppress(ForgeUnavailableError, ForgeRefusedError):
            self._exchange.cancel(order)

    def withdraw(self, issue: str, attempt: int) -> None:
        """Cancel the orders of an attempt that is not wanted any more."""
        start = f"{self._context.name}/{issue}/{attempt}"
        with suppress(ForgeUnavailableError, ForgeRefusedError):
            for order in self._look(fresh=True).orders:
                if order == start or order.startswith((f"{start}/", f"{start}.")):
                    self._exchange.cancel(order)

    def tidy(self, needed: Callable[[str], bool]) -> None:
        """Remove the refs of orders of this milestone that nobody needs any more; the run ends."""
        if self._starter is not None:
            self._starter.close()
        with suppress(ForgeUnavailableError, ForgeRefusedError, TakenOverError):
            board = self._look(fresh=True)
            over = [order for order in {*board.orders, *board.leases, *board.results} if not needed(order)]
            if over:
                self._exchange.remove(over)


def probed(remote: Remote, refs: Refs) -> str:
    """Return where a remote takes refs of orders, and what is there; a probe is pushed and deleted again.

    Raises:
        ForgeRefusedError: it takes them nowhere.
        ForgeUnavailableError: it cannot be reached.
    """
    tips = remote.tips(*(f"{space}/*" for space in SPACES))
    commit, reason = refs.tip("HEAD"), "this repository has no commit"
    for space in SPACES if commit is not None else ():
        name = f"{space}/probe/{uuid.uuid4().hex[:12]}"
        pushed = remote.push([Move(name, None, commit)])
        if pushed.ok:
            remote.push([Move(name, commit, None)])
            kinds = [
                name.removeprefix(f"{space}/").partition("/")[0]
                for space in SPACES
                for name in tips
                if name.startswith(space)
            ]
            return f"{remote.name} takes orders below {space} and has {kinds.count('orders')}"
        reason = pushed.reason
    raise ForgeRefusedError(f"{remote.name} does not take work orders: {reason}")
