"""Killed at random, robbed of `.cache`, out of disk: run again until done, and all is as it should be."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.replay import declare, pack, small_releases
from tests.support import Repo, small_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

BRANCH = "milestone/replay-replay"
PACKAGES = ("one", "two", "three", "four")
RELEASES = 6
TAG = "LC_EXECUTOR_STORY"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    with small_disk(tmp_path / "disk", 64) as folder:
        yield folder


def survivors(value: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"{TAG}={value}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.campaign)])
def test_killed_robbed_and_filled_up_it_still_ends_right(
    disk: Path, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = f"{os.getpid()}-{kills}"
    monkeypatch.setenv(TAG, value)
    repo = Repo(disk / "repo")
    packages = {
        name: [pack(files, disk.parent / f"{name}-{n}.tar") for n, files in enumerate(small_releases(name, RELEASES))]
        for name in PACKAGES
    }
    expected = declare(repo, packages, dict(zip(PACKAGES, ("patch", "script") * 2, strict=True)))
    path = repo.path / "milestones" / "replay.toml"
    path.write_text(path.read_text().replace('run = "', 'run = "sleep 0.3; '))
    repo.commit("declare")
    chance = random.Random(kills)  # noqa: S311  (no secret)
    for number in range(kills):
        run = repo.start("milestone:replay", "-n", "4", fork=False)
        time.sleep(chance.uniform(0.2, 0.9))
        run.kill()
        with run:
            pass
        if number in {kills // 3, 2 * kills // 3}:
            shutil.rmtree(repo.path / ".cache", ignore_errors=True)
        if number == kills // 2:
            facts = os.statvfs(repo.path)
            filler = disk / "filler"
            filler.write_bytes(bytes(max(0, facts.f_bavail * facts.f_frsize - 20_000)))
            assert repo.doit("milestone:replay", "-n", "4").code in {0, 75}
            filler.unlink()
    repo.doit("milestone:replay", "-n", "4").check()
    assert {name: repo.git("rev-parse", f"{BRANCH}:{name}") for name in expected} == expected
    assert sorted(repo.landed(BRANCH)) == sorted(f"{n}-{k}@1" for n in PACKAGES for k in range(1, RELEASES + 1))
    assert survivors(value) == []
    assert repo.git("fsck", "--connectivity-only", "--no-dangling") == ""
    assert list(repo.path.glob(".git/**/*.lock")) == []
    assert repo.git("worktree", "list").count("\n") == 0
    assert repo.git("status", "--porcelain") == ""
