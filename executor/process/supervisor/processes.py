"""The protocol between the supervisor and its client: descriptors, orders, result lines.

The descendants of this process: reads /proc, signals exactly them, reaps them.

Detects whether a process tree is alive, and since when it is not.
"""

from __future__ import annotations

import json
import os
import signal
import time

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Literal, NotRequired, TypedDict

    Reason = Literal["exited", "timeout", "idle", "output-limit", "stopped", "not-started", "lost"]

    class Request(TypedDict):
        """A line from the client: one command; the keys are those of `runner.Command`."""

        id: int
        argv: list[str]
        cwd: str
        env: dict[str, str]
        log: str
        stdin: str | None
        timeout: float
        idle: float | None
        silent: float | None
        watch: str | None
        output_cap: int
        output_limit: int | None
        grace: float
        linger: float
        farewell: float
        result_file: str | None
        secrets: NotRequired[list[str]]

    class Result(TypedDict, total=False):
        """A line to the client: the supervisor is ready, a command is silent, or a command has ended."""

        id: int
        ready: bool
        busy: bool
        silent: float
        code: int | None
        signal: int | None
        reason: Reason
        problem: str
        seconds: float
        output_bytes: int
        leftovers: int


REQUESTS, RESULTS = 0, 1  # file descriptors
STOP, KILL = b"s", b"k"  # orders from the client to the supervisor, and from there to the keepers
CHUNK = 65536  # bytes; the size of a pipe in Linux (pipe(7))


def send_line(value: Result) -> None:
    """Write one result line, shorter than PIPE_BUF, so lines of several keepers do not mix."""
    value["problem"] = value.get("problem", "")[:300]
    try:
        os.write(RESULTS, json.dumps(value).encode() + b"\n")
    except BrokenPipeError:
        pass  # the coordinator is gone; what matters is in the result file


class Process:
    """An entry of the process table."""

    __slots__ = ("ended", "parent", "started", "stopped", "ticks")

    def __init__(self, line: bytes) -> None:
        fields = line[line.rindex(b")") + 2 :].split()  # proc_pid_stat(5), from the third field on
        self.ended = fields[0] in b"ZX"
        self.stopped = fields[0] == b"T"
        self.parent = int(fields[1])
        self.ticks = sum(map(int, fields[11:15]))  # of itself and of the children it has waited for
        self.started = fields[19]

    def send(self, pid: int, number: int) -> bool:
        """Send a signal unless the process has ended or its number has been reused."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            now = read_process(pid)
            if now is None or now.ended or now.started != self.started:
                return False
            signal.pidfd_send_signal(fd, number)
        except (ProcessLookupError, PermissionError):
            return False
        finally:
            os.close(fd)
        return True


def read_process(pid: int) -> Process | None:
    """Return its entry in the process table; None if it does not exist."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            return Process(os.read(fd, 4096))
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return None


def descendants(spared: Collection[int] = ()) -> dict[int, Process]:
    """Return all descendants of this process by process id, without the subtrees of the spared children."""
    table: dict[int, Process] = {}
    children: dict[int, list[int]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if process := read_process(pid):
            table[pid] = process
            children.setdefault(process.parent, []).append(pid)
    found: dict[int, Process] = {}
    todo = [os.getpid()]
    while todo:
        for pid in children.get(todo.pop(), ()):
            if pid not in spared:
                found[pid] = table[pid]
                todo.append(pid)
    return found


def stuck(found: dict[int, Process]) -> set[tuple[int, bytes]]:
    """Return stopped processes that nobody continues, so that their command never ends: number and start of each.

    A process in the sandbox can stop the first one of its namespace by tracing it, and then exit. The first one stops
    before it reaps that child, or just after: then it has no child at all.
    """
    waiting = {process.parent for process in found.values() if process.ended}
    parents = {process.parent for process in found.values()}
    return {
        (pid, process.started)
        for pid, process in found.items()
        if process.stopped and (pid in waiting or (pid not in parents and first_in_namespace(pid)))
    }


def first_in_namespace(pid: int) -> bool:
    """Return whether it is the first process of a PID namespace inside ours; False if it has ended."""
    try:
        fd = os.open(f"/proc/{pid}/status", os.O_RDONLY)
        try:
            status = os.read(fd, 4096)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return False
    numbers = status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()  # proc_pid_status(5), outermost first
    return len(numbers) > 1 and numbers[-1] == b"1"


def reap_children() -> tuple[dict[int, int], bool]:
    """Return the wait status of every ended child, and whether children (and so descendants) are left."""
    ended: dict[int, int] = {}
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return ended, True
            ended[pid] = status
    except ChildProcessError:
        return ended, False


def chase_children() -> None:
    """Kill children as fast as they appear: a process that constantly forks and exits escapes a scan."""
    for _ in range(100):
        try:
            fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        except FileNotFoundError:  # a kernel without this file: the scans have to do
            return
        children = os.read(fd, CHUNK).split()
        os.close(fd)
        for pid in map(int, children):
            os.kill(pid, signal.SIGKILL)  # surely ours: a child keeps its number until it has been waited for


CPU_ALIVE = 0.002  # share of one core below which a tree counts as still; an event loop that waits uses less
HZ = os.sysconf("SC_CLK_TCK")


class Pulse:
    """Detects whether this keeper's process tree is alive: output, processor time, changes in a watched folder."""

    def __init__(self, limit: float | None, silent: float | None, folder: str | None) -> None:
        self.limit = limit or float("inf")  # seconds
        self.silent = silent or float("inf")  # seconds
        self.folder = folder
        self.alive = self.cpu_since = time.monotonic()
        self.reported = False  # of the present silence
        self.cpu = 0  # clock ticks
        first = min(self.limit, self.silent)
        self.due = self.alive + min(first / 10, 5.0) if first < float("inf") else first  # time of the next look

    def look(self, now: float) -> bool:
        """Look for activity; returns whether there was none for `limit` seconds."""
        cpu = round(sum(os.times()[2:4]) * HZ) + sum(process.ticks for process in descendants().values())
        if abs(cpu - self.cpu) >= max(1, CPU_ALIVE * HZ * (now - self.cpu_since)):
            self.alive, self.cpu_since, self.cpu = now, now, cpu
        enough = self.limit if self.reported else min(self.limit, self.silent)
        if now - self.alive >= enough and self.folder:
            self.alive = max(self.alive, now - age(self.folder, enough))
        self.reported = self.reported and now - self.alive >= self.silent
        self.due = now + max(0.02, min(enough / 10, 5.0, self.alive + enough - now))
        return now - self.alive >= self.limit

    def silence(self, now: float) -> float:
        """Return the seconds without activity at the moment they exceed the limit; otherwise 0."""
        if self.reported or now - self.alive < self.silent:
            return 0.0
        self.reported = True
        return now - self.alive


def age(folder: str, enough: float) -> float:
    """Return the seconds since the last change below the folder; the search stops at one younger than `enough`."""
    now, youngest, todo = time.time(), float("inf"), [folder]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    youngest = min(youngest, max(0.0, now - entry.stat(follow_symlinks=False).st_ctime))
                    if youngest < enough:
                        return youngest
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
        except OSError:
            continue  # it went away or may not be read: no sign of life
    return youngest
