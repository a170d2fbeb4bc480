"""The path of an issue through its workflow: start an attempt, run steps, close gates, build a candidate.

doit runs steps as separate tasks, in parallel if possible; steps that are left over or must be repeated run here, one
after the other. Both first check whether a step is done already. A gate scores the outputs of a phase's steps; below
the threshold they run again, finally a person decides.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from executor.agents.brief import score_brief
from executor.agents.reviewer import Question, Reviewers
from executor.checks.verify import Candidate
from executor.engine.agent_work import Work, tree_left
from executor.engine.attempt import Attempts, keep_candidate
from executor.engine.landing.change_rules import ChangeRules
from executor.engine.recover import Recovery
from executor.engine.stops import Stops, find_obstacle, record_obstacle
from executor.errors import ExecutorError, InterruptedRunError
from executor.git.diff import Change, parse_diff
from executor.model.fingerprint import cleared, digest
from executor.process.files import left_file, question_in
from executor.state.decide import Act, Decision
from executor.state.events import AttemptInterrupted, GateHeld, GateOpened
from executor.state.model import AttemptState, IssueState
from executor.state.steps import StepRecord, StepState, done_steps, pinned_base, step_key, tree_before
from executor.stop_rules.evaluate import Hit
from executor.workflow.outputs import KeptOutputs, Score, criteria_texts, score
from executor.workflow.step_run import Steps, flow_of, input_files, keep_result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.engine.issue import IssueRun
    from executor.model.agent_profile import Agent
    from executor.state.model import Attempt
    from executor.state.steps import Flow, FlowStep

__all__ = ["Gates", "StepFlow", "StepWorkflow"]

RULE = "gate"
VALIDATION = "validation.json"
_NOT_REPORTED = "coverage not reported (no check wrote coverage.xml, coverage.json, lcov.info or the like)"
_LONGEST = 1_500
"""Maximum length of one missing part: the output of a failed check is longer than a missing heading."""


class Gates:
    """Closes the gates of one issue."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def close_gate(self, gate: FlowStep, attempt: Attempt) -> bool:
        """Score a phase until its gate opens; returns whether it did. If not, the attempt failed or awaits a person."""
        issue = self._issue.declared
        flow = flow_of(self._session.observer, self._issue.ref)
        rule = gate.gate
        assert rule is not None  # noqa: S101  (only gates are closed)
        while True:
            if self._issue.state.attempts[attempt.number].state is not AttemptState.STARTED:
                return False
            if not self._redo(flow, gate, attempt):
                return False
            facts = Steps(self._issue).step_facts()
            done = done_steps(flow, facts)
            key = step_key(gate, facts, done)
            if not key:
                return False
            files = input_files(self._run.store, gate, done, tree_before(gate, facts, done))
            result = score(rule, files, criteria_texts(issue))
            if rule.reviewer is not None:
                result = self._reviewed(gate, attempt, result, files)
            if rule.checks and result.opens(rule):
                result = self._checked(gate, attempt, result)
            approved = cleared(key, (RULE,), self._issue.facts.approved)
            if approved or result.opens(rule):
                left = {VALIDATION: _validation(gate, result, approved=approved)}
                names = {name: digest(data) for name, data in left.items()}
                record = StepRecord(
                    gate.id, "", key, facts.spec_key, facts.revision, attempt.number, attempt.base, "", names, 0.0
                )
                record = Steps(self._issue).keep(record, left)
                self._run.record(GateOpened(attempt=attempt.number, step=gate.id, percent=result.percent), issue.id)
                self._issue.tell("gate", f"{gate.id} opened with {result.percent} % of {rule.threshold} %")
                Steps(self._issue).restore(record)
                return True
            if not self._hold(gate, attempt, result, key):
                return False

    def _hold(self, gate: FlowStep, attempt: Attempt, result: Score, key: str) -> bool:
        """Record that a gate is held; returns whether another round follows, otherwise a person is asked."""
        assert gate.gate is not None  # noqa: S101  (only gates are held)
        issue = self._issue.id
        before = self._state().steps.get(gate.id, StepState())
        rounds = before.rounds if before.spec_key == attempt.spec_key else 0
        reason = f"{gate.id}: {result.percent} %, expected {gate.gate.threshold} %; {result.sentence()}"
        further = rounds < gate.gate.rounds
        missing = _by_step(gate, result) if further else {}
        event = GateHeld(
            attempt=attempt.number,
            step=gate.id,
            percent=result.percent,
            reason=reason[:2000],
            missing=missing,
            spec_key=attempt.spec_key,
        )
        self._run.record(event, issue)
        self._issue.tell("gate", reason)
        if further:
            return True
        needs = "review the outputs of the steps and approve them, or change the spec or the gate and retry"
        texts = tuple(text for own in result.missing.values() for text in own)
        self._run.record(AttemptInterrupted(attempt=attempt.number, commit=""), issue)
        ChangeRules(self._issue).record_stop(
            [Hit(RULE, "hard", reason, needs, texts)], attempt=attempt.number, bound=key
        )
        return False

    def _redo(self, flow: Flow, gate: FlowStep, attempt: Attempt) -> bool:
        """Repeat the unfinished or sent-back steps of the phase; returns whether all succeed."""
        for step in flow.steps:
            if step.id == gate.id:
                return True
            if step.phase == gate.phase and step.id not in done_steps(flow, Steps(self._issue).step_facts()):
                self._issue.tell("step", f"{step.id}: another round")
                if not Steps(self._issue).perform(step, attempt):
                    return False
        return True

    def _checked(self, gate: FlowStep, attempt: Attempt, result: Score) -> Score:
        """Return the score, or zero if a check or an acceptance command fails on the phase's tree."""
        facts = Steps(self._issue).step_facts()
        tree = tree_before(gate, facts, done_steps(flow_of(self._session.observer, self._issue.ref), facts))
        base = self._session.store.tree_of(attempt.base)
        change = parse_diff(self._session.store.diff(base, tree)) if tree != base else Change((), "")
        logs = self._session.project.logs(self._run.name, self._issue.id, attempt.number) / "steps" / gate.id
        judged = self._issue.verifier.judge(Candidate(tree, base, change), logs)
        if judged.ok:
            return self._require_coverage(gate, replace(result, coverage=self._issue.verifier.coverage(tree)))
        detail = (judged.detail.strip()[-_LONGEST:],) if judged.detail.strip() else ()
        return Score(Fraction(0), {**result.missing, "": (*result.missing.get("", ()), judged.reason, *detail)})

    def _require_coverage(self, gate: FlowStep, result: Score) -> Score:
        """Return the score, or zero if the checks report less coverage than the gate requires, or none."""
        assert gate.gate is not None  # noqa: S101  (as above)
        wanted, found = gate.gate.coverage, result.coverage
        answer = _NOT_REPORTED if found is None else f"coverage {found:.1f} %"
        if wanted is None or (found is not None and found >= wanted):
            self._issue.tell("gate", f"{gate.id}: checks passed, {answer}")
            return result
        text = f"{answer}; the gate asks for at least {wanted} %"
        return replace(result, share=Fraction(0), missing={**result.missing, "": (*result.missing.get("", ()), text)})

    def _reviewed(self, gate: FlowStep, attempt: Attempt, result: Score, files: Mapping[str, bytes]) -> Score:
        """Return the lower of the score by code and the reviewer's; a reviewer without a score counts as zero."""
        assert gate.gate is not None  # noqa: S101  (as above)
        agent = self._session.policy.agents[gate.gate.reviewer or ""]
        data = self._ask(gate, attempt, agent, files)
        if isinstance(data, str):
            return Score(Fraction(0), {**result.missing, "": (f"reviewer {agent.name}: {data}",)})
        given, missing = _read(data)
        if given is None:
            return Score(Fraction(0), {**result.missing, "": (f"reviewer {agent.name} wrote no score from 0 to 100",)})
        texts = (*result.missing.get("", ()), *missing)
        share = min(result.share, Fraction(given, 100))
        return replace(result, share=share, missing={**result.missing, "": texts} if texts else result.missing)

    def _ask(self, gate: FlowStep, attempt: Attempt, agent: Agent, files: Mapping[str, bytes]) -> bytes | str:
        """Return the reviewer's score.json, or why it is missing.

        Raises:
            UsageError: its profile needs an option that only an issue can have.
        """
        issue = self._issue.declared
        home = self._session.project.logs(self._run.name, issue.id, attempt.number) / "steps" / gate.id
        given = home / "in"
        shown = []
        for name, data in files.items():
            path = given / name.replace(":", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            shown.append((name, f"$EXECUTOR_IN/{name.replace(':', '/')}"))
        text = score_brief(issue, self._issue.spec["text"], gate.id, shown)
        facts = Steps(self._issue).step_facts()
        tree = tree_before(gate, facts, done_steps(flow_of(self._session.observer, self._issue.ref), facts))
        question = Question(issue.id, attempt.number, tree, text, home, "score.json", gate.id, given)
        reviewers = Reviewers(self._run, self._run.agents, self._run.sandboxing)
        answered = reviewers.ask_until_answered(agent, question)
        return answered.problem or left_file(question.out, question.answer, self._session.secrets)

    def _state(self) -> IssueState:
        return self._issue.state


def _validation(gate: FlowStep, result: Score, *, approved: bool) -> bytes:
    """Return the record of an open gate: its score, its threshold and parts that are still missing."""
    value: dict[str, object] = {
        "phase": gate.phase,
        "score": result.percent,
        "threshold": gate.gate.threshold if gate.gate is not None else 0,
        "missing": [text for own in result.missing.values() for text in own],
        "approved": approved,
    }
    if gate.gate is not None and gate.gate.checks:
        value["coverage"] = result.coverage
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _by_step(gate: FlowStep, result: Score) -> dict[str, list[str]]:
    """Group missing parts by the steps to send back; parts without a step go to all steps of the phase."""
    own = {
        name: [text[:_LONGEST] for text in texts[:20]] for name, texts in result.missing.items() if name in gate.needs
    }
    rest = [text[:_LONGEST] for name, texts in result.missing.items() if name not in gate.needs for text in texts[:20]]
    if rest or not own:
        for name in gate.needs:
            own[name] = [*own.get(name, []), *(rest or ["the reviewer's score is too low"])]
    return own


def _read(data: bytes) -> tuple[int | None, tuple[str, ...]]:
    """Return the score and the missing parts in a score.json; None without a score."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None, ()
    given = value.get("score") if isinstance(value, dict) else None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 100:  # noqa: PLR2004
        return None, ()
    missing = value.get("missing", [])
    texts = [str(item)[:300] for item in missing[:20]] if isinstance(missing, list) else []
    return int(given), tuple(texts)


_MOST_TRIES = 200  # turns; a step takes some, so this ends only a loop that is a fault of ours


class StepWorkflow:
    """The engine's `Workflow` port for workflows with steps."""

    def implement(self, issue: IssueRun) -> None:
        """Run the unfinished steps and build a candidate, or record why there is none."""
        StepFlow(issue).implement_in_steps()

    def settle(self, issue: IssueRun, attempt: Attempt) -> None:
        """Recover a multi-step attempt of a dead run."""
        StepFlow(issue).settle_steps(attempt)

    def forget(self, issue: IssueRun) -> None:
        """Delete the stored step results of a landed issue."""
        KeptOutputs(issue).forget_steps()


class StepFlow:
    """Takes one issue through its steps."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def bring_step(self, name: str) -> Decision | None:
        """Run one step as far as possible; None once it is done, otherwise the final decision on its issue.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        self._session.working.setdefault(self._issue.ref, time.monotonic())
        decision = self._bring_step(name)
        if decision is not None:
            self._session.working.pop(self._issue.ref, None)
            self._session.rested(self._issue.ref, decision)
        return decision

    def _bring_step(self, name: str) -> Decision | None:
        flow = flow_of(self._session.observer, self._issue.ref)
        for turn in range(_MOST_TRIES):
            if self._session.stopping.is_set():
                raise InterruptedRunError(f"{self._issue.ref}: the run was stopped", 130)
            self._run.look_for_pause()
            decision = self._issue.decision
            held = Stops(self._issue).held(decision, begun=turn > 0)
            self._session.hold(self._issue.ref, held)
            decision = held or decision
            if decision.act is Act.REST:
                return decision
            if decision.act is not Act.IMPLEMENT:
                return None
            done = Steps(self._issue).done_of()
            if name in done:
                Steps(self._issue).restore(done[name])
                return None
            if any(before not in done for before in flow[name].after):
                return None
            attempt = self._begun()
            if attempt is not None:
                self._do(flow[name], attempt)
        raise ExecutorError(f"{self._issue.ref}: step {name} did not finish in {_MOST_TRIES} tries; see its journal")

    def implement_in_steps(self) -> None:
        """Run every unfinished step in order, then build the candidate; stops at the first step that fails.

        Raises:
            InterruptedRunError: the run is being stopped.
        """
        flow = flow_of(self._session.observer, self._issue.ref)
        attempt = self._begun()
        if attempt is None:
            return
        for step in flow.steps:
            if step.id not in Steps(self._issue).done_of() and not self._do(step, attempt):
                return
        self._candidate(flow, attempt)

    def settle_steps(self, attempt: Attempt) -> None:
        """Recover a multi-step attempt of a dead run: keep finished steps, then interrupt the attempt."""
        issue = self._issue.declared
        flow = flow_of(self._session.observer, self._issue.ref)
        started = {name for name, item in self._issue.state.steps.items() if item.word == "started"}
        _ = self._run.supervisor  # it starts only when every process of the dead run is gone
        for step in flow.steps:
            workspace = self._run.pool.left_by(issue.id, attempt.number, step.id) if step.id in started else None
            ended = Recovery(self._run).agent_end(self._issue.ref, attempt, step.id)
            if workspace is None or ended is None or self._issue.state.steps[step.id].attempt != attempt.number:
                continue
            tree = tree_left(self._issue, workspace)
            work = Steps(self._issue).step_work(step, attempt, fresh=False)
            counts = (ended.ok and isinstance(tree, str)) or question_in(work.out, self._session.secrets)
            if counts and keep_result(work, step, tree, round(ended.seconds, 3)):
                self._run.messages.append(
                    f"{self._issue.ref}: {step.id} had ended when the previous run died; its result is used"
                )
        latest = self._issue.state.attempts[attempt.number]
        if latest.state is AttemptState.STARTED:
            Attempts(self._issue).keep_interrupted(latest, "")

    def _begun(self) -> Attempt | None:
        """Return the current attempt or start one; None, which is recorded, if the issue may not start."""
        issue = self._issue.declared
        with self._issue.lock:
            decision = self._issue.decision
            if decision.act is not Act.IMPLEMENT:
                return None
            state = self._issue.facts.state
            last = state.attempts.get(state.last())
            if last is not None and last.state is AttemptState.STARTED:
                return last
            Attempts(self._issue).pause()
            self._session.require_space()
            obstacle = find_obstacle(self._issue, decision)
            if obstacle is not None:
                record_obstacle(self._issue, obstacle)
                return None
            spec_key = self._issue.spec_key
            pinned = pinned_base(self._run.view.steps.get(issue.id, {}), state, spec_key, decision.revision)
            tip = self._run.ensure_branch()
            self._run.keep_spec(self._issue.ref)
            if (
                Attempts(self._issue).begin(
                    decision, pinned or tip, workflow=self._session.policy.workflow_of(issue).name
                )
                is None
            ):
                return None
            return self._issue.state.attempts[decision.attempt]

    def _do(self, step: FlowStep, attempt: Attempt) -> bool:
        """Run a step or close a gate; settles an interrupted attempt."""
        try:
            if step.gate is not None:
                return Gates(self._issue).close_gate(step, attempt)
            return Steps(self._issue).perform(step, attempt)
        except InterruptedRunError:
            issue = self._issue.id
            with self._issue.lock:
                latest = self._run.view.states[issue].attempts[attempt.number]
                if latest.state is AttemptState.STARTED:
                    Attempts(self._issue).keep_interrupted(latest, "")
            raise

    def _candidate(self, flow: Flow, attempt: Attempt) -> None:
        """Use the tree of the last step that keeps one as the attempt's result."""
        issue = self._issue.declared
        done = Steps(self._issue).done_of()
        facts = Steps(self._issue).step_facts()
        logs = self._session.project.logs(self._run.name, issue.id, attempt.number)
        out = logs / "out"
        out.mkdir(parents=True, exist_ok=True)
        tree = done[flow.last_tree].tree if flow.last_tree else self._kept(flow, done, facts.base_tree)
        latest = _latest(flow, done, "report.json")
        if latest is not None:
            data = self._session.store.blob(latest.commit, "out/report.json") or b""
            (out / "report.json").write_bytes(data)
        KeptOutputs(self._issue).keep_handoff(flow, done)
        seconds = round(sum(item.seconds for item in done.values() if item.attempt == attempt.number), 3)
        work = Work(
            issue=self._issue,
            number=attempt.number,
            revision=attempt.revision,
            base=attempt.base,
            base_tree=self._session.store.tree_of(attempt.base),
            agent=Steps(self._issue).attempt_agent(attempt),
            logs=logs,
            brief=logs / "brief.md",
            out=out,
        )
        keep_candidate(work, tree, seconds)

    def _kept(self, flow: Flow, done: dict[str, StepRecord], base_tree: str) -> str:
        """Return the tree with the files of the steps, for a workflow without steps that keep their tree."""
        place = flow.workflow.keeps
        if not place:
            return base_tree
        folder = place.replace("{milestone}", self._run.name).replace("{issue}", self._issue.id)
        store = self._session.store
        contents: dict[str, bytes | None] = {
            f"{folder}/{name}/{file}": store.blob(record.commit, f"out/{file}")
            for name, record in done.items()
            for file in record.files
        }
        with self._run.pool.slot() as slot:
            return store.with_contents(base_tree, contents, slot.scratch)


def _latest(flow: Flow, done: dict[str, StepRecord], file: str) -> StepRecord | None:
    return next((done[step.id] for step in reversed(flow.steps) if file in done[step.id].files), None)
