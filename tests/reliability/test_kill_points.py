"""A run that is killed at any of its effects, with real git, and simply run again: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.reliability.hatchery import Point
from tests.reliability.world import TAG, World, assert_done, copied, processes, template

if TYPE_CHECKING:
    from pathlib import Path

    from tests.reliability.conftest import Templates
    from tests.reliability.hatchery import Hatchery

RUN = ("milestone:m1", "-n", "1")
KINDS = ("a", "c", "d")
"""Milestones that are killed at every effect: an agent, a patch, an attempt that fails."""
LAST = ("record landed h",)
SHARES = 4
CHAINS = 125


class Trials:
    """Trials in copies of repositories; each starts from the template."""

    def __init__(self, hatchery: Hatchery, templates: Templates, folder: Path, run: tuple[str, ...] = RUN) -> None:
        self.hatchery, self.templates, self.folder, self.line = hatchery, templates, folder, run
        self.value = f"{os.getpid()}-{folder.name}"
        self.env = {TAG: self.value, "LC_RAN": str(folder / "ran")}
        self.names: list[str] = []
        self.kills = 0

    def effects(self, names: str) -> list[str]:
        """The effects of a run that nobody kills, of a milestone of these issues."""
        repo = self._fresh(names)
        return self.hatchery.run(repo.path, *self.line, watch=True, env=self.env).check().effects

    def killed_at(self, names: str, *points: Point, torn: random.Random) -> None:
        """Kill a run at the first point, the next one at the second, and so on; then run until done."""
        repo = self._fresh(names)
        for point in points:
            ended = self.hatchery.run(repo.path, *self.line, kill=point, env=self.env)
            if ended.code != -9:
                assert ended.code == 0, ended.out
                break
            self.kills += 1
            self.names.append(f"{'after' if point.after else 'before'} {ended.effects[-1]}")
            tear(repo.path / ".cache" / "m1" / "journal.000001.jsonl", ended.effects[-1], torn)
        told = f"{points}: {self.names[-len(points) :]}"
        last = self.hatchery.run(repo.path, *self.line, env=self.env)
        assert last.code == 0, f"{told}\n{last.out}"
        try:
            assert_done(repo, idle="nothing to do" in last.out)
            assert processes(self.value) == []
        except AssertionError as error:
            raise AssertionError(f"{told}\n{last.out}\n{error}") from error

    def _fresh(self, names: str) -> World:
        shutil.rmtree(self.folder / "repo", ignore_errors=True)
        return copied(self.templates(names), self.folder / "repo")


def tear(journal: Path, effect: str, chance: random.Random) -> None:
    """Take away any number of the last bytes of a record that was written and not yet synced."""
    if effect.startswith("record ") and effect.endswith(": fsync"):
        data = journal.read_bytes()
        begin = data[:-1].rfind(b"\n") + 1
        journal.write_bytes(data[: chance.randrange(begin, len(data))])


def ends_of_rows(effects: list[str]) -> list[int]:
    """Numbers of the effects, from 1; of several in a row that have one name, the first and the last."""
    last = len(effects)
    return [n for n, name in enumerate(effects, 1) if n in {1, last} or not effects[n - 2] == name == effects[n]]


@pytest.fixture
def trials(hatchery: Hatchery, templates: Templates, in_memory: Path) -> Trials:
    return Trials(hatchery, templates, in_memory)


def test_a_run_killed_at_an_effect_is_finished_by_the_next_one(trials: Trials) -> None:
    effects = trials.effects("ad")
    chance = random.Random(7)  # noqa: S311  (no secret)
    records = [place for place, name in enumerate(effects, 1) if name.startswith(("record land", "advance"))]
    for nth in [*chance.sample(records, 5), *chance.sample(range(1, len(effects) + 1), 3)]:
        trials.killed_at("ad", Point(nth, after=chance.random() < 0.5), torn=chance)
    assert trials.kills >= 6


def test_a_run_killed_again_in_its_recovery_is_finished_by_the_next_one(trials: Trials) -> None:
    chained(trials, random.Random(11), 2)  # noqa: S311  (no secret)


@pytest.mark.parametrize("mode", ["", "each"])
def test_a_tree_that_is_not_on_record_yet_survives_other_issues_and_a_kill(
    hatchery: Hatchery, in_memory: Path, mode: str
) -> None:
    """An agent has ended, its tree is not recorded yet; meanwhile another issue is checked and a third one lands."""
    names = "fgh"
    made = template(in_memory / "template", names, mode=mode)
    trials = Trials(hatchery, lambda _: World(made.path, names), in_memory, ("milestone:m1", "-n", "2"))
    trials.killed_at(names, Point(1, of=LAST, hold="snapshot"), torn=random.Random(1))  # noqa: S311  (no secret)
    assert trials.kills == 1


@pytest.mark.campaign
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("names", KINDS)
def test_a_run_killed_at_every_effect_is_finished_by_the_next_one(trials: Trials, names: str, share: int) -> None:
    """Of every second effect the run after it is killed, too."""
    places = ends_of_rows(trials.effects(names))[share::SHARES]
    chance = random.Random(share)  # noqa: S311  (no secret)
    for place, nth in enumerate(places):
        again = [Point(chance.randrange(1, 70))] if place % 2 else []
        trials.killed_at(names, Point(nth), *again, torn=chance)
    assert trials.kills > len(places) - 3


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(CHAINS // 25))
def test_a_run_killed_at_several_effects_one_after_the_other_is_finished(trials: Trials, seed: int) -> None:
    chained(trials, random.Random(seed), 25)  # noqa: S311  (no secret)


def chained(trials: Trials, chance: random.Random, count: int) -> None:
    """Milestones of one issue, each killed two to four times, before or after an effect."""
    for _ in range(count):
        names = chance.choice(("a", "c", "c", "d"))
        kills = chance.choice((2, 2, 2, 2, 3, 4))
        points = [Point(chance.randrange(1, 90 * len(names)), chance.random() < 0.5) for _ in range(kills)]
        trials.killed_at(names, *points, torn=chance)
    assert trials.kills >= count
