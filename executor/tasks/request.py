"""A request: the milestones and issues that one `doit run` names, and the way from its tasks to the session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from executor.engine.session import Session
    from executor.release.criteria import Outcome

__all__ = ["Request", "Task"]


class Task(TypedDict, total=False):
    """A task as doit takes it from a task creator; the keys are doit's."""

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
