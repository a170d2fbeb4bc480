"""The process under which every command of a run lives: a fork server that looks after whole process trees.

A stand-alone script (``python -I -S supervisor.py LOCK_FILE PATIENCE ORDERS_FD``) that imports the standard library
only and as little of it as possible, and loads `redact.py` by its path. It reads one JSON request a line from stdin,
forks a keeper for each, and the keeper writes one JSON result line to stdout. It is single-threaded, so that fork is
safe. `processes.py` is its only client and describes requests and results.

What holds at any moment: a keeper ends only when nothing of its command is left, keepers hold the lock, and a keeper
kills everything as soon as the coordinator (the client's process) or the supervisor is gone. Hence whoever has
the lock knows that no command of an earlier run is alive. If a keeper is killed, its processes become children of
the supervisor (both are subreapers) and are killed by it. Killing both at once with SIGKILL defeats this.
"""

# Importing pathlib would cost more than all other imports of this script together, and contextlib is not worth it:
# ruff: noqa: PTH104, PTH108, PTH113, PTH116, PTH120, PTH208, SIM105
from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import json
import os
import select
import signal
import stat
import sys
import time
from importlib.machinery import SourceFileLoader

TYPE_CHECKING = False  # importing typing would cost a fifth of the start
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, NoReturn

    from executor.core.redact import Redactor

REQUESTS, RESULTS = 0, 1  # file descriptors
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36  # linux/prctl.h
KILL_PATIENCE = 30.0  # seconds after which processes that do not die are reported
SETTLE = 0.05  # seconds in which what a finished command left behind may end by itself
CPU_ALIVE = 0.002  # share of one core below which a tree counts as still; an event loop that waits uses less
CANARY = 7
CHUNK = 65536
REDACT = f"{os.path.dirname(os.path.dirname(__file__))}/core/redact.py"
HZ = os.sysconf("SC_CLK_TCK")
STOP, KILL = b"s", b"k"  # orders from the client to the supervisor, and from there to the keepers


def main(lock_file: str, patience: float, control: int) -> int:
    """Serve until the coordinator closes the request pipe or dies, and every keeper has ended.

    `patience` is the time in seconds that keepers of a dead run are given to end; `control` the pipe for orders.
    """
    default_signals()
    try:
        canary()
        lock = take_lock(lock_file, patience)  # held by the open descriptor: keepers inherit it, commands do not
        adopt_orphans = subreaper()
        adopt_orphans()
        server = Server(control, adopt_orphans, load_redactor(REDACT))
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


def default_signals() -> None:
    """Undo what the launching process ignores or blocks: an ignored SIGCHLD would turn every exit code into 0."""
    for number in range(1, signal.NSIG):
        if number not in {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ, 32, 33}:  # 32, 33: of libc
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def canary() -> None:
    """Raise OSError unless the exit code of a child arrives as it was given."""
    pid = os.fork()
    if pid == 0:
        os._exit(CANARY)
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        code = -1
    if code != CANARY:
        raise OSError(f"exit codes of child processes cannot be trusted here: expected {CANARY}, found {code}")


def take_lock(path: str, patience: float) -> int:
    """Lock the file that is at this path now; BlockingIOError if somebody still has it after `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(fd)
        if time.monotonic() > until:
            raise BlockingIOError(f"{path}: processes of an earlier run still hold it after {patience:.0f} s")
        time.sleep(0.01)


def subreaper() -> Callable[[], None]:
    """A function that makes the calling process the parent of every orphan among its descendants.

    Besides, memory and environment of this process and of the keepers are closed to those of its user: requests have
    secrets.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")

    def become() -> None:
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")

    return become


def load_redactor(path: str) -> type[Redactor]:
    """The class from that file. It is loaded at the start: without it no command may run whose output has secrets."""
    module = type(sys)("redact")
    SourceFileLoader("redact", path).exec_module(module)
    return module.Redactor  # type: ignore[no-any-return]


def send_line(value: dict[str, Any]) -> None:
    """Write one result line; shorter than PIPE_BUF, so that lines of several keepers do not mix."""
    value["problem"] = value.get("problem", "")[:300]
    try:
        os.write(RESULTS, json.dumps(value).encode() + b"\n")
    except BrokenPipeError:
        pass  # the coordinator is gone; what matters is in the result file


