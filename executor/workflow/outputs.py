"""Examines a step's outputs: files, handoff, failing tests. Code decides, not the agent's words.

Handoffs outlive an issue's steps; the refs of the steps are removed after the landing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.checks.spec import CommandProof
from executor.engine.agent_work import Failure
from executor.git.diff import parse_diff
from executor.git.refs import HANDOFFS, STEPS, Move
from executor.model.handed_in import file_faults
from executor.model.workflow import TREE
from executor.process.untrusted import HANDOFF, left_file
from executor.stop_rules.new_tests.rules import is_test_file
from executor.workflow.criteria import has_section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.engine.agent_work import Work
    from executor.engine.issue import IssueRun
    from executor.model.workflow import Step
    from executor.state.steps import Flow, FlowStep, StepRecord

__all__ = ["KeptOutputs", "left_by"]


OUTPUTS = "outputs"
"""Class of failure of a step with missing outputs."""
_REPORT = "report.json"


def left_by(work: Work, flow_step: FlowStep, tree: str) -> dict[str, bytes] | Failure:
    """The files that a step left, or what it should have left, or shown, and did not.

    Args:
        work: the step's run.
        flow_step: its declaration.
        tree: tree that it made.
    """
    step = flow_step.step
    assert step is not None  # noqa: S101  (a gate leaves nothing)
    files: dict[str, bytes] = {}
    problems = _outputs(work, step, tree, files)
    problem = _handoff(work, step, files)
    problems += [problem] if problem else []
    if problems:
        return Failure(OUTPUTS, "; ".join(problems))
    report = left_file(work.out, _REPORT, work.run.session.secrets)
    if isinstance(report, bytes):
        files.setdefault(_REPORT, report)
    unproved = _unproved(work, step, tree)
    return Failure(OUTPUTS, unproved, tree=tree) if unproved else files


def _outputs(work: Work, step: Step, tree: str, files: dict[str, bytes]) -> list[str]:
    """Take the declared outputs; everything that is wrong with them."""
    workflow = work.run.session.policy.workflow_of(work.run.issue(work.ref))
    schemas = workflow.schemas_of(step)
    problems: list[str] = []
    for name in step.outputs:
        if name.startswith(TREE):
            path = name.removeprefix(TREE)
            there = work.run.session.store.has_path(tree, path)
            problems += [] if there else [f"{path} is not in the tree"]
            continue
        data = left_file(work.out, name, work.run.session.secrets)
        faults = [f"{name} {data}"] if isinstance(data, str) else file_faults(name, data, schemas.get(name))
        problems += [f"its output {fault}" for fault in faults]
        if isinstance(data, bytes):
            files[name] = data
    return problems


def _handoff(work: Work, step: Step, files: dict[str, bytes]) -> str:
    """Read the handoff, if any; the problem with a required one."""
    data = left_file(work.out, HANDOFF, work.run.session.secrets)
    if isinstance(data, bytes) and data.strip():
        files[HANDOFF] = data
    if step.handoff is None:
        return ""
    if isinstance(data, str):
        return f"{HANDOFF} {data}; without a handoff it is not complete"
    heading = step.handoff.replace("{issue}", work.run.issue(work.ref).id)
    if not has_section(data.decode("utf-8", "replace"), heading):
        return f'{HANDOFF} has no section "{heading}" with text; without it it is not complete'
    return ""


def _unproved(work: Work, step: Step, tree: str) -> str:
    """Why a step that has to show failing tests has not; empty when it has, or need not."""
    if step.shows is None:
        return ""
    run = work.run
    change = parse_diff(run.session.store.diff(work.base_tree, tree)) if tree != work.base_tree else None
    if change is None or not any(is_test_file(file.path) for file in change.files):
        return "it left no test; tests come before the code"
    proofs = [item for item in run.session.observer.proofs(work.ref).items if isinstance(item, CommandProof)]
    tests = [item for item in proofs if item.is_test_run] or [item for item in proofs if not item.named]
    paths = [file.path for file in change.files]
    for item in tests:
        concerned = item.concerned(paths)
        if item.changed_only and not concerned:
            continue
        given = concerned if item.changed_only else ()
        if not run.checks.verdict_on(tree, item, files=given, log=work.logs / f"{item.slug}.log").ok:
            return ""
    return "its tests pass although the code is not written; they have to fail first" if tests else ""


class KeptOutputs:
    """What is kept of one issue's steps."""

    def __init__(self, issue: IssueRun) -> None:
        self._issue = issue
        self._run = issue.run
        self._session = issue.session

    def keep_handoff(self, flow: Flow, done: Mapping[str, StepRecord]) -> None:
        """Keep the last handoff of an issue's steps for the briefs of those that come after it."""
        latest = next((done[step.id] for step in reversed(flow.steps) if HANDOFF in done[step.id].files), None)
        if latest is None:
            return
        store = self._session.store
        issue = self._issue.id
        data = store.blob(latest.commit, f"out/{HANDOFF}") or b""
        name = self._run.name
        text = f"handoff of {self._issue.ref}\n\nMilestone: {name}\nIssue: {issue}\nSpec-Key: {latest.spec_key}\n"
        tree = store.files_tree({HANDOFF: data})
        before = self._run.view.handoffs.get(issue)
        if before is not None and store.tree_of(before) == tree:
            return
        parents = [before] if before is not None else []
        commit = store.commit(tree, parents, text, self._session.identity, int(time.time()))
        self._session.refs.move(
            [Move(f"{HANDOFFS}/{self._issue.ref}", before, commit)], f"handoff of {self._issue.ref}"
        )
        self._run.view.handoffs[issue] = commit

    def forget_steps(self) -> None:
        """Remove the refs of an issue's steps: it has landed, and what they were for is in its commit."""
        records = self._run.view.steps.pop(self._issue.id, {})
        moves = [Move(f"{STEPS}/{self._issue.ref}/{name}", record.commit, None) for name, record in records.items()]
        if moves:
            self._session.refs.move(moves, f"steps of {self._issue.ref} landed")
