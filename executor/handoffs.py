"""What outlives the steps of an issue: its handoff. The refs of the steps themselves go when the issue has landed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.adapters.outbox import HANDOFF
from executor.adapters.refs import Move
from executor.ref_names import HANDOFFS, STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.core.steps import Flow, StepRecord
    from executor.milestone_run import MilestoneRun

__all__ = ["forget_steps", "keep_handoff"]


def keep_handoff(run: MilestoneRun, ref: str, flow: Flow, done: Mapping[str, StepRecord]) -> None:
    """Keep the last handoff of an issue's steps for the briefs of those that come after it."""
    latest = next((done[step.id] for step in reversed(flow.steps) if HANDOFF in done[step.id].files), None)
    if latest is None:
        return
    store = run.session.store
    issue = run.issue(ref).id
    data = store.blob(latest.commit, f"out/{HANDOFF}") or b""
    text = f"handoff of {ref}\n\nMilestone: {run.name}\nIssue: {issue}\nSpec-Key: {latest.spec_key}\n"
    tree = store.files_tree({HANDOFF: data})
    before = run.view.handoffs.get(issue)
    if before is not None and store.tree_of(before) == tree:
        return
    parents = [before] if before is not None else []
    commit = store.commit(tree, parents, text, run.session.identity, int(time.time()))
    run.session.refs.move([Move(f"{HANDOFFS}/{ref}", before, commit)], f"handoff of {ref}")
    run.view.handoffs[issue] = commit


def forget_steps(run: MilestoneRun, ref: str) -> None:
    """Remove the refs of an issue's steps: it has landed, and what they were for is in its commit."""
    records = run.view.steps.pop(run.issue(ref).id, {})
    moves = [Move(f"{STEPS}/{ref}/{name}", record.commit, None) for name, record in records.items()]
    if moves:
        run.session.refs.move(moves, f"steps of {ref} landed")
