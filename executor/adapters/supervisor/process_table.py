"""The processes below this one: what the table in /proc says of them, signals that reach no other, and their end."""

from __future__ import annotations

import os
import signal

from executor.adapters.supervisor.wire import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


class Process:
    """One line of the process table."""

    __slots__ = ("ended", "parent", "started", "ticks")

    def __init__(self, line: bytes) -> None:
        fields = line[line.rindex(b")") + 2 :].split()  # proc_pid_stat(5), from the third field on
        self.ended = fields[0] in b"ZX"
        self.parent = int(fields[1])
        self.ticks = sum(map(int, fields[11:15]))  # of itself and of the children it has waited for
        self.started = fields[19]

    def send(self, pid: int, number: int) -> bool:
        """Send a signal unless the process has ended or its number belongs to another one by now."""
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
    """What the process table says about it; None if there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            return Process(os.read(fd, 4096))
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return None


def descendants(spared: Collection[int] = ()) -> dict[int, Process]:
    """Everything below this process, by process id, without the subtrees of the spared children."""
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


def reap_children() -> tuple[dict[int, int], bool]:
    """The wait status of every child that has ended, and whether children are left (if not: nor descendants)."""
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
    """Kill children as fast as they appear: one that forks and exits all the time is gone before a scan has ended."""
    for _ in range(100):
        try:
            fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        except FileNotFoundError:  # a kernel without this file: the scans have to do
            return
        children = os.read(fd, CHUNK).split()
        os.close(fd)
        for pid in map(int, children):
            os.kill(pid, signal.SIGKILL)  # surely ours: a child keeps its number until it has been waited for
