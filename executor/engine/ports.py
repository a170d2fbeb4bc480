"""The ports of the engine: adapters for git, processes, worktrees and journal, and the plug-in interfaces.

`Outside` builds the adapters; tests substitute an in-memory one. `Workflow` and `Publisher` are implemented above the
engine, which imports neither: commands pass them to a session as `Plugins`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from executor.git.checkout import Checkouts, identity_of
from executor.git.objects import Store
from executor.git.refs import Refs
from executor.git.worktrees import Pool
from executor.process.runner import Supervisor
from executor.state.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from executor.config.project import Project
    from executor.engine.candidate import Candidate
    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.git.command import Identity
    from executor.git.trailers import Landing
    from executor.state.model import Attempt

__all__ = ["BARE", "DirectWorkflow", "LocalPublisher", "Outside", "Plugins", "Publisher", "Workflow", "now"]


class Workflow(Protocol):
    """Implements issues in steps."""

    def implement(self, issue: IssueRun) -> None:
        """Run the unfinished steps and build a candidate, or record why there is none.

        Raises:
            InterruptedRunError: the run is being stopped.
        """

    def settle(self, issue: IssueRun, attempt: Attempt) -> None:
        """Recover a multi-step attempt of a dead run: keep finished steps, then interrupt the attempt."""

    def forget(self, issue: IssueRun) -> None:
        """Delete the stored step results of a landed issue."""


class Publisher(Protocol):
    """Keeps a remote, and a forge if configured, in sync with the milestone branch."""

    @property
    def token(self) -> str:
        """Credential for remote and forge; empty if unused."""

    @property
    def merges(self) -> bool:
        """Whether results land by pull requests that the forge merges."""

    def tip(self, run: MilestoneRun) -> str:
        """Synchronise the milestone branch with the remote's and return the tip."""

    def beneath(self, issue: IssueRun) -> str:
        """Synchronise, and return the commit to prove a result of the issue on: the tip, or the layer below it."""

    def unstack(self, issue: IssueRun) -> bool:
        """Judge a refused result again on the tip; False if it was judged there or is never stacked."""

    def show_stopped(self, candidate: Candidate) -> None:
        """Show a result that waits for a person."""

    def show_question(self, issue: IssueRun) -> None:
        """Show an issue that asks a question, if it is not shown yet."""

    def publish(self, candidate: Candidate, commit: str) -> None:
        """Show a proved candidate before it lands."""

    def may_land(self, issue: IssueRun) -> bool:
        """Return whether the branch and pull request of the issue allow it to land."""

    def push(self, landings: Sequence[tuple[Candidate, str]], tip: str) -> bool:
        """Move the remote's milestone branch from `tip` over these candidates' commits, in order.

        False if the branch moved or the remote refused. A refusal is recorded on the issues, which then may not land.
        """

    def record_push(self, run: MilestoneRun) -> None:
        """Record the position of the remote's milestone branch after a push."""

    def resume(self, candidate: Candidate) -> bool:
        """Wait for a merge that an earlier run requested; False without one."""

    def merge(self, candidate: Candidate, landing: Landing) -> bool:
        """Have the forge merge a proved candidate; False if branch or pull request moved meanwhile."""


class DirectWorkflow:
    """The workflow of repositories without steps."""

    def implement(self, issue: IssueRun) -> None:
        """Never called: no issue has steps."""
        raise NotImplementedError(str(issue.ref))

    def settle(self, issue: IssueRun, attempt: Attempt) -> None:
        """Never called: no issue has steps."""
        raise NotImplementedError(f"{issue.ref}, attempt {attempt.number}")

    def forget(self, issue: IssueRun) -> None:
        """Do nothing: no step results exist."""


class LocalPublisher:
    """The publisher of repositories without a remote: shows and pushes nothing."""

    token = ""
    merges = False

    def tip(self, run: MilestoneRun) -> str:
        """Return the tip of the milestone branch."""
        return run.ensure_branch()

    def beneath(self, issue: IssueRun) -> str:
        """Return the tip of the milestone branch."""
        return issue.run.ensure_branch()

    def unstack(self, issue: IssueRun) -> bool:
        """Always false: results are never stacked."""
        _ = issue
        return False

    def show_stopped(self, candidate: Candidate) -> None:
        """Do nothing: no forge to show it on."""

    def show_question(self, issue: IssueRun) -> None:
        """Do nothing: no forge to show it on."""

    def publish(self, candidate: Candidate, commit: str) -> None:
        """Do nothing: no forge to show it on."""

    def may_land(self, issue: IssueRun) -> bool:
        """Always true."""
        _ = issue
        return True

    def push(self, landings: Sequence[tuple[Candidate, str]], tip: str) -> bool:
        """Always succeeds."""
        _ = landings, tip
        return True

    def record_push(self, run: MilestoneRun) -> None:
        """Do nothing: no remote to record."""

    def resume(self, candidate: Candidate) -> bool:
        """Always false: no forge merges."""
        _ = candidate
        return False

    def merge(self, candidate: Candidate, landing: Landing) -> bool:
        """Never called: no forge merges."""
        raise NotImplementedError(f"{candidate.issue.ref}: {landing.commit}")


@dataclass(frozen=True, slots=True)
class Plugins:
    """The plug-ins of the engine from other packages."""

    workflow: Workflow
    publisher: Publisher


BARE = Plugins(DirectWorkflow(), LocalPublisher())
"""Plug-ins without steps and without a remote."""


class Outside:
    """The adapters of a session; tests pass in-memory ones."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.identity: Identity = identity_of(project.repository)
        self.refs = Refs(project.repository, self.identity, lasting=True)
        self.checkouts = Checkouts(project.repository)

    def store(self, redact: Callable[[bytes], bytes], union: Sequence[str] = ()) -> Store:
        """The objects of the repository; `redact` goes over texts that are written, `union` are globs for merges."""
        inside = tuple(map(self._project.inside, union)) if self._project.prefix else union
        return Store(self._project.repository, self._project.cache / "_store", redact, inside)

    def journal(self, folder: Path, run: str) -> Journal:
        """Return the journal of a milestone."""
        return Journal.open(folder, run=run, now=now)

    def supervisor(self, lock: Path) -> Supervisor:
        """Return the supervisor of a milestone's children."""
        return Supervisor(lock)

    def pool(self, numbers: Path, folder: Path, keep: tuple[str, ...]) -> Pool:
        """Return the slots of a milestone."""
        return Pool(numbers, folder, keep, self._project.prefix)


def now() -> str:
    """The current time as ISO-8601 UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
