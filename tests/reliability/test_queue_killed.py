"""The merge queue is killed at any of its effects, while several results wait in it: nothing lost, nothing twice."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.reliability.hatchery import Point
from tests.reliability.test_kill_points import Trials
from tests.reliability.world import World, template

if TYPE_CHECKING:
    from pathlib import Path

    from tests.reliability.hatchery import Hatchery

NAMES = "fghi"
RUN = ("milestone:m1", "-n", "4")
STEPS = ("record landing", "record landed", "_advance", "_land_together", "_swap", "_verdict", "judge", "write_receipt")
"""Beginnings of the names of what the queue does: proofs, commits, the branch, records and receipts."""


def trials_of(mode: str, hatchery: Hatchery, folder: Path) -> Trials:
    made = template(folder / "template", NAMES, mode=mode)
    return Trials(hatchery, lambda _: World(made.path, NAMES), folder, RUN)


def steps_in(trials: Trials) -> int:
    """How many effects of the queue a run has; one more or less with the order of its threads."""
    return sum(name.startswith(STEPS) for name in trials.effects(NAMES))


def test_a_queue_killed_while_it_lands_is_finished_by_the_next_run(hatchery: Hatchery, in_memory: Path) -> None:
    trials = trials_of("batch", hatchery, in_memory)
    chance = random.Random(5)  # noqa: S311  (no secret)
    for kind in ("_advance", "record landed"):
        trials.killed_at(NAMES, Point(1, after=chance.random() < 0.5, of=(kind,)), torn=chance)
    assert trials.kills == 2


@pytest.mark.campaign
@pytest.mark.parametrize("mode", ["batch", "each"])
@pytest.mark.parametrize("share", range(4))
def test_a_queue_killed_at_every_step_is_finished_by_the_next_run(
    hatchery: Hatchery, in_memory: Path, mode: str, share: int
) -> None:
    """Of every second step the run after it is killed, too, at any of its effects."""
    trials = trials_of(mode, hatchery, in_memory)
    chance = random.Random(share)  # noqa: S311  (no secret)
    places = range(1 + share, steps_in(trials) + 1, 4)
    for place, nth in enumerate(places):
        again = [Point(chance.randrange(1, 120))] if place % 2 else []
        trials.killed_at(NAMES, Point(nth, after=chance.random() < 0.5, of=STEPS), *again, torn=chance)
    assert trials.kills > len(places) * 0.8


@pytest.mark.campaign
def test_a_queue_killed_in_every_run_until_it_is_done(hatchery: Hatchery, in_memory: Path) -> None:
    trials = trials_of("auto", hatchery, in_memory)
    for seed in range(12):
        chance = random.Random(seed)  # noqa: S311  (no secret)
        points = [Point(chance.randrange(1, 12), chance.random() < 0.5, of=STEPS) for _ in range(4)]
        trials.killed_at(NAMES, *points, torn=chance)
    assert trials.kills >= 24
