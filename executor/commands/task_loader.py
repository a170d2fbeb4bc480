"""How a run's tasks reach doit: the project's own loader, with the milestones' tasks bound to the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doit.cmd_base import NamespaceTaskLoader

from executor.tasks.compile import requested_tasks, task_milestones

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.tasks.request import Request, Task

__all__ = ["RequestLoader"]


class RequestLoader(NamespaceTaskLoader):
    """Loads what another loader finds, but for the milestones' tasks, which belong to one request.

    doit calls task creators without arguments, so the creator that a dodo.py imports cannot know the session.
    """

    def __init__(self, loader: NamespaceTaskLoader, request: Request) -> None:
        super().__init__()
        self._loader = loader
        self._request = request
        self.cmd_options = loader.cmd_options
        self.cmd_names, self.config, self.task_opts = loader.cmd_names, loader.config, loader.task_opts

    def setup(self, opt_values: dict[str, object]) -> None:
        """Read the dodo.py and bind the milestones' tasks to the request."""

        def bound_tasks() -> Iterator[Task]:
            yield from requested_tasks(self._request)

        self._loader.setup(opt_values)
        found = self._loader.namespace or {}
        self.namespace = {name: bound_tasks if item is task_milestones else item for name, item in found.items()}
