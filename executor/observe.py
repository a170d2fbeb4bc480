"""Observe: the facts about every issue, gathered from declarations, journal and git, and the decisions they lead to.

Reading only. The same observer serves `doit list`, `doit explain` and a run, which tells it what has changed.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.adapters import segments
from executor.adapters.declarations import spec_text
from executor.adapters.files import read_json
from executor.adapters.kept_work import Answer, answers_in, step_in
from executor.adapters.landings import read_landings
from executor.adapters.standings import pauses, read_releases
from executor.adapters.tools import ToolVersions
from executor.allowance import Allowance
from executor.core.blockers import Blocker, blockers_of
from executor.core.checks import Proofs, proofs_of
from executor.core.choice import Choice
from executor.core.decide import Act, Decision, Facts, Need, Status, decide
from executor.core.fingerprint import canonical_spec, spec_key
from executor.core.message import parse_trailers
from executor.core.milestone_state import Released
from executor.core.state import (
    QUESTION,
    UNSANDBOXED,
    Attempt,
    AttemptState,
    IssueState,
    Proof,
    Pull,
    fold,
    with_git_attempts,
)
from executor.core.steps import StepRecord, compiled_flow
from executor.core.workflow import progress
from executor.project import base_branch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.adapters.refs import Kept, Refs
    from executor.core.declaration import Milestone
    from executor.core.event import Event
    from executor.core.message import Landing, Trailers
    from executor.core.milestone_state import Pause
    from executor.core.plan import Node
    from executor.project import Compiled

__all__ = [
    "ACCEPTED",
    "ANSWERS",
    "APPROVED",
    "ATTEMPTS",
    "DELIVERED",
    "HANDOFFS",
    "MERGED",
    "REMOTE",
    "STEPS",
    "MilestoneView",
    "Observer",
    "attempt_in",
    "attempt_ref",
    "observe",
    "spec_archive",
]

ATTEMPTS = "refs/attempts"
"""Unlanded attempts: `<milestone>/<issue>/<number>` below this."""
ACCEPTED = "refs/executor/accepted"
"""Landed work that a person keeps under a changed spec: `<milestone>/<issue>` below this."""
APPROVED = "refs/executor/approved"
"""What a person has approved of although a rule stopped it: `<milestone>/<issue>` below this."""
STEPS = "refs/executor/steps"
"""Results of the steps of a workflow: `<milestone>/<issue>/<phase>.<step>` below this, until the issue has landed."""
HANDOFFS = "refs/executor/handoffs"
"""What an issue's agent leaves for the next ones: `<milestone>/<issue>` below this."""
ANSWERS = "refs/executor/answers"
"""What a person answered to an agent's questions: `<milestone>/<issue>` below this."""
MERGED = "refs/executor/merged"
"""Pull requests that were merged by hand, without our trailers: `<milestone>/<issue>/<revision>` below this."""
REMOTE = "refs/executor/remote"
"""Where the remote's milestone branch was last seen: `<milestone>` below this."""


DELIVERED = "refs/executor/released"
"""The release of which the remote has everything: `<milestone>` below this."""
_PARTS = 5
_OUTCOMES = {"": AttemptState.BUILT, "interrupted": AttemptState.INTERRUPTED, QUESTION: AttemptState.INTERRUPTED}


