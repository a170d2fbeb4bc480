"""Expected durations by size, and the end of a milestone."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.status.estimate import Todo, durations, expected_seconds, schedule

SIZES = st.sampled_from(["S", "M", "L"])
PAST = st.lists(st.tuples(SIZES, st.floats(0, 1e6)), max_size=40)


def test_without_a_past_a_larger_size_takes_longer() -> None:
    small, middle, large = (expected_seconds(size, []) for size in "SML")
    assert 60 < small < middle < large < 3600 * 2


@pytest.mark.parametrize("seconds", [0.2, 60.0, 7200.0])
def test_a_steady_past_is_expected_to_go_on(seconds: float) -> None:
    assert expected_seconds("M", [("M", seconds)] * 30) == pytest.approx(seconds, rel=0.2)


def test_one_long_issue_among_many_does_not_decide() -> None:
    past = [("M", 100.0)] * 20 + [("M", 10_000.0)]
    assert durations(past).middles["M"] < 150


def test_a_size_without_a_past_follows_the_others() -> None:
    assert expected_seconds("L", [("S", 10.0)] * 20) == pytest.approx(40.0, rel=0.1)


def test_a_size_with_a_past_of_its_own_leaves_the_others() -> None:
    assert expected_seconds("L", [("S", 10.0), ("L", 10.0)] * 20) < 15


@given(PAST, SIZES, st.floats(0, 1e7))
def test_every_answer_is_a_number_of_seconds(past: list[tuple[str, float]], size: str, elapsed: float) -> None:
    known = durations(past)
    assert math.isfinite(known.expected(size))
    assert known.expected(size) > 0
    assert math.isfinite(known.left(size, elapsed))
    assert known.left(size, elapsed) >= 0


@pytest.mark.parametrize("elapsed", [1.0, 60.0, 600.0, 3000.0])
def test_what_is_left_is_what_the_longer_ones_took_beyond_that(elapsed: float) -> None:
    chance = random.Random(1)  # noqa: S311  (a simulation)
    known = durations([("M", chance.lognormvariate(6, 0.8)) for _ in range(400)])
    drawn = [chance.lognormvariate(math.log(known.middles["M"]), known.spread) for _ in range(200_000)]
    longer = [item - elapsed for item in drawn if item > elapsed]
    assert known.left("M", elapsed) == pytest.approx(sum(longer) / len(longer), rel=0.1)


def test_what_has_taken_far_too_long_is_given_more_time_the_longer_it_takes() -> None:
    known = durations([("M", 10.0)] * 50)
    left = [known.left("M", elapsed) for elapsed in (100.0, 1e4, 1e6, 1e12)]
    assert left == sorted(left)
    assert left[0] > 0


@pytest.mark.parametrize(
    ("todo", "workers", "end"),
    [
        ([], 2, {}),
        ([Todo("a", 5), Todo("b", 5)], 1, {"a": 5, "b": 10}),
        ([Todo("a", 5), Todo("b", 5)], 2, {"a": 5, "b": 5}),
        ([Todo("a", 5), Todo("b", 3, ("a",)), Todo("c", 4, ("landed",))], 2, {"a": 5, "b": 8, "c": 4}),
        ([Todo("a", 9), Todo("b", 2, running=True), Todo("c", 1)], 1, {"b": 2, "a": 11, "c": 12}),
        ([Todo("a", 1, running=True), Todo("b", 2, running=True), Todo("c", 1)], 1, {"a": 1, "b": 2, "c": 3}),
        ([Todo("a", 1, ("b",)), Todo("b", 1, ("a",))], 2, {}),
    ],
)
def test_a_free_worker_takes_the_first_that_is_ready(todo: list[Todo], workers: int, end: dict[str, float]) -> None:
    assert schedule(todo, workers) == end


@st.composite
def graphs(draw: st.DrawFn) -> list[Todo]:
    todo: list[Todo] = []
    for number in range(draw(st.integers(0, 25))):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        todo.append(Todo(str(number), draw(st.floats(0.1, 100)), tuple(map(str, sorted(needs)))))
    return todo


@given(graphs(), st.integers(1, 6))
def test_the_end_respects_path_and_workers(todo: list[Todo], workers: int) -> None:
    ends = schedule(todo, workers)
    path: dict[str, float] = {}
    for item in todo:
        path[item.ref] = item.seconds + max((path[need] for need in item.needs), default=0)
    work = sum(item.seconds for item in todo)
    least = max([work / workers, *path.values()])
    last = max(ends.values(), default=0)
    assert ends.keys() == path.keys()
    assert least - 1e-6 <= last <= work / workers + max(path.values(), default=0) + 1e-6
    assert all(ends[item.ref] >= ends[need] + item.seconds - 1e-6 for item in todo for need in item.needs)


MIDDLES = {"S": 300.0, "M": 900.0, "L": 2500.0}


def night(seed: int, workers: int) -> tuple[float, float]:
    """Half of the time that 200 issues really take, and the end that is expected then."""
    chance = random.Random(seed)  # noqa: S311  (a simulation)
    sizes = [chance.choice("SSMMML") for _ in range(200)]
    real = [chance.lognormvariate(math.log(MIDDLES[size]), 0.7) for size in sizes]
    needs = [
        tuple(str(need) for need in {chance.randrange(number) for _ in range(2) if number}) for number in range(200)
    ]
    ends = schedule([Todo(str(number), real[number], needs[number]) for number in range(200)], workers)
    half = max(ends.values()) / 2
    begins = {name: end - real[int(name)] for name, end in ends.items()}
    known = durations((sizes[int(name)], real[int(name)]) for name, end in ends.items() if end <= half)
    todo = []
    for number, size in enumerate(sizes):
        name = str(number)
        elapsed = half - begins[name]
        if ends[name] > half:
            todo.append(Todo(name, known.left(size, elapsed), needs[number], running=elapsed > 0))
    return half, half + max(schedule(todo, workers).values())


@pytest.mark.parametrize("workers", [1, 4, 8])
def test_at_half_time_of_a_night_the_expected_end_is_within_a_fifth(workers: int) -> None:
    close = 0
    for seed in range(10):
        half, expected = night(seed, workers)
        close += abs(expected - 2 * half) <= 0.2 * 2 * half
    assert close >= 8


@pytest.mark.parametrize("workers", [1, 4])
def test_what_is_left_of_the_night_is_within_a_fifth_in_most_cases(workers: int) -> None:
    """The harder question: the error relative to the second half alone."""
    close = sum(
        abs(expected - 2 * half) <= 0.2 * half for half, expected in (night(seed, workers) for seed in range(10))
    )
    assert close >= 7
