"""The orders of a run on the refs of a remote: published, adopted after a crash, waited for, cancelled and removed.

A check needs more than an agent: its verdict counts for the conditions of a host, so these have to be known before. The
coordinator asks, every worker with the right labels answers, and only a worker with the chosen conditions claims the
order.
"""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.cluster.exchange import QUESTIONS, SPACES, Arrived, Board, Exchange
from executor.cluster.orders import (
    Order,
    ProtocolError,
    Result,
    State,
    Watch,
    chosen,
    ending_of,
    is_check_id,
    same_work,
)
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
    from executor.cluster.orders import Lease
    from executor.git.remote import Remote
    from executor.model.outward_rules import Runner
    from executor.process.runner import Ended
    from executor.sandbox.policy import RunContext

__all__ = [
    "Desk",
    "HostError",
    "answers_of",
    "probed",
]

_WHO = Identity("make-for-milestones", "orders@localhost")
_KEY = 20  # hex digits, 80 bits: two ids are never the same
_SOON_S, _NOTE_S = 0.5, 10.0
"""Seconds without an answer until a message names what the run waits for."""
_SENDS = 3  # times that a withdrawn check is sent again; a choice
_MOST_FENCES = 5  # workers that a check may lose before it runs here; a choice
_STRAY_BEATS = 3
"""Beats without a claim after which checks of killed runs are taken away from the workers."""


class HostError(ExecutorError):
    """The host fails or lacks something, which the message names. The issue is not at fault.

    Args:
        text: the reason.
        away: it may be better later; otherwise a person has to change something.
    """

    def __init__(self, text: str, *, away: bool = False) -> None:
        super().__init__(text)
        self.away = away


class OrphanError(HostError):
    """No host has the conditions of a check any more."""


class WithdrawnError(HostError):
    """Somebody else withdrew the order: a run of another clone that ended."""


