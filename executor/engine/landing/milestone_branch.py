"""The tip of a milestone: its branch, or a commit ahead of the branch if a checkout of it cannot follow.

A branch is never moved under a checkout that cannot follow: the next commit there would revert the landing. Such a
landing moves ``refs/executor/ahead/<milestone>`` instead; the branch follows as soon as its checkouts can.

With a remote, the remote's branch is authoritative. Commits on it are taken over by fast-forward; a branch that exists
only locally is pushed; if both have their own commits, a person decides.

The port to a remote and a forge, which keep up with the branch: `executor.forge` implements it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from executor.errors import ForgeRefusedError, ForgeUnavailableError, GitError, PersonNeededError
from executor.git.refs import AHEAD, BRANCHES, LANDED, REMOTE, Move, attempt_ref
from executor.git.trailers import UNPROVED, decode, encode
from executor.model.fingerprint import IssueRef
from executor.state.events import AttemptFailed, CheckoutsUpdated, CheckoutsUpdating
from executor.state.marks import BranchTrailers
from executor.state.model import AttemptState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from executor.engine.candidate import Candidate
    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.git.checkout import Checkout
    from executor.git.remote import Remote
    from executor.git.trailers import Landing
    from executor.state.model import Attempt

__all__ = ["Branch", "LocalPublisher", "Publisher", "RemoteBranch", "landed_attempt"]


class Branch:
    """The milestone branch of one run."""

    def __init__(self, run: MilestoneRun) -> None:
        self._run = run

    def advance(self, new: str, reason: str, others: Iterable[Move] = ()) -> bool:
        """Make a commit the tip of the milestone if the tip is still the last one that the run saw.

        Args:
            run: the run; its view gets the new tip.
            new: a commit that contains the current tip and the branch.
            reason: message for the reflog.
            others: further ref updates, in the same transaction.

        Returns:
            Whether the tip moved; False if a ref had an unexpected value.
        """
        view, session = self._run.view, self._run.session
        if view.landings and view.branch_at and not self._has(new, view.branch_at):
            return False  # the branch has a commit that would be lost
        checkouts = session.checkouts.of(view.branch) if view.branch_at else []
        obstacles = self._obstacles(checkouts, new)
        ahead = f"{AHEAD}/{self._run.name}"
        moves = list(others)
        if obstacles:
            moves += [Move(view.branch, view.branch_at, view.branch_at), Move(ahead, view.ahead or None, new)]
        else:
            moves.append(Move(view.branch, view.branch_at or None, new))
            if view.ahead:
                moves.append(Move(ahead, view.ahead, None))
            if checkouts:
                self._run.record(CheckoutsUpdating(branch=view.branch, old=view.branch_at, new=new))
        if new != view.tip and view.lost <= view.landings.keys():
            moves.append(
                Move(f"{LANDED}/{self._run.name}", "", new)
            )  # last: never ahead of the branch, if git is killed
        if not session.refs.move(moves, reason):
            return False
        old = view.branch_at
        view.tip, view.exists = new, True
        view.ahead = new if obstacles else ""
        if obstacles:
            for line in obstacles:
                self._run.warn(line)
            return True
        view.branch_at = new
        self._follow(checkouts, old, new)
        return True

    def _has(self, new: str, old: str) -> bool:
        """Return whether one commit contains another, which is usually its parent."""
        session = self._run.session
        return old == new or session.store.parent_of(new) == old or session.refs.contains(old, new)

    def settle_tip(self) -> None:
        """Fast-forward the branch to landings ahead of it, if its checkouts can follow now.

        Raises:
            PersonNeededError: the branch has commits that conflict with these landings.
        """
        view = self._run.view
        if not view.ahead:
            return
        self._run.refresh_tip()
        if view.ahead and view.branch_at != view.ahead:
            self.advance(view.ahead, f"milestone {self._run.name}: landings beyond the branch")

    def look_again(self) -> str:
        """Return the current tip; new commits on the branch are merged with the landings ahead of it.

        Raises:
            PersonNeededError: the branch was deleted, or the merge conflicts.
        """
        view, refs = self._run.view, self._run.session.refs
        name = f"{AHEAD}/{self._run.name}"
        tips = refs.tips((view.branch, name))
        at, ahead = tips.get(view.branch), tips.get(name, "")
        if at is None:
            short = view.branch.removeprefix("refs/heads/")
            why = f'branch "{short}" was deleted or renamed during the run; nothing more starts or lands on it'
            self._run.session.paused.setdefault(self._run.name, why)
            raise PersonNeededError(f"{why}: `git branch {short} {view.tip[:10]}` restores it")
        same = (at, ahead) == (view.branch_at, view.ahead)
        view.branch_at, view.ahead = at, ahead
        if not ahead:
            return view.tip if same else at
        if refs.contains(ahead, at):
            refs.move([Move(name, ahead, None)], "the branch has it")
            view.ahead = ""
            return at
        return ahead if refs.contains(at, ahead) else self._join(at, ahead)

    def record_branch(self) -> Move | None:
        """Return the update of the ref that records the milestone's branch; None if it is up to date."""
        view, session = self._run.view, self._run.session
        name = f"{BRANCHES}/{self._run.name}"
        short = view.branch.removeprefix("refs/heads/")
        before = session.refs.tip(name)
        if (
            before is not None
            and (found := decode(BranchTrailers, session.refs.trailers(before))) is not None
            and found.branch == short
            and view.exists
        ):
            return None
        trailers = BranchTrailers(self._run.name, short, view.tip)
        text = f"milestone {self._run.name} is on {short}\n\n{encode(trailers)}\n"
        made = session.store.commit(
            session.store.files_tree({}), [], text, session.identity, session.refs.time_of(view.tip)
        )
        return None if made == before else Move(name, before, made)

    def catch_up_checkouts(self) -> None:
        """Update checkouts under a branch that a killed run moved without updating them."""
        last = next(
            (event for event in reversed(self._run.journal.events) if event.kind.startswith("checkouts-")), None
        )
        if last is None or last.kind != "checkouts-updating":
            return
        branch, old, new = (str(last.data[key]) for key in ("branch", "old", "new"))
        if self._run.session.refs.tip(branch) == new:
            self._run.session.checkouts.catch_up(branch, old, new)
        self._run.record(CheckoutsUpdated(branch=branch))

    def _join(self, at: str, ahead: str) -> str:
        """Merge the branch into the landings ahead of it; both sides are kept."""
        view, session = self._run.view, self._run.session
        short = view.branch.removeprefix("refs/heads/")
        merged = session.store.merge(ahead, at)
        if merged.conflicts:
            names = ", ".join(merged.conflicts[:3])
            why = f'branch "{short}" and the landings beyond it conflict in {names}'
            self._run.session.paused.setdefault(self._run.name, why)
            raise PersonNeededError(f"{why}: `git merge {AHEAD}/{self._run.name}` on it, then run again")
        text = f"Merge branch '{short}'\n\nIt got other commits while work landed ahead of it.\n"
        when = max(map(session.refs.time_of, (ahead, at)))
        made = session.store.signed(session.store.commit(merged.tree, [ahead, at], text, session.identity, when))
        if not session.refs.move([Move(f"{AHEAD}/{self._run.name}", ahead, made)], "merge the branch"):
            raise PersonNeededError(f"{AHEAD}/{self._run.name} was moved by another process; run again")
        view.ahead = made
        return made

    def _obstacles(self, checkouts: list[Checkout], new: str) -> list[str]:
        """Return why the branch cannot move now, with remedies; empty if it can."""
        view = self._run.view
        short = view.branch.removeprefix("refs/heads/")
        found = []
        for checkout in checkouts:
            why = self._run.session.checkouts.in_the_way(checkout, view.branch_at, new)
            if why:
                found.append(
                    f"{checkout.top} has {short} checked out and cannot follow ({why}): landings are kept beyond it, "
                    f"in {AHEAD}/{self._run.name}; commit or stash its changes, then "
                    f"`doit milestone:{self._run.name}` moves the branch"
                )
        return found

    def _follow(self, checkouts: list[Checkout], old: str, new: str) -> None:
        for checkout in checkouts:
            found = self._run.session.checkouts.follow(checkout, old, new)
            if found:
                self._run.warn(found)
        if checkouts:
            self._run.record(CheckoutsUpdated(branch=self._run.view.branch))


