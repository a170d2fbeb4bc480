"""`python -m benchmarks hosts`: what checks and agents cost on other hosts, and how fast workers claim orders.

The host is this machine behind `env`, or whatever `--prefix` names, such as ``ssh box``. A scheduler and a worker of
Dask are started here, without TLS.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from executor.cluster.exchange import Exchange
from executor.cluster.orders import PROTOCOL, Order
from executor.cluster.runners import ask
from executor.git.command import Identity, Repository
from executor.git.objects import Store
from executor.git.refs import Refs
from executor.git.remote import Remote
from executor.model.outward_rules import Runner
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_KINDS = ("local", "prefix", "git", "dask")
_START_S = 8.0
"""Seconds until a daemon is up."""
_WHO = Identity("worker", "worker@localhost")


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks hosts", description=__doc__)
    parser.add_argument("--prefix", default="env", help="words before the worker's command")
    parser.add_argument("--worker", default=f"{sys.executable} -m executor worker")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--issues", type=int, default=8, help="issues of each kind of runner")
    parser.add_argument("--checks-only", action="store_true", help="without agents")
    parser.add_argument("--orders", type=int, default=60)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args(arguments)
    prefix, worker = tuple(shlex.split(options.prefix)), tuple(shlex.split(options.worker))
    print("| measure | |\n|---|---|")
    runner = Runner(name="box", prefix=prefix, worker=worker)
    first = _median(options.rounds, lambda: ask(runner, ()))
    print(f"| first answer of a host | {first * 1000:.0f} ms |")
    for kind in ("local", "prefix") if options.checks_only else _KINDS:
        forced, again = verified(kind, options.rounds, runner)
        print(f"| a check that does nothing, {kind}: verify --force, verify | {forced:.2f} s, {again:.2f} s |")
    for kind in () if options.checks_only else _KINDS:
        first, each, memory = attempts(kind, options.issues, runner)
        print(f"| an agent that does nothing, {kind}: the first, each further one | {first:.2f} s, {each:.2f} s |")
        for name, size in memory.items():
            print(f"| memory, {kind}: {name} | {size:.0f} MiB |")
    print(f"| size of the extra `cluster` on the disk | {size_of('distributed'):.0f} MiB |")
    for word, seconds in unused(options.rounds).items():
        print(f"| {word} | {seconds * 1000:.0f} ms |")
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


def verified(kind: str, rounds: int, runner: Runner) -> tuple[float, float]:
    """Run a check that does nothing.

    Returns:
        median seconds of `doit verify --force`, and of `doit verify`, which uses the verdict again.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        repo, _ = _place(kind, Path(name), stack, runner)
        where = "" if kind == "local" else 'runner = "far"'
        vouched = 'sabotage = "off"\nsabotage_reason = "it does nothing"'
        repo.write("rules/checks.toml", f'[check.nothing]\nrun = "true"\n{where}\n{vouched}\n')
        repo.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nchecks = ["nothing"]\n')
        repo.milestone("m1", issue("a", "echo a > a"))
        repo.doit("milestone:m1").check()
        forced = _median(rounds, lambda: repo.doit("verify", "m1", "--force").check())
        return forced, _median(rounds, lambda: repo.doit("verify", "m1").check())


def _place(kind: str, folder: Path, stack: ExitStack, runner: Runner) -> tuple[Repo, dict[str, int]]:
    """Return a repository with the runner `far` of a kind, and the daemons that it needs until the end of the block."""
    repo, remote = Repo(folder / "repo"), folder / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
    repo.git("remote", "add", "origin", str(remote))
    daemons: dict[str, int] = {}
    keys: dict[str, object] = {"kind": kind, "isolated": True}
    match kind:
        case "prefix":
            keys |= {"prefix": list(runner.prefix), "worker": list(runner.worker)}
        case "git":
            keys["poll_s"] = 0.2
            words = ["worker", "--remote", str(remote), "--poll", "0.2", "--state", str(folder / "state")]
            daemons["worker"] = _started(stack, [sys.executable, "-m", "executor", *words])
        case "dask":
            address = f"tcp://127.0.0.1:{_free_port()}"
            keys |= {"poll_s": 0.2, "address": address, "worker": list(runner.worker)}
            words = ["-m", "distributed.cli.dask_scheduler", "--host=127.0.0.1", f"--port={address[16:]}"]
            daemons["scheduler"] = _started(stack, [sys.executable, *words, "--no-dashboard"])
            words = ["-m", "distributed.cli.dask_worker", address, "--resources=agent=2 check=2", "--nthreads=4"]
            daemons["worker and its nanny"] = _started(stack, [sys.executable, *words, "--no-dashboard"])
    if kind != "local":
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        repo.write("rules/runners.toml", "\n".join(["[runner.far]", *lines, ""]))
    return repo, daemons


