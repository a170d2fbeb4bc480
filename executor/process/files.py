"""Files of the state store: replaced whole or not at all, durable when asked, foreign errors translated.

The present moment and the zone of this machine's clock.

Files that an untrusted process may have left: never followed, never waited for, bounded, and without secrets.

Files for people in an agent's output folder.
"""

from __future__ import annotations

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
    "HANDOFF",
    "JOURNAL",
    "LOCAL",
    "NO_SPACE",
    "QUESTION_FILE",
    "clock_after",
    "fsync_dir",
    "is_locked",
    "journal_stamp",
    "left_file",
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


JOURNAL = "journal.000001.jsonl"
"""Name of the first segment of a milestone's journal in its folder; the next one has the next number."""
_SEGMENT = re.compile(r"journal\.[0-9]{6}\.jsonl")
_TEMPORARY = re.compile(r"\..+\.([0-9]+)\.[0-9a-f]{8}")
"""Name of the file that `write_atomic` writes before it puts it in its place; has the id of the process."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that mean that there is no room: nothing is broken, try again when there is."""


def stamp(path: Path) -> str:
    """Changes whenever a file is replaced or written to; empty while there is none."""
    try:
        facts = path.stat()
    except OSError:
        return ""
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"


def segments(folder: Path) -> list[str]:
    """Names of the segments of a journal that are in a folder, oldest first; none if there is no such folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  (once a milestone on the instant path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if _SEGMENT.fullmatch(name))


def journal_stamp(folder: Path) -> str:
    """Changes whenever the journal in a folder does: a record, a new segment, a compaction, a repair."""
    return " ".join(f"{name} {stamp(folder / name)}" for name in segments(folder))


def is_locked(path: Path) -> bool:
    """Whether a live process holds a lock of `executor.process.locks`; asked without loading that."""
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
    """The situation that a failed write amounts to."""
    if error.errno in NO_SPACE:
        return StateFullError(f"{path} cannot be written: {error.strerror}; free some space and run again")
    return StateBrokenError(f"{path} cannot be written: {error.strerror or error}")


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, however little the system takes at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def fsync_dir(folder: Path) -> None:
    """Make the names in a folder durable."""
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
        durable: whether it has to survive a power cut once this returns.
        mode: permission bits of a new file.

    Raises:
        StateFullError: there is no space; the old content is still there.
        StateBrokenError: it cannot be written for another reason; the old content is still there.
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
    """Replace the content of a file of the user's: a link stays a link, and the permission bits stay.

    Raises:
        StateFullError: there is no space; the old content is still there.
        StateBrokenError: it cannot be written for another reason; the old content is still there.
    """
    target = path.resolve() if path.is_symlink() else path
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    write_atomic(target, data, durable=False, mode=mode)
    if target.stat().st_mode & 0o777 != mode:
        target.chmod(mode)  # what the umask took from a mode that the file had


def sweep_temporary(folder: Path) -> None:
    """Remove what processes left in a folder that died while they replaced a file."""
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208  (as above)
            found = _TEMPORARY.fullmatch(name)
            if found is not None and not os.path.exists(f"/proc/{found[1]}"):  # noqa: PTH110  (as above)
                (folder / name).unlink(missing_ok=True)


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Replace a file by a JSON value; errors as `write_atomic`."""
    write_atomic(path, json.dumps(value).encode(), durable=durable)


def read_json(path: Path) -> Any:
    """The JSON value in a cache file; None if there is none that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def utcnow() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def clock_after(seconds: float) -> str:
    """A moment to come as people read it, for example ``in 30 s, at 04:12:05``."""
    moment = datetime.now().astimezone() + timedelta(seconds=seconds)
    return f"in {seconds:.0f} s, at {moment:%H:%M:%S}"


class _Local(tzinfo):
    """The zone that the system is set to, with its changes between summer and winter, past and to come."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Difference from UTC when a local clock shows this."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _moment: datetime | None) -> timedelta | None:
        """Unknown; nothing here needs it."""
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """Name of the offset."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        """The local time of a moment given in UTC."""
        local = moment.replace(tzinfo=UTC).astimezone()
        return local.replace(tzinfo=self)


LOCAL = _Local()
"""The machine's own zone."""


ABSENT = "is not there"
_MOST_FILES = 1000
_MOST_BYTES = 64 * 2**20
_LARGEST = 1024 * 1024


def left_file(out: Path, name: str, secrets: Iterable[str] = (), most: int = _LARGEST) -> bytes | str:
    """Content of a file that was left, or one phrase why it cannot be taken: links, pipes and devices are not opened.

    Args:
        out: the folder; only what is below it is looked at with suspicion.
        name: path inside it.
        secrets: values that are taken out.
        most: largest size in bytes.
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
    return Redactor(secrets).redact(data)


def scrub(folder: Path, clean: Callable[[bytes], bytes]) -> None:
    """Rewrite every file of a folder that `clean` alters; remove files that cannot be cleaned (too many, too large)."""
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not os.path.islink(os.path.join(place, name))]  # noqa: PTH114, PTH118
        for name in names:
            seen += 1
            path = folder / place / name
            data = left_file(path.parent, name, most=_MOST_BYTES) if seen <= _MOST_FILES else "is one of too many"
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
_MOST_QUESTION = 8_000


def question_in(out: Path, secrets: Iterable[str] = ()) -> str:
    """The question that an agent left for a person; empty when it left none."""
    data = left_file(out, QUESTION_FILE, secrets)
    return data.decode("utf-8", "replace").strip()[:_MOST_QUESTION] if isinstance(data, bytes) else ""
