"""The merge queue of a milestone: the threads of waiting issues prove and land candidates for one another.

`executor.engine.landing.queue` decides the next action, and a waiting thread does it: prove a tree, land the head,
settle a candidate alone. A proof ahead of the tip only fills the cache of verdicts. Landing checks the real tip
again, so a wrong prediction costs only time.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from executor.engine.candidate import SelectedTests
from executor.engine.landing.land import Built, Clash
from executor.engine.landing.milestone_branch import Branch
from executor.engine.landing.queue import (
    Land,
    Probe,
    Prove,
    Queue,
    Rate,
    Reject,
    Suspect,
    Verdict,
    after_landing,
    arranged,
    batch_size,
    likely_culprit,
    lots_of,
    next_actions,
)
from executor.errors import InterruptedRunError
from executor.git.diff import parse_diff
from executor.git.refs import Move, attempt_ref
from executor.git.trailers import Landing
from executor.model.fingerprint import IssueRef
from executor.model.paths import matches
from executor.state.events import Collision, LandingIntended
from executor.state.model import AttemptState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.checks.verify import Judgement
    from executor.engine.candidate import Candidate
    from executor.engine.landing.land import Lander
    from executor.engine.milestone_run import MilestoneRun

__all__ = ["Collisions", "MergeQueue"]

_LOOK_S = 0.2
"""Interval in seconds at which a waiting thread checks whether the run is being stopped."""


@dataclass(frozen=True, slots=True)
class Collisions:
    """Results of a milestone whose changes conflict, found before either of them lands.

    Attributes:
        run: the run of the milestone.
        found: qualified ids of two issues -> the files in conflict.
    """

    run: MilestoneRun
    found: dict[frozenset[str], tuple[str, ...]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return how many unlanded issues each issue conflicts with."""
        landed = {str(IssueRef(self.run.name, issue)) for issue in list(self.run.view.landings)}
        return Counter(ref for pair in list(self.found) if not pair & landed for ref in pair)

    def beside(self, ref: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return the running issues that an issue conflicts with, and the files."""
        pairs = [(other, paths) for pair, paths in list(self.found.items()) if ref in pair for other in pair - {ref}]
        return tuple(sorted((other, paths) for other, paths in pairs if other in self.run.session.working))

    def arrived(self, candidate: Candidate, others: Sequence[Candidate]) -> None:
        """Compare a result that arrives in the queue with those that wait there."""
        change = _Changed.of(candidate)
        for other in others:
            self._compare(change, _Changed.of(other))

    def probe(self, waiting: Sequence[Candidate]) -> None:
        """Compare snapshots of the agents' trees with one another and with the results that wait in the queue."""
        working = [made for ref in list(self.run.session.working) if (made := self._snapshot(ref)) is not None]
        results = {candidate.issue.ref: _Changed.of(candidate) for candidate in waiting}
        every = [*working, *results.values()]
        for place, one in enumerate(working):
            for other in every[place + 1 :]:
                self._compare(one, other)

    def _compare(self, one: _Changed, other: _Changed) -> None:
        pair = frozenset({one.ref, other.ref})
        harmless, relative = self.run.policy.landing.harmless, self.run.project.relative
        shared = [path for path in one.paths & other.paths if not matches(relative(path), harmless)]
        if len(pair) == 1 or pair in self.found or not shared:
            return
        merged = self.run.store.merge(one.commit, other.commit)
        if merged.conflicts and not self.run.merger.rules_for(merged.conflicts):
            self.found[pair] = merged.conflicts
            self.run.record(Collision(other=other.ref, paths=merged.conflicts[:100]), IssueRef.parse(one.ref).issue)

    def _snapshot(self, ref: str) -> _Changed | None:
        """Return what an agent has changed so far; None if it does not work or its tree cannot be read now."""
        run, (milestone, issue) = self.run, IssueRef.parse(ref)
        state = run.view.states.get(issue) if milestone == run.name else None
        attempt = state.attempts.get(state.last()) if state is not None else None
        if attempt is None or attempt.state is not AttemptState.STARTED:
            return None
        tree = run.pool.snapshot(issue, attempt.number, run.store, run.excludes, run.import_limits)
        if not tree or tree == run.store.tree_of(attempt.base):
            return None
        text = f"snapshot of {ref}\n"
        commit = run.store.commit(tree, [attempt.base], text, run.session.identity, run.store.time_of(attempt.base))
        change = parse_diff(run.store.diff(attempt.base, commit))
        return _Changed(ref, commit, frozenset(file.path for file in change.files))


@dataclass(frozen=True, slots=True)
class _Changed:
    """The change of an issue: a commit on the attempt's base, and the files that it changes."""

    ref: str
    commit: str
    paths: frozenset[str]

    @classmethod
    def of(cls, candidate: Candidate) -> _Changed:
        paths = frozenset(file.path for file in candidate.change.files)
        return cls(candidate.issue.ref, candidate.attempt.commit, paths)


class MergeQueue:
    """Candidates of one milestone that wait to land, in order of arrival."""

    def __init__(self, run: MilestoneRun) -> None:
        self._run = run
        self._rules = run.policy.landing
        self.collisions = Collisions(run)
        self.selection = SelectedTests(run)
        self._changed = threading.Condition()
        self._queue = Queue()
        self._landers: dict[str, Lander] = {}
        self._probes: dict[int, Probe | None] = {}
        self._next = 0
        self._settling = False
        self._tip = ""
        self._rate = Rate()
        self._version = 0
        self._idle_at = self._full_at = -1
        """Versions of the queue without any action, and without a free place for one."""
        run.session.places.freed.append(self._wake)

    def land(self, lander: Lander) -> None:
        """Wait until the candidate has landed or been rejected; process the queue meanwhile.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        key = lander.key
        with self._changed:
            others = [self._landers[member].candidate for member in self._queue.members]
        if self._rules.probe_s:
            self.collisions.arrived(lander.candidate, others)
        alone = {key} if self._rules.select_tests != "off" and self._run_selected(lander) else set()
        with self._changed:
            self._landers[key] = lander
            suspects = self._queue.suspects | alone
            self._queue = replace(self._queue, members=(*self._queue.members, key), suspects=suspects)
            self._queue = replace(self._queue, members=arranged(self._queue, *self._order()))
            self._notify()
        try:
            while True:
                action = self._wait_for_action(key)
                if action is None:
                    return
                self._do(action)
        finally:
            with self._changed:
                self._leave(key)

    def _run_selected(self, lander: Lander) -> bool:
        """Run the tests selected for a candidate, alone on the tip; returns whether they fail."""
        tip = self._run.session.plugins.publisher.tip(self._run)
        built = lander.build(tip)
        if isinstance(built, Clash):
            return False
        return self.selection.test(lander.candidate, built.tree, self._run.store.tree_of(tip))

    def probe(self) -> None:
        """Check whether the changes of running agents conflict with one another or with waiting results."""
        with self._changed:
            waiting = [lander.candidate for lander in self._landers.values()]
        self.collisions.probe(waiting)

    def _order(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the known conflicts and the changed lines of each member."""
        changes = {member: self._landers[member].candidate.change for member in self._queue.members}
        return self.collisions.counts(), {member: change.added + change.removed for member, change in changes.items()}

    def _wait_for_action(self, key: str) -> Prove | Land | Reject | None:
        """Return the next action for the calling thread; None once its candidate has left the queue."""
        with self._changed:
            while key in self._queue.members:
                if self._run.stopping.is_set():
                    raise InterruptedRunError(f"{key}: the run was stopped", 130)
                action = self._choose(key)
                if action is not None:
                    return action
                if not self._settling:  # a landing is short; whoever waits longer leaves the place to an agent
                    self._run.session.places.leave(key)
                self._changed.wait(_LOOK_S)
        return None

    def _wake(self) -> None:
        """Notify waiting threads that a place is free."""
        with self._changed:
            self._notify()

    def _notify(self) -> None:
        """Wake every waiting thread to look for an action."""
        self._version += 1
        self._changed.notify_all()

    def _choose(self, key: str) -> Prove | Land | Reject | None:
        """Choose an action for the calling thread, preferably its own probe; each action goes to one thread only."""
        places = self._run.session.places
        if self._settling or self._idle_at == self._version:
            return None
        if self._full_at == self._version and not places.holds(key):
            return None
        actions = next_actions(self._queue, self._size(), len(self._queue.members))
        if not actions or not isinstance(actions[0], Prove):
            places.want_no_proof(self)
        if not actions:
            self._idle_at = self._version
        own = [item for item in actions if isinstance(item, Prove) and item.probe.members[-1] == key]
        action = next(iter([*own, *actions]), None)
        if isinstance(action, Suspect):
            self._queue = replace(self._queue, suspects=self._queue.suspects | {action.member})
            return self._choose(key)
        if isinstance(action, Prove):
            if not places.take_for_proof(key, self, len(actions)):
                self._full_at = self._version
                return None
            self._queue = replace(self._queue, running=self._queue.running | {action.probe})
        elif action is not None:
            self._settling = True
        return action

    def _size(self) -> int:
        """Return how many candidates are proved together now."""
        if self._rules.mode == "each":
            return 1
        if self._rules.mode == "batch":
            return self._rules.batch_most
        if len(self._queue.members) <= len(os.sched_getaffinity(0)):
            return 1
        return batch_size(self._rate.value, self._rules.batch_most)

    def _do(self, action: Prove | Land | Reject) -> None:
        match action:
            case Prove(probe):
                self._prove(probe)
            case Land(members):
                self._settle(members)
            case Reject(member):
                self._settle((member,))

    def _prove(self, probe: Probe) -> None:
        """Run a probe and keep its verdict if its tree is still a possible future of the branch."""
        with self._changed:
            number, self._next = self._next, self._next + 1
            self._probes[number] = probe
            landers = [self._landers[member] for member in probe.members]
            tip = self._tip
        verdict = None
        try:
            tip = tip or self._run.session.plugins.publisher.tip(self._run)
            verdict = _verdict(landers, probe, tip)
        finally:
            with self._changed:
                self._tip = self._tip or tip
                kept = self._probes.pop(number)
                if kept is not None:
                    verdicts = self._queue.verdicts if verdict is None else {**self._queue.verdicts, kept: verdict}
                    self._queue = replace(self._queue, running=self._queue.running - {kept}, verdicts=verdicts)
                self._notify()

    def _settle(self, members: tuple[str, ...]) -> None:
        """Land proved members, or judge one alone on the real tip and record why it does not land."""
        with self._changed:
            landers = [self._landers[member] for member in members]
            before, verdicts = self._tip, dict(self._queue.verdicts)
        landed: list[str] = []
        try:
            for lot in lots_of(members, verdicts):
                group = [lander for lander in landers if lander.key in lot]
                if len(group) > 1 and self._land_together(group):
                    landed += lot
                    continue
                for lander in group:
                    lander.settle()
                    if lander.has_landed():
                        landed.append(lander.key)
        finally:
            with self._changed:
                for member in members:
                    self._rate = self._rate.after(rejected=member not in landed)
                    self._leave(member)
                self._move_on(tuple(landed), before)
                self._settling = False
                self._notify()

    def _land_together(self, landers: list[Lander]) -> bool:
        """Land a lot whose last tree is proved in one push; False if one of its members must be settled alone."""
        run, publisher = self._run, self._run.session.plugins.publisher
        tip = publisher.tip(run)
        chain = _chain(landers, tip)
        if isinstance(chain, Clash):
            return False
        tree = chain[-1].tree
        base = run.store.tree_of(tip)
        if not all(lander.judge(tree, base, batch=True).ok for lander in landers):
            return False
        if any(lander.wants_review() for lander in landers):
            return False
        chain = _chain(landers, tip, tree)
        if isinstance(chain, Clash):
            return False
        for lander, built in zip(landers, chain, strict=True):
            publisher.publish(lander.candidate, built.commit)
            if not publisher.may_land(lander.candidate.issue):
                return False
        return self._advance(landers, chain, tip)

    def _advance(self, landers: list[Lander], chain: list[Built], tip: str) -> bool:
        """Move the branch over a chain of commits if the tip is still the one that the chain was built on."""
        run, publisher = self._run, self._run.session.plugins.publisher
        last = chain[-1].commit
        with run.landing_lock:
            if run.view.tip != tip:
                return False
            for lander, built in zip(landers, chain, strict=True):
                attempt = lander.candidate.attempt.number
                lander.candidate.issue.record(LandingIntended(attempt=attempt, commit=built.commit, onto=built.tip))
            shown = [(lander.candidate, built.commit) for lander, built in zip(landers, chain, strict=True)]
            if not publisher.push(shown, tip):
                return False
            spent = [_spent(lander) for lander in landers]
            reason = f"land {', '.join(lander.key for lander in landers)}"
            # An attempt's ref may have been deleted by others; only the branch counts.
            if not Branch(run).advance(last, reason, spent) and not (
                run.refresh_tip() == tip and Branch(run).advance(last, reason)
            ):
                return False
            now = int(time.time())
            for lander, built in zip(landers, chain, strict=True):
                landing = Landing(built.commit, built.tree, run.view.count, now, built.trailers)
                run.take(landing)
                run.record_landed(landing, lander.candidate.attempt.number)
                run.write_receipt(landing)
            publisher.record_push(run)
        return True

    def _move_on(self, landed: tuple[str, ...], before: str) -> None:
        """Keep the verdicts of trees that contain the landed members; all verdicts if the tip has not moved."""
        tip = self._run.view.tip
        if tip == before:
            return
        self._tip = tip
        verdicts = after_landing(self._queue.verdicts, landed) if landed else {}
        probes: dict[int, Probe | None] = {}
        for number, probe in self._probes.items():
            kept = after_landing({probe: Verdict(ok=True)}, landed) if probe is not None and landed else {}
            probes[number] = next(iter(kept), None)
        self._probes = probes
        running = frozenset(probe for probe in probes.values() if probe is not None)
        self._queue = replace(self._queue, verdicts=verdicts, running=running)

    def _leave(self, key: str) -> None:
        members = tuple(member for member in self._queue.members if member != key)
        self._queue = replace(self._queue, members=members, suspects=self._queue.suspects - {key})
        self._landers.pop(key, None)
        if not members:
            self._run.session.places.want_no_proof(self)
        self._notify()


def _verdict(landers: list[Lander], probe: Probe, tip: str) -> Verdict:
    """Build the tree of a probe on a tip and run the checks of its lot."""
    chain = _chain(landers, tip)
    if isinstance(chain, Clash):
        return Verdict(ok=False, culprit=chain.culprit)
    tree, store = chain[-1].tree, landers[0].candidate.issue.session.store
    # Compared with the real tip, whose reports are known; a comparison with the predecessor would make each proof wait
    # for the previous one. Landing compares with the predecessor.
    base = store.tree_of(tip)
    lot = landers[-probe.lot :]
    for lander in lot:
        judgement = lander.judge(tree, base, probe.only, again=probe.again, batch=len(lot) > 1)
        if not judgement.ok:
            return Verdict(ok=False, failed=judgement.faults, likely=_likely(lot, judgement))
    return Verdict(ok=True)


def _likely(lot: list[Lander], judgement: Judgement) -> str:
    text = "\n".join((judgement.reason, judgement.detail, *judgement.failing))
    changed = {lander.key: [file.path for file in lander.candidate.change.files] for lander in lot}
    read = lot[0].candidate.issue.run.queue.selection.read_by(judgement.failed, judgement.failing)
    return likely_culprit(changed, text, read)


def _chain(landers: list[Lander], tip: str, proved_with: str = "") -> list[Built] | Clash:
    """Build candidates as a chain of commits on a tip; returns the first conflict instead, if any."""
    chain: list[Built] = []
    for lander in landers:
        built = lander.build(chain[-1].commit if chain else tip, proved_with)
        if isinstance(built, Clash):
            return replace(built, culprit=lander.key)
        chain.append(built)
    return chain


def _spent(lander: Lander) -> Move:
    candidate = lander.candidate
    name = attempt_ref(candidate.issue.run.name, candidate.issue.id, candidate.attempt.number)
    return Move(name, candidate.attempt.commit, None)
