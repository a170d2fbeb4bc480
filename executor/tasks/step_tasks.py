"""The steps of a workflow as doit tasks: `step:m4/4.1/build.plan` with file dependencies and targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.tasks.actions import StepAction

if TYPE_CHECKING:
    from executor.state.steps import FlowStep
    from executor.status.reader import Observer
    from executor.tasks.actions import Request, Task

__all__ = ["step_task", "steps_of"]


def steps_of(observer: Observer, ref: str) -> list[FlowStep]:
    """The steps that an issue may take in this run; none for one that cannot continue or has a result."""
    issue = observer.compiled.plan.nodes[ref].issue
    if not observer.compiled.policy.workflow_of(issue).phases:
        return []
    from executor.state.decide import Act, Status
    from executor.workflow.step_run import flow_of

    decision = observer.decision(ref)
    waits = decision.act is Act.IMPLEMENT or decision.status is Status.BLOCKED
    return list(flow_of(observer, ref).steps) if waits else []


def step_task(observer: Observer, ref: str, step: FlowStep, before: list[str], request: Request | None) -> Task:
    """A step as a task: dependencies are files of other steps or of the issue's needs; targets are its own files."""
    from executor.model.workflow import TREE
    from executor.workflow.step_run import RECEIPT

    project = observer.compiled.project
    milestone, _, issue = ref.partition("/")

    def path(name: str, file: str) -> str:
        return str((project.step(milestone, issue, name) / file).relative_to(project.root))

    given = [path(*name.split("/", 1)) for name in step.inputs if not name.startswith(TREE)]
    outputs = [] if step.step is None else [name for name in step.step.outputs if not name.startswith(TREE)]
    return {
        "basename": "step",
        "name": f"{ref}/{step.id}",
        "doc": step.id if step.step is None else step.step.does,
        "actions": [StepAction(request, ref, step.id)],
        "file_dep": [*(given or before), *(path(name, RECEIPT) for name in step.after)],
        "targets": [path(step.id, file) for file in (*outputs, RECEIPT)],
        "uptodate": [lambda: _is_done(request, ref, step.id)],
    }


def _is_done(request: Request | None, ref: str, step: str) -> bool:
    from executor.engine.issue import IssueRun

    if request is None:
        return False
    from executor.workflow.step_run import Steps

    return step in Steps(IssueRun(request.session.run_of(ref.partition("/")[0]), ref)).done_of()
