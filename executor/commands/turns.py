"""Whose turn it is: tasks that could run, most urgent first, with at most so many issues and steps at a time.

An issue is under way from its first step to its end; steps of different issues share their limit.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from executor.actions import IssueAction, StepAction

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Turns", "action_of"]


def action_of(task: Any) -> IssueAction | StepAction | None:
    """The action of an issue's or a step's task."""
    return next((action for action in task.actions if isinstance(action, IssueAction | StepAction)), None)


class Turns:
    """Tasks that are ready, and those that run.

    Args:
        place: qualified id of an issue -> its place in the plan.
        issues: how many issues may be under way.
        steps: how many steps may run.
    """

    def __init__(self, place: Mapping[str, int], issues: int, steps: int) -> None:
        self._place = place
        self._issues, self._steps = issues, steps
        self._ready: list[tuple[int, int, Any]] = []
        self._count = 0
        self._under_way: set[str] = set()
        self._running = 0

    def __bool__(self) -> bool:
        return bool(self._ready)

    def push(self, node: Any) -> None:
        """A task could run."""
        self._count += 1
        action = action_of(node.task)
        place = -1 if action is None else self._place.get(action.ref, -1)
        heapq.heappush(self._ready, (place, self._count, node))

    def take(self) -> Any:
        """The most urgent one that the limits allow, which then runs; None when there is none."""
        passed = []
        taken = None
        while self._ready and taken is None:
            item = heapq.heappop(self._ready)
            if self._may(action_of(item[2].task)):
                taken = item[2]
            else:
                passed.append(item)
        for item in passed:
            heapq.heappush(self._ready, item)
        if taken is not None:
            self._begin(action_of(taken.task))
        return taken

    def ended(self, node: Any) -> None:
        """A task that ran has ended; an issue whose step came to nothing is no longer under way."""
        action = action_of(node.task)
        if isinstance(action, StepAction):
            self._running -= 1
            if action.decision is not None or node.run_status != "successful":
                self._under_way.discard(action.ref)
        elif action is not None:
            self._under_way.discard(action.ref)

    def _may(self, action: IssueAction | StepAction | None) -> bool:
        if action is None:
            return True
        if isinstance(action, StepAction) and self._running >= self._steps:
            return False
        return action.ref in self._under_way or len(self._under_way) < self._issues

    def _begin(self, action: IssueAction | StepAction | None) -> None:
        if action is not None:
            self._under_way.add(action.ref)
            self._running += isinstance(action, StepAction)
