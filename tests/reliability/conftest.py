"""What trials of a module share: the process that forks runs, and milestones that are not begun."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.reliability.hatchery import Hatchery
from tests.reliability.world import World, template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Templates = Callable[[str], World]


@pytest.fixture(scope="session")
def hatchery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hatchery]:
    with Hatchery(tmp_path_factory.mktemp("hatchery")) as running:
        yield running


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A temporary folder in memory where there is one: for trials that no power cut is a part of."""
    shared = Path("/dev/shm")  # noqa: S108  (a folder of our own in it)
    with tempfile.TemporaryDirectory(prefix="executor-", dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """A function from the names of issues to a milestone of them that is not begun; made once."""
    made: dict[str, World] = {}

    def of(names: str) -> World:
        if names not in made:
            made[names] = template(tmp_path_factory.mktemp("template") / "repo", names)
        return made[names]

    return of
