"""What trials of a module share: the process that forks runs, and milestones that are not begun."""

from __future__ import annotations

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


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """A function from the names of issues to a milestone of them that is not begun; made once."""
    made: dict[str, World] = {}

    def of(names: str) -> World:
        if names not in made:
            made[names] = template(tmp_path_factory.mktemp("template") / "repo", names)
        return made[names]

    return of
