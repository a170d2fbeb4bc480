"""The power fails at any effect of a run: what was acknowledged is there, and the next run finishes the rest.

The whole pipeline works on an ext4 of its own on a loop device, which is told to drop what was not synced
(FS_IOC_SHUTDOWN) after every process was stopped. As after a real power cut, the next run finds another boot id. The
control is the same with git's own default of what it syncs.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from executor.state import segments
from tests.reliability.hatchery import Cut, Point
from tests.reliability.test_queue_killed import NAMES, STEPS
from tests.reliability.test_queue_killed import RUN as QUEUED
from tests.reliability.world import BRANCH, World, assert_done, copied, template

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.reliability.conftest import Templates
    from tests.reliability.hatchery import Hatched, Hatchery

ISSUES = "d"
MEGABYTES = 48
RUN = ("milestone:m1", "-n", "1")
SHARES = 8
LAZY = '#!/bin/sh\nexec {git} -c core.fsync=default "$@"\n'


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """The file system in an image, for the length of the block; skips where that is not allowed."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"loop devices cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        end = time.monotonic() + 30
        while subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode != 0:
            assert time.monotonic() < end, f"{folder} is busy"  # processes that were killed go away in a moment
            time.sleep(0.01)
        while subprocess.run(["losetup", "-j", str(image)], capture_output=True, check=True).stdout:
            assert time.monotonic() < end, f"{image} is in use"  # mounted again it would be the one that was cut off
            time.sleep(0.01)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ext4 with a milestone that is not begun."""
    return made_in(tmp_path_factory.mktemp("image"), ISSUES)


def made_in(folder: Path, names: str, *, mode: str = "") -> Path:
    """An image of an ext4 with a milestone of these issues; skips where file systems cannot be made."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("file systems cannot be made and mounted here")
    path = folder / "image"
    path.touch()
    os.truncate(path, MEGABYTES << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(path)], check=True)
    with mounted(path, folder / "disk") as disk:
        template(disk / "repo", names, mode=mode)
    return path


class Trials:
    """Power cuts, each on a fresh disk."""

    names, line = ISSUES, RUN
    of: tuple[str, ...] = ()

    def __init__(self, hatchery: Hatchery, image: Path, folder: Path) -> None:
        self.hatchery, self.image, self.folder = hatchery, image, folder
        self.disk = folder / "disk"
        self.env = {"LC_RAN": str(folder / "ran")}
        self.cuts = 0

    @property
    def repo(self) -> World:
        return World(self.disk / "repo", self.names)

    def effects(self) -> int:
        """How many effects a run has."""
        with self._disk():
            found = self._run(watch=True).check().effects
            return sum(not self.of or name.startswith(self.of) for name in found)

    def cut_at(self, *points: int) -> None:
        """Cut the power of one run after the other, look at what is left, then run until done."""
        image = self._image()
        told = []
        for place, nth in enumerate(points):
            with mounted(image, self.disk):
                ended = self._run(Cut(nth, self.disk, self.of), boot=place)
            if ended.code != -9:
                break
            self.cuts += 1
            told.append(f"power cut before {ended.effects[-1]} ({nth})")
            with mounted(image, self.disk):
                assert self._violations(ended) == [], told
        with mounted(image, self.disk):
            ended = self._run(boot=len(points))
            assert ended.code == 0, f"{told}\n{ended.out}"
            try:
                assert_done(self.repo, idle="nothing to do" in ended.out, restarted=True)
            except AssertionError as error:
                raise AssertionError(f"{told}\n{ended.out}\n{error}") from error

    def lost_at(self, nth: int) -> list[str]:
        """What is wrong after a power cut, without running again."""
        image = self._image()
        with mounted(image, self.disk):
            ended = self._run(Cut(nth, self.disk))
        if ended.code != -9:
            return []
        self.cuts += 1
        with mounted(image, self.disk):
            return self._violations(ended)

    def _violations(self, ended: Hatched) -> list[str]:
        """Promises that the disk does not keep: records that were acknowledged, and what the records say is done."""
        repo = self.repo
        events = segments.read(repo.path / ".cache" / "m1")
        own = [event for event in events if event.run == events[-1].run] if events else []
        found = []
        acknowledged = [name for name in ended.effects[:-1] if name.startswith("record ") and name.endswith("fsync")]
        if len(own) < len(acknowledged):
            found.append(f"{len(acknowledged)} records were acknowledged, {len(own)} are there")
        history = repo.git("rev-list", "--first-parent", BRANCH, check=False).split()
        for event in events:
            commit = event.data.get("commit", "")
            if event.kind == "landed" and commit not in history:
                found.append(f"{event.key}: {commit} is not on the branch, but {event.kind}")
            elif event.kind in {"attempt-built", "attempt-failed"} and commit:
                if repo.git("rev-list", "--objects", "--quiet", commit, check=False) or self._broken(commit):
                    found.append(f"{event.key}: {commit} is not whole, but {event.kind}")
            elif event.kind == "branch-created" and not history:
                found.append("the branch is not there, but created")
        return found

    def _broken(self, commit: str) -> bool:
        done = subprocess.run(
            ["git", "rev-list", "--objects", "--quiet", commit], cwd=self.repo.path, capture_output=True, check=False
        )
        return done.returncode != 0

    def _run(self, cut: Cut | None = None, *, watch: bool = False, boot: int = 0) -> Hatched:
        path = self.folder / f"boot-{boot}"
        path.write_text(f"{boot:08x}-0000-4000-8000-000000000000\n")
        return self.hatchery.run(self.repo.path, *self.line, cut=cut, watch=watch, env=self.env, boot=path)

    def _image(self) -> Path:
        target = self.folder / "image"
        subprocess.run(["cp", "--sparse=always", str(self.image), str(target)], check=True)
        return target

    @contextmanager
    def _disk(self) -> Iterator[None]:
        with mounted(self._image(), self.disk):
            yield


