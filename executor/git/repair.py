"""Loose objects that a power cut left torn or empty: while they exist, git does not write them again.

Files that a killed git process leaves behind.

Lock files would block every later ref update; partial objects only take space.

Loose objects that one pack holds in a fraction of the space.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from executor.git.command import Git
from executor.git.refs import locks_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from executor.git.command import Repository

__all__ = ["pack_loose", "set_aside", "sweep"]


_CHUNK = 1 << 20  # bytes; any size reads as fast
_MANY = 500
"""Loose objects that are worth a pack; git's own limit, 6,700, is far more than a milestone writes."""
_SHA1 = 40  # hexadecimal digits


def pack_loose(repository: Repository) -> int:
    """Move reachable loose objects into one pack if there are many; returns how many are loose no more.

    Unreachable objects and existing packs stay as they are, so nothing is lost, and other processes may read and write
    meanwhile.

    Raises:
        GitError: git cannot write the pack.
    """
    git = Git(repository.git_dir, repository.top)
    before = _count_loose(git)
    if before < _MANY:
        return 0
    git.run("repack", "-d", "-q")
    return before - _count_loose(git)


def _count_loose(git: Git) -> int:
    output = git.run("count-objects", "-v").decode("ascii", "replace")
    return int(next((line.split()[1] for line in output.splitlines() if line.startswith("count:")), 0))


def set_aside(objects: Path, since: float, folder: Path) -> list[str]:
    """Move damaged loose objects that were written after a time (seconds since the epoch) into a folder.

    No data is lost: git cannot read them.

    Returns:
        The names of the moved objects.
    """
    damaged = []
    for path in _loose(objects):
        try:
            if path.stat().st_mtime < since or _is_whole(path):
                continue
        except OSError:
            continue  # it went away meanwhile
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{path.parent.name}{path.name}"
        with suppress(OSError):
            path.replace(folder / name)
            damaged.append(name)
    return damaged


def _loose(objects: Path) -> Iterator[Path]:
    for place in sorted(objects.glob("[0-9a-f][0-9a-f]")):
        with suppress(FileNotFoundError), os.scandir(place) as entries:
            yield from (place / entry.name for entry in entries if not entry.name.startswith("tmp_"))


def _is_whole(path: Path) -> bool:
    """Return whether the content of a loose object matches its name."""
    name = f"{path.parent.name}{path.name}"
    found = hashlib.sha1(usedforsecurity=False) if len(name) == _SHA1 else hashlib.sha256()
    unpacked = zlib.decompressobj()
    try:
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                found.update(unpacked.decompress(data))
        found.update(unpacked.flush())
    except zlib.error:
        return False
    return found.hexdigest() == name


_PATIENCE = 5.0  # seconds; a git that still works in the store ends or is left alone
_WITHOUT_LOCKS = {b"cat-file", b"diff-tree", b"hash-object"}
"""Helpers that live as long as a run, of this process and of others: they take no lock, and their objects are written
once more if one of them fails."""


def _halves(objects: Path) -> list[Path]:
    """Yield temporary files of a killed git in an object store; a concurrent `git gc` may remove folders."""
    found = []
    for folder in sorted(objects.glob("??")):
        with suppress(FileNotFoundError):
            found += [path for path in folder.iterdir() if path.name.startswith("tmp_obj_")]
    with suppress(FileNotFoundError):
        found += [path for path in (objects / "pack").iterdir() if path.name.startswith("tmp_")]
    return found


def sweep(repository: Repository, refs: Iterable[str], *, objects: bool = False) -> list[str]:
    """Remove the locks on these refs, and on the packed refs, once no git process works on the repository any more.

    Args:
        repository: the trusted repository.
        refs: full names, or prefixes that end with a slash.
        objects: also remove partial objects.

    Returns:
        The removed locks, relative to the git directory; none while a git process is alive.
    """
    found = locks_on(repository.common_dir, refs)
    halves = _halves(repository.objects) if objects else []
    if not found and not halves:
        return []
    end = time.monotonic() + _PATIENCE
    while _git_is_at_work(repository):
        if time.monotonic() > end:
            return []
        time.sleep(0.1)
    removed = []
    for path in found:
        with suppress(OSError):
            path.unlink()
            removed.append(str(path.relative_to(repository.common_dir)))
    for path in halves:
        with suppress(OSError):
            path.unlink()
    return removed


def _git_is_at_work(repository: Repository) -> bool:
    """Return whether a live git process names this repository in its arguments or runs in it."""
    found = f"GIT_DIR={repository.common_dir}".encode()
    places = (str(repository.top), str(repository.common_dir))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if not (entry / "comm").read_text(encoding="utf-8", errors="replace").startswith("git"):
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if (
                words[1:2]
                and words[1] in _WITHOUT_LOCKS
                and any(word.startswith((b"--batch", b"--stdin")) for word in words)
            ):
                continue
            here = os.readlink(entry / "cwd")  # noqa: PTH115  (of another process, as text)
            if found in (entry / "environ").read_bytes() or here.startswith(places):
                return True
    return False
