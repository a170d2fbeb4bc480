"""Twelve hostile agents, six ways to end them: nothing of them is left. And a flood of four gibibytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from executor.process.runner import Command, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).parents[2]
DEAF = "import os, signal, time\nfor n in (1, 2, 3, 13, 15): signal.signal(n, signal.SIG_IGN)\n"
AGENTS = {
    "sleeps": "import time\ntime.sleep(99)",
    "ignores-every-signal": f"{DEAF}time.sleep(99)",
    "has-a-child": f"{DEAF}os.fork()\ntime.sleep(99)",
    "has-a-session-of-its-own": f"{DEAF}os.fork() or os.setsid()\ntime.sleep(99)",
    "has-a-daemon": f"{DEAF}os.fork() or (os.setsid(), os.fork())\ntime.sleep(99)",
    "has-forty-children": f"{DEAF}[os.fork() for _ in range(5)]\ntime.sleep(99)",
    "forks-and-exits-all-the-time": f"{DEAF}\nwhile True:\n    time.sleep(0.02)\n    if os.fork(): os._exit(0)",
    "clears-its-environment": f"{DEAF}import sys\nos.fork()\n"
    "os.execve(sys.executable, [sys.executable, '-ISc', 'import time; time.sleep(99)'], {})",
    "closes-its-output": f"{DEAF}os.fork() or os.setsid()\nos.close(1), os.close(2)\ntime.sleep(99)",
    "stops-itself": f"{DEAF}os.fork() or os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(99)",
    "has-a-zombie": f"{DEAF}os.fork() or os._exit(0)\ntime.sleep(99)",
    "writes-without-end": f"{DEAF}import sys\nos.fork()\nwhile True: os.write(1, b'x' * 4096), time.sleep(0.01)",
}
SCENARIOS = ("timeout", "idle", "cap", "SIGTERM", "run-killed", "supervisor-killed")
PATIENCE = 2.0
RUN = """
import json, sys, threading, time
from pathlib import Path
from executor.process.runner import Command, Supervisor
here = Path(sys.argv[1])
agents = json.loads(sys.argv[2])
with Supervisor(here / "lock") as supervisor:
    def one(item):
        name, script = item
        supervisor.run(Command((sys.executable, "-ISc", script), here, {"MARK": sys.argv[3]}, here / f"{name}.log"))
    threads = [threading.Thread(target=one, args=(item,), daemon=True) for item in agents.items()]
    [thread.start() for thread in threads]
    time.sleep(99)
"""


def members(mark: str) -> set[int]:
    """Living processes with this mark."""
    marked = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if _state(int(entry.name)) != "Z" and f"MARK={mark}\0".encode() in (entry / "environ").read_bytes():
                marked.add(int(entry.name))
        except OSError:
            continue
    return marked


def gone(mark: str, known: set[int]) -> bool:
    """Whether every process that was seen has ended."""
    alive = {int(entry.name) for entry in Path("/proc").glob("[0-9]*")}
    zombies = {pid for pid in known & alive if _state(pid) in {"Z", "", "X"}}
    return not members(mark) and not (known & alive) - zombies


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until it holds."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - begin


def agents(names: list[str]) -> dict[str, str]:
    return {name: AGENTS[name] for name in names}


def end_them(folder: Path, scenario: str, names: list[str]) -> float:
    """Start agents, end them in this way; how long some of them lived on."""
    mark = f"{folder}-{scenario}"
    if scenario == "run-killed":
        import json

        run = subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder), json.dumps(agents(names)), mark],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        wait_until(lambda: len(members(mark)) >= len(names) - 2, 60)  # some cannot be seen
        known = members(mark)
        run.kill()
        run.wait()
        return wait_until(lambda: gone(mark, known), PATIENCE + 8)
    limits = {
        "timeout": {"timeout": 1.0},
        "idle": {"idle": 0.6, "timeout": 4.0},
        "cap": {"output_limit": 50_000, "timeout": 4.0},
    }.get(scenario, {"timeout": 60.0})
    with Supervisor(folder / "lock") as supervisor, ThreadPoolExecutor(len(names)) as pool:
        started = threading.Barrier(len(names) + 1)

        def one(name: str) -> None:
            argv = (sys.executable, "-ISc", AGENTS[name])
            started.wait()
            supervisor.run(
                Command(argv, folder, {"MARK": mark}, folder / f"{name}.log", grace=0.2, output_cap=10_000, **limits)  # type: ignore[arg-type]  # floats and ints by name
            )

        running = [pool.submit(one, name) for name in names]
        started.wait()
        seen: set[int] = set()
        if scenario in {"SIGTERM", "supervisor-killed"}:
            wait_until(lambda: len(members(mark)) >= len(names) - 2, 60)  # some cannot be seen
            seen = members(mark)
            if scenario == "SIGTERM":
                supervisor.stop()
            else:
                os.kill(supervisor._process.pid, signal.SIGKILL)  # type: ignore[union-attr]  # it runs
        begin = time.monotonic()
        for future in running:
            future.result(timeout=30)
        asked = {"timeout": 1.2, "idle": 4.2, "cap": 4.2}.get(scenario, 0.2)
        return max(0.0, time.monotonic() - begin - asked) + wait_until(lambda: gone(mark, seen), PATIENCE + 8)


@pytest.mark.parametrize("scenario", ["timeout", "run-killed"])
def test_nothing_is_left_of_hostile_agents(tmp_path: Path, scenario: str) -> None:
    end_them(tmp_path, scenario, ["has-a-daemon", "clears-its-environment", "forks-and-exits-all-the-time"])


@pytest.mark.campaign
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_left_of_twelve_hostile_agents(
    tmp_path: Path, scenario: str, capsys: pytest.CaptureFixture[str]
) -> None:
    took = end_them(tmp_path, scenario, list(AGENTS))
    with capsys.disabled():
        sys.stdout.write(f"\n{scenario}: nothing left {took:.2f} s after it\n")


@pytest.mark.campaign
def test_a_flood_of_four_gibibytes_takes_neither_disk_nor_memory(tmp_path: Path) -> None:
    script = "head -c 4G /dev/zero; sleep 0.1; grep VmHWM /proc/$PPID/status"  # the peak memory of the keeper
    with Supervisor(tmp_path / "lock") as supervisor:
        command = Command(("sh", "-c", script), tmp_path, {"PATH": "/usr/bin:/bin"}, tmp_path / "log", output_cap=2**20)
        ended = supervisor.run(command)
    log = (tmp_path / "log").read_bytes()
    assert ended.output_bytes > 4 * 2**30
    assert len(log) < 2**20 + 65_536
    assert int(log.rpartition(b"VmHWM:")[2].split()[0]) < 32 * 1024  # KiB
