"""Release: completion gate, final merge of the milestone into its base, tag; each step is looked up before it is done.

After a crash, run the release again: it finds its completed actions in git and does the rest. The remote's branch
moves first and is authoritative; if a run dies in between, the next one finds its push there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.errors import ExecutorError, ForgeRefusedError, ForgeUnavailableError
from executor.forge.base import NewPull
from executor.forge.connect import forge_of
from executor.forge.pull_request import bounded
from executor.git.history import read_records, releases_in
from executor.git.refs import DELIVERED, Move
from executor.git.repair import sweep
from executor.git.trailers import Released
from executor.model.fingerprint import IssueRef
from executor.release.criteria import (
    Criterion,
    Gate,
    Met,
    Outcome,
    ReleaseText,
    refusal_code,
    release_message,
    tag_object,
    with_ticks,
)
from executor.state.decide import Status
from executor.state.events import (
    CheckoutsUpdated,
    CheckoutsUpdating,
    MilestoneReleased,
    ReleaseIntended,
    ReleasePull,
    ReleaseRefused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from executor.engine.milestone_run import MilestoneRun

__all__ = ["Delivery", "ReleaseRun"]

_MOST_RACES = 20  # tries; somebody pushes to the base in between


class ReleaseRun:
    """Releases one milestone."""

    def __init__(self, run: MilestoneRun) -> None:
        self._run = run

    def release(self) -> Outcome:
        """Release a milestone to its base; completed steps are skipped.

        Raises:
            ExecutorError: a required operation failed; run the release again.
            InterruptedRunError: the run is being stopped.
        """
        outcome = Outcome(self._run.name)
        try:
            return self._as_far_as_possible(outcome)
        except ForgeRefusedError as error:
            branch, base = self._run.milestone.branch, self._base()
            todo = f"a person can open a pull request from {branch} to {base}, or allow the push"
            outcome.criteria.append(Criterion("remote", base, Met.LACKING, f"{error}; {todo}"))
            outcome.code = refusal_code(outcome.criteria)
            return outcome

    def _as_far_as_possible(self, outcome: Outcome) -> Outcome:
        self._sweep()
        self._have_base()
        for _ in range(_MOST_RACES):
            there = Delivery(self._run).base_brought_up()
            base_tip = self._look_again()
            commit = self._released()
            if commit:
                return self._finish(outcome, commit)
            tip = self._run.view.tip
            # The checks run on the merged tree: the base may have commits that no issue was proved with.
            merged, gate = self._run.session.store.merge(base_tip, tip), Gate(self._run)
            tree = merged.tree or self._run.session.store.tree_of(tip)
            outcome.criteria = [*gate.criteria(tree), gate.merge_criterion(merged.conflicts)]
            if not merged.conflicts:
                outcome.criteria += gate.checkout_criteria(base_tip, tree)
            outcome.code = refusal_code(outcome.criteria)
            if outcome.code:
                names = tuple(item.name for item in outcome.criteria if item.holds_back)
                self._run.record(ReleaseRefused(criteria=names[:50]))
                return outcome
            if self._run.session.plugins.publisher.merges:
                waits = self._merge_by_pull(base_tip, tree, outcome)
                if waits is not None:
                    outcome.criteria.append(waits)
                    outcome.code = refusal_code(outcome.criteria)
                    return outcome
            elif self._merge(base_tip, there, tree, outcome):
                return self._finish(outcome, self._released())
        raise ExecutorError(f"{self._base()} moves faster than {self._run.name} can be proved; try again later")

    def _released(self) -> str:
        """Return the commit of the base that contains all landings; empty without one."""
        view = self._run.view
        if not all(
            self._run.decision(str(IssueRef(self._run.name, issue.id))).status is Status.LANDED
            for issue in view.milestone.issues
        ):
            return ""
        found = view.released
        if found is not None and (not view.exists or found.tip == view.tip):
            return found.commit
        if view.merged and view.landings:
            return self._run.session.refs.merged_at(view.tip, self._base_tip())
        return ""

    def _message(self, outcome: Outcome) -> str:
        numbers = tuple(issue.number for issue in self._run.milestone.issues if issue.number is not None)
        return release_message(ReleaseText(self._run.milestone, self._run.view.tip, numbers), outcome.criteria)

    def _merge_by_pull(self, base_tip: str, tree: str, outcome: Outcome) -> Criterion | None:
        """Have the forge merge the final pull request; None once it is merged, otherwise why it waits."""
        self._run.record(ReleaseIntended(onto=base_tip, tip=self._run.view.tip))
        waits = Delivery(self._run).merge_by_forge(self._run.view.tip, self._message(outcome))
        if waits is not None:
            return waits
        Delivery(self._run).base_brought_up()
        commit = self._run.session.refs.merged_at(self._run.view.tip, self._look_again())
        if not commit:
            raise ForgeUnavailableError(
                f"{self._run.name}: the forge reports its pull request as merged, but {self._base()} does not have "
                "it yet; release again later"
            )
        if self._run.session.store.tree_of(commit) != tree:
            self._run.warn(
                f"{self._base()} moved while {self._run.name} was merged: {commit[:10]} does not have the proved tree"
            )
        outcome.done.append(
            f"merged {self._run.milestone.branch} into {self._base()} as {commit[:10]} by its pull request"
        )
        return None

    def _look_again(self) -> str:
        """Return the base's tip, after reading its releases."""
        view, refs = self._run.view, self._run.session.refs
        view.base_tip = self._base_tip()
        path = self._run.session.project.cache / f"_history.{view.base.replace('/', '%')}.json"
        view.released = releases_in(read_records(path, refs, view.base_tip)).get(self._run.name)
        view.merged = bool(view.landings) and (view.merged or refs.contains(view.tip, view.base_tip))
        return view.base_tip

    def _merge(self, base_tip: str, there: str, tree: str, outcome: Outcome) -> bool:
        """Make the proved tree the tip of the base, on the remote first; False if the base has moved meanwhile."""
        session, view = self._run.session, self._run.view
        message = self._message(outcome)
        made = session.store.commit(tree, [base_tip, view.tip], message, session.identity, int(time.time()))
        commit = session.store.signed(made)
        self._run.record(ReleaseIntended(commit=commit, onto=base_tip, tip=view.tip))
        checkouts = session.checkouts.of(view.base)
        # The remote moves first. A run that dies behind it finds the release there; one that had moved only the local
        # branch would have released what a push may still refuse.
        if not Delivery(self._run).push_base(there, commit):
            return False
        if checkouts:
            self._run.record(CheckoutsUpdating(branch=view.base, old=base_tip, new=commit))
        if not session.refs.move([Move(view.base, base_tip, commit)], f"release {self._run.name}"):
            return False
        view.released, view.base_tip = Released(commit, view.tip), commit
        for checkout in checkouts:
            found = session.checkouts.follow(checkout, base_tip, commit)
            if found:
                self._run.warn(found)
        if checkouts:
            self._run.record(CheckoutsUpdated(branch=view.base))
        outcome.done.append(f"merged {self._run.milestone.branch} into {self._base()} as {commit[:10]}")
        return True

    def _finish(self, outcome: Outcome, commit: str) -> Outcome:
        """Do the steps after the merge."""
        if Delivery(self._run).close_milestone():
            outcome.done.append(f'closed the milestone "{self._run.milestone.forge_milestone}" of the forge')
        if Delivery(self._run).close_epic(lambda is_open: self._met_boxes(outcome, commit, again=is_open)):
            outcome.done.append(f"updated and closed the epic issue #{self._run.milestone.epic_number}")
        if self._run.milestone.tag is not None:
            self._tag(outcome, commit, self._run.milestone.tag)
        if not outcome.code and self._run.session.remote is not None:
            mark = str(IssueRef(DELIVERED, self._run.name))
            self._run.session.refs.move(
                [Move(mark, self._run.session.refs.tip(mark), commit)], f"release {self._run.name}"
            )
        if outcome.done:
            self._run.record(MilestoneReleased(commit=commit, tag=self._run.milestone.tag or ""))
        return outcome

    def _met_boxes(self, outcome: Outcome, commit: str, *, again: bool) -> list[str]:
        """Return the boxes of the epic that are met; judged `again` if an earlier run died after the merge."""
        criteria = outcome.criteria or (
            Gate(self._run).criteria(self._run.session.store.tree_of(commit)) if again else []
        )
        return [item.name for item in criteria if item.kind in {"epic", "nfr"} and item.met is Met.YES]

    def _tag(self, outcome: Outcome, commit: str, tag: str) -> None:
        """Create the annotated tag of the release, on the remote first, unless it exists."""
        refs, name = self._run.session.refs, f"refs/tags/{tag}"
        store = self._run.session.store
        data = tag_object(tag, commit, refs.committer_of(commit), self._run.milestone)
        made = refs.tips([name]).get(name) or store.write("tag", store.signed_tag(data))
        there = Delivery(self._run).push_tag(name, made) if refs.tip(name) in {None, commit} else None
        if not there and refs.tip(name) is None and refs.move([Move(name, None, made)], f"release {self._run.name}"):
            outcome.done.append(f"tagged it {tag}")
        self._run.view.tag = tag
        if there or refs.tip(name) != commit:
            elsewhere = there or refs.tip(name) or ""
            reason = f"is at {elsewhere[:10]}, not at the release {commit[:10]}; delete it or declare another one"
            outcome.criteria.append(Criterion("tag", tag, Met.LACKING, reason))
            outcome.code = refusal_code(outcome.criteria)

    def _sweep(self) -> None:
        """Remove lock files of a killed git from the refs that a release moves."""
        names = [self._run.view.base] + ([f"refs/tags/{self._run.milestone.tag}"] if self._run.milestone.tag else [])
        for name in sweep(self._run.session.project.repository, names):
            self._run.warn(f"removed {name}, which a git process that was killed had left behind")

    def _have_base(self) -> None:
        """Create the local base branch if so far only a remote has it."""
        if self._run.session.refs.tip(self._run.view.base) is None:
            self._run.session.refs.move(
                [Move(self._run.view.base, None, self._run.view.base_tip)],
                f"release {self._run.name}: base of the remote",
            )

    def _base_tip(self) -> str:
        tip = self._run.session.refs.tip(self._run.view.base)
        if tip is None:
            raise ExecutorError(f"branch {self._base()} was deleted during the run; nothing was released")
        return tip

    def _base(self) -> str:
        return self._run.view.base.removeprefix("refs/heads/")


