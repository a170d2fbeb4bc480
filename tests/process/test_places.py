"""Places to work are handed to the most urgent of those that wait, and to proofs before agents."""

from __future__ import annotations

import threading
import time

from executor.process.locks import Places


def taken(places: Places, *names: str) -> tuple[list[str], list[threading.Thread]]:
    """Names in the order in which they get a place; each one waits in a thread of its own."""
    got: list[str] = []
    stopping = threading.Event()

    def take(name: str) -> None:
        if places.take(name, stopping):
            got.append(name)

    threads = [threading.Thread(target=take, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    return got, threads


def until(got: list[str], names: list[str]) -> None:
    end = time.monotonic() + 10
    while got != names:
        assert time.monotonic() < end, got
        time.sleep(0.005)


def limited(count: int) -> Places:
    places = Places()
    places.limit(count, lambda names, _begun: max(names))
    return places


def test_without_a_limit_everybody_has_a_place() -> None:
    places = Places()
    until(taken(places, "a")[0], ["a"])
    assert places.holds("whoever")
    assert places.take_for_proof("b", "queue", 3)


def test_the_most_urgent_of_those_that_wait_gets_the_next_place() -> None:
    places, nobody = limited(1), threading.Event()
    assert places.take("first", nobody)
    assert places.take("first", nobody)  # it has one already
    got, _ = taken(places, "a", "c", "b")
    time.sleep(0.1)
    assert got == []
    for name, following in (("first", ["c"]), ("c", ["c", "b"]), ("b", ["c", "b", "a"])):
        places.leave(name, ended=True)
        until(got, following)
    assert places.holds("a")


def test_a_proof_comes_before_an_agent_and_whoever_works_may_prove() -> None:
    places, nobody = limited(1), threading.Event()
    assert places.take("a", nobody)
    assert places.take_for_proof("a", "queue", 1)
    assert not places.take_for_proof("b", "queue", 1)
    got, _ = taken(places, "z")
    places.leave("a")
    time.sleep(0.1)
    assert got == []  # the place is kept for the proof
    assert places.take_for_proof("b", "queue", 1)
    places.leave("b")
    until(got, ["z"])


def test_places_are_kept_for_no_proof_that_is_no_longer_wanted() -> None:
    places, nobody = limited(1), threading.Event()
    assert places.take("a", nobody)
    assert not places.take_for_proof("b", "queue", 1)
    got, _ = taken(places, "z")
    places.leave("a")
    places.want_no_proof("queue")
    until(got, ["z"])


def test_a_run_that_is_stopped_hands_out_no_more() -> None:
    places, stopped = limited(1), threading.Event()
    assert places.take("a", stopped)
    stopped.set()
    assert not places.take("b", stopped)


def test_whoever_waits_in_the_queue_is_reported_a_free_place() -> None:
    places, nobody = limited(1), threading.Event()
    told: list[str] = []
    places.freed.append(lambda: told.append("free"))
    assert places.take("a", nobody)
    places.leave("b")
    places.leave("a")
    assert told == ["free"]