class Server:
    """Forks a keeper for each request, passes orders on, and cleans up after a keeper that was killed."""

    def __init__(self, control: int, adopt_orphans: Callable[[], None], redactor: type[Redactor]) -> None:
        self.control = control
        self.redactor = redactor
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
        """Answer requests and orders until the coordinator is gone and everything has ended."""
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
        """Start a keeper for each whole line that has arrived."""
        data = os.read(REQUESTS, CHUNK)
        if not data:
            self.shut()
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            self.start(json.loads(line))

    def shut(self) -> None:
        """The coordinator is gone: the keepers see it themselves, only their end is waited for."""
        if self.open:
            self.open = False
            for fd in (REQUESTS, self.control, self.coordinator):
                self.poll.unregister(fd)

    def pass_on(self, orders: bytes) -> None:
        """Give the strongest of these orders to every keeper; from now on nothing is started. Killing ends it all."""
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

    def start(self, request: dict[str, Any]) -> None:
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

    def become_keeper(self, request: dict[str, Any], hear: int, say: int) -> NoReturn:
        """In the child: look after one command, then exit; with 0 if its result has been told."""
        code = 1
        try:
            os.setsid()
            self.adopt_orphans()
            for fd in [say, self.control, *(fd for keeper in self.keepers.values() for fd in keeper[1:])]:
                os.close(fd)
            Keeper(request, hear, self.coordinator, self.redactor(request.pop("secrets", ()))).run()
            code = 0
        except BaseException:  # noqa: BLE001 - nothing may return from here into the server's loop
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def reap(self) -> None:
        """Forget keepers that have ended, and remember those that did so without telling a result."""
        for pid, status in reap_children()[0].items():
            if pid in self.keepers:
                identity, *fds = self.keepers.pop(pid)
                self.poll.unregister(fds[0])
                for fd in fds:
                    os.close(fd)
                if status != 0:
                    self.lost.append(identity)

    def clean_up(self) -> None:
        """Kill what dead keepers left to us: every descendant that no living keeper looks after."""
        strays = descendants(spared=self.keepers)
        for pid, process in strays.items():
            process.send(pid, signal.SIGKILL)
        if not strays:
            for identity in self.lost:
                send_line({"id": identity, "reason": "lost", "problem": "the process that looked after it died"})
            self.lost.clear()


class Keeper:
    """Looks after one command from its start until nothing of it is left."""

    def __init__(self, request: dict[str, Any], orders: int, coordinator: int, redactor: Redactor) -> None:
        self.request = request
        self.redactor = redactor  # of the secrets that this command may know
        self.orders = orders
        self.lifelines = (REQUESTS, coordinator)
        self.started = time.monotonic()
        self.pid = self.output = self.exited = -1
        self.status: int | None = None  # of the command itself
        self.reason = ""  # why the command is being ended; empty while it may go on
        self.at_once = False  # no grace
        self.alive = True  # whether any process of the command is left
        self.killing = False
        self.killed: set[int] = set()
        self.poll = select.poll()
        self.pulse = Pulse(request["idle"], request["silent"], request["watch"])

    def run(self) -> None:
        """Start the command, wait for its end or bring it about, and tell the result."""
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
        self.end()
        while self.drain():
            pass
        self.log.finish()
        self.report(self.outcome())

    def launch(self) -> None:
        """Start the command; OSError, with the problem in words, if it could not be executed."""
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
        """Wait until the command has ended or has to be ended."""
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
            elif now >= self.pulse.due and self.pulse.stopped(now):
                self.reason = "idle"
            elif silence := self.pulse.silence(now):
                send_line({"id": self.request["id"], "silent": round(silence, 1)})
            else:
                self.listen(min(deadline, self.pulse.due) - now)

    def listen(self, seconds: float) -> None:
        """Handle what happens until something has or the time is over."""
        for fd, _ in self.poll.poll(max(0, int(min(seconds, 5.0) * 1000) + 1)):
            if fd == self.output:
                self.drain()
            elif fd == self.orders and (order := os.read(fd, 16)):
                self.at_once = self.at_once or KILL in order
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

    def abandon(self) -> None:
        """The coordinator or the supervisor is gone: nobody waits for the command any more."""
        if self.status is None:
            self.reason = "lost"
        self.at_once = True
        for fd in (self.orders, *self.lifelines):
            self.poll.unregister(fd)
        self.orders, self.lifelines = -1, (-1, -1)

    def drain(self) -> bool:
        """Take what is in the output pipe; False if that is nothing."""
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
        """Ask what is left to end, if there is time for that, then kill until nothing is left."""
        asked = self.status is None and not self.at_once
        if asked:
            for pid, process in descendants().items():
                process.send(pid, signal.SIGTERM)
        until = time.monotonic() + (self.request["grace"] if asked else SETTLE)
        while self.alive and not self.at_once and time.monotonic() < until:
            self.listen(0.01)
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

    def outcome(self) -> dict[str, Any]:
        """How the command ended, in the words of `processes.Ended`."""
        code = os.waitstatus_to_exitcode(self.status) if self.status is not None else None
        return {
            "code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "reason": self.reason or "exited",
            "problem": self.log.problem,
        }

    def report(self, result: dict[str, Any]) -> None:
        """Tell the result: first durably in the result file, then to the client. A lost command gets no file."""
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
                result.update(reason="lost", problem=f"its result could not be stored: {path}: {error.strerror}")
        send_line({"id": self.request["id"], **result})


