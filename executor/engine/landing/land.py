"""Landing: build a candidate on a tip, prove exactly that tree, then compare-and-swap the branch.

The merge queue decides which candidate is proved on which tip and in what order they land
(`executor.engine.landing.merge_queue`).
"""

from __future__ import annotations

import re
import shlex
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from executor.agents.brief import most_useful
from executor.checks.run import Made
from executor.checks.spec import regeneration
from executor.checks.verify import Candidate as Judged
from executor.checks.verify import Judgement
from executor.engine.agent_work import Failure
from executor.engine.attempt import Attempts
from executor.engine.candidate import candidate_of, result_message
from executor.engine.landing.change_rules import ChangeRules, Objection, Rests, Reviews, identity_of
from executor.engine.landing.milestone_branch import Branch
from executor.engine.stops import Stops
from executor.errors import ExecutorError
from executor.git.diff import parse_diff
from executor.git.refs import Move, attempt_ref
from executor.git.trailers import Landing, Trailers, one_line, parse_trailers
from executor.model.fingerprint import IssueRef, cleared
from executor.model.paths import matches
from executor.state.events import LandingIntended, Regenerated, Stopped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.engine.candidate import Candidate
    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.git.diff import Change
    from executor.model.rules import Regenerate
    from executor.state.decide import Decision
    from executor.state.model import Attempt
    from executor.stop_rules.evaluate import Hit

__all__ = ["Built", "Clash", "Lander", "Landings", "Merger"]

