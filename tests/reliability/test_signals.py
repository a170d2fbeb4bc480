"""INT, TERM and HUP, once and twice, at effects all over a run: the documented exit code, and the next run goes on."""

from __future__ import annotations

import random
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.reliability.hatchery import Point
from tests.reliability.world import TAG, assert_done, copied, processes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.reliability.conftest import Templates
    from tests.reliability.hatchery import Hatchery

RUN = ("milestone:m1", "-n", "1")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.parametrize("points", [4, pytest.param(20, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_anywhere_ends_the_run_with_its_code_and_the_next_one_goes_on(
    hatchery: Hatchery,
    templates: Templates,
    in_memory: Path,
    number: signal.Signals,
    points: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    env = {TAG: str(in_memory), "LC_RAN": str(in_memory / "ran")}
    source = templates("abd")
    repo = copied(source, in_memory / "repo")
    most = len(hatchery.run(repo.path, *RUN, watch=True, env=env).check().effects)
    chance = random.Random(number)  # noqa: S311  (no secret)
    stopped = 0
    for trial in range(points):
        repo = copied(source, in_memory / f"repo-{trial}")
        nth = (trial * most + chance.randrange(most)) // points + 1
        again = nth + chance.randrange(1, 30) if trial % 2 else 0
        ended = hatchery.run(repo.path, *RUN, kill=Point(nth, number=number, again=again), env=env)
        told = f"at {nth} and {again} of {most}\n{ended.out}"
        assert ended.code in {CODES[number], 0, -number}, told
        assert "Traceback" not in ended.out, told
        stopped += ended.code == CODES[number]
        assert processes(str(in_memory)) == [], told
        last = hatchery.run(repo.path, *RUN, env=env)
        assert last.code == 0, f"{told}\n{last.out}"
        assert_done(repo, idle="nothing to do" in last.out)
    assert stopped >= points // 2
    with capsys.disabled():
        sys.stdout.write(f"\n{number.name} at {points} points: {stopped} ended with {CODES[number]}\n")
