"""Work orders on a real git remote: nobody claims one twice, only the highest fence lands, no ref is left."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from executor.cluster.exchange import SPACES, Exchange, Held, result_commit
from executor.cluster.orders import Order, ProtocolError, Result
from executor.errors import ForgeUnavailableError
from executor.git.command import Identity, Repository
from executor.git.objects import Store
from executor.git.refs import Refs
from executor.git.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WHO = Identity("worker", "worker@localhost")


class Site:
    """A bare remote, and machines that know nothing but its address."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.remote = folder, folder / "origin.git"
        self._stores: list[Store] = []
        self._git("init", "-q", "--bare", str(self.remote))
        self.coordinator = self.machine("coordinator")
        tree = self._stores[0].files_tree({"a": b"a"})
        self.base = self._stores[0].commit(tree, [], "base\n", WHO, 1_700_000_000)

    def _git(self, *words: str) -> str:
        return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout

    def machine(self, name: str) -> Exchange:
        folder = self.folder / name
        self._git("init", "-q", "--bare", str(folder))
        place = Repository(folder, folder, folder)
        self._stores.append(Store(place, folder / "neutral"))
        return Exchange(Remote(place, str(self.remote)), Refs(place, WHO), self._stores[-1], WHO)

    def order(self, name: str) -> Order:
        return Order(name, self.base, ("true",), brief=f"do {name}")

    def refs(self) -> list[str]:
        return self._git("-C", str(self.remote), "for-each-ref", "--format=%(refname)").split()

    def close(self) -> None:
        for store in self._stores:
            store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def result(held: Held, log: str = "") -> Result:
    return Result(held.lease.order, held.lease.fence, held.lease.worker, held.lease.host, "exited", 0, log=log)


def done(exchange: Exchange, held: Held, log: str = "") -> bool:
    _, commit, _ = exchange.board().orders[held.lease.order]
    value = result(held, log)
    return exchange.finish(held, value, result_commit(exchange._objects, value, commit, {}, WHO))


def claimed(exchange: Exchange, order: str, worker: str, *, over: bool = False) -> Held | None:
    board = exchange.board()
    found, _, space = board.orders[order]
    return exchange.claim(found, board.leases[order] if over else None, worker, "box", space)


def test_an_order_is_claimed_beaten_finished_and_removed(site: Site) -> None:
    one, two = site.machine("one"), site.machine("two")
    site.coordinator.publish([site.order("m/1/1")])
    held = claimed(one, "m/1/1", "one")
    assert held is not None
    assert claimed(two, "m/1/1", "two") is None
    held = one.beat(held)
    assert held is not None
    board = two.board()
    assert (board.leases["m/1/1"][0].beat, board.orders["m/1/1"][0].brief) == (1, "do m/1/1")
    assert done(one, held, "all is well")
    found = site.coordinator.board().counting("m/1/1")
    assert found is not None
    assert (found[0].log, found[0].fence) == ("all is well", 1)
    site.coordinator.remove(["m/1/1"])
    assert site.refs() == []


def test_a_worker_that_wakes_late_lands_nothing_and_its_result_is_kept(site: Site) -> None:
    frozen, other = site.machine("frozen"), site.machine("other")
    site.coordinator.publish([site.order("m/1/1")])
    first = claimed(frozen, "m/1/1", "frozen")
    second = claimed(other, "m/1/1", "other", over=True)
    assert first is not None
    assert second is not None
    assert second.lease.fence == 2
    assert frozen.beat(first) is None
    assert not done(frozen, first, "late")
    assert site.coordinator.board().counting("m/1/1") is None
    assert done(other, second, "in time")
    board = site.coordinator.board()
    found = board.counting("m/1/1")
    assert found is not None
    assert found[0].log == "in time"
    assert [item.log for item, _ in board.results["m/1/1"]] == ["late", "in time"]


def test_a_push_that_arrives_although_its_answer_is_lost_costs_no_lease(site: Site) -> None:
    site.coordinator.publish([site.order("m1/a/1"), site.order("m1/b/1")])
    worker, hook = site.machine("one"), site.remote / "hooks" / "post-update"
    hook.parent.mkdir(exist_ok=True)

    def unanswered(push: Callable[[], object]) -> None:
        hook.write_text('#!/bin/sh\nrm -f "$0"\nkill -9 $PPID\n')
        hook.chmod(0o755)
        with pytest.raises(ForgeUnavailableError):
            push()
        assert not hook.exists()

    held = claimed(worker, "m1/a/1", "w1")
    assert held is not None
    unanswered(lambda: worker.beat(held))
    again = worker.beat(held)
    assert again is not None
    assert (again.lease.fence, again.lease.beat) == (1, 1)
    unanswered(lambda: worker.beat(again))
    value = result(again)
    commit = result_commit(worker._objects, value, worker.board().orders["m1/a/1"][1], {}, WHO)
    unanswered(lambda: worker.finish(again, value, commit))  # after a beat without an answer
    assert worker.finish(again, value, commit)
    assert site.coordinator.board().counting("m1/a/1") == (value, commit)
    other = claimed(worker, "m1/b/1", "w1")
    assert other is not None
    unanswered(lambda: worker.beat(other))
    worker.give_back(other)
    assert claimed(site.machine("two"), "m1/b/1", "w2", over=True) is not None
    assert worker.beat(other) is None


