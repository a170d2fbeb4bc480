"""The history of a branch as records, with a cache by its tip so that a long history is walked once.

Looks things up in the history of the trusted repository with GitPython, for commands that may take a moment.

GitPython is confined to this module and to the user's own repository; it never opens a tree that an agent can write.

How much each commit of a branch changed, asked from git in one call.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError, GitError
from executor.git.command import Git, git_program, safe_environment
from executor.git.landed import Record
from executor.process.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from executor.git.refs import Refs
    from executor.git.repository import Repository

__all__ = ["Stat", "read_records", "stats_of", "text_at", "texts_of"]


_VERSION = 1


def read_records(path: Path, refs: Refs, tip: str) -> list[Record]:
    """Everything that the history of a base branch says of milestones, parents before children.

    Args:
        path: a cache file; used only if its tip is on that history, and not needed for anything.
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


_MOST_VERSIONS = 200


def texts_of(repository: Repository, path: Path) -> Iterator[str]:
    """Texts that a file of the checkout has had on any branch, newest first, without repeats.

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
    """Text of a file of the checkout as it was at a commit; empty when it was not there.

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
    """Statistics of a commit: paths in git's order, lines added and removed in text files."""

    paths: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0


def stats_of(repository: Repository, tip: str) -> dict[str, Stat]:
    """Commit -> its statistics, for the first-parent history of a commit.

    Raises:
        GitError: git refused.
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
