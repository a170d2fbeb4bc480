"""How many start at once, how long going on takes, how fast a record is durable."""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING

import pytest

from executor.state.journal import Journal, Limits
from executor.state.record import Record, encode
from tests.support import Repo, issue

if TYPE_CHECKING:
    from pathlib import Path

NEEDS = {"m1/b": "sha256:" + "1" * 64}


def written(folder: Path, count: int) -> None:
    """A journal of so many records."""
    folder.mkdir(parents=True)
    lines, check = [], 0
    for number in range(1, count + 1):
        data = {"check_key": "sha256:" + "0" * 64, "needs": NEEDS, "revision": 1}
        fact = Record(number, "2026-01-01T00:00:00.000Z", "0f3c9a11", "run-1", "verified", f"i{number % 99}", data)
        lines.append(encode(fact, check))
        check = int(lines[-1][-11:-3], 16)
    (folder / "journal.000001.jsonl").write_bytes(b"".join(lines))


@pytest.mark.parametrize("count", [6, pytest.param(50, marks=pytest.mark.campaign)])
def test_of_many_runs_that_begin_at_once_one_owns_the_milestone(repo: Repo, count: int) -> None:
    ran = repo.path.parent / "ran"
    wait = f"echo x >> {ran}; i=0; while [ $i -lt 600 ] && [ ! -e {ran}.go ]; do sleep 0.1; i=$((i+1)); done"
    repo.milestone("m1", issue("a", f"{wait}; echo a > a"))
    runs = [repo.start("milestone:m1") for _ in range(count)]
    codes = []
    end = time.monotonic() + 200
    while sum(run.poll() is not None for run in runs) < count - 1:
        assert time.monotonic() < end, [run.poll() for run in runs]
        time.sleep(0.05)
    (repo.path.parent / "ran.go").touch()
    for run in runs:
        run.communicate(timeout=60)
        codes.append(run.wait())
    assert sorted(codes) == [0] + [75] * (count - 1)
    assert ran.read_text() == "x\n"
    assert repo.landed("milestone/m1-test-m1") == ["a@1"]


@pytest.mark.campaign
@pytest.mark.parametrize(("count", "most"), [(10_000, 0.5), (100_000, 2.0), (1_000_000, 10.0)])
def test_going_on_after_a_crash_does_not_take_long(
    tmp_path: Path, count: int, most: float, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "m1", count)
    with (tmp_path / "m1" / "journal.000001.jsonl").open("ab") as file:
        file.write(b'{"n":9')
    limits = Limits(compact_bytes=10**9, segment_bytes=10**9)
    begin = time.process_time()
    journal = Journal.open(tmp_path / "m1", run="run-2", now=lambda: "now", limits=limits)
    took = time.process_time() - begin
    journal.close()
    assert len(journal.events) == count
    with capsys.disabled():
        sys.stdout.write(f"\n{count} records and a torn one: opened in {took:.2f} s\n")
    assert took < most


@pytest.mark.campaign
def test_a_record_is_durable_in_a_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal.open(tmp_path / "m1", run="run-1", now=lambda: "now")
    took = []
    for number in range(3000):
        begin = time.perf_counter()
        journal.append("verified", f"i{number}", check_key="k", needs=NEEDS, revision=1)
        took.append(time.perf_counter() - begin)
    journal.close()
    marks = statistics.quantiles(took, n=100)
    rate, half, most = len(took) / sum(took), marks[49] * 1000, marks[98] * 1000
    with capsys.disabled():
        sys.stdout.write(f"\nappend: {rate:.0f}/s, median {half:.2f} ms, p99 {most:.2f} ms\n")
    assert marks[49] < 0.005


@pytest.mark.campaign
def test_going_on_by_the_command_line_after_ten_thousand_records(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    written(repo.path / ".cache" / "m1", 10_000)
    begin = time.monotonic()
    repo.doit("milestone:m1").check()
    assert time.monotonic() - begin < 20