def test_an_order_that_was_removed_after_the_look_is_not_claimed(site: Site) -> None:
    late = site.machine("late")
    site.coordinator.publish([site.order("m/1/1")])
    order, _, space = late.board().orders["m/1/1"]
    site.coordinator.cancel("m/1/1")
    site.coordinator.remove(["m/1/1"])
    assert late.claim(order, None, "late", "box", space) is None
    assert site.refs() == []


def test_a_cancelled_order_stops_its_worker_and_cannot_be_claimed(site: Site) -> None:
    one = site.machine("one")
    site.coordinator.publish([site.order("m/1/1"), site.order("m/2/1")])
    held = claimed(one, "m/1/1", "one")
    assert held is not None
    assert site.coordinator.cancel("m/1/1")
    assert one.beat(held) is None
    assert not done(one, held)
    assert site.coordinator.board().counting("m/1/1") is None
    assert site.coordinator.cancel("m/2/1")
    assert claimed(one, "m/2/1", "one") is None
    assert not site.coordinator.cancel("m/3/1")


def test_a_remote_that_takes_only_branches_gets_branches(site: Site) -> None:
    hook = site.remote / "hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ncase "$1" in refs/heads/*) ;; *) exit 1;; esac\n')
    hook.chmod(0o755)
    site.coordinator.publish([site.order("m/1/1")])
    held = claimed(site.machine("one"), "m/1/1", "one")
    assert held is not None
    assert held.space == SPACES[1]
    site.coordinator.remove(["m/1/1"])
    assert site.refs() == []


def test_a_ref_that_is_none_of_ours_is_named_and_left_alone(site: Site) -> None:
    site.coordinator.publish([site.order("m/1/1")])
    for name in ("orders/x/1/1", "leases/m/1/1", "results/m/1/1/1", "other"):
        subprocess.run(["git", "-C", site.remote, "update-ref", f"refs/work/{name}", site.refs()[0]], check=True)
    board = site.machine("one").board()
    assert list(board.orders) == ["m/1/1"]
    assert len(board.strange) == 4
    assert (board.leases, board.results) == ({}, {})


@pytest.mark.parametrize(("orders", "workers"), [(6, 2), pytest.param(60, 4, marks=pytest.mark.long)])
def test_nobody_claims_an_order_twice(site: Site, orders: int, workers: int) -> None:
    site.coordinator.publish([site.order(f"m/{number}/1") for number in range(orders)])
    claims: list[str] = []

    def work(name: str) -> None:
        exchange = site.machine(name)
        while True:
            board = exchange.board()
            free = [item for item in board.orders if item not in board.leases]
            if not free:
                return
            for order in sorted(free, key=lambda item: hash((name, item)))[:4]:
                found, _, space = board.orders[order]
                if exchange.claim(found, None, name, "box", space) is not None:
                    claims.append(order)

    begun = time.monotonic()
    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    assert seconds > 0, f"{len(claims) / seconds:.1f} claims a second"
    assert sorted(claims) == sorted(f"m/{number}/1" for number in range(orders))
    site.coordinator.remove([f"m/{number}/1" for number in range(orders)])
    assert site.refs() == []


@pytest.mark.parametrize("name", ["..", "."])
def test_files_whose_names_lead_out_are_refused(site: Site, name: str) -> None:
    def git(*words: str, given: bytes) -> str:
        folder = str(site.folder / "coordinator")
        done = subprocess.run(["git", "-C", folder, *words], input=given, check=True, capture_output=True)
        return done.stdout.decode().strip()

    blob = git("hash-object", "-w", "--stdin", given=b"out")
    inner = git("mktree", given=f"100644 blob {blob}\tx\n".encode())
    raw = f"40000 {name}".encode() + b"\0" + bytes.fromhex(inner)
    tree = git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", given=raw)
    text = f"tree {tree}\nauthor A <a@b> 0 +0000\ncommitter A <a@b> 0 +0000\n\nfiles\n"  # newer git refuses such a tree
    commit = git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", given=text.encode())
    with pytest.raises(ProtocolError, match="name"):
        site.coordinator.files(commit, "")
