"""Landings read from git history, with a cache by tip so that a long history is walked once.

Looks things up in the history of the trusted repository with GitPython, for commands that may take a moment.

GitPython is confined to this module and to the user's own repository; it never opens a tree that an agent can write.

How much each commit of a branch changed, asked from git in one call.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError, GitError
from executor.git.command import Git, git_program, safe_environment
from executor.git.trailers import Landing, Trailers
from executor.process.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from executor.git.refs import Refs
    from executor.git.repository import Repository

__all__ = ["Stat", "read_landings", "stats_of", "texts_of"]


_VERSION = 3


def read_landings(
    folder: Path, refs: Refs, tip: str, milestone: str, recognised: Mapping[str, Trailers] | None = None
) -> list[Landing]:
    """Landings of a milestone on the first-parent history of `tip`, oldest first.

    The cache is a file in `folder`; it is used only if its tip is on that history, and is not needed for anything.
    `recognised` are commits that are landings although their messages do not say so.
    """
    path = folder / "landings.json"
    extra = sorted(recognised or {})
    cached = _cached(read_json(path), extra)
    if cached is not None and cached[0] == tip:
        return cached[1]
    if cached is not None and _goes_on(refs, cached[0], tip, milestone):
        known = cached[1]
        fresh = refs.landings(tip, milestone, since=cached[0], recognised=recognised)
        found = known + [
            Landing(item.commit, item.tree, len(known) + item.position, item.time, item.trailers) for item in fresh
        ]
    else:
        found = refs.landings(tip, milestone, recognised=recognised)
    _keep(path, tip, found, extra)
    return found


def _goes_on(refs: Refs, known: str, tip: str, milestone: str) -> bool:
    """Whether what landed up to `known` has landed on `tip` too, and nothing but what follows it has to be read."""
    return refs.on_first_parents(known, tip) and milestone not in refs.releases(tip, since=known)


def _cached(value: Any, recognised: list[str]) -> tuple[str, list[Landing]] | None:
    try:
        if value["version"] != _VERSION or value["recognised"] != recognised:
            return None
        rows = [
            Landing(row["commit"], row["tree"], place, row["time"], Trailers(**row["trailers"]))
            for place, row in enumerate(value["landings"])
        ]
        return value["tip"], rows
    except (KeyError, TypeError):
        return None


def _keep(path: Path, tip: str, found: list[Landing], recognised: list[str]) -> None:
    if not path.parent.is_dir():
        return
    try:
        write_json(
            path,
            {"version": _VERSION, "tip": tip, "recognised": recognised, "landings": [asdict(item) for item in found]},
            durable=False,
        )
    except ExecutorError:
        return


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


@dataclass(frozen=True, slots=True)
class Stat:
    """What a commit changed: paths in git's order, lines added and removed in text files."""

    paths: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0


def stats_of(repository: Repository, tip: str) -> dict[str, Stat]:
    """Commit -> what it changed, for the first-parent history of a commit.

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
