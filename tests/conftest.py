"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import sysconfig
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

pytest.register_assert_rewrite("tests.reliability.world")

from tests.support import CHECKOUT, PARSED, Repo  # noqa: E402  (after what is said above)

TESTS_AT_ONCE = 16
"""Tests that xdist gives a process at a time; by default it gives hundreds, and one process has all slow ones."""

if TYPE_CHECKING:
    from collections.abc import Generator

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "campaign",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=PARSED,
    database=None,
    phases=[Phase.generate, Phase.shrink],
)
settings.load_profile("campaign" if os.environ.get("EXECUTOR_CAMPAIGN") else "suite")


def pytest_configure(config: pytest.Config) -> None:
    """Compile the product and, if its installer did not (uv), all packages, once for all processes of the tests.

    Tests start hundreds of interpreters. Without bytecode each takes a second longer.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # of a shell's `&`, which all children would inherit
    if hasattr(config, "workerinput"):
        return
    if getattr(config.option, "maxschedchunk", 0) is None:
        config.option.maxschedchunk = TESTS_AT_ONCE
    folders = [str(CHECKOUT / "executor")]
    if not Path(cache_from_source(pytest.__file__)).exists():
        folders.append(sysconfig.get_path("purelib"))
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-j", "0", *folders], capture_output=True, check=False)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the collector off the thousands of tests: looking for garbage among them takes seconds, each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What has a command of its own runs only when asked for: EXECUTOR_CAMPAIGN=1 python -m pytest -m campaign.

    The campaign has the tests of parsers, too, with so many examples more.
    """
    if os.environ.get("EXECUTOR_CAMPAIGN"):
        for item in items:
            if item.get_closest_marker("parser"):
                item.add_marker(pytest.mark.campaign)
    for marker in ("campaign", "long", "agents"):
        variable = f"EXECUTOR_{marker.upper()}"
        if not os.environ.get(variable):
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=f"needs its own command; set {variable}=1"))


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository with one commit and no milestones yet."""
    return Repo(tmp_path / "repo")
