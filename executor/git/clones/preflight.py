"""What a person has to settle about the repository before a run can land anything: asked of git, changes nothing."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.git.checkout import ownership_problem
from executor.git.command import git_program, users_environment

if TYPE_CHECKING:
    from executor.git.repository import Repository

__all__ = ["Obstacle", "obstacles"]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that a person has to settle first.

    Attributes:
        kind: ``repository-owner``, ``unsigned`` or ``dodo-unconnected``.
        text: what is the case.
        todo: what to do about it.
    """

    kind: str
    text: str
    todo: str

    def __str__(self) -> str:
        return f"{self.text}: {self.todo}"


def obstacles(repository: Repository, *, unsigned: bool, tags: bool) -> list[Obstacle]:
    """Everything that stands in the way of every run.

    Args:
        repository: the user's.
        unsigned: the rules let commits and tags land without a signature.
        tags: a milestone declares a tag.
    """
    if ownership_problem(repository.top):
        text = f"{repository.top} belongs to another user, and git refuses to work in it"
        return [Obstacle("repository-owner", text, f"git config --global --add safe.directory {repository.top}")]
    if unsigned:
        return []
    wanted = {"commit.gpgsign": "landings", **({"tag.gpgsign": "tags"} if tags else {})}
    found = [key for key in wanted if _is_true(repository, key)]
    if not found:
        return []
    names = " and ".join(wanted[key] for key in found)
    text = f"{' and '.join(found)} is set in git's configuration, but {names} are made without a signature"
    todo = 'write unsigned_landing = "allow" into rules/limits.toml if that may be, or switch signing off here'
    return [Obstacle("unsigned", text, todo)]


def _is_true(repository: Repository, key: str) -> bool:
    done = subprocess.run(
        [git_program(), "config", "--type=bool", "--get", key],
        capture_output=True,
        text=True,
        check=False,
        cwd=repository.top,
        env=users_environment(),
    )
    return done.stdout.strip() == "true"
