"""Where commands print. Output never changes what a command with effects does.

A closed pipe, a full disk, a terminal that is stopped and an encoding without the letter are the output's own business:
the work goes on, and the exit code says what came of the work.
"""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Stream", "complain", "discard", "drain", "may_refuse", "protected", "readable", "reopen_closed"]


class Stream:
    """Stands in for a text stream; `write` neither raises nor waits, whatever becomes of the stream.

    One thread writes for all instances, so that lines of standard output and of standard error keep their order.
    """

    _queue: queue.SimpleQueue[tuple[Stream, bytes] | threading.Event] = queue.SimpleQueue()
    _writer: threading.Thread | None = None

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.lost: OSError | ValueError | None = None
        """Why nothing more is written."""
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            self.lost = error

    def write(self, text: str) -> int:
        """Have a text written; letters that the encoding lacks become escapes."""
        self._queue.put((self, text.encode(self._encoding, "backslashreplace")))
        self._start()
        return len(text)

    def flush(self) -> None:
        """Nothing to do: what was written is on its way. See `drain`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @classmethod
    def _start(cls) -> None:
        if cls._writer is None or not cls._writer.is_alive():
            cls._writer = threading.Thread(target=cls._write_on, name="output", daemon=True)
            cls._writer.start()

    @classmethod
    def _write_on(cls) -> None:
        while True:
            item = cls._queue.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            output, data = item
            if output.lost is None:
                try:
                    output._put(data)  # noqa: SLF001  (its own class)
                except (OSError, ValueError) as error:
                    output.lost = error

    def _put(self, data: bytes) -> None:
        """Past the stream's own buffer: what is left in that would be written again when the interpreter ends."""
        try:
            descriptor = self._stream.fileno()
        except OSError:  # a stream in memory
            self._stream.write(data.decode(self._encoding))
            return
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:  # another program has made the terminal or the pipe non-blocking
                select.select([], [descriptor], [])

    @classmethod
    def wait(cls) -> None:
        """Wait until everything is written or lost."""
        if cls._writer is not None and cls._writer.is_alive():
            done = threading.Event()
            cls._queue.put(done)
            done.wait()


def drain() -> None:
    """Wait until everything printed so far is written or lost."""
    Stream.wait()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


@contextmanager
def protected() -> Iterator[None]:
    """Make standard output and standard error such that printing cannot end or delay what the block does.

    At the end it waits for the output, and says on standard error why some of it was lost. A pipe that was closed by
    its reader is no loss.
    """
    if isinstance(sys.stdout, Stream):
        yield
        return
    kept = sys.stdout, sys.stderr
    out, err = Stream(sys.stdout), Stream(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        with suppress(KeyboardInterrupt):  # the output is waited for no longer
            Stream.wait()
            if isinstance(out.lost, OSError) and not isinstance(out.lost, BrokenPipeError):
                err.write(f"note: standard output was not written in full ({out.lost.strerror})\n")
                Stream.wait()
        sys.stdout, sys.stderr = kept


def complain(text: str) -> None:
    """Write to standard error, if that is possible."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        discard(2)


def discard(descriptor: int) -> None:
    """Lead a descriptor to the null device.

    What is left in the buffer of its stream would raise the same error again when the interpreter ends.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def may_refuse() -> bool:
    """Whether standard output is non-blocking: another program that shares the terminal or the pipe has made it so.

    A write then fails when the reader is slow, which says nothing about the reader.
    """
    try:
        return not os.get_blocking(sys.stdout.fileno())
    except (OSError, ValueError):
        return False


def readable() -> None:
    """Have letters that the encoding of the output lacks written as escapes instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict":
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text stream, as it has errors


def reopen_closed() -> None:
    """Open the null device in place of standard streams that were closed when the process began.

    Otherwise the next file that is opened, a journal perhaps, would become standard output, of children as well.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