class Log:
    """The output of a command on disk: all of it, or the first and the last half of `cap` bytes; without secrets.

    Nothing is kept, on disk or in the tail, that has not passed the redactor. `total` counts what was written to us.
    """

    def __init__(self, path: str, cap: int, redactor: Redactor) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        self.fd = os.open(path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        os.ftruncate(self.fd, 0)
        self.head_room = cap // 2
        self.tail_room = cap - self.head_room
        self.tail = bytearray()
        self.redactor = redactor
        self.left_out = self.total = 0
        self.problem = ""

    def add(self, data: bytes) -> None:
        """Take the next output."""
        self.total += len(data)
        self.keep(self.redactor.feed(data))

    def keep(self, data: bytes) -> None:
        """Put redacted output where it belongs."""
        head, rest = data[: self.head_room], data[self.head_room :]
        self.head_room -= len(head)
        self.write(head)
        self.tail += rest
        if (surplus := len(self.tail) - self.tail_room) > 0:
            del self.tail[:surplus]  # cheap: a bytearray drops its front by moving an offset
            self.left_out += surplus

    def finish(self) -> None:
        """Append the last half, and how much is missing before it."""
        self.keep(self.redactor.end())
        if self.left_out:
            self.write(b"\n... %d bytes left out ...\n" % self.left_out)
        self.write(self.tail)
        os.close(self.fd)

    def write(self, data: bytes | bytearray) -> None:
        """Write all of it; a full disk must not stop the command, so the problem is kept for the result."""
        rest = memoryview(data)
        try:
            while rest and not self.problem:
                rest = rest[os.write(self.fd, rest) :]
        except OSError as error:
            self.problem = f"the log is incomplete: {error.strerror}"


class Pulse:
    """Whether the tree of this keeper is alive: output, processor time or, in a watched folder, changed files."""

    def __init__(self, limit: float | None, silent: float | None, folder: str | None) -> None:
        self.limit = limit or float("inf")  # seconds
        self.silent = silent or float("inf")  # seconds
        self.folder = folder
        self.alive = self.cpu_since = time.monotonic()
        self.told = False  # of the present silence
        self.cpu = 0  # clock ticks
        first = min(self.limit, self.silent)
        self.due = self.alive + min(first / 10, 5.0) if first < float("inf") else first  # time of the next look

    def stopped(self, now: float) -> bool:
        """Whether nothing has moved for `limit` seconds."""
        cpu = round(sum(os.times()[2:4]) * HZ) + sum(process.ticks for process in descendants().values())
        if abs(cpu - self.cpu) >= max(1, CPU_ALIVE * HZ * (now - self.cpu_since)):
            self.alive, self.cpu_since, self.cpu = now, now, cpu
        enough = self.limit if self.told else min(self.limit, self.silent)
        if now - self.alive >= enough and self.folder:
            self.alive = max(self.alive, now - age(self.folder, enough))
        self.told = self.told and now - self.alive >= self.silent
        self.due = now + max(0.02, min(enough / 10, 5.0, self.alive + enough - now))
        return now - self.alive >= self.limit

    def silence(self, now: float) -> float:
        """Seconds since anything moved, when that has just become too many; else 0."""
        if self.told or now - self.alive < self.silent:
            return 0.0
        self.told = True
        return now - self.alive


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


def become_command(request: dict[str, Any], stdin: int, output: int, faults: int) -> NoReturn:
    """In the child: turn into the command, or tell the keeper in words why that is impossible."""
    try:
        os.setsid()
        for source, target in ((stdin, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(request["cwd"])
        execute(request["argv"], request["env"])
    except OSError as error:
        problem = f"{error.filename or request['argv'][0]}: {error.strerror}"
    except Exception as error:  # noqa: BLE001 - whatever it is, the keeper has to hear of it
        problem = f"{request['argv'][:1]}: {error}"
    finally:
        os.write(faults, problem.encode("utf-8", "surrogateescape")[:CHUNK])
        os._exit(127)


def execute(argv: list[str], env: dict[str, str]) -> None:
    """Like execvpe(3) with the PATH of `env`, but never from an empty or relative part of it."""
    name = argv[0]
    if "/" in name:
        os.execve(name, argv, env)  # noqa: S606 - no shell is meant
    refusal = OSError(errno.ENOENT, "command not found", name)
    for folder in env.get("PATH", os.defpath).split(":"):
        if folder.startswith("/"):
            path = f"{folder}/{name}"
            try:
                os.execve(path, argv, env)  # noqa: S606 - as above
            except (FileNotFoundError, NotADirectoryError):
                if os.path.isfile(path):
                    refusal = OSError(errno.ENOENT, "its interpreter is missing", path)
            except PermissionError as error:
                refusal = error
    raise refusal


def open_input(path: str) -> int:
    """Open a regular file or /dev/null; a FIFO would block for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode) and path != os.devnull:
        raise OSError(errno.EINVAL, "not a regular file", path)
    os.set_blocking(fd, True)
    return fd


def age(folder: str, enough: float) -> float:
    """Seconds since the last change below the folder; the search ends at one younger than `enough`."""
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


def store(path: str, data: bytes) -> None:
    """Put a file in place durably: old or new, never half, also after a power cut."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)
    sync_folder(path)


def forget(path: str) -> None:
    """Remove the result of an earlier attempt durably, so that it cannot be taken for that of this one."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_folder(path)


def sync_folder(path: str) -> None:
    """Make the entry of this file in its folder durable."""
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
