"""What has to hold before the first command starts: signals, exit codes, the lock, orphans, closed memory."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36  # linux/prctl.h
CANARY = 7


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
