"""Fixtures for all tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.reliability.world")

from tests.support import Repo  # noqa: E402  (after what is said above)

if TYPE_CHECKING:
    from pathlib import Path


settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("campaign", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=20_000)
settings.load_profile(os.environ.get("EXECUTOR_EXAMPLES", "suite"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What has a command of its own runs only when asked for: EXECUTOR_CAMPAIGN=1 python -m pytest -m campaign."""
    for marker, variable in (("campaign", "EXECUTOR_CAMPAIGN"), ("agents", "EXECUTOR_AGENTS")):
        if not os.environ.get(variable):
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=f"needs its own command; set {variable}=1"))


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository with one commit and no milestones yet."""
    return Repo(tmp_path / "repo")
