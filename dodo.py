"""Hands the milestones of this repository to doit: `doit list`, `doit milestone:quickstart`."""

from executor.tasks import DOIT_CONFIG, task_milestones  # noqa: F401  (doit finds both by name)