@dataclass(slots=True)
class MilestoneView:
    """What is known of one milestone outside its declaration.

    Attributes:
        milestone: its declaration.
        branch: full name of its branch.
        base: full name of the branch it starts from.
        tip: commit that work starts from: the branch's tip, or the base's while there is no branch.
        exists: whether the branch exists.
        landings: latest landing of each issue.
        history: positions and result keys of each issue's landings, oldest first.
        states: the fold of its journal.
        blockers: what stood in the way when its journal was read.
        count: landings on the history, of all issues together.
        accepted: issue -> (landing commit, spec keys) that a person accepted.
        approved: issue -> result keys and spec keys that a person approved of.
        base_tip: commit of the base branch.
        pause: set while a person has paused the milestone.
        released: its latest release.
        merged: everything on the branch is reachable from the base.
        steps: issue -> results of its steps that are kept, by ``phase.step``.
        handoffs: issue -> commit that keeps its handoff.
        answers: issue -> questions of its agents with a person's answers, oldest first.
        remote_tip: where the remote's branch was last seen; empty when it never was.
        tag: its declared tag, if there is one of that name.
        delivered: the release of which the remote has everything.
    """

    milestone: Milestone
    branch: str
    base: str
    tip: str
    exists: bool
    landings: dict[str, Landing] = field(default_factory=dict)
    history: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    states: dict[str, IssueState] = field(default_factory=dict)
    blockers: list[Blocker] = field(default_factory=list)
    count: int = 0
    accepted: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)
    approved: dict[str, frozenset[str]] = field(default_factory=dict)
    steps: dict[str, dict[str, StepRecord]] = field(default_factory=dict)
    handoffs: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[Answer, ...]] = field(default_factory=dict)
    remote_tip: str = ""
    base_tip: str = ""
    pause: Pause | None = None
    released: Released | None = None
    merged: bool = False
    tag: str = ""
    delivered: str = ""

    @property
    def release(self) -> Released | None:
        """Its latest release, or what somebody else merged into the base amounts to."""
        if self.released is None and self.merged:
            return Released(self.base_tip, self.tip)
        return self.released

    @property
    def release_current(self) -> bool:
        """Whether everything that has landed is released, with the declared tag."""
        if self.milestone.tag and not self.tag:
            return False
        return self.merged or (self.released is not None and (not self.exists or self.released.tip == self.tip))

    def add(self, landing: Landing) -> None:
        """Take a new landing in."""
        issue = landing.trailers.issue
        self.count += 1
        self.landings[issue] = landing
        self.history.setdefault(issue, []).append((landing.position, landing.trailers.result_key))

    def result_before(self, issue: str, position: int) -> str:
        """Result key that an issue had before a position of the history; empty when it had not landed."""
        known = self.history.get(issue, [])
        place = bisect_left(known, (position, ""))
        return known[place - 1][1] if place else ""


