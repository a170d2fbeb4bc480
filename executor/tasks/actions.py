"""The actions of doit's tasks: run an issue or a step as far as possible, release a milestone.

A request: the milestones and issues of one `doit run`, which connects its tasks to the session.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from doit import get_initial_workdir
from doit.action import BaseAction
from doit.exceptions import TaskError, TaskFailed

from executor.errors import (
    ExecutorError,
    ForgeUnavailableError,
    GitKilledError,
    PersonNeededError,
    StateBrokenError,
    StateFullError,
    UnsignedError,
)
from executor.state.decide import Act, Decision, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from executor.engine.issue import IssueRun
    from executor.engine.milestone_run import MilestoneRun
    from executor.engine.session import Session
    from executor.release.criteria import Outcome

__all__ = ["IssueAction", "NotReleased", "ReleaseAction", "Request", "StepAction", "Task", "Waiting"]


class Task(TypedDict, total=False):
    """A task in the format of doit's task creators; the keys are doit's."""

    basename: str
    name: str | None
    doc: str
    actions: Sequence[Callable[[], Any]] | None
    file_dep: list[str]
    targets: list[str]
    task_dep: list[str]
    uptodate: list[Callable[[], bool]]


@dataclass(slots=True)
class Request:
    """The request of one command.

    Attributes:
        session: an open session that holds the locks of the milestones.
        wanted: task names: ``milestone:m4``, ``issue:m4/4.1``, ``release:m4``.
        releases: results of the releases so far, by milestone.
    """

    session: Session
    wanted: tuple[str, ...]
    releases: dict[str, Outcome] = field(default_factory=dict)


_UNUSUAL = (
    "name it on the command line, as in `doit milestone:m4`; if you did, [tool.doit.plugins.command] of this project "
    "lacks the executor's run"
)
_BELOW = "plain doit has this command at the top of the project only; from a folder below: make-for-milestones {task}"


class Waiting(TaskFailed):
    """The issue ended without a landing; doit skips the issues that need it and continues with the others."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason, report=False)
        self.decision = decision


class _Action(BaseAction):
    """An action for a milestone. Prints nothing and does not touch the output streams."""

    def __init__(self, request: Request | None, milestone: str, name: str) -> None:
        self.request = request
        self.milestone = milestone
        self.name = name
        """Its name in error messages."""
        self.task: Any = None
        self.out = self.err = None
        self.result: Any = None
        self.values: dict[str, object] = {}

    def execute(self, out: object = None, err: object = None) -> object:
        """Run by doit in one of its threads; None means that no work remains."""
        _ = out, err
        if self.request is None:
            below = os.path.realpath(get_initial_workdir()) != os.path.realpath(os.curdir)
            task = self.name if ":" in self.name else f"issue:{self.name}"
            return TaskError(_BELOW.format(task=task) if below else _UNUSUAL)
        session = self.request.session
        try:
            return self.act(self.request, session.run_of(self.milestone))
        except Exception as error:  # noqa: BLE001  (a thread must answer)
            return _failed(session, self.name, error)

    def act(self, request: Request, run: MilestoneRun) -> TaskFailed | None:
        """Run the action; returns why work remains, if it does."""
        raise NotImplementedError


class _IssueAction(_Action):
    """Runs a part of one issue as far as possible."""

    def __init__(self, request: Request | None, ref: str) -> None:
        super().__init__(request, ref.partition("/")[0], ref)
        self.ref = ref
        self.decision: Decision | None = None

    def act(self, request: Request, run: MilestoneRun) -> TaskFailed | None:
        """Run it until it has landed or cannot continue."""
        from executor.engine.issue import IssueRun

        try:
            self.decision = self.bring(IssueRun(run, self.ref))
        except PersonNeededError as error:
            if isinstance(error, UnsignedError):
                request.session.paused.setdefault(run.name, str(error))
            self.decision = Decision(Status.BLOCKED, Act.REST, str(error))
            request.session.hold(self.ref, self.decision)
        return None if self.decision is None or self.is_landed() else Waiting(self.decision)

    def bring(self, issue: IssueRun) -> Decision | None:
        """Run it; returns the issue's final decision in this run, if any."""
        raise NotImplementedError

    def is_landed(self) -> bool:
        """Return whether the issue has landed by this decision."""
        return self.decision is not None and str(self.decision.status) == "landed"


class IssueAction(_IssueAction):
    """Runs one issue as far as possible."""

    def bring(self, issue: IssueRun) -> Decision | None:
        """Run until the issue has landed or cannot continue."""
        from executor.engine.issue_run import IssueLife

        return IssueLife(issue).bring_to_rest()

    def __str__(self) -> str:
        return f"implement, verify and land {self.ref}"


class StepAction(_IssueAction):
    """Runs one step or gate of an issue's workflow as far as possible."""

    def __init__(self, request: Request | None, ref: str, step: str) -> None:
        super().__init__(request, ref)
        self.step = step

    def bring(self, issue: IssueRun) -> Decision | None:
        """Run until the step is done or the issue cannot continue."""
        from executor.workflow.flow import StepFlow

        return StepFlow(issue).bring_step(self.step)

    def __str__(self) -> str:
        return f"{self.step} of {self.ref}"


class NotReleased(TaskFailed):
    """A criterion of the release is not met; nothing was released."""

    def __init__(self, milestone: str) -> None:
        super().__init__(f"{milestone} is not released", report=False)


class ReleaseAction(_Action):
    """Releases one milestone; the outcome is kept in the request."""

    def __init__(self, request: Request | None, milestone: str) -> None:
        super().__init__(request, milestone, f"release:{milestone}")

    def act(self, request: Request, run: MilestoneRun) -> TaskFailed | None:
        """Run until it is released, or a criterion is not met."""
        from executor.release.release import ReleaseRun

        outcome = ReleaseRun(run).release()
        request.releases[self.milestone] = outcome
        return None if outcome.code == 0 else NotReleased(self.milestone)

    def __str__(self) -> str:
        return f"release {self.milestone}"


def _failed(session: Session, name: str, error: Exception) -> TaskError:
    """Return doit's outcome for an error; a full or broken state store ends the run."""
    from executor.process.files import NO_SPACE

    if isinstance(error, OSError) and error.errno in NO_SPACE:
        error = StateFullError(f"{name}: {error}; nothing is lost, free some space and run again")
    if isinstance(error, StateFullError | StateBrokenError | ForgeUnavailableError):
        session.halt(error)
    if isinstance(error, GitKilledError):
        session.git_killed = True
    if isinstance(error, ExecutorError):
        return TaskError(f"{name}: {error}")
    return TaskError(f"{name}: unexpected {type(error).__name__}: {error}", error)
