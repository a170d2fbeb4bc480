"""From an agent's profile and an issue to the command that is run: argument list, environment, files."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from executor.process.runner import sane_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from executor.model.agent_profile import Agent

__all__ = ["child_environment", "missing_program", "ordinary_environment", "secret_values", "secrets_of"]

_PUBLIC = re.compile(r"_(URL|HOME|CONFIG|PROJECT|BASE|ENDPOINT|REGION|MODEL(_NAME)?|HOST|PORT|USE_\w+)$")
_ALLOWED = ("HOME", "LANG", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "USER", "XDG_RUNTIME_DIR")


def ordinary_environment(names: tuple[str, ...] = ()) -> dict[str, str]:
    """The environment of a child: common variables, and those that its profile allows by name."""
    environment = {
        key: value for key, value in os.environ.items() if key in _ALLOWED or key in names or key.startswith("LC_")
    }
    environment["PATH"] = sane_path(os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"))
    return environment


def secrets_of(names: Iterable[str]) -> tuple[str, ...]:
    """Values of the variables that profiles pass on by name, the ordinary ones left out."""
    special = sorted({name for name in names if name not in _ALLOWED and not name.startswith("LC_") and name != "PATH"})
    return tuple(dict.fromkeys(value for name in special if (value := os.environ.get(name))))


def secret_values(names: Iterable[str]) -> dict[str, str]:
    """Secret variables by name, without addresses, paths and choices."""
    return {
        name: value
        for name in sorted(set(names))
        if (value := os.environ.get(name)) and secrets_of((name,)) and not _is_public(name, value)
    }


def _is_public(name: str, value: str) -> bool:
    return _PUBLIC.search(name) is not None and re.search(r"://[^/@\s]*:[^/@\s]+@", value) is None


def child_environment(names: tuple[str, ...], given: Mapping[str, str], tree: Path) -> dict[str, str]:
    """Environment of a child that works in `tree`; git does not look for a repository above that folder."""
    return {**ordinary_environment(names), "GIT_CEILING_DIRECTORIES": str(tree.parent), **given}


def missing_program(agent: Agent, environment: Mapping[str, str]) -> str:
    """Why the program of an agent cannot be started with this environment; empty when it can, as far as is known."""
    name = agent.command[0]
    if "{" in name or ("/" in name and not name.startswith("/")):
        return ""  # known later, or a file of the tree
    if shutil.which(name, path=environment.get("PATH", "")) is not None:
        return ""
    where = "cannot be executed" if name.startswith("/") else "is not on PATH"
    return f"agent {agent.name}: {name} {where}"
