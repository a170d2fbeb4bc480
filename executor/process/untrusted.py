"""Files that an untrusted process may have left: never followed, never waited for, bounded, and without secrets.

Files for people in an agent's output folder.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.process.files import write_atomic
from executor.process.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = ["ABSENT", "HANDOFF", "QUESTION_FILE", "left_file", "question_in", "scrub"]


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
