"""Runs of the real command line as forks of a process that has loaded everything already, killed at any effect.

What makes thousands of runs affordable. The forked process is a run like any other: `python -m doit ...` in a folder,
with an environment, its output in a file. On request it kills itself (SIGKILL) before or after its N-th effect: a call
that changes something outside of it (write, fsync, rename, the start of a git, ...). These calls are seen by the
interpreter's own profiling hook; nothing of the product is patched, and nothing of it knows.

As a script it is the process that forks: JSON requests on stdin, JSON answers on stdout.
"""

from __future__ import annotations

import _posixsubprocess
import ctypes
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self, cast

from tests.zygote import load_everything

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Cut", "Hatched", "Hatchery", "Point"]

CHECKOUT = Path(__file__).resolve().parents[2]
SHUTDOWN, WITHOUT_FLUSHING = 0x8004587D, 2  # FS_IOC_SHUTDOWN of linux/fs.h
EFFECTS = frozenset(
    {
        *(os.write, os.fsync, os.ftruncate, os.rename, os.replace, os.unlink, os.mkdir, os.rmdir, os.link, os.symlink),
        _posixsubprocess.fork_exec,
    }
)


@dataclass(frozen=True)
class Point:
    """An effect of a run at which it is killed: before or after the N-th (from 1).

    Attributes:
        nth: which one.
        after: whether it is done before that.
        number: the signal that it gets.
        again: at which later effect it gets it once more; 0: never.
        of: beginnings of names; only effects with one of them are counted. Empty: all are.
        hold: a kind of record; the first thread that is about to write one waits for the kill, and only effects of
            other threads after that are counted. Empty: no thread waits.
    """

    nth: int
    after: bool = False
    number: int = signal.SIGKILL
    again: int = 0
    of: tuple[str, ...] = ()
    hold: str = ""


@dataclass(frozen=True)
class Cut:
    """An effect of a run at which the power fails: before the N-th (from 1), of those that `of` names as in `Point`.

    The run and all its descendants are stopped, then the file system drops what was not synced, then they are killed.
    """

    nth: int
    disk: Path
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hatched:
    """How a run ended.

    Attributes:
        code: exit code; negative: the signal that ended it.
        out: what it printed.
        effects: the effects that it had, by name, oldest first.
    """

    code: int
    out: str
    effects: list[str]

    def check(self, code: int = 0) -> Hatched:
        """The same, after making sure of the exit code."""
        assert self.code == code, f"exit {self.code}, expected {code}\n{self.out}"
        return self