def attempts(kind: str, issues: int, runner: Runner) -> tuple[float, float, dict[str, float]]:
    """Have agents do nothing, one after another.

    Returns:
        seconds of a milestone of one issue, seconds of each further issue, and the resident memory of the processes
        beside the agents in MiB, at the end.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        repo, daemons = _place(kind, Path(name), stack, runner)
        where = "" if kind == "local" else 'runner = "far"'
        repo.write("rules/routes.toml", f'[route.default]\nagent = ["script"]\n{where}\n')
        repo.milestone("m1", issue("a", "echo a > a"))
        repo.milestone("m2", "".join(issue(f"b{number}", f"echo {number} > {number}") for number in range(issues)))
        first, all_of_them = (_median(1, partial(_landed, repo, word)) for word in ("m1", "m2"))
        memory = {word: _resident(process) for word, process in daemons.items()}
        return first, (all_of_them - first) / (issues - 1), memory


def _landed(repo: Repo, milestone: str) -> None:
    repo.doit(f"milestone:{milestone}", timeout=600).check()


def _started(stack: ExitStack, argv: Sequence[str]) -> int:
    """Have a daemon until the end of the block; returns its process after its start."""
    daemon = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    stack.callback(daemon.wait)
    stack.callback(daemon.terminate)
    time.sleep(_START_S)
    return daemon.pid


def _resident(process: int) -> float:
    """Resident memory of a process and its descendants in MiB; pages that they share count in each."""
    threads = Path(f"/proc/{process}/task").iterdir()
    children = [child for thread in threads for child in (thread / "children").read_text(encoding="ascii").split()]
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(_resident(int(child)) for child in children)


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def size_of(name: str) -> float:
    """Return the size on the disk, in MiB, of a package with those that it needs and this one does not."""
    own, asked = _needed("make-for-milestones"), _needed(name)
    files = [file for item in asked - own for file in distribution(item).files or ()]
    places = [Path(str(file.locate())) for file in files]
    return sum(place.stat().st_size for place in places if place.is_file()) / 2**20


def _needed(name: str, found: set[str] | None = None) -> set[str]:
    found = set() if found is None else found
    try:
        requires = distribution(name).requires or []
    except PackageNotFoundError:
        return found
    found.add(name)
    for line in requires:
        word = re.match(r"[A-Za-z0-9._-]+", line)
        if word and "extra ==" not in line and (item := re.sub(r"[._-]+", "-", word[0]).lower()) not in found:
            _needed(item, found)
    return found


def unused(rounds: int) -> dict[str, float]:
    """Seconds of commands that do nothing, with and without a declared runner that nothing uses."""
    with tempfile.TemporaryDirectory() as folder:
        repo = Repo(Path(folder) / "repo")
        repo.milestone("m1", issue("a", "echo a > a"))
        repo.doit("milestone:m1").check()
        found = {}
        for word in ("no runner is declared", "a Dask runner is declared"):
            for shown in ("list", "milestone:m1"):
                command = partial(_quiet, repo, shown)
                found[f"`doit {shown}` with nothing to do, {word}"] = _median(rounds, command)
            repo.write("rules/runners.toml", '[runner.farm]\nkind = "dask"\naddress = "tcp://127.0.0.1:1"\n')
        return found


def _quiet(repo: Repo, word: str) -> None:
    subprocess.run([sys.executable, "-m", "doit", word], cwd=repo.path, check=True, capture_output=True)


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
