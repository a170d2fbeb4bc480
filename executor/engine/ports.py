"""What a session has to do with outside of itself: git, children, work trees, the journal's disk."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.git.checkout import Checkouts, identity_of
from executor.git.objects import Store
from executor.git.refs import Refs
from executor.git.worktrees import Pool
from executor.process.runner import Supervisor
from executor.state.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from executor.config.project import Project
    from executor.git.objects import Identity

__all__ = ["Outside", "now"]


class Outside:
    """The outside of a session; whoever gives it another one gives it another world."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.identity: Identity = identity_of(project.repository)
        self.refs = Refs(project.repository, self.identity)
        self.checkouts = Checkouts(project.repository)

    def store(self, redact: Callable[[bytes], bytes]) -> Store:
        """The objects of the repository; texts that are written go through `redact`."""
        return Store(self._project.repository, self._project.cache / "_store", redact)

    def journal(self, folder: Path, run: str) -> Journal:
        """The journal of a milestone."""
        return Journal.open(folder, run=run, now=now)

    def supervisor(self, lock: Path) -> Supervisor:
        """The parent of the children of a milestone."""
        return Supervisor(lock)

    def pool(self, numbers: Path, folder: Path, keep: tuple[str, ...]) -> Pool:
        """The places where a milestone is worked on."""
        return Pool(numbers, folder, keep)


def now() -> str:
    """The present moment as ISO-8601 UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
