"""The trees that agents and checks work in: a pool of reused folders that the user's checkout never notices.

Each slot has a tree for the agent and a clean one for the checks. Where nothing is kept in a tree between uses, both
are one folder in turn, since checking out a second tree costs as much as the first: every file that anybody touched
since the checkout is written again, and its change time, which nobody can set, tells which. A tree's index file lies
outside it, and the tree has a separate throw-away repository; its result is imported by reading its files.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import stat
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.errors import ExecutorError, GitError
from executor.git.clones import copy_into, neutral_config
from executor.git.command import git_directory
from executor.model.paths import flatten_ignores
from executor.process.files import read_json, write_json
from executor.process.locks import Held, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from executor.git.command import Repository
    from executor.git.objects import Store

__all__ = ["ImportLimits", "ImportRefusedError", "Pool", "Slot", "Workspace", "empty_folder", "leads_out", "remove"]

_MOST_SLOTS = 4096  # slots; far more than processes fit on a machine, so it ends only a fault
_OWNER = "attempt.json"
_USABLE = 0o700  # rights of the owner: read, write, enter


class ImportRefusedError(ExecutorError):
    """An agent's result cannot be imported; the message names the path and the reason."""


@dataclass(frozen=True, slots=True)
class ImportLimits:
    """Limits of one result: changed files, bytes of one file, bytes in total."""

    files: int
    file_bytes: int
    bytes: int


def empty_folder(folder: Path) -> None:
    """Replace a path by an empty folder."""
    remove(folder)
    folder.mkdir(parents=True)