_FILE = re.compile("^(?=diff --git )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Built:
    """A candidate as a commit on a given tip.

    Attributes:
        commit: the commit.
        tree: its tree.
        tip: the commit that it is built on.
        trailers: the trailers of its message.
    """

    commit: str
    tree: str
    tip: str
    trailers: Trailers


@dataclass(frozen=True, slots=True)
class Clash:
    """Why a candidate cannot be built on a tip.

    Attributes:
        tip: the commit.
        paths: files that conflict; empty if a stop rule hits the merged change.
        culprit: the candidate that conflicts, if several were built.
        tree: the merged tree, if a stop rule hits it.
        why: why files in conflict could not be regenerated; empty if no rule names them.
    """

    tip: str
    paths: tuple[str, ...] = ()
    culprit: str = ""
    tree: str = ""
    why: str = ""


class Landings:
    """Lands the results of one issue."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._session = issue.session

    def land(self, decision: Decision) -> None:
        """Prove the result of an attempt and land it, or record why it does not land."""
        attempt = self._issue.state.attempts[decision.attempt]
        candidate = candidate_of(self._issue, attempt)
        change, logs, publisher = candidate.change, candidate.logs, self._session.plugins.publisher
        objection = Stops(self._issue).objection_to(attempt, change, logs)
        if objection is not None:
            record_against(candidate, objection)
            publisher.show_stopped(candidate)
        elif not publisher.merges:
            self._issue.run.queue.land(Lander(candidate))
        elif not publisher.resume(candidate):
            Lander(candidate).settle()


def record_against(candidate: Candidate, cause: Failure | Objection) -> None:
    """End the attempt of a candidate by a failure, or stop its issue until a person approves."""
    number = candidate.attempt.number
    if isinstance(cause, Failure):
        Attempts(candidate.issue).fail(number, cause)
    else:
        ChangeRules(candidate.issue).record_stop(cause.hits, attempt=number, bound=cause.bound)


@dataclass(frozen=True, slots=True)
class Merger:
    """Merges results with the branch. Files that a rule regenerates are written again where they conflict.

    Attributes:
        run: the run of the milestone.
        made: (tree, key of a command) -> its result: one for each, so that exactly the proved tree lands.
    """

    run: MilestoneRun
    made: dict[tuple[str, str], Made] = field(default_factory=dict)

    def merge(self, tip: str, candidate: Candidate) -> str | Clash:
        """Return the tree of a candidate merged with a tip, or the conflict."""
        run, store = self.run, self.run.store
        merged = store.merge(tip, candidate.attempt.commit)
        if not merged.conflicts:
            return merged.tree
        rules = self.rules_for(merged.conflicts)
        if not rules:
            return Clash(tip, merged.conflicts)
        with run.pool.slot() as slot:
            tree = store.with_paths_of(merged.marked, tip, merged.conflicts, slot.scratch)
        for rule in rules:
            made = self._regenerate(tree, rule, candidate, merged.conflicts)
            if made.problem:
                return Clash(tip, merged.conflicts, why=f"`{_shown(rule)}` did not resolve it: {made.problem}")
            tree = made.tree
        return tree

    def rules_for(self, conflicts: Sequence[str]) -> list[Regenerate]:
        """Return the rules that regenerate these files; none if a file belongs to no rule."""
        paths = list(map(self.run.project.relative, conflicts))
        rules = [
            rule for rule in self.run.policy.landing.regenerated if any(matches(path, rule.paths) for path in paths)
        ]
        return rules if all(any(matches(path, rule.paths) for rule in rules) for path in paths) else []

    def _regenerate(self, tree: str, rule: Regenerate, candidate: Candidate, conflicts: tuple[str, ...]) -> Made:
        """Run the command of a rule on a tree; of its result, only the files that the rule names are kept."""
        run, item = self.run, regeneration(rule, self.run.policy)
        with run.session.verdicts.alone(tree, item.key):
            if (tree, item.key) in self.made:
                return self.made[tree, item.key]
            declared = tuple(map(run.project.inside, rule.paths))
            log = candidate.logs / f"{item.slug}.log"
            made = run.checks.result_of(tree, item, item.argv, declared=declared, log=log)
            if not made.problem:
                made = Made(self._only(rule, tree, made.tree), "")
            attempt, paths = candidate.attempt.number, tuple(conflicts[:100])
            event = Regenerated(attempt=attempt, paths=paths, command=_shown(rule), reason=made.problem)
            run.record(event, candidate.issue.id)
            self.made[tree, item.key] = made
            return made

    def _only(self, rule: Regenerate, tree: str, made: str) -> str:
        """Return a tree with the files of a rule taken from the tree that its command made."""
        store, relative = self.run.store, self.run.project.relative
        changed = [file.path for file in parse_diff(store.diff(tree, made)).files]
        own = [path for path in changed if matches(relative(path), rule.paths)]
        with self.run.pool.slot() as slot:
            return store.with_paths_of(tree, made, own, slot.scratch) if own else tree


def _shown(rule: Regenerate) -> str:
    return one_line(rule.run if isinstance(rule.run, str) else shlex.join(rule.run))[:200]


class Lander:
    """Builds, proves and lands one candidate."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.key = candidate.issue.ref
        self._issue = candidate.issue
        self._run = candidate.issue.run
        self._session = candidate.issue.session
        self._judgements: dict[tuple[str, str], Judgement] = {}
        self._building = threading.Lock()
        self._built: dict[tuple[str, str, str, frozenset[str]], Built | Clash] = {}

    def settle(self) -> None:
        """Prove the candidate alone on the current tip and land it, or record why it does not land.

        Other candidates may land during the proof; if the tip has moved, the proof is repeated on the new tip.
        Nothing is recorded if the reviewer's account rests: the result waits.
        """
        while True:
            proof = self._proved()
            if isinstance(proof, Landing):
                if self._advance_branch(self.candidate, proof):
                    return
            elif isinstance(proof, Rests):
                return
            elif not self._session.plugins.publisher.unstack(self._issue):
                self._refuse(proof)
                return

    def build(self, tip: str, proved_with: str = "") -> Built | Clash:
        """Build the candidate on a tip; equal arguments always give an equal commit.

        Args:
            tip: the commit to build on; it need not be on any branch.
            proved_with: the tree on which its batch is proved; empty for a single landing.
        """
        pull = self._issue.state.pull
        facts = (tip, proved_with, "" if pull is None else pull.commit, frozenset(self._issue.facts.approved))
        with self._building:
            if facts not in self._built:
                self._built[facts] = self._build(tip, proved_with)
            return self._built[facts]

    def _build(self, tip: str, proved_with: str) -> Built | Clash:
        store, candidate = self._session.store, self.candidate
        attempt, change = candidate.attempt, candidate.change
        merged = tip != candidate.base
        tree = self._run.merger.merge(tip, candidate) if merged else store.tree_of(attempt.commit)
        if isinstance(tree, Clash):
            return tree
        if merged and self._altered(tip, tree)[0]:
            return Clash(tip, tree=tree)
        trailers = replace(self._trailers(attempt, change), proved_with=proved_with)
        if not merged and not proved_with and not trailers.approved_by:
            return Built(store.signed(attempt.commit), tree, tip, trailers)
        message = result_message(self._issue, change, trailers, agent=attempt.agent, notes=attempt.notes)
        when = max(map(store.time_of, (attempt.commit, tip)))
        made = self._pushed_before(tree, tip, message)
        if not made:
            made = store.signed(store.commit(tree, [tip], message, self._session.identity, when))
        return Built(made, tree, tip, trailers)

    def judge(
        self, tree: str, base: str, only: frozenset[str] = frozenset(), *, again: bool = False, batch: bool = False
    ) -> Judgement:
        """Run the checks of the candidate on a tree that contains it.

        Args:
            tree: the tree.
            base: the tree to compare it with.
            only: the faults to look for, as `Judgement.faults` has them; empty: all checks.
            again: retry failures that this run has seen.
            batch: the tree has several results that are judged together.
        """
        if not self._issue.proofs.items:
            return Judgement(ok=True)
        attempt, change = self.candidate.attempt, self.candidate.change
        judged = self._judged(attempt, change, tree, base)
        if only or again:
            found = self._issue.verifier_of(only, again=again).judge(replace(judged, trusted=True), self.candidate.logs)
            if again and found.ok:  # what failed was flaky
                self._judgements = {place: known for place, known in self._judgements.items() if known.ok}
            return found
        known = self._judgements.get((tree, base))
        if known is None:
            every = parse_diff(self._session.store.diff(base, tree)) if batch else None
            known = self._issue.verifier.judge(judged, self.candidate.logs, every)
            self._judgements[tree, base] = known
        return known

    def has_landed(self) -> bool:
        """Whether the attempt's revision is on the branch."""
        landing = self._run.view.landings.get(self._issue.id)
        return landing is not None and landing.trailers.revision >= self.candidate.attempt.revision

    def wants_review(self) -> bool:
        """Return whether the route has a reviewer, who reads each change on the tree that it lands with."""
        return self._session.policy.route_of(self._issue.declared).reviewer is not None

    def _altered(self, tip: str, tree: str) -> tuple[list[Hit], str]:
        """Return the stop rules that hit the merged change but not the attempt's own change."""
        store, candidate = self._session.store, self.candidate
        return ChangeRules(self._issue).altered_since(candidate.attempt, candidate.change, store.tree_of(tip), tree)

    def _proved(self) -> Landing | Clash | Failure | Objection | Rests:
        """Return the candidate after its checks have passed where it goes, or the reason against it."""
        store, publisher, candidate = self._session.store, self._session.plugins.publisher, self.candidate
        attempt, change, logs = candidate.attempt, candidate.change, candidate.logs
        tip = publisher.beneath(self._issue)
        built = self.build(tip)
        if isinstance(built, Clash):
            return built
        result = self.judge(built.tree, store.tree_of(tip))
        objection = Stops(self._issue).objection_to_tests(attempt, change, result)
        if objection is not None:
            return objection
        if not result.ok:
            self._run.queue.selection.check(candidate, result)
            return Failure("checks", result.reason, result.detail, built.tree)
        review = Reviews(self._issue).objection_to(attempt, built.tree, logs)
        if review is not None:
            return review
        return Landing(built.commit, built.tree, self._run.view.count, int(time.time()), built.trailers)

    def _refuse(self, cause: Clash | Failure | Objection) -> None:
        """Record the reason against the candidate; shows it if it waits for a person."""
        attempt = self.candidate.attempt
        if isinstance(cause, Clash) and cause.paths:
            self._stop_for_conflict(attempt, cause)
            return
        if isinstance(cause, Clash):
            hits, bound = self._altered(cause.tip, cause.tree)
            cause = Objection(tuple(hits), bound)
        record_against(self.candidate, cause)
        if isinstance(cause, Objection):
            self._session.plugins.publisher.show_stopped(self.candidate)

    def _judged(self, attempt: Attempt, change: Change, tree: str, base: str) -> Judged:
        """Return the candidate to judge, with the changes of tests that a person has approved."""
        issue, approved, bound = (
            self._issue.declared,
            self._issue.facts.approved,
            identity_of(self._run.store, attempt, change),
        )

        def seen(rule: str) -> bool:
            return rule in issue.allow or cleared(bound, (rule,), approved)

        return Judged(tree, base, change, trusted=seen("tests-changed"), asked=seen("tests-weakened"))

    def _advance_branch(self, candidate: Candidate, landing: Landing) -> bool:
        """Move the branch to a proved candidate; False if the tip has moved and the proof must be repeated."""
        publisher = self._session.plugins.publisher
        if publisher.merges:
            return publisher.merge(candidate, landing)
        publisher.publish(candidate, landing.commit)
        return not publisher.may_land(candidate.issue) or self._swap(candidate, landing)

    def _swap(self, candidate: Candidate, landing: Landing) -> bool:
        """Make the candidate the tip if the tip is still the one that it was proved on."""
        issue, attempt, publisher = self._issue.declared, candidate.attempt, self._session.plugins.publisher
        tip = self._session.store.parent_of(landing.commit)
        with self._run.landing_lock:
            if self._run.view.tip != tip:
                return False
            self._run.record(LandingIntended(attempt=attempt.number, commit=landing.commit, onto=tip), issue.id)
            if not publisher.push([(candidate, landing.commit)], tip):
                return not publisher.may_land(candidate.issue)
            spent = Move(attempt_ref(self._run.name, issue.id, attempt.number), attempt.commit, None)
            if not Branch(self._run).advance(landing.commit, f"land {self._issue.ref}", [spent]):
                if self._run.refresh_tip() != tip:
                    return False
                if not Branch(self._run).advance(landing.commit, f"land {self._issue.ref}"):
                    raise ExecutorError(
                        f"{self._run.view.branch} exists, but cannot be moved from {tip[:10]}; see doit doctor"
                    )
            landing = Landing(landing.commit, landing.tree, self._run.view.count, landing.time, landing.trailers)
            self._run.take(landing)
            self._run.record_landed(landing, attempt.number)
            self._run.write_receipt(landing)
            publisher.record_push(self._run)
        return True

    def _pushed_before(self, tree: str, tip: str, message: str) -> str:
        """Return the same candidate if an earlier run pushed it; a new one would differ only in its time.

        One that was pushed before an approval, or as the work so far of a question, says something else.
        """
        pull, store, refs = self._issue.state.pull, self._session.store, self._session.refs
        if pull is None or not refs.has(pull.commit):
            return ""
        same = store.tree_of(pull.commit) == tree and store.parent_of(pull.commit) == tip
        return pull.commit if same and refs.message(pull.commit).strip() == message.strip() else ""

    def _stop_for_conflict(self, attempt: Attempt, clash: Clash) -> None:
        issue, paths = self._issue.declared, clash.paths
        names = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")  # noqa: PLR2004
        others = {
            str(IssueRef(self._run.name, other)): landing
            for other, landing in self._run.view.landings.items()
            if other != issue.id and self._lands_after(landing, attempt) and self._touches(landing, paths)
        }
        by = f" with what {', '.join([*others][-3:])} landed meanwhile" if others else ""
        reason = f"conflict in {names}{by}{f'; {clash.why}' if clash.why else ''}"
        failure = Failure(
            "merge-conflict", reason, self._changes_of(others, paths), self._session.store.tree_of(attempt.commit)
        )
        Attempts(self._issue).fail(attempt.number, failure)
        event = Stopped(
            level="soft",
            rule="merge-conflict",
            reason=reason,
            spec_key=attempt.spec_key,
            attempt=attempt.number,
            paths=tuple(paths[:100]),
            tip=clash.tip,
        )
        self._run.record(event, issue.id)

    def _changes_of(self, others: Mapping[str, Landing], paths: tuple[str, ...]) -> str:
        """Return the changes of other issues in these files, for the brief of the next attempt."""
        store = self._session.store
        lines = []
        for ref, landing in [*others.items()][-3:]:
            parts = _FILE.split(store.diff(f"{landing.commit}^", landing.commit).decode("utf-8", "replace"))
            same = [part for part in parts if any(path in part.partition("\n")[0] for path in paths)]
            lines.append(f"{ref} has landed this change of the same files:\n{''.join(same)}")
        return most_useful("\n".join(lines), 6000)

    def _lands_after(self, landing: Landing, attempt: Attempt) -> bool:
        base = self._parent(attempt)
        at_base = next((item.position for item in self._run.view.landings.values() if item.commit == base), -1)
        return landing.position > at_base

    def _touches(self, landing: Landing, paths: tuple[str, ...]) -> bool:
        """Whether a landing changed one of these files."""
        change = parse_diff(self._session.store.diff(f"{landing.commit}^", landing.commit))
        return any(file.path in paths for file in change.files)

    def _parent(self, attempt: Attempt) -> str:
        return attempt.base or self._session.store.parent_of(attempt.commit)

    def _trailers(self, attempt: Attempt, change: Change) -> Trailers:
        """Return the trailers of the landing; agent and sandbox are those in the attempt's commit."""
        observer = self._session.observer
        worked = parse_trailers(self._session.refs.trailers(attempt.commit))
        return Trailers(
            milestone=self._run.name,
            issue=self._issue.id,
            revision=attempt.revision,
            spec_key=attempt.spec_key,
            result_key=attempt.result_key,
            check_key=observer.proofs(self._issue.ref).key,
            work_key=observer.work_key(self._issue.ref),
            was=self._issue.declared.was,
            pull=attempt.pull,
            agent=worked.agent if worked is not None else "",
            sandbox=worked.sandbox if worked is not None else "",
            approved_by=ChangeRules(self._issue).approvals_of(attempt, change),
        )
