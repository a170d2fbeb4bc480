"""Runs commands under the supervisor: their whole process trees end with them, with a limit, or with this process.

The client of `supervisor/`, for commands that may not end or clean up after themselves: agents, checks, workspace
set-up. How agents are called and what their output means is decided elsewhere.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Self, cast

from executor.errors import BusyError, ExecutorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from executor.process.supervisor.processes import Reason, Request, Result

__all__ = ["Command", "Ended", "Supervisor", "read_result", "sane_path"]

SCRIPT = Path(__file__).parent / "supervisor" / "__main__.py"
END_PATIENCE = 10.0  # seconds that closing waits for processes that do not die
_SHELL = {126: "cannot be executed", 127: "command not found"}
"""The meaning of exit codes of shells, env and prlimit."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command and its limits.

    Attributes:
        argv: the program and its arguments. A name without a slash is searched in the PATH of `env`, never in the
            working folder; a relative path with a slash is relative to `cwd`.
        cwd: the working folder, absolute.
        env: the complete environment; nothing is added to it.
        log: file for stdout and stderr; created with mode 0600 or truncated, never through a symbolic link.
        stdin: a regular file; /dev/null by default.
        timeout: seconds until SIGTERM.
        idle: seconds without output, processor time (below 0.2 % of a core counts as none) and change in `watch` until
            SIGTERM; detection may take a tenth longer.
        silent: seconds of silence after which `run` calls `on_silence`, once per silence.
        watch: folder whose changed files are signs of life, too.
        output_cap: bytes of output to keep; of longer output the first and the last half are kept. The last half is in
            memory, and not yet in the log, until the command ends.
        output_limit: bytes of output after which it is killed.
        grace: seconds between SIGTERM and SIGKILL.
        linger: seconds for which processes left behind after exit code 0 may be quiet (as for `idle`) before they are
            killed; 0 kills them at once. The timeout applies to them too.
        farewell: seconds that the command has to end everything by itself after SIGTERM, also if this process dies:
            for one that must inform another host. Only the command gets the signal, and `grace` does not count.
            0: no farewell.
        result_file: file for the durable result, written before `run` returns, also without a waiter; removed before
            the command starts. See `read_result`.
        secrets: values that must not appear in the log or the result, in any form of `executor.process.redact`; those
            shorter than eight characters are ignored.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)  # has secrets
    log: Path
    stdin: Path | None = None
    timeout: float = 1800.0
    idle: float | None = None
    silent: float | None = None
    watch: Path | None = None
    output_cap: int = 64 * 2**20
    output_limit: int | None = None
    grace: float = 5.0
    linger: float = 0.0
    farewell: float = 0.0
    result_file: Path | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a command. Once it exists, no process of the command is left (except see `lost`).

    Attributes:
        code: exit code; None if a signal ended it or it never started.
        signal: number of the signal that ended it, if any.
        reason: `exited` by itself; ended because of `timeout`, `idle` or `output-limit`, or `stopped` by request;
            `not-started`: the program could not be executed; `lost`: its end is unknown, because its keeper died, its
            result could not be stored, or some of its processes cannot be killed.
        problem: why it did not start or was lost, or why its log is incomplete; empty otherwise.
        seconds: time from the request to the end of its last process.
        output_bytes: number of bytes that it wrote, kept or not, before redaction.
        leftovers: number of other processes of it that had to be killed.
    """

    code: int | None
    signal: int | None
    reason: Reason
    problem: str
    seconds: float
    output_bytes: int
    leftovers: int

    @property
    def ok(self) -> bool:
        """Whether it exited with code 0."""
        return self.reason == "exited" and self.code == 0

    def describe(self) -> str:
        """One phrase for people, for example ``exit 1`` or ``killed after 1800 s (timeout)``."""
        text = self._what_happened()
        if self.leftovers and self.reason == "exited":
            text += f"; {self.leftovers} leftover process{'es' if self.leftovers > 1 else ''} killed"
        if self.problem and self.reason not in {"not-started", "lost"}:
            text += f"; {self.problem}"
        return text

    def _what_happened(self) -> str:
        if self.reason == "exited":
            known = f" ({_SHELL[self.code]})" if self.code in _SHELL else ""
            return f"exit {self.code}{known}" if self.signal is None else f"ended by {_signal_name(self.signal)}"
        if self.reason == "not-started":
            return f"not started: {self.problem}"
        if self.reason == "lost":
            return f"lost: {self.problem}"
        if self.reason == "stopped":
            return f"stopped after {self.seconds:.0f} s" if self.seconds else "stopped before it started"
        return f"killed after {self.seconds:.0f} s ({self.reason})"


class Supervisor:
    """One supervisor process and its commands; a context manager for any number of threads.

    If this process dies in any way, every process of every command is killed, and only then is the lock free. Commands
    have the umask of this process. Entering raises `BusyError` if processes of an earlier run still hold `lock_file`
    after `lock_patience` seconds, and `ExecutorError` if the supervisor cannot start or exit codes are unreliable.
    """

    def __init__(self, lock_file: Path, *, lock_patience: float = 10.0) -> None:
        self._arguments = (str(lock_file.absolute()), str(lock_patience))
        self._numbers = itertools.count(1)
        self._guard = threading.Lock()  # of the two below; never held while waiting for anything
        self._waiting: dict[int, SimpleQueue[Ended]] = {}
        self._listening: dict[int, Callable[[float], None]] = {}
        self._gone = False
        self._writing = threading.Lock()  # requests are longer than a pipe takes at once
        self._stopping = self._killed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = self._orders = -1

    def __enter__(self) -> Self:
        _close_to_others()
        no_bytecode = ["-B"] if sys.dont_write_bytecode else []
        hear, self._orders = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", *no_bytecode, str(SCRIPT), *self._arguments, str(hear)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env={},  # an agent can read the environment of its ancestors in /proc
                cwd="/",
                pass_fds=(hear,),
                start_new_session=True,  # Ctrl-C in the terminal is for this process, which decides what it means
            )
        except OSError as error:
            os.close(self._orders)
            raise ExecutorError(f"the supervisor of child processes does not start: {error}") from error
        finally:
            os.close(hear)
        assert self._process.stdin is not None  # noqa: S101 - PIPE was asked for
        assert self._process.stdout is not None  # noqa: S101 - as above
        self._requests = self._process.stdin.fileno()
        results = _lines(self._process.stdout.fileno())
        ready = next(results, {"ready": False, "problem": "it ended immediately"})
        self._reader = threading.Thread(target=self._read, args=(results,), name="supervisor-results", daemon=True)
        self._reader.start()
        if not ready["ready"]:
            self.close()
            error_class = BusyError if ready.get("busy") else ExecutorError
            raise error_class(f"the supervisor of child processes does not start: {ready['problem']}")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, command: Command, on_silence: Callable[[float], None] | None = None) -> Ended:
        """Run a command and wait until none of its processes is left. Its failure is a value, not an exception.

        `on_silence` is called from another thread with the seconds of silence (`Command.silent`).
        """
        number = next(self._numbers)
        answer: SimpleQueue[Ended] = SimpleQueue()
        with self._guard:
            if self._stopping:
                return _without_result("stopped")
            if self._gone:
                return _without_result("lost", _GONE)
            self._waiting[number] = answer
            if on_silence is not None:
                self._listening[number] = on_silence
        try:
            return answer.get() if self._send(_request(number, command)) else _without_result("stopped")
        finally:
            with self._guard:
                self._waiting.pop(number, None)
                self._listening.pop(number, None)

    def stop(self) -> None:
        """Stop every running command gracefully and start no more; returns immediately. Safe in a signal handler."""
        self._order(b"s")

    def kill(self) -> None:
        """Kill every running command with its children and refuse new ones; returns immediately. As safe as `stop`."""
        self._killed = True
        self._order(b"k")

    def close(self) -> None:
        """Kill all running commands and wait until they have ended. Pending `run` calls return them as stopped."""
        if self._process is None or self._requests < 0:
            return
        self.kill()
        self._reader.join(END_PATIENCE)
        with self._writing:
            self._requests = -1
            cast("IO[bytes]", self._process.stdin).close()
        os.close(self._orders)
        self._orders = -1
        if not self._reader.is_alive():  # else something cannot be killed, and the lock stays taken
            cast("IO[bytes]", self._process.stdout).close()
            self._process.wait()

    def _order(self, order: bytes) -> None:
        self._stopping = True
        with suppress(OSError):  # it is gone, and so are its commands
            os.write(self._orders, order)

    def _send(self, line: bytes) -> bool:
        """Send a request; False after `close`."""
        rest = memoryview(line)
        with self._writing, suppress(BrokenPipeError):  # the reader notices that too, and answers
            while rest:
                if self._requests < 0:
                    return False
                rest = rest[os.write(self._requests, rest) :]
        return True

    def _read(self, results: Iterator[Result]) -> None:
        """Thread: hand each result to its waiter until the supervisor has ended."""
        for result in results:
            with self._guard:
                waiting = self._waiting.get(result["id"])
                listening = self._listening.get(result["id"])
            if "silent" in result:
                if listening is not None:
                    listening(result["silent"])
            elif waiting is not None:
                waiting.put(_ended(result))
        with self._guard:
            self._gone = True
            lost = list(self._waiting.values())
        for waiting in lost:
            waiting.put(_without_result("stopped") if self._killed else _without_result("lost", _GONE))


def read_result(path: Path) -> Ended | None:
    """Return the stored result of a command, perhaps of an earlier run; None if there is none."""
    try:
        return _ended(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None


def sane_path(path: str) -> str:
    """Return PATH without empty and relative parts, which would find programs in the current folder."""
    return os.pathsep.join(part for part in path.split(os.pathsep) if part.startswith("/"))


def _close_to_others() -> None:
    """Protect /proc/PID/environ and the memory of this process from all processes that it starts, except root.

    They contain secrets that are not in an agent's own environment: tokens of forges, keys of other agents.
    """
    import ctypes

    with suppress(AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


_PR_SET_DUMPABLE = 4  # linux/prctl.h
_GONE = "the supervisor of child processes died"


def _without_result(reason: Reason, problem: str = "") -> Ended:
    return _ended({"reason": reason, "problem": problem})


def _ended(result: Result) -> Ended:
    return Ended(
        code=result.get("code"),
        signal=result.get("signal"),
        reason=result["reason"],
        problem=result["problem"],
        seconds=result.get("seconds", 0.0),
        output_bytes=result.get("output_bytes", 0),
        leftovers=result.get("leftovers", 0),
    )


def _request(number: int, command: Command) -> bytes:
    request: Request = {
        "id": number,
        "argv": [_text(part) for part in command.argv],
        "cwd": _text(command.cwd.absolute()),
        "env": {_text(key): _text(value) for key, value in command.env.items()},
        "log": _text(command.log.absolute()),
        "stdin": _optional_text(command.stdin),
        "timeout": command.timeout,
        "idle": command.idle,
        "silent": command.silent,
        "watch": _optional_text(command.watch),
        "output_cap": command.output_cap,
        "output_limit": command.output_limit,
        "grace": command.grace,
        "linger": command.linger,
        "farewell": command.farewell,
        "result_file": _optional_text(command.result_file),
        "secrets": [_text(secret) for secret in command.secrets],
    }
    return json.dumps(request).encode() + b"\n"


def _text(value: str | Path) -> str:
    """Return the bytes that the system would see, in the supervisor's encoding, which is always UTF-8."""
    return os.fsencode(value).decode("utf-8", "surrogateescape")


def _optional_text(path: Path | None) -> str | None:
    return None if path is None else _text(path.absolute())


def _lines(fd: int) -> Iterator[Result]:
    """Yield the JSON lines of a pipe. Unbuffered, because a daemon thread must not hold Python's buffers."""
    rest = b""
    while data := os.read(fd, 65536):
        *lines, rest = (rest + data).split(b"\n")
        yield from map(json.loads, lines)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
