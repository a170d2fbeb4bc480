"""The engine's `Publisher` port: results as branches on a remote and, on a forge, as pull requests that it merges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.forge.connect import Connection
from executor.forge.merge import Merging
from executor.forge.publish import Publication, RemoteBranch
from executor.git.refs import Move

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.engine.candidate import Candidate
    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.git.trailers import Landing

__all__ = ["ForgePublisher"]


class ForgePublisher(Connection):
    """A remote, and the declared forge."""

    @property
    def merges(self) -> bool:
        """Return whether the forge merges pull requests; the local one has none for issues."""
        return self._rules.kind != "local"

    def tip(self, run: MilestoneRun) -> str:
        """Synchronise the milestone branch with the remote's and return the tip."""
        return RemoteBranch(run).tip_to_build_on()

    def beneath(self, issue: IssueRun) -> str:
        """Synchronise, and return the commit to prove a result of the issue on: the tip, or the layer below it."""
        tip = self.tip(issue.run)
        layer = Merging(issue).layer_below()
        return tip if layer is None else layer.commit

    def unstack(self, issue: IssueRun) -> bool:
        """Have a refused result judged on the tip, since the layer below may be the cause; False if it was."""
        if not self._rules.stack or not self.merges:
            return False
        self.unstacked ^= {issue.ref}
        return issue.ref in self.unstacked

    def show_stopped(self, candidate: Candidate) -> None:
        """Show a result that waits for a person as a draft."""
        Publication(candidate.issue).show_stopped(candidate.attempt, candidate.change)

    def show_question(self, issue: IssueRun) -> None:
        """Show the work so far of an issue that asks a question as a draft."""
        Publication(issue).show_waiting()

    def publish(self, candidate: Candidate, commit: str) -> None:
        """Push a proved candidate's branch."""
        Publication(candidate.issue).publish(candidate.attempt, commit, candidate.change)

    def may_land(self, issue: IssueRun) -> bool:
        """Return whether the branch and pull request of the issue allow it to land."""
        return Publication(issue).is_free()

    def push(self, landings: Sequence[tuple[Candidate, str]], tip: str) -> bool:
        """Move the remote's milestone branch over commits, in order, and delete the candidates' own branches."""
        run = landings[0][0].issue.run
        remote = run.session.remote
        if remote is None:
            return True
        moves = [Move(run.view.branch, tip, landings[-1][1])]
        for candidate, commit in landings:
            head = Publication(candidate.issue).head_of(candidate.attempt)
            moves.append(Move(f"refs/heads/{head}", commit, None))
        done = remote.push(moves)
        if not done.ok and done.moved:
            # A candidate's own branch may have been deleted by others; only the milestone branch counts.
            done = remote.push(moves[:1])
        if done.ok or done.moved:
            return done.ok
        reason = f"{run.milestone.branch} cannot be pushed to {remote.name}: {done.reason}"
        for candidate, _ in landings:
            Publication(candidate.issue).wait_for_person(None, reason)
        return False

    def record_push(self, run: MilestoneRun) -> None:
        """Record the position of the remote's milestone branch after a push."""
        if run.session.remote is not None:
            RemoteBranch(run).seen_on_remote()

    def resume(self, candidate: Candidate) -> bool:
        """Wait for a merge that an earlier run requested; False without one."""
        return Merging(candidate.issue).resume(candidate.attempt)

    def merge(self, candidate: Candidate, landing: Landing) -> bool:
        """Have the forge merge a proved candidate; False if branch or pull request moved meanwhile."""
        issue = candidate.issue
        tip = issue.session.store.parent_of(landing.commit)
        return Merging(issue).merge(candidate.attempt, tip, landing, candidate.change)
