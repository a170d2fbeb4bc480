"""Landing: candidate on the present tip, proof of exactly that tree, then compare-and-swap of the branch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.checks.verify import Candidate as Judged
from executor.engine.agent_work import Failure
from executor.engine.attempt import Attempts
from executor.engine.candidate import candidate_of
from executor.engine.change_rules import ChangeRules, identity_of
from executor.engine.milestone_branch import Branch
from executor.engine.review import Reviews
from executor.engine.stops import Stops
from executor.errors import ExecutorError
from executor.git.refs import Move, attempt_ref
from executor.git.trailers import Landing, Trailers, landing_message
from executor.model.fingerprint import cleared
from executor.state.events import LandingIntended, Stopped

if TYPE_CHECKING:
    from executor.engine.candidate import Candidate
    from executor.engine.issue import IssueRun
    from executor.git.diff import Change
    from executor.state.decide import Decision
    from executor.state.model import Attempt

__all__ = ["Landings"]


class Landings:
    """Lands results of one issue."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def land(self, decision: Decision) -> None:
        """Verify the result of an attempt on the present tip and land it, or record why not.

        The proof runs while others may land; if the tip has moved by then, it is done again for the new one.
        """
        attempt = self._issue.state.attempts[decision.attempt]
        candidate = candidate_of(self._issue, attempt)
        change, logs, publisher = candidate.change, candidate.logs, self._session.plugins.publisher
        if Stops(self._issue).stopped_by_change(attempt, change, logs) or Stops(self._issue).stopped_by_tests(
            attempt, change
        ):
            publisher.show_stopped(candidate)
            return
        if publisher.merges and publisher.resume(candidate):
            return
        while True:
            landing = self._proved(candidate)
            if landing is None or self._brought(candidate, landing):
                return

    def _proved(self, candidate: Candidate) -> Landing | None:
        """The candidate on the present tip, once its checks have passed; None when something speaks against it."""
        store, publisher = self._session.store, self._session.plugins.publisher
        attempt, change, logs = candidate.attempt, candidate.change, candidate.logs
        tip = publisher.tip(self._run)
        merged = store.merge(tip, attempt.commit) if tip != candidate.base else None
        if merged is not None and merged.conflicts:
            self._stop_for_conflict(attempt, tip, merged.conflicts)
            return None
        issue = self._issue.declared
        tree = merged.tree if merged is not None else store.tree_of(attempt.commit)
        if merged is not None:
            again, bound = ChangeRules(self._issue).altered_since(attempt, change, store.tree_of(tip), tree)
            if again:
                ChangeRules(self._issue).record_stop(again, attempt=attempt.number, bound=bound)
                publisher.show_stopped(candidate)
                return None
        result = self._issue.verifier.judge(self._judged(attempt, change, tree, store.tree_of(tip)), logs)
        if result.tests and Stops(self._issue).stopped_by_changed_tests(attempt, change, result):
            publisher.show_stopped(candidate)
            return None
        if not result.ok:
            Attempts(self._issue).fail(attempt.number, Failure("checks", result.reason, result.detail, tree))
            return None
        if Reviews(self._issue).stopped_by_review(attempt, tree, logs):
            publisher.show_stopped(candidate)
            return None
        trailers = self._trailers(attempt, change)
        commit = attempt.commit
        if merged is not None or "Approved-By:" in trailers.notes:
            message = landing_message(issue.type, issue.title, change, trailers, number=issue.number)
            when = max(map(self._session.refs.time_of, (attempt.commit, tip)))  # the same for the same two, always
            commit = self._pushed_before(tree, tip) or store.commit(tree, [tip], message, self._session.identity, when)
        return Landing(commit, tree, self._run.view.count, int(time.time()), trailers)

    def _judged(self, attempt: Attempt, change: Change, tree: str, base: str) -> Judged:
        """What is to be proved, and which of its tests a person has seen."""
        issue, approved, bound = (
            self._issue.declared,
            self._issue.facts.approved,
            identity_of(self._run.store, attempt, change),
        )

        def seen(rule: str) -> bool:
            return rule in issue.allow or cleared(bound, (rule,), approved)

        return Judged(tree, base, change, trusted=seen("tests-changed"), asked=seen("tests-weakened"))

    def _brought(self, candidate: Candidate, landing: Landing) -> bool:
        """Bring a proved candidate onto the branch; False when the tip has moved and it has to be proved again."""
        publisher = self._session.plugins.publisher
        if publisher.merges:
            return publisher.merge(candidate, landing)
        publisher.publish(candidate, landing.commit)
        return not publisher.may_land(candidate.issue) or self._swap(candidate, landing)

    def _swap(self, candidate: Candidate, landing: Landing) -> bool:
        """Make the candidate the tip if the tip is still the one it was proved on."""
        issue, attempt, publisher = self._issue.declared, candidate.attempt, self._session.plugins.publisher
        tip = self._session.store.parent_of(landing.commit)
        with self._run.landing_lock:
            if self._run.view.tip != tip:
                return False
            self._run.record(LandingIntended(attempt=attempt.number, commit=landing.commit, onto=tip), issue.id)
            if not publisher.push(candidate, tip, landing.commit):
                return not publisher.may_land(candidate.issue)
            spent = Move(attempt_ref(self._run.name, issue.id, attempt.number), attempt.commit, None)
            if not Branch(self._run).advance(landing.commit, f"land {self._issue.ref}", [spent]):
                if self._run.refresh_tip() != tip:
                    return False
                if not Branch(self._run).advance(landing.commit, f"land {self._issue.ref}"):
                    raise ExecutorError(
                        f"{self._run.view.branch} cannot be moved from {tip[:10]} although it exists; see doit doctor"
                    )
            landing = Landing(landing.commit, landing.tree, self._run.view.count, landing.time, landing.trailers)
            self._run.take(landing)
            self._run.record_landed(landing, attempt.number)
            self._run.write_receipt(landing)
            publisher.pushed(self._run)
        return True

    def _pushed_before(self, tree: str, tip: str) -> str:
        """The same candidate, if it was made and pushed before; a new one would only differ in its time."""
        pull = self._issue.state.pull
        if pull is None or not self._session.refs.has(pull.commit):
            return ""
        store = self._session.store
        same = store.tree_of(pull.commit) == tree and store.parent_of(pull.commit) == tip
        return pull.commit if same else ""

    def _stop_for_conflict(self, attempt: Attempt, tip: str, paths: tuple[str, ...]) -> None:
        issue = self._issue.declared
        names = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")  # noqa: PLR2004
        others = [
            f"{self._run.name}/{other}"
            for other, landing in self._run.view.landings.items()
            if other != issue.id and self._lands_after(landing, attempt)
        ]
        by = f" with what {', '.join(others[-3:])} landed meanwhile" if others else ""
        reason = f"conflict in {names}{by}"
        Attempts(self._issue).fail(
            attempt.number, Failure("merge-conflict", reason, tree=self._session.store.tree_of(attempt.commit))
        )
        event = Stopped(
            level="soft",
            rule="merge-conflict",
            reason=reason,
            spec_key=attempt.spec_key,
            attempt=attempt.number,
            paths=tuple(paths[:100]),
            tip=tip,
        )
        self._run.record(event, issue.id)

    def _lands_after(self, landing: Landing, attempt: Attempt) -> bool:
        base = self._parent(attempt)
        at_base = next((item.position for item in self._run.view.landings.values() if item.commit == base), -1)
        return landing.position > at_base

    def _parent(self, attempt: Attempt) -> str:
        return attempt.base or self._session.store.parent_of(attempt.commit)

    def _worked(self, attempt: Attempt) -> str:
        """What the attempt's commit says of who worked and how; a commit made anew says the same."""
        told = self._session.refs.trailers(attempt.commit)
        return "\n".join(f"{key}: {told[key]}" for key in ("Agent", "Sandbox") if key in told)

    def _trailers(self, attempt: Attempt, change: Change) -> Trailers:
        observer = self._session.observer
        return Trailers(
            self._run.name,
            self._issue.id,
            attempt.revision,
            attempt.spec_key,
            attempt.result_key,
            observer.proofs(self._issue.ref).key,
            attempt.pull,
            observer.work_key(self._issue.ref),
            " ".join(self._issue.declared.was),
            "\n".join(
                part for part in (self._worked(attempt), ChangeRules(self._issue).approvals_of(attempt, change)) if part
            ),
        )