class Observer:
    """Facts and decisions of every declared issue; decisions are kept until something they rest on changes."""

    def __init__(self, compiled: Compiled, views: dict[str, MilestoneView]) -> None:
        self.compiled = compiled
        self.views = views
        self.allowance = Allowance(compiled.policy)
        for name, view in views.items():
            for issue, state in view.states.items():
                self.allowance.take(name, issue, state)
        self.passed_over: frozenset[str] = frozenset()
        """Issues that a run leaves alone although they have not landed, and that keep nothing back."""
        self.tools = ToolVersions(compiled.project.cache)
        self._decisions: dict[str, Decision] = {}
        self._specs: dict[str, str] = {}
        self._texts: dict[str, dict[str, Any]] = {}
        self._proofs: dict[str, Proofs] = {}
        self._held: dict[str, str] = {}
        self._lock = threading.RLock()

    @property
    def run_id(self) -> str:
        """The run that asks, if one does: it looks again at what an earlier one found in its way."""
        return self.allowance.run_id

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self.allowance.run_id = run_id

    def decision(self, ref: str) -> Decision:
        """Status and next step of an issue."""
        with self._lock:
            known = self._decisions.get(ref)
            if known is not None and known.wait is not None and (known.wait.until or 0.0) <= time.time():
                del self._decisions[ref]  # what it waited for may be over
            self._held_by(self._node(ref).milestone)
            waiting = [ref]
            while waiting:
                current = waiting[-1]
                missing = [need for need in self._node(current).needs if need not in self._decisions]
                if missing and current not in self._decisions:
                    waiting.extend(missing)
                    continue
                waiting.pop()
                if current not in self._decisions:
                    self._decisions[current] = decide(self.facts(current))
            return self._decisions[ref]

    def pass_over(self, refs: Iterable[str]) -> None:
        """Leave these issues alone for the length of the run: nothing waits for them."""
        with self._lock:
            self.passed_over = frozenset(refs)
            if self.passed_over:
                self._decisions.clear()

    def changed(self, ref: str) -> None:
        """Something about this issue changed; decisions that rest on it are made anew when asked for."""
        with self._lock:
            changed = self._node(ref).milestone
            waiting = [ref]
            for name, view in self.views.items():
                if changed in view.milestone.needs and self._held.pop(name, ""):
                    waiting += [f"{name}/{issue.id}" for issue in view.milestone.issues]
            while waiting:
                current = waiting.pop()
                if self._decisions.pop(current, None) is not None or current == ref:
                    waiting.extend(self.compiled.plan.dependents.get(current, ()))

    def delivered(self, milestone: str) -> bool:
        """Whether nothing of its latest release is left to be told to a remote."""
        view = self.views[milestone]
        release = view.release
        return self.compiled.policy.forge.pushes_to is None or (
            release is not None and view.delivered != "" and (view.merged or view.delivered == release.commit)
        )

    def paused(self, milestone: str, pause: Pause | None) -> None:
        """A person paused the milestone, or no longer does; what rests on it is decided anew."""
        with self._lock:
            view = self.views[milestone]
            if view.pause != pause:
                view.pause = pause
                for issue in view.milestone.issues:
                    self.changed(f"{milestone}/{issue.id}")

    def apply(self, milestone: str, event: Event) -> None:
        """Take an event into the fold."""
        with self._lock:
            states = self.views[milestone].states
            fold([event], states)
            if event.key:
                self.changed(f"{milestone}/{event.key}")
                self._spent(milestone, event, states.get(event.key))

    def spec(self, ref: str) -> dict[str, Any]:
        """The canonical spec that is declared now; a run stays with what it has read."""
        found = self._texts.get(ref)
        if found is None:
            node = self._node(ref)
            given = self.views[node.milestone].answers.get(node.issue.id, ())
            text = spec_text(self.compiled.loaded, node.milestone, node.issue)
            found = canonical_spec(node.issue, text, [item.answer for item in given])
            if self.run_id:
                self._texts[ref] = found
        return found

    def spec_key(self, ref: str) -> str:
        """Key of the canonical spec."""
        key = self._specs.get(ref)
        if key is None:
            key = self._specs[ref] = spec_key(self.spec(ref))
        return key

    def proofs(self, ref: str) -> Proofs:
        """What proves the issue."""
        proofs = self._proofs.get(ref)
        if proofs is None:
            proofs = proofs_of(self._node(ref).issue, self.compiled.policy, self.tools.version)
            self._proofs[ref] = proofs
        return proofs

    def facts(self, ref: str) -> Facts:
        """Everything `decide` looks at; decisions of what it needs are made first."""
        node = self._node(ref)
        view = self.views[node.milestone]
        state = view.states.get(node.issue.id) or IssueState()
        landing = view.landings.get(node.issue.id)
        commit, keys = view.accepted.get(node.issue.id, ("", frozenset()))
        accepted = keys if landing is not None and landing.commit == commit else frozenset()
        spec_key = self.spec_key(ref)
        settled = landing is not None and landing.trailers.spec_key == spec_key and state.refusal is None
        choice = Choice() if settled else self.allowance.choice(ref, node.issue, state.counted(spec_key))
        return Facts(
            ref=ref,
            spec_key=spec_key,
            check_key=self.proofs(ref).key,
            needs=tuple(self._need(need) for need in node.needs if need not in self.passed_over),
            held_by=self._held_by(node.milestone),
            paused=view.pause.told(node.milestone) if view.pause is not None else "",
            landing=landing,
            accepted=accepted,
            proof=self._proof(node, view, state, landing),
            state=state,
            attempts=self.compiled.policy.limits.attempts,
            approved=view.approved.get(node.issue.id, frozenset()),
            allowed=frozenset(node.issue.allow) | self._allowed(),
            red=self._red(ref, view, state),
            wait=choice.wait,
            nobody=choice.failed,
            pull=self._pull(state),
        )

    def running(self, ref: str) -> Attempt | None:
        """The attempt that was started and has not ended, if any."""
        node = self._node(ref)
        state = self.views[node.milestone].states.get(node.issue.id)
        last = state.attempts.get(state.last()) if state else None
        return last if last is not None and last.state is AttemptState.STARTED else None

    def _spent(self, milestone: str, event: Event, state: IssueState | None) -> None:
        """Take in what an event says of accounts and money; others may have to wait for it, or no longer have to."""
        if state is None or not ("attempt" in event.data or event.kind == "retried"):
            return
        number = event.data.get("attempt")
        concerned = [state.attempts[number]] if number in state.attempts else list(state.attempts.values())
        changed = [self.allowance.take_one(milestone, event.key, item, state.forgiven) for item in concerned]
        if any(changed):
            self._decisions = {
                ref: known for ref, known in self._decisions.items() if known.act is Act.REST and not known.wait
            }

    def steps_percent(self, ref: str) -> int:
        """How far the steps of an issue's workflow are, weighted by phases; 0 without steps, or when none is kept."""
        node = self._node(ref)
        kept = self.views[node.milestone].steps.get(node.issue.id, {})
        workflow = self.compiled.policy.workflow_of(node.issue)
        if not kept or not workflow.phases:
            return 0
        key = self.spec_key(ref)
        flow = compiled_flow(workflow, node.issue.type)
        return progress(workflow, {step.id: step.id in kept and kept[step.id].spec_key == key for step in flow.steps})

    def _node(self, ref: str) -> Node:
        return self.compiled.plan.nodes[ref]

    def _allowed(self) -> frozenset[str]:
        """Stops that the policy clears for every issue."""
        return frozenset({UNSANDBOXED} if self.compiled.policy.limits.unsandboxed_landing == "allow" else ())

    def _need(self, ref: str) -> Need:
        node = self._node(ref)
        landing = self.views[node.milestone].landings.get(node.issue.id)
        decided = self._decisions.get(ref)
        status = decided.status if decided is not None else self.decision(ref).status
        return Need(ref, status, landing.trailers.result_key if landing else "")

    def _red(self, ref: str, view: MilestoneView, state: IssueState) -> str:
        """Why the base keeps the issue back; a run looks again, unless it has just seen it on the present tip."""
        red = state.red
        if red is None or red.check_key != self.proofs(ref).key:
            return ""
        return red.reason if not self.run_id or (red.run == self.run_id and red.tip == view.tip) else ""

    def _pull(self, state: IssueState) -> Pull | None:
        """The pull request that keeps an issue waiting; a run looks again, unless it is the one that saw it."""
        pull = state.pull
        if pull is None or not pull.waits:
            return None
        return pull if not self.run_id or pull.run == self.run_id else None

    def _held_by(self, milestone: str) -> str:
        held = self._held.get(milestone)
        if held is None:
            held = self._held[milestone] = self._incomplete(self.views[milestone].milestone)
        return held

    def _incomplete(self, milestone: Milestone) -> str:
        for name in milestone.needs:
            issues = self.views[name].milestone.issues
            landed = sum(self.decision(f"{name}/{issue.id}").status is Status.LANDED for issue in issues)
            if landed < len(issues):
                return f"milestone {name} is not complete ({landed} of {len(issues)} landed); doit milestone:{name}"
        return ""

    def _proof(self, node: Node, view: MilestoneView, state: IssueState, landing: Landing | None) -> Proof | None:
        """The latest proof: the journal's, or the one that the order of landings in git amounts to."""
        if landing is None:
            return None
        known = state.proof
        if known is not None and known.revision == landing.trailers.revision:
            return known
        needs = {
            need: view.result_before(self._node(need).issue.id, landing.position)
            for need in node.needs
            if self._node(need).milestone == node.milestone
        }
        return Proof(landing.trailers.check_key, needs, landing.trailers.revision)


