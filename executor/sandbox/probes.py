"""A script that `sandbox.probe` runs inside the sandbox: tries forbidden actions and prints those that succeed.

It runs without site-packages and without this package, must end quickly, and is harmless if the sandbox fails.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import termios
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypedDict

    class Facts(TypedDict):
        """Facts of the host for comparison by the probes.

        Attributes:
            state: the state folder.
            repository: its git directory.
            token: a unique name.
            seen: path -> device and inode of the file; empty without such a path.
            namespace: the process namespace.
            coordinator: a process outside.
            port: port of a listener on the loopback interface.
        """

        state: str
        repository: str
        token: str
        seen: dict[str, list[int]]
        namespace: str
        coordinator: int
        port: int


__all__ = ["attempts"]

PTRACE_ATTACH, PTRACE_DETACH, WALL = 16, 17, 0x40000000
SPACES = ("ipc", "mnt", "net", "pid", "user")
OTHER_USER = 65533  # an id that no account should have; 65534 is nobody


def attempts(facts: Facts) -> dict[str, Callable[[], object]]:
    """Return probes by the sentence that reports success. A probe fails by an `OSError` or a false value."""
    state, repository, parent = Path(facts["state"]), Path(facts["repository"]), Path.cwd().parent
    token = facts["token"]
    return {
        "the repository's config can be written": lambda: append(repository / "config"),
        "the repository's hooks can be written": lambda: create(repository / "hooks" / token),
        "the repository's refs can be written": lambda: create(repository / "refs" / "heads" / token),
        "the repository's objects can be written": lambda: create(repository / "objects" / token),
        "the .git beside the tree can be replaced": lambda: replace(parent / ".git"),
        "the .git beside the tree can be removed": lambda: removed(parent / ".git"),
        "the state folder can be written": lambda: (
            same(facts["state"], facts["seen"][facts["state"]]) and create(state / token)
        ),
        **{f"{path} can be seen": partial(same, path, seen) for path, seen in facts["seen"].items() if seen},
        "processes of the machine can be seen": lambda: strangers(facts["namespace"]),
        "processes of the machine can be signalled": lambda: signal_all(facts["coordinator"]),
        "a network connection to the machine can be made": lambda: connect(("127.0.0.1", facts["port"])),
        "an abstract socket of the machine can be reached": lambda: connect(f"\0{token}"),
        "another network interface can be seen": lambda: [n for _, n in socket.if_nameindex() if n != "lo"],
        "the user can be changed": become,
        "su works": su,
        "a file system can be mounted": mount,
        "characters can be put into the terminal": type_ahead,
        "the coordinator's environment can be read": lambda: environments(token.encode()),
        "/etc can be written": partial(create, Path("/etc", token)),
        "/etc/passwd can be written": lambda: append(Path("/etc/passwd")),
        "/usr can be written": lambda: create(Path("/usr", token)),
        "settings of the kernel can be written": lambda: append(Path("/proc/sys/kernel/core_pattern")),
        "the kernel can be controlled": lambda: append(Path("/proc/sysrq-trigger")),
        "device nodes can be created": device,
        "the parent can be traced": trace_parent,
        "capabilities are left": capabilities,
        "set-user-id programs work": privileges,
        "a file can be written through a descriptor": descriptors,
    }


def append(path: Path) -> bool:
    """Return whether a file can be opened for writing; nothing is written."""
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    return True


def create(path: Path) -> bool:
    """Return whether a file can be created; it is removed again."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    path.unlink()
    return True


def descriptors() -> bool:
    """Return whether an inherited descriptor leads to a file that can be reopened for writing."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with suppress(OSError):
            if stat.S_ISREG(os.fstat(int(name)).st_mode) and not sealed(int(name)):
                return append(Path("/proc/self/fd", name))
    return False


def sealed(number: int) -> bool:
    """Return whether a descriptor is of a write-sealed file in memory."""
    try:
        return bool(fcntl.fcntl(number, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)
    except OSError:
        return False


def replace(path: Path) -> bool:
    """Whether a folder can be mounted over `path`."""
    path.stat()
    made = Path("replacement")
    made.mkdir(exist_ok=True)
    made.rename(path)
    return True


def removed(path: Path) -> bool:
    """Whether the empty folder `path` can be removed."""
    path.rmdir()
    return True


def identity(path: str) -> list[int]:
    """Return device and inode: the same folder, not only the same name."""
    status = os.stat(path)  # noqa: PTH116  (as few imports and calls as possible)
    return [status.st_dev, status.st_ino]


def same(path: str, seen: list[int]) -> bool:
    """Return whether `path` is the same file as on the host."""
    return identity(path) == seen


def strangers(namespace: str) -> bool:
    """Return whether this is the machine's process namespace, or /proc shows more than bwrap and this process."""
    shown = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208
    return str(Path("/proc/self/ns/pid").readlink()) == namespace or bool(shown - {1, os.getpid(), os.getppid()})


