"""Turns the child of a keeper into the command: descriptors, folder, program; or reports why it cannot.

Preconditions of the first command: signals, exit codes, the lock, orphans, protected memory.

The output of a command on disk, bounded and without secrets.

A result on disk, durable before it is reported.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import stat
import time

from executor.process.supervisor.processes import CHUNK

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from executor.process.redact import Redactor
    from executor.process.supervisor.processes import Request


def become_command(request: Request, stdin: int, output: int, faults: int) -> NoReturn:
    """In the child: exec the command, or send the keeper the reason why that failed."""
    problem = ""
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
    """Execute like execvpe(3) with the PATH of `env`, but never from an empty or relative part of it."""
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
    """Open the content of a regular file, or /dev/null; a FIFO would block forever.

    The command gets a sealed copy. Otherwise it could reopen its descriptor in /proc/self/fd and write to the original
    file, whatever its sandbox permits for that file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if path == os.devnull:
        os.set_blocking(fd, True)
        return fd
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    copy = os.memfd_create("input", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    while data := os.read(fd, CHUNK):
        os.write(copy, data)
    os.close(fd)
    os.lseek(copy, 0, os.SEEK_SET)
    fcntl.fcntl(
        copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    )
    return copy


PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36  # linux/prctl.h
CANARY = 7  # an exit code that nothing else here has


def default_signals() -> None:
    """Reset signals that the launcher ignores or blocks: an ignored SIGCHLD would turn every exit code into 0."""
    for number in range(1, signal.NSIG):
        if number not in {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ, 32, 33}:  # 32, 33: of libc
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def canary() -> None:
    """Raise OSError unless the exit code of a child arrives unchanged."""
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
    """Lock the file that is at this path now; BlockingIOError if it is still held after `patience` seconds."""
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
    """Return a function that makes the calling process the parent of every orphan among its descendants.

    It also protects memory and environment of this process and of the keepers from other processes of the user, since
    requests contain secrets.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")

    def become() -> None:
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")

    return become


class Log:
    """The output of a command on disk: all of it, or the first and the last half of `cap` bytes; without secrets.

    All stored output, on disk and in the tail, has passed the redactor. `total` counts the received bytes.
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
        """Add output."""
        self.total += len(data)
        self.keep(self.redactor.feed(data))

    def keep(self, data: bytes) -> None:
        """Store redacted output."""
        head, rest = data[: self.head_room], data[self.head_room :]
        self.head_room -= len(head)
        self.write(head)
        self.tail += rest
        if (surplus := len(self.tail) - self.tail_room) > 0:
            del self.tail[:surplus]  # cheap: a bytearray drops its front by moving an offset
            self.left_out += surplus

    def finish(self) -> None:
        """Append the last half, preceded by the number of omitted bytes."""
        self.keep(self.redactor.end())
        if self.left_out:
            self.write(b"\n... %d bytes left out ...\n" % self.left_out)
        self.write(self.tail)
        os.close(self.fd)

    def write(self, data: bytes | bytearray) -> None:
        """Write everything; a full disk must not stop the command, so the problem is kept for the result."""
        rest = memoryview(data)
        try:
            while rest and not self.problem:
                rest = rest[os.write(self.fd, rest) :]
        except OSError as error:
            self.problem = f"the log is incomplete: {error.strerror}"


def store(path: str, data: bytes) -> None:
    """Store a file atomically and durably, also across a power cut."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)
    sync_folder(path)


def forget(path: str) -> None:
    """Remove the result of an earlier attempt durably, so that it cannot be mistaken for this one's."""
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
