"""The output of commands. It never changes the effects of a command.

A closed pipe, a full disk, a stopped terminal and a missing letter in the encoding affect only the output: the work
continues, and the exit code reports the work.

Times and amounts of money in it have one format.
"""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Stream",
    "ago",
    "as_text",
    "clock",
    "complain",
    "discard",
    "drain",
    "may_refuse",
    "money",
    "prepare",
    "protected",
    "readable",
    "reopen_closed",
    "stream_of",
]


class Stream:
    """Replaces a text stream; `write` neither raises nor waits, whatever happens to the stream.

    One thread writes for all instances, so lines of standard output and standard error keep their order.
    """

    _queue: queue.SimpleQueue[tuple[Stream, bytes] | threading.Event] = queue.SimpleQueue()
    _writer: threading.Thread | None = None

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.lost: OSError | ValueError | None = None
        """Why nothing more is written; None while it is."""
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            self.lost = error

    def write(self, text: str) -> int:
        """Queue a text; letters that the encoding lacks become escapes."""
        self._queue.put((self, text.encode(self._encoding, "backslashreplace")))
        self._start()
        return len(text)

    def flush(self) -> None:
        """Do nothing: written text is already queued. See `drain`."""

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
        """Write past the stream's buffer, whose remains would be written again at interpreter exit."""
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
    """Protect a block from its output: printing can neither end nor delay it.

    At the end it waits for the output, and reports lost output on standard error. A pipe that its reader closed is no
    loss.
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
    """Write to standard error if possible."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        discard(2)


def discard(descriptor: int) -> None:
    """Redirect a descriptor to the null device.

    Data left in the buffer of its stream would raise the same error again at interpreter exit.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def may_refuse() -> bool:
    """Return whether standard output is non-blocking, which another program on the same terminal or pipe may cause.

    A write then fails if the reader is slow, which is no error of the reader.
    """
    try:
        return not os.get_blocking(sys.stdout.fileno())
    except (OSError, ValueError):
        return False


_PROGRAMS = frozenset({"doit", "make-for-milestones", "__main__.py"})
_STREAMS = "_MAKE_FOR_MILESTONES_STREAMS"


def prepare() -> None:
    """Make the process independent of the state of its streams and of the locale's encoding."""
    reopen_closed()
    _use_utf8()
    readable()


def _use_utf8() -> None:
    """Start the program again in Python's UTF-8 mode (PEP 540) if the locale's encoding cannot express every text.

    Otherwise titles, paths and variables outside of that encoding could not be passed to git, agents and checks.
    The output stays in the locale's encoding.
    """
    if sys.getfilesystemencoding() != "utf-8":
        # A script that embeds doit must not be started a second time.
        if Path(sys.argv[0]).name in _PROGRAMS:
            words = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
            os.execve(sys.executable, words, {**os.environ, _STREAMS: sys.stdout.encoding})  # noqa: S606  (Python itself)
    elif encoding := os.environ.pop(_STREAMS, None):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=encoding)  # type: ignore[union-attr]  # a text stream, as none is closed now


def as_text(words: list[str]) -> list[str]:
    """Return words of a command line; bytes that are not UTF-8 are read in the locale's encoding.

    Raises:
        UsageError: a word is in neither encoding.
    """
    return [word if word.isascii() else _as_text(word) for word in words]


def _as_text(word: str) -> str:
    from locale import getencoding

    encoding = getencoding()
    try:
        return (
            word if not any("\udc80" <= letter <= "\udcff" for letter in word) else os.fsencode(word).decode(encoding)
        )
    except UnicodeDecodeError:
        wanted = "UTF-8" if encoding.upper() in {"UTF-8", "ANSI_X3.4-1968"} else f"UTF-8 or {encoding}"
        raise UsageError(f"expected text in {wanted}, found {ascii(os.fsencode(word))[2:-1]}") from None


def readable() -> None:
    """Write letters that the output encoding lacks as escapes instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        errors, utf = getattr(stream, "errors", ""), getattr(stream, "encoding", "").lower().startswith("utf")
        # In the C locale Python chooses "surrogateescape" (PEP 538), which raises for every letter that ASCII lacks.
        if errors == "strict" or (errors == "surrogateescape" and not utf):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text stream, as it has errors


def reopen_closed() -> None:
    """Open the null device in place of standard streams that were closed at process start.

    Otherwise the next opened file, perhaps a journal, would become standard output, also for children.
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


@contextmanager
def stream_of(outfile: Any) -> Iterator[Any]:
    """Return the stream for the lines of a run: standard output, or the file of `--output-file`."""
    if not isinstance(outfile, str):
        yield sys.stdout
        return
    try:
        file = Path(outfile).open("w", encoding="utf-8")  # noqa: SIM115  (closed below, where errors are of no importance)
    except OSError as error:
        raise UsageError(f"--output-file {outfile}: {error.strerror}") from error
    stream = Stream(file)
    try:
        yield stream
    finally:
        stream.wait()
        with suppress(OSError):
            file.close()


_HOUR = 3600  # seconds


def ago(seconds: float) -> str:
    """Format a duration: ``0:04``, ``12:31``, ``1:02:03``."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, _HOUR)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def clock(at: float, now: float) -> str:
    """Format a local time with its zone, with the weekday if it is not today, with the date if it is not this week."""
    there, here = (datetime.fromtimestamp(item).astimezone() for item in (at, now))
    days = abs((there.date() - here.date()).days)
    if not days:
        return f"{there:%H:%M %Z}"
    return f"{there:%a %H:%M %Z}" if days < 7 else f"{there:%Y-%m-%d %H:%M %Z}"  # noqa: PLR2004  (days of a week)


def money(dollars: float) -> str:
    """Format an amount of money."""
    return f"${dollars:.2f}"
