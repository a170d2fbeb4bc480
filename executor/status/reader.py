"""Observe: the facts about every issue, and the decisions that follow from them.

Read-only. `doit list`, `doit explain` and a run share it; a run reports its changes to it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from executor.agents.brief import kept_spec
from executor.checks.spec import Proofs, proofs_of
from executor.checks.verdicts import ToolVersions
from executor.config.load_milestones import spec_text
from executor.model.fingerprint import IssueRef, canonical_spec, spec_key, work_key
from executor.model.workflow import progress
from executor.state.budget import Allowance, Choice
from executor.state.decide import Act, Decision, Facts, Need, Status, decide
from executor.state.events import Retried
from executor.state.fold import fold
from executor.state.model import UNSANDBOXED, Attempt, AttemptState, IssueState, Proof, Pull
from executor.state.steps import compiled_flow
from executor.status.load import gather
from executor.status.progress import Part, PhaseProgress, milestone_phases, percent, phases_of, planned_percent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from executor.config.project import Compiled
    from executor.git.refs import Refs
    from executor.git.trailers import Landing
    from executor.model.fingerprint import Spec
    from executor.model.milestone import Milestone
    from executor.model.plan import Node
    from executor.state.record import Record
    from executor.state.steps import Flow
    from executor.status.collisions import Overlaps, Predictor
    from executor.status.load import MilestoneView
    from executor.status.milestone_status import Pause

__all__ = ["Observer", "has_open_issues", "observe", "overlaps_of"]


class Observer:
    """Facts and decisions of every declared issue; decisions are cached until one of their inputs changes."""

    def __init__(self, compiled: Compiled, views: dict[str, MilestoneView]) -> None:
        self.compiled = compiled
        self.views = views
        self.allowance = Allowance(compiled.policy, time.time)
        self.spending = threading.Lock()
        """Held from the check of the remaining money until the reservation."""
        for name, view in views.items():
            for issue, state in view.states.items():
                self.allowance.take(name, issue, state)
        self.passed_over: frozenset[str] = frozenset()
        """Unlanded issues that a run skips, and that block nothing."""
        self.tools = ToolVersions(compiled.project.cache)
        self._decisions: dict[str, Decision] = {}
        self._specs: dict[str, str] = {}
        self._texts: dict[str, Spec] = {}
        self._proofs: dict[str, Proofs] = {}
        self._held: dict[str, str] = {}
        self._lock = threading.RLock()

    @property
    def run_id(self) -> str:
        """The run that uses the observer, if any: it checks again what blocked an earlier run."""
        return self.allowance.run_id

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self.allowance.run_id = run_id

    def decision(self, ref: str) -> Decision:
        """Return status and next action of an issue."""
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
        """Exclude these issues from the run: nothing waits for them."""
        with self._lock:
            self.passed_over = frozenset(refs)
            if self.passed_over:
                self._decisions.clear()

    def changed(self, ref: str) -> None:
        """Drop the decisions that depend on this issue; they are computed again on demand."""
        with self._lock:
            changed = self._node(ref).milestone
            waiting = [ref]
            for name, view in self.views.items():
                if changed in view.milestone.needs and self._held.pop(name, ""):
                    waiting += [str(IssueRef(name, issue.id)) for issue in view.milestone.issues]
            while waiting:
                current = waiting.pop()
                if self._decisions.pop(current, None) is not None or current == ref:
                    waiting.extend(self.compiled.plan.dependents.get(current, ()))

    def delivered(self, milestone: str) -> bool:
        """Return whether the remote has everything of its latest release."""
        view = self.views[milestone]
        release = view.release
        return self.compiled.policy.forge.pushes_to is None or (
            release is not None and view.delivered != "" and (view.merged or view.delivered == release.commit)
        )

    def set_pause(self, milestone: str, pause: Pause | None) -> None:
        """Record that a person paused or unpaused the milestone; drops the decisions that depend on it."""
        with self._lock:
            view = self.views[milestone]
            if view.pause != pause:
                view.pause = pause
                for issue in view.milestone.issues:
                    self.changed(str(IssueRef(milestone, issue.id)))

    def apply(self, milestone: str, event: Record) -> None:
        """Apply an event to the fold."""
        with self._lock:
            states = self.views[milestone].states
            fold([event], states)
            if event.key:
                self.changed(str(IssueRef(milestone, event.key)))
                self._spent(milestone, event, states.get(event.key))

    def spec(self, ref: str) -> Spec:
        """Return the canonical spec of the current declaration; a run keeps the spec that it read first."""
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
        """Return the key of the canonical spec."""
        key = self._specs.get(ref)
        if key is None:
            key = self._specs[ref] = spec_key(self.spec(ref))
        return key

    def work_key(self, ref: str) -> str:
        """Return the key of the work that the spec asks of an agent."""
        return work_key(self.spec(ref))

    def proofs(self, ref: str) -> Proofs:
        """Return the checks that prove the issue."""
        proofs = self._proofs.get(ref)
        if proofs is None:
            proofs = proofs_of(self._node(ref).issue, self.compiled.policy, self.tools.version)
            self._proofs[ref] = proofs
        return proofs

    def facts(self, ref: str) -> Facts:
        """Return the inputs of `decide`; decisions on needed issues are computed first."""
        node = self._node(ref)
        view = self.views[node.milestone]
        state = view.states.get(node.issue.id) or IssueState()
        landing = view.landings.get(node.issue.id)
        commit, keys = view.accepted.get(node.issue.id, ("", frozenset()))
        accepted = keys if landing is not None and landing.commit == commit else frozenset()
        spec_key = self.spec_key(ref)
        if landing is not None and self._same_work(ref, landing):
            accepted |= {spec_key}
        same = landing is not None and (landing.trailers.spec_key == spec_key or spec_key in accepted)
        settled = same and state.refusal is None
        choice = Choice() if settled else self.allowance.choice(ref, node.issue, state.counted(spec_key))
        return Facts(
            ref=ref,
            spec_key=spec_key,
            check_key=self.proofs(ref).key,
            needs=tuple(self._need(need) for need in node.needs if need not in self.passed_over),
            held_by=self._held_by(node.milestone),
            paused=view.pause.sentence(node.milestone) if view.pause is not None else "",
            landing=landing,
            accepted=accepted,
            proof=self._proof(node, view, state, landing),
            state=state,
            attempts=self.compiled.policy.limits.attempts,
            approved=view.approved.get(node.issue.id, frozenset()),
            allowed=frozenset(node.issue.allow) | self._allowed(),
            red=self._red(ref, view, state),
            review=self.allowance.review_wait(self.compiled.policy.route_of(node.issue).reviewer),
            wait=choice.wait,
            nobody=choice.failed,
            hold=node.issue.hold or "",
            pull=self._pull(state),
            reverted=self._reverted(view, node.issue.id, wanted=False),
            revived=self._reverted(view, node.issue.id, wanted=True),
            lost=self._lost(state, landing, spec_key),
            renamed_from=self._renamed_from(node, view, state, landing),
        )

    def running(self, ref: str) -> Attempt | None:
        """Return the attempt that has started and not ended, if any."""
        node = self._node(ref)
        state = self.views[node.milestone].states.get(node.issue.id)
        last = state.attempts.get(state.last()) if state else None
        return last if last is not None and last.state is AttemptState.STARTED else None

    def _spent(self, milestone: str, event: Record, state: IssueState | None) -> None:
        """Update accounts and money from an event; other issues may have to wait, or no longer wait, because of it."""
        number = getattr(event.event, "attempt", None)
        if state is None or not (number is not None or event.kind == Retried.KIND):
            return
        concerned = [state.attempts[number]] if number in state.attempts else list(state.attempts.values())
        changed = [self.allowance.take_one(milestone, event.key, item, state.forgiven) for item in concerned]
        if any(changed):
            self._decisions = {
                ref: known for ref, known in self._decisions.items() if known.act is Act.REST and not known.wait
            }

    def steps_percent(self, ref: str) -> int:
        """Return the progress of the workflow's steps in per cent, weighted by phase; 0 without stored results."""
        node = self._node(ref)
        workflow = self.compiled.policy.workflow_of(node.issue)
        if not workflow.phases or not self.views[node.milestone].steps.get(node.issue.id):
            return 0
        return progress(workflow, self._done(ref, compiled_flow(workflow, node.issue.type)))

    def percent(self, milestone: str, parts: Mapping[str, Part]) -> int:
        """Return the progress of a milestone in whole per cent; `parts` has its issues by qualified id."""
        ref = f"{milestone}/plan"
        if self.views[milestone].milestone.workflow is None or ref not in parts:
            return percent(list(parts.values()))
        workflow = self.compiled.policy.workflow_of(self._node(ref).issue)
        weight = min(100, sum(phase.weight for phase in workflow.phases.values()))
        return planned_percent(parts[ref], [part for name, part in parts.items() if name != ref], weight)

    def phases(self, ref: str) -> tuple[PhaseProgress, ...]:
        """Return the phases of an issue's workflow; none for the direct one, and for an issue that has landed."""
        return () if self.decision(ref).status is Status.LANDED else self._phases(ref)

    def milestone_phases(self, milestone: str) -> tuple[PhaseProgress, ...]:
        """Return the phases of a milestone; none without its own workflow."""
        declared, plan = self.views[milestone].milestone, f"{milestone}/plan"
        if declared.workflow is None or plan not in self.compiled.plan.nodes:
            return ()
        statuses = [
            self.decision(str(IssueRef(milestone, issue.id))).status for issue in declared.issues if issue.id != "plan"
        ]
        return milestone_phases(self._phases(plan), statuses.count(Status.LANDED), len(statuses))

    def shown_phases(self, milestone: str, refs: Iterable[str]) -> dict[str, tuple[PhaseProgress, ...]]:
        """Return the phases of the milestone by its id, which stand for those of its planning issue, and of issues."""
        own = self.milestone_phases(milestone)
        issues = {ref: self.phases(ref) for ref in refs if not own or ref != f"{milestone}/plan"}
        return {name: found for name, found in {milestone: own, **issues}.items() if found}

    def _phases(self, ref: str) -> tuple[PhaseProgress, ...]:
        node = self._node(ref)
        workflow = self.compiled.policy.workflow_of(node.issue)
        if not workflow.phases:
            return ()
        flow = compiled_flow(workflow, node.issue.type)
        state = self.views[node.milestone].states.get(node.issue.id) or IssueState()
        landed = self.decision(ref).status is Status.LANDED  # its steps are no longer kept
        done = {step.id: True for step in flow.steps} if landed else self._done(ref, flow)
        return phases_of(flow, done, state.steps)

    def _done(self, ref: str, flow: Flow) -> dict[str, bool]:
        """Map steps and gates to whether a result is stored for the current spec."""
        node = self._node(ref)
        kept = self.views[node.milestone].steps.get(node.issue.id, {})
        key = self.spec_key(ref)
        return {step.id: step.id in kept and kept[step.id].spec_key == key for step in flow.steps}

    def _node(self, ref: str) -> Node:
        return self.compiled.plan.nodes[ref]

    def _allowed(self) -> frozenset[str]:
        """Return the stops that the policy clears for every issue."""
        return frozenset({UNSANDBOXED} if self.compiled.policy.limits.unsandboxed_landing == "allow" else ())

    def _need(self, ref: str) -> Need:
        node = self._node(ref)
        landing = self.views[node.milestone].landings.get(node.issue.id)
        decided = self._decisions.get(ref)
        status = decided.status if decided is not None else self.decision(ref).status
        return Need(ref, status, landing.trailers.result_key if landing else "")

    def _red(self, ref: str, view: MilestoneView, state: IssueState) -> str:
        """Return why the base holds the issue back; a run checks again unless it has just checked the current tip."""
        red = state.red
        if red is None or red.check_key != self.proofs(ref).key:
            return ""
        return red.reason if red.tip == view.tip and self.run_id in {"", red.run} else ""

    def _pull(self, state: IssueState) -> Pull | None:
        """Return the pull request that blocks an issue; a run checks again what another run saw."""
        pull = state.pull
        if pull is None or not pull.waits:
            return None
        return pull if not self.run_id or pull.run == self.run_id else None

    def _same_work(self, ref: str, landing: Landing) -> bool:
        """Return whether a spec that differs from the landed one requires the same work."""
        trailers = landing.trailers
        if trailers.spec_key == self.spec_key(ref):
            return False
        if trailers.work_key:
            return trailers.work_key == self.work_key(ref)
        old = kept_spec(self.compiled.project.state(trailers.milestone), trailers.spec_key)
        return old is not None and work_key(old) == self.work_key(ref)

    def _renamed_from(self, node: Node, view: MilestoneView, state: IssueState, landing: Landing | None) -> str:
        """Return the undeclared id under which the issue seems to have landed; empty otherwise."""
        if landing is not None or state.attempts or "was" in node.issue.model_fields_set or not view.removed:
            return ""
        folder = self.compiled.project.state(node.milestone)
        for issue, item in view.removed.items():
            if item.trailers.spec_key == self.spec_key(node.ref):
                return issue
            old = kept_spec(folder, item.trailers.spec_key)
            same_title = old is not None and old["title"] == self.spec(node.ref)["title"]
            if old is not None and same_title and work_key(old) == self.work_key(node.ref):
                return issue
        return ""

    def _held_by(self, milestone: str) -> str:
        held = self._held.get(milestone)
        if held is None:
            view = self.views[milestone]
            held = self._held[milestone] = view.problem or self._incomplete(view.milestone)
        return held

    @staticmethod
    def _reverted(view: MilestoneView, issue: str, *, wanted: bool) -> str:
        """Return the revert of an issue's landing if a person wants the work again (`wanted`), or does not."""
        revert = view.reverted.get(issue)
        if revert is None or (revert.commit in view.revived.get(issue, ())) is not wanted:
            return ""
        return f"{revert.commit[:10]} on {datetime.fromtimestamp(revert.time).astimezone():%Y-%m-%d}"

    @staticmethod
    def _lost(state: IssueState, landing: Landing | None, spec_key: str) -> str:
        """Return the commit that landed by the journal but is missing in history; empty if both agree."""
        revision = landing.trailers.revision if landing is not None else 0
        landed = [
            item
            for number, item in state.attempts.items()
            if item.state is AttemptState.LANDED and number > state.forgiven and item.spec_key == spec_key
        ]
        return next((item.commit for item in reversed(landed) if item.revision > revision), "")

    def _incomplete(self, milestone: Milestone) -> str:
        for name in milestone.needs:
            issues = self.views[name].milestone.issues
            landed = sum(self.decision(str(IssueRef(name, issue.id))).status is Status.LANDED for issue in issues)
            if landed < len(issues):
                return f"milestone {name} is not complete ({landed} of {len(issues)} landed); doit milestone:{name}"
        return ""

    def _proof(self, node: Node, view: MilestoneView, state: IssueState, landing: Landing | None) -> Proof | None:
        """Return the latest proof: from the journal, or derived from the order of landings in git."""
        if landing is None:
            return None
        known = state.proof
        if known is not None and known.revision == landing.trailers.revision:
            return self._by_present_ids(node, known)
        needs = {
            need: view.result_before(self._node(need).issue.id, landing.position)
            for need in node.needs
            if self._node(need).milestone == node.milestone
        }
        return Proof(landing.trailers.check_key, needs, landing.trailers.revision)

    def _by_present_ids(self, node: Node, proof: Proof) -> Proof:
        """Return a proof with the present ids of needed issues that were renamed since."""
        renamed = {
            need: proof.needs[old]
            for need in node.needs
            if need not in proof.needs
            for old in (f"{self._node(need).milestone}/{was}" for was in self._node(need).issue.was)
            if old in proof.needs
        }
        return replace(proof, needs={**proof.needs, **renamed}) if renamed else proof


