"""Following a journal that somebody else writes, and telling who holds a milestone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from executor.errors import StateBrokenError
from executor.process.locks import read_holder, remove_holder, write_holder
from executor.state.journal import Journal, Limits
from executor.status.progress import Tail

if TYPE_CHECKING:
    from pathlib import Path


def opened(folder: Path, limits: Limits | None = None) -> Journal:
    return Journal.open(folder, run="r", now=lambda: "2026-01-01T00:00:00Z", boot="b", limits=limits)


def test_a_reader_gets_every_record_once_as_it_comes(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "m1")
    assert tail.read() == []
    journal = opened(tmp_path / "m1")
    assert tail.read() == []
    given = []
    for number in range(5):
        journal.append("checked", "a", number=number)
        given += tail.read()
        assert [event.data["number"] for event in given] == list(range(number + 1))
    journal.append("checked", "a", number=5)
    journal.append("checked", "a", number=6)
    assert [event.data["number"] for event in tail.read()] == [5, 6]
    assert tail.read() == []


def test_a_record_is_given_out_when_it_is_whole_wherever_it_was_cut(tmp_path: Path) -> None:
    journal = opened(tmp_path / "m1")
    journal.append("checked", "a", number=0)
    start = journal.path.stat().st_size
    journal.append("checked", "a", number=1)
    journal.close()
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:start])
    tail = Tail(tmp_path / "m1")
    assert len(tail.read()) == 1
    for cut in range(start + 1, len(whole)):
        journal.path.write_bytes(whole[:cut])
        assert tail.read() == []
    journal.path.write_bytes(whole)
    assert [event.data["number"] for event in tail.read()] == [1]


def test_a_new_segment_and_a_compaction_go_unnoticed(tmp_path: Path) -> None:
    folder = tmp_path / "m1"
    journal = opened(folder)
    tail = Tail(folder)
    for number in range(50):
        journal.append("retried", "a", after=number)
    assert len(tail.read()) == 50
    journal.close()
    journal = opened(folder, Limits(segment_bytes=1))
    journal.append("retried", "a", after=50)
    assert [event.data["after"] for event in tail.read()] == [50]
    journal.append("retried", "a", after=51)
    journal.close()
    journal = opened(folder, Limits(compact_bytes=1, compact_ratio=0.1))
    journal.append("retried", "a", after=52)
    assert tail.read()[-1].data["after"] == 52
    journal.append("retried", "a", after=53)
    assert [event.data["after"] for event in tail.read()] == [53]


def test_a_corrupt_journal_is_refused(tmp_path: Path) -> None:
    journal = opened(tmp_path / "m1")
    tail = Tail(tmp_path / "m1")
    journal.append("checked", "a", number=0)
    tail.read()
    first = journal.path.stat().st_size
    journal.append("checked", "a", number=1)
    journal.append("checked", "a", number=2)
    data = bytearray(journal.path.read_bytes())
    data[first + 30] ^= 1
    journal.path.write_bytes(data)
    with pytest.raises(StateBrokenError):
        tail.read()


def test_a_holder_is_alive_while_its_process_is(tmp_path: Path) -> None:
    assert read_holder(tmp_path) is None
    write_holder(tmp_path, "run-1", "2026-01-01T00:00:00Z")
    holder = read_holder(tmp_path)
    assert holder is not None
    assert (holder.pid, holder.run, holder.alive) == (os.getpid(), "run-1", True)
    remove_holder(tmp_path)
    assert read_holder(tmp_path) is None


def test_a_killed_holder_is_not_alive_whoever_gets_its_number(tmp_path: Path) -> None:
    write_holder(tmp_path, "run-1", "2026-01-01T00:00:00Z")
    value = json.loads((tmp_path / "holder.json").read_bytes())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        (tmp_path / "holder.json").write_text(json.dumps({**value, "pid": child.pid}))
        holder = read_holder(tmp_path)
        assert holder is not None
        assert not holder.alive
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is dead, but nobody has asked for its status
        assert not holder.alive
    assert not holder.alive


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', "\x00"])
def test_a_holder_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "holder.json").write_text(text)
    assert read_holder(tmp_path) is None
