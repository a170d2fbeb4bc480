"""Who commits: the identity of the user's own git configuration.

The user's own checkouts of a branch that lands: brought along when they are clean, left alone when they are not.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from executor.git.command import git_program
from executor.git.objects import Identity

if TYPE_CHECKING:
    from executor.git.repository import Repository

__all__ = ["Checkout", "Checkouts", "identity_of", "users_environment"]


def users_environment() -> dict[str, str]:
    """The user's environment for git calls on the user's own checkout, without any GIT_ variable."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}


def identity_of(repository: Repository) -> Identity:
    """Name and mail address as git knows them here; a neutral identity where it knows none."""
    done = subprocess.run(
        [git_program(), "config", "--get-regexp", r"^user\.(name|email)$"],
        capture_output=True,
        text=True,
        check=False,
        cwd=repository.top,
        env=users_environment(),
    )
    known = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    return Identity(known.get("user.name", "milestone executor"), known.get("user.email", "executor@localhost"))


_LOOK_BACK = 200


@dataclass(frozen=True, slots=True)
class Checkout:
    """One working tree that has the branch checked out."""

    top: Path
    clean: bool


class Checkouts:
    """Finds and updates the checkouts of a branch."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def of(self, branch: str) -> list[Checkout]:
        """Checkouts whose HEAD is this branch (full name), and whether they have no local changes."""
        return [
            Checkout(top, not self._git(top, "status", "--porcelain", "--untracked-files=no")[1])
            for top in self._tops(branch)
        ]

    def state(self, top: Path) -> dict[str, str | int]:
        """Branch (empty when detached), commit and number of changed files of a checkout."""
        asked = ("--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no")
        lines = self._git(top, *asked)[1].splitlines()
        head = {words[1]: words[2] for words in (line.split(" ", 2) for line in lines) if words[0] == "#"}
        branch, commit = head.get("branch.head", ""), head.get("branch.oid", "")
        return {
            "branch": branch if branch != "(detached)" else "",
            "commit": commit if commit != "(initial)" else "",
            "changed": sum(not line.startswith("#") for line in lines),
        }

    def in_the_way(self, checkout: Checkout, old: str, new: str) -> str:
        """Git's words why a checkout cannot go from `old` to `new` with its local changes kept; empty when it can."""
        code, _, words = self._git(checkout.top, "read-tree", "-m", "-u", "-n", old, new)
        return "" if code == 0 else " ".join((words or "git read-tree failed").split())

    def follow(self, checkout: Checkout, old: str, new: str, *, carry: bool = False) -> str:
        """After the branch moved from `old` to `new`: update a clean checkout; says what is left to do, or nothing.

        With `carry` one with local changes is updated too if git can keep them as they are.
        """
        if checkout.clean or carry:
            code, _, words = self._git(checkout.top, "read-tree", "-m", "-u", old, new)
            if code == 0:
                return ""
            why = words.splitlines()[-1] if words else "git read-tree failed"
        else:
            why = "it has local changes"
        return (
            f"{checkout.top} has this branch checked out and was left alone ({why}); "
            f"its files are still those of {old[:10]}: save your changes, then `git reset --hard`"
        )

    def catch_up(self, branch: str, tip: str, *, carry: bool = False) -> None:
        """Finish what a crash between moving the branch and updating a clean checkout left undone.

        With `carry` one with local changes is updated too if git can keep them as they are.
        """
        for top in self._tops(branch):
            code, tree, _ = self._git(top, "write-tree")
            if code != 0:
                continue
            history = self._git(top, "log", "--first-parent", f"-{_LOOK_BACK}", "--format=%H %T", tip)[1].splitlines()
            trees = [line.split() for line in history]
            if not trees or trees[0][1] == tree.strip():
                continue
            older = next((commit for commit, its_tree in trees if its_tree == tree.strip()), None)
            if older is not None and (carry or self._git(top, "diff-files", "--quiet")[0] == 0):
                self._git(top, "read-tree", "-m", "-u", older, tip)

    def _tops(self, branch: str) -> list[Path]:
        common = self._repository.common_dir
        found = []
        if common.name == ".git" and _head(common) == branch:
            found.append(common.parent)
        for git_dir in sorted((common / "worktrees").glob("*")):
            pointer = git_dir / "gitdir"
            if _head(git_dir) == branch and pointer.is_file():
                found.append(Path(pointer.read_text(encoding="utf-8").strip()).parent)
        return [top for top in found if top.is_dir()]

    def _git(self, top: Path, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [git_program(), "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=top,
            env=users_environment(),
        )
        return done.returncode, done.stdout, done.stderr.strip()


def _head(git_dir: Path) -> str:
    head = git_dir / "HEAD"
    text = head.read_text(encoding="utf-8", errors="replace").strip() if head.is_file() else ""
    return text.removeprefix("ref:").strip() if text.startswith("ref:") else ""
