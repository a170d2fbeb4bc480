"""Objects by any name that git understands, read through one helper process."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from executor.errors import GitError
from executor.git.command import git_program

if TYPE_CHECKING:
    from pathlib import Path

    from executor.git.command import Git

__all__ = ["BlobReader", "GitObject"]

_HEADER_PARTS = 3


@dataclass(frozen=True, slots=True)
class GitObject:
    """One object: full id, kind (blob, tree, commit, tag), content."""

    id: str
    kind: str
    data: bytes


class BlobReader:
    """Reads objects by any name that git understands; safe to use from several threads."""

    def __init__(self, git: Git, cwd: Path) -> None:
        self._git = git
        self._cwd = cwd
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, name: str) -> GitObject | None:
        """The object of that name, or None when there is none.

        Raises:
            GitError: the helper process ended in the middle of an answer.
        """
        with self._lock:
            process = self._running()
            asked = cast("IO[bytes]", process.stdin)
            answers = cast("IO[bytes]", process.stdout)
            try:
                asked.write(name.encode("utf-8", "surrogateescape") + b"\n")
                asked.flush()
            except BrokenPipeError:
                header = []
            else:
                header = answers.readline().split()
            if len(header) == _HEADER_PARTS and header[2].isdigit():
                data = answers.read(int(header[2]))
                answers.read(1)
                return GitObject(header[0].decode(), header[1].decode(), data)
            if not header:
                self._process = None
                raise GitError(f"git cat-file ended while reading {name}")
            return None

    def close(self) -> None:
        """End the helper process, if one was started."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            cast("IO[bytes]", process.stdin).close()
            cast("IO[bytes]", process.stdout).close()
            process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [git_program(), "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._git.environment(),
                cwd=self._cwd,
            )
        return self._process
