"""Branches and other refs of the user's repository: read, and moved only by compare-and-swap.

Names of the refs that store what must outlive `.cache/`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from executor.git.command import Git, git_failed
from executor.git.plumbing import BlobReader
from executor.git.trailers import pairs_in, plain_trailers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from executor.git.command import Identity, Repository
    from executor.git.history import Changed, Record

__all__ = [
    "ACCEPTED",
    "AHEAD",
    "ANSWERS",
    "APPROVED",
    "ATTEMPTS",
    "BRANCHES",
    "DELIVERED",
    "HANDOFFS",
    "LANDED",
    "MERGED",
    "REMOTE",
    "REVIVED",
    "SETTLED",
    "STEPS",
    "Kept",
    "Move",
    "Refs",
    "attempt_in",
    "attempt_ref",
    "locks_on",
    "own_refs",
    "parts_of",
]


_LOG = (
    "log",
    "-z",
    "--topo-order",
    "--reverse",
    "--format=%H%x00%T%x00%ct%x00%B",
    "--grep=^[ \t]*Milestone: ",
    "--grep=^Milestone-Released: ",
    "--grep=^This reverts commit ",
)
_FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile(rb"\x1e(?=[0-9a-f]{40,64} [0-9]+ )")


@dataclass(frozen=True, slots=True)
class Move:
    """An update of a ref: from `old` (None: must not exist; empty: any value) to `new` (None: delete it)."""

    ref: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A ref with its commit's trailers: an attempt, or a decision of a person."""

    ref: str
    commit: str
    trailers: dict[str, str]