_POLLS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)


class Delivery:
    """Delivers the release of one milestone to remote and forge."""

    def __init__(self, run: MilestoneRun) -> None:
        self._run = run

    def base_brought_up(self) -> str:
        """Take over the remote's base; returns the remote's commit, empty without a remote or a branch there.

        Raises:
            ForgeRefusedError: the local and the remote branch have diverged.
        """
        remote, view, refs = self._run.session.remote, self._run.view, self._run.session.refs
        if remote is None:
            return ""
        there, here = remote.tips(view.base).get(view.base), refs.tip(view.base)
        if there is None or here is None or there == here:
            return there or ""
        remote.fetch(view.base)
        if refs.contains(here, there):
            checkouts = self._run.session.checkouts.of(view.base)
            if refs.move([Move(view.base, here, there)], "catch up with the remote"):
                for checkout in checkouts:
                    found = self._run.session.checkouts.follow(checkout, here, there)
                    if found:
                        self._run.warn(found)
        elif not refs.contains(there, here):
            base = view.base.removeprefix("refs/heads/")
            raise ForgeRefusedError(
                f"{base} differs here ({here[:10]}) and on {remote.name} ({there[:10]}); bring them "
                f"together, then release {self._run.name} again"
            )
        return there

    def push_base(self, there: str, commit: str) -> bool:
        """Push a release as the remote's base; False if that has moved meanwhile.

        Raises:
            ForgeRefusedError: the remote refuses the push.
        """
        remote = self._run.session.remote
        if remote is None:
            return True
        done = remote.push([Move(self._run.view.base, there or None, commit)])
        if not done.ok and not done.moved:
            raise ForgeRefusedError(f"{remote.name} does not accept {self._run.name} on {self._base()}: {done.reason}")
        return done.ok

    def merge_by_forge(self, tip: str, message: str) -> Criterion | None:
        """Have the forge merge the final pull request; None once it is merged, otherwise why it waits."""
        forge, rules = forge_of(self._run.session), self._run.session.policy.forge
        title, _, body = message.partition("\n\n")
        text = bounded(body.rpartition("\n\nMilestone-Released: ")[0] + "\n")
        pull = forge.open(NewPull(self._run.milestone.branch, self._base(), title, text))
        pull = forge.update(pull, title=title, body=text, labels=rules.labels)
        until = time.monotonic() + rules.wait
        self._run.record(ReleasePull(pull=pull.number, url=pull.url))
        for poll in range(1_000_000):
            answer = forge.request_merge(pull, tip, title, body, "merge")
            if answer.state == "merged":
                return None
            name = f"pull request #{pull.number}"
            if answer.state in {"refused", "moved"}:
                return Criterion("merge", name, Met.LACKING, f"{answer.reason}; {pull.url}".rstrip("; "))
            left = until - time.monotonic()
            if left <= 0 or self._run.session.stopping.wait(min(left, _POLLS[min(poll, len(_POLLS) - 1)])):
                return Criterion("merge", name, Met.WAITS, f"{answer.reason}; release again when it is merged")
        return None

    def push_tag(self, name: str, made: str) -> str | None:
        """Push the tag to the remote; returns a different existing commit or tag of that name, None if it is ours.

        Raises:
            ForgeRefusedError: the remote refuses the push.
        """
        remote = self._run.session.remote
        if remote is None:
            return None
        there = remote.tips(name).get(name)
        if there is None:
            done = remote.push([Move(name, None, made)])
            if not done.ok and not done.moved:
                raise ForgeRefusedError(f"{remote.name} does not accept the tag {name}: {done.reason}")
            there = remote.tips(name).get(name) if done.moved else made
        return None if there == made else there

    def close_milestone(self) -> bool:
        """Close the forge's milestone; returns whether it was open."""
        title = self._run.milestone.forge_milestone
        if title is None or self._run.session.policy.forge.kind == "local":
            return False
        try:
            return forge_of(self._run.session).close_milestone(title)
        except ForgeRefusedError as error:
            self._run.warn(f"{self._run.name}: {error}")
            return False

    def close_epic(self, met: Callable[[bool], Sequence[str]]) -> bool:
        """Tick the boxes of met criteria in the epic's issue and close it; returns whether it was open.

        `met` names them; it is given whether the issue is open.
        """
        number = self._run.milestone.epic_number
        if number is None or self._run.session.policy.forge.kind == "local":
            return False
        forge = forge_of(self._run.session)
        try:
            found = forge.issue(number)
            if found is None:
                self._run.warn(f"{self._run.name}: epic_number: the forge has no issue #{number}")
                return False
            ticked = with_ticks(found.body, met(found.state == "open"))
            if ticked != found.body:
                forge.edit_issue(number, ticked)
            return forge.close_issue(number)
        except ForgeRefusedError as error:
            self._run.warn(f"{self._run.name}: {error}")
            return False

    def _base(self) -> str:
        return self._run.view.base.removeprefix("refs/heads/")
