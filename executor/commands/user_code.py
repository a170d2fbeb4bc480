"""Faults in the user's dodo.py and command line, separated from faults of this program."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from doit.cmdparse import CmdParseError

import executor
from executor.commands import COMMANDS
from executor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["explained", "user_fault"]


_OURS = Path(executor.__file__).parent
_LIBRARIES = {"site-packages", "dist-packages"}
_READERS = {
    "loader.py": "doit cannot read its tasks",
    "dependency.py": "doit cannot open the database that DOIT_CONFIG names",
}
"""Modules of doit that read what a dodo.py says; they raise any exception where it says something odd."""


def user_fault(error: BaseException, root: Path) -> str:
    """Return one line with file, line and function if an exception comes from the user's Python files; empty otherwise.

    It does if the last user line in the traceback comes after the last line of ours, or if doit fails to read the file.

    Args:
        error: the exception.
        root: folder of the user's dodo.py and its local imports.
    """
    if isinstance(error, SyntaxError) and error.filename and _is_users(Path(error.filename), root):
        return f"{_name(error.filename, root)}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(_OURS):
            found = ""
        elif _is_users(path, root):
            place = "" if frame.name == "<module>" else f" ({frame.name})"
            found = f"{_name(frame.filename, root)}, line {frame.lineno}{place}"
        elif not found and path.parent.name == "doit" and path.name in _READERS:
            found = f"dodo.py: {_READERS[path.name]}"
    return found and f"{found}: {type(error).__name__}: {error}".removesuffix(": ")


def _is_users(path: Path, root: Path) -> bool:
    return path.is_relative_to(root) and not path.is_relative_to(_OURS) and not _LIBRARIES & set(path.parts)


def _name(file: str, root: Path) -> str:
    return str(Path(file).relative_to(root))


_COMMAND_NAME = re.compile(r"Task can't be called '(?P<name>[^']*)'")
_OPTION = re.compile(r"(option \S+ .*?)\(parsing options")
_GROUPS = {"issue", "milestone", "release", "step"}
"""Names of the tasks made from milestones; a dodo.py cannot define them."""


def explained(error: Exception, commands: Iterable[str], tasks: Iterable[str]) -> UsageError:
    """Return doit's error about the command line or dodo.py, with additional hints.

    Args:
        error: doit's exception.
        commands: names of the commands known to doit.
        tasks: names of the loaded tasks.
    """
    text = str(error).strip()
    option = _OPTION.search(text)
    if option:
        return UsageError(f"{option[1].strip()}; `doit help run` lists the options")
    word = getattr(error, "not_found", None)
    if word:
        return UsageError(_unknown(word, commands, tasks))
    reserved = _COMMAND_NAME.match(text)
    if reserved and reserved["name"] in COMMANDS:
        return UsageError(
            f'dodo.py: task "{reserved["name"]}" has the name of a command of make-for-milestones; rename the task, or '
            "remove that command from [tool.doit.plugins.command]"
        )
    own = next((name for name in re.findall(r"'([^']*)'|\b(\w+)\b", text) for name in name if name in _GROUPS), "")
    if own:
        return UsageError(f'dodo.py: "{own}" is reserved for the tasks of make-for-milestones; rename yours ({text})')
    if text.startswith("Could not find dodo file"):
        return UsageError(f"{text.splitlines()[0]} `make-for-milestones init` writes one")
    return UsageError(text if isinstance(error, CmdParseError) else f"dodo.py: {text}")


def _unknown(word: str, commands: Iterable[str], tasks: Iterable[str]) -> str:
    from executor.model.hints import did_you_mean

    if word in COMMANDS and word not in set(commands):
        return (
            f"`doit {word}` is a command of make-for-milestones that the configuration of this repository lacks; "
            "`make-for-milestones init` adds it to the configuration"
        )
    lists = "; `doit help` lists the commands, `doit list --tasks` the tasks"
    return f'"{word}" is neither a command nor a task{did_you_mean(word, [*commands, *tasks]) or lists}'
