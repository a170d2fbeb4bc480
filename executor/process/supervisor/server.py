"""Handles requests and orders from the client, and forks a keeper for each request."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys

from executor.process.redact import Redactor
from executor.process.supervisor.keeper import Keeper
from executor.process.supervisor.launching import canary, default_signals, subreaper, take_lock
from executor.process.supervisor.processes import CHUNK, KILL, REQUESTS, STOP, descendants, reap_children, send_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from executor.process.supervisor.processes import Request


def main(lock_file: str, patience: float, control: int) -> int:
    """Serve until the coordinator closes the request pipe or dies, and every keeper has ended.

    `patience` is the time in seconds for keepers of a dead run to end; `control` is the pipe for orders.
    """
    default_signals()
    try:
        canary()
        lock = take_lock(lock_file, patience)  # held by the open descriptor: keepers inherit it, commands do not
        adopt_orphans = subreaper()
        adopt_orphans()
        server = Server(control, adopt_orphans)
    except (OSError, AttributeError) as error:
        busy = isinstance(error, BlockingIOError)
        send_line({"ready": False, "busy": busy, "problem": str(error) or repr(error)})
        return 1
    send_line({"ready": True})
    gc.freeze()
    gc.disable()
    server.serve()
    os.close(lock)
    return 0


class Server:
    """Forks a keeper for each request, forwards orders, and cleans up after a killed keeper."""

    def __init__(self, control: int, adopt_orphans: Callable[[], None]) -> None:
        self.control = control
        self.coordinator = os.pidfd_open(os.getppid())
        self.adopt_orphans = adopt_orphans
        self.keepers: dict[int, tuple[int, int, int]] = {}  # pid -> request id, pidfd, write end of its orders
        self.lost: list[int] = []  # requests whose keeper died; answered once nothing of theirs is left
        self.buffer = b""
        self.open = True
        self.stopping = False
        self.poll = select.poll()
        for fd in (REQUESTS, control, self.coordinator):
            self.poll.register(fd, select.POLLIN)

    def serve(self) -> None:
        """Handle requests and orders until the coordinator has ended, and so has everything else."""
        while self.open or self.keepers or self.lost:
            for fd, _ in self.poll.poll(5 if self.lost else None):
                if fd == REQUESTS:
                    self.read_requests()
                elif fd == self.control:
                    self.pass_on(os.read(fd, 16))
                elif fd == self.coordinator:
                    self.shut()
            self.reap()
            if self.lost:
                self.clean_up()

    def read_requests(self) -> None:
        """Start a keeper for each complete line that has arrived."""
        data = os.read(REQUESTS, CHUNK)
        if not data:
            self.shut()
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            self.start(json.loads(line))

    def shut(self) -> None:
        """Stop listening to the ended coordinator; the keepers detect that themselves, so only their end is awaited."""
        if self.open:
            self.open = False
            for fd in (REQUESTS, self.control, self.coordinator):
                self.poll.unregister(fd)

    def pass_on(self, orders: bytes) -> None:
        """Send the strongest of these orders to every keeper; nothing is started any more. A kill ends everything."""
        if not orders or KILL in orders:
            self.shut()
        if not orders:
            return
        self.stopping = True
        for _, _, say in self.keepers.values():
            try:
                os.write(say, KILL if KILL in orders else STOP)
            except BrokenPipeError:
                pass  # it has just ended

    def start(self, request: Request) -> None:
        """Fork the keeper of a request."""
        identity = request["id"]
        if self.stopping or not self.open:
            send_line({"id": identity, "reason": "stopped"})
            return
        try:
            hear, say = os.pipe()
            pid = os.fork()
        except OSError as error:
            send_line({"id": identity, "reason": "not-started", "problem": f"cannot start a process: {error.strerror}"})
            return
        if pid == 0:
            self.become_keeper(request, hear, say)
        os.close(hear)
        watch = os.pidfd_open(pid)
        self.poll.register(watch, select.POLLIN)
        self.keepers[pid] = (identity, watch, say)

    def become_keeper(self, request: Request, hear: int, say: int) -> NoReturn:
        """In the child: supervise one command, then exit; with 0 if its result was reported."""
        code = 1
        try:
            os.setsid()
            self.adopt_orphans()
            for fd in [say, self.control, *(fd for keeper in self.keepers.values() for fd in keeper[1:])]:
                os.close(fd)
            Keeper(request, hear, self.coordinator, Redactor(request.pop("secrets", ()))).run()
            code = 0
        except BaseException:  # noqa: BLE001 - nothing may return from here into the server's loop
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def reap(self) -> None:
        """Forget ended keepers, and record those that reported no result."""
        for pid, status in reap_children()[0].items():
            if pid in self.keepers:
                identity, *fds = self.keepers.pop(pid)
                self.poll.unregister(fds[0])
                for fd in fds:
                    os.close(fd)
                if status != 0:
                    self.lost.append(identity)

    def clean_up(self) -> None:
        """Kill all processes of dead keepers: every descendant that no living keeper supervises."""
        strays = descendants(spared=self.keepers)
        for pid, process in strays.items():
            process.send(pid, signal.SIGKILL)
        if not strays:
            for identity in self.lost:
                send_line({"id": identity, "reason": "lost", "problem": "the process that looked after it died"})
            self.lost.clear()