class Desk:
    """The orders of one run of a milestone on the refs of a remote. Its threads share one reading of the remote.

    Args:
        context: the run.
        runner: a runner of a kind whose orders workers claim.
        remote: the remote.
    """

    def __init__(self, context: RunContext, runner: Runner, remote: Remote) -> None:
        self._context, self._runner = context, runner
        refs = Refs(context.project.repository, _WHO)
        self._exchange = Exchange(remote, refs, context.store, _WHO)
        self._refs, self._remote = refs, remote
        self._lock = threading.Lock()
        self._board, self._looked = Board(), float("-inf")
        self._watch = Watch()
        self._starter: DaskStarter | None = None
        self._reported = ""
        self._judged: set[str] = set()
        self._strays_gone = False
        if runner.kind == "dask":
            from executor.cluster.dask_tasks import DaskStarter

            self._starter = DaskStarter(runner, remote.url)

    def done(self, order: Order, seen: Callable[[Lease], None]) -> Arrived:
        """Publish an order, or adopt the same order of an earlier run, and wait for its result.

        Args:
            order: the order.
            seen: called with each lease of a worker, and with each beat of it.

        Raises:
            HostError: nobody claims it, or it was withdrawn by somebody else.
            InterruptedRunError: the run is being stopped; the order is cancelled.
            ForgeRefusedError: the remote does not take orders.
        """
        self._sent(order)
        try:
            return self._awaited(order, seen)
        finally:
            if self._starter is not None:
                self._starter.drop(order.id)

    def judged(self, order: Order) -> tuple[Arrived, Ended]:
        """Run a check on a worker, then remove the refs of its order. An order that another run withdrew is sent again.

        Raises:
            HostError: no worker claims it, or its host fails.
            OrphanError: no host has its conditions any more.
            InterruptedRunError: the run is being stopped; the order is cancelled.
            ForgeRefusedError: the remote does not take orders.
        """
        arrived = self._sent_again(order)
        result = arrived.result
        ended = ending_of(result)
        if ended is None:
            raise HostError(result.problem or f"{result.host} stopped {order.id}")
        if result.conditions != order.conditions:
            raise OrphanError(f"the tools of {result.host} were replaced while {order.profile} ran")
        return arrived, ended

    def _sent_again(self, order: Order) -> Arrived:
        self._judged.add(order.id)
        for _ in range(_SENDS):
            with suppress(WithdrawnError):
                try:
                    return self.done(order, lambda _: None)
                finally:
                    self.drop(order.id)
        raise WithdrawnError(f"another run withdrew the order {order.id} {_SENDS} times", away=True)

    def _awaited(self, order: Order, seen: Callable[[Lease], None]) -> Arrived:
        last, since, away, asked = "", time.monotonic(), False, 0.0
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
                    self._waits(order.id, error)
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
                raise WithdrawnError(f"another run withdrew the order {order.id} from the remote", away=True)
            if lease is not None and lease[1] != last and lease[0].state is State.HELD:
                last, asked = lease[1], 0.0
                seen(lease[0])
            now = time.monotonic()
            silent = self._watch.silence(order.id, lease[1], now) if lease is not None else now - since
            self._start_worker(order, lease[0] if lease is not None else None, silent)
            asked = self._still_hopes(order, lease[0].fence if lease is not None else 0, silent, asked)

    def _still_hopes(self, order: Order, fence: int, silent: float, asked: float) -> float:
        """Withdraw an order that no worker will finish; returns the silence at the last query of its conditions.

        A check that waits may do so for the places of checks that a killed run has left. Those go, once for each run.
        The order goes if nobody claims it for too long, no host has its conditions, or it ends whatever worker begins.
        """
        if order.asks and silent > _STRAY_BEATS * self._runner.beat_s and not self._strays_gone:
            self._strays_gone = True
            self._exchange.remove(
                name for name in self._look(fresh=True).orders if is_check_id(name) and name not in self._judged
            )
        if order.asks and fence > _MOST_FENCES:
            self.cancel(order.id)
            raise HostError(f"{fence} workers started {order.profile} and none finished it")
        if order.asks and silent > asked + self._runner.patience_s:
            asked = silent
            if self._is_orphan(order):
                self.cancel(order.id)
                raise OrphanError(f"no host of {self._runner.name} still has the conditions of {order.id}")
        if silent > self._runner.claim_s:
            self.cancel(order.id)
            raise HostError(self._unclaimed(order, silent), away=True)
        return asked

    def _arrived(self, result: Result, commit: str) -> Arrived:
        try:
            return Arrived(result, commit, self._exchange.files(f"{commit}^2", ""))
        except ProtocolError as error:
            raise HostError(f"the result of {result.order} cannot be used: {error}") from error

    def _start_worker(self, order: Order, lease: Lease | None, silent: float) -> None:
        """Start a worker for an order without a live one. The lease decides that, never Dask."""
        if self._starter is None:
            return
        if lease is None or lease.state is State.FREE or silent > self._runner.patience_s:
            self._starter.want(order.id, order)
        else:
            self._starter.drop(order.id)
        if self._starter.trouble and self._starter.trouble != self._reported:
            self._reported = self._starter.trouble
            self._context.tell("warning", self._context.name, f"runner {self._runner.name}: {self._reported}")

    def _unclaimed(self, order: Order, silent: float) -> str:
        why = f"start one: {self._advice()}"
        if self._starter is not None:
            why = self._starter.trouble or f"{self._runner.address} starts none, for whatever reason"
        return f"no worker has claimed {order.id} within {silent:.0f} s: {why}"

    def _sent(self, order: Order) -> None:
        """Publish an order, as soon as the remote can be reached."""
        away = False
        while True:
            try:
                self._send(order)
            except ForgeUnavailableError as error:
                if not away:
                    self._waits(order.id, error)
                away = True
            else:
                return
            if self._context.stopping.wait(self._runner.poll_s):
                self.cancel(order.id)  # a push whose answer was lost may have published it
                raise InterruptedRunError(f"{order.id} was interrupted", 130)

    def _waits(self, order: str, error: ExecutorError) -> None:
        self._context.tell("warning", self._context.name, f"{order} waits for {self._runner.name}: {error}")

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
        self._start_worker(order, None, 0.0)

    def _look(self, *, fresh: bool = False) -> Board:
        with self._lock:
            if fresh or time.monotonic() - self._looked > self._runner.poll_s / 2:
                began = time.monotonic()  # an order that is published meanwhile may be missing in this look
                self._board = self._exchange.board(f"{self._context.name}/")
                self._looked = began
            return self._board

    def asked(self, argv: tuple[str, ...], *, python: bool) -> Mapping[str, str]:
        """Ask the workers for their verdict conditions of a command, and choose one set.

        Raises:
            HostError: no host answers.
            InterruptedRunError: the run is being stopped.
        """
        since, noted = time.monotonic(), False

        def waits(found: int) -> bool:
            nonlocal noted
            silent = time.monotonic() - since
            if silent > _NOTE_S and not noted:
                noted = True
                text = f"no worker of {self._runner.name} has answered yet; start one: {self._advice()}"
                self._context.tell("wait", self._context.name, text)
            soon = min(self._runner.poll_s, _SOON_S)  # other hosts answer a moment after the first one
            if self._context.stopping.wait(self._runner.poll_s if noted or found else soon):
                raise InterruptedRunError(f"the question to {self._runner.name} was interrupted", 130)
            return silent < self._runner.claim_s

        found = self._answers(argv, python=python, waits=waits)
        if not found:
            silent = time.monotonic() - since
            raise HostError(f"no worker has answered within {silent:.0f} s; start one: {self._advice()}", away=True)
        if self._starter is not None:
            self._starter.hosts[argv] = {answer.worker: answer.conditions for answer in found}
        return chosen(found)

    def _answers(self, argv: tuple[str, ...], *, python: bool, waits: Callable[[int], bool]) -> list[Result]:
        exchange = Exchange(self._remote, self._refs, self._context.store, _WHO)
        return answers_of(exchange, self._runner, self._context.name, argv, python=python, waits=waits)

    def _is_orphan(self, order: Order) -> bool:
        """Return whether no host has the conditions of a check any more: its tools were replaced, or it is gone."""
        until = time.monotonic() + self._runner.patience_s

        def waits(_: int) -> bool:
            return not self._context.stopping.wait(self._runner.poll_s) and time.monotonic() < until

        try:
            found = self._answers(order.asks, python="python" in order.conditions, waits=waits)
        except (ProtocolError, ForgeRefusedError, ForgeUnavailableError):
            return False
        return all(item.conditions != order.conditions for item in found)

    def _advice(self) -> str:
        if self._runner.kind == "dask":
            return f"a worker of Dask at {self._runner.address} with the resources of checks"
        labels = f" --labels {','.join(self._runner.needs)}" if self._runner.needs else ""
        return f"python -m executor worker --remote {self._exchange.name}{labels}"

    def drop(self, order: str) -> None:
        """Remove the refs of an order whose result is used. A remote that is away keeps them until the run ends."""
        with suppress(ForgeUnavailableError, ForgeRefusedError):
            self._exchange.remove([order])

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
            over += self._exchange.board(f"{self._context.name}/ask/", QUESTIONS).orders  # of killed runs
            if over:
                self._exchange.remove(over)


