"""Reads git history: landings, releases and reverts. Pure functions of records.

A landing is recognised wherever it is: on the branch, on the base after a merge, a rebase or a cherry-pick, and in a
squashed commit whose message repeats the trailers of the squashed commits.

The history of a branch as records, with a cache by its tip, so that a long history is walked once.

Queries of the trusted repository's history with GitPython, for commands that may take a moment.

GitPython is confined to this module and to the user's repository; it never opens a tree that an agent can write.

Statistics of each commit of a branch, from one git call.
"""

from __future__ import annotations

import os
import re
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError, GitError
from executor.git.command import Git, git_program, safe_environment
from executor.git.trailers import Landing, Released, ReleaseTrailers, Trailers, decode, parse_trailers
from executor.process.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from executor.git.command import Repository
    from executor.git.refs import Refs

__all__ = [
    "Changed",
    "Record",
    "Revert",
    "Stat",
    "active_reverts",
    "changed_in",
    "landings_in",
    "milestones_in",
    "read_records",
    "records_in",
    "releases_in",
    "reverts_in",
    "stats_of",
    "taken_back",
    "text_at",
    "texts_of",
    "trees_of",
]


_LINE = re.compile(r"[ \t]*[A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)*: ")
_PAIR = re.compile(r"[ \t]*([A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)*): (.*)")
_KEYS = frozenset(
    {"Milestone", "Issue", "Revision", "Spec-Key", "Result-Key", "Check-Key", "Work-Key", "Was", "Pull-Request"}
)
_NEEDED = frozenset({"Milestone", "Issue", "Revision", "Spec-Key", "Result-Key"})
_REVERTS = re.compile(
    r"^This reverts commit ([0-9a-f]{7,64})(?:, reversing\s+changes made to ([0-9a-f]{7,64}))?", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Record:
    """A commit of the history with information for the executor.

    Attributes:
        commit: full id.
        tree: full id of its tree.
        time: committer time in seconds since the epoch.
        text: its message.
    """

    commit: str
    tree: str
    time: int
    text: str


@dataclass(frozen=True, slots=True)
class Revert:
    """A commit that reverts another one.

    Attributes:
        commit: the reverting commit.
        time: its committer time in seconds since the epoch.
        reverted: the reverted commit, as named in the message.
        onto: for a reverted merge: the parent that is kept; otherwise empty.
    """

    commit: str
    time: int
    reverted: str
    onto: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """The files that a commit changed, relative to its first parent.

    Attributes:
        commit: full id.
        time: committer time in seconds since the epoch.
        merge: it has several parents.
        paths: path -> object ids before and after; zeros for no file.
    """

    commit: str
    time: int
    merge: bool
    paths: Mapping[str, tuple[str, str]]


def landings_in(
    records: Iterable[Record], milestone: str, recognised: Mapping[str, Sequence[Trailers]] | None = None
) -> list[Landing]:
    """Return the landings of a milestone, oldest first; positions count from 0.

    A landing that is found twice (a merge commit that repeats it, a cherry-picked copy) counts once, as the later one.

    Args:
        records: commits, parents before children.
        milestone: milestone id.
        recognised: commits that count as landings although their messages do not say so.
    """
    found: dict[tuple[str, int, str, str], tuple[Record, Trailers]] = {}
    for record in records:
        for trailers in _trailers_in(record.text) or (recognised or {}).get(record.commit, ()):
            if trailers.milestone == milestone:
                key = (trailers.issue, trailers.revision, trailers.spec_key, trailers.result_key)
                found.pop(key, None)
                found[key] = (record, trailers)
    return [
        Landing(record.commit, record.tree, place, record.time, trailers)
        for place, (record, trailers) in enumerate(found.values())
    ]


def milestones_in(record: Record) -> set[str]:
    """Return the milestones with a landing in a commit."""
    return {trailers.milestone for trailers in _trailers_in(record.text)}


def releases_in(records: Iterable[Record]) -> dict[str, Released]:
    """Return the latest release of each milestone."""
    found: dict[str, Released] = {}
    for record in records:
        trailers = decode(ReleaseTrailers, _pairs(record.text))
        if trailers is not None and trailers.tip:
            found[trailers.milestone] = Released(record.commit, trailers.tip)
    return found


def reverts_in(records: Iterable[Record]) -> list[Revert]:
    """Return the reverts that git's standard message records, in the order of the records."""
    return [
        Revert(record.commit, record.time, hit[1], hit[2] or "")
        for record in records
        for hit in _REVERTS.finditer(record.text)
    ]


def active_reverts(reverts: Sequence[Revert]) -> list[Revert]:
    """Return the reverts that were not reverted themselves; a revert of a revert restores the change."""
    undone: set[str] = set()
    for revert in reversed(reverts):
        if revert.commit not in undone:
            undone |= {other.commit for other in reverts if other.commit.startswith(revert.reverted)}
    return [revert for revert in reverts if revert.commit not in undone]


def taken_back(
    changes: Iterable[Changed],
    landings: Collection[str],
    others: Collection[str],
    inverse: Callable[[str, str], bool],
) -> list[Revert]:
    """Return landings that a commit reverts without saying so, by its effect on their files.

    A commit reverts a landing if it does nothing else: every file that it changes returns to a state from before the
    reverted landings, or its lines are exactly the inverse of those of one landing. A commit that also changes other
    files is ordinary work. One that restores a landing's version of its files reapplies the landing.

    Args:
        changes: commits, parents before children.
        landings: landing commits of the milestone.
        others: commits of another kind: other landings, releases, explicit reverts.
        inverse: returns whether the lines of one commit are the inverse of another's.
    """
    standing: dict[str, Changed] = {}
    before: dict[str, list[str]] = {}
    gone: dict[str, tuple[Changed, Changed]] = {}
    for change in changes:
        if change.commit in landings:
            standing[change.commit] = change
            for path, (old, _) in change.paths.items():
                before.setdefault(path, []).append(old)
        elif not change.merge and change.commit not in others and change.paths:
            back = [item for item, _ in gone.values() if _restores(change, item)]
            standing.update((item.commit, item) for item in back)
            for item in back:
                del gone[item.commit]
            for item in _undone(change, standing.values(), before, inverse) if not back else ():
                gone[item.commit] = (standing.pop(item.commit), change)
    return [Revert(change.commit, change.time, landing) for landing, (_, change) in gone.items()]


def _restores(change: Changed, landing: Changed) -> bool:
    return all(change.paths.get(path, ("", ""))[1] == new for path, (_, new) in landing.paths.items())


def _undone(
    change: Changed,
    standing: Iterable[Changed],
    before: Mapping[str, Sequence[str]],
    inverse: Callable[[str, str], bool],
) -> list[Changed]:
    """Return the landings that a commit reverts; none if it does anything else."""
    near = [item for item in standing if item.paths and item.paths.keys() <= change.paths.keys()]
    found = [item for item in near if all(_is_older(change, item, path, before) for path in item.paths)]
    if found and change.paths.keys() == {path for item in found for path in item.paths}:
        return found
    same = [item for item in near if item.paths.keys() == change.paths.keys() and inverse(change.commit, item.commit)]
    return same[-1:]


def _is_older(change: Changed, landing: Changed, path: str, before: Mapping[str, Sequence[str]]) -> bool:
    """Return whether a commit returns a file of a landing to a state from before that landing."""
    states = before[path]
    return change.paths[path][1] in states[: states.index(landing.paths[path][0]) + 1]


def _trailers_in(text: str) -> list[Trailers]:
    """Return the landings in a message: its trailers, or those of every commit that was squashed into it."""
    found = [trailers for block in _blocks(text) if (trailers := parse_trailers(block)) is not None]
    return list(dict.fromkeys(found))


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """Yield runs of ``Key: value`` lines; a repeated key starts a new run."""
    block: dict[str, str] = {}
    for line in (*text.splitlines(), ""):
        hit = _PAIR.fullmatch(line)
        if hit is None or hit[1] in block:
            if block.keys() >= _NEEDED:
                yield block
            block = {}
        if hit is not None and hit[1] in _KEYS:
            block[hit[1]] = hit[2].strip()


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        hit = _PAIR.fullmatch(line)
        if hit is not None and not line[:1].isspace():
            yield hit[1], hit[2].strip()


_VERSION = 1  # raised whenever the file changes; another one is read again from git


def read_records(path: Path, refs: Refs, tip: str) -> list[Record]:
    """Return all records about milestones in the history of a base branch, parents before children.

    Args:
        path: an optional cache file; used only if its tip is on that history.
        refs: the refs of the repository.
        tip: commit of the branch.
    """
    cached = _cached(read_json(path))
    if cached is not None and cached[0] == tip:
        return cached[1]
    if cached is not None and refs.contains(cached[0], tip):
        found = cached[1] + refs.records(tip, since=(cached[0],))
    else:
        found = refs.records(tip)
    if path.parent.is_dir():
        try:
            rows = [astuple(record) for record in found]
            write_json(path, {"version": _VERSION, "tip": tip, "records": rows}, durable=False)
        except ExecutorError:
            return found
    return found


def _cached(value: Any) -> tuple[str, list[Record]] | None:
    try:
        if value["version"] != _VERSION:
            return None
        return str(value["tip"]), [Record(*row) for row in value["records"]]
    except (KeyError, TypeError):
        return None


_MOST_VERSIONS = 200  # commits of one spec file that `doit explain` looks through; a choice


def texts_of(repository: Repository, path: Path) -> Iterator[str]:
    """Yield all past texts of a file of the checkout on any branch, newest first, without repeats.

    Raises:
        GitError: the history cannot be read.
    """
    import git

    inside = path.resolve().relative_to(repository.top).as_posix()
    seen: set[str] = set()
    try:
        git.refresh(git_program())
        with git.Repo(repository.top, search_parent_directories=False) as opened:
            opened.git.update_environment(**safe_environment())
            for commit in opened.iter_commits("--all", paths=inside, max_count=_MOST_VERSIONS):
                try:
                    blob = commit.tree / inside
                except KeyError:
                    continue
                if blob.hexsha not in seen:
                    seen.add(blob.hexsha)
                    yield blob.data_stream.read().decode("utf-8", "replace")
    except (git.GitCommandError, git.InvalidGitRepositoryError, git.NoSuchPathError, ValueError) as error:
        raise GitError(f"the history of {inside} cannot be read: {error}") from error


def text_at(repository: Repository, commit: str, path: Path) -> str:
    """Return the text of a file of the checkout at a commit; empty if it did not exist.

    Raises:
        GitError: the commit cannot be read.
    """
    import git

    inside = path.resolve().relative_to(repository.top).as_posix()
    try:
        git.refresh(git_program())
        with git.Repo(repository.top, search_parent_directories=False) as opened:
            opened.git.update_environment(**safe_environment())
            try:
                blob = opened.commit(commit).tree / inside
            except KeyError:
                return ""
            return str(blob.data_stream.read().decode("utf-8", "replace"))
    except (git.GitCommandError, git.InvalidGitRepositoryError, git.NoSuchPathError, ValueError) as error:
        raise GitError(f"{inside} at {commit[:10]} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Stat:
    """Statistics of a commit: paths in git's order, added and removed lines of text files."""

    paths: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0


def stats_of(repository: Repository, tip: str) -> dict[str, Stat]:
    """Map each commit of a first-parent history to its statistics.

    Raises:
        GitError: git failed.
    """
    git = Git(repository.common_dir, repository.common_dir)
    arguments = ("--first-parent", "--diff-merges=first-parent", "--numstat", "--no-renames", "--format=%x1e%H", "-z")
    output = git.run("log", *arguments, "--end-of-options", tip, "--").decode("utf-8", "replace")
    found = {}
    for record in output.split("\x1e"):
        commit, *lines = (part.strip("\n") for part in record.split("\0"))
        if commit:
            found[commit] = _stat(lines)
    return found


def _stat(lines: list[str]) -> Stat:
    paths, added, removed = [], 0, 0
    for line in lines:
        plus, _, rest = line.partition("\t")
        minus, tab, path = rest.partition("\t")
        if tab:
            paths.append(path)
            added += int(plus) if plus.isdecimal() else 0
            removed += int(minus) if minus.isdecimal() else 0
    return Stat(tuple(paths), added, removed)


def trees_of(repository: Repository, tip: str, most: int = -1) -> dict[str, tuple[str, str]]:
    """The first-parent commits of a branch by id, each with its tree and its first parent.

    Args:
        repository: the user's.
        tip: the branch's last commit.
        most: how many commits; -1 for all.

    Raises:
        GitError: the tip is no commit.
    """
    words = ("log", "--first-parent", f"--max-count={most}", "--format=%H %T %P", tip)
    output = Git(repository.git_dir, repository.top).run(*words)
    rows = [line.split() for line in output.decode("ascii").splitlines()]
    return {row[0]: (row[1], row[2] if len(row) > 2 else "") for row in rows}  # noqa: PLR2004  (a root has no parent)


def records_in(output: bytes) -> list[Record]:
    """Return the commits of a log in the format of `Refs.records`."""
    parts = output.decode("utf-8", "replace").split("\0")
    rows = zip(parts[0::4], parts[1::4], parts[2::4], parts[3::4], strict=False)
    return [Record(commit, tree, int(time), _saying(text)) for commit, tree, time, text in rows]


def changed_in(part: bytes) -> Changed:
    """Parse one commit of a raw log that was split at its records."""
    head, *fields = part.strip(b"\n").split(b"\0")
    commit, time, *parents = head.decode().split()
    rows = [field.strip(b"\n") for field in fields if field.strip(b"\n")]
    facts = [row.split() for row in rows[0::2]]
    paths = {
        os.fsdecode(path): (row[2].decode(), row[3].decode()) for row, path in zip(facts, rows[1::2], strict=False)
    }
    return Changed(commit, int(time), len(parents) > 1, paths)


def _saying(text: str) -> str:
    """Return the relevant lines of a message: trailers, with the gaps between them, and reverts."""
    lines = text.splitlines()
    kept = [
        line if _LINE.match(line) or line.startswith(("This reverts", "changes made to ")) else "" for line in lines
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")
