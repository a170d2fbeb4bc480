"""Release: completion gate, final merge of the milestone into its base, tag; each step is looked up before it is done.

After a crash, run the release again: it finds its completed actions in git and does the rest.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof, file_problem, release_proofs
from executor.engine.issue import IssueRun
from executor.errors import ExecutorError, ForgeRefusedError, ForgeUnavailableError
from executor.git.history import read_records, releases_in
from executor.git.refs import DELIVERED, Move
from executor.git.repair import sweep
from executor.git.trailers import Released
from executor.model.fingerprint import IssueRef
from executor.release.criteria import (
    NOT_ASKED,
    Criterion,
    Met,
    Outcome,
    ReleaseText,
    box_criteria,
    boxes,
    refusal_code,
    release_message,
    tag_object,
)
from executor.release.delivery import Delivery
from executor.state.decide import Status
from executor.state.events import (
    CheckoutsUpdated,
    CheckoutsUpdating,
    MilestoneReleased,
    ReleaseIntended,
    ReleaseRefused,
)

if TYPE_CHECKING:
    from executor.checks.spec import FileProof
    from executor.engine.milestone_run import MilestoneRun

__all__ = ["ReleaseRun"]

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
            merged = self._run.session.store.merge(base_tip, tip)
            tree = merged.tree or self._run.session.store.tree_of(tip)
            outcome.criteria = [*self._gate(tree), self._merge_criterion(merged.conflicts)]
            if not merged.conflicts:
                outcome.criteria += self._checkout_criteria(base_tip, tree)
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
        raise ExecutorError(f"{self._base()} moves faster than {self._run.name} can be proved on it; try again later")

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

    def _gate(self, tree: str) -> list[Criterion]:
        """Return all criteria of the final merge, cheap ones first; every failure is reported."""
        observer = self._run.session.observer
        milestone = self._run.milestone
        waiting = {
            issue.id: observer.decision(str(IssueRef(self._run.name, issue.id)))
            for issue in milestone.issues
            if observer.decision(str(IssueRef(self._run.name, issue.id))).status is not Status.LANDED
        }
        criteria = [
            Criterion(
                "issues", issue, Met.FAILED if item.status in {Status.FAILED, Status.SKIPPED} else Met.LACKING, line
            )
            for issue, item in waiting.items()
            for line in [f"{item.status}: {item.reason}"]
        ]
        if not milestone.issues:
            criteria.append(Criterion("issues", "all", Met.LACKING, "the milestone has no issues"))
        elif not waiting:
            total = len(milestone.issues)
            criteria.append(Criterion("issues", "all", Met.YES, f"{total} of {total} have landed"))
        proofs = release_proofs(milestone, self._run.session.policy, observer.tools.version)
        accept: list[Criterion] = []
        for place, item in enumerate(proofs):
            found = self._proved(tree, item, place) if not waiting else _not_asked(item)
            criteria.append(found)
            if found.kind == "accept":
                accept.append(found)
        if not waiting:
            red = {item.name for item in criteria if item.kind == "check" and item.met is Met.FAILED}
            criteria += self._issues_again(tree, red)
        criteria += [Criterion("accept", text, Met.WORDS, "in words") for text in milestone.claims]
        return [*criteria, *self._epic(accept), *self._tag_criterion()]

    def _proved(self, tree: str, item: CommandProof | FileProof, place: int) -> Criterion:
        kind = "check" if isinstance(item, CommandProof) and item.named else "accept"
        if isinstance(item, CommandProof):
            log = self._run.folder / "logs" / "release" / f"{place + 1}-{item.slug}.log"
            verdict = self._run.checks.verdict_on(tree, item, log=log)
            reason = (
                "exit 0" if verdict.ok else f"{verdict.reason}; see {log.relative_to(self._run.session.project.root)}"
            )
            return Criterion(kind, item.name, Met.YES if verdict.ok else Met.FAILED, reason)
        store = self._run.session.store
        path = self._run.project.inside(item.file)
        exists = store.has_path(tree, path)
        problem = file_problem(item, store.blob(tree, path) if exists else None, exists=exists)
        return Criterion(kind, item.name, Met.FAILED if problem else Met.YES, problem or "it is as declared")

    def _issues_again(self, tree: str, red: set[str]) -> list[Criterion]:
        """Run checks and acceptance of every issue on the tree that the base would get.

        One failure is one criterion: issues with the same failure share it, and a check that failed for the milestone
        (`red`) is not repeated for each of them.
        """
        failed: dict[str, list[str]] = {}
        passed = True
        for issue in self._run.milestone.issues:
            result = IssueRun(self._run, str(IssueRef(self._run.name, issue.id))).verify_on(tree)
            passed = passed and result.ok
            if not result.ok and result.failed not in red:
                failed.setdefault(result.reason, []).append(issue.id)
        criteria = [Criterion("issues", ", ".join(ids), Met.FAILED, reason) for reason, ids in failed.items()]
        if passed:
            criteria.append(Criterion("issues", "proofs", Met.YES, "checks and acceptance of every issue pass"))
        return criteria

    def _epic(self, accept: list[Criterion]) -> list[Criterion]:
        epic = self._run.milestone.epic
        if epic is None:
            return []
        path = self._run.session.project.milestones / epic
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return [Criterion("epic", epic, Met.LACKING, f"cannot be read: {error.strerror}")]
        return box_criteria(boxes(text), accept, f"milestones/{epic}")

    def _tag_criterion(self) -> list[Criterion]:
        tag = self._run.milestone.tag
        if tag is None:
            return []
        there = self._run.session.refs.tip(f"refs/tags/{tag}")
        if there is None:
            return [Criterion("tag", tag, Met.YES, "is free")]
        reason = f"is already the tag of {there[:10]}; declare another one"
        return [Criterion("tag", tag, Met.LACKING, reason)]

    def _merge_criterion(self, conflicts: tuple[str, ...]) -> Criterion:
        base = self._base()
        if not conflicts:
            return Criterion("merge", base, Met.YES, "merges without conflict; the checks ran on exactly that tree")
        names = ", ".join(conflicts[:5]) + (f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else "")  # noqa: PLR2004
        return Criterion(
            "merge",
            base,
            Met.LACKING,
            f"conflict in {names}; merge {base} into {self._run.milestone.branch} by hand, then again",
        )

    def _checkout_criteria(self, base_tip: str, tree: str) -> list[Criterion]:
        """Return criteria for checkouts of the base whose local changes conflict with the release."""
        found = self._run.session.checkouts
        lacking = [
            (checkout, found.in_the_way(checkout, base_tip, tree, carry=True))
            for checkout in found.of(self._run.view.base)
        ]
        return [
            Criterion("checkout", str(checkout.top), Met.LACKING, _put_aside(answer))
            for checkout, answer in lacking
            if answer
        ]

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
                f"{self._run.name}: the forge says that its pull request is merged, but {self._base()} does not have "
                "it yet; release again later"
            )
        if self._run.session.store.tree_of(commit) != tree:
            self._run.warn(
                f"{self._base()} moved while {self._run.name} was merged: {commit[:10]} is not the tree that was proved"
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
        criteria = outcome.criteria or (self._gate(self._run.session.store.tree_of(commit)) if again else [])
        return [item.name for item in criteria if item.kind in {"epic", "nfr"} and item.met is Met.YES]

    def _tag(self, outcome: Outcome, commit: str, tag: str) -> None:
        """Create the annotated tag of the release, on the remote first, unless it exists."""
        refs, name = self._run.session.refs, f"refs/tags/{tag}"
        store = self._run.session.store
        data = tag_object(tag, commit, refs.committer_of(commit), self._run.milestone)
        made = refs.tips([name]).get(name) or store.write("tag", store.signed_tag(data))
        there = Delivery(self._run).push_tag(name, made) if refs.tip(name) in {None, commit} else ""
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


def _not_asked(item: CommandProof | FileProof) -> Criterion:
    kind = "check" if isinstance(item, CommandProof) and item.named else "accept"
    return Criterion(kind, item.name, Met.LACKING, NOT_ASKED)


def _put_aside(text: str) -> str:
    return text if "`" in text or "would be overwritten: not" in text else f"{text}; commit or stash your changes to it"
