"""The lease of a run: two machines never lead a milestone at once, and the one that wakes late moves nothing."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from executor.cluster.exchange import SPACES, Board
from executor.cluster.lead import Led, Pace, left_over
from executor.cluster.orders import Entry, Lease, Order, State, entry_of
from executor.errors import BusyError, ForgeRefusedError, ForgeUnavailableError, TakenOverError
from executor.git.command import Identity, Repository
from executor.git.objects import Store
from executor.git.refs import Move, Refs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHO = Identity("coordinator", "coordinator@localhost")
HELD = Lease("m", 1, "here/run", "box")


@pytest.mark.parametrize(
    ("lease", "beats", "silence", "asked", "expected"),
    [
        (None, 0, 0.0, False, Entry.BEGIN),
        (HELD, 0, 0.0, False, Entry.WAIT),
        (HELD, 0, 29.9, False, Entry.WAIT),
        (HELD, 0, 30.0, False, Entry.BEGIN),
        (HELD, 1, 0.0, False, Entry.BUSY),
        (HELD, 1, 99.0, False, Entry.BUSY),
        (HELD, 1, 0.0, True, Entry.BEGIN),
        (HELD, 0, 0.0, True, Entry.BEGIN),
        (Lease("m", 1, "mine/run", "box"), 0, 0.0, False, Entry.BEGIN),
        (Lease("m", 1, "mine", "box"), 0, 0.0, False, Entry.BEGIN),
        (Lease("m", 1, "minetoo/run", "box"), 0, 0.0, False, Entry.WAIT),
        (Lease("m", 1, "here/run", "box", state=State.DONE), 0, 0.0, False, Entry.BEGIN),
    ],
)
def test_a_run_begins_where_nobody_leads_or_the_leader_is_dead(
    lease: Lease | None, beats: int, silence: float, asked: bool, expected: Entry
) -> None:
    assert entry_of(lease, "mine", beats=beats, silence=silence, patience=30.0, asked=asked) is expected


class Machines:
    """A bare remote with a branch, and clones that lead."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.origin = folder, folder / "origin.git"
        self.git("init", "-q", "--bare", str(self.origin))
        self.lost: list[TakenOverError] = []
        self.stopping = threading.Event()
        self._stores: list[Store] = []
        self._led: list[Led] = []

    def git(self, *words: str) -> str:
        return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()

    def led(self, name: str, *, beat: float = 60.0, silence: float = 60.0, unreachable: float = 0.0) -> Led:
        folder = self.folder / name
        if not folder.is_dir():
            self.git("init", "-q", "--bare", str(folder))
        place = Repository(folder, folder, folder)
        self._stores.append(Store(place, folder / "neutral"))
        made = Led(
            place,
            str(self.origin),
            "",
            refs=Refs(place, WHO),
            objects=self._stores[-1],
            who=WHO,
            pace=Pace(beat, silence, unreachable),
            stopping=self.stopping,
            lost=self.lost.append,
        )
        self._led.append(made)
        return made

    def begin(self, led: Led, name: str, *, asked: bool = False) -> list[str]:
        return led.begin(["m"], f"run-of-{name}", lambda _: self.folder / name, asked=asked)

    def commit(self, text: str, led: int = 0) -> str:
        store = self._stores[led]
        return store.commit(store.files_tree({"a": text.encode()}), [], text, WHO, 1_700_000_000)

    def refs(self) -> dict[str, str]:
        lines = self.git("-C", str(self.origin), "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.rsplit(" ", 1) for line in lines)

    def hook(self, text: str) -> None:
        path = self.origin / "hooks" / "pre-receive"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def close(self) -> None:
        self.stopping.set()
        for led in self._led:
            led.end()
        for store in self._stores:
            store.close()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path)
    yield made
    made.close()