class Hatchery:
    """The process that forks runs; a context manager, for one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        cast("IO[str]", self._process.stdin).close()
        cast("IO[str]", self._process.stdout).close()
        self._process.wait()

    def run(
        self,
        cwd: Path,
        *args: str,
        kill: Point | None = None,
        cut: Cut | None = None,
        watch: bool = False,
        env: dict[str, str] | None = None,
        boot: Path | None = None,
        timeout: float = 60,
    ) -> Hatched:
        """Run `doit ARGS` in a folder and wait for its end.

        Args:
            cwd: where.
            args: as on the command line.
            kill: where it is killed.
            cut: where the power fails.
            watch: whether its effects are written down; implied by `kill` and `cut`.
            env: additions to the environment.
            boot: a file with the boot id that it finds; that of the machine by default.
            timeout: seconds after which it counts as stuck and is killed.
        """
        self._count += 1
        out, log = self._folder / f"{self._count}.out", self._folder / f"{self._count}.effects"
        request = {
            "cwd": str(cwd),
            "args": args,
            "env": env or {},
            "out": str(out),
            "log": str(log) if watch or kill or cut else "",
            "nth": kill.nth if kill else cut.nth if cut else 0,
            "after": bool(kill and kill.after),
            "signal": kill.number if kill else signal.SIGSTOP,
            "again": kill.again if kill else 0,
            "of": kill.of if kill else cut.of if cut else (),
            "hold": kill.hold if kill else "",
            "disk": str(cut.disk) if cut else "",
            "boot": str(boot) if boot else "",
            "timeout": timeout,
        }
        asked, answers = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        asked.write(json.dumps(request) + "\n")
        asked.flush()
        code = json.loads(answers.readline())
        effects = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        text = out.read_text(encoding="utf-8", errors="replace")
        out.unlink()
        log.unlink(missing_ok=True)
        assert code != "stuck", f"{args} did not end within {timeout} s\n{text}"
        return Hatched(code, text, effects)


def _serve() -> None:
    load_everything()
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _hatch(request)
        if request["disk"]:
            _await_cut(pid, request["disk"])
        sys.stdout.write(json.dumps(_wait(pid, request["timeout"])) + "\n")
        sys.stdout.flush()


def _wait(pid: int, timeout: float) -> int | str:
    watch = os.pidfd_open(pid)
    try:
        import select

        ready, _, _ = select.select([watch], [], [], timeout)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code if ready else "stuck"
    finally:
        os.close(watch)


def _await_cut(pid: int, disk: str) -> None:
    """Wait until the run has stopped itself, and cut the power; nothing if it ends before that."""
    found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    if found is None or found.si_code != os.CLD_STOPPED:
        return
    stopped: set[int] = set()
    while fresh := _descendants(pid) - stopped:
        for child in fresh:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGSTOP)
        stopped |= fresh
    descriptor = os.open(disk, os.O_RDONLY)
    fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING))
    os.close(descriptor)
    for victim in (*stopped, pid):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def _descendants(pid: int) -> set[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found.update(children)
        waiting += children
    return found


def _boot(path: str) -> None:
    """Show this process and its descendants another boot id."""
    libc = ctypes.CDLL(None, use_errno=True)
    private, bind, namespace = 1 << 18 | 1 << 14, 1 << 12, 0x00020000
    done = libc.unshare(namespace) or libc.mount(b"none", b"/", None, private, None)
    if done or libc.mount(path.encode(), b"/proc/sys/kernel/random/boot_id", None, bind, None):
        raise OSError(ctypes.get_errno(), "another boot id cannot be shown")


def _hatch(request: dict[str, Any]) -> NoReturn:
    code: Any = 70
    try:
        null, out = os.open(os.devnull, os.O_RDONLY), os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for old, new in ((null, 0), (out, 1), (out, 2)):
            os.dup2(old, new)
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        if request["boot"]:
            _boot(request["boot"])
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        sys.argv = ["doit", *request["args"]]
        if request["log"]:
            places = {request["nth"], request["again"]} - {0}
            _watch(request, places)
        from doit.doit_cmd import DoitMain

        sys.path.insert(0, request["cwd"])
        code = DoitMain().run(request["args"])
    except SystemExit as error:
        code = error.code or 0
    except BaseException:  # noqa: BLE001  (nothing may return from here into the loop)
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 70)


def _watch(request: dict[str, Any], places: set[int]) -> None:
    """Write down every effect of this process, in all threads, and send it a signal at some of them."""
    told = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number, of, hold = request["signal"], tuple(request["of"]), request["hold"]
    count = 0
    lock = threading.Lock()
    held = threading.Event()
    end = "c_return" if request["after"] else "c_call"

    def hook(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        if hold and event == "call" and _writes(frame, hold):
            with lock:
                first = not held.is_set()
                held.set()
            if first:
                time.sleep(60)
        if event != end or arg not in EFFECTS:
            return
        with lock:
            name = _name(frame, arg.__name__)
            os.write(told, f"{name}\n".encode())
            counts = (not of or name.startswith(of)) and (not hold or held.is_set())
            count += counts
            if counts and count in places:
                os.kill(os.getpid(), number)
                if number in {signal.SIGKILL, signal.SIGSTOP}:
                    time.sleep(60)

    threading.setprofile(hook)
    sys.setprofile(hook)


def _writes(frame: FrameType, kind: str) -> bool:
    """Whether a call begins to write a record of a kind."""
    return frame.f_code.co_name == "record" and getattr(frame.f_locals.get("event"), "KIND", "") == kind


def _name(frame: FrameType | None, call: str) -> str:
    """What an effect is for: the record, the git command, the function it belongs to."""
    where = ""
    while frame is not None:
        code, seen = frame.f_code, frame.f_locals
        file = code.co_filename
        if "/executor/" in file:
            if code.co_name == "_append" and file.endswith("journal.py"):
                return f"record {seen['kind']} {seen['key']}: {call}"
            if call == "fork_exec" and code.co_name == "call" and file.endswith("git/command.py"):
                call = f"git {seen['arguments'][0]}"
            where = where or f"{Path(file).stem}.{code.co_name}"
            if code.co_name in _PARTS:
                return f"{code.co_name}: {where} {call}"
        frame = frame.f_back
    return f"{where} {call}"


_PARTS = {
    *("ensure_branch", "_prepare", "produce", "keep_candidate", "keep_interrupted", "fail", "_swap", "write_receipt"),
    *("judge", "recover", "enter", "verify_again", "objection_to", "_advance", "_verdict", "_land_together"),
}
"""Functions of the product that name the part of an issue's life to which an effect belongs."""


if __name__ == "__main__":
    _serve()
