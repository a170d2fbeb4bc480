"""`python -m executor`, also installed as `make-for-milestones`: set a repository up; run doit from any folder of it.

`make-for-milestones init` writes the commands into the repository's configuration. From then on `doit COMMAND` works
in its top folder, and `make-for-milestones COMMAND` in every folder below.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from executor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main", "root_of"]

_NAME = "make-for-milestones"
_FILE_OPTIONS = {"--output", "--output-file", "-o", "--env-file"}
"""Options with a file name as value, which is relative to the current folder."""
_ANYWHERE = {"doctor", "help", "init", "mcp", "version"}
"""Words that need no repository that is set up; a client starts `mcp` in every folder that it works in."""


def main(words: list[str] | None = None) -> int:
    """Run doit with our commands in the configured folder; returns the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if words[:1] in (["--version"], ["--help"], ["-h"]):
        words[0] = words[0].removeprefix("--").replace("-h", "help")
    if words[:1] == ["worker"]:
        return _worker(words[1:])
    from executor.commands.base import guarded

    return guarded(lambda: _run(words))


def _worker(words: list[str]) -> int:
    """Do work orders. A worker may be started for each one, so it loads nothing that only commands need."""
    from executor.commands.output import prepare, protected

    prepare()
    try:
        with protected():
            if words:
                from executor.cluster.station import main as work

                return work(words)
            from executor.cluster.worker import serve

            return serve(sys.stdin.buffer, sys.stdout.buffer)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (it is raised again, where it becomes a message)
        from executor.commands.base import guarded

        return guarded(partial(_raised, error))


def _raised(error: BaseException) -> int:
    raise error


def _run(words: list[str]) -> int:
    from doit.doit_cmd import DoitMain

    from executor.commands import COMMANDS
    from executor.config.edit_toml import require_toml

    here = Path.cwd()
    root = root_of(here)
    if root is not None:
        words = list(_from_root(words, here, root))
        os.chdir(root)
    elif not words or words[0] not in _ANYWHERE:
        raise UsageError(
            f"{here} has no milestones, and neither has a folder above it in this repository; `{_NAME} init` sets it up"
        )
    require_toml(Path("pyproject.toml"))
    if "" in words:
        raise UsageError("expected no empty word on the command line; doit cannot read one")
    sys.argv[1:] = words  # `commands.base.as_typed` compares
    DoitMain.BIN_NAME = _NAME
    return int(DoitMain(extra_config={"COMMAND": COMMANDS}).run(words or ["list"]) or 0)


def _from_root(words: list[str], here: Path, root: Path) -> Iterator[str]:
    """Yield the words, with file names relative to the top folder instead of the current one."""
    before = ""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in _FILE_OPTIONS and equals:
            yield f"{name}={os.path.relpath(here / value, root)}"
        elif before in _FILE_OPTIONS or (words[0] == "import" and place and (here / word).exists()):
            yield os.path.relpath(here / word, root)
        else:
            yield word
        before = word


def root_of(start: Path) -> Path | None:
    """Return the nearest configured folder, from `start` up to the top of its git repository."""
    from executor.config.project import has_milestones

    for folder in (start, *start.parents):
        if (folder / "dodo.py").is_file() or has_milestones(folder):
            return folder
        if (folder / ".git").exists():
            return None
    return None


if __name__ == "__main__":
    sys.exit(main())
