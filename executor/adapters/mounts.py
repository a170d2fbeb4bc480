"""Which kind of file system something is on, as the kernel tells it of this process."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["file_system_in", "file_system_of"]

_MOUNT = re.compile(r"(?m)^mnt_id:\s*([0-9]+)$")


def file_system_of(folder: Path) -> str:
    """Type of the file system that a folder is on, for example ``nfs4``; empty where the system does not say."""
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        try:
            told = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
        finally:
            os.close(descriptor)
        table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    mount = _MOUNT.search(told)
    return file_system_in(table, mount[1]) if mount is not None else ""


def file_system_in(table: str, mount: str) -> str:
    """Type of the mount of that number in the text of /proc/self/mountinfo; see proc_pid_mountinfo(5)."""
    for line in table.splitlines():
        number, _, rest = line.partition(" ")
        if number == mount:
            return rest.partition(" - ")[2].partition(" ")[0]
    return ""