def test_each_push_moves_the_lease_and_the_end_leaves_no_ref(machines: Machines) -> None:
    one = machines.led("one")
    assert machines.begin(one, "one") == []
    before = machines.refs()
    assert list(before) == ["refs/work/runs/m"]
    commit = machines.commit("one")
    assert one.push([Move("refs/heads/b", None, commit)]).ok
    after = machines.refs()
    assert after["refs/heads/b"] == commit
    assert after["refs/work/runs/m"] != before["refs/work/runs/m"]
    done = one.push([Move("refs/heads/b", None, machines.commit("two"))])  # the branch has moved, the lease is held
    assert (done.ok, done.moved) == (False, True)
    assert machines.refs() == after
    one.end()
    assert list(machines.refs()) == ["refs/heads/b"]


def test_a_leader_that_was_taken_over_moves_nothing_and_says_by_whom(machines: Machines) -> None:
    one, two = machines.led("one"), machines.led("two")
    machines.begin(one, "one")
    told = machines.begin(two, "two", asked=True)
    assert len(told) == 1
    assert "run-of-one" in told[0]
    before = machines.refs()
    for moves, atomic in (
        ([Move("refs/heads/b", None, machines.commit("late"))], True),
        ([Move("refs/heads/b", None, machines.commit("late"))] * 2, False),
        ([], True),
    ):
        with pytest.raises(TakenOverError, match="run-of-two"):
            one.push(moves, atomic=atomic)
    assert machines.refs() == before
    assert len(machines.lost) == 1
    one.end()
    assert machines.refs() == before
    two.end()
    assert machines.refs() == {}
    with pytest.raises(TakenOverError):
        one.push([])


def test_a_living_leader_is_waited_for_no_longer_than_one_beat_and_a_silent_one_is_taken_over(
    machines: Machines,
) -> None:
    one, two = machines.led("one", beat=0.2), machines.led("two", silence=60.0)
    machines.begin(one, "one")
    begun = time.monotonic()
    with pytest.raises(BusyError, match="run-of-one"):
        machines.begin(two, "two")
    assert time.monotonic() - begun < 30
    one._ended.set()  # it is killed
    one._beats.join()
    three = machines.led("three", silence=1.0)
    assert len(machines.begin(three, "three")) == 1
    four = machines.led("three", silence=60.0)  # the same clone after a crash: its lock says that the run is dead
    begun = time.monotonic()
    assert machines.begin(four, "three") == []
    assert time.monotonic() - begun < 30
    with pytest.raises(TakenOverError):
        three.push([])


def test_of_many_machines_that_begin_at_once_one_leads(machines: Machines) -> None:
    leds = {f"host{number}": machines.led(f"host{number}", beat=0.3, silence=60.0) for number in range(6)}
    results: dict[str, bool] = {}

    def begin(name: str) -> None:
        try:
            machines.begin(leds[name], name)
            results[name] = True
        except BusyError:
            results[name] = False

    threads = [threading.Thread(target=begin, args=(name,)) for name in leds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results.values()) == [False] * 5 + [True]


def test_a_push_without_an_answer_is_made_once(machines: Machines) -> None:
    one = machines.led("one", unreachable=30.0)
    machines.begin(one, "one")
    commit = machines.commit("one")
    # the remote takes the push, and the connection dies before the answer arrives
    hook = machines.origin / "hooks" / "post-update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\nrm -f "$0"\nkill -9 $PPID\n')
    hook.chmod(0o755)
    assert one.push([Move("refs/heads/b", None, commit)]).ok
    assert machines.refs()["refs/heads/b"] == commit
    last = machines.commit("two")
    assert one.push([Move("refs/heads/b", commit, last)]).ok
    # the remote is away when it is asked whether the push arrived
    one._pace = Pace(unreachable=0.1)
    hook.write_text('#!/bin/sh\nrm -f "$0"\nmv "$PWD" "$PWD.away"\nkill -9 $PPID\n')
    hook.chmod(0o755)
    with pytest.raises((ForgeUnavailableError, ForgeRefusedError)):
        one.push([Move("refs/heads/b", last, commit)])
    machines.origin.with_name(f"{machines.origin.name}.away").rename(machines.origin)
    assert one.push([Move("refs/heads/c", None, commit)]).ok
    assert machines.refs()["refs/heads/b"] == commit
    assert not machines.lost