def observe(compiled: Compiled, refs: Refs, *, states: bool = True) -> Observer:
    """Gather everything from disk and git; takes no lock.

    Raises:
        DeclarationError: a base branch does not exist.
        RepositoryError: the repository has no commits.
        StateBrokenError: a journal is corrupt.
    """
    project = compiled.project
    names = [f"refs/heads/{milestone.branch}" for milestone in compiled.loaded.milestones.values()]
    tips = refs.tips([*names, *(f"{REMOTE}/{name}" for name in compiled.loaded.milestones)])
    accepted = _by_milestone(refs.kept(ACCEPTED))
    approved = _by_milestone(refs.kept(APPROVED))
    attempts = _by_milestone(refs.kept(ATTEMPTS))
    merged = _by_milestone(refs.kept(MERGED))
    paused = pauses(refs)
    work = _by_milestone(refs.kept(STEPS, HANDOFFS, ANSWERS))
    views: dict[str, MilestoneView] = {}
    bases: dict[str, tuple[str, str]] = {}
    for name, milestone in compiled.loaded.milestones.items():
        branch = f"refs/heads/{milestone.branch}"
        wanted = milestone.base or ""
        if wanted not in bases:
            base = base_branch(milestone, refs)
            bases[wanted] = (base, refs.tip(base) or "")
        base, base_tip = bases[wanted]
        view = MilestoneView(milestone, branch, base, tips.get(branch, base_tip), branch in tips, base_tip=base_tip)
        view.pause = paused.get(name)
        view.remote_tip = tips.get(f"{REMOTE}/{name}", "")
        by_hand = _recognised(merged.get(name, ()))
        for landing in read_landings(project.state(name), refs, view.tip, name, by_hand):
            view.add(landing)
        if states:
            events = segments.read(project.state(name))
            view.states = fold(events)
            view.blockers = blockers_of(events)
        with_git_attempts(view.states, (_attempt(kept) for kept in attempts.get(name, ())))
        for kept in accepted.get(name, ()):
            keys = frozenset(kept.trailers.get("Spec-Key", "").split())
            view.accepted[kept.ref.rsplit("/", 1)[-1]] = (kept.trailers.get("Landing", ""), keys)
        for kept in approved.get(name, ()):
            view.approved[kept.ref.rsplit("/", 1)[-1]] = frozenset(kept.trailers.get("Approved", "").split())
        for kept in work.get(name, ()):
            _take(view, kept)
        views[name] = view
    _add_releases(compiled, refs, views)
    return Observer(compiled, views)


