"""Who may claim an order, whose result counts, and that no history of claims lands one twice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.cluster.orders import (
    Do,
    Lease,
    Limits,
    Order,
    ProtocolError,
    Result,
    State,
    Watch,
    beaten,
    chosen,
    counts,
    decoded,
    encoded,
    ended_as,
    ending_of,
    is_check_id,
    is_order_id,
    next_lease,
    same_work,
    what_to_do,
)
from executor.engine.elsewhere import is_later
from executor.state.model import Attempt, AttemptState

ORDER = Order("m4/4.1/2", "b" * 40, ("true",), env={"A": "1"}, secrets=("TOKEN",), labels=("gpu",), limits=Limits(5.0))
HELD = Lease(ORDER.id, 1, "one", "box")
RESULT = Result(ORDER.id, 1, "one", "box", "exited", 0, tree="t" * 40)


@pytest.mark.parametrize("value", [ORDER, HELD, replace(HELD, state=State.CANCELLED), RESULT])
def test_a_value_is_read_as_it_was_written(value: Order | Lease | Result) -> None:
    assert decoded(type(value), encoded(value)) == value  # type: ignore[type-var]


@pytest.mark.parametrize(
    "change",
    [
        *({"protocol": 2}, {"id": "../x"}, {"id": "a.lock"}, {"id": ""}, {"limits": 3}, {"argv": 3}, {"id": "a//b"}),
        *({"env": {"A": 3}}, {"env": []}, {"agent": "script"}, {"beat_s": "1"}, {"beat_s": True}, {"base": None}),
    ],
)
def test_an_order_that_is_not_ours_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        decoded(Order, json.dumps({**json.loads(encoded(ORDER)), **change}).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"order": 3}', b'{"id": "a"}'])
def test_what_is_no_order_is_refused(data: bytes) -> None:
    for kind in (Order, Lease, Result):
        with pytest.raises(ProtocolError):
            decoded(kind, data)  # type: ignore[type-var]


CHECK = Order(
    "m4/check/k1", "b" * 40, ("pytest", "a.py"), asks=("pytest",), conditions={"python": "3", "platform": "x"}
)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (replace(CHECK, base="c" * 40), True),
        (replace(CHECK, id="m4/check/k2"), False),
        (replace(CHECK, conditions={"python": "4", "platform": "x"}), False),
        (replace(CHECK, asks=("python",)), False),
        (ORDER, False),
    ],
)
def test_a_check_is_the_same_work_if_tree_command_and_conditions_are(other: Order, same: bool) -> None:
    assert decoded(Order, encoded(CHECK)) == CHECK
    assert same_work(CHECK, other) is same


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([{"a": "1"}], {"a": "1"}),
        ([{"a": "1"}, {"a": "2"}, {"a": "2"}], {"a": "2"}),
        ([{"a": "2"}, {"a": "1"}], {"a": "1"}),
        ([{"a": "1"}, {"a": "1", "b": "1"}, {"b": "1", "a": "1"}], {"a": "1", "b": "1"}),
    ],
)
def test_the_conditions_that_most_hosts_have_are_chosen(hosts: list[dict[str, str]], expected: dict[str, str]) -> None:
    for answers in (hosts, hosts[::-1]):
        assert chosen([replace(RESULT, conditions=conditions) for conditions in answers]) == expected


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (RESULT, "exited"),
        (replace(RESULT, how="timeout"), "timeout"),
        (replace(RESULT, how="stopped"), None),
        (replace(RESULT, how="lost"), None),
        (replace(RESULT, how="anything"), None),
        (replace(RESULT, fault="host"), None),
    ],
)
def test_a_command_that_its_host_stopped_has_no_end(result: Result, reason: str | None) -> None:
    ended = ending_of(result)
    assert (ended.reason if ended else None) == reason
    assert ended is None or ended_as(result, ended) == result


@pytest.mark.parametrize(
    ("order", "check"),
    [
        ("m4/check/k1f", True),
        ("m4/check/k1f.2", True),
        ("m4/check/1", False),
        ("m4/check/1/plan", False),
        ("m4/a/k1f", False),
        ("m4/check/k1f/2", False),
    ],
)
def test_an_issue_may_have_the_name_of_checks(order: str, check: bool) -> None:
    assert is_check_id(order) is check


def test_a_field_of_a_later_version_is_passed_over() -> None:
    assert decoded(Order, json.dumps({**json.loads(encoded(ORDER)), "new": 1}).encode()) == ORDER


@pytest.mark.parametrize(
    ("order", "lease", "labels", "silence", "do"),
    [
        (ORDER, None, {"gpu", "linux"}, 0, Do.CLAIM),
        (ORDER, None, {"linux"}, 0, Do.LEAVE),
        (replace(ORDER, deadline=99.0), None, {"gpu"}, 0, Do.LEAVE),
        (ORDER, HELD, {"gpu"}, 59, Do.LEAVE),
        (ORDER, HELD, {"gpu"}, 60, Do.TAKE_OVER),
        (ORDER, HELD, {"linux"}, 60, Do.LEAVE),
        (ORDER, replace(HELD, state=State.DONE), {"gpu"}, 999, Do.LEAVE),
        (ORDER, replace(HELD, state=State.CANCELLED), {"gpu"}, 999, Do.LEAVE),
    ],
)
def test_a_free_worker_claims_takes_over_or_leaves(
    order: Order, lease: Lease | None, labels: set[str], silence: float, do: Do
) -> None:
    assert what_to_do(order, lease, frozenset(labels), silence=silence, patience=60, now=100) is do


@pytest.mark.parametrize(
    ("number", "base", "last", "later"),
    [
        (2, "base", Attempt(1, 1, "key", "base"), True),
        (1, "base", Attempt(2, 1, "key", "base"), False),
        (1, "base", Attempt(1, 1, "key", "base"), False),  # it goes on by itself
        (1, "other", Attempt(1, 1, "key", "base"), True),  # another machine led meanwhile
        (1, "other", Attempt(1, 1, "key", "base", tree="tree"), False),  # its agent has ended here
        (1, "other", Attempt(1, 1, "key", "base", AttemptState.FAILED), False),
        (1, "base", Attempt(1, 1, "key", "base", AttemptState.INTERRUPTED), True),
        (2, "other", Attempt(1, 1, "key", "base", AttemptState.BUILT), False),
    ],
)
def test_an_order_on_the_remote_counts_if_it_goes_beyond_what_is_known_here(
    number: int, base: str, last: Attempt, later: bool
) -> None:
    assert is_later(number, base, last) is later


def test_silence_is_measured_on_the_clock_of_the_observer() -> None:
    watch = Watch()
    assert [watch.silence("a", commit, now) for commit, now in [("1", 10), ("1", 40), ("2", 50), ("2", 70)]] == [
        0,
        30,
        0,
        20,
    ]


def test_only_the_result_of_the_last_fence_counts() -> None:
    finished = replace(HELD, state=State.DONE)
    assert counts(RESULT, finished)
    assert not counts(RESULT, HELD)
    assert not counts(RESULT, None)
    assert not counts(RESULT, replace(HELD, state=State.CANCELLED))
    assert not counts(RESULT, replace(finished, fence=2))
    assert not counts(RESULT, replace(finished, worker="two"))


@pytest.mark.parametrize(
    ("text", "good"),
    [("m4/4.1/2", True), ("a", True), ("a/b/c-x", True), ("a/.b", False), ("a b", False), ("a.", False)],
)
def test_an_id_is_a_part_of_a_ref_name(text: str, good: bool) -> None:
    assert is_order_id(text) is good


class World:
    """One ref of a remote, and workers that hold whatever they last saw of it, at any time later."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.done: list[Result] = []
        self.late: list[Result] = []
        self.seen: dict[str, Lease | None] = {}
        self.holds: dict[str, Lease] = {}

    def swap(self, before: Lease | None, after: Lease) -> bool:
        if self.lease != before:
            return False
        self.lease = after
        return True

    def step(self, worker: str, action: str) -> None:
        held = self.holds.get(worker)
        match action:
            case "look":
                self.seen[worker] = self.lease
            case "claim" if held is None:
                before = self.seen.get(worker)
                silence = 0 if before is None else 60
                do = what_to_do(ORDER, before, frozenset({"gpu"}), silence=silence, patience=60, now=0)
                lease = next_lease(ORDER.id, before, worker, "box")
                if do is not Do.LEAVE and self.swap(before, lease):
                    self.holds[worker] = lease
            case "beat" if held is not None:
                if self.swap(held, beaten(held)):
                    self.holds[worker] = beaten(held)
                else:
                    del self.holds[worker]
            case "finish" if held is not None:
                result = Result(ORDER.id, held.fence, worker, "box", "exited", 0)
                finished = replace(held, state=State.DONE, beat=held.beat + 1)
                (self.done if self.swap(held, finished) else self.late).append(result)
                del self.holds[worker]
            case "die":
                self.holds.pop(worker, None)
            case "cancel":
                if self.lease is not None and self.lease.state is State.HELD:
                    self.swap(self.lease, replace(self.lease, state=State.CANCELLED))


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["look", "claim", "beat", "finish", "die", "cancel"])),
        max_size=60,
    )
)
@settings(max_examples=300, deadline=None)
def test_no_history_of_claims_lands_an_order_twice(history: list[tuple[str, str]]) -> None:
    world, fences = World(), [0]
    for worker, action in history:
        world.step(worker, action)
        if world.lease is not None:
            fences.append(world.lease.fence)
    assert fences == sorted(fences)
    landing = [item for item in [*world.done, *world.late] if counts(item, world.lease)]
    assert landing == world.done
    assert len(world.done) <= 1
    assert not (world.done and world.lease is not None and world.lease.state is State.CANCELLED)