@dataclass(frozen=True, slots=True)
class Workspace:
    """A reused tree of the whole repository.

    Attributes:
        folder: the folder that child processes see.
        index: its index, which only the executor accesses.
        keep: ignore rules for files that remain in it between uses.
        prefix: folder of the project in it; empty at the top level.
        use: name of what it is used for, and of what is made for that use beside it.
    """

    folder: Path
    index: Path
    keep: tuple[str, ...] = ()
    prefix: str = ""
    use: str = "tree"

    @property
    def start(self) -> Path:
        """The working directory of processes: the project's folder."""
        return self.folder / self.prefix

    def prepare(self, store: Store, tree: str) -> None:
        """Make it exactly that tree, whatever its previous content."""
        self.index.with_name(self.index.name + ".lock").unlink(missing_ok=True)
        if self.index.exists() and self.folder.is_dir():
            try:
                remove(self.folder / ".git")
                _open_folders(self.folder)
                store.clean(tree, self.index, self.folder, self.keep)
                store.checkout(tree, self.index, self.folder)
                self._complete(store, tree)
            except GitError:
                pass
            else:
                return
        self.discard()
        self.folder.mkdir(parents=True)
        store.checkout(tree, self.index, self.folder)
        self._complete(store, tree)

    def _complete(self, store: Store, tree: str) -> None:
        store.complete(tree, self.index, self.folder)
        self.start.mkdir(parents=True, exist_ok=True)

    def mend(self, store: Store, tree: str) -> None:
        """Rebuild the index of the prepared tree, which a power cut may have damaged; files are not changed."""
        store.index(self.index, self.folder).renew(tree)

    def remember_brought(self, paths: Sequence[str]) -> None:
        """Record ignored files that were copied into it from the checkout: they never become part of a result."""
        if paths or self._brought.exists():
            write_json(self._brought, list(paths), durable=False)

    @property
    def _brought(self) -> Path:
        return self.index.with_name(f"{self.folder.name}.brought.json")

    def discard(self) -> None:
        """Remove it completely."""
        remove(self.folder)
        self.index.unlink(missing_ok=True)

    def give_repository(self, repository: Repository, commit: str) -> None:
        """Put a throw-away repository into the tree: history is readable, commits stay inside it."""
        git_dir = self.folder / ".git"
        (git_dir / "objects" / "info").mkdir(parents=True)
        (git_dir / "refs" / "heads").mkdir(parents=True)
        (git_dir / "objects" / "info" / "alternates").write_bytes(os.fsencode(repository.objects) + b"\n")
        (git_dir / "HEAD").write_text("ref: refs/heads/work\n", encoding="ascii")
        (git_dir / "refs" / "heads" / "work").write_text(f"{commit}\n", encoding="ascii")
        user = "[user]\n\tname = agent\n\temail = agent@localhost\n[gc]\n\tauto = 0\n"
        (git_dir / "config").write_text(neutral_config(repository) + user, encoding="ascii")
        copy_into(repository, git_dir)
        shutil.copy2(self.index, git_dir / "index")

    def receive(self, store: Store, base: str, tree: str, limits: ImportLimits) -> None:
        """Lay a tree of another host out over the prepared base, as if an agent had made it here.

        Raises:
            ImportRefusedError: it has something that cannot land, or git does not check it out.
        """
        changed = store.entries_changed(base, tree)
        if len(changed) > limits.files:
            raise ImportRefusedError(f"more than {limits.files} files changed")
        for name in (os.fsdecode(path) for mode, _, path in changed if mode == "160000"):
            raise ImportRefusedError(f"{name} is a separate repository (submodule); only files can land")
        sizes = store.sizes(oid for mode, oid, _ in changed if mode != "000000")
        if max(sizes, default=0) > limits.file_bytes or sum(sizes) > limits.bytes:
            raise ImportRefusedError(f"a file is too large, or all changes together are ({sum(sizes) // 2**20} MiB)")
        index = self.index.with_name("arrived.index")
        shutil.copy2(self.index, index)
        try:
            store.checkout(tree, index, self.folder)
        except GitError as error:
            raise ImportRefusedError(f"git does not check out the result: {error}") from error
        finally:
            index.unlink(missing_ok=True)

    def result(
        self, store: Store, excludes: Path, declared: Sequence[str], limits: ImportLimits, base: str = ""
    ) -> str:
        """Return the tree id of the folder's current content; `base` is the prepared tree, if the caller knows it.

        Ignored files are omitted, by the rules of the base tree and of `excludes`; rules written by the agent do not
        apply. Files that the issue declares (`declared`, globs) are included even if ignored; `src/**` names no ignored
        file in a folder `src` that has other files.

        Raises:
            ImportRefusedError: the tree has a file that cannot land: a repository, a device, a link out, too much data.
        """
        checkout = store.index(self.index, self.folder)
        touched = checkout.touched(excludes, own_rules=True)
        if any(path.rsplit(b"/", 1)[-1] == b".gitignore" for path in touched.paths):
            rules = self.index.with_name(self.index.name + ".ignore")
            rules.write_bytes(excludes.read_bytes() + flatten_ignores(checkout.ignore_files()))
            touched = checkout.touched(rules, own_rules=False)
        embedded = [os.fsdecode(path) for path in touched.embedded]
        for name in (name for name in embedded if not self._is_own_worktree(name)):
            raise ImportRefusedError(f"{name} is a git repository inside the tree; only files can land")
        seen = [*touched.paths, *checkout.names()] if any(map(_is_open, declared)) else []
        paths = dict.fromkeys((*touched.paths, *self._declared(declared, seen)))
        paths = self._without_filled(store, paths)
        _refuse_what_cannot_land(self.folder, paths, limits)
        try:
            return (store.tree_with(base, self.folder, paths) if base else "") or checkout.write_tree(paths)
        except GitError as error:
            raise ImportRefusedError(f"git does not accept the result: {error}") from error

    def _is_own_worktree(self, name: str) -> bool:
        """Return whether a nested repository is a worktree that the agent created, which is no part of the result."""
        named = git_directory(self.folder / name / ".git")
        return named is not None and named.is_relative_to((self.folder / ".git" / "worktrees").resolve())

    def _without_filled(self, store: Store, paths: dict[bytes, None]) -> dict[bytes, None]:
        """Return the changed files without those that only contain their completed content.

        Raises:
            ImportRefusedError: a file of a submodule was changed, or one that requires a filter.
        """
        changed = next(store.fresh.changed_in_submodules(self.index, self.folder), "")
        if changed:
            raise ImportRefusedError(f"{changed} is in a submodule; change it in its own repository")
        contents = store.index(self.index, self.folder).contents()
        filled, problem = store.fresh.breaks_filter(self.index, self.folder, paths, contents)
        if problem:
            raise ImportRefusedError(f"{problem}; only the output of that filter may land")
        return {path: None for path in paths if path not in filled}

    def _declared(self, globs: Sequence[str], seen: Sequence[bytes]) -> Iterator[bytes]:
        """Yield the files that globs name; `seen` are those that the ignore rules leave over."""
        known = read_json(self._brought)
        brought = set(known) if isinstance(known, list) else set()
        for glob in globs:
            folder = os.fsencode(posixpath.normpath(f"{self.prefix}{re.split(r'[^/]*[*?[]', glob)[0]}"))
            if _is_open(glob) and any(folder == b"." or path.startswith(folder + b"/") for path in seen):
                continue
            # A trailing ** matches folders only, up to Python 3.12.
            files = f"{glob}/*" if glob.endswith("**") else glob
            for path in self.folder.glob(posixpath.normpath(f"{self.prefix}{files}") if self.prefix else files):
                if path.is_file() or path.is_symlink():
                    inside = path.relative_to(self.folder)
                    if inside.parts[0] != ".git" and str(inside) not in brought:
                        yield os.fsencode(inside)


