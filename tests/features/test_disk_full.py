"""A full disk is a reason to wait: exit 75, nothing lost, and a plain rerun goes on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import Repo, issue, small_disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BRANCH = "milestone/m1-test-m1"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Repo]:
    """A repository on a file system of 24 MiB."""
    with small_disk(tmp_path / "disk", 24) as disk:
        yield Repo(disk / "repo")


@pytest.fixture
def small_ext4(tmp_path: Path) -> Iterator[Repo]:
    """The same on an ext4, which takes a part of what has no room, as real disks do."""
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 24 << 20)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(disk)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("loop devices cannot be mounted here")
    try:
        yield Repo(disk / "repo")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def fill(repo: Repo, leave: int) -> Path:
    """Fill the disk but for some bytes."""
    path = repo.path.parent / "filler"
    facts = os.statvfs(repo.path)
    path.write_bytes(bytes(max(0, facts.f_bavail * facts.f_frsize - leave)))
    return path


def test_an_agent_that_fills_the_disk_costs_no_attempt_and_runs_again_when_there_is_room(small: Repo) -> None:
    ran = small.path.parent.parent / "ran"
    script = (
        f"echo x >> {ran}; if [ $(wc -l < {ran}) = 1 ]; then head -c 40000000 /dev/zero > big || exit 1; fi; echo a > a"
    )
    small.milestone("m1", issue("a", script) + issue("b", "echo b > b"))
    result = small.doit("milestone:m1").check(75)
    assert "free some space and run again" in result.err
    for path in (small.path / ".cache" / "m1" / "workspaces").rglob("big"):
        path.unlink()
    assert small.statuses()["m1/a"] == "pending"
    small.doit("milestone:m1").check()
    assert sorted(small.landed(BRANCH)) == ["a@1", "b@1"]
    assert small.attempts() == []


@pytest.mark.parametrize("leave", [0, 4_096, 65_536, 400_000, 1_000_000])
def test_a_run_on_a_full_disk_ends_with_75_and_changes_nothing(small: Repo, leave: int) -> None:
    small.milestone("m1", issue("a", "echo a > a"))
    small.commit("declare")
    small.doit("milestone:m1").check()
    small.milestone("m1", issue("a", "echo a > a") + issue("b", "head -c 300000 /dev/urandom > b.bin"))
    tip = small.git("rev-parse", BRANCH)
    filler = fill(small, leave)
    small.doit("milestone:m1").check(75)
    assert small.git("rev-parse", BRANCH) == tip
    assert small.attempts() == []
    filler.unlink()
    small.doit("milestone:m1").check()
    assert small.landed(BRANCH) == ["a@1", "b@1"]
    assert small.git("fsck", "--connectivity-only", "--no-dangling") == ""


def test_a_first_run_without_room_says_so(small: Repo) -> None:
    small.milestone("m1", issue("a", "echo a > a"))
    filler = fill(small, 0)
    assert small.doit("milestone:m1").check(75).err
    assert "disk-low" in {item["kind"] for item in small.doit("doctor", "--json").check(75).json}
    filler.unlink()
    small.doit("milestone:m1").check()


@pytest.mark.parametrize(
    "leave", [60_000, *(pytest.param(n * 36_000, marks=pytest.mark.campaign) for n in range(1, 29))]
)
def test_wherever_the_room_on_an_ext4_ends_nothing_is_lost(small_ext4: Repo, leave: int) -> None:
    repo = small_ext4
    more = "".join(issue(name, f"head -c 9000 /dev/urandom > {name}.bin") for name in "bcdefg")
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.commit("declare")
    repo.doit("milestone:m1").check()
    repo.milestone("m1", issue("a", "echo a > a") + more)
    filler = fill(repo, leave)
    result = repo.doit("milestone:m1")
    assert result.code in {0, 75}, f"{result.out}\n{result.err}"
    landed = repo.landed(BRANCH)
    filler.unlink()
    repo.doit("milestone:m1").check()
    assert repo.landed(BRANCH)[: len(landed)] == landed
    assert sorted(repo.landed(BRANCH)) == [f"{name}@1" for name in "abcdefg"]
    assert repo.git("fsck", "--connectivity-only", "--no-dangling") == ""
