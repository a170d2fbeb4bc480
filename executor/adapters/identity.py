"""Who commits: the identity of the user's own git configuration."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from executor.adapters.git import git_program
from executor.adapters.store import Identity

if TYPE_CHECKING:
    from executor.adapters.repository import Repository

__all__ = ["identity_of", "users_environment"]


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