def _is_open(glob: str) -> bool:
    """Return whether a glob takes every file of a folder, by no part of its name."""
    return not posixpath.basename(glob).strip("*?.")


@dataclass(frozen=True, slots=True)
class Slot:
    """A numbered place to work; no other running attempt in this repository has the number."""

    number: int
    work: Workspace
    check: Workspace
    scratch: Path

    def mark(self, issue: str, attempt: int, step: str = "") -> None:
        """Record whose work it holds, for a later run."""
        write_json(self.scratch.with_name(_OWNER), _owner(issue, attempt, step), durable=False)


class Pool:
    """Hands out slots. Numbers are unique in the repository, folders belong to one milestone.

    Args:
        numbers: folder of the number locks, shared by all milestones.
        folder: folder of this milestone's trees.
        keep: ignore rules for files that remain in a tree between uses.
        prefix: folder of the project in the repository; empty at the top level.
    """

    shares = False
    """Whether agent and checks of a slot use one folder in turn."""

    def __init__(self, numbers: Path, folder: Path, keep: tuple[str, ...] = (), prefix: str = "") -> None:
        self._spent: set[int] = set()
        self._keep = keep
        self._prefix = prefix
        self._numbers = numbers
        self._folder = folder
        self._lock = threading.Lock()
        self._free: list[tuple[int, Held]] = []
        self._held: list[Held] = []

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """Reserve a slot for the duration of the block; the lowest free number is reused first.

        After an error that ends the block, the slot is not reused in this run: it may hold a paid result, which the
        next run recovers.
        """
        with self._lock:
            number, lock = self._free.pop(0) if self._free else self._take()
        home = self._folder / str(number)
        home.mkdir(parents=True, exist_ok=True)
        # What an agent of a dead run left may count: no check may touch it before that is settled.
        left = None if number in self._spent else read_json(home / _OWNER)
        work = Workspace(home / "tree", home / "tree.index", self._keep, self._prefix)
        check = Workspace(home / "check", home / "check.index", self._keep, self._prefix, "check")
        if self.shares and left is None:
            (home / _OWNER).unlink(missing_ok=True)
            if check.folder.exists():
                check.discard()
            check = replace(work, use="check")
        yield Slot(number, work, check, home / "scratch.index")
        if read_json(home / _OWNER) != left:
            self._spent.add(number)
        with self._lock:
            self._free.append((number, lock))
            self._free.sort(key=lambda item: item[0])

    def left_by(self, issue: str, attempt: int, step: str = "") -> Workspace | None:
        """Return the tree in which an attempt or step of a dead run worked, if it is unchanged since."""
        for mark in sorted(self._folder.glob(f"*/{_OWNER}")):
            if read_json(mark) == _owner(issue, attempt, step):
                return Workspace(mark.with_name("tree"), mark.with_name("tree.index"), prefix=self._prefix)
        return None

    def snapshot(self, issue: str, attempt: int, store: Store, excludes: Path, limits: ImportLimits) -> str:
        """Return the current tree of a running agent; empty if it has none or its files change during the read.

        The index is copied, because the agent's thread uses it at the end of the agent.
        """
        workspace = self.left_by(issue, attempt)
        if workspace is None:
            return ""
        copy = replace(workspace, index=workspace.index.with_name("probe.index"))
        try:
            shutil.copy2(workspace.index, copy.index)
            tree = copy.result(store, excludes, (), limits)
        except (ExecutorError, OSError):
            return ""
        # The slot may have got another owner while its files were read.
        return tree if self.left_by(issue, attempt) == workspace else ""

    def settled(self) -> None:
        """Every attempt of dead runs has its end: no tree is needed any more."""
        for mark in self._folder.glob(f"*/{_OWNER}"):
            mark.unlink(missing_ok=True)

    def broken(self) -> list[tuple[int, str]]:
        """Return unusable slots, which have a tree without its index or an index without its tree, and the reason."""
        found = []
        for home in sorted(self._folder.glob("*")):
            if not home.name.isdigit():
                continue
            for name in ("tree", "check"):
                tree, index = (home / name).is_dir(), (home / f"{name}.index").is_file()
                if tree != index:
                    what = f"its {name} folder has no index" if tree else f"its {name} folder is gone"
                    found.append((int(home.name), what))
                    break
        return found

    def discard(self, number: int) -> None:
        """Remove a slot's folder; it must not be in use."""
        remove(self._folder / str(number))

    def discard_all(self) -> None:
        """Remove every slot's folder, unless set-up commands keep files in it; no slot may be in use."""
        for home in () if self._keep else sorted(self._folder.glob("*")):
            if home.name.isdigit():
                remove(home)

    def close(self) -> None:
        """Release all numbers."""
        with self._lock:
            for lock in self._held:
                lock.release()
            self._held.clear()
            self._free.clear()

    def _take(self) -> tuple[int, Held]:
        self._numbers.mkdir(parents=True, exist_ok=True)
        for number in range(_MOST_SLOTS):
            lock = try_lock(self._numbers / f"{number}.lock")
            if lock is None:
                continue
            self._held.append(lock)
            return number, lock
        raise ExecutorError(f"{_MOST_SLOTS} slots are in use in {self._numbers}; this is probably a mistake")


