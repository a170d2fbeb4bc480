"""Objects read through one helper process, and index files with the folders that were checked out with them."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from executor.errors import GitError, GitKilledError
from executor.git.command import git_program
from executor.git.diff import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from executor.git.command import Git
    from executor.git.diff import Entries

__all__ = [
    "DIFF_FORM",
    "BlobReader",
    "GitObject",
    "IndexFile",
    "ObjectWriter",
    "Touched",
    "TreeDiffer",
    "Trees",
    "forget",
    "where_of",
]

DIFF_FORM = ("-r", "-p", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv")
"""The form of a diff for `executor.git.diff.parse_diff`."""
_HEADER_PARTS = 3  # words of `git cat-file --batch`: id, type, size
_TREE, _FOLDERS = b"40000", {b"40000", b"160000"}
_MOST_ENTRIES = 5_000
"""Above this many files, git is faster."""
_KEPT_OBJECTS, _KEPT_BYTES = 500, 32 * 1024  # answers and bytes of one: at most 16 MiB of memory
_FIXED = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})(?![0-9a-f])")
"""The beginning of a name that always means the same object: a full id."""
_UPDATE = ("update-index", "-z")
_END = b"=\n"
"""Ends an answer of `git diff-tree --stdin`; no line of a diff begins so."""


@dataclass(frozen=True, slots=True)
class GitObject:
    """One object: full id, kind (blob, tree, commit, tag), content."""

    id: str
    kind: str
    data: bytes


class Helper:
    """A git process that stays and answers one question after the other; starts with the first. Thread-safe.

    Starting git costs more processor time than most of its answers. Each helper reads its input to the end of what one
    question asks, and flushes its answer.
    """

    arguments: tuple[str, ...] = ()
    """The command that the helper runs."""
    changes = False
    """Whether what it is asked changes the repository."""

    def __init__(self, git: Git, cwd: Path) -> None:
        self._git = git
        self._cwd = cwd
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._shown: tuple[int, ...] = ()

    def close(self) -> None:
        """Stop the helper process if it was started."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    cast("IO[bytes]", pipe).close()
            process.wait()

    def _ask(self, question: bytes) -> IO[bytes]:
        """Write a question and return the pipe with the answer, which is at its end if the helper is gone."""
        process = self._running()
        asked = cast("IO[bytes]", process.stdin)
        with suppress(BrokenPipeError):
            if not self.changes:
                asked.write(question)
                asked.flush()
            while self.changes and question:  # one call of the system: a run that is killed there made it or did not
                question = question[os.write(asked.fileno(), question) :]
        return cast("IO[bytes]", process.stdout)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = self._started()
        return self._process

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [git_program(), *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._git.environment(),
            cwd=self._cwd,
            pass_fds=self._shown,
        )


class BlobReader(Helper):
    """Reads objects by any name that git understands; refs are resolved for each request.

    A name that begins with a full id never means another object, so its answer is kept.
    """

    arguments = ("cat-file", "--batch")

    def __init__(self, git: Git, cwd: Path) -> None:
        super().__init__(git, cwd)
        self._kept: OrderedDict[str, GitObject] = OrderedDict()

    def read(self, name: str) -> GitObject | None:
        """Return the object of that name, or None if it does not exist.

        Raises:
            GitError: the helper process ended in the middle of an answer.
        """
        with self._lock:
            found = self._kept.get(name)
        if found is None:
            found = self.read_again(name)
            if found is not None and len(found.data) <= _KEPT_BYTES and _FIXED.match(name):
                with self._lock:
                    self._kept[name] = found
                    if len(self._kept) > _KEPT_OBJECTS:
                        self._kept.popitem(last=False)
        return found

    def read_again(self, name: str) -> GitObject | None:
        """Return the object that the repository has now; as `read`, but without kept answers."""
        with self._lock:
            answers = self._ask(name.encode("utf-8", "surrogateescape") + b"\n")
            header = answers.readline().split()
            if len(header) == _HEADER_PARTS and header[2].isdigit():
                data = answers.read(int(header[2]))
                answers.read(1)
                return GitObject(header[0].decode(), header[1].decode(), data)
            if not header:
                self._process = None
                raise GitError(f"git cat-file ended while reading {name}")
            return None


class TreeDiffer(Helper):
    """Compares trees."""

    arguments = ("diff-tree", "--stdin", *DIFF_FORM)

    def diff(self, old: str, new: str) -> bytes | None:
        """Return the diff of two trees by their full ids, or None if git cannot compare them."""
        head = f"{old} {new}\n".encode()
        with self._lock:
            answers = self._ask(head + _END)  # git repeats a line that is no object id
            lines = []
            while (line := answers.readline()) and line != _END:
                lines.append(line)
            ended = line == _END
        return b"".join(lines[1:]) if ended and lines[:1] == [head] else None


