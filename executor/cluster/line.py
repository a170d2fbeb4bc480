"""Both ends of the connection to a worker behind a `prefix`, with heartbeats in both directions.

The end of a connection often does not arrive: Slurm, Kubernetes and containers keep the standard input of a process
open when their client is killed, and a host without power closes nothing. So each side writes something every few
seconds, and a side that hears nothing for long ends its work. Silence is counted in short waits, and only if nothing
has arrived: a process that was suspended itself has not heard the other one, and blames nobody for it.

The end of the coordinator is a program: ``python -I -S line.py GIVEN ANSWER BEAT_S PATIENCE_S WORD...``. It starts the
words, feeds them the order and then heartbeats, and writes their standard output into a file. It imports nothing of
the executor, because every order starts it. SIGTERM asks it to say farewell to the worker.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

__all__ = ["BEAT", "CONNECTION", "Line", "LineLostError", "asked", "command", "main"]

CONNECTION = 2
"""Protocol number of the connection. With 1, the order ends with the end of file, and nobody sends heartbeats."""
BEAT = b"make-for-milestones beat"
"""The line that a worker writes when it begins, and then every few seconds."""
_PULSE, _FAREWELL = b"\n", b"end\n"
"""Heartbeat and farewell of the coordinator, behind the order."""
_TICK_S = 1.0  # seconds of one wait, so the most that a suspended process counts is two of them
_FIRST_S = 600.0
"""Seconds that a worker waits for the first line of its order."""
_LEAVE_S = 2.0
"""Seconds that a worker has to end by itself after a farewell."""
_EXIT_S = 60.0
"""Seconds that a worker has to remove its files after the connection is lost."""
_LOOK_MS = 200  # milliseconds until a worker notices that its command is over
_QUIET_S = 0.2  # seconds for the rest of an answer after the end of its process; a choice
_LEFT = 255  # exit code of ssh for a connection that broke
_CHUNK = 2**16  # bytes of one read: the size of a pipe on Linux
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class _Silence:
    """Seconds of silence, counted in waits that are short, so that time in which this process slept counts once."""

    def __init__(self) -> None:
        self.seconds, self._looked = 0.0, time.monotonic()

    def passed(self) -> float:
        """Count the time since the last call, as one tick at most; returns the seconds of silence so far."""
        now = time.monotonic()
        self.seconds += min(now - self._looked, 2 * _TICK_S)
        self._looked = now
        return self.seconds

    def broken(self) -> None:
        """Something was heard."""
        self.seconds, self._looked = 0.0, time.monotonic()


class _Relay:
    """The end at the coordinator.

    Args:
        process: the started prefix, with pipes.
        order: the order.
        answer: file for its standard output.
        beat: seconds between two heartbeats.
    """

    def __init__(self, process: subprocess.Popen[bytes], order: IO[bytes], answer: int, beat: float) -> None:
        assert process.stdin is not None  # noqa: S101 - PIPE was asked for
        assert process.stdout is not None  # noqa: S101 - as above
        self._process, self._order, self._answer, self._beat = process, order, answer, beat
        self._into, self._from = process.stdin.fileno(), process.stdout.fileno()
        for fd in (self._into, self._from):
            os.set_blocking(fd, False)
        self._exited = os.pidfd_open(process.pid)
        self._rest = order.read(_CHUNK)
        self._seen = b""
        self._begun = False
        self._silence = _Silence()
        self._due = time.monotonic() + beat
        self._asked, wake = os.pipe()  # a signal ends the wait
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGTERM, lambda *_: None)
        self._poll = select.poll()
        self._poll.register(self._into, select.POLLOUT)
        for fd in (self._from, self._exited, self._asked):
            self._poll.register(fd, select.POLLIN)
        self._leaving = False

    def run(self, patience: float) -> int:
        """Relay until the prefix ends; returns its exit code.

        Args:
            patience: seconds of silence of the worker, after its first heartbeat, until it counts as lost.
        """
        parent = os.getppid()
        while not self._leaving and os.getppid() == parent:
            if self._step():
                return self._ended()
            if self._begun and self._silence.passed() > patience:
                problem = f"has been silent for {patience:g} s (patience_s)"
                os.write(self._answer, b"\n" + json.dumps({"protocol": CONNECTION, "problem": problem}).encode())
                break
        return self._leave()

    def _step(self) -> bool:
        """Handle what has happened within a tick; returns whether the prefix has ended."""
        wait = min(_TICK_S, max(0.0, self._due - time.monotonic()))
        for fd, what in self._poll.poll(wait * 1000 + 1):
            if fd == self._into:
                self._send() if what & select.POLLOUT else self._close()
            elif fd == self._from and not self._receive():
                self._poll.unregister(fd)
            elif fd == self._asked:
                self._leaving = bool(os.read(fd, _CHUNK))
            elif fd == self._exited:
                return True
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._beat
            if self._into >= 0 and not self._rest:
                with suppress(OSError):  # a full pipe has beats enough, and the end of the prefix is noticed elsewhere
                    os.write(self._into, _PULSE)
        return False

    def _send(self) -> None:
        """Send a part of the order."""
        try:
            self._rest = self._rest[os.write(self._into, self._rest) :] or self._order.read(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._close()
            return
        if not self._rest:
            self._poll.modify(self._into, 0)

    def _close(self) -> None:
        if self._into >= 0:
            self._poll.unregister(self._into)
            self._process.stdin.close()  # type: ignore[union-attr]
            self._into, self._rest = -1, b""

    def _receive(self) -> bool:
        """Store a part of the answer; returns whether there may be more."""
        try:
            data = os.read(self._from, _CHUNK)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._silence.broken()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._answer, rest) :]
        if not self._begun:
            self._seen = self._seen[-len(BEAT) :] + data
            self._begun = BEAT in self._seen
        return True

    def _ended(self) -> int:
        """Take the rest of the answer; a process in the background, such as a master of ssh, may keep the pipe open."""
        while select.select([self._from], [], [], _QUIET_S)[0] and self._receive():
            pass
        return _code(self._process.wait())

    def _leave(self) -> int:
        """Say farewell to the worker, then end the prefix."""
        if self._into >= 0 and not self._rest:
            with suppress(OSError):
                os.write(self._into, _FAREWELL)
        self._close()
        until = time.monotonic() + _LEAVE_S
        while time.monotonic() < until:
            if self._step():
                return self._ended()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_QUIET_S)
        return _LEFT


def _code(status: int) -> int:
    return status if status >= 0 else 128 - status


def command(given: str, answer: str, beat: float, patience: float, words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command of a connection: files of the order and of the answer, seconds, the prefix with the worker.

    Everything that a connection starts ends with it. So it may use a master of ssh, but must not become one for other
    connections, which would end, too.
    """
    if os.path.basename(words[0]) == "ssh":  # noqa: PTH119 - pathlib costs more than all other imports
        words = (words[0], "-oControlMaster=no", *words[1:])
    itself = (sys.executable, "-I", "-S", "-B", "-X", "utf8", __file__)
    return (*itself, given, answer, str(beat), str(patience), *words)


