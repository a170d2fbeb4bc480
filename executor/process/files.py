"""Files of the state store: replaced atomically, durable on request, with translated errors.

The current time and the time zone of this machine.

Files from an untrusted process: links are not followed, reads never block, sizes are limited, secrets are removed.

Files for people in an agent's output folder, and texts by people: how their bytes are decoded.
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import json
import os
import re
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError, StateBrokenError, StateFullError
from executor.process.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = [
    "ABSENT",
    "ASKED",
    "HANDOFF",
    "JOURNAL",
    "LOCAL",
    "NO_SPACE",
    "QUESTION_FILE",
    "EncodingError",
    "clock_after",
    "content_of",
    "decoded",
    "files_in",
    "fsync_dir",
    "is_locked",
    "journal_stamp",
    "left_file",
    "local_time",
    "plain_file",
    "question_in",
    "read_json",
    "scrub",
    "segments",
    "stamp",
    "state_error",
    "sweep_temporary",
    "utcnow",
    "write_all",
    "write_atomic",
    "write_json",
    "write_over",
]

ASKED = "_asked.json"
"""File of `.cache/` with the versions of tools to query in each run. A run without it loads no code of checks."""


JOURNAL = "journal.000001.jsonl"
"""Name of the first segment of a milestone's journal in its folder; the number increases with each segment."""
_SEGMENT = re.compile(r"journal\.[0-9]{6}\.jsonl")
_TEMPORARY = re.compile(r"\..+\.([0-9]+)\.[0-9a-f]{8}")
"""Name of the temporary file of `write_atomic`; contains the process id."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a full disk: nothing is broken, and a retry with more space succeeds."""


def stamp(path: Path) -> str:
    """Return a value that changes whenever a file is replaced or written to; empty if it does not exist."""
    try:
        facts = path.stat()
    except OSError:
        return ""
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"


def segments(folder: Path) -> list[str]:
    """Return the names of a journal's segments in a folder, oldest first; none if the folder does not exist."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  (once a milestone on the instant path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if _SEGMENT.fullmatch(name))


def journal_stamp(folder: Path) -> str:
    """Return a value that changes with the journal in a folder: a record, a new segment, a compaction, a repair."""
    return " ".join(f"{name} {stamp(folder / name)}" for name in segments(folder))


def is_locked(path: Path) -> bool:
    """Return whether a live process holds a lock of `executor.process.locks`, without importing that module."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def state_error(path: Path, error: OSError) -> ExecutorError:
    """Return the error class for a failed write."""
    if error.errno in NO_SPACE:
        return StateFullError(f"{path} cannot be written: {error.strerror}; free some space and run again")
    return StateBrokenError(f"{path} cannot be written: {error.strerror or error}")


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, in as many calls as the system needs."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def fsync_dir(folder: Path) -> None:
    """Make the directory entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, *, durable: bool = True, mode: int = 0o600) -> None:
    """Replace a file atomically: readers see the old content or the new one, also after a crash.

    Args:
        path: the file; its folder exists.
        data: the new content.
        durable: whether it must survive a power cut after the return.
        mode: permission bits of a new file.

    Raises:
        StateFullError: the disk is full; the old content remains.
        StateBrokenError: the write failed for another reason; the old content remains.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        if durable:
            fsync_dir(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise state_error(path, error) from error


def write_over(path: Path, data: bytes) -> None:
    """Replace the content of a file of the user: a link remains a link, and the permission bits remain.

    Raises:
        StateFullError: the disk is full; the old content remains.
        StateBrokenError: the write failed for another reason; the old content remains.
    """
    target = path.resolve() if path.is_symlink() else path
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    write_atomic(target, data, durable=False, mode=mode)
    if target.stat().st_mode & 0o777 != mode:
        target.chmod(mode)  # what the umask took from a mode that the file had


def sweep_temporary(folder: Path) -> None:
    """Remove temporary files of processes that died while they replaced a file."""
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208  (as above)
            found = _TEMPORARY.fullmatch(name)
            if found is not None and not os.path.exists(f"/proc/{found[1]}"):  # noqa: PTH110  (as above)
                (folder / name).unlink(missing_ok=True)


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Replace a file by a JSON value; raises the errors of `write_atomic`."""
    write_atomic(path, json.dumps(value).encode(), durable=durable)


def read_json(path: Path) -> Any:
    """Return the JSON value in a cache file; None if there is no readable one."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def content_of(path: Path) -> bytes:
    """Return the content of a file; empty if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def utcnow() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def clock_after(seconds: float) -> str:
    """Format a future time for people, for example ``in 30 s, at 04:12:05 CET``."""
    moment = datetime.now().astimezone() + timedelta(seconds=seconds)
    return f"in {seconds:.0f} s, at {moment:%H:%M:%S %Z}"


def local_time(at: str) -> str:
    """Format an ISO-8601 time as local time with its zone, for people; other text is unchanged."""
    try:
        return f"{datetime.fromisoformat(at).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    except ValueError:
        return at


class _Local(tzinfo):
    """The time zone of the system, with all its daylight-saving changes."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Return the offset from UTC of a local time."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _moment: datetime | None) -> timedelta | None:
        """Unknown; not needed here."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """Return the name of the offset."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        """Return the local time of a UTC time."""
        local = moment.replace(tzinfo=UTC).astimezone()
        return local.replace(tzinfo=self)


LOCAL = _Local()
"""The time zone of the machine."""


ABSENT = "is not there"
_MOST_FILES = 1000  # files; bounds the work of taking up a folder that an agent left
_MOST_BYTES = 64 * 2**20  # bytes; as the files
_LARGEST = 1024 * 1024  # bytes of one small file that an agent leaves, unless the caller says more


def plain_file(folder: Path, name: str, most: int) -> tuple[bytes, bytes] | None:
    """Return git's mode and the content of a file, empty ones if it does not exist; None for anything else.

    Args:
        folder: the folder; only paths below it are untrusted.
        name: path inside it.
        most: maximum size in bytes.
    """
    try:
        mode = os.lstat(folder / name).st_mode
    except OSError as error:
        return (b"", b"") if isinstance(error, FileNotFoundError) else None
    data = left_file(folder, name, most=most) if stat.S_ISREG(mode) else ABSENT
    return None if isinstance(data, str) else (b"100755" if mode & stat.S_IXUSR else b"100644", data)


def left_file(out: Path, name: str, secrets: Iterable[str] = (), most: int = _LARGEST) -> bytes | str:
    """Return the content of an agent's file, or one phrase why it is refused; links, pipes and devices are not opened.

    Args:
        out: the folder; only paths below it are untrusted.
        name: path inside it.
        secrets: values to remove.
        most: maximum size in bytes.
    """
    folder = -1
    try:
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        *folders, last = name.split("/")
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        return ABSENT if isinstance(error, FileNotFoundError) else "is not a regular file"
    finally:
        if folder >= 0:
            os.close(folder)
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            return "is not a regular file"
        data = opened.read(most + 1)
    if len(data) > most:
        return f"is larger than {most // 1024} KiB"
    values = tuple(secrets)
    return Redactor(values).redact(data) if values else data


def end_of(path: Path, most: int) -> str:
    """Return the end of a text file, at most so many bytes; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - most, 0))
            return file.read(most).decode("utf-8", "replace")
    except OSError:
        return ""


