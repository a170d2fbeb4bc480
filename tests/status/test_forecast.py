from __future__ import annotations

import math
import random

from executor.status.estimate import Calibration, Past, Piece, Todo, calibration, forecast, schedule

SIZES = ("S", "M", "L")


def drawn(chance: random.Random, count: int, spread: float) -> list[Piece]:
    pieces = []
    for number in range(count):
        size = chance.choice(SIZES)
        seconds = {"S": 200, "M": 500, "L": 1500}[size] * math.exp(chance.gauss(0, spread))
        needs = (str(chance.randrange(number)),) if number and chance.random() < 0.4 else ()
        pieces.append(Piece(str(number), size, needs, seconds))
    return pieces


def end(pieces: list[Piece], workers: int) -> float:
    return max(schedule([Todo(item.ref, item.seconds, item.needs) for item in pieces], workers).values())


def test_at_least_four_of_five_simulated_milestones_end_within_p80() -> None:
    inside = middle = 0
    for number in range(200):
        chance = random.Random(number)  # noqa: S311  (a simulation)
        spread = chance.choice((0.3, 0.6, 0.9))
        past = [(item.size, item.seconds) for item in drawn(chance, chance.randrange(8, 40), spread)]
        pieces, workers = drawn(chance, 20, spread), chance.choice((1, 2, 4))
        found = forecast(pieces, past, workers)
        assert found is not None
        assert found.p50_s <= found.p80_s
        inside += end(pieces, workers) <= found.p80_s
        middle += end(pieces, workers) <= found.p50_s
    assert inside >= 160
    assert 80 <= middle <= 140


def test_the_same_facts_give_the_same_forecast_and_nothing_gives_none() -> None:
    pieces = [Piece("a", "M"), Piece("b", "L", ("a",))]
    assert forecast(pieces, [("M", 300.0)], 2) == forecast(pieces, [("M", 300.0)], 2)
    assert forecast([], [], 1) is None
    guess = forecast(pieces, [], 1)
    assert guess is not None
    assert guess.known == 0


def test_a_thousand_issues_are_forecast_in_a_moment() -> None:
    pieces = [Piece(str(number), "M", (str(number - 1),) if number % 3 else ()) for number in range(1000)]
    found = forecast(pieces, [("M", 100.0)] * 50, 4)
    assert found is not None
    assert found.p80_s > found.p50_s > 0


def test_each_past_milestone_is_forecast_from_the_others() -> None:
    chance = random.Random(7)  # noqa: S311  (a simulation)
    milestones = [Past(tuple(drawn(chance, 15, 0.5))) for _ in range(12)]
    found = calibration(milestones, 2)
    assert found.milestones == 12
    assert found.inside >= 8
    assert calibration(milestones[:1], 2) == Calibration(0, 0)
