"""Files that an untrusted process may have left: never followed, never waited for, bounded, and without secrets."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.adapters.files import write_atomic
from executor.errors import ExecutorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["read_left", "scrub"]

_MOST_FILES = 1000
_MOST_BYTES = 64 * 2**20


def read_left(path: Path, most: int) -> bytes | None:
    """At most that many bytes of an ordinary file; None if there is none: links, pipes and devices are not opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor)
        return file.read(most) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def scrub(folder: Path, clean: Callable[[bytes], bytes]) -> None:
    """Rewrite every file of a folder that `clean` alters; what cannot be cleaned (too many, too large) is removed."""
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not os.path.islink(os.path.join(place, name))]  # noqa: PTH114, PTH118
        for name in names:
            seen += 1
            path = folder / place / name
            data = read_left(path, _MOST_BYTES + 1) if seen <= _MOST_FILES else None
            if data is None or len(data) > _MOST_BYTES:
                if not path.is_symlink() or seen > _MOST_FILES:
                    with suppress(OSError):
                        path.unlink()
            elif (cleaned := clean(data)) != data:
                with suppress(OSError):
                    path.unlink()
                with suppress(ExecutorError):
                    write_atomic(path, cleaned, durable=False)