def scrub(folder: Path, clean: Callable[[bytes], bytes]) -> None:
    """Rewrite every file of a folder that `clean` alters; remove files that cannot be cleaned (too many, too large)."""
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not os.path.islink(os.path.join(place, name))]  # noqa: PTH114, PTH118
        for name in names:
            seen += 1
            path = folder / place / name
            data = left_file(path.parent, name, most=_MOST_BYTES) if seen <= _MOST_FILES else "is one file too many"
            if isinstance(data, str):
                if not path.is_symlink() or seen > _MOST_FILES:
                    with suppress(OSError):
                        path.unlink()
            elif (cleaned := clean(data)) != data:
                with suppress(OSError):
                    path.unlink()
                with suppress(ExecutorError):
                    write_atomic(path, cleaned, durable=False)


HANDOFF = "handoff.md"
QUESTION_FILE = "question.md"
_MOST_QUESTION = 8_000  # characters; a person has to read it


def question_in(out: Path, secrets: Iterable[str] = ()) -> str:
    """Return the question that an agent left for a person; empty without one."""
    data = left_file(out, QUESTION_FILE, secrets)
    return data.decode("utf-8", "replace").strip()[:_MOST_QUESTION] if isinstance(data, bytes) else ""


_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class EncodingError(ValueError):
    """A text that is not UTF-8; the message has the position, in one line."""


def files_in(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder with a suffix, sorted by name.

    Hidden files, leftovers of editors and operating systems, folders and dangling links are excluded.
    """
    return [
        path
        for path in sorted(folder.glob(f"*{suffix}"))
        if not path.name.startswith((".", "#", "~")) and path.is_file()
    ]


def decoded(data: bytes) -> str:
    """Decode a file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Raises:
        EncodingError: it is in another encoding.
    """
    if data.startswith(_UTF16):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise EncodingError(f"begins like UTF-16 but is not valid: {error.reason}; save it as UTF-8") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EncodingError(
            f"is not UTF-8 in line {line}: byte 0x{data[error.start]:02x} at {error.start}; save it as UTF-8"
        ) from error
    if text[1:2] == "\0":
        raise EncodingError("is not UTF-8 in line 1: it looks like UTF-16 without a byte order mark; save it as UTF-8")
    return text