def _owner(issue: str, attempt: int, step: str) -> dict[str, object]:
    owner = {"issue": issue, "attempt": attempt}
    return {**owner, "step": step} if step else owner


def _refuse_what_cannot_land(folder: Path, paths: Iterable[bytes], limits: ImportLimits) -> None:
    """Check every changed path without following links; all processes of the agent have ended."""
    root = os.fsencode(folder)
    total = 0
    for count, path in enumerate(paths, 1):
        name = os.fsdecode(path)
        if count > limits.files:
            raise ImportRefusedError(f"more than {limits.files} files changed")
        try:
            facts = os.lstat(root + b"/" + path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(facts.st_mode):
            if leads_out(path, os.readlink(root + b"/" + path)):  # noqa: PTH115  (bytes)
                raise ImportRefusedError(f"{name} is a link that leads out of the tree")
        elif stat.S_ISREG(facts.st_mode):
            total += facts.st_size
            if facts.st_size > limits.file_bytes or total > limits.bytes:
                raise ImportRefusedError(f"{name} is too large, or all changes together are ({total // 2**20} MiB)")
        elif not stat.S_ISDIR(facts.st_mode):
            raise ImportRefusedError(f"{name} is neither a file nor a link")


def leads_out(path: bytes, target: bytes) -> bool:
    """Return whether a link at `path` names something outside the tree, or the tree's own repository."""
    if target.startswith(b"/"):
        return True
    depth: list[bytes] = path.split(b"/")[:-1]
    for part in target.split(b"/"):
        if part == b"..":
            if not depth:
                return True
            depth.pop()
        elif part not in {b"", b"."}:
            depth.append(part)
    return bool(depth) and depth[0].lower() == b".git"


def remove(path: Path) -> None:
    """Remove a file, link or folder of any content, without following links."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path, onerror=_make_writable)


def _open_folders(folder: Path) -> None:
    """Make every folder of a tree readable and writable again, and remove access lists: git ignores both."""
    for place, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(place, name)  # noqa: PTH118  (many calls)
            facts = os.lstat(path)
            if stat.S_ISDIR(facts.st_mode) and facts.st_mode & _USABLE != _USABLE:
                os.chmod(path, facts.st_mode | _USABLE)  # noqa: PTH101
            if stat.S_ISDIR(facts.st_mode) and _has_access_list(path):
                raise GitError(f"{path} has an access list")


def _has_access_list(path: str) -> bool:
    try:
        return any("posix_acl" in name for name in os.listxattr(path))
    except (OSError, AttributeError):
        return False  # such a file system or such a system has none


def _make_writable(function: object, path: str, _info: object) -> None:
    folder = os.path.dirname(path)  # noqa: PTH120  (rmtree's callback speaks in strings)
    os.chmod(folder, 0o700)  # noqa: PTH101
    if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
        os.chmod(path, 0o700)  # noqa: PTH101
        shutil.rmtree(path)
    else:
        os.unlink(path)  # noqa: PTH108
    _ = function
