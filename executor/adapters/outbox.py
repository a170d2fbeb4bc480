"""What an agent left in its output folder: regular files of a sane size, never through a link, without secrets."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from executor.core.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["HANDOFF", "QUESTION_FILE", "left_file", "question_in"]

HANDOFF = "handoff.md"
QUESTION_FILE = "question.md"
_MOST_BYTES = 1024 * 1024
_MOST_QUESTION = 8_000


def left_file(out: Path, name: str, secrets: Iterable[str] = (), most: int = _MOST_BYTES) -> bytes | str:
    """Content of a file that was left, or one phrase why it cannot be taken.

    Args:
        out: the agent's output folder.
        name: path inside it.
        secrets: values that are taken out.
        most: largest size in bytes.
    """
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *folders, last = name.split("/")
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        return "is not there" if isinstance(error, FileNotFoundError) else "is not a regular file"
    finally:
        os.close(folder)
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            return "is not a regular file"
        data = opened.read(most + 1)
    if len(data) > most:
        return f"is larger than {most // 1024} KiB"
    return Redactor(secrets).redact(data)


def question_in(out: Path, secrets: Iterable[str] = ()) -> str:
    """The question that an agent left for a person; empty when it left none."""
    data = left_file(out, QUESTION_FILE, secrets)
    return data.decode("utf-8", "replace").strip()[:_MOST_QUESTION] if isinstance(data, bytes) else ""
