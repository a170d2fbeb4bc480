"""Trees, blobs and commits in the user's object store, through a neutral git directory of the executor.

The neutral directory (`.cache/_store`) has none of the user's configuration, and attributes that disable every
conversion, so an agent's files land byte for byte and no setting of an agent applies.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.errors import GitError
from executor.git.clones import FreshCheckout, Missing, make_neutral
from executor.git.command import Git, commit_bytes, git_failed, with_signature
from executor.git.plumbing import DIFF_FORM, BlobReader, IndexFile, ObjectWriter, TreeDiffer, Trees, forget, where_of
from executor.process.files import plain_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from executor.git.command import Identity, Repository, Signer

__all__ = ["Merge", "Store"]

_KEPT_DIFFS = 32  # diffs; one landing asks for the same few again and again
_SHA1_LENGTH = 40  # hexadecimal digits
_KEPT_LISTS = 8  # listings of trees; as the diffs, but each is larger
_KEPT_BYTES = 1024 * 1024  # bytes; a larger diff is not kept in memory
_MOST_FILES = 50  # files; git reads more of them faster from an index
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
"""A path that git accepts on every system: no hidden name, so no `.git` in any spelling."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge in memory: its tree, or the conflicting paths.

    Attributes:
        tree: the merged tree; empty if there are conflicts.
        conflicts: the paths in conflict.
        marked: the tree with conflict markers in these paths; empty without conflicts.
    """

    tree: str
    conflicts: tuple[str, ...]
    marked: str = ""


class Store:
    """Objects of the trusted repository; every method is thread-safe."""

    signer: Callable[[], Signer | None] = staticmethod(lambda: None)
    """Returns the signer of landings, releases and tags; called only if something must be signed."""

    def __init__(
        self,
        repository: Repository,
        folder: Path,
        redact: Callable[[bytes], bytes] = bytes,
        union: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self.redact = redact
        make_neutral(repository, folder)
        self._missing = Missing(repository)
        self._git = self._merging = Git(folder, folder, {"GIT_OBJECT_DIRECTORY": str(repository.objects)})
        if union:
            # In a git directory of their own: other commands make the common one anew without these rules.
            place = folder / "union"
            make_neutral(repository, place, union)
            self._merging = Git(place, place, {"GIT_OBJECT_DIRECTORY": str(repository.objects)})
        self._blobs = BlobReader(self._git, folder)
        self._differ = TreeDiffer(self._git, folder)
        self._trees = Trees(self._blobs)
        self._writers = {kind: ObjectWriter(self._git, folder, kind) for kind in ("blob", "tree", "commit", "tag")}
        self._recent: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._recent_lock = threading.Lock()
        self._listed: OrderedDict[str, frozenset[str]] = OrderedDict()
        self.fresh = FreshCheckout(repository, lambda source, name: Store(source, folder / "submodules" / name))
        """Completes checkouts with content that git alone does not check out."""

    def close(self) -> None:
        """Stop the helper processes."""
        for helper in (self._blobs, self._differ, *self._writers.values()):
            helper.close()
        self.fresh.close()

    # -- reading ------------------------------------------------------------------------------------------------------

    def have(self, *commits: str) -> None:
        """Fetch the objects that a partial clone lacks from the trees of these commits (or from trees).

        Raises:
            ForgeUnavailableError: the remote does not deliver them.
        """
        if self._missing.remote:
            self._missing.fill(commits)

    def tree_of(self, commit: str) -> str:
        """Return the tree id of a commit; for a tree, its own id.

        Raises:
            GitError: the commit does not exist.
        """
        found = self._blobs.read(f"{commit}^{{tree}}")
        if found is None:
            raise GitError(f"commit {commit} is not in the object store")
        return found.id

    def parent_of(self, commit: str) -> str:
        """Return the first parent of a commit.

        Raises:
            GitError: the commit does not exist or has no parent.
        """
        found = self._blobs.read(f"{commit}^")
        if found is None:
            raise GitError(f"commit {commit} has no parent in the object store")
        return found.id

    def time_of(self, commit: str) -> int:
        """Return the committer time of a commit, in seconds since the epoch.

        Raises:
            GitError: the commit does not exist.
        """
        found = self._blobs.read(f"{commit}^{{commit}}")
        head = b"" if found is None else found.data.partition(b"\n\n")[0]
        match = re.search(rb"^committer .* (\d+) [+-]\d+$", head, re.MULTILINE)
        if match is None:
            raise GitError(f"commit {commit} is not in the object store")
        return int(match[1])

    def blob(self, tree: str, path: str) -> bytes | None:
        """Return the content of a file of a tree; None if there is no such file (a folder has no content either)."""
        absent = "\n" in path or self._trees.lacks(tree, path)
        found = None if absent else self._blobs.read(f"{tree}:{path}")
        return found.data if found is not None and found.kind == "blob" else None

    def has_path(self, tree: str, path: str) -> bool:
        """Return whether the tree has a file or folder of that name."""
        absent = "\n" in path or self._trees.lacks(tree, path)
        return not absent and self._blobs.read(f"{tree}:{path}") is not None

    def paths(self, tree: str) -> frozenset[str]:
        """Return every file of a tree; the last few trees are cached."""
        with self._recent_lock:
            known = self._listed.get(tree)
        if known is None:
            read = self._trees.paths(self.tree_of(tree))
            if read is None:
                listing = self._git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", tree)
                read = os.fsdecode(listing).split("\0")
            known = frozenset(read) - {""}
            with self._recent_lock:
                self._listed[tree] = known
                while len(self._listed) > _KEPT_LISTS:
                    self._listed.popitem(last=False)
        return known

    def mentions(self, tree: str, texts: Iterable[str]) -> dict[str, list[str]]:
        """Map each text to the text files of a tree that contain it literally. One search for any number of texts."""
        asked = [text for text in dict.fromkeys(texts) if text and "\0" not in text and "\n" not in text]
        found: dict[str, list[str]] = {text: [] for text in asked}
        patterns = [word for text in asked for word in ("-e", text)]
        code, listing, _ = (
            self._git.call("grep", "-l", "-z", "-I", "-F", *patterns, tree, "--") if asked else (1, b"", b"")
        )
        for name in listing.split(b"\0") if code == 0 else ():
            path = os.fsdecode(name).partition(":")[2]
            data = (self.blob(tree, path) or b"") if len(asked) > 1 and path else b""
            for text in asked if path else ():
                if len(asked) == 1 or os.fsencode(text) in data:
                    found[text].append(path)
        return found

    def diff(self, old: str, new: str) -> bytes:
        """Return the diff of two trees or commits, for `executor.git.diff.parse_diff`.

        The last few are cached: a landing reads the same diff three times.
        """
        self.have(old, new)
        pair = (self.tree_of(old), self.tree_of(new))
        with self._recent_lock:
            known = self._recent.get(pair)
        if known is not None:
            return known
        text = self._differ.diff(*pair)
        if text is None:
            text = self._git.run("diff-tree", *DIFF_FORM, *pair)
        if len(text) <= _KEPT_BYTES:
            with self._recent_lock:
                self._recent[pair] = text
                while len(self._recent) > _KEPT_DIFFS:
                    self._recent.popitem(last=False)
        return text

    def entries_changed(self, base: str, tree: str) -> list[tuple[str, str, bytes]]:
        """Return mode, object id and path of each entry of a tree that its base has not; mode 000000 if it is gone."""
        listing = self._git.run("diff-tree", "-r", "-z", "--no-renames", base, tree).split(b"\0")
        pairs = zip(listing[0::2], listing[1::2], strict=False)
        return [(facts.split()[1].decode(), facts.split()[3].decode(), path) for facts, path in pairs]

    def sizes(self, oids: Iterable[str]) -> list[int]:
        """Return the sizes of objects in bytes, of those that are here."""
        given = "".join(f"{oid}\n" for oid in oids).encode()
        _, facts, _ = self._git.call("cat-file", "--batch-check=%(objectsize)", given=given)
        return [int(line) for line in facts.split(b"\n") if line.isdigit()]

    def whole(self, new: str, base: str) -> bool:
        """Return whether every object that a commit or tree adds to its base exists."""
        code, listing, _ = self._git.call("rev-list", "--objects", new, "--not", base, "--")
        if code != 0:
            return False
        names = b"".join(line.split()[0] + b"\n" for line in listing.splitlines())
        code, facts, _ = self._git.call("cat-file", "--batch-check=%(objectname) %(objectsize)", given=names)
        return code == 0 and all(line.split()[-1].isdigit() for line in facts.splitlines())

    # -- writing ------------------------------------------------------------------------------------------------------

    def commit(self, tree: str, parents: Iterable[str], message: str, who: Identity, when: int) -> str:
        """Write a commit; equal arguments give an equal id. `when` is in seconds since the epoch.

        The last paragraph of the message is its trailers.
        """
        parents, given = list(parents), self._without_secrets(message)
        data = commit_bytes(tree, parents, given, who, when)
        if data and self._is(tree, "tree") and all(self._is(parent, "commit") for parent in parents):
            return self.write("commit", data)
        date = f"{when} +0000"
        arguments = [word for parent in parents for word in ("-p", parent)]
        extra = {
            "GIT_AUTHOR_NAME": who.name,
            "GIT_AUTHOR_EMAIL": who.email,
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_NAME": who.name,
            "GIT_COMMITTER_EMAIL": who.email,
            "GIT_COMMITTER_DATE": date,
        }
        return self._git.run("commit-tree", tree, *arguments, given=given, extra=extra).decode().strip()

    def _is(self, name: str, kind: str) -> bool:
        found = self._blobs.read_again(name)
        return found is not None and (found.id, found.kind) == (name, kind)

    def signed(self, commit: str) -> str:
        """Return the commit with the user's signature, if commits are signed.

        Raises:
            UnsignedError: signing fails.
        """
        signer = self.signer()
        if signer is None or not signer.commits:
            return commit
        found = self._blobs.read(commit)
        if found is None:
            raise GitError(f"commit {commit} is not in the object store")
        header = "gpgsig" if len(commit) == _SHA1_LENGTH else "gpgsig-sha256"
        if b"\n" + header.encode() + b" " in found.data.partition(b"\n\n")[0]:
            return commit
        return self.write("commit", with_signature(found.data, signer.sign(found.data), header=header))

    def signed_tag(self, data: bytes) -> bytes:
        """Return the bytes of a tag with the user's signature, if tags are signed.

        Raises:
            UnsignedError: signing fails.
        """
        signer = self.signer()
        return data + signer.sign(data) if signer is not None and signer.tags else data

    def _without_secrets(self, message: str) -> bytes:
        """Redact the message except its trailers, which are read back and contain only the executor's values."""
        body, gap, trailers = message.rpartition("\n\n")
        return self.redact(body.encode("utf-8", "replace")) + f"{gap}{trailers}".encode("utf-8", "replace")

    def files_tree(self, files: Mapping[str, bytes]) -> str:
        """Write a tree of these files; a name may contain folders."""
        inside: dict[str, dict[str, bytes]] = {}
        entries: list[tuple[bytes, bytes, str]] = []
        for name, data in files.items():
            folder, slash, rest = name.partition("/")
            if slash:
                inside.setdefault(folder, {})[rest] = data
            else:
                entries.append((b"100644", name.encode(), self.write("blob", data)))
        entries += [(b"40000", name.encode(), self.files_tree(own)) for name, own in inside.items()]
        return self._write_tree(entries)

    def folders_tree(self, folders: Mapping[str, str]) -> str:
        """Write a tree with these trees as its folders."""
        return self._write_tree((b"40000", name.encode(), tree) for name, tree in folders.items())

    def _write_tree(self, entries: Iterable[tuple[bytes, bytes, str]]) -> str:
        """Write a tree of (mode, name, object id).

        `git mktree` does not honour `core.fsync` (seen in git 2.39), so a power cut loses its trees; `hash-object`
        does. Git sorts a folder as if its name ended with a slash.
        """
        ordered = sorted(entries, key=lambda entry: entry[1] + b"/" if entry[0] == b"40000" else entry[1])
        return self.write(
            "tree", b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in ordered)
        )

    def write(self, kind: str, data: bytes) -> str:
        """Write an object of a kind, for example a ``tag``; git validates it, and equal content has an equal id."""
        name = self._writers[kind].write(data)
        return name or self._git.run("hash-object", "-t", kind, "-w", "--stdin", given=data).decode().strip()

    def merge(self, ours: str, theirs: str) -> Merge:
        """Merge two commits in memory; touches no checkout. Files that are merged as a union keep the lines of both."""
        if self._missing.remote:
            code, output, _ = self._git.call("merge-base", "--all", ours, theirs)
            self.have(ours, theirs, *(output.decode().split() if code == 0 else ()))
        code, output, words = self._merging.call(
            "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", ours, theirs
        )
        parts = [part for part in output.decode("utf-8", "surrogateescape").split("\0") if part]
        if code not in {0, 1} or not parts:
            raise git_failed("merge-tree", words.decode("utf-8", "replace").strip())
        return Merge(parts[0], ()) if code == 0 else Merge("", tuple(dict.fromkeys(parts[1:])), parts[0])

    def apply(self, tree: str, patch: bytes, index: Path) -> tuple[str, str]:
        """Apply a patch to a tree without a checkout; returns (new tree, "") or ("", git's error message).

        If the surrounding lines have moved, the patch is merged three-way with the blobs in its `index` lines.
        """
        where = {"GIT_INDEX_FILE": str(index)}
        problem = ""
        forget(index)
        try:
            for fallback in ((), ("--3way",)):
                self._git.run("read-tree", tree, extra=where)
                code, _, words = self._merging.call(
                    "apply", "--cached", "--whitespace=nowarn", *fallback, "-", given=patch, extra=where
                )
                if code == 0:
                    return self._git.run("write-tree", extra=where).decode().strip(), ""
                # Without the blobs, the error message of the fallback is less precise than that of the plain attempt.
                problem = problem or words.decode("utf-8", "replace").strip()
            return "", problem
        finally:
            index.unlink(missing_ok=True)

    def with_paths_of(self, tree: str, base: str, paths: Iterable[str], index: Path) -> str:
        """Return the tree with these paths taken from `base`: restored, or removed if the base lacks them."""
        where = {"GIT_INDEX_FILE": str(index)}
        forget(index)
        try:
            self._git.run("read-tree", tree, extra=where)
            names = [os.fsencode(path) for path in paths]
            listing = self._git.run("ls-tree", "-r", "-z", "--full-tree", base, "--", *map(os.fsdecode, names))
            gone = b"".join(b"0 " + b"0" * len(tree) + b"\t" + name + b"\0" for name in names)
            kept = b"".join(
                b"%s %s\t%s\0" % (*facts.split()[0::2], path)
                for facts, _, path in (entry.partition(b"\t") for entry in listing.split(b"\0") if entry)
            )
            self._git.run("update-index", "-z", "--index-info", given=gone + kept, extra=where)
            return self._git.run("write-tree", extra=where).decode().strip()
        finally:
            index.unlink(missing_ok=True)

    def with_contents(self, tree: str, contents: Mapping[str, bytes | None], index: Path) -> str:
        """Return the tree with the contents of these files replaced; None removes a file."""
        where = {"GIT_INDEX_FILE": str(index)}
        forget(index)
        try:
            self._git.run("read-tree", tree, extra=where)
            listing = self._git.run("ls-files", "-s", "-z", extra=where)
            modes = {
                os.fsdecode(path): facts.split()[0]
                for facts, _, path in (entry.partition(b"\t") for entry in listing.split(b"\0") if entry)
            }
            lines = [
                b"0 %s\t%s\0" % (b"0" * len(tree), os.fsencode(path))
                if data is None
                else b"%s %s\t%s\0" % (modes.get(path, b"100644"), self.write("blob", data).encode(), os.fsencode(path))
                for path, data in contents.items()
            ]
            self._git.run("update-index", "-z", "--index-info", given=b"".join(lines), extra=where)
            return self._git.run("write-tree", extra=where).decode().strip()
        finally:
            index.unlink(missing_ok=True)

    def tree_with(self, tree: str, folder: Path, paths: Collection[bytes]) -> str:
        """Return a tree with the present content of these files of a folder; empty where git has to read them.

        Our attributes switch every filter off, so a file is stored as its bytes.
        """
        if len(paths) > _MOST_FILES or not hasattr(os, "memfd_create"):
            return ""
        files: dict[str, tuple[bytes, str]] = {}
        for name in map(os.fsdecode, paths):
            found = plain_file(folder, name, _KEPT_BYTES) if _PLAIN.fullmatch(name) else None
            if found is None:
                return ""
            files[name] = (found[0], self.write("blob", found[1]) if found[0] else "")
        return self._trees.replaced(tree, files, self._write_tree)

    def digest_of(self, tree: str, chosen: Callable[[str], bool]) -> str:
        """Fingerprint of the chosen files of a tree: their paths, modes and contents."""
        entries = self._git.run("ls-tree", "-r", "-z", "--full-tree", tree).split(b"\0")
        kept = (entry for entry in entries if entry and chosen(os.fsdecode(entry.partition(b"\t")[2])))
        return hashlib.sha256(b"\0".join(kept)).hexdigest()

    # -- working trees ------------------------------------------------------------------------------------------------

    def regular_files(self, tree: str) -> dict[str, str]:
        """Return the regular files of a tree, each with its mode; no links, no submodules."""
        listing = self._git.run("ls-tree", "-r", "-z", "--full-tree", tree)
        entries = (entry.partition(b"\t") for entry in listing.split(b"\0") if entry)
        return {os.fsdecode(path): facts[:6].decode() for facts, _, path in entries if facts.startswith(b"100")}

    def with_files(self, tree: str, files: Mapping[str, bytes | None], index: Path) -> str:
        """Return the tree with other contents in some of its regular files; None removes a file."""
        regular = self.regular_files(tree)
        return self.with_contents(tree, {path: data for path, data in files.items() if path in regular}, index)

    def clean(self, tree: str, index: Path, folder: Path, keep: Sequence[str]) -> None:
        """Remove what a tree does not have before it is checked out, except what `keep` names."""
        if keep or not self._trees.tidy(folder, tree):
            self.index(index, folder).clean(keep)

    def checkout(self, tree: str, index: Path, folder: Path) -> None:
        """Make `folder` match the tree exactly, tracked files only; unchanged files are not touched."""
        self.have(tree)
        self._git.run("read-tree", "--reset", "-u", tree, extra=where_of(index, folder), cwd=folder)

    def complete(self, tree: str, index: Path, folder: Path) -> None:
        """Complete a checkout of a tree with the files of its submodules and with Git LFS contents."""
        if self.has_path(tree, ".gitmodules"):
            self.fresh.fill_submodules(index, folder)
        if self.uses_lfs(tree):
            self.fresh.fill_lfs(index, folder)

    def index(self, path: Path, folder: Path) -> IndexFile:
        """An index file and the folder that was checked out with it."""
        return IndexFile(self._git, self._blobs, path, folder)

    def uses_lfs(self, tree: str) -> bool:
        """Return whether the top-level attributes of a tree name the filter of Git LFS."""
        return b"filter=lfs" in (self.blob(tree, ".gitattributes") or b"")
