"""Handles requests and orders from the client, and forks a keeper for each request.

A keeper starts one command, ends it if it must, and reports its result when no process of it is left.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time

from executor.process.redact import Redactor
from executor.process.supervisor.launching import (
    Log,
    become_command,
    canary,
    default_signals,
    forget,
    open_input,
    store,
    subreaper,
    take_lock,
)
from executor.process.supervisor.processes import (
    CHUNK,
    KILL,
    REQUESTS,
    STOP,
    Pulse,
    chase_children,
    descendants,
    reap_children,
    send_line,
    stuck,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, NoReturn

    from executor.process.supervisor.processes import Reason, Request, Result

KILL_PATIENCE = 30.0  # seconds after which processes that do not die are reported
STUCK = 2.0  # seconds between looks for a stopped process that nobody continues
SETTLE = 0.05  # seconds in which what a finished command left behind may end by itself


class Keeper:
    """Supervises one command from its start until none of its processes is left."""

    def __init__(self, request: Request, orders: int, coordinator: int, redactor: Redactor) -> None:
        self.request = request
        self.redactor = redactor  # of the secrets that this command may know
        self.orders = orders
        self.lifelines = (REQUESTS, coordinator)
        self.started = time.monotonic()
        self.pid = self.output = self.exited = -1
        self.status: int | None = None  # of the command itself
        self.reason: Reason | Literal[""] = ""  # why the command is being ended; empty while it may go on
        self.at_once = False  # no grace
        self.hurried = False  # what is left behind is not waited for
        self.alive = True  # whether any process of the command is left
        self.killing = False
        self.killed: set[int] = set()
        self.stuck: set[tuple[int, bytes]] = set()
        self.looked = self.started
        self.poll = select.poll()
        self.pulse = Pulse(request["idle"], request["silent"], request["watch"])

    def run(self) -> None:
        """Start the command, wait for its end or end it, and report the result."""
        try:
            if self.request["result_file"]:
                forget(self.request["result_file"])
            self.log = Log(self.request["log"], self.request["output_cap"], self.redactor)
            self.launch()
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            self.report({"reason": "not-started", "problem": problem})
            return
        self.attend()
        if self.status == 0 and not self.reason and self.request["linger"]:
            self.linger()
        self.end()
        while self.drain():
            pass
        self.log.finish()
        self.report(self.outcome())

    def launch(self) -> None:
        """Start the command; raises OSError with a description if it could not be executed."""
        stdin = open_input(self.request["stdin"] or os.devnull)
        self.output, output = os.pipe()
        fault, faults = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            become_command(self.request, stdin, output, faults)
        for fd in (stdin, output, faults):
            os.close(fd)
        problem = os.read(fault, CHUNK).decode("utf-8", "surrogateescape")
        os.close(fault)
        if problem:
            os.waitpid(self.pid, 0)
            raise OSError(problem)

    def attend(self) -> None:
        """Wait until the command has ended or must be ended."""
        os.set_blocking(self.output, False)
        self.exited = os.pidfd_open(self.pid)
        for fd in (self.output, self.exited, self.orders, self.lifelines[1]):
            self.poll.register(fd, select.POLLIN)
        self.poll.register(self.lifelines[0], 0)  # the server reads it; only its hang-up is of interest here
        deadline = self.started + self.request["timeout"]
        while self.status is None and not self.reason:
            now = time.monotonic()
            if now >= deadline:
                self.reason = "timeout"
            elif now >= self.pulse.due and self.pulse.look(now):
                self.reason = "idle"
            elif silence := self.pulse.silence(now):
                send_line({"id": self.request["id"], "silent": round(silence, 1)})
            else:
                self.listen(min(deadline, self.pulse.due, self.looked + STUCK) - now)
                self.unstick()

    def linger(self) -> None:
        """Wait for processes that the command left behind, until they have ended or been quiet for too long."""
        deadline = self.started + self.request["timeout"]
        pulse = self.pulse = Pulse(self.request["linger"], None, self.request["watch"])
        while self.alive and not self.hurried:
            now = time.monotonic()
            if now >= deadline:
                self.reason = "timeout"
                return
            if now >= pulse.due and pulse.look(now):
                return
            self.listen(min(deadline, pulse.due, now + 0.2) - now)

    def listen(self, seconds: float) -> None:
        """Handle events until one has occurred or the time is over."""
        for fd, _ in self.poll.poll(max(0, int(min(seconds, 5.0) * 1000) + 1)):
            if fd == self.output:
                self.drain()
            elif fd == self.orders and (order := os.read(fd, 16)):
                self.at_once, self.hurried = self.at_once or KILL in order, True
                if self.status is None and not self.reason:
                    self.reason = "stopped"
            elif fd in {self.orders, *self.lifelines}:
                self.abandon()
        ended, self.alive = reap_children()
        if self.killing:
            self.killed.update(pid for pid, status in ended.items() if status == signal.SIGKILL and pid != self.pid)
        if self.pid in ended:
            self.status = ended[self.pid]
            self.poll.unregister(self.exited)

    def unstick(self) -> None:
        """Continue processes that were stuck in two scans; else the end of the command is never reported."""
        now = time.monotonic()
        if now - self.looked < STUCK:
            return
        self.looked = now
        found = descendants()
        still = stuck(found)
        for pid, _ in still & self.stuck:
            found[pid].send(pid, signal.SIGCONT)
        self.stuck = still

    def abandon(self) -> None:
        """Kill the command: the coordinator or the supervisor has ended, so it has no waiter."""
        if self.status is None:
            self.reason = "lost"
        self.at_once = self.hurried = True
        for fd in (self.orders, *self.lifelines):
            self.poll.unregister(fd)
        self.orders, self.lifelines = -1, (-1, -1)

    def drain(self) -> bool:
        """Read the output pipe; False if it is empty."""
        if self.output < 0:
            return False
        try:
            data = os.read(self.output, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.poll.unregister(self.output)
            self.output = -1
            return False
        self.log.add(data)
        self.pulse.alive = time.monotonic()
        limit = self.request["output_limit"]
        if limit is not None and self.log.total > limit and not self.reason:
            self.reason, self.at_once = "output-limit", True
        return True

    def end(self) -> None:
        """Stop the remaining processes gracefully if there is time, then kill until none is left."""
        farewell = self.request["farewell"] if self.status is None else 0.0
        asked = self.status is None and not self.at_once
        if farewell or asked:
            for pid, process in descendants().items():
                if pid == self.pid or not farewell:
                    process.send(pid, signal.SIGTERM)
        until = time.monotonic() + (farewell or (self.request["grace"] if asked else SETTLE))
        while self.alive and (farewell or not self.at_once) and time.monotonic() < until:
            self.listen(0.01)
            if farewell and self.status is not None:
                break
        self.killing, patience, pause = True, time.monotonic() + KILL_PATIENCE, 0.001
        while self.alive:
            left = descendants()
            for pid, process in left.items():
                if process.send(pid, signal.SIGKILL) and pid != self.pid:
                    self.killed.add(pid)
            if time.monotonic() > patience:
                patience = float("inf")  # say so once, keep the lock, keep trying
                self.report({"reason": "lost", "problem": f"these processes cannot be killed: {sorted(left)}"})
            chase_children()
            self.listen(pause)
            pause = min(2 * pause, 0.05)

    def outcome(self) -> Result:
        """Return the end of the command in the format of `processes.Ended`."""
        code = os.waitstatus_to_exitcode(self.status) if self.status is not None else None
        return {
            "code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "reason": self.reason or "exited",
            "problem": self.log.problem,
        }

    def report(self, result: Result) -> None:
        """Report the result: first durably in the result file, then to the client. A lost command gets no file."""
        result["seconds"] = round(time.monotonic() - self.started, 6)
        result["output_bytes"] = self.log.total if hasattr(self, "log") else 0
        result["leftovers"] = len(self.killed)
        problem = result.get("problem", "").encode("utf-8", "surrogateescape")  # may quote a path or an argument
        result["problem"] = self.redactor.redact(problem).decode("utf-8", "surrogateescape")
        path = self.request["result_file"]
        if path and result["reason"] != "lost":
            try:
                store(path, json.dumps(result).encode() + b"\n")
            except OSError as error:
                result["reason"] = "lost"
                result["problem"] = f"its result could not be stored: {path}: {error.strerror}"
        result["id"] = self.request["id"]
        send_line(result)


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
                send_line({"id": identity, "reason": "lost", "problem": "its supervisor process died"})
            self.lost.clear()
