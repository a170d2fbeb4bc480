"""`python -m executor`, also installed as `make-for-milestones`: set a repository up; run doit from any folder of it.

`make-for-milestones init` writes the commands into the configuration of the repository. From then on `doit COMMAND`
works in its top folder, and `make-for-milestones COMMAND` in every folder below.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from doit.doit_cmd import DoitMain

from executor.commands import COMMANDS
from executor.commands.base import guarded
from executor.config.edit_toml import require_toml
from executor.config.project import has_milestones
from executor.errors import UsageError

__all__ = ["main", "root_of"]

_NAME = "make-for-milestones"
_ANYWHERE = {"doctor", "help", "init", "version"}
"""Words that need no repository that is set up."""


def main(words: list[str] | None = None) -> int:
    """Run doit with our commands in the folder that is set up; returns the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if words[:1] in (["--version"], ["--help"], ["-h"]):
        words[0] = words[0].removeprefix("--").replace("-h", "help")
    return guarded(lambda: _run(words))


def _run(words: list[str]) -> int:
    root = root_of(Path.cwd())
    if root is not None:
        os.chdir(root)
    elif not words or words[0] not in _ANYWHERE:
        raise UsageError(
            f"{Path.cwd()} has no milestones, and neither has a folder above it in this repository; "
            f"`{_NAME} init` sets it up"
        )
    require_toml(Path("pyproject.toml"))
    DoitMain.BIN_NAME = _NAME
    return int(DoitMain(extra_config={"COMMAND": COMMANDS}).run(words or ["list"]) or 0)


def root_of(start: Path) -> Path | None:
    """The nearest folder, from `start` up to the top of its git repository, that is set up for milestones."""
    for folder in (start, *start.parents):
        if (folder / "dodo.py").is_file() or has_milestones(folder):
            return folder
        if (folder / ".git").exists():
            return None
    return None


if __name__ == "__main__":
    sys.exit(main())
