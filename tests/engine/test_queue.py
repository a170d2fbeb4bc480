"""The merge queue over thousands of simulated queues: nothing bad lands, everything good does, at the expected cost."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from executor.engine.landing.queue import (
    Land,
    Probe,
    Prove,
    Queue,
    Rate,
    Suspect,
    Verdict,
    arranged,
    batch_size,
    likely_culprit,
    next_actions,
)
from tests.engine.queue_model import Trial


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def test_all_good_candidates_land_and_no_bad_one_does() -> None:
    for seed in range(1000):
        trial = one_with_bad_candidates(random.Random(seed))  # noqa: S311
        trial.run()
        assert set(trial.landed) == set(trial.names) - trial.bad, seed
        assert set(trial.rejected) == trial.bad, seed


def one_with_bad_candidates(chance: random.Random) -> Trial:
    own = names(chance.randrange(1, 25))
    rate = chance.choice((0.0, 0.05, 0.2, 0.5, 1.0))
    return Trial(
        own,
        {name for name in own if chance.random() < rate},
        size=chance.choice((1, 2, 4, 8, 32)),
        slots=chance.choice((1, 2, 3, 8)),
        every=chance.choice((0.0, 0.1, 1.0, 3.0)),
        chance=chance,
    )


def test_of_two_that_do_not_go_together_one_lands() -> None:
    for seed in range(1000):
        trial = one_with_rivals(random.Random(seed))  # noqa: S311
        trial.run()
        assert set(trial.landed) | set(trial.rejected) == set(trial.names), seed
        assert not set(trial.landed) & trial.bad, seed


def one_with_rivals(chance: random.Random) -> Trial:
    own = names(chance.randrange(2, 20))
    couples = {(a, b) for a in own for b in own if own.index(a) < own.index(b) and chance.random() < 0.05}
    split = {pair for pair in couples if chance.random() < 0.5}
    return Trial(
        own,
        {name for name in own if chance.random() < 0.1},
        pairs=split,
        rivals=couples - split,
        flaky=chance.choice((0.0, 0.1)),
        size=chance.choice((1, 2, 4, 8)),
        slots=chance.choice((1, 2, 8)),
        every=chance.choice((0.0, 0.3)),
        chance=chance,
    )


@pytest.mark.parametrize("slots", [1, 4, 8])
def test_each_costs_one_run_a_candidate_and_the_slots_are_used(slots: int) -> None:
    trial = Trial(names(24), slots=slots)
    trial.run()
    assert (trial.runs, trial.clock, trial.landed) == (24, 24 / slots, names(24))


def test_in_each_mode_only_what_stands_behind_a_failure_is_proved_again() -> None:
    trial = Trial(names(8), {"c3"}, slots=8)
    trial.run()
    assert trial.landed == [name for name in names(8) if name != "c3"]
    assert trial.runs <= 8 + 5  # those behind it once more, and itself at the head
    assert trial.clock == 2.0


def test_a_green_batch_costs_one_run() -> None:
    trial = Trial(names(8), size=8)
    trial.run()
    assert (trial.runs, trial.partial, trial.landed) == (1, 0, names(8))


def test_a_red_batch_is_narrowed_with_the_failed_checks_only() -> None:
    trial = Trial(names(8), {"c5"}, size=8)
    trial.run()
    assert (trial.runs, trial.partial) == (3, 4)  # the batch, the culprit alone, the rest; once again and three halves
    assert trial.rejected == ["c5"]


def test_a_flaky_failure_of_a_batch_costs_one_partial_run() -> None:
    trial = Trial(names(4), size=4)
    first = Probe(tuple(names(4)), 4)
    queue = Queue(tuple(names(4)), verdicts={first: Verdict(ok=False, failed=frozenset({"tests"}))})
    again = replace(first, only=frozenset({"tests"}), again=True)
    assert next_actions(queue, 4, 1) == [Prove(again)]
    queue = replace(queue, verdicts={**queue.verdicts, again: Verdict(ok=True)})
    assert next_actions(queue, 4, 1) == [Land(tuple(names(4)))]
    assert not trial.landed


@pytest.mark.parametrize(
    ("rate", "size"), [(0.0001, 64), (0.005, 64), (0.01, 64), (0.02, 32), (0.05, 16), (0.1, 8), (0.2, 4), (0.3, 1)]
)
def test_the_batch_size_follows_the_failure_rate(rate: float, size: int) -> None:
    assert batch_size(rate, 64) == size


def test_the_rate_forgets() -> None:
    rate = Rate()
    for _ in range(200):
        rate = rate.after(rejected=True)
    assert rate.value > 0.95
    for _ in range(200):
        rate = rate.after(rejected=False)
    assert rate.value < 0.01


@pytest.mark.parametrize(("rate", "bound"), [(0.005, 0.12), (0.02, 0.3), (0.05, 0.55), (0.1, 0.8), (0.2, 1.25)])
def test_runs_for_each_candidate_stay_near_the_table(rate: float, bound: float) -> None:
    """A partial run is counted as a tenth of a full one; the entropy of the rate is the least that any method needs."""
    chance = random.Random(7)  # noqa: S311
    runs = 0.0
    for _ in range(10):
        own = names(200)
        trial = Trial(own, {name for name in own if chance.random() < rate}, size=batch_size(rate, 64), chance=chance)
        trial.run()
        runs += trial.runs + trial.partial / 10
    assert runs / 2000 <= bound


def test_of_results_in_conflict_those_with_the_fewest_conflicts_and_lines_land_first() -> None:
    rivals, sizes = {"hub": 2, "small": 1, "large": 1}, {"hub": 1, "small": 5, "large": 50, "free": 900}
    queue = Queue(("hub", "large", "free", "small"))
    assert arranged(queue, rivals, sizes) == ("free", "small", "large", "hub")
    begun = replace(queue, running=frozenset({Probe(("hub",), 1)}))
    assert arranged(begun, rivals, sizes) == ("hub", "free", "small", "large")  # no proof is wasted
    assert arranged(queue, {}, sizes) == queue.members


CHANGED = {"a": ["src/pkg/one.py"], "b": ["src/pkg/two.py", "tests/test_two.py"], "c": ["docs/page.md"]}


@pytest.mark.parametrize(
    ("told", "read", "expected"),
    [
        ('  File "/work/tree/src/pkg/one.py", line 3, in one', (), "a"),  # a traceback names the folder of the check
        ("src/pkg/one.py:3: AssertionError\nsrc/pkg/two.py:9: in two", (), ""),  # both are likely
        ("tests/test_two.py:3: in test\nsrc/pkg/two.py:9: in two\nsrc/pkg/one.py:1: in one", (), "b"),
        ("pkg.two::test FAILED", (), ""),  # a package of the tests is not the module
        ("src.pkg.two.Two FAILED", (), "b"),
        ("src/pkg/one.pyc, mysrc/pkg/one.py and src/pkg/one.py-old", (), ""),
        ("exit 1", ("src/pkg/two.py",), "b"),
        ("exit 1", ("src/pkg/one.py", "src/pkg/two.py"), ""),
        ("src/pkg/one.py:3: in one", ("src/pkg/two.py",), "a"),  # the output is the stronger sign
        ("FAILED other/test_one.py::test_it", (), "a"),  # the tests of a file that it changes
        ("exit 1", (), ""),
    ],
)
def test_the_likely_culprit_changed_what_the_failing_tests_name_or_execute(
    told: str, read: tuple[str, ...], expected: str
) -> None:
    assert likely_culprit(CHANGED, told, frozenset(read)) == expected


def test_a_likely_culprit_saves_halves() -> None:
    lot = tuple(names(64))
    first = Probe(lot, 64)
    asked = {}
    for likely in ("", "c13", "c50"):  # the right one, a wrong one, and none
        verdicts = {
            first: Verdict(ok=False, failed=frozenset({"t"}), likely=likely),
            replace(first, only=frozenset({"t"}), again=True): Verdict(ok=False),
        }
        count = 0
        while isinstance(action := next_actions(Queue(lot, verdicts=verdicts), 64, 1)[0], Prove):
            verdicts[action.probe] = Verdict(ok="c13" not in action.probe.members)
            count += 1
        assert action == Suspect("c13")
        asked[likely] = count
    assert asked["c13"] == 2
    assert asked["c50"] <= asked[""] + 2