class RemoteBranch:
    """Keeps the local and the remote milestone branch in sync."""

    def __init__(self, run: MilestoneRun) -> None:
        self._run = run

    def tip_to_build_on(self) -> str:
        """Return the current tip of the milestone branch, of the remote's if there is a remote."""
        if self._run.session.remote is None:
            return self._run.ensure_branch()
        with self._run.landing_lock:
            return self.catch_up()

    def catch_up(self) -> str:
        """Synchronise branch and remote and return the tip; the caller holds the landing lock.

        Raises:
            ForgeUnavailableError: the remote is unreachable.
            ForgeRefusedError: the remote refuses, or both have their own commits.
        """
        remote = self._run.session.remote
        if remote is None:
            return self._run.ensure_branch()
        view, refs = self._run.view, self._run.session.refs
        there = remote.tips(view.branch, view.base)
        theirs = there.get(view.branch)
        ours = self._run.refresh_tip() if view.exists else refs.tip(view.branch)
        if theirs is None and ours is None:
            self._start_from(remote, there.get(view.base))
        if theirs is None:
            self.push_branch(remote, None, self._run.ensure_branch())
        elif theirs != ours:
            remote.fetch(view.branch)
            if ours is None or refs.contains(ours, theirs):
                self._follow(theirs)
            elif refs.contains(theirs, ours):
                self.push_branch(remote, theirs, ours)
            else:
                raise ForgeRefusedError(
                    f"{self._run.milestone.branch} differs here ({ours[:10]}) and on {remote.name} "
                    f"({theirs[:10]}); merge them, for example `git rebase {theirs[:10]} "
                    f"{self._run.milestone.branch}`, then run again"
                )
        self.seen_on_remote()
        self.settle_landed()
        return self._run.view.tip

    def push_branch(self, remote: Remote, old: str | None, new: str) -> None:
        """Push the milestone branch itself, where no landing has pushed it."""
        done = remote.push([Move(self._run.view.branch, old, new)])
        if done.moved:
            raise ForgeUnavailableError(
                f"{self._run.milestone.branch} was moved on {remote.name} at the same time; run again"
            )
        if not done.ok:
            raise ForgeRefusedError(f"{self._run.milestone.branch} cannot be pushed to {remote.name}: {done.reason}")

    def seen_on_remote(self) -> None:
        """Record the remote branch's commit, so that it is known without a request."""
        name, refs = str(IssueRef(REMOTE, self._run.name)), self._run.session.refs
        before = refs.tip(name)
        if before != self._run.view.tip:
            refs.move([Move(name, before, self._run.view.tip)], "seen on the remote")

    def settle_landed(self) -> None:
        """End the attempts whose result has landed elsewhere, and delete their refs if these hold nothing else."""
        for issue, state in list(self._run.view.states.items()):
            landing = self._run.view.landings.get(issue)
            if landing is None or str(IssueRef(self._run.name, issue)) not in self._run.session.compiled.plan.nodes:
                continue
            built = [
                item
                for item in state.attempts.values()
                if item.state is AttemptState.BUILT and item.revision == landing.trailers.revision
            ]
            if not built:
                continue
            landed = landed_attempt(built, landing.trailers.result_key, state.pull.attempt if state.pull else 0)
            self._run.record_landed(landing, landed.number, proved=self._landed_as_proved(issue, landing))
            if landed.result_key == landing.trailers.result_key:
                self._forget(issue, landed)
            for other in built:
                if other is not landed:
                    reason = f"attempt {landed.number} landed instead"
                    event = AttemptFailed(
                        attempt=other.number,
                        failure="superseded",
                        reason=reason,
                        detail="",
                        fingerprint="",
                        seconds=0.0,
                        commit=other.commit,
                    )
                    self._run.record(event, issue)

    def _landed_as_proved(self, issue: str, landing: Landing) -> bool:
        """Return whether the landed tree is the pushed one, on which the checks passed."""
        pull = self._run.view.states[issue].pull
        if landing.trailers.check_key == UNPROVED:
            return False
        if pull is None or not pull.commit or pull.commit == landing.commit:
            return True
        try:
            return self._run.session.store.tree_of(pull.commit) == landing.tree
        except GitError:
            return False

    def _forget(self, issue: str, attempt: Attempt) -> None:
        name = attempt_ref(self._run.name, issue, attempt.number)
        self._run.session.refs.move([Move(name, attempt.commit, None)], f"landed {self._run.name}/{issue}")

    def _start_from(self, remote: Remote, base: str | None) -> None:
        """Start a new branch from the remote's base if it is only ahead of the local one."""
        view, refs = self._run.view, self._run.session.refs
        if base is None or base == view.tip:
            return
        remote.fetch(view.base)
        if refs.contains(view.tip, base):
            view.tip = base
        elif not refs.contains(base, view.tip):
            self._run.warn(
                f"{view.base.removeprefix('refs/heads/')} differs here and on {remote.name}; "
                f"{self._run.milestone.branch} starts from the one here"
            )

    def _follow(self, theirs: str) -> None:
        """Fast-forward our branch to the remote's, with the checkouts of it."""
        view = self._run.view
        before = view.tip
        if not Branch(self._run).advance(theirs, f"milestone {self._run.name}: follow the remote"):
            raise ForgeUnavailableError(f"{self._run.milestone.branch} was moved here at the same time; run again")
        view.tip = before
        self._run.took_over(theirs)


def landed_attempt(built: Sequence[Attempt], result_key: str, shown: int) -> Attempt:
    """Return the result that a landing belongs to: the one with its change, else the one shown, else the latest."""
    same = [item for item in built if item.result_key == result_key]
    seen = [item for item in built if item.number == shown]
    return (same or seen or list(built))[-1]


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