def _add_releases(compiled: Compiled, refs: Refs, views: dict[str, MilestoneView]) -> None:
    """What the bases say of releases; asked only where something has landed."""
    tags = refs.tips([f"refs/tags/{view.milestone.tag}" for view in views.values() if view.milestone.tag])
    marks = refs.tips([f"{DELIVERED}/{name}" for name in views])
    for name, view in views.items():
        view.delivered = marks.get(f"{DELIVERED}/{name}", "")
    for base in dict.fromkeys(view.base for view in views.values()):
        own = {name: view for name, view in views.items() if view.base == base and view.landings}
        if own:
            tip = next(iter(own.values())).base_tip
            known = read_releases(compiled.project.cache / f"_releases.{base.replace('/', '%')}.json", refs, tip)
            merged = refs.reachable(tip, [view.branch for view in own.values() if view.exists])
            for name, view in own.items():
                view.released = known.get(name)
                view.tag = view.milestone.tag or "" if f"refs/tags/{view.milestone.tag}" in tags else ""
                view.merged = view.branch in merged or (not view.exists and view.released is None)


def attempt_in(ref: str) -> tuple[str, int] | None:
    """Issue and number of the attempt that a ref below `ATTEMPTS` keeps; None if it is not named like one."""
    parts = ref.split("/")
    if len(parts) != _PARTS or not (parts[-1].isascii() and parts[-1].isdigit()):
        return None
    return parts[3], int(parts[4])


def attempt_ref(milestone: str, issue: str, number: int) -> str:
    """Full name of the ref that keeps an attempt."""
    return f"{ATTEMPTS}/{milestone}/{issue}/{number}"


def _by_milestone(kept: Iterable[Kept]) -> dict[str, list[Kept]]:
    found: dict[str, list[Kept]] = {}
    for item in kept:
        if item.ref.startswith(f"{ATTEMPTS}/"):
            if attempt_in(item.ref) is not None:
                found.setdefault(item.ref.split("/")[2], []).append(item)
        else:
            found.setdefault(item.ref.split("/")[3], []).append(item)
    return found


def _take(view: MilestoneView, kept: Kept) -> None:
    """Take in what git keeps of an issue's steps, handoff and answers."""
    _, _, kind, _, issue, *rest = kept.ref.split("/")
    match kind:
        case "steps":
            record = step_in(kept)
            if record is not None:
                view.steps.setdefault(issue, {})[rest[0]] = record
        case "handoffs":
            view.handoffs[issue] = kept.commit
        case "answers":
            view.answers[issue] = answers_in(kept)


def _attempt(kept: Kept) -> tuple[str, Attempt]:
    """An attempt as far as its ref and its commit's trailers tell."""
    _, _, _, issue, number = kept.ref.split("/")
    trailers = kept.trailers
    outcome = trailers.get("Outcome", "")
    return issue, Attempt(
        number=int(number),
        revision=int(told) if (told := trailers.get("Revision", "")).isdecimal() else 1,
        spec_key=trailers.get("Spec-Key", ""),
        state=_OUTCOMES.get(outcome, AttemptState.FAILED),
        commit=kept.commit,
        result_key=trailers.get("Result-Key", ""),
        kind=outcome,
        reason=trailers.get("Reason", ""),
        print=trailers.get("Failure", ""),
        step=trailers.get("Step", ""),
        pull=_number(trailers.get("Pull-Request", "")),
    )


def _recognised(records: Iterable[Kept]) -> dict[str, Trailers]:
    """Commit -> what it landed, for merges whose messages do not say so."""
    found = {}
    for kept in records:
        trailers = parse_trailers(kept.trailers)
        if trailers is not None and "Landing" in kept.trailers:
            found[kept.trailers["Landing"]] = trailers
    return found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and text.isascii() else 0


def spec_archive(compiled: Compiled, milestone: str, key: str) -> dict[str, Any] | None:
    """A canonical spec as it was kept when it was worked on, or None."""
    found = read_json(compiled.project.state(milestone) / "specs" / f"{key.removeprefix('sha256:')}.json")
    return found if isinstance(found, dict) else None
