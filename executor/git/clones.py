"""The executor's own git directories: their configuration, and content that they lack.

Only what they need to read and write the user's objects is configured: the rest may run programs or change what lands.
They know no remote, so the user's git fetches the objects that a partial clone lacks, many at a time.

`FreshCheckout` fills in submodule files and Git LFS contents, which git alone does not check out. Both come from the
user's copies, never from a network. Missing content stays as git leaves it (an empty folder, a pointer); `doit doctor`
lists it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from executor.errors import ForgeUnavailableError, GitError
from executor.git.command import Git, Repository, git_directory, git_program, users_environment
from executor.process.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from executor.git.objects import Store

__all__ = ["FreshCheckout", "Missing", "Submodule", "copy_into", "make_neutral", "neutral_config"]


_FOLLOWED = ("shallow", "info/grafts")
"""Files with the boundaries of history; the executor's git directories follow the user's current ones."""


_ATTRIBUTES = "* -text -filter -ident -working-tree-encoding -export-subst !eol !diff !merge\n"


def make_neutral(repository: Repository, folder: Path, union: Iterable[str] = ()) -> None:
    """Create or repair a neutral git directory: a power cut may have left empty files.

    Args:
        repository: the user's.
        folder: of the git directory.
        union: globs of files in which a merge keeps the lines of both sides.
    """
    attributes = _ATTRIBUTES + "".join(f"{_quoted(glob)} merge=union\n" for glob in union)
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "info").mkdir(exist_ok=True)
    files = {"HEAD": "ref: refs/heads/none\n", "config": neutral_config(repository), "info/attributes": attributes}
    contents = {name: os.fsencode(text) for name, text in files.items()}
    for name, data in {**contents, "packed-refs": replacements(repository)}.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data, durable=False)
    follow(repository, folder)


def _quoted(glob: str) -> str:
    """A glob as a pattern of git's attributes, from the top of the repository if it has a slash."""
    rooted = f"/{glob.lstrip('/')}" if "/" in glob else glob
    return '"' + rooted.replace("\\", "\\\\").replace('"', '\\"') + '"'


@cache
def neutral_config(repository: Repository) -> str:
    """Return a git configuration with the object format and the sharing mode; cached."""
    git = Git(repository.common_dir, repository.common_dir)
    form = git.run("rev-parse", "--show-object-format").decode().strip()
    code, output, _ = git.call("config", "--get", "core.sharedRepository")
    shared = output.decode("utf-8", "replace").strip() if code == 0 else ""
    lines = ["[core]", f"\trepositoryformatversion = {0 if form == 'sha1' else 1}", "\tbare = false"]
    if shared.isalnum():
        lines.append(f"\tsharedRepository = {shared}")
    if form != "sha1":
        lines += ["[extensions]", f"\tobjectFormat = {form}"]
    return "\n".join(lines) + "\n"


def replacements(repository: Repository) -> bytes:
    """Return the user's replace refs as a packed-refs file; empty without any."""
    if not _may_replace(repository.common_dir):
        return b""
    git = Git(repository.common_dir, repository.common_dir)
    listed = git.run("for-each-ref", "--format=%(objectname) %(refname)", "--", "refs/replace/")
    return b"# pack-refs with: peeled fully-peeled sorted \n" + listed if listed else b""


def _may_replace(common_dir: Path) -> bool:
    """Return whether there may be replace refs; every agent's repository asks."""
    folder, packed = common_dir / "refs" / "replace", common_dir / "packed-refs"
    if (common_dir / "reftable").exists() or (folder.is_dir() and any(folder.iterdir())):
        return True
    try:
        seen = packed.stat()
    except FileNotFoundError:
        return False
    return _packed_replacement(packed, (seen.st_mtime_ns, seen.st_size, seen.st_ino))


@lru_cache(maxsize=8)
def _packed_replacement(packed: Path, _state: tuple[int, ...]) -> bool:
    return b" refs/replace/" in packed.read_bytes()


