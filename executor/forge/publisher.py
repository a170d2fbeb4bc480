"""The engine's `Publisher` port: results as branches on a remote and, on a forge, as pull requests that it merges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.forge.connect import Connection
from executor.forge.merge import merge, resumed
from executor.forge.publish import (
    head_of,
    is_free,
    publish,
    seen_on_remote,
    show_stopped,
    tip_to_build_on,
    wait_for_person,
)
from executor.git.refs import Move

if TYPE_CHECKING:
    from executor.engine.candidate import Candidate
    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.git.trailers import Landing

__all__ = ["ForgePublisher"]


class ForgePublisher(Connection):
    """A remote, and the forge that the rules declare."""

    @property
    def merges(self) -> bool:
        """Whether the forge merges pull requests; the local one has none for issues."""
        return self._rules.kind != "local"

    def tip(self, run: MilestoneRun) -> str:
        """Bring the milestone branch and the remote's together and return the tip."""
        return tip_to_build_on(run)

    def show_stopped(self, candidate: Candidate) -> None:
        """Show a result that waits for a person as a draft."""
        show_stopped(candidate.issue.run, candidate.issue.ref, candidate.attempt, candidate.change)

    def publish(self, candidate: Candidate, commit: str) -> None:
        """Push a proved candidate's branch."""
        publish(candidate.issue.run, candidate.issue.ref, candidate.attempt, commit, candidate.change)

    def may_land(self, issue: IssueRun) -> bool:
        """Whether nothing about its branch or pull request keeps the issue waiting."""
        return is_free(issue.run, issue.ref)

    def push(self, candidate: Candidate, tip: str, commit: str) -> bool:
        """Move the remote's milestone branch to the candidate and delete the candidate's own branch."""
        run, ref = candidate.issue.run, candidate.issue.ref
        remote = run.session.remote
        if remote is None:
            return True
        head = f"refs/heads/{head_of(run, ref, candidate.attempt)}"
        moves = [Move(run.view.branch, tip, commit), Move(head, commit, None)]
        done = remote.push(moves)
        if not done.ok and done.moved:
            # Somebody may have deleted the candidate's own branch; the milestone branch is what counts.
            done = remote.push(moves[:1])
        if done.ok or done.moved:
            return done.ok
        wait_for_person(run, ref, None, f"{run.milestone.branch} cannot be pushed to {remote.name}: {done.reason}")
        return False

    def pushed(self, run: MilestoneRun) -> None:
        """Record where the remote's milestone branch is, after a push."""
        if run.session.remote is not None:
            seen_on_remote(run)

    def resume(self, candidate: Candidate) -> bool:
        """Wait for a merge that an earlier run requested; False if there is none."""
        return resumed(candidate.issue.run, candidate.issue.ref, candidate.attempt, candidate.change)

    def merge(self, candidate: Candidate, landing: Landing) -> bool:
        """Have the forge merge a proved candidate; False if branch or pull request moved meanwhile."""
        issue = candidate.issue
        tip = issue.session.store.parent_of(landing.commit)
        return merge(issue.run, issue.ref, candidate.attempt, tip, landing, candidate.change)