def observe(compiled: Compiled, refs: Refs, *, states: bool = True) -> Observer:
    """Load everything from disk and git; takes no lock.

    Raises:
        DeclarationError: a base branch does not exist.
        RepositoryError: the repository has no commits.
        StateBrokenError: a journal is corrupt.
    """
    return Observer(compiled, gather(compiled, refs, states=states))


def has_open_issues(compiled: Compiled, refs: Refs, milestones: Collection[str]) -> bool:
    """Return whether an issue of these milestones has not landed; raises the errors of `observe`."""
    observer = observe(compiled, refs)
    issues = (ref for ref, node in compiled.plan.nodes.items() if node.milestone in milestones)
    return any(observer.decision(ref).status is not Status.LANDED for ref in issues)


def overlaps_of(observer: Observer, refs: Refs) -> Overlaps:
    """Return the predictions for the issues of a plan, which learn from the branch that they start from."""
    from executor.status.collisions import Overlaps, Predictor  # `doit list` does without it

    rules, project = observer.compiled.policy.landing, observer.compiled.project

    def predictor(milestone: str) -> Predictor:
        tip = observer.views[milestone].tip
        history = refs.touched(tip, _HISTORY) if tip else []
        harmless = tuple(map(project.inside, rules.harmless)) if project.prefix else rules.harmless
        return Predictor(history, refs.paths(tip) if tip else (), harmless)

    return Overlaps(observer.compiled.plan.nodes, rules, lambda ref: str(observer.spec(ref)["text"]), predictor)


_HISTORY = 400
"""Commits that are learned from: on real histories more of them find hardly more files."""
