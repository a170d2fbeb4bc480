"""Three journals cut off at every byte and with flipped bits, and every fault of every system call, counted."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from executor.state.record import Damage, Record, scan
from tests.state import test_journal as journal_tests
from tests.state.test_journal import FaultyDisk
from tests.state.test_record import events, lines_of
from tests.support import Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.campaign
RUNS: tuple[Any, ...] = (
    journal_tests.test_no_failing_call_loses_a_promised_record,
    journal_tests.test_no_crash_loses_a_promised_record,
    journal_tests.test_no_power_cut_takes_back_what_was_promised_or_seen_after_a_crash,
    journal_tests.test_a_crash_in_a_compaction_leaves_the_old_journal_or_the_new_one,
    journal_tests.test_a_power_cut_in_a_compaction_leaves_the_old_journal_or_the_new_one,
    journal_tests.test_a_failing_call_in_a_compaction_is_reported_and_loses_nothing,
    journal_tests.test_a_repair_that_ends_at_any_call_is_done_by_the_next_one,
)


def of_every_shape(_: Path) -> list[bytes]:
    """Thirty records with everything that JSON has."""
    return lines_of(events(30))


def of_a_run(folder: Path) -> list[bytes]:
    """What a milestone left of which one issue landed at once, one after a failure, and one failed."""
    repo = Repo(folder / "repo")
    twice = 'test "$EXECUTOR_ATTEMPT" != 1 && echo b > b'
    repo.write("rules/limits.toml", "attempts = 2\nbackoff_s = 0.0\n")
    repo.milestone("m1", issue("a", "echo a > a") + issue("b", twice) + issue("c", "false"))
    repo.doit("milestone:m1").check(1)
    return (repo.path / ".cache" / "m1" / "journal.000001.jsonl").read_bytes().splitlines(keepends=True)


def of_many_short_ones(_: Path) -> list[bytes]:
    """Fifty records of one field."""
    return lines_of(events(50, "run-2", varied=False))


SEEDS = 10
JOURNALS = (of_every_shape, of_a_run, of_many_short_ones)


@pytest.fixture(params=JOURNALS, ids=lambda made: made.__name__)
def lines(request: pytest.FixtureRequest, tmp_path: Path) -> list[bytes]:
    made: Callable[[Path], list[bytes]] = request.param
    return made(tmp_path)


def _values(mark: pytest.Mark) -> list[object]:
    return [None, *range(1, SEEDS)] if mark.args[0] == "seed" else list(mark.args[1])


def told(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


def test_cut_off_at_any_byte_exactly_the_whole_records_are_read(
    lines: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = b"".join(lines)
    facts = scan(whole).events
    ends = [0, *itertools.accumulate(map(len, lines))]
    records = 0
    for cut in range(len(whole) + 1):
        records += records < len(lines) and cut >= ends[records + 1]
        found = scan(whole[:cut])
        assert (found.events, found.good) == (facts[:records], ends[records]), cut
        assert found.damage is (Damage.NONE if cut == ends[records] else Damage.TORN), cut
    assert len(whole) >= 3_400
    told(capsys, f"{len(whole) + 1} cuts")


def test_any_flipped_bit_ends_what_is_read_before_its_record(
    lines: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = b"".join(lines)
    facts: list[Record] = scan(whole).events
    owner = [place for place, line in enumerate(lines) for _ in line]
    chance = random.Random(len(whole))  # noqa: S311  (no secret)
    flips = 0
    for at, bits in ((at, chance.sample(range(8), 3)) for at in range(len(whole))):
        for bit in bits:
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            found = scan(bytes(flipped))
            assert found.events == facts[: owner[at]], (at, bit)
            assert found.damage is not Damage.NONE, (at, bit)
            flips += 1
    assert flips >= 9_000
    told(capsys, f"{flips} flipped bits")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: what is synced is not what this is about."""
    shared = Path("/dev/shm")  # noqa: S108  (a name of our own)
    folder = shared / f"executor-faults-{os.getpid()}" if shared.is_dir() else tmp_path / "faults"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("share", range(2))
def test_two_thousand_failing_calls_lose_nothing(memory: Path, share: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Every test of the journal with such faults, all in one count; names that a power cut takes in more ways."""
    before = FaultyDisk.faults
    for number, test in enumerate(RUNS):
        marks = [mark for mark in test.pytestmark if mark.name == "parametrize"]
        names = [name for mark in marks for name in mark.args[0].split(",")]
        for place, values in enumerate(itertools.product(*(_values(mark) for mark in marks))):
            if place % 2 == share:
                folder = memory / f"{number}-{place}"
                folder.mkdir()
                test(folder, **dict(zip(names, values, strict=True)))
    faults = FaultyDisk.faults - before
    assert faults >= 1_000
    told(capsys, f"{faults} faults of system calls")
