"""The user's checkouts of a branch: found by asking git, updated only if no data of the user can be lost.

A branch moves under a checkout only if the checkout can follow: it has no changes, no merge or rebase in progress, git
accepts its owner, and no untracked or ignored file of the user would be overwritten.

The identity for commits: that of the user's git configuration.

Obstacles in the repository that a person must settle before a run can land anything: asked of git, read-only.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from executor.errors import UnsignedError
from executor.git.command import Git, Identity, git_directory, git_program, signer_of, users_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.git.command import Repository


__all__ = [
    "Checkout",
    "Checkouts",
    "Obstacle",
    "checkouts_of",
    "identity_of",
    "obstacles",
    "ownership_problem",
    "users_environment",
]


def identity_of(repository: Repository) -> Identity:
    """Return the name and mail address in git's configuration; a neutral identity without any."""
    done = subprocess.run(
        [git_program(), "config", "--get-regexp", r"^user\.(name|email)$"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        cwd=repository.top,
        env=users_environment(),
    )
    known = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    return Identity(known.get("user.name", "milestone executor"), known.get("user.email", "executor@localhost"))


_MOST_NAMED = 3  # names in a sentence
_DEEPEST_LINK = 5
"""Number of symbolic refs that git follows."""
_OPERATIONS = {
    "MERGE_HEAD": "a merge is in progress",
    "REVERT_HEAD": "a revert is in progress",
    "CHERRY_PICK_HEAD": "a cherry-pick is in progress",
    "rebase-merge": "a rebase is in progress",
    "rebase-apply": "a rebase is in progress",
    "index.lock": "another git process is running in it, or has left index.lock",
}
"""Name in the git directory -> the operation in progress that it indicates."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A working tree that has the branch checked out.

    Attributes:
        top: its top folder.
        obstacle: why the branch must not move under it; empty if it may.
        changed: it has changes to tracked files, staged or not.
    """

    top: Path
    obstacle: str = ""
    changed: bool = False


class Checkouts:
    """Finds and updates the checkouts of a branch."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: tuple[object, list[str], list[dict[str, str]]] = (None, [], [])

    def of(self, branch: str) -> list[Checkout]:
        """Return the checkouts whose HEAD is this branch (full name), or that are in the middle of its rebase."""
        return [self._look_at(top) for top in self._tops(branch)]

    def state(self, top: Path) -> dict[str, str | int]:
        """Return branch (empty if detached), commit and number of changed files of a checkout."""
        asked = ("--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no")
        lines = self._git(top, *asked)[1].splitlines()
        head = {words[1]: words[2] for words in (line.split(" ", 2) for line in lines) if words[0] == "#"}
        branch, commit = head.get("branch.head", ""), head.get("branch.oid", "")
        return {
            "branch": branch if branch != "(detached)" else "",
            "commit": commit if commit != "(initial)" else "",
            "changed": sum(not line.startswith("#") for line in lines),
        }

    def in_the_way(self, checkout: Checkout, old: str, new: str, *, carry: bool = False) -> str | None:
        """Return why a checkout cannot go from commit `old` to `new`; None if it can.

        Args:
            checkout: a result of `of`.
            old: its current commit or tree.
            new: its future commit or tree.
            carry: local changes are no obstacle if git can preserve them.
        """
        if checkout.obstacle:
            return checkout.obstacle
        if checkout.changed and not carry:
            return "it has uncommitted changes"
        files = list(self._users_files(checkout.top, old, new))
        if files:
            more = f" and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
            names = ", ".join(files[:_MOST_NAMED])
            return f"{names}{more} would be overwritten: not tracked by git, but the branch has files there"
        code, _, words = self._git(checkout.top, "read-tree", "-m", "-u", "-n", old, new)
        return None if code == 0 else " ".join((words or "git read-tree failed").split())

    def follow(self, checkout: Checkout, old: str, new: str) -> str:
        """Update a checkout after the branch moved from `old` to `new`; `in_the_way` must have found no obstacle.

        Returns:
            The remaining manual step if the update failed; otherwise empty.
        """
        code, _, words = self._git(checkout.top, "read-tree", "-m", "-u", old, new)
        if code == 0:
            return ""
        why = " ".join(words.split()) or "git read-tree failed"
        return (
            f"{checkout.top} has this branch checked out and was not updated ({why}); its files are still those of "
            f"{old[:10]}: save your changes, then `git reset --hard`"
        )

    def catch_up(self, branch: str, old: str, new: str) -> None:
        """Update the checkouts that a killed run left at `old` after it moved the branch to `new`.

        Staged work of a person can look exactly the same, so this is only for a run that is known to have died there.
        """
        for checkout in self.of(branch):
            if checkout.obstacle:
                continue
            code, tree, _ = self._git(checkout.top, "write-tree")
            if code == 0 and tree.strip() == self._tree(checkout.top, old) != self._tree(checkout.top, new):
                left_alone = self._git(checkout.top, "diff-files", "--quiet")[0] == 0
                if left_alone and not list(self._users_files(checkout.top, old, new)):
                    self._git(checkout.top, "read-tree", "-m", "-u", old, new)

    def _tree(self, top: Path, commit: str) -> str:
        return self._git(top, "rev-parse", "--verify", "-q", f"{commit}^{{tree}}")[1].strip()

    def _look_at(self, top: Path) -> Checkout:
        refused = ownership_problem(top)
        if refused:
            return Checkout(top, refused)
        asked = [word for name in _OPERATIONS for word in ("--git-path", name)]
        for name, path in zip(_OPERATIONS, self._git(top, "rev-parse", *asked)[1].splitlines(), strict=False):
            if (top / path).exists():
                return Checkout(top, _OPERATIONS[name])
        wanted = ("--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
        code, changes, words = self._git(top, *wanted)
        return Checkout(top, "" if code == 0 else " ".join(words.split()) or "git status failed", bool(changes))

    def _users_files(self, top: Path, old: str, new: str) -> Iterator[str]:
        """Yield untracked files that an update from `old` to `new` would overwrite or delete.

        Git itself considers ignored files expendable.
        """
        listing = self._git(top, "diff-tree", "-r", "-z", "--no-renames", "--name-status", old, new)[1].split("\0")
        changes = list(zip(listing[1::2], listing[0::2], strict=False))
        leaving = {path for path, letter in changes if letter == "D"}
        seen: set[str] = set()
        for path, letter in changes:
            if letter != "A":
                continue
            for name in _in_place_of(top, path):
                if name not in leaving and name not in seen:
                    seen.add(name)
                    yield name

    def _tops(self, branch: str) -> list[Path]:
        """Return the working trees that have the branch checked out or rebase it, as git lists them."""
        git = Git(self._repository.common_dir, self._repository.common_dir)
        found: dict[Path, None] = {}
        heads = _heads(self._repository.common_dir, branch)
        if heads is None or heads != self._known[0]:
            self._known = heads, _same_branch(git, branch), list(_worktrees(git))
        _, names, entries = self._known
        for place, entry in enumerate(entries):
            if entry.get("branch") not in names and not any(_rebases(Path(entry["worktree"]), name) for name in names):
                continue
            top = Path(entry["worktree"]) if place else self._main_top(git, Path(entry["worktree"]))
            if top is not None and top.is_dir():
                found.setdefault(top.resolve())
        return list(found)

    def _main_top(self, git: Git, listed: Path) -> Path | None:
        """Return the main working tree; git lists its git directory instead if that is elsewhere."""
        repository = self._repository
        if repository.git_dir.resolve() == repository.common_dir.resolve():
            return repository.top
        code, output, _ = git.call("config", "--get", "core.worktree")
        if code == 0:
            return repository.common_dir / output.decode("utf-8", "surrogateescape").strip()
        return listed if (listed / ".git").exists() else None

    def _git(self, top: Path, *arguments: str) -> tuple[int, str, str]:
        return _users_git(top, *arguments)


def _same_branch(git: Git, branch: str) -> list[str]:
    """Return the full name of a branch and of those that it is a symbolic ref to: they move together."""
    names = [branch]
    while len(names) < _DEEPEST_LINK:
        code, output, _ = git.call("symbolic-ref", "--quiet", names[-1])
        if code != 0:
            break
        names.append(output.decode("utf-8", "surrogateescape").strip())
    return names


def _heads(common_dir: Path, branch: str) -> tuple[object, ...] | None:
    """Return the contents of the worktrees' HEAD files; None if only git can read them.

    Every landing asks, and reading a few files costs less than two processes of git. Symbolic branches, and refs that
    are not kept in files, are left to git.
    """
    found: list[object] = [branch]
    names = {branch}
    try:
        for place in (common_dir, *sorted(common_dir.glob("worktrees/*"))):
            head, pointer = place / "HEAD", place / "gitdir"
            text = head.read_text("utf-8")
            found.append((place, text, pointer.read_bytes() if place != common_dir else b""))
            if text.startswith("ref:"):
                names.add(text.removeprefix("ref:").strip())
            if head.is_symlink():
                return None
        loose = [place for name in names if (place := common_dir / name).is_file()]
        symbolic = any(place.is_symlink() or place.read_bytes().startswith(b"ref:") for place in loose)
    except (OSError, UnicodeDecodeError):
        return None
    return None if symbolic or (common_dir / "reftable").exists() else tuple(found)


def ownership_problem(top: Path) -> str | None:
    """Return why git refuses to work in a checkout because of its owner; None if it accepts it."""
    code, _, words = _users_git(top, "rev-parse", "--git-dir")
    if code == 0 or "dubious ownership" not in words:
        return None
    return f"it belongs to another user: `git config --global --add safe.directory {top}` if you trust it"


def _rebases(top: Path, branch: str) -> bool:
    """Return whether a rebase of the branch is in progress in a checkout; its HEAD is detached until it ends."""
    git_dir = git_directory(top / ".git")
    names = ("rebase-merge/head-name", "rebase-apply/head-name", "rebase-merge/update-refs")
    if git_dir is None:
        return False
    for name in names:
        with suppress(OSError):
            if branch in (git_dir / name).read_text(encoding="utf-8", errors="surrogateescape").splitlines():
                return True
    return False


def _worktrees(git: Git) -> Iterator[dict[str, str]]:
    """Yield every working tree that git lists, the main one first."""
    output = git.run("worktree", "list", "--porcelain", "-z").decode("utf-8", "surrogateescape")
    for record in output.split("\0\0"):
        lines = [line.partition(" ") for line in record.strip("\0").split("\0") if line]
        if lines:
            yield {key: value for key, _, value in lines}


def _in_place_of(top: Path, path: str) -> Iterator[str]:
    """Yield files that occupy a path: at a folder above it, at it, or below it."""
    parts = path.split("/")
    for count in range(1, len(parts)):
        name = "/".join(parts[:count])
        place = top / name
        if place.is_symlink() or place.is_file():
            yield name
            return
        if not place.exists():
            return
    place = top / path
    if place.is_dir() and not place.is_symlink():
        for folder, _, names in os.walk(place):
            yield from (str((Path(folder) / name).relative_to(top)) for name in sorted(names))
    elif place.exists() or place.is_symlink():
        yield path


def _users_git(top: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a git command in the user's checkout, with the user's configuration but without hooks."""
    done = subprocess.run(
        [git_program(), "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        cwd=top,
        env=users_environment(),
    )
    return done.returncode, done.stdout, done.stderr.strip()


def checkouts_of(top: Path, common_dir: Path) -> tuple[Path, ...]:
    """Return the user's checkout, then the main checkout and the existing linked worktrees of its repository."""
    found = [top]
    if common_dir.name == ".git":
        found.append(common_dir.parent)
    pointers = sorted((common_dir / "worktrees").glob("*/gitdir"))
    found += [Path(pointer.read_text("utf-8", "surrogateescape").strip()).parent for pointer in pointers]
    return tuple(dict.fromkeys(path for path in found if path.is_dir()))


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A condition that a person must settle first.

    Attributes:
        kind: ``repository-owner``, ``repository-bare``, ``unsigned`` or ``dodo-unconnected``.
        text: the condition.
        todo: the remedy.
    """

    kind: str
    text: str
    todo: str

    def __str__(self) -> str:
        return f"{self.text}: {self.todo}"


def obstacles(repository: Repository, *, unsigned: bool, tags: bool) -> list[Obstacle]:
    """Return all obstacles to every run.

    Args:
        repository: the user's repository.
        unsigned: the rules let commits and tags land without a signature.
        tags: a milestone declares a tag.
    """
    if ownership_problem(repository.top):
        text = f"{repository.top} belongs to another user, and git refuses to work in it"
        return [Obstacle("repository-owner", text, f"git config --global --add safe.directory {repository.top}")]
    if _is_bare(repository):
        text = f"{repository.top} has files checked out, but git considers it a bare repository (core.bare is true)"
        linked = repository.git_dir != repository.common_dir
        where = " --worktree" if linked else ""
        return [Obstacle("repository-bare", text, f"git -C {repository.top} config{where} core.bare false")]
    signer = None if unsigned else signer_of(repository, identity_of(repository))
    if signer is None or not (signer.commits or tags):
        return []
    try:
        signer.sign(b"Can this key sign without a prompt?\n")
    except UnsignedError as error:
        keys = [key for key, wanted in (("commit.gpgsign", signer.commits), ("tag.gpgsign", signer.tags)) if wanted]
        text = f"{' and '.join(keys)} is set in git's configuration, but signing fails here: {error}"
        todo = (
            "unlock the key so that it signs without a prompt (ssh-add, gpg-agent), switch off signing here, or set "
            'unsigned_landing = "allow" in rules/limits.toml to land without signatures'
        )
        return [Obstacle("unsigned", text, todo)]
    return []


def _is_bare(repository: Repository) -> bool:
    """Whether git refuses to work in the checkout; other tools' worktrees are known to set that by mistake.

    Such a checkout cannot follow its branch. Once it works again, its next commit would undo what landed meanwhile.
    """
    done = subprocess.run(
        [git_program(), "rev-parse", "--is-bare-repository"],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        cwd=repository.top,
        env=users_environment(),
    )
    return done.stdout.strip() == "true"