def asked(words: tuple[str, ...], question: bytes, seconds: float, env: dict[str, str]) -> tuple[bytes, str]:
    """Ask the worker behind a prefix a question; returns its standard output and standard error.

    It uses files, because a process that the prefix leaves in the background would hold pipes open.

    Raises:
        TimeoutError: there is no answer within these seconds.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ask-") as folder, tempfile.TemporaryFile() as said:
        given, answer = f"{folder}/question", f"{folder}/answer"
        with open(given, "wb") as file:  # noqa: PTH123 - as above
            file.write(question)
        argv = command(given, answer, seconds, seconds, words)
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env) as process:
            try:
                process.wait(seconds)
            except BaseException as error:
                process.terminate()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise TimeoutError(f"no answer within {seconds:g} s") from error
                raise
        said.seek(0)
        with suppress(FileNotFoundError), open(answer, "rb") as file:  # noqa: PTH123 - as above
            return file.read(), said.read().decode("utf-8", "replace")
        return b"", said.read().decode("utf-8", "replace")


def main(words: list[str]) -> int:
    """Connect: GIVEN ANSWER BEAT_S PATIENCE_S WORD...; returns the exit code of the words."""
    given, answer, beat, patience, *argv = words
    try:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        return 127
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(given, "rb") as order:  # noqa: PTH123 - pathlib costs more than all other imports
        return _Relay(process, order, os.open(answer, flags, 0o600), float(beat)).run(float(patience))


class LineLostError(Exception):
    """The coordinator, or the connection to it, is gone."""


class Line:
    """The end at the worker.

    Args:
        given: descriptor of its standard input, with the order.
        answer: descriptor of its standard output.
    """

    def __init__(self, given: int, answer: int) -> None:
        self.lost = ""
        """Why the connection counts as lost; empty while it holds."""
        self._given, self._answer = given, answer
        self._buffer = bytearray()
        self._left: int | None = None
        self._patience = _FIRST_S
        self._kill: Callable[[], None] | None = None
        self._lock = threading.Lock()  # of the loss and what it kills
        self._writing = threading.Lock()

    def readline(self, limit: int) -> bytes:
        """Return the next line of the order."""
        while b"\n" not in self._buffer and len(self._buffer) < limit and self._fill():
            pass
        return self.read(min(self._buffer.find(b"\n") + 1 or len(self._buffer), limit))

    def read(self, size: int) -> bytes:
        """Return the next part of the order; empty at its end.

        Raises:
            LineLostError: it stops in the middle.
        """
        size = size if self._left is None else min(size, self._left)
        while len(self._buffer) < size and self._fill():
            pass
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._left is not None:
            if len(data) < size:
                raise LineLostError("the order ends in the middle")
            self._left -= size
        return data

    def _fill(self) -> bool:
        silence = _Silence()
        while not select.select([self._given], [], [], _TICK_S)[0]:
            if silence.passed() > self._patience:
                raise LineLostError(f"the order has stopped for {self._patience:g} s in the middle")
        data = os.read(self._given, _CHUNK)
        self._buffer += data
        return bool(data)

    @contextmanager
    def kept(self, beat: float, patience: float, size: int | None) -> Iterator[None]:
        """Send and expect heartbeats during the block; the process exits if the block outlives a loss.

        Args:
            beat: seconds between two heartbeats; 0: the coordinator is an older one that neither sends nor wants any.
            patience: seconds without a heartbeat until the connection counts as lost.
            size: bytes of the order behind its first line, which heartbeats follow; None: up to the end of file.
        """
        self._left, self._patience = size, patience if beat else _FIRST_S
        over = threading.Event()
        if beat:
            self._beaten()  # before any work: from the first heartbeat on, the coordinator counts the silence
        threading.Thread(target=self._keep, args=(over, beat, patience), daemon=True).start()
        try:
            yield
        finally:
            over.set()

    @contextmanager
    def ending(self, kill: Callable[[], None]) -> Iterator[None]:
        """Call `kill` if the connection is lost before the end of the block."""
        with self._lock:
            self._kill = kill
        if self.lost:
            kill()
        try:
            yield
        finally:
            with self._lock:
                self._kill = None

    def send(self, line: bytes) -> None:
        """Write the answer.

        Raises:
            LineLostError: nobody reads it.
        """
        with self._writing:
            rest = memoryview(line + b"\n")
            while rest and not self.lost:
                try:
                    rest = rest[os.write(self._answer, rest) :]
                except BlockingIOError:  # a pipe that ssh shares with others may not block
                    select.select([], [self._answer], [], _TICK_S)
                except BrokenPipeError as error:
                    raise LineLostError("nobody reads the answer") from error
        if self.lost:
            raise LineLostError(self.lost)

    def _keep(self, over: threading.Event, beat: float, patience: float) -> None:
        """Thread: beat and listen until the block is over or the connection is lost."""
        poll, silence, due = select.poll(), _Silence(), time.monotonic() + beat
        poll.register(self._answer, 0)  # an error or a hang-up is always reported
        listening = False
        while not over.is_set() and not self.lost:
            if beat and self._left == 0 and not listening:
                listening = True
                poll.register(self._given, select.POLLIN)
                silence.broken()
                self._hear(bytes(self._buffer) or _PULSE)
            found = dict(poll.poll(_LOOK_MS))
            if found.get(self._answer, 0) & _GONE:
                self._lose("nobody reads the answer")
            elif self._given in found:
                silence.broken()
                self._hear(os.read(self._given, _CHUNK))
            elif listening and silence.passed() > patience:
                self._lose(f"the coordinator has been silent for {patience:g} s")
            if beat and time.monotonic() >= due and self._beaten():
                due = time.monotonic() + beat
        if self.lost and not over.wait(_EXIT_S):
            os._exit(1)

    def _hear(self, data: bytes) -> None:
        if not data or _FAREWELL.strip() in data:
            self._lose("the coordinator has ended")

    def _beaten(self) -> bool:
        """Write a heartbeat unless the answer is being written or the pipe is full."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            if select.select([], [self._answer], [], 0)[1]:
                with suppress(OSError):
                    os.write(self._answer, b"\n" + BEAT + b"\n")
        finally:
            self._writing.release()
        return True

    def _lose(self, why: str) -> None:
        with self._lock:
            self.lost = why
            if self._kill is not None:
                self._kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
