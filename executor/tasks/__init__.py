"""Milestones as doit tasks. A dodo.py needs one line: `from executor.tasks import DOIT_CONFIG, task_milestones`."""

from executor.tasks.compile import DOIT_CONFIG, task_milestones

__all__ = ["DOIT_CONFIG", "task_milestones"]
