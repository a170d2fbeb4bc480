"""Three hosts, a bare remote and faults: nothing lands twice, no result is lost, no child stays."""

from __future__ import annotations

import json
import signal
import time
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.faults import PUSH_S, Call, Campaign, Report, fate
from tests.cluster.hosts import Farm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUICK = "beat_s = 0.5\npatience_s = 5.0\npoll_s = 0.2\n"


def until(holds: Callable[[], object], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    made = Farm(tmp_path, {"i1": inf, "i2": inf, "i3": 0.0}, rules=QUICK, hosts="ab")
    yield made
    made.stop()


CALL = Call("i1", "token", "a", 100.0, frozenset({7, 8}), 110.0)
LATE = 110.0 + PUSH_S


@pytest.mark.parametrize(
    ("killed", "froze", "expected"),
    [
        ({}, [], "lost"),
        ({9: 105.0}, [], "lost"),  # another worker
        ({8: 99.0}, [], "lost"),  # before the agent began
        ({8: 105.0}, [], "died"),
        ({8: LATE + 1}, [], "lost"),  # it lived for long enough to push the result
        ({8: LATE + 1}, [(8, 108.0, 115.0)], "died"),
        ({8: LATE + 1}, [(8, 101.0, 109.0)], "lost"),  # it was awake again before the agent ended
        ({8: LATE + 1}, [(9, 108.0, 115.0)], "lost"),
        ({}, [(8, 108.0, 115.0)], "lost"),  # a frozen worker keeps what it has once it wakes
    ],
)
def test_a_result_is_lost_unless_it_landed_is_kept_or_died_with_its_worker(
    killed: dict[int, float], froze: list[tuple[int, float, float]], expected: str
) -> None:
    assert fate(CALL, set(), set(), killed, froze) == expected
    assert fate(CALL, {"token"}, {"token"}, killed, froze) == "used"
    assert fate(CALL, set(), {"token"}, killed, froze) == "kept"


def test_a_campaign_holds_only_within_all_bounds() -> None:
    good: dict[str, Any] = {"issues": 2, "landed": 2, "wanted": 3, "faults": {"kill-worker": 3}, "take_overs": [59.9]}
    assert Report(**good).holds
    wrong: list[dict[str, Any]] = [
        {"landed": 1},
        {"landed_twice": ["i1"]},
        {"faults": {"kill-worker": 2}},
        {"lost": ["i1"]},
        {"children": ["7 sh"]},
        {"refs_left": ["refs/work/orders/m1/i1/1"]},
        {"take_overs": [60.0]},
        {"late_leaders": [1]},
    ]
    for change in wrong:
        report = Report(**(good | change))
        assert len(report.broken) == 1
        assert f"BROKEN: {report.broken[0]}" in report.text()


def test_another_machine_takes_over_and_pays_for_nothing_twice(farm: Farm) -> None:
    one, two = farm.hosts
    farm.work(two, 1, 2, poll=0.2)
    first = one.lead("milestone:m1", "-n", "2")
    assert until(lambda: farm.calls.read_text().count("start") == 2)
    code, out = two.doit("milestone:m1")
    assert code == 75, out
    assert "--take-over" in out
    first.kill()
    first.wait()
    led, _ = farm.leader()
    second = two.lead("milestone:m1", "-n", "2", "--take-over")
    assert until(lambda: farm.leader()[0] not in {led, ""})
    farm.gate.touch()
    assert second.wait(120) == 0, (two.folder / "coordinator.log").read_text()
    assert sorted(farm.landed()) == ["i1", "i2", "i3"]
    assert farm.calls.read_text().count("start") == 3
    assert farm.refs() == []
    assert one.doit("milestone:m1")[0] == 0
    assert len(farm.landed()) == 3
    farm.stop()
    assert until(lambda: not farm.alive())


@pytest.mark.long
def test_a_run_that_is_taken_over_moves_nothing_more_and_the_rest_is_named_and_cleaned(farm: Farm) -> None:
    one, two = farm.hosts
    first = one.lead("milestone:m1", "-n", "2")
    assert until(lambda: len(farm.refs()) == 3)  # two orders that nobody claims, and the lease
    second = two.lead("milestone:m1", "-n", "1", "--take-over")
    assert first.wait(60) == 75
    said = (one.folder / "coordinator.log").read_text()
    assert "milestone m1 was taken over by" in said
    assert "Traceback" not in said
    assert until(lambda: len(farm.refs()) >= 3)
    second.kill()
    second.wait()
    ours = set(farm.refs())
    for name in ("results/m9/x/1/1", "leases/m9/x/1", "strange"):
        farm.git("update-ref", f"refs/work/{name}", farm.git("rev-parse", "refs/work/runs/m1").strip())
    found = json.loads(two.doit("doctor", "--json")[1])
    left = {item["subject"].split(" ")[0] for item in found if item["kind"] == "order-left"}
    assert left == {"refs/work/results/m9/x/1/1", "refs/work/strange", "m9/x/1"}
    assert two.doit("gc")[0] == 0
    assert set(farm.refs()) == {*ours, "refs/work/strange", "refs/work/results/m9/x/1/1"}


@pytest.mark.long
def test_a_take_over_that_dies_is_taken_over_and_the_machine_that_wakes_late_moves_nothing(tmp_path: Path) -> None:
    farm = Farm(tmp_path, {"i1": inf, "i2": inf}, rules="beat_s = 0.5\npatience_s = 30.0\npoll_s = 0.2\n")
    try:
        one, two, three = farm.hosts
        farm.git("update-ref", "refs/work/runs/m1", farm.git("rev-parse", "main").strip())
        code, out = one.doit("milestone:m1")  # a lease that cannot be read is no reason to begin
        assert (code, "--take-over" in out) == (4, True)
        farm.work(one, 1, 2, poll=0.2)
        first = one.lead("milestone:m1", "-n", "2", "--take-over")
        assert until(lambda: farm.calls.read_text().count("start") == 2)
        first.kill()
        first.wait()
        for host, words in ((two, ("--take-over",)), (three, ())):
            led, _ = farm.leader()
            last = host.lead("milestone:m1", "-n", "2", *words)
            assert until(lambda led=led: farm.leader()[0] != led)  # type: ignore[misc]
            if host is two:
                last.kill()
                last.wait()
        assert three.coordinator is not None
        three.coordinator.send_signal(signal.SIGSTOP)
        led, _ = farm.leader()
        last = one.lead("milestone:m1", "-n", "2")
        assert until(lambda: farm.leader()[0] != led)
        farm.gate.touch()
        three.coordinator.send_signal(signal.SIGCONT)
        assert three.coordinator.wait(60) == 75
        assert last.wait(120) == 0
        assert sorted(farm.landed()) == ["i1", "i2"]
        assert farm.calls.read_text().count("start") == 2
        assert farm.refs() == []
    finally:
        farm.stop()
    assert until(lambda: not farm.alive())


@pytest.mark.campaign
def test_faults_of_three_hosts_lose_nothing(tmp_path: Path) -> None:
    report = Campaign(tmp_path, issues=40, faults=60, seed=1).run()  # all of it: python -m tests.cluster.hosts
    assert report.holds, f"{report.text()}\n{json.dumps(vars(report), indent=1)}"