def signal_all(coordinator: int) -> bool:
    """Return whether kill -1 or a kill of the coordinator would reach a process; signal 0 has no effect."""
    for pid in (-1, coordinator):
        if pid not in {os.getpid(), os.getppid()}:
            with suppress(OSError):
                os.kill(pid, 0)
                return True
    return False


def connect(address: Any) -> bool:
    """Return whether a listener outside is reachable."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.2)
        connection.connect(address)
    return True


def become() -> bool:
    """Return whether user or group can be changed; tried in a child, since it may be irreversible."""
    child = os.fork()
    if child == 0:
        for change in (os.setgid, os.setuid):
            with suppress(OSError):
                change(OTHER_USER)
                os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def su() -> bool:
    """Return whether su gives a shell without a password prompt; a failing su would sleep for a second or more."""
    quiet = subprocess.DEVNULL
    command = ("su", "-s", "/bin/sh", "-c", "true", "nobody" if os.getuid() == 0 else "root")
    with suppress(subprocess.TimeoutExpired):
        ended = subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=0.2, check=False)
        return ended.returncode == 0
    return False


def called(number: int) -> bool:
    """Convert the result of a C library function to an exception."""
    if number < 0:
        raise OSError(ctypes.get_errno(), "denied")
    return True


def mount() -> bool:
    """Whether a file system can be mounted."""
    libc = ctypes.CDLL(None, use_errno=True)
    made = Path("mount-point")
    made.mkdir(exist_ok=True)
    called(libc.mount(b"none", os.fsencode(made), b"tmpfs", 0, None))
    return called(libc.umount2(os.fsencode(made), 0))


def type_ahead() -> bool:
    """Return whether input can be faked on the terminal, if standard input is one."""
    if not os.isatty(0):
        return False
    with suppress(OSError):
        fcntl.ioctl(0, termios.TIOCSTI, b"\n")
        return True
    os.close(os.open("/dev/tty", os.O_RDWR))
    return True


def environments(token: bytes) -> bool:
    """Return whether a variable of the process that started the sandbox is in any readable environment."""
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError):
                if b"EXECUTOR_PROBE=" + token in Path("/proc", name, "environ").read_bytes():
                    return True
    return False


def device() -> bool:
    """Return whether a device node (of /dev/mem, never opened) can be created."""
    os.mknod("device", stat.S_IFCHR | 0o600, os.makedev(1, 1))
    Path("device").unlink()
    return True


def trace_parent() -> bool:
    """Return whether a process outside can be traced. bwrap inside can be, but has no more rights than this one."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()
    called(libc.ptrace(PTRACE_ATTACH, parent, None, None))
    with suppress(OSError):
        os.waitpid(parent, WALL)
    libc.ptrace(PTRACE_DETACH, parent, None, None)
    places = [[str(Path("/proc", pid, "ns", kind).readlink()) for kind in SPACES] for pid in ("self", str(parent))]
    return places[0] != places[1] or capabilities(str(parent))


def status_line(name: str, pid: str = "self") -> str:
    """Return a line of the status of a process."""
    lines = Path("/proc", pid, "status").read_text(encoding="ascii").splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "")


def capabilities(pid: str = "self") -> bool:
    """Return whether any capability is left or can be regained."""
    return any(int(status_line(name, pid) or "0", 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"))


def privileges() -> bool:
    """Return whether set-user-id programs would get their privileges."""
    return status_line("NoNewPrivs") == "0"


def succeeded(attempt: Callable[[], object]) -> bool:
    """Return whether a probe succeeded, which is an error."""
    try:
        return bool(attempt())
    except OSError:
        return False


if __name__ == "__main__":
    found = [sentence for sentence, attempt in attempts(json.loads(sys.argv[1])).items() if succeeded(attempt)]
    print(json.dumps({"succeeded": found}))  # noqa: T201  (this is what it is for)