class ObjectWriter(Helper):
    """Writes objects of one kind; git validates them as for `git hash-object`, and they survive a power cut."""

    changes = True

    def __init__(self, git: Git, cwd: Path, kind: str) -> None:
        super().__init__(git, cwd)
        self.arguments = ("hash-object", "-t", kind, "-w", "--no-filters", "--stdin-paths")

    def write(self, data: bytes) -> str:
        """Return the id of the written object; empty if this system or git refuses.

        Raises:
            GitKilledError: a signal ended the helper.
        """
        with self._lock:
            if not hasattr(os, "memfd_create"):
                return ""
            self._shown = self._shown or (os.memfd_create("object"),)
            (file,) = self._shown
            os.ftruncate(file, 0)
            written = os.pwrite(file, data, 0)
            answer = self._ask(f"/proc/self/fd/{file}\n".encode()).readline().decode().strip()
            if not answer and self._process is not None and (signal := -self._process.wait()) > 0:
                # what it had begun to write stays in the object store until a run sweeps it
                raise GitKilledError(f"git hash-object was killed by signal {signal}; run again")
            return answer if written == len(data) else ""

    def close(self) -> None:
        """Stop the helper process if it was started."""
        super().close()
        for file in self._shown:
            os.close(file)
        self._shown = ()


class Trees:
    """Small trees, read entry by entry without a process for each; thread-safe."""

    def __init__(self, blobs: BlobReader) -> None:
        self._blobs = blobs
        self._known: dict[str, dict[str, tuple[bytes, str]]] = {}
        self._too_large = False

    def paths(self, tree: str) -> list[str] | None:
        """Return every file of a tree; None if git has to list them."""
        found: list[str] = []
        todo = [("", tree)]
        while todo and not self._too_large:
            folder, name = todo.pop()
            entries = self._entries(name)
            if entries is None:
                return None
            for item, (mode, part) in entries.items():
                if mode == _TREE:
                    todo.append((f"{folder}{item}/", part))
                else:
                    found.append(folder + item)
            self._too_large = len(found) > _MOST_ENTRIES
        return None if self._too_large else found

    def lacks(self, tree: str, path: str) -> bool:
        """Return whether a tree that was read before has no entry for a path; False if that is unknown."""
        known = self._known.get(tree)
        return known is not None and bool(path) and path.partition("/")[0] not in known

    def replaced(
        self,
        tree: str,
        files: Entries,
        write: Callable[[Iterable[tuple[bytes, bytes, str]]], str],
    ) -> str:
        """Return a tree with other files, as `executor.git.diff.replaced`; empty where git has to do it."""

        def written(entries: Entries) -> str:
            return write((mode, os.fsencode(name), oid) for name, (mode, oid) in entries.items())

        try:
            return replaced(self._entries, tree, files, written)
        except LookupError:
            return ""

    def tidy(self, folder: Path, tree: str) -> bool:
        """Remove what a tree has no entry for from a folder, as `git clean -ffdx` does; False if git has to do that.

        A file that the tree has stays, whatever it is now: a checkout of the tree puts it right.
        """
        if self._too_large:
            return False
        if len(self._known) > _MOST_ENTRIES:
            self._known.clear()
        try:
            return self._tidy_folder(str(folder), tree, itertools.count())
        except (OSError, RecursionError):
            return False

    def _tidy_folder(self, folder: str, tree: str, seen: Iterator[int]) -> bool:
        entries = self._entries(tree)
        with os.scandir(folder) as listed:
            there = list(listed)
        for entry in there if entries is not None else ():
            mode, name = (entries or {}).get(entry.name, (b"", ""))
            is_folder = entry.is_dir(follow_symlinks=False)
            if next(seen) > _MOST_ENTRIES:
                self._too_large = True
                return False
            if not mode or is_folder != (mode in _FOLDERS):
                shutil.rmtree(entry.path) if is_folder else os.unlink(entry.path)  # noqa: PTH108  (many calls)
            elif mode == _TREE and not self._tidy_folder(entry.path, name, seen):
                return False
        return entries is not None

    def _entries(self, tree: str) -> dict[str, tuple[bytes, str]] | None:
        """Return the entries of a tree, each with mode and id; None if git does not have it."""
        known = self._known.get(tree)
        if known is not None:
            return known
        found = self._blobs.read(tree)
        if found is None or found.kind != "tree":
            return None
        known, data, place, length = {}, found.data, 0, len(found.id) // 2
        while place < len(data):
            end = data.index(b"\0", place)
            mode, _, name = data[place:end].partition(b" ")
            place = end + 1 + length
            known[os.fsdecode(name)] = mode, data[end + 1 : place].hex()
        self._known[tree] = known
        return known


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
        """Write the tree of the index with the current content of these paths of the folder; the index is unchanged.

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
            self._git.run(*_UPDATE, "--force-remove", "--stdin", given=became_folders, extra=where, cwd=self.folder)
        if others:
            words = ("--add", "--remove", "--replace", "--stdin")
            self._git.run(*_UPDATE, *words, given=others, extra=where, cwd=self.folder)
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
