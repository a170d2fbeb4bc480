"""`doit pause m4`, `doit unpause m4`: nothing of a milestone is started until a person says so. Kept as a ref."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from executor.adapters.identity import identity_of
from executor.adapters.refs import Move, Refs
from executor.adapters.standings import PAUSED
from executor.board import board_of
from executor.commands.base import REASON_OPTION, Command, safe
from executor.commands.person_marks import keep_mark
from executor.core.message import one_line
from executor.errors import ExecutorError, UsageError
from executor.project import open_project, prepare_cache

if TYPE_CHECKING:
    from executor.project import Project

__all__ = ["Pause", "Unpause"]


class Pause(Command):
    """Pauses milestones; a run in progress ends what it has begun and starts nothing more."""

    name = "pause"
    doc_purpose = "start nothing more of a milestone until `doit unpause`"
    doc_usage = "MILESTONE ..."
    cmd_options = (REASON_OPTION,)

    def run(self, options: dict[str, Any], arguments: list[str]) -> int:
        """Record it."""
        project = open_project()
        for item in _named(project, arguments, "pause"):
            if item["pause"] is not None:
                sys.stdout.write(f"{item['id']} is paused already, since {safe(item['pause'][0])}\n")
                continue
            if item["status"] == "released":
                raise UsageError(f"{item['id']} is released, there is nothing to pause")
            held = item["status"] == "in progress" and item["reason"].startswith("is being run")
            _mark(project, item["id"], item["start"], one_line(options["reason"]))
            after = "; the run that is at work ends what it has begun" if held else ""
            sys.stdout.write(f"{item['id']} is paused{after}; go on with: doit unpause {item['id']}\n")
        return 0


class Unpause(Command):
    """Lets milestones go on."""

    name = "unpause"
    doc_purpose = "let a paused milestone go on"
    doc_usage = "MILESTONE ..."

    def run(self, _options: dict[str, Any], arguments: list[str]) -> int:
        """Remove the mark."""
        project = open_project()
        refs = Refs(project.repository, identity_of(project.repository))
        for item in _named(project, arguments, "unpause"):
            name = f"{PAUSED}/{item['id']}"
            tip = refs.tip(name)
            if tip is None:
                sys.stdout.write(f"{item['id']} is not paused\n")
            elif not refs.move([Move(name, tip, None)], f"unpause {item['id']}"):
                raise ExecutorError(f"{name} was changed by somebody else at the same moment; try again")
            else:
                sys.stdout.write(f"{item['id']} goes on: doit milestone:{item['id']}\n")
        return 0


def _named(project: Project, arguments: list[str], command: str) -> list[dict[str, Any]]:
    if not arguments:
        raise UsageError(f"name at least one milestone, for example `doit {command} m4`")
    board = board_of(project)
    found = []
    for name in arguments:
        item = board.milestone(name.removeprefix("milestone:"))
        if item is None:
            known = ", ".join(item["id"] for item in board.milestones) or "none"
            raise UsageError(f'unknown milestone "{name}"; declared in milestones/: {known}')
        found.append(item)
    return found


def _mark(project: Project, milestone: str, commit: str, reason: str) -> None:
    prepare_cache(project)
    who = identity_of(project.repository)
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    message = f"pause {milestone}\n\nMilestone: {milestone}\nSince: {since}\nReason: {reason}\n"
    refs = Refs(project.repository, who)
    name, what = f"{PAUSED}/{milestone}", f"pause {milestone}"
    keep_mark(project, refs, who, name, on=commit, message=message, what=what, adding=False)
