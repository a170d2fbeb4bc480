"""What a step left, looked at: its outputs, its handoff, tests that fail. Code decides, nothing an agent says does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from executor.adapters.left import left_file
from executor.adapters.outbox import HANDOFF
from executor.checking import verdict_on
from executor.core.change import parse_diff
from executor.core.checks import CommandProof
from executor.core.gate import has_section
from executor.core.newtests import is_test_file
from executor.core.workflow import TREE
from executor.work import Failure

if TYPE_CHECKING:
    from executor.core.steps import FlowStep
    from executor.core.workflow import Step
    from executor.work import Work

__all__ = ["left_by"]

OUTPUTS = "outputs"
"""Class of failure of a step that did not leave what it had to."""
_REPORT = "report.json"


def left_by(work: Work, flow_step: FlowStep, tree: str) -> dict[str, bytes] | Failure:
    """The files that a step left, or what it should have left, or shown, and did not.

    Args:
        work: the step's run.
        flow_step: what is declared of it.
        tree: tree that it made.
    """
    step = flow_step.step
    assert step is not None  # noqa: S101  (a gate leaves nothing)
    files: dict[str, bytes] = {}
    for name in step.outputs:
        problem = _output(work, name, tree, files)
        if problem:
            return Failure(OUTPUTS, problem)
    problem = _handoff(work, step, files)
    if problem:
        return Failure(OUTPUTS, problem)
    report = left_file(work.out, _REPORT, work.run.session.secrets)
    if isinstance(report, bytes):
        files.setdefault(_REPORT, report)
    unproved = _unproved(work, step, tree)
    return Failure(OUTPUTS, unproved, tree=tree) if unproved else files


def _output(work: Work, name: str, tree: str, files: dict[str, bytes]) -> str:
    """Take one declared output; what is wrong with it, or empty."""
    if name.startswith(TREE):
        path = name.removeprefix(TREE)
        return "" if work.run.session.store.has_path(tree, path) else f"{path} is not in the tree"
    data = left_file(work.out, name, work.run.session.secrets)
    if isinstance(data, str):
        return f"its output {name} {data}"
    if not data.strip():
        return f"its output {name} is empty"
    if name.endswith(".json") and not _is_json(data):
        return f"its output {name} is not JSON"
    files[name] = data
    return ""


def _handoff(work: Work, step: Step, files: dict[str, bytes]) -> str:
    """Take the handoff, if there is one; what is wrong with it where it has to be there."""
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
        if not verdict_on(run, tree, item, files=given, log=work.logs / f"{item.slug}.log").ok:
            return ""
    return "its tests pass although the code is not written; they have to fail first" if tests else ""


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