class Refs:
    """The refs of the trusted repository."""

    def __init__(self, repository: Repository, who: Identity | None = None, *, lasting: bool = False) -> None:
        extra = {} if who is None else {"GIT_COMMITTER_NAME": who.name, "GIT_COMMITTER_EMAIL": who.email}
        self._git = Git(repository.common_dir, repository.common_dir, extra)
        self._trailers: dict[str, dict[str, str]] = {}
        self._reader = BlobReader(self._git, repository.common_dir) if lasting else None
        self._absent: set[str] = set()

    def close(self) -> None:
        """Stop the helper process."""
        if self._reader is not None:
            self._reader.close()

    def tip(self, ref: str) -> str | None:
        """Return the commit that a full ref name points to, or None."""
        if self._reader is not None:
            found = self._reader.read(f"{ref}^{{commit}}")
            return found.id if found is not None else None
        code, output, _ = self._git.call("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        return output.decode().strip() if code == 0 else None

    def tips(self, refs: Sequence[str]) -> dict[str, str]:
        """Map each of these full ref names to its commit; missing refs are omitted."""
        read = {} if self._reader is None else {ref: self._reader.read(ref) for ref in refs}
        found = {ref: item.id for ref, item in read.items() if item is not None}
        if not self._absent.issuperset(set(refs) - found.keys()):
            # The helper cannot tell a ref without its object, as after a power cut, from no ref; a listing can.
            found = self.listed(refs)
            self._absent.update(set(refs) - found.keys())
        return {ref: found[ref] for ref in refs if ref in found}

    def listed(self, patterns: Sequence[str]) -> dict[str, str]:
        """Names and objects of the refs that match one of these patterns or are below one, in one call of git."""
        if not patterns:
            return {}
        output = self._git.run("for-each-ref", "--format=%(refname) %(objectname)", "--", *patterns)
        lines = output.decode("utf-8", "surrogateescape").split("\n")
        return dict(line.rsplit(" ", 1) for line in lines if line)

    def default_branches(self) -> list[str]:
        """Return short names of possible default branches: that of the remote, else the only one not ours."""
        code, output, _ = self._git.call("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
        if code == 0:
            return [output.decode("utf-8", "surrogateescape").strip().partition("/")[2]]
        branches = [name for name in self.branches() if not name.startswith("milestone/")]
        return branches if len(branches) == 1 else []

    def below(self, prefix: str) -> list[str]:
        """Return the full names of the refs below a prefix that ends with a slash."""
        return self._git.run("for-each-ref", "--format=%(refname)", "--", prefix).decode().splitlines()

    def branches(self) -> list[str]:
        """Return the short names of the local branches."""
        output = self._git.run("for-each-ref", "--format=%(refname)", "--", "refs/heads/").decode()
        return [line.removeprefix("refs/heads/") for line in output.splitlines()]

    def move(self, moves: Sequence[Move], reason: str) -> bool:
        """Make all these updates or none; False if a ref had an unexpected value.

        Raises:
            GitError: git failed for another reason.
        """
        lines = ["start\n"]
        zero = "0" * len(next((move.new or move.old or "" for move in moves), ""))
        for move in moves:
            old = zero if move.old is None else move.old
            verb = f"delete {move.ref}" if move.new is None else f"update {move.ref} {move.new}"
            lines.append(f"{verb} {old}".rstrip() + "\n")
        lines += ["prepare\n", "commit\n"]
        code, _, words = self._git.call("update-ref", "-m", reason, "--stdin", given="".join(lines).encode())
        if code == 0:
            return True
        output = words.decode("utf-8", "replace")
        if "but expected" in output or "reference already exists" in output or "unable to resolve reference" in output:
            return False
        raise git_failed("update-ref", output.strip())

    def records(self, ref: str, *, since: Sequence[str] = ()) -> list[Record]:
        """Return commits about landings, releases or reverts, parents before children.

        The whole history counts, not only first parents: a manual merge adds landings through a second parent.

        Args:
            ref: full ref name or commit id.
            since: omit commits reachable from these.
        """
        from executor.git.history import records_in

        return records_in(self._git.run(*_LOG, "--end-of-options", ref, *(f"^{commit}" for commit in since), "--"))

    def record(self, commit: str) -> Record:
        """Return one commit, whatever its message."""
        from executor.git.history import Record

        output = self._git.run("log", "-1", "--format=%H%x00%T%x00%ct", "--end-of-options", commit, "--")
        name, tree, time = output.decode().strip().split("\0")
        return Record(name, tree, int(time), "")

    def changes(self, tip: str, *, since: Sequence[str] = (), most: int) -> list[Changed]:
        """Return the files that the newest commits of a history changed, parents before children.

        Args:
            tip: the newest commit.
            since: omit commits reachable from these.
            most: maximum number of commits.
        """
        from executor.git.history import changed_in

        raw = ("--raw", "--no-abbrev", "-z", "--no-renames", "--diff-merges=first-parent", "--topo-order")
        form = ("--format=%x1e%H %ct %P", f"--max-count={most}")
        limits = (tip, *(f"^{item}" for item in since), "--")
        code, output, _ = self._git.call("log", *raw, *form, "--end-of-options", *limits)
        if code != 0:
            return []  # a partial clone does not have the trees of its history
        return [changed_in(part) for part in reversed(_COMMIT.split(output)) if part.strip(b"\0\n")]

    def absorbs(self, tip: str, other: str) -> bool:
        """Return whether a merge of another commit would change nothing: the history has its content already."""
        code, output, _ = self._git.call("merge-tree", "--write-tree", "--no-messages", tip, other)
        return code == 0 and output.split()[:1] == [self._git.run("rev-parse", f"{tip}^{{tree}}").strip()]

    def is_inverse(self, commit: str, other: str) -> bool:
        """Return whether the lines of one commit are the inverse of another's, at any position in the same files."""
        shown = ("-p", "-U0", "--no-renames", "--no-ext-diff", "--no-textconv", "--diff-merges=first-parent")
        sides = []
        for name in (commit, other):
            code, text, _ = self._git.call("log", "-1", *shown, "--format=", "--end-of-options", name, "--")
            sides.append(_lines_by_file(text) if code == 0 else {})
        return bool(sides[0]) and sides[0] == {path: (gone, new) for path, (new, gone) in sides[1].items()}

    def unmerged(self, bases: Sequence[str]) -> list[Record]:
        """Return such commits of every local and remote-tracking branch that these bases do not contain."""
        from executor.git.history import records_in

        output = self._git.run(
            *_LOG, "--ignore-missing", "--branches", "--remotes", *(f"^{commit}" for commit in bases), "--"
        )
        return records_in(output)

    def holding(self, commit: str) -> list[tuple[str, str]]:
        """Return local and remote-tracking branches that contain a commit: full name and tip."""
        form = "--format=%(refname) %(objectname)"
        output = self._git.run("for-each-ref", form, f"--contains={commit}", "--", "refs/heads/", "refs/remotes/")
        pairs = [line.rsplit(" ", 1) for line in output.decode("utf-8", "surrogateescape").splitlines()]
        return [(name, tip) for name, tip in pairs if not name.endswith("/HEAD")]

    def remote_tips(self, branches: Sequence[str]) -> dict[str, str]:
        """Map full names of remote-tracking branches to their commits, for these short names."""
        return self.listed([f"refs/remotes/*/{branch}" for branch in branches])

    def between(self, older: str, newer: str) -> set[str]:
        """Return commits that are reachable from `newer` and not from `older`."""
        return set(self._git.run("rev-list", newer, f"^{older}", "--").decode().split())

    def kept(self, *prefixes: str) -> list[Kept]:
        """Return every ref below these prefixes, with the trailers of its commit."""
        form = "%(refname)%00%(objectname)%00%(contents:trailers:only,unfold)%1e"
        code, answer, words = self._git.call("for-each-ref", f"--format={form}", "--", *prefixes)
        if code != 0:
            if any(map(self.unreadable, prefixes)):
                return [item for prefix in prefixes for ref in self._readable(prefix) for item in self.kept(ref)]
            raise git_failed("for-each-ref", words.decode("utf-8", "replace").strip())
        output = answer.decode("utf-8", "replace")
        found = []
        for record in output.split("\x1e"):
            name, _, rest = record.strip("\n").partition("\0")
            commit, _, text = rest.partition("\0")
            if name:
                found.append(Kept(name, commit, _pairs(text)))
        return found

    def unreadable(self, prefix: str) -> list[tuple[str, str]]:
        """Return refs below a prefix whose object is missing, as after a power cut, with the object's name."""
        lines = self._git.run("for-each-ref", "--format=%(refname) %(objectname)", "--", prefix).decode().splitlines()
        named = [line.rsplit(" ", 1) for line in lines]
        return [(ref, name) for ref, name in named if self._git.call("cat-file", "-e", f"{name}^{{tree}}")[0] != 0]

    def _readable(self, prefix: str) -> list[str]:
        broken = {ref for ref, _ in self.unreadable(prefix)}
        names = self._git.run("for-each-ref", "--format=%(refname)", "--", prefix).decode().splitlines()
        return [name for name in names if name not in broken]

    def merged_at(self, commit: str, branch: str) -> str:
        """Return the first commit on the first-parent history of `branch` that contains `commit`; empty without one."""
        if self.on_first_parents(commit, branch):
            return commit
        limits = ("--first-parent", "--ancestry-path", "--reverse")
        output = self._git.run("rev-list", *limits, branch, f"^{commit}", "--")
        return (output.decode().split() or [""])[0]

    def committer_of(self, commit: str) -> str:
        """Return the committer line of a commit: name, address in angle brackets, seconds since the epoch, zone."""
        form = "--format=%cn <%ce> %cd"
        return self._git.run("log", "-1", form, "--date=raw", "--end-of-options", commit, "--").decode().strip()

    def time_of(self, commit: str) -> int:
        """Return the committer time of a commit, in seconds since the epoch."""
        return int(self._git.run("log", "-1", "--format=%ct", "--end-of-options", commit, "--"))

    def message(self, commit: str) -> str:
        """Return the message of a commit."""
        return self._git.run("log", "-1", "--format=%B", "--end-of-options", commit, "--").decode("utf-8", "replace")

    def has(self, commit: str) -> bool:
        """Return whether a commit exists locally."""
        return bool(commit) and self._git.call("cat-file", "-e", f"{commit}^{{commit}}")[0] == 0

    def trailers(self, commit: str) -> dict[str, str]:
        """Return the trailers of a commit's message; cached for a full id, which never names another commit."""
        known = self._trailers.get(commit)
        if known is None:
            known = _pairs(self._trailers_of(commit))
            if _FULL_ID.fullmatch(commit):
                self._trailers[commit] = known
        return dict(known)

    def _trailers_of(self, commit: str) -> str:
        found = self._reader.read(commit) if self._reader is not None and _FULL_ID.fullmatch(commit) else None
        plain = plain_trailers(found.data) if found is not None and found.kind == "commit" else None
        if plain is not None:
            return plain
        form = "--format=%(trailers:only,unfold)"
        return self._git.run("log", "-1", form, "--end-of-options", commit, "--").decode("utf-8", "replace")

    def author_of(self, commit: str) -> str:
        """Return the name of a commit's author."""
        output = self._git.run("log", "-1", "--format=%an", "--end-of-options", commit, "--")
        return output.decode("utf-8", "replace").strip()

    def touched(self, tip: str, count: int) -> list[tuple[str, list[str]]]:
        """Message and changed files of the last commits that are no merges, newest first."""
        form = ("--no-merges", "--name-only", "--format=%x1e%B%x1f", f"--max-count={count}")
        output = self._git.run("-c", "core.quotePath=false", "log", *form, "--end-of-options", tip, "--")
        parts = [item.partition("\x1f") for item in output.decode("utf-8", "replace").split("\x1e")[1:]]
        return [(message, files.split("\n")[1:-1]) for message, _, files in parts]

    def paths(self, tip: str) -> list[str]:
        """Files of a commit's tree."""
        listing = self._git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", tip)
        return [os.fsdecode(path) for path in listing.split(b"\0") if path]

    def contains(self, older: str, newer: str) -> bool:
        """Return whether `older` is reachable from `newer`."""
        return self._git.call("merge-base", "--is-ancestor", older, newer)[0] == 0

    def on_first_parents(self, older: str, newer: str) -> bool:
        """Return whether `older` is on the first-parent history of `newer`."""
        code, output, _ = self._git.call("rev-list", "--first-parent", newer, "--not", f"{older}^@", "--")
        return code == 0 and output.decode().split()[-1:] == [older]


def _lines_by_file(text: bytes) -> dict[bytes, tuple[list[bytes], list[bytes]]]:
    """Map paths in git's form to added and removed lines, for a diff without context."""
    found: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    for part in re.split(rb"^diff --git ", text, flags=re.MULTILINE)[1:]:
        head, _, hunks = part.partition(b"\n@@")
        lines = hunks.split(b"\n")
        added = [line[1:] for line in lines if line.startswith(b"+")]
        removed = [line[1:] for line in lines if line.startswith(b"-")]
        if added or removed:
            found[head.partition(b"\n")[0]] = (added, removed)
    return found


def _pairs(text: str) -> dict[str, str]:
    return dict(pairs_in(text))


ATTEMPTS = "refs/attempts"
"""Unlanded attempts: `<milestone>/<issue>/<number>` below this."""
ACCEPTED = "refs/executor/accepted"
"""Landed work that a person accepts under a changed spec: `<milestone>/<issue>` below this."""
APPROVED = "refs/executor/approved"
"""Approvals of stopped changes: `<milestone>/<issue>` below this."""
STEPS = "refs/executor/steps"
"""Results of the steps of a workflow: `<milestone>/<issue>/<phase>.<step>` below this, until the issue has landed."""
HANDOFFS = "refs/executor/handoffs"
"""Handoffs to later issues: `<milestone>/<issue>` below this."""
ANSWERS = "refs/executor/answers"
"""Answers to agents' questions: `<milestone>/<issue>` below this."""
MERGED = "refs/executor/merged"
"""Pull requests that were merged by hand, without our trailers: `<milestone>/<issue>/<revision>` below this."""
REMOTE = "refs/executor/remote"
"""Last seen commit of the remote's milestone branch: `<milestone>` below this."""
DELIVERED = "refs/executor/released"
"""The release that the remote has completely: `<milestone>` below this."""
SETTLED = "refs/executor/settled"
"""The tip whose landings are attested and whose tracking files are pushed: `<milestone>` below this."""
AHEAD = "refs/executor/ahead"
"""Landings ahead of a milestone branch whose checkout cannot follow: `<milestone>` below this."""
LANDED = "refs/executor/landed"
"""The tip at the latest landing, which outlives the branch: `<milestone>` below this."""
BRANCHES = "refs/executor/branches"
"""The branch of a milestone, and its start: `<milestone>` below this."""
REVIVED = "refs/executor/revived"
"""Reverted work that a person wants again: `<milestone>/<issue>` below this."""
_PARTS = {ATTEMPTS: 3, ACCEPTED: 2, APPROVED: 2, STEPS: 3, HANDOFFS: 2, ANSWERS: 2, MERGED: 3, REVIVED: 2}
"""Number of parts of a name below each of these."""
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def parts_of(ref: str) -> tuple[str, ...] | None:
    """Return milestone, issue and attempt, step or revision of a ref; None for a foreign ref.

    Anybody can create a ref below the executor's prefixes; refs with other names are ignored.
    """
    for place, count in _PARTS.items():
        if ref.startswith(f"{place}/"):
            parts = tuple(ref[len(place) + 1 :].split("/"))
            return parts if len(parts) == count and all(parts) else None
    return None


def attempt_in(ref: str) -> tuple[str, int] | None:
    """Return issue and number of the attempt that a ref below `ATTEMPTS` keeps; None if its name has another form."""
    parts = parts_of(ref) if ref.startswith(f"{ATTEMPTS}/") else None
    return (parts[1], int(parts[2])) if parts is not None and _NUMBER.fullmatch(parts[2]) else None


def attempt_ref(milestone: str, issue: str, number: int) -> str:
    """Return the full name of the ref that keeps an attempt."""
    return f"{ATTEMPTS}/{milestone}/{issue}/{number}"


def own_refs(milestone: str, branch: str) -> tuple[str, ...]:
    """Return the names of the refs that a run of a milestone moves, or prefixes of them that end with a slash."""
    single = (f"{place}/{milestone}" for place in (AHEAD, BRANCHES, LANDED))
    below = (f"{place}/{milestone}/" for place in (ATTEMPTS, ACCEPTED, APPROVED, STEPS, HANDOFFS, ANSWERS))
    return (branch, *single, *below)


def locks_on(common_dir: Path, refs: Iterable[str]) -> list[Path]:
    """Return the lock files of these refs, and of the packed ones; a running git also holds some.

    Args:
        common_dir: the git directory of the repository.
        refs: full names, or prefixes that end with a slash.
    """
    found = [common_dir / "packed-refs.lock"]
    for name in refs:
        if name.endswith("/"):
            for place, _, files in os.walk(common_dir / name):  # a folder that git removes meanwhile is passed over
                found += [Path(place, file) for file in files if file.endswith(".lock")]
        else:
            found.append(common_dir / f"{name}.lock")
    return [path for path in found if path.exists()]