def answers_of(
    exchange: Exchange,
    runner: Runner,
    owner: str,
    argv: tuple[str, ...],
    *,
    python: bool,
    waits: Callable[[int], bool],
) -> list[Result]:
    """Ask the workers of a runner for their verdict conditions of a command, then remove the question.

    Args:
        exchange: the refs.
        runner: the runner; with Dask, its scheduler is asked.
        owner: the milestone that needs the answers.
        argv: the command.
        python: Python's packages count.
        waits: waits for a moment, given the number of answers; False if it is enough. One wait follows the first one.

    Raises:
        ProtocolError: with Dask, no host answers; the message says why.
        ForgeRefusedError: the remote does not take questions.
    """
    while runner.kind == "dask":
        from executor.cluster.dask_tasks import conditions_on

        try:
            return conditions_on(runner, argv, python=python)
        except ProtocolError:
            if not waits(0):
                raise
    names, number = {"python": ""} if python else {}, uuid.uuid4().hex[:_KEY]
    question = Order(
        f"{owner}/ask/{number}", "", (), secrets=runner.env, labels=runner.needs, asks=argv, conditions=names
    )
    return _answers(exchange, question, waits)


def _answers(exchange: Exchange, question: Order, waits: Callable[[int], bool]) -> list[Result]:
    found: list[Result] = []
    try:
        while True:
            seen = bool(found)
            with suppress(ForgeUnavailableError):
                board = exchange.board(question.id, QUESTIONS)
                found = [item for item, _ in board.results.get(question.id, ())]
                if not found and question.id not in board.orders:  # or the end of another run has removed it
                    exchange.publish([question], "asks")
            if seen or not waits(len(found)):
                break
    finally:
        with suppress(ForgeUnavailableError, ForgeRefusedError):
            exchange.remove([question.id])
    return found


def probed(remote: Remote, refs: Refs) -> str:
    """Return where a remote accepts refs of orders and how many it has; pushes a probe and deletes it.

    Raises:
        ForgeRefusedError: it accepts none.
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
