"""The tip of a milestone: its branch, or a commit ahead of the branch if a checkout of it cannot follow.

A branch is never moved under a checkout that cannot follow: the next commit there would revert the landing. Such a
landing moves ``refs/executor/ahead/<milestone>`` instead; the branch follows as soon as its checkouts can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.errors import PersonNeededError
from executor.git.refs import AHEAD, BRANCHES, LANDED, Move
from executor.git.trailers import decode, encode
from executor.state.events import CheckoutsUpdated, CheckoutsUpdating
from executor.state.marks import BranchTrailers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.engine.milestone_run import MilestoneRun
    from executor.git.checkout import Checkout

__all__ = ["Branch"]


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
