"""`doit gc`: clean up by the retention rule. Unlanded work is never removed before its time has come."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from executor.adapters.refs import Move, Refs
from executor.board import is_held
from executor.commands.base import Command, table
from executor.core.state import AttemptState
from executor.observe import ATTEMPTS, Observer, observe
from executor.project import compile_project, open_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Gc"]

_DRY = {
    "name": "dry_run",
    "short": "",
    "long": "dry-run",
    "type": bool,
    "default": False,
    "help": "only show what would be removed",
}
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class _Item:
    """One thing to remove: a ref with its commit, or a folder, and why it may go."""

    what: str
    why: str
    commit: str = ""
    path: Path | None = None


class Gc(Command):
    """Removes what is reachable from a landed tip or older than the retention rule, and says so line by line."""

    name = "gc"
    doc_purpose = "remove old attempts, logs and workspaces by the retention rule"
    doc_usage = ""
    cmd_options = (_DRY,)

    def run(self, options: dict[str, Any], _arguments: list[str]) -> int:
        """Show and remove."""
        project = open_project()
        compiled = compile_project(project)
        refs = Refs(project.repository)
        observer = observe(compiled, refs)
        days = compiled.policy.limits.retention_days
        items = [*_attempts(observer, refs, days), *_logs(observer, days), *_workspaces(observer)]
        if not items:
            sys.stdout.write(f"nothing to remove (attempts and logs are kept {days} days)\n")
            return 0
        sys.stdout.write(table([[item.what, item.why] for item in items]) + "\n")
        if not options["dry_run"]:
            moves = [Move(item.what, item.commit, None) for item in items if item.commit]
            if moves:
                refs.move(moves, "gc")
            for item in items:
                if item.path is not None:
                    shutil.rmtree(item.path, ignore_errors=True)
            sys.stdout.write(f"removed {len(items)}\n")
        return 0


def _attempts(observer: Observer, refs: Refs, days: int) -> Iterator[_Item]:
    """Refs of failed attempts whose time has come; attempts with a result that may still land stay."""
    oldest = time.time() - days * _DAY
    for kept in refs.kept(ATTEMPTS):
        _, _, milestone, issue, number = kept.ref.split("/")
        view = observer.views.get(milestone)
        state = view.states.get(issue) if view is not None else None
        attempt = state.attempts.get(int(number)) if state is not None else None
        if (
            attempt is None
            or attempt.state is not AttemptState.FAILED
            or (view is not None and is_held(observer.compiled.project, milestone))
        ):
            continue
        made = refs.time_of(kept.commit)
        if made < oldest:
            yield _Item(kept.ref, f"failed attempt, {int((time.time() - made) // _DAY)} days old", commit=kept.commit)


def _logs(observer: Observer, days: int) -> Iterator[_Item]:
    oldest = time.time() - days * _DAY
    project = observer.compiled.project
    for milestone in observer.views:
        for folder in sorted((project.state(milestone) / "logs").glob("*/*")):
            if folder.is_dir() and folder.stat().st_mtime < oldest:
                yield _Item(str(folder.relative_to(project.root)), "logs, older than the rule", path=folder)


def _workspaces(observer: Observer) -> Iterator[_Item]:
    project = observer.compiled.project
    for milestone in observer.views:
        folder = project.state(milestone) / "workspaces"
        if folder.is_dir() and not is_held(project, milestone):
            yield _Item(str(folder.relative_to(project.root)), "workspaces, made again when needed", path=folder)