def test_a_remote_that_cannot_be_reached_for_a_time_is_tried_again(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    off, ssh = tmp_path / "off", tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\n[ -e "{off}" ] && {{ echo "ssh: connect to host box: Connection refused" >&2; exit 255; }}\n'
        'shift $(($# - 1))\nexec sh -c "$1"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    one = machines.led("one", unreachable=30.0)
    one.name = f"ssh://box{machines.origin}"
    machines.begin(one, "one")
    off.touch()
    threading.Timer(1.0, off.unlink).start()
    assert one.push([Move("refs/heads/b", None, machines.commit("one"))]).ok
    off.touch()
    threading.Timer(1.0, off.unlink).start()
    assert "refs/heads/b" in one.tips("refs/heads/*")
    one._pace = Pace(unreachable=0.1)
    off.touch()
    with pytest.raises(ForgeUnavailableError, match="Connection refused"):
        one.push([])
    off.unlink()
    assert one.push([]).ok
    assert not machines.lost


@pytest.mark.parametrize("shared", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_remote_that_takes_only_branches_gets_the_lease_as_a_branch(machines: Machines, shared: bool) -> None:
    machines.hook('while read old new ref; do case "$ref" in refs/heads/*) ;; *) echo "no"; exit 1;; esac; done')
    for setting in ("receive.denyNonFastForwards", "receive.denyDeletes") if shared else ():
        machines.git("-C", str(machines.origin), "config", setting, "true")
    one, two = machines.led("one"), machines.led("two", silence=60.0)
    machines.begin(one, "one")
    assert list(machines.refs()) == ["refs/heads/_work/runs/m"]
    assert one.push([Move("refs/heads/b", None, machines.commit("one"))]).ok
    assert one.push([]).ok
    assert len(machines.begin(two, "two", asked=True)) == 1
    with pytest.raises(TakenOverError):
        one.push([])
    two.end()
    left = {"refs/heads/b", *(["refs/heads/_work/runs/m"] if shared else [])}
    assert set(machines.refs()) == left
    again = machines.led("three", silence=60.0)
    begun = time.monotonic()
    assert machines.begin(again, "three") == []  # the lease says that its run is over
    assert time.monotonic() - begun < 30


def order(name: str) -> tuple[Order, str, str]:
    return Order(name, "0" * 40, ("true",)), "o", SPACES[0]


@pytest.mark.parametrize(
    ("refs", "held", "age", "landed", "expected"),
    [
        (["orders/m/a/1", "leases/m/a/1", "results/m/a/1/1"], False, 60.0, False, {"m/a/1": False}),
        (["orders/m/a/1", "leases/m/a/1", "results/m/a/1/1"], False, 60.0, True, {"m/a/1": True}),
        (["orders/m/a/1"], False, 9e6, False, {"m/a/1": True}),
        (["leases/m/a/1"], False, 60.0, False, {"m/a/1": True}),
        (["runs/m", "orders/m/a/1"], True, 60.0, True, {}),
        (["runs/m", "orders/m/a/1"], True, 900.0, False, {"m": False, "m/a/1": False}),
        (["runs/m"], True, 9e4, False, {"m": True}),
        (["runs/m"], False, 60.0, False, {"m": True}),
        (["other"], False, 9e6, True, {"refs/work/other": False}),
    ],
)
def test_refs_that_no_run_owns_are_named_and_removed_once_nobody_needs_them(
    refs: list[str], held: bool, age: float, landed: bool, expected: dict[str, bool]
) -> None:
    board = Board(
        orders={"m/a/1": order("m/a/1")} if "orders/m/a/1" in refs else {},
        strange={f"refs/work/{name}": "it is not a ref of work orders" for name in refs if name == "other"},
    )
    state = State.HELD if held else State.DONE
    leaders = {"m": Lease("m", 1, "c/r", "box", state=state)} if "runs/m" in refs else {}
    tips = {f"refs/work/{name}": "c" for name in refs}
    found = left_over(tips, board, leaders, age=lambda _: age, landed=lambda _: landed, days=30)
    assert {item.name: item.removable for item in found} == expected
