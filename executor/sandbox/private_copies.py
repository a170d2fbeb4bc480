"""Copies of what an agent's program keeps in the home, for one attempt: it may write them, and they are thrown away.

A program's settings, hooks and plug-ins outside the tree run later as the user, outside of any sandbox. So an agent is
given a copy of its folder, and only what its profile names (a log-in that was renewed) is taken back.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.model.agent_profile import Agent

__all__ = ["copies_for", "take_back"]

_LARGEST = 5_000_000
"""Bytes of a file that is copied."""
_MOST = 5_000
"""Files that are copied."""
_LARGEST_BACK = 256 * 1024
"""Bytes of a file that is taken back."""
_LEFT_OUT = frozenset(
    ("projects", "sessions", "history", "file-history", "todos", "logs", "log", "debug", "tmp", "shell-snapshots")
) | {"statsig", "telemetry", "storage", "snapshot", "tool-output", "archived_sessions", "backups"}
"""Folders of past sessions: large, and nothing that an agent needs."""


def copies_for(agent: Agent, folder: Path) -> list[tuple[Path, Path]]:
    """Copies of what a profile names in `copied`, made anew: pairs of the copy and the place where it is seen.

    Raises:
        OSError: there is no room for them.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pairs: list[tuple[Path, Path]] = []
    for number, name in enumerate(agent.copied):
        place = Path(name).expanduser()
        if not place.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        copy = folder / str(number)
        if place.is_dir():
            _copy_folder(place, copy)
        else:
            shutil.copy2(place, copy)
        pairs.append((copy, place))
    return pairs


def take_back(agent: Agent, folder: Path) -> None:
    """Take over what the profile names in `written_back`, as far as it is what it was before; then remove the copies.

    Only a regular file of a sane size counts, and only where there was a file before; JSON has to stay a JSON object.
    """
    if not folder.is_dir():
        return
    try:
        for name in agent.written_back:
            place = Path(name).expanduser()
            data = _written(_copy_of(place, agent.copied, folder))
            if data is None or not place.is_file() or data == place.read_bytes() or not _fits(place, data):
                continue
            fresh = place.with_name(f"{place.name}.{os.getpid()}.new")
            fresh.write_bytes(data)
            shutil.copymode(place, fresh)
            fresh.replace(place)
    except OSError:
        pass  # the log-in of the next attempt is the one from before
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_folder(place: Path, copy: Path) -> None:
    count = 0
    for root, folders, files in os.walk(place):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        inside = copy / Path(root).relative_to(place)
        inside.mkdir(mode=0o700, exist_ok=True)
        for name in files:
            path = Path(root, name)
            facts = path.lstat()
            if stat.S_ISREG(facts.st_mode) and facts.st_size <= _LARGEST and count < _MOST:
                shutil.copy2(path, inside / name)
                count += 1
            elif path.is_symlink():
                (inside / name).symlink_to(path.readlink())


def _copy_of(place: Path, copied: Sequence[str], folder: Path) -> Path | None:
    for number, name in enumerate(copied):
        root = Path(name).expanduser()
        if place == root or root in place.parents:
            return folder / str(number) / place.relative_to(root) if place != root else folder / str(number)
    return None


def _written(path: Path | None) -> bytes | None:
    """Content of a file that an untrusted process may have made; nothing that is a link, on the way or itself."""
    if path is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LARGEST_BACK or path.resolve() != path.absolute():
            return None
        return file.read(_LARGEST_BACK + 1)


def _fits(place: Path, data: bytes) -> bool:
    if place.suffix != ".json":
        return b"\0" not in data
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False
