"""Work orders, leases and results on the refs of a git remote: the only thing that coordinator and workers share.

All moves are pushes by lease, so the remote's update of a ref decides who has claimed an order. A lost race is an
answer, not an error. Refs that are no longer needed are deleted; the remote's own gc removes their objects.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from executor.cluster.orders import (
    Lease,
    Order,
    ProtocolError,
    Result,
    State,
    beaten,
    counts,
    decoded,
    encoded,
    next_lease,
)
from executor.errors import ExecutorError, ForgeRefusedError, GitError
from executor.git.refs import Move

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from executor.git.command import Identity
    from executor.git.objects import Store
    from executor.git.refs import Refs
    from executor.git.remote import Remote

__all__ = [
    "LOG_FILE",
    "OUT_FOLDER",
    "QUESTIONS",
    "SPACES",
    "Arrived",
    "Board",
    "Exchange",
    "Held",
    "ResultRefusedError",
    "files_in",
    "lease_commit",
    "order_commit",
    "place_of",
    "result_commit",
]

SPACES = ("refs/work", "refs/heads/_work")
"""The name space of the refs, and the one for a remote that takes nothing but branches."""
_KINDS = ("orders", "leases", "results")
QUESTIONS = ("asks", "answers")
_OTHERS = frozenset(("runs", *QUESTIONS))
"""Kinds of refs that come and go beside the orders."""
LOG_FILE, OUT_FOLDER = "agent.log", "out"
"""Names of what comes back beside the tree."""
_BATCH = 200  # refs in one push or fetch; a choice
_MOST_FILES = 10_000  # files beside a result; a choice that bounds the memory
_RACES = 5  # tries to move a ref that others move, too; a choice
_PAUSE_S = 0.05
"""Seconds before the second try; doubled with each further one."""


class ResultRefusedError(ForgeRefusedError):
    """The remote is reached and takes leases, but not this result, for example because it is too large for it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that this process holds, with the commit that its ref has."""

    lease: Lease
    commit: str
    space: str


@dataclass(frozen=True, slots=True)
class Board:
    """The refs of the remote as they are now, by the id of the order.

    Attributes:
        orders: each order, its commit and its name space.
        leases: each lease and its commit.
        results: the results of each order with their commits, lowest fence first.
        strange: refs that cannot be read, with the reason.
    """

    orders: dict[str, tuple[Order, str, str]] = field(default_factory=dict)
    leases: dict[str, tuple[Lease, str]] = field(default_factory=dict)
    results: dict[str, list[tuple[Result, str]]] = field(default_factory=dict)
    strange: dict[str, str] = field(default_factory=dict)

    def counting(self, order: str) -> tuple[Result, str] | None:
        """Return the result of an order that may land, with its commit; None as long as there is none."""
        lease = self.leases[order][0] if order in self.leases else None
        return next((item for item in self.results.get(order, ()) if counts(item[0], lease)), None)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A result of an agent or a check on another host.

    Attributes:
        result: the result.
        commit: its commit; its tree is the one that the agent left.
        files: log and protocol files, by name.
    """

    result: Result
    commit: str
    files: Mapping[str, bytes]

    def write(self, log: Path, out: Path) -> None:
        """Write the log, if it came along, and the files of the command into a folder."""
        for name, data in self.files.items():
            if name == LOG_FILE:
                log.write_bytes(data)
            elif name.startswith(f"{OUT_FOLDER}/"):
                place = out / name.removeprefix(f"{OUT_FOLDER}/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)


class Exchange:
    """Reads and moves the refs of one remote.

    Args:
        remote: the remote.
        refs: refs of a repository on this machine, which gets the objects.
        objects: its objects.
        who: the committer.
    """

    def __init__(self, remote: Remote, refs: Refs, objects: Store, who: Identity) -> None:
        self._remote, self._refs, self._objects, self._who = remote, refs, objects, who
        self._space = SPACES[0]
        self._messages: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Name or address of the remote."""
        return self._remote.name

    def publish(self, orders: Sequence[Order], kind: str = "orders") -> None:
        """Push orders in one push. With the kind ``asks`` they are questions, which every worker answers.

        Raises:
            ForgeRefusedError: the remote takes neither name space, or has an order of this name.
            ForgeUnavailableError: the remote cannot be reached.
        """
        commits = [(order, self._order_commit(order)) for order in orders]
        reason = ""
        for space in dict.fromkeys((self._space, *SPACES)):
            done = self._remote.push([Move(f"{space}/{kind}/{order.id}", None, commit) for order, commit in commits])
            if done.ok:
                self._space = space
                return
            reason = done.reason
            if done.moved:
                break
        raise ForgeRefusedError(f"{self._remote.name} does not take work orders: {reason}")

    def board(self, below: str = "", kinds: Sequence[str] = _KINDS) -> Board:
        """Return the contents of the remote; only commits that are missing here are fetched.

        Args:
            below: beginning of the ids of the orders that count, such as ``m1/``; empty: all.
            kinds: kinds of refs that count; with `QUESTIONS`, the orders are questions and the results are answers.
        """
        starts = [f"{kind}/{below}" for kind in kinds] if below or kinds is not _KINDS else [""]
        tips = self._remote.tips(*(f"{space}/{start}*" for space in SPACES for start in starts))
        tips = {name: commit for name, commit in tips.items() if place_of(name)[0] not in _OTHERS.difference(kinds)}
        here = set(tips.values())
        self._messages = {commit: text for commit, text in self._messages.items() if commit in here}
        self._fetch(tips)
        found = Board()
        for name in sorted(tips):
            space = next(space for space in SPACES if name.startswith(f"{space}/"))
            kind, _, order = name.removeprefix(f"{space}/").partition("/")
            try:
                self._read(found, kind, order, tips[name], space)
            except ProtocolError as error:
                found.strange[name] = str(error)
        for results in found.results.values():
            results.sort(key=lambda item: item[0].fence)
        return found

    def _read(self, found: Board, kind: str, order: str, commit: str, space: str) -> None:
        data = self._message(commit).partition("\n\n")[2].encode()
        if kind in {"orders", "asks"}:
            asked = decoded(Order, data)
            if asked.id != order:
                raise ProtocolError("it has the name of another order")
            brief = (self._objects.blob(commit, "brief.md") or b"").decode("utf-8", "surrogateescape")
            found.orders[order] = (replace(asked, brief=brief), commit, space)
        elif kind == "leases":
            found.leases[order] = (decoded(Lease, data), commit)
        elif kind in {"results", "answers"}:
            result = decoded(Result, data)
            found.results.setdefault(order.rpartition("/")[0], []).append((result, commit))
        else:
            raise ProtocolError("it is not a ref of work orders")

    def files(self, commit: str, folder: str) -> dict[str, bytes]:
        """Return the files below a folder of an order, or of the commit beside a result, by their names in it."""
        return files_in(self._objects, commit, folder)

    def claim(self, order: Order, before: tuple[Lease, str] | None, worker: str, host: str, space: str) -> Held | None:
        """Claim an order, or take it over from a lease; None if another worker was faster or the order is gone.

        An order may be removed between the look at it and the claim, and its lease with it, so the claim looks again.
        """
        lease = next_lease(order.id, before[0] if before is not None else None, worker, host)
        held = self._moved(lease, before[1] if before is not None else None, space)
        name = f"{space}/orders/{order.id}"
        if held is not None and name not in self._remote.tips(name):
            self._remote.push([Move(self._lease(held), held.commit, None)])
            return None
        return held

    def beat(self, held: Held) -> Held | None:
        """Renew a lease; None if it was taken over or cancelled, and the work has to stop.

        Raises:
            ForgeUnavailableError: the remote cannot be reached; the lease may still be held.
        """
        return self._moved(beaten(held.lease), held.commit, held.space)

    def give_back(self, held: Held) -> None:
        """Let other workers claim the order at once: this worker ends before its work does."""
        self._moved(replace(held.lease, state=State.FREE, beat=held.lease.beat + 1), held.commit, held.space)

    def finish(self, held: Held, result: Result, commit: str) -> bool:
        """Push a result; False if it is late: it is kept and does not land.

        Args:
            held: the lease.
            result: the result.
            commit: its commit, see `result_commit`.
        """
        name = f"{held.space}/results/{result.order}/{result.fence}"
        reason = ""
        for turn in range(_RACES):
            lease = replace(held.lease, state=State.DONE, beat=held.lease.beat + 1)
            done = lease_commit(self._objects, self._who, lease, self._lease(held), held.commit)
            pushed = self._remote.push([Move(name, None, commit), Move(self._lease(held), held.commit, done)])
            if pushed.ok:
                return True
            reason, there = pushed.reason, self._remote.tips(self._lease(held), name)
            now = self._own(held.lease, there.get(self._lease(held)))
            if there.get(name) == commit:
                return now is not None and now.state is State.DONE
            if there.get(self._lease(held)) != held.commit:
                if now is not None and now.state is State.HELD:
                    held = Held(now, there[self._lease(held)], held.space)
                    continue
                if self._lease(held) in there:  # else the order is gone, and nobody would remove the result
                    self._remote.push([Move(name, None, commit)])
                return False
            time.sleep(_PAUSE_S * 2**turn)
        raise ResultRefusedError(f"{self._remote.name} does not take the result of {result.order}: {reason}")

    def answer(self, question: str, space: str, result: Result) -> None:
        """Push what a worker knows about its host; the answer goes again if its question has gone meanwhile."""
        commit = _written(self._objects, "Answer", result, self._objects.files_tree({}), [], self._who)
        name, asked = f"{space}/answers/{question}/{result.worker}", f"{space}/asks/{question}"
        self._remote.push([Move(name, None, commit)])
        if asked not in self._remote.tips(asked):
            self._remote.push([Move(name, commit, None)])

    def cancel(self, order: str) -> bool:
        """Put a tombstone in the place of an order's lease; False if it is done or was never published."""
        for _ in range(_RACES):
            board = self.board()
            if order not in board.orders:
                return False
            space = board.orders[order][2]
            before = board.leases.get(order)
            if before is not None and before[0].state is not State.HELD:
                return before[0].state is State.CANCELLED
            lease = before[0] if before is not None else next_lease(order, None, "coordinator", "")
            dead = replace(lease, state=State.CANCELLED, beat=lease.beat + 1)
            if self._moved(dead, before[1] if before is not None else None, space) is not None:
                return True
        return False

    def remove(self, orders: Iterable[str]) -> None:
        """Delete all refs of these orders: the orders first, because an order without a lease would be claimed."""
        wanted = set(orders)
        tips = self._remote.tips(*(f"{space}/*" for space in SPACES))
        moves: list[Move] = []
        last: list[Move] = []
        for name, commit in tips.items():
            space = next(space for space in SPACES if name.startswith(f"{space}/"))
            kind, _, order = name.removeprefix(f"{space}/").partition("/")
            if (order.rpartition("/")[0] if kind in {"results", "answers"} else order) in wanted:
                (moves if kind in {"orders", "asks"} else last).append(Move(name, commit, None))
        for batch in (moves, last):
            for place in range(0, len(batch), _BATCH):
                self._remote.push(batch[place : place + _BATCH], atomic=False)

    def _moved(self, lease: Lease, before: str | None, space: str) -> Held | None:
        reason = ""
        for turn in range(_RACES):
            commit = lease_commit(self._objects, self._who, lease, f"{space}/leases/{lease.order}", before)
            held = Held(lease, commit, space)
            done = self._remote.push([Move(self._lease(held), before, commit)])
            if done.ok:
                return held
            # a refusal is also what a race looks like while another push still has the lock: the ref has to say
            there = self._remote.tips(self._lease(held)).get(self._lease(held))
            if there == commit:
                return held
            if there != before:
                now = self._own(lease, there)
                if there is None or now is None or now.state is not State.HELD:
                    return None
                if lease.state is State.HELD:
                    return Held(now, there, space)
                before = there
            reason = done.reason
            time.sleep(_PAUSE_S * 2**turn)
        raise ForgeRefusedError(f"{self._remote.name} does not take the lease of {lease.order}: {reason}")

    def _own(self, lease: Lease, there: str | None) -> Lease | None:
        """Return the lease on the remote if it belongs to the same claim; None otherwise.

        A push may arrive although its answer is lost, and a beat may arrive after the work ends. Such a lease was
        written here, so its commit is here.
        """
        if there is None or not self._refs.has(there):
            return None
        try:
            found = decoded(Lease, self._message(there).partition("\n\n")[2].encode())
        except ProtocolError:
            return None
        same = (found.order, found.fence, found.worker) == (lease.order, lease.fence, lease.worker)
        return found if same else None

    @staticmethod
    def _lease(held: Held) -> str:
        return f"{held.space}/leases/{held.lease.order}"

    def _order_commit(self, order: Order) -> str:
        return order_commit(self._objects, order, self._who)

    def _fetch(self, tips: dict[str, str]) -> None:
        new = [name for name, commit in tips.items() if commit not in self._messages]
        for place in range(0, len(new), _BATCH):
            names = new[place : place + _BATCH]
            try:
                self._remote.fetch(*names)
            except ExecutorError:
                for name in names:  # one of them was removed meanwhile
                    with suppress(ExecutorError):
                        self._remote.fetch(name)

    def _message(self, commit: str) -> str:
        if commit not in self._messages:
            try:
                self._messages[commit] = self._refs.message(commit)
            except ExecutorError as error:
                raise ProtocolError(f"its commit is not here: {error}") from error
        return self._messages[commit]


def order_commit(objects: Store, order: Order, who: Identity) -> str:
    """Write the commit of an order: its parent is the base, its tree has the brief and the inputs."""
    inputs = {f"in/{name}": data for name, data in order.inputs.items()}
    tree = objects.files_tree({"brief.md": order.brief.encode("utf-8", "surrogateescape"), **inputs})
    return _written(objects, "Order", order, tree, [order.base] if order.base else [], who)


def result_commit(objects: Store, result: Result, order: str, files: Mapping[str, bytes], who: Identity) -> str:
    """Write the commit of a result: its parents are the order, and a commit with the files that come with it.

    Args:
        objects: the object store.
        result: the result; its tree is that of the commit.
        order: commit of the order.
        files: log and protocol files, which are not in the tree that may land.
        who: the committer.
    """
    beside = objects.commit(objects.files_tree(files), [], "Files\n", who, int(time.time()))
    return _written(objects, "Result", result, result.tree or objects.files_tree({}), [order, beside], who)


def files_in(objects: Store, commit: str, folder: str) -> dict[str, bytes]:
    """Return the files below a folder of a commit's tree by their relative names; an empty folder is the root.

    Whoever may push writes such trees, so a name that leads out of the folder it is put into refuses them all.

    Raises:
        ProtocolError: there is no such commit, there are too many files, or a name leads out.
    """
    start = f"{folder}/" if folder else ""
    try:
        paths = sorted(path for path in objects.paths(objects.tree_of(commit)) if path.startswith(start))
    except GitError as error:
        raise ProtocolError(f"its files are not here: {error}") from error
    names = [path.removeprefix(start) for path in paths]
    wrong = next((name for name in names if not {"", ".", ".."}.isdisjoint(name.split("/"))), "")
    if wrong or len(names) > _MOST_FILES:
        raise ProtocolError(f"it has a file with the refused name {wrong}" if wrong else f"it has {len(names)} files")
    return {name: objects.blob(commit, path) or b"" for name, path in zip(names, paths, strict=True)}


def _written(
    objects: Store, word: str, value: Order | Lease | Result, tree: str, parents: Sequence[str], who: Identity
) -> str:
    return objects.commit(tree, parents, f"{word}\n\n{encoded(value).decode()}", who, int(time.time()))


def lease_commit(objects: Store, who: Identity, lease: Lease, ref: str, before: str | None) -> str:
    """Return a commit with a lease. In the name space of branches, its parent is the previous one.

    A shared remote often takes only fast-forwards of branches (`receive.denyNonFastForwards`).
    """
    parents = [before] if before and ref.startswith("refs/heads/") else []
    text = f"Lease\n\n{encoded(lease).decode()}"
    return objects.commit(objects.files_tree({}), parents, text, who, int(time.time()))


def place_of(ref: str) -> tuple[str, str]:
    """Return the kind of a ref of work, such as ``orders``, and the order or the milestone that it is about."""
    space = next((space for space in SPACES if ref.startswith(f"{space}/")), "")
    kind, _, name = ref.removeprefix(f"{space}/").partition("/")
    return kind, name.rpartition("/")[0] if kind in {"results", "answers"} else name
