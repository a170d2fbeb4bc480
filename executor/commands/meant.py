"""Which milestone a command is about when none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.errors import UsageError
from executor.status.summary_cache import board_of, is_held

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.config.project import Compiled, Project

__all__ = ["meant_milestone"]


def meant_milestone(compiled: Compiled, names: Sequence[str], command: str) -> str:
    """The milestone that is named, or the one that is meant.

    Args:
        compiled: what is declared.
        names: what the command line names, with or without ``milestone:``.
        command: the command, for the message.

    Raises:
        UsageError: more than one is named, or none and it is not clear which is meant, or there is no such one.
    """
    if len(names) > 1:
        raise UsageError(f"name one milestone, for example `doit {command} {names[0]}`")
    if names:
        return compiled.milestone(names[0].removeprefix("milestone:")).id
    return _meant(compiled.project, command)


def _meant(project: Project, command: str) -> str:
    """The one that is run now, else the only one that is not complete.

    Raises:
        UsageError: there is no such one.
    """
    items = board_of(project).milestones
    for found in (
        [item["id"] for item in items if is_held(project, item["id"])],
        [item["id"] for item in items if item["landed"] < item["total"]],
        [item["id"] for item in items],
    ):
        if len(found) == 1:
            return str(found[0])
        if found:
            raise UsageError(
                f"name one milestone, for example `doit {command} {found[0]}`; there are {', '.join(found)}"
            )
    raise UsageError("milestones/ declares no milestone; `doit new` makes one")
