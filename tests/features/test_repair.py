"""A journal that something other than a crash has damaged is refused, shown and repaired; nothing lands twice."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import Repo, Result, issue

if TYPE_CHECKING:
    from pathlib import Path

BRANCH = "milestone/m1-test-m1"
ISSUES = ("a", "b", "c")
BODY = "".join(issue(name, f"echo {name} > {name}.txt") for name in ISSUES)


def state(repo: Repo) -> Path:
    return repo.path / ".cache" / "m1"


def segment(repo: Repo) -> Path:
    return state(repo) / "journal.000001.jsonl"


def damage(repo: Repo, record: int) -> int:
    """Change a byte in the middle of a record; where the record begins."""
    lines = segment(repo).read_bytes().splitlines(keepends=True)
    offset = sum(map(len, lines[: record - 1]))
    data = bytearray(segment(repo).read_bytes())
    data[offset + len(lines[record - 1]) // 2] ^= 4
    segment(repo).write_bytes(bytes(data))
    return offset


def landed(repo: Repo) -> int:
    """Run it all; how many records that made."""
    repo.milestone("m1", BODY)
    repo.commit("declare")
    repo.doit("milestone:m1").check()
    return segment(repo).read_bytes().count(b"\n")


def is_clean(result: Result) -> bool:
    return "Traceback" not in result.out + result.err


def test_a_damaged_journal_is_refused_shown_repaired_and_gone_on_with(repo: Repo) -> None:
    records = landed(repo)
    tip, bad = repo.git("rev-parse", BRANCH), records // 2
    offset = damage(repo, bad)
    wrong = segment(repo).read_bytes()

    for command in ("list", "milestone:m1", "status"):
        refused = repo.doit(command).check(74)
        assert f"record {bad} at byte {offset} is damaged" in refused.err
        assert f"`doit repair m1 --to {bad - 1}`" in refused.err
        assert is_clean(refused)
    assert segment(repo).read_bytes() == wrong

    shown = repo.doit("repair", "m1").check().out
    for part in (str(segment(repo)), f"{bad}, at byte {offset}", f"doit repair m1 --to {bad - 1}"):
        assert part in shown
    assert f"{len(wrong) - offset} bytes of journal.000001.jsonl" in shown
    assert segment(repo).read_bytes() == wrong

    done = repo.doit("repair", "m1", "--to", str(bad - 1)).check()
    assert f"records 1 to {bad - 1} are kept" in done.out
    [aside] = state(repo).glob("journal.corrupt.*")
    assert str(aside) in done.out
    assert segment(repo).read_bytes() + aside.read_bytes() == wrong

    assert repo.doit("list").check().out == "nothing is pending: 3 of 3 issues have landed\n"
    repo.doit("milestone:m1").check()
    assert repo.git("rev-parse", BRANCH) == tip
    assert sorted(repo.landed(BRANCH)) == ["a@1", "b@1", "c@1"]
    assert "nothing to do" in repo.doit("milestone:m1").check().out
    assert repo.doit("repair", "m1").check().out == "the journal of m1 is intact; there is nothing to repair\n"


@pytest.mark.parametrize("to", ["0", "1", "half"])
def test_nothing_lands_twice_wherever_a_journal_is_cut(repo: Repo, to: str) -> None:
    records = landed(repo)
    tip = repo.git("rev-parse", BRANCH)
    damage(repo, records - 1)
    kept = records // 2 if to == "half" else int(to)
    repo.doit("repair", "m1", "--to", str(kept)).check()
    repo.doit("milestone:m1").check()
    assert repo.git("rev-parse", BRANCH) == tip
    repo.milestone("m1", BODY + issue("d", "echo d > d.txt"))
    repo.doit("milestone:m1").check()
    assert sorted(repo.landed(BRANCH)) == ["a@1", "b@1", "c@1", "d@1"]
    assert repo.git("fsck", "--connectivity-only", "--no-dangling") == ""
    numbers = [json.loads(line)["n"] for line in segment(repo).read_bytes().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_board_that_was_kept_does_not_hide_a_damaged_journal(repo: Repo) -> None:
    records = landed(repo)
    repo.doit("list").check()
    damage(repo, records // 2)
    repo.doit("list").check(74)
    (state(repo) / "journal.000003.jsonl").write_bytes(segment(repo).read_bytes())
    refused = repo.doit("list").check(74)
    assert "doit repair m1" in refused.err


def test_a_missing_segment_is_named_and_repaired(repo: Repo) -> None:
    records = landed(repo)
    (state(repo) / "journal.000003.jsonl").write_bytes(b"")
    refused = repo.doit("milestone:m1").check(74)
    assert f"{state(repo) / 'journal.000002.jsonl'}: it is missing" in refused.err
    assert f"doit repair m1 --to {records}" in refused.err
    repo.doit("repair", "m1", "--to", str(records)).check()
    assert "nothing to do" in repo.doit("milestone:m1").check().out


def test_a_repair_waits_for_nobody_and_says_who_runs_the_milestone(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a.txt; sleep 20"))
    repo.commit("declare")
    run = repo.start("milestone:m1")
    try:
        deadline = time.monotonic() + 20
        while not (segment(repo).exists() and b"attempt-started" in segment(repo).read_bytes()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        before = segment(repo).read_bytes()
        busy = repo.doit("repair", "m1", "--to", "1").check(75)
        assert f"milestone m1 is already being run by process {run.pid}" in busy.err
        assert segment(repo).read_bytes() == before
        assert "is intact" in repo.doit("repair", "m1").check().out
    finally:
        run.terminate()
        run.communicate(timeout=30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("m1", "m2"), "name one milestone"),
        (("m9",), "m9"),
        (("m1", "--to", "-1"), "--to -1: expected the number of a record"),
        (("m1", "--to", "x"), "--to x: expected the number of a record"),
        (("m1", "--to", "99"), "can be kept up to record 1 to "),
        (("m1", "--frm", "3"), "--frm"),
    ],
)
def test_a_wrong_repair_is_refused_and_changes_nothing(repo: Repo, arguments: tuple[str, ...], message: str) -> None:
    damage(repo, landed(repo) - 1)
    before = segment(repo).read_bytes()
    refused = repo.doit("repair", *arguments).check(3)
    assert message in refused.err
    assert is_clean(refused)
    assert segment(repo).read_bytes() == before
    assert list(state(repo).glob("journal.corrupt.*")) == []


def test_a_whole_journal_is_not_cut(repo: Repo) -> None:
    landed(repo)
    before = segment(repo).read_bytes()
    assert "is intact; there is nothing to repair" in repo.doit("repair", "m1", "--to", "2").check(3).err
    assert segment(repo).read_bytes() == before


def test_a_journal_of_a_newer_version_is_shown_and_not_repaired(repo: Repo) -> None:
    landed(repo)
    newer = segment(repo).read_bytes().replace(b'"v":1', b'"v":2', 1)
    segment(repo).write_bytes(newer)
    assert "a newer version of the executor wrote it" in repo.doit("repair", "m1").check().out
    assert "newer version" in repo.doit("repair", "m1", "--to", "0").check(74).err
    assert segment(repo).read_bytes() == newer


def test_a_milestone_that_never_ran_has_nothing_to_repair(repo: Repo) -> None:
    repo.milestone("m1", BODY)
    assert "is intact" in repo.doit("repair", "milestone:m1").check().out
    assert not os.path.lexists(segment(repo))
