"""`python -m benchmarks hosts`: what a check costs on another host, and how fast workers claim orders.

The host is this machine behind `env`, or whatever `--prefix` names, such as ``ssh box``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from executor.cluster.exchange import Exchange
from executor.cluster.orders import PROTOCOL, Order
from executor.cluster.runners import ask
from executor.git.command import Identity
from executor.git.objects import Store
from executor.git.refs import Refs
from executor.git.remote import Remote
from executor.git.repository import Repository
from executor.model.outward_rules import Runner
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WHO = Identity("worker", "worker@localhost")


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks hosts", description=__doc__)
    parser.add_argument("--prefix", default="env", help="words before the worker's command")
    parser.add_argument("--worker", default=f"{sys.executable} -m executor worker")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--orders", type=int, default=60)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args(arguments)
    prefix, worker = tuple(shlex.split(options.prefix)), tuple(shlex.split(options.worker))
    print("| measure | |\n|---|---|")
    runner = Runner(name="box", prefix=prefix, worker=worker)
    first = _median(options.rounds, lambda: ask(runner, ()))
    print(f"| first answer of a host | {first * 1000:.0f} ms |")
    here, there = (_verified(options.rounds, runner if away else None) for away in (False, True))
    print(f"| `doit verify --force` of one check, here | {here:.2f} s |")
    print(f"| the same on the host | {there:.2f} s |")
    claimed, seconds, left = claims(options.orders, options.workers)
    print(f"| {options.orders} orders, {options.workers} workers: claims a second | {claimed / seconds:.0f} |")
    print(f"| orders claimed twice, refs left | {claimed - options.orders}, {left} |")
    return 0


def _median(rounds: int, act: Callable[[], object]) -> float:
    found = []
    for _ in range(rounds):
        begun = time.monotonic()
        act()
        found.append(time.monotonic() - begun)
    return statistics.median(found)


def _verified(rounds: int, runner: Runner | None) -> float:
    """Seconds of a check that does nothing, with everything around it."""
    with tempfile.TemporaryDirectory() as folder:
        repo = Repo(Path(folder) / "repo")
        if runner is not None:
            words = {"prefix": list(runner.prefix), "worker": list(runner.worker)}
            lines = [f"{key} = {json.dumps(value)}" for key, value in words.items()]
            repo.write("rules/runners.toml", "\n".join(["[runner.box]", "isolated = true", *lines, ""]))
        where = 'runner = "box"' if runner is not None else ""
        vouched = 'sabotage = "off"\nsabotage_reason = "it does nothing"'
        repo.write("rules/checks.toml", f'[check.nothing]\nrun = "true"\n{where}\n{vouched}\n')
        repo.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nchecks = ["nothing"]\n')
        repo.milestone("m1", issue("a", "echo a > a"))
        repo.doit("milestone:m1").check()
        return _median(rounds, lambda: repo.doit("verify", "m1", "--force").check())


def claims(orders: int, workers: int) -> tuple[int, float, int]:
    """Have workers claim orders on a bare remote; returns claims, seconds, and the refs that are left at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        remote = folder / "origin.git"
        subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
        stores: list[Store] = []

        def machine(word: str) -> Exchange:
            place = folder / word
            subprocess.run(["git", "init", "-q", "--bare", str(place)], check=True)
            repository = Repository(place, place, place)
            stores.append(Store(repository, place / "neutral"))
            return Exchange(Remote(repository, str(remote)), Refs(repository, _WHO), stores[-1], _WHO)

        coordinator = machine("coordinator")
        base = stores[0].commit(stores[0].files_tree({"a": b"a"}), [], "base\n", _WHO, int(time.time()))
        names = [f"m/{number}/1" for number in range(orders)]
        coordinator.publish([Order(item, base, ("true",), protocol=PROTOCOL) for item in names])
        claimed: list[str] = []

        def work(word: str, exchange: Exchange) -> None:
            board = exchange.board()
            while free := [item for item in board.orders if item not in board.leases]:
                for item in sorted(free, key=lambda item: hash((word, item)))[:8]:
                    order, _, space = board.orders[item]
                    if exchange.claim(order, None, word, "box", space) is not None:
                        claimed.append(item)
                board = exchange.board()

        threads = [
            threading.Thread(target=work, args=(f"w{number}", machine(f"w{number}"))) for number in range(workers)
        ]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - begun
        coordinator.remove(names)
        listed = subprocess.run(["git", "-C", str(remote), "for-each-ref"], check=True, capture_output=True, text=True)
        for store in stores:
            store.close()
        return len(claimed), seconds, len(listed.stdout.splitlines())