def follow(repository: Repository, git_dir: Path) -> None:
    """Link the user's files of `_FOLLOWED` into a git directory of the executor, existing or not."""
    for name in _FOLLOWED:
        link, target = git_dir / name, repository.common_dir / name
        if not (link.is_symlink() and link.readlink() == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def copy_into(repository: Repository, git_dir: Path) -> None:
    """Copy them instead, for a git directory that cannot see the user's."""
    for name in _FOLLOWED:
        source = repository.common_dir / name
        if source.is_file():
            (git_dir / name).parent.mkdir(exist_ok=True)
            (git_dir / name).write_bytes(source.read_bytes())
    packed = replacements(repository)
    if packed:
        (git_dir / "packed-refs").write_bytes(packed)


_ROUNDS = 20  # fetches; each gets the next missing level of objects of a partial clone
_NEGOTIATION = ("-c", "fetch.negotiationAlgorithm=noop", "-c", "core.hooksPath=/dev/null")


class Missing:
    """Fetches the objects that a partial clone lacks."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._git = Git(repository.common_dir, repository.common_dir)
        self._whole: set[str] = set()
        self.remote = self._promisor()
        """Name of the remote with all objects; empty if the repository is no partial clone."""

    def fill(self, commits: Iterable[str]) -> bool:
        """Fetch all missing objects of the trees of these commits; returns whether any were missing.

        Raises:
            ForgeUnavailableError: the remote does not deliver them.
        """
        fetched = False
        for commit in commits if self.remote else ():
            code, output, _ = self._git.call("log", "-1", "--format=%T", "--end-of-options", commit, "--")
            tree = output.decode().strip() if code == 0 and output.strip() else commit
            if tree not in self._whole:
                fetched = self._fill(tree) or fetched
                self._whole.add(tree)
        return fetched

    def _fill(self, tree: str) -> bool:
        missing: list[str] = []
        for count in range(_ROUNDS):
            missing = self._missing(tree)
            if not missing:
                return count > 0
            self._fetch(missing)
        raise ForgeUnavailableError(
            f"{self.remote} does not provide {len(missing)} objects of {tree}: {missing[0]}, ..."
        )

    def _missing(self, tree: str) -> list[str]:
        """Return the missing objects of a tree; objects below a missing tree are not known yet."""
        if self._git.call("cat-file", "-e", tree)[0] != 0:
            return [tree]
        output = self._git.run("rev-list", "--objects", "--missing=print", tree, "--").decode("utf-8", "replace")
        return [line[1:] for line in output.splitlines() if line.startswith("?")]

    def _fetch(self, names: list[str]) -> None:
        wanted = ("--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none", "--stdin")
        done = subprocess.run(
            [git_program(), *_NEGOTIATION, "fetch", "--quiet", self.remote, *wanted],
            input="".join(f"{name}\n" for name in names).encode(),
            capture_output=True,
            check=False,
            cwd=self._repository.top,
            env=users_environment(),
        )
        if done.returncode != 0:
            words = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise ForgeUnavailableError(
                f"this is a partial clone, and {len(names)} objects that are needed are only on {self.remote}, which "
                f"does not provide them ({words}); nothing was started: make `git fetch {self.remote}` work, run again"
            )

    def _promisor(self) -> str:
        code, output, _ = self._git.call("config", "--get-regexp", r"^(remote\..*\.promisor|extensions\.partialclone)$")
        lines = output.decode("utf-8", "surrogateescape").splitlines() if code == 0 else []
        pairs = dict(line.split(" ", 1) for line in lines if " " in line)
        given = [key for key, value in pairs.items() if key.endswith(".promisor") and value == "true"]
        names = [key[len("remote.") : -len(".promisor")] for key in given]
        return names[0] if names else pairs.get("extensions.partialclone", "")


_BREAKABLE = frozenset({"lfs", "git-crypt", "transcrypt", "crypt"})
"""Filters whose files must not land in their checked-out form: their content is stored elsewhere, or encrypted."""
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ .*\n)*?oid sha256:([0-9a-f]{64})\n"
)
_MOST_POINTER = 1024  # bytes; a pointer of Git LFS is smaller by its specification
_LINK = b"160000"
_WHOLE_PATHS = {2, 3}
"""Versions of the index that store whole paths."""
_CHUNK = 1 << 20  # bytes; any size reads as fast


@dataclass(frozen=True, slots=True)
class Submodule:
    """A submodule of a tree.

    Attributes:
        path: its path in the tree.
        commit: the commit that the tree records for it.
        source: the user's copy; None if no copy has the commit.
    """

    path: str
    commit: str
    source: Repository | None


class FreshCheckout:
    """Completes checkouts of one repository.

    Args:
        repository: the user's repository.
        make: returns the store of a submodule's repository, in a folder of the given name.
    """

    def __init__(self, repository: Repository, make: Callable[[Repository, str], Store]) -> None:
        self._repository = repository
        self._make = make
        self._git = Git(repository.common_dir, repository.common_dir)
        self._stores: dict[Path, Store] = {}

    def close(self) -> None:
        """Stop the helper processes."""
        for store in self._stores.values():
            store.close()

    def submodules(self, index: Path) -> list[Submodule]:
        """Return the submodules in an index."""
        listing = self._git.run("ls-files", "-s", "-z", extra={"GIT_INDEX_FILE": str(index)})
        found = []
        for line in listing.split(b"\0"):
            if line.startswith(_LINK):
                facts, _, path = line.partition(b"\t")
                name, commit = os.fsdecode(path), facts.split()[1].decode()
                found.append(Submodule(name, commit, self._source(name, commit)))
        return found

    def fill_submodules(self, index: Path, folder: Path) -> list[str]:
        """Check out the submodules of a tree at their recorded commits; returns the paths of those without a copy."""
        lacking = []
        for item in self.submodules(index):
            if item.source is None:
                lacking.append(item.path)
                continue
            store, own = self._store(item.source), _index_of(index, item.path)
            place = folder / item.path
            place.mkdir(parents=True, exist_ok=True)
            try:
                if own.exists():
                    store.index(own, place).clean()
                store.checkout(store.tree_of(item.commit), own, place)
            except GitError:
                own.unlink(missing_ok=True)
                for left in place.iterdir():
                    shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
                store.checkout(store.tree_of(item.commit), own, place)
            lacking += [f"{item.path}/{inner}" for inner in store.fresh.fill_submodules(own, place)]
        return lacking

    def changed_in_submodules(self, index: Path, folder: Path) -> Iterator[str]:
        """Yield tracked files of submodules that were changed or deleted."""
        if not any(index.parent.glob(f"{index.name}.*")):
            return  # none was filled
        for item in self.submodules(index):
            own = _index_of(index, item.path)
            if item.source is None or not own.exists():
                continue
            store = self._store(item.source)
            yield from (f"{item.path}/{name}" for name in store.index(own, folder / item.path).modified())
            yield from (f"{item.path}/{name}" for name in store.fresh.changed_in_submodules(own, folder / item.path))

    def filters_of(self, index: Path, paths: Sequence[bytes]) -> dict[bytes, str]:
        """Map paths to the filter in git's attributes; paths without a filter are omitted."""
        if not paths or not self._has_attributes(index):
            return {}
        given = b"".join(path + b"\0" for path in paths)
        output = self._git.run(
            "check-attr", "--cached", "-z", "--stdin", "filter", given=given, extra={"GIT_INDEX_FILE": str(index)}
        ).split(b"\0")
        rows = zip(output[0::3], output[2::3], strict=False)
        return {path: os.fsdecode(value) for path, value in rows if value not in {b"unspecified", b"unset", b"set"}}

    def _has_attributes(self, index: Path) -> bool:
        """Return whether git's attributes may name a filter; an index of version 4 shortens its paths."""
        data = index.read_bytes()
        plain = data[:4] == b"DIRC" and int.from_bytes(data[4:8], "big") in _WHOLE_PATHS
        own = self._repository.common_dir / "info" / "attributes"
        return not plain or b".gitattributes" in data or own.exists()

    def fill_lfs(self, index: Path, folder: Path) -> list[str]:
        """Replace pointers by the contents of LFS files; returns the paths whose contents the user does not have."""
        listed = self._git.run("ls-files", "-z", extra={"GIT_INDEX_FILE": str(index)}).split(b"\0")
        lacking = []
        for path, name in self.filters_of(index, [path for path in listed if path]).items():
            place = folder / os.fsdecode(path)
            oid = _oid(place) if name == "lfs" else ""
            if oid:
                source = self._content_of(oid)
                if source.is_file():
                    shutil.copyfile(source, place)
                else:
                    lacking.append(os.fsdecode(path))
        return lacking

    def breaks_filter(
        self, index: Path, folder: Path, paths: Iterable[bytes], old: Callable[[str], bytes | None]
    ) -> tuple[set[bytes], str]:
        """Return the changed files that were only completed, and why the first other one cannot land.

        Args:
            index: index of the checkout.
            folder: folder of the checkout.
            paths: files that differ from the index.
            old: returns the content of a path in the index.
        """
        unchanged: set[bytes] = set()
        for path, name in self.filters_of(index, list(paths)).items():
            place = folder / os.fsdecode(path)
            if name not in _BREAKABLE or not place.is_file() or place.is_symlink():
                continue
            hit = _POINTER.match(old(os.fsdecode(path)) or b"") if name == "lfs" else None
            if hit is not None and _digest(place) == hit[1].decode():
                unchanged.add(path)
            elif name != "lfs" or not _oid(place):
                shown = os.fsdecode(path)
                return unchanged, f"{shown} is under filter={name}, and its new content did not go through that filter"
        return unchanged, ""

    def lacking(self, index: Path) -> Iterator[tuple[str, str]]:
        """Yield content that is missing in the user's checkout and so in all others: path, and command to get it."""
        for item in self.submodules(index):
            if item.source is None:
                yield item.path, f"git submodule update --init {item.path}"
        listed = self._git.run("ls-files", "-s", "-z", extra={"GIT_INDEX_FILE": str(index)}).split(b"\0")
        rows = [line.partition(b"\t") for line in listed if line]
        small = {path: facts.split()[1].decode() for facts, _, path in rows}
        for path, name in self.filters_of(index, list(small)).items():
            if name != "lfs":
                continue
            hit = _POINTER.match(self._git.run("cat-file", "blob", small[path]))
            if hit is not None and not self._content_of(hit[1].decode()).is_file():
                yield os.fsdecode(path), "git lfs fetch"

    def _content_of(self, oid: str) -> Path:
        return self._lfs_folder() / oid[:2] / oid[2:4] / oid

    def _lfs_folder(self) -> Path:
        code, output, _ = self._git.call("config", "--get", "lfs.storage")
        named = Path(os.fsdecode(output.strip())) if code == 0 else Path("lfs")
        return self._repository.common_dir / named / "objects"

    def _source(self, path: str, commit: str) -> Repository | None:
        """Return the user's copy of a submodule, if it has the commit."""
        top = self._repository.top / path
        for git_dir in (git_directory(top / ".git"), self._repository.common_dir / "modules" / path):
            if git_dir is None or not (git_dir / "objects").is_dir():
                continue
            if Git(git_dir, git_dir).call("cat-file", "-e", f"{commit}^{{tree}}")[0] == 0:
                return Repository(top, git_dir, git_dir)
        return None

    def _store(self, source: Repository) -> Store:
        if source.git_dir not in self._stores:
            name = hashlib.sha256(os.fsencode(source.git_dir)).hexdigest()[:16]
            self._stores[source.git_dir] = self._make(source, name)
        return self._stores[source.git_dir]


def _oid(path: Path) -> str:
    """Return the id of the LFS object that a pointer file refers to; empty if it is no pointer."""
    try:
        if path.is_symlink() or path.stat().st_size > _MOST_POINTER:
            return ""
        hit = _POINTER.match(path.read_bytes())
    except OSError:
        return ""
    return hit[1].decode() if hit is not None else ""


def _digest(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            hasher.update(data)
    return hasher.hexdigest()


def _index_of(index: Path, path: str) -> Path:
    return index.with_name(f"{index.name}.{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}")
