"""Objects read through one helper process, and index files with the folders that were checked out with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from executor.errors import GitError
from executor.git.command import git_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from executor.git.command import Git

__all__ = ["BlobReader", "GitObject", "IndexFile", "Touched", "forget", "where_of"]

_HEADER_PARTS = 3


@dataclass(frozen=True, slots=True)
class GitObject:
    """One object: full id, kind (blob, tree, commit, tag), content."""

    id: str
    kind: str
    data: bytes


class BlobReader:
    """Reads objects by any name that git understands; thread-safe."""

    def __init__(self, git: Git, cwd: Path) -> None:
        self._git = git
        self._cwd = cwd
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, name: str) -> GitObject | None:
        """Return the object of that name, or None if it does not exist.

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
        """Stop the helper process if it was started."""
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


@dataclass(frozen=True, slots=True)
class Touched:
    """Differences between a working tree and its index: paths as bytes, and nested repositories."""

    paths: tuple[bytes, ...]
    embedded: tuple[bytes, ...]


class IndexFile:
    """An index file and the folder that was checked out with it.

    Attributes:
        path: the index file.
        folder: the working tree.
    """

    def __init__(self, git: Git, blobs: BlobReader, path: Path, folder: Path) -> None:
        self._git = git
        self._blobs = blobs
        self.path = path
        self.folder = folder

    def contents(self) -> Callable[[str], bytes | None]:
        """Gives the content that the index has of a path."""

        def content(path: str) -> bytes | None:
            listing = self._git.run("ls-files", "-s", "-z", "--", path, extra={"GIT_INDEX_FILE": str(self.path)})
            found = self._blobs.read(listing.split()[1].decode()) if listing else None
            return found.data if found is not None else None

        return content

    def names(self) -> list[bytes]:
        """Return the paths of the index."""
        output = self._git.run("ls-files", "-z", extra={"GIT_INDEX_FILE": str(self.path)})
        return [path for path in output.split(b"\0") if path]

    def modified(self) -> list[str]:
        """Return the tracked files of a checkout that were changed or deleted."""
        output = self._git.run(
            "ls-files", "-z", "--modified", "--deleted", extra=where_of(self.path, self.folder), cwd=self.folder
        )
        return list(dict.fromkeys(os.fsdecode(path) for path in output.split(b"\0") if path))

    def renew(self, tree: str) -> None:
        """Build the index of a tree from scratch, without cached stat data."""
        forget(self.path)
        self._git.run("read-tree", tree, extra={"GIT_INDEX_FILE": str(self.path)})

    def clean(self, keep: Iterable[str] = ()) -> None:
        """Remove all untracked files, ignored or not, and nested repositories, except those that `keep` names."""
        kept = [f"--exclude={rule}" for rule in keep]
        self._git.run("clean", "-ffdxq", *kept, extra=where_of(self.path, self.folder), cwd=self.folder)

    def touched(self, excludes: Path, *, own_rules: bool) -> Touched:
        """Files of the folder that were changed, deleted or added since the checkout.

        Args:
            excludes: a file of ignore rules.
            own_rules: also obey the `.gitignore` files found in the tree.
        """
        rules = [f"--exclude-from={excludes}"]
        if own_rules:
            rules.append("--exclude-per-directory=.gitignore")
        output = self._git.run(
            "ls-files",
            "-z",
            "--others",
            "--modified",
            "--deleted",
            *rules,
            extra=where_of(self.path, self.folder),
            cwd=self.folder,
        )
        paths = dict.fromkeys(part for part in output.split(b"\0") if part)
        return Touched(
            tuple(path for path in paths if not path.endswith(b"/")),
            tuple(path for path in paths if path.endswith(b"/")),
        )

    def ignore_files(self) -> list[tuple[str, bytes]]:
        """Return folder and content of every `.gitignore` in the index, shallow ones first."""
        found: list[tuple[str, bytes]] = []
        listing = self._git.run("ls-files", "-s", "-z", extra={"GIT_INDEX_FILE": str(self.path)})
        for line in listing.split(b"\0"):
            facts, _, path = line.partition(b"\t")
            if path == b".gitignore" or path.endswith(b"/.gitignore"):
                blob = self._blobs.read(facts.split()[1].decode())
                if blob is not None:
                    found.append((os.fsdecode(path[: -len(b".gitignore")]), blob.data))
        return sorted(found, key=lambda item: item[0].count("/"))

    def write_tree(self, paths: Iterable[bytes]) -> str:
        """The tree of the index with the present content of these paths of the folder; the index stays as it is.

        An index that took over the times of an agent's files would later believe that a file is unchanged which has the
        same size and a time that was set: git compares whole seconds and inode numbers are used again.
        """
        became_folders, others = _sorted_out(self.folder, paths)
        copy = self.path.with_name(f"{self.path.name}.result")
        forget(copy)
        shutil.copy2(self.path, copy)  # with its time, by which git tells what it has to look into
        try:
            return self._taken(became_folders, others, where_of(copy, self.folder))
        finally:
            copy.unlink(missing_ok=True)

    def _taken(self, became_folders: bytes, others: bytes, where: dict[str, str]) -> str:
        if became_folders:
            self._git.run(
                "update-index", "-z", "--force-remove", "--stdin", given=became_folders, extra=where, cwd=self.folder
            )
        if others:
            self._git.run(
                "update-index",
                "-z",
                "--add",
                "--remove",
                "--replace",
                "--stdin",
                given=others,
                extra=where,
                cwd=self.folder,
            )
        return self._git.run("write-tree", extra=where).decode().strip()


def forget(index: Path) -> None:
    """Remove an index file, and any lock on it that a killed git left."""
    index.unlink(missing_ok=True)
    index.with_name(f"{index.name}.lock").unlink(missing_ok=True)


def _sorted_out(folder: Path, paths: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Split paths into index files that are now folders and all others, in git's -z format."""
    root = os.fsencode(folder)
    became_folders, others = bytearray(), bytearray()
    for path in paths:
        full = root + b"/" + path
        is_folder = os.path.isdir(full) and not os.path.islink(full)  # noqa: PTH112, PTH114  (bytes, many calls)
        target = became_folders if is_folder else others
        target += path + b"\0"
    return bytes(became_folders), bytes(others)


def where_of(index: Path, folder: Path) -> dict[str, str]:
    """The variables by which git takes an index file and a working tree."""
    return {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(folder)}