@pytest.fixture
def trials(hatchery: Hatchery, image: Path, tmp_path: Path) -> Trials:
    return Trials(hatchery, image, tmp_path)


@pytest.fixture
def lazy(trials: Trials) -> Trials:
    """The same with a git that syncs what git syncs when nobody asks for more."""
    folder = trials.folder / "bin"
    folder.mkdir()
    (folder / "git").write_text(LAZY.format(git=shutil.which("git")))
    (folder / "git").chmod(0o755)
    trials.env["PATH"] = f"{folder}:{os.environ['PATH']}"
    return trials


def test_a_power_cut_takes_nothing_back_that_was_acknowledged(trials: Trials) -> None:
    most = trials.effects()
    chance = random.Random(3)  # noqa: S311  (no secret)
    for nth in chance.sample(range(most // 8, most + 1), 6):
        trials.cut_at(nth)
    assert trials.cuts >= 5


def test_with_the_default_of_git_a_power_cut_does_take_something_back(lazy: Trials) -> None:
    most = lazy.effects()
    chance = random.Random(3)  # noqa: S311  (no secret)
    points = [chance.randrange(most // 2, most) for _ in range(4)]
    assert any(lazy.lost_at(nth) for nth in points)


class QueueTrials(Trials):
    """The same for a queue in which several results wait, at what the queue does."""

    names, line = NAMES, QUEUED
    of: tuple[str, ...] = STEPS


@pytest.fixture(scope="module")
def queue_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_in(tmp_path_factory.mktemp("queue"), NAMES, mode="batch")


def test_a_power_cut_while_a_batch_lands_takes_nothing_back(
    hatchery: Hatchery, queue_image: Path, tmp_path: Path
) -> None:
    trials = QueueTrials(hatchery, queue_image, tmp_path)
    trials.of = ("record landing", "_advance", "record landed")
    trials.cut_at(random.Random(4).randrange(1, 6))  # noqa: S311  (no secret)
    assert trials.cuts == 1


@pytest.mark.campaign
@pytest.mark.parametrize("share", range(2))
def test_power_cuts_at_every_second_step_of_the_queue_take_nothing_back(
    hatchery: Hatchery, queue_image: Path, tmp_path: Path, share: int
) -> None:
    trials = QueueTrials(hatchery, queue_image, tmp_path)
    places = range(1 + share, trials.effects() + 1, 4)
    for nth in places:
        trials.cut_at(nth)
    assert trials.cuts > len(places) * 0.8


@pytest.mark.skipif(os.geteuid() != 0, reason="another boot id cannot be shown here")
def test_after_a_restart_a_torn_index_keeps_nobody_from_going_on(
    hatchery: Hatchery, templates: Templates, in_memory: Path
) -> None:
    repo = copied(templates("a"), in_memory / "repo")
    boots = [in_memory / name for name in ("before", "after")]
    for number, boot in enumerate(boots):
        boot.write_text(f"{number:08x}-0000-4000-8000-000000000000\n")
    env = {"LC_RAN": str(in_memory / "ran")}
    effects = hatchery.run(copied(repo, in_memory / "other").path, *RUN, watch=True, env=env).check().effects
    nth = next(place for place, name in enumerate(effects, 1) if "git ls-files" in name)
    hatchery.run(repo.path, *RUN, kill=Point(nth), env=env, boot=boots[0]).check(-9)
    index = repo.path / ".cache" / "m1" / "workspaces" / "0" / "tree.index"
    index.write_bytes(index.read_bytes()[:10])
    hatchery.run(repo.path, *RUN, env=env, boot=boots[1]).check()
    assert_done(repo, restarted=True)


@pytest.mark.campaign
@pytest.mark.parametrize("share", range(SHARES))
def test_power_cuts_at_effects_everywhere_take_nothing_back(trials: Trials, share: int) -> None:
    most = trials.effects()
    chance = random.Random(share)  # noqa: S311  (no secret)
    for nth in range(1 + share, most + 1, SHARES):
        trials.cut_at(nth, *(chance.randrange(1, most) for _ in range(chance.random() < 0.3)))
    assert trials.cuts >= most // SHARES
