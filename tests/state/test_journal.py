from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import stat
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import pytest

from executor.doctor.consistency import cut
from executor.errors import ExecutorError, StateBrokenError, StateFullError, UsageError
from executor.process.files import JOURNAL, NO_SPACE, journal_stamp, segments, stamp
from executor.state.fold import fold
from executor.state.journal import Disk, Journal, Limits
from executor.state.record import Record, decode, encode, scan
from executor.state.segments import inspect, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyfakefs.fake_filesystem import FakeFilesystem

T = TypeVar("T")

NAME = "journal.000001.jsonl"
BALLAST = "journal.ballast"
MEBIBYTE = 1024 * 1024
CALLS = ("open", "write", "fsync", "truncate", "fsync_dir")
NAMING = ("rename", "unlink", "mkdir")
TORN = b'{"n":6'


class Crash(BaseException):
    """The process ends here."""


class FaultyDisk(Disk):
    """Fails the n-th of the named calls, and all later ones if it is persistent, before, halfway or after its work."""

    faults: ClassVar = 0
    """How many disks of this process have failed."""

    def __init__(self, calls: Iterable[str], nth: int, failure: BaseException, when: str, *, persistent: bool) -> None:
        self.calls, self.nth, self.failure, self.when, self.persistent = set(calls), nth, failure, when, persistent
        self.seen = 0
        self.fired = self.healed = False

    def open(self, path: Path, flags: int) -> int:
        return self._step("open", lambda: super(FaultyDisk, self).open(path, flags))

    def write(self, descriptor: int, data: bytes) -> int:
        def half() -> int:
            return super(FaultyDisk, self).write(descriptor, data[: len(data) // 2])

        return self._step("write", lambda: super(FaultyDisk, self).write(descriptor, data), half)

    def fsync(self, descriptor: int) -> None:
        self._step("fsync", lambda: super(FaultyDisk, self).fsync(descriptor))

    def truncate(self, descriptor: int, size: int) -> None:
        self._step("truncate", lambda: super(FaultyDisk, self).truncate(descriptor, size))

    def fsync_dir(self, folder: Path) -> None:
        self._step("fsync_dir", lambda: super(FaultyDisk, self).fsync_dir(folder))

    def rename(self, old: Path, new: Path) -> None:
        self._step("rename", lambda: super(FaultyDisk, self).rename(old, new))

    def unlink(self, path: Path) -> None:
        self._step("unlink", lambda: super(FaultyDisk, self).unlink(path))

    def mkdir(self, folder: Path) -> None:
        self._step("mkdir", lambda: super(FaultyDisk, self).mkdir(folder))

    def _step(self, name: str, work: Callable[[], T], half: Callable[[], T] | None = None) -> T:
        self.seen += name in self.calls
        due = self.seen == self.nth or (self.persistent and self.seen > self.nth)
        if name not in self.calls or not due or self.healed:
            return work()
        FaultyDisk.faults += not self.fired
        self.fired = True
        if self.when == "after":
            work()
        elif self.when == "half" and half is not None:
            half()
        raise self.failure


class VolatileDisk(FaultyDisk):
    """Forgets at a power cut what was not synced."""

    def __init__(self, path: Path, calls: Iterable[str], nth: int, when: str) -> None:
        super().__init__(calls, nth, Crash(), when, persistent=False)
        self.path = path
        self.durable = b""
        self.named = False

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        if os.fstat(descriptor).st_ino == self.path.stat().st_ino:
            self.durable = self.path.read_bytes()

    def fsync_dir(self, folder: Path) -> None:
        super().fsync_dir(folder)
        self.named = self.path.exists()

    def cut_power(self) -> None:
        if self.named:
            self.path.write_bytes(self.durable)
        else:
            self.path.unlink(missing_ok=True)


class SmallDisk(Disk):
    """Has room for so many bytes in one folder."""

    def __init__(self, folder: Path, room: int) -> None:
        self.folder, self.room = folder, room

    def write(self, descriptor: int, data: bytes) -> int:
        free = self.room - sum(path.stat().st_size for path in self.folder.iterdir())
        if free <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(descriptor, data[:free])


class WitnessDisk(Disk):
    """Remembers which call was made on which file, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def write(self, descriptor: int, data: bytes) -> int:
        self._note("write", descriptor)
        return super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self._note("fsync", descriptor)
        super().fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        self._note("truncate", descriptor)
        super().truncate(descriptor, size)

    def fsync_dir(self, folder: Path) -> None:
        self.calls.append(("fsync_dir", folder.name))
        super().fsync_dir(folder)

    def _note(self, call: str, descriptor: int) -> None:
        self.calls.append((call, Path(f"/proc/self/fd/{descriptor}").readlink().name))


class ForgetfulDisk(FaultyDisk):
    """Forgets at a power cut every content that was not synced, and all or some names whose folder was not."""

    def __init__(self, folder: Path, calls: Iterable[str], nth: int, when: str) -> None:
        super().__init__(calls, nth, Crash(), when, persistent=False)
        self.folder = folder
        self.held: list[int] = []
        self.contents: dict[int, bytes] = {}
        self.names: dict[Path, dict[str, int]] = {}
        for place in (folder, folder / "archive"):
            if place.is_dir():
                self.names[place] = self._named(place)
                self.contents.update(
                    (path.stat().st_ino, path.read_bytes()) for path in place.iterdir() if path.is_file()
                )

    def open(self, path: Path, flags: int) -> int:
        descriptor = super().open(path, flags)
        self.held.append(os.dup(descriptor))  # so that no other file gets its inode number
        return descriptor

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        self.contents[os.fstat(descriptor).st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def fsync_dir(self, folder: Path) -> None:
        super().fsync_dir(folder)
        self.names[folder] = self._named(folder)

    def cut_power(self, chance: random.Random | None) -> None:
        for place in (self.folder / "archive", self.folder):
            if not place.is_dir():
                continue
            synced, present = self.names.get(place, {}), self._named(place)
            after = {name: (present if chance and chance.random() < 0.5 else synced) for name in synced | present}
            for name in present:
                (place / name).unlink()
            for name, names in after.items():
                if name in names:
                    (place / name).write_bytes(self.contents.get(names[name], b""))
            if place not in self.names and not list(place.iterdir()):
                place.rmdir()
        for descriptor in self.held:
            with suppress(OSError):
                os.close(descriptor)

    def _named(self, folder: Path) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in folder.iterdir() if path.is_file()}


class WatchedDisk(Disk):
    """Lets somebody look before every call."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def open(self, path: Path, flags: int) -> int:
        self.look()
        return super().open(path, flags)

    def write(self, descriptor: int, data: bytes) -> int:
        self.look()
        return super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self.look()
        super().fsync(descriptor)

    def fsync_dir(self, folder: Path) -> None:
        self.look()
        super().fsync_dir(folder)

    def rename(self, old: Path, new: Path) -> None:
        self.look()
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self.look()
        super().unlink(path)


class SlowDisk(Disk):
    """Takes seven bytes at a time."""

    def write(self, descriptor: int, data: bytes) -> int:
        return super().write(descriptor, data[:7])


def start(folder: Path, run: str = "run-1", disk: Disk | None = None, limits: Limits | None = None) -> Journal:
    ticks = itertools.count()

    def now() -> str:
        return f"2026-01-01T00:00:{next(ticks):02d}Z"

    return Journal.open(folder, run=run, now=now, boot="0f3c9a11", disk=disk, limits=limits)


def filled(folder: Path, count: int) -> bytes:
    journal = start(folder)
    for number in range(1, count + 1):
        journal.append("done", f"issue-{number}", i=number)
    journal.close()
    return (folder / NAME).read_bytes()


def numbers(facts: Iterable[Record]) -> list[int]:
    return [fact.data["i"] for fact in facts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "milestone"


def test_what_is_appended_is_there_when_it_is_opened_again(folder: Path) -> None:
    journal = start(folder)
    assert journal.events == []
    first = journal.append("intent", "issue-1", tree="4b82", title="naïve ☃ \udcff", nested={"a": [1, None]})
    second = journal.append("started")
    journal.close()
    assert (first.number, first.at, first.boot, first.run) == (1, "2026-01-01T00:00:00Z", "0f3c9a11", "run-1")
    assert (first.kind, first.key) == ("intent", "issue-1")
    assert first.data == {"tree": "4b82", "title": "naïve ☃ \udcff", "nested": {"a": [1, None]}}
    assert (second.number, second.key, second.data) == (2, "", {})
    again = start(folder, "run-2")
    assert again.events == [first, second]
    assert again.warnings == []
    third = again.append("done", "issue-1")
    again.close()
    assert (third.number, third.run) == (3, "run-2")
    assert read(folder) == [first, second, third]


def test_an_event_in_memory_is_the_one_that_will_be_read_back(folder: Path) -> None:
    journal = start(folder)
    event = journal.append("done", i=(1, 2), names={3: "three"})
    journal.close()
    assert event.data == {"i": [1, 2], "names": {"3": "three"}}
    assert journal.events == read(folder) == [event]


def test_every_line_of_the_file_is_json_that_other_tools_can_read(folder: Path) -> None:
    lines = filled(folder, 3).splitlines()
    assert [json.loads(line)["n"] for line in lines] == [1, 2, 3]
    assert [json.loads(line)["e"] for line in lines] == ["done"] * 3


def test_the_files_are_for_their_owner_only(folder: Path) -> None:
    filled(folder, 1)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_space_is_set_aside_when_a_journal_is_opened(folder: Path) -> None:
    start(folder).close()
    assert (folder / BALLAST).stat().st_size == MEBIBYTE


def test_the_boot_is_asked_from_the_machine(folder: Path) -> None:
    journal = Journal.open(folder, run="run-1", now=lambda: "now")
    boot = journal.append("started").boot
    journal.close()
    with suppress(OSError):
        assert boot == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_a_torn_tail_is_put_aside_and_the_journal_goes_on(folder: Path, cut: int) -> None:
    whole = filled(folder, 4)
    offset = whole[:-1].rindex(b"\n") + 1
    (folder / NAME).write_bytes(whole[:-cut])
    journal = start(folder, "run-2")
    kept = folder / f"journal.torn.{offset}"
    assert kept.read_bytes() == whole[offset:-cut]
    assert (folder / NAME).read_bytes() == whole[:offset]
    (warning,) = journal.warnings
    assert warning.startswith(f"the last {len(whole) - cut - offset} bytes of milestone/{NAME} were torn by a crash")
    assert warning.endswith(f"they are kept in journal.torn.{offset}")
    assert journal.append("done", i=40).number == 4
    journal.close()
    again = start(folder)
    assert numbers(again.events) == numbers(read(folder)) == [1, 2, 3, 40]
    assert again.warnings == []
    again.close()


def test_a_torn_tail_is_durable_in_its_own_file_before_it_leaves_the_journal(folder: Path) -> None:
    whole = filled(folder, 1)
    (folder / NAME).write_bytes(whole + TORN)
    disk = WitnessDisk()
    start(folder, disk=disk).close()
    kept = f"journal.torn.{len(whole)}"
    assert disk.calls == [
        ("fsync", NAME),
        ("write", kept),
        ("fsync", kept),
        ("fsync_dir", folder.name),
        ("truncate", NAME),
        ("fsync", NAME),
    ]


@pytest.mark.parametrize("how", ["corrupt", "input-output-error"])
def test_a_journal_that_was_refused_is_not_kept_open(folder: Path, how: str) -> None:
    whole = filled(folder, 4)
    disk: Disk | None = None
    if how == "corrupt":
        (folder / NAME).write_bytes(whole[1:])
    else:
        disk = FaultyDisk(("fsync",), 1, OSError(errno.EIO, os.strerror(errno.EIO)), "before", persistent=False)
    with pytest.raises(StateBrokenError):
        start(folder, disk=disk)
    opened = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            opened.append(entry.readlink())
    assert folder / NAME not in opened


def test_zeros_in_a_journal_that_never_got_a_record_are_put_aside(folder: Path) -> None:
    folder.mkdir()
    (folder / NAME).write_bytes(bytes(512))
    journal = start(folder)
    assert (folder / "journal.torn.0").read_bytes() == bytes(512)
    assert journal.append("done", i=1).number == 1
    journal.close()
    assert numbers(read(folder)) == [1]


def test_a_corrupt_journal_is_refused_with_the_place_and_left_as_it_is(folder: Path) -> None:
    whole = filled(folder, 4)
    second = whole.index(b"\n") + 1
    wrong = whole[: second + 20] + b"X" + whole[second + 21 :]
    (folder / NAME).write_bytes(wrong)
    files = set(folder.iterdir())
    place = re.escape(f"{folder / NAME}: record 2 at byte {second} ")
    with pytest.raises(StateBrokenError, match=place):
        start(folder)
    with pytest.raises(StateBrokenError, match=place):
        read(folder)
    assert (folder / NAME).read_bytes() == wrong
    assert set(folder.iterdir()) == files


def test_a_journal_of_a_newer_version_is_refused_and_left_as_it_is(folder: Path) -> None:
    first = filled(folder, 1)[:-16].replace(b'"v":1', b'"v":2')
    newer = first + b',"c":"%08x"}\n' % zlib.crc32(first)
    (folder / NAME).write_bytes(newer)
    for use in (start, read):
        with pytest.raises(StateBrokenError, match="written by a newer version of the executor"):
            use(folder)
    assert (folder / NAME).read_bytes() == newer


@pytest.mark.parametrize("how", ["replaced", "removed", "written", "shortened", "folder-removed"])
def test_a_file_that_changed_under_the_journal_ends_it(folder: Path, how: str) -> None:
    journal = start(folder)
    journal.append("done", i=1)
    path = folder / NAME
    before = path.read_bytes()
    aside = folder.with_name("aside")
    if how == "replaced":
        path.rename(aside)
        path.write_bytes(before)
        why = "it was replaced while it was in use"
    elif how == "removed":
        path.rename(aside)
        why = "it was removed while it was in use"
    elif how == "folder-removed":
        folder.rename(aside)
        why = "it was removed while it was in use"
    else:
        path.write_bytes(before + b"x" if how == "written" else before[:-1])
        why = "another process wrote to it"
    left = {place: place.read_bytes() for place in folder.parent.rglob("*") if place.is_file()}
    with pytest.raises(StateBrokenError, match=why):
        journal.append("done", i=2)
    if how != "folder-removed":
        path.write_bytes(before)
        left[path] = before
    with pytest.raises(StateBrokenError, match=f"no longer written: {why}"):
        journal.append("done", i=3)
    assert {place: place.read_bytes() for place in folder.parent.rglob("*") if place.is_file()} == left
    assert numbers(journal.events) == [1]
    journal.close()


def test_appends_of_many_threads_are_numbered_without_gaps(folder: Path) -> None:
    journal = start(folder)

    def work(thread: int) -> list[int]:
        return [journal.append("done", f"issue-{thread}", i=turn).number for turn in range(50)]

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(work, range(8)))
    journal.close()
    facts = read(folder)
    assert [fact.number for fact in facts] == list(range(1, 401))
    assert facts == journal.events
    for thread, own in enumerate(given):
        assert own == sorted(own)
        assert [fact.number for fact in facts if fact.key == f"issue-{thread}"] == own
        assert numbers(fact for fact in facts if fact.key == f"issue-{thread}") == list(range(50))


def test_a_record_that_is_being_written_is_left_out_by_a_reader(folder: Path) -> None:
    whole = filled(folder, 3)
    last = whole[:-1].rindex(b"\n") + 1
    for size in range(last, len(whole)):
        (folder / NAME).write_bytes(whole[:size])
        assert numbers(read(folder)) == [1, 2]
        assert (folder / NAME).stat().st_size == size
    assert sorted(path.name for path in folder.iterdir()) == [NAME, BALLAST]


def test_there_is_nothing_to_read_where_there_is_no_journal(folder: Path) -> None:
    assert read(folder) == []
    assert stamp(folder / JOURNAL) == ""
    folder.write_bytes(b"a file, not a folder")
    assert read(folder) == []
    assert stamp(folder / JOURNAL) == ""


def test_a_journal_that_cannot_be_read_is_broken(folder: Path) -> None:
    (folder / NAME).mkdir(parents=True)
    with pytest.raises(StateBrokenError, match="cannot be read: Is a directory"):
        read(folder)
    with pytest.raises(StateBrokenError, match="cannot be opened: Is a directory"):
        start(folder)


def test_a_symbolic_link_in_place_of_the_journal_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (tmp_path / "elsewhere").touch()
    (folder / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateBrokenError, match="cannot be opened"):
        start(folder)


def test_a_file_in_place_of_the_folder_is_refused(folder: Path) -> None:
    folder.touch()
    with pytest.raises(StateBrokenError, match="cannot be opened"):
        start(folder)


def test_the_stamp_changes_with_every_append(folder: Path) -> None:
    journal = start(folder)
    stamps = [stamp(folder / JOURNAL)]
    for number in range(20):
        journal.append("done", i=number)
        stamps.append(stamp(folder / JOURNAL))
    journal.close()
    assert len(set(stamps)) == 21
    assert stamp(folder / JOURNAL) == stamps[-1]


def test_a_closed_journal_is_not_written(folder: Path) -> None:
    journal = start(folder)
    journal.append("done", i=1)
    journal.close()
    journal.close()
    with pytest.raises(StateBrokenError, match="it is closed"):
        journal.append("done", i=2)
    assert numbers(read(folder)) == [1]


def test_data_that_cannot_be_a_record_changes_nothing(folder: Path) -> None:
    journal = start(folder)
    journal.append("done", i=1)
    before = (folder / NAME).read_bytes()
    for wrong in ({"n": 1}, {"c": ""}, {"x": float("nan")}, {"x": "y" * 70_000}):
        with pytest.raises(ValueError, match=r"record|JSON"):
            journal.append("done", **wrong)
    assert (folder / NAME).read_bytes() == before
    assert journal.append("done", i=2).number == 2
    journal.close()
    assert numbers(read(folder)) == [1, 2]


def test_what_the_ballast_keeps_free_is_enough_to_say_that_the_disk_is_full(folder: Path) -> None:
    disk = SmallDisk(folder, MEBIBYTE + 1000)
    written = 0
    for run in ("run-1", "run-2"):
        journal = start(folder, run, disk)
        written = len(journal.events)
        with pytest.raises(StateFullError, match="nothing is lost; free some space and run again"):  # noqa: PT012
            while True:
                journal.append("done", i=written + 1)
                written += 1
        before = (folder / NAME).read_bytes()
        with pytest.raises(StateFullError):
            journal.append("done", i=0)
        assert (folder / NAME).read_bytes() == before
        assert journal.append_last("stopped", i=written + 1).number == written + 1
        assert not (folder / BALLAST).exists()
        journal.close()
        assert numbers(read(folder)) == list(range(1, written + 2))
    assert written > 1


def test_the_last_word_is_also_said_without_a_ballast(folder: Path) -> None:
    journal = start(folder)
    (folder / BALLAST).unlink()
    journal.append_last("stopped", i=1)
    journal.append_last("stopped", i=2)
    journal.close()
    assert numbers(read(folder)) == [1, 2]


def test_a_disk_that_takes_little_at_a_time_gets_everything(folder: Path) -> None:
    whole = filled(folder, 3)
    (folder / NAME).write_bytes(whole[:-5])
    journal = start(folder, disk=SlowDisk())
    (kept,) = folder.glob("journal.torn.*")
    assert kept.read_bytes() == whole[whole[:-1].rindex(b"\n") + 1 : -5]
    journal.append("done", i=3)
    journal.append("done", i=4, text="x" * 1000)
    journal.close()
    assert numbers(read(folder)) == [1, 2, 3, 4]


class Story:
    """Open, five appends, close; a tail is torn; open again, one append."""

    def __init__(self, folder: Path, disk: FaultyDisk) -> None:
        self.folder, self.disk = folder, disk
        self.promised: list[int] = []
        self.errors: list[ExecutorError] = []
        self.journal: Journal | None = None

    def tell(self) -> None:
        self._session(range(1, 6))
        if self.journal is not None:
            self.journal.close()
        path = self.folder / NAME
        if path.exists():
            with path.open("ab") as file:
                file.write(TORN)
        self._session(range(6, 7))

    def append(self, number: int) -> None:
        assert self.journal is not None
        try:
            event = self.journal.append("done", i=number)
        except (StateFullError, StateBrokenError) as error:
            self.errors.append(error)
        else:
            assert event.data == {"i": number}
            self.promised.append(number)

    def check(self) -> None:
        """No promise is broken, and at most one record is there that was not promised."""
        journal = start(self.folder, "run-after")
        found = numbers(journal.events)
        assert [number for number in found if number in self.promised] == self.promised
        assert len(found) - len(self.promised) <= 1
        assert journal.append("done", i=99).number == len(found) + 1
        journal.close()
        assert numbers(read(self.folder)) == [*found, 99]

    def _session(self, turns: range) -> None:
        self.journal = None
        try:
            self.journal = start(self.folder, disk=self.disk)
        except (StateFullError, StateBrokenError) as error:
            self.errors.append(error)
            return
        for turn in turns:
            self.append(turn)


def close_what_a_crash_left_open(folder: Path) -> None:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if folder in entry.readlink().parents:
                os.close(int(entry.name))


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "calls", [*((call,) for call in CALLS), ("write", "truncate"), ("fsync", "truncate"), CALLS], ids="+".join
)
def test_no_failing_call_loses_a_promised_record(
    tmp_path: Path, calls: tuple[str, ...], number: int, persistent: bool
) -> None:
    told = 0
    for nth in itertools.count(1):
        failure = OSError(number, os.strerror(number))
        disk = FaultyDisk(calls, nth, failure, "half", persistent=persistent)
        story = Story(tmp_path / str(nth), disk)
        story.tell()
        told += len(story.errors)
        if not disk.fired:
            assert story.promised == [1, 2, 3, 4, 5, 6]
            assert story.errors == []
        elif number not in NO_SPACE:
            assert {type(error) for error in story.errors} <= {StateBrokenError}
        elif not persistent or calls == ("write",):
            assert {type(error) for error in story.errors} <= {StateFullError}
        disk.healed = True
        if story.journal is not None:
            fine = 6 in story.promised or isinstance(story.errors[-1], StateFullError)
            story.append(7)
            assert (story.promised[-1:] == [7]) == fine
            story.journal.close()
        story.check()
        if not disk.fired:
            break
    assert nth > 1
    assert told > 0


@pytest.mark.parametrize("when", ["before", "half", "after"])
@pytest.mark.parametrize("call", CALLS)
def test_no_crash_loses_a_promised_record(tmp_path: Path, call: str, when: str) -> None:
    for nth in itertools.count(1):
        disk = FaultyDisk((call,), nth, Crash(), when, persistent=False)
        story = Story(tmp_path / str(nth), disk)
        with suppress(Crash):
            story.tell()
        close_what_a_crash_left_open(tmp_path)
        story.check()
        if not disk.fired:
            break
    assert nth > 1


@pytest.mark.parametrize("when", ["before", "half", "after"])
@pytest.mark.parametrize("call", CALLS)
def test_no_power_cut_takes_back_what_was_promised_or_seen_after_a_crash(tmp_path: Path, call: str, when: str) -> None:
    for nth in itertools.count(1):
        folder = tmp_path / str(nth)
        disk = VolatileDisk(folder / NAME, (call,), nth, when)
        story = Story(folder, disk)
        with suppress(Crash):
            story.tell()
        close_what_a_crash_left_open(tmp_path)
        disk.healed = True
        journal = start(folder, "run-2", disk)
        seen = numbers(journal.events)
        if nth % 2:
            journal.append("done", i=50)
            seen.append(50)
        journal.close()
        disk.cut_power()
        assert numbers(read(folder)) == seen
        if not disk.fired:
            break
    assert nth > 1


def leave_free(fs: FakeFilesystem, size: int) -> None:
    fs.set_disk_usage(10 * MEBIBYTE)  # until there is a limit, pyfakefs says that nothing is used
    fs.set_disk_usage(fs.get_disk_usage()[1] + size)


def test_a_journal_in_a_fake_file_system_is_written_and_read(fs: FakeFilesystem) -> None:
    folder = Path("/state/milestone")
    fs.create_dir("/state")
    filled(folder, 3)
    with (folder / NAME).open("ab") as file:
        file.write(TORN)
    journal = start(folder)
    assert len(journal.warnings) == 1
    journal.append("done", i=4)
    journal.close()
    assert numbers(read(folder)) == [1, 2, 3, 4]


def test_a_full_fake_disk_leaves_the_journal_whole(fs: FakeFilesystem) -> None:
    folder = Path("/state/milestone")
    fs.create_dir("/state")
    journal = start(folder)
    journal.append("done", i=1)
    before = (folder / NAME).read_bytes()
    leave_free(fs, 50)
    with pytest.raises(StateFullError, match="free some space and run again"):
        journal.append("done", i=2)
    assert (folder / NAME).read_bytes() == before
    assert numbers(read(folder)) == [1]
    journal.append_last("stopped", i=3)
    fs.set_disk_usage(10 * MEBIBYTE)
    journal.append("done", i=4)
    journal.close()
    assert numbers(read(folder)) == [1, 3, 4]


def test_a_disk_too_full_to_begin_a_journal_is_reported_as_such(fs: FakeFilesystem) -> None:
    folder = Path("/state/milestone")
    filled(folder, 2)
    whole = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(whole[:-4])
    leave_free(fs, 5)
    with pytest.raises(StateFullError, match="free some space and run again"):
        start(folder)
    assert (folder / NAME).read_bytes() == whole[:-4]
    fs.set_disk_usage(10 * MEBIBYTE)
    journal = start(folder)
    assert numbers(journal.events) == [1]
    journal.close()


SMALL = Limits(compact_bytes=1000, compact_ratio=3.0, segment_bytes=600)
NEVER = Limits(segment_bytes=600)
ANEW = "journal.000002.jsonl"


def segmented(folder: Path, count: int) -> dict[str, bytes]:
    """The segments of a journal of so many records, three or so in each."""
    for number in range(1, count + 1):
        journal = start(folder, limits=NEVER)
        journal.append("done", f"issue-{number}", i=number, text="x" * 100)
        journal.close()
    return {name: (folder / name).read_bytes() for name in segments(folder)}


def lived(folder: Path, times: int = 20, limits: Limits | None = None) -> list[Record]:
    """A journal of a landed issue that was verified again and again; what it says."""
    journal = start(folder, limits=limits)
    if not journal.events:
        journal.append("attempt-started", "a", attempt=1, revision=1, spec_key="s", base="b")
        journal.append("attempt-built", "a", attempt=1, commit="c", result_key="r", seconds=2.5)
        journal.append("landed", "a", attempt=1, commit="l", check_key="k", needs={}, revision=1)
    for turn in range(times):
        journal.append("verified", "a", check_key=f"k{turn}", needs={"m/b": "r"}, revision=1)
    journal.close()
    return journal.events


def everything(folder: Path) -> list[bytes]:
    """Every line of every file."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != BALLAST]
    return sorted(line for path in files for line in path.read_bytes().splitlines())


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_numbers_and_checks_go_on_from_segment_to_segment(folder: Path) -> None:
    parts = segmented(folder, 12)
    assert list(parts) == [f"journal.{number:06d}.jsonl" for number in range(1, len(parts) + 1)]
    assert len(parts) > 2
    assert scan(b"".join(parts.values())).events == read(folder)
    assert [event.number for event in read(folder)] == numbers(read(folder)) == list(range(1, 13))
    journal = start(folder, limits=NEVER)
    assert journal.events == read(folder)
    journal.close()


def test_a_segment_that_is_not_full_is_written_on(folder: Path) -> None:
    segmented(folder, 2)
    assert segments(folder) == [NAME]


@pytest.mark.parametrize("place", range(3))
def test_a_missing_segment_is_named(folder: Path, place: int) -> None:
    parts = segmented(folder, 12)
    (folder / list(parts)[place]).unlink()
    before = sum(part.count(b"\n") for part in list(parts.values())[:place])
    why = f"journal.00000{place + 1}.jsonl: it is missing, .*doit repair milestone --to {before}`"
    for use in (start, read):
        with pytest.raises(StateBrokenError, match=why):
            use(folder)


def test_segments_cut_off_at_any_byte_are_read_up_to_there_or_refused(folder: Path) -> None:
    parts = segmented(folder, 12)
    whole = read(folder)
    last = list(parts)[-1]
    before = sum(part.count(b"\n") for name, part in parts.items() if name != last)
    for name, part in parts.items():
        for size in range(len(part)):
            (folder / name).write_bytes(part[:size])
            if name == last:
                assert read(folder) == whole[: before + part[:size].count(b"\n")]
            else:
                with pytest.raises(StateBrokenError, match=r"is damaged|has changed since|continues it"):
                    read(folder)
        (folder / name).write_bytes(part)


def test_segments_that_changed_places_are_refused(folder: Path) -> None:
    parts = segmented(folder, 12)
    (folder / list(parts)[1]).write_bytes(parts[list(parts)[2]])
    (folder / list(parts)[2]).write_bytes(parts[list(parts)[1]])
    with pytest.raises(StateBrokenError, match=re.escape(f"{folder / list(parts)[1]}: record ")):
        read(folder)


def test_the_stamp_of_a_journal_covers_every_segment(folder: Path) -> None:
    assert journal_stamp(folder) == ""
    seen = set()
    for _ in range(12):
        segmented(folder, 1)
        seen.add(journal_stamp(folder))
    assert len(seen) == 12
    assert journal_stamp(folder) == journal_stamp(folder)


def test_a_second_torn_tail_at_the_same_place_does_not_take_the_first_ones(folder: Path) -> None:
    whole = filled(folder, 2)
    tails = [b'{"n":3,"t":"one', b'{"n":3,"t":"two', b'{"n":3,"t":"three', b'{"n":3,"t":"one']
    for tail in tails:
        (folder / NAME).write_bytes(whole + tail)
        start(folder).close()
    kept = {path.name: path.read_bytes() for path in folder.glob("journal.torn.*")}
    name = f"journal.torn.{len(whole)}"
    assert kept == {name: tails[0], f"{name}.1": tails[1], f"{name}.2": tails[2]}


def test_a_large_journal_of_which_little_matters_is_compacted(folder: Path) -> None:
    events = lived(folder)
    old = (folder / NAME).read_bytes()
    journal = start(folder, "run-2", limits=SMALL)
    assert segments(folder) == [ANEW]
    assert (folder / "archive" / NAME).read_bytes() == old
    assert fold(journal.events) == fold(events)
    assert journal.warnings == []
    first = journal.events[-1]
    assert (first.kind, first.key, first.number, first.run) == ("compacted", "", len(events) + 1, "run-2")
    snapshot = (folder / "snapshot.000002.jsonl").read_bytes()
    digest = hashlib.sha256(snapshot).hexdigest()
    last = {"number": len(events), "check": old[-11:-3].decode()}
    assert first.data == {"snapshot": "snapshot.000002.jsonl", "sha256": digest, "last": last}
    assert scan(snapshot).events == journal.events[:-1]
    assert decode((folder / ANEW).read_bytes()[:-1], len(events) + 1, int(old[-11:-3], 16)) is not None
    assert journal.append("verified", "a", check_key="z", needs={}, revision=1).number == len(events) + 2
    journal.close()
    assert read(folder) == journal.events
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o600}


def test_the_next_opening_removes_what_a_compaction_put_aside(folder: Path) -> None:
    lived(folder)
    start(folder, limits=SMALL).close()
    before = read(folder)
    journal = start(folder, limits=SMALL)
    assert journal.events == before
    journal.close()
    assert list((folder / "archive").iterdir()) == []
    assert sorted(path.name for path in folder.iterdir()) == ["archive", ANEW, BALLAST, "snapshot.000002.jsonl"]


def test_a_journal_is_compacted_again_and_again(folder: Path) -> None:
    plain = folder.with_name("plain")
    events: list[Record] = []
    for turn in range(2, 8):
        lived(folder, 30, SMALL)
        events = lived(plain, 30)
        assert fold(read(folder)) == fold(events)
        start(folder, limits=SMALL).close()
        assert segments(folder) == [f"journal.{turn:06d}.jsonl"]
        assert [path.name for path in folder.glob("snapshot.*")] == [f"snapshot.{turn:06d}.jsonl"]
    numbered = read(folder)[-1].number
    assert numbered == len(events) + 6


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(compact_bytes=1000, compact_ratio=50), Limits(compact_bytes=10**5)]
)
def test_a_journal_that_is_small_or_matters_is_left_as_it_is(folder: Path, limits: Limits) -> None:
    events = lived(folder)
    start(folder, limits=limits).close()
    assert segments(folder) == [NAME]
    assert read(folder) == events
    assert not (folder / "archive").exists()


def test_a_journal_of_which_nothing_matters_is_compacted_to_nothing(folder: Path) -> None:
    filled(folder, 30)
    start(folder, limits=SMALL).close()
    (fact,) = read(folder)
    assert (fact.kind, fact.number) == ("compacted", 31)
    assert (folder / "snapshot.000002.jsonl").read_bytes() == b""


def test_the_longest_record_also_has_room_at_the_beginning_of_a_snapshot(folder: Path) -> None:
    journal = start(folder)
    for turn in range(9):
        journal.append("checked", i=turn)
    retried = {"after": 1, "reason": ""}
    room = 64 * 1024 - len((folder / NAME).read_bytes().splitlines()[-1]) - len('"after":1,"reason":"",') + 4
    for size in range(room + 20, room - 40, -1):
        with suppress(ValueError):
            journal.append("retried", "a", **{**retried, "reason": "x" * size})
            break
    for _ in range(30):
        journal.append("checked", text="x" * 60_000)
    journal.close()
    start(folder, limits=SMALL).close()
    assert len((folder / "snapshot.000002.jsonl").read_bytes()) > 64 * 1024
    assert fold(read(folder)) == fold(journal.events)


def test_a_compaction_that_a_crash_ended_is_finished_and_what_that_puts_aside_is_kept_once_more(folder: Path) -> None:
    events = compacting(folder)
    with suppress(Crash):
        start(folder, disk=FaultyDisk(("mkdir",), 1, Crash(), "before", persistent=False), limits=SMALL)
    close_what_a_crash_left_open(folder.parent)
    assert segments(folder) == [ANEW, "journal.000003.jsonl"]
    for left in ([ANEW, "snapshot.000002.jsonl"], []):
        start(folder).close()
        assert sorted(path.name for path in (folder / "archive").iterdir()) == left
        assert segments(folder) == ["journal.000003.jsonl"]
        assert fold(read(folder)) == fold(events)


def test_readers_see_the_same_at_every_moment_of_a_compaction(folder: Path) -> None:
    expected = fold(compacting(folder))
    seen = 0

    def look() -> None:
        nonlocal seen
        seen += 1
        assert fold(read(folder)) == expected

    for _ in range(3):
        start(folder, disk=WatchedDisk(look), limits=SMALL).close()
    assert segments(folder) == ["journal.000003.jsonl"]
    assert seen > 20


def test_readers_are_not_disturbed_by_one_compaction_after_another(folder: Path) -> None:
    expected = fold(lived(folder))["a"].attempts
    over = threading.Event()

    def look() -> int:
        turns = 0
        while not over.is_set():
            assert fold(read(folder))["a"].attempts == expected
            turns += 1
            time.sleep(0.002)  # or the writer hardly gets its turn
        return turns

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(look) for _ in range(2)]
        try:
            for _ in range(60):
                lived(folder, 20, SMALL)
        finally:
            over.set()
        assert sum(reader.result() for reader in readers) > 60
    assert segments(folder) > ["journal.000030.jsonl"]


def compacting(folder: Path) -> list[Record]:
    """A journal that was compacted, has something in its archive to remove, and is to be compacted again."""
    lived(folder)
    return lived(folder, limits=SMALL)


def goes_on(folder: Path, events: list[Record]) -> None:
    """The journal says the same, has every number once, and is written on; twice."""
    for turn in range(2):
        assert fold(read(folder)) == fold(events)
        journal = start(folder, f"after-{turn}", limits=SMALL)
        assert fold(journal.events) == fold(events)
        assert journal.warnings == []
        last = journal.events[-1].number
        assert last - events[-1].number in {0, 1, 2}
        fact = journal.append("checked", i=turn)
        assert fact.number == last + 1
        journal.close()
    assert fold(read(folder)) == fold(events)
    assert len(segments(folder)) == 1


@pytest.mark.parametrize("when", ["before", "half", "after"])
@pytest.mark.parametrize("call", [*CALLS, *NAMING])
def test_a_crash_in_a_compaction_leaves_the_old_journal_or_the_new_one(tmp_path: Path, call: str, when: str) -> None:
    for nth in itertools.count(1):
        folder = tmp_path / str(nth)
        events = compacting(folder)
        disk = FaultyDisk((call,), nth, Crash(), when, persistent=False)
        with suppress(Crash):
            start(folder, disk=disk, limits=SMALL).close()
        close_what_a_crash_left_open(tmp_path)
        goes_on(folder, events)
        if not disk.fired:
            break
    assert nth > 1 or call == "truncate"


@pytest.mark.parametrize("when", ["before", "half", "after"])
@pytest.mark.parametrize("call", [*CALLS, *NAMING])
@pytest.mark.parametrize("written", [False, True], ids=["only-read", "written-on"])
@pytest.mark.parametrize(
    "seed",
    [None, 1, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in (2, 3))],
    ids=["all-names-lost", "some-1", "some-2", "some-3"],
)
def test_a_power_cut_in_a_compaction_leaves_the_old_journal_or_the_new_one(
    tmp_path: Path, call: str, when: str, written: bool, seed: int | None
) -> None:
    for nth in itertools.count(1):
        folder = tmp_path / str(nth)
        events = compacting(folder)
        disk = ForgetfulDisk(folder, (call,), nth, when)
        with suppress(Crash):
            start(folder, disk=disk, limits=SMALL).close()
        if written:
            disk.healed = True
            journal = start(folder, disk=disk)
            events = [*events, journal.append("verified", "a", check_key="late", needs={}, revision=1)]
            journal.close()
        disk.cut_power(None if seed is None else random.Random(seed * 100 + nth))  # noqa: S311  (no secret)
        close_what_a_crash_left_open(tmp_path)
        goes_on(folder, events)
        if not disk.fired:
            break
    assert nth > 1 or call == "truncate"


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", [*CALLS, *NAMING])
def test_a_failing_call_in_a_compaction_is_reported_and_loses_nothing(
    tmp_path: Path, call: str, number: int, persistent: bool
) -> None:
    for nth in itertools.count(1):
        folder = tmp_path / str(nth)
        events = compacting(folder)
        disk = FaultyDisk((call,), nth, OSError(number, os.strerror(number)), "half", persistent=persistent)
        expected = StateFullError if number in NO_SPACE else StateBrokenError
        try:
            start(folder, disk=disk, limits=SMALL).close()
        except expected:
            assert disk.fired
        goes_on(folder, events)
        if not disk.fired:
            break
    assert nth > 1 or call == "truncate"


def test_a_new_segment_cut_off_at_any_byte_leaves_the_old_journal_or_the_new_one(tmp_path: Path) -> None:
    source = tmp_path / "source"
    events = compacting(source)
    start(source, limits=SMALL).close()
    new = (source / "journal.000003.jsonl").read_bytes()
    for size in range(len(new) + 1):
        folder = tmp_path / f"cut-{size}"
        shutil.copytree(source, folder)
        (folder / "journal.000003.jsonl").write_bytes(new[:size])
        assert fold(read(folder)) == fold(events)
        journal = start(folder)
        assert fold(journal.events) == fold(events)
        assert (journal.events[-1].kind == "compacted") == (size == len(new))
        assert [warning.endswith("journal.torn.0") for warning in journal.warnings] == [True] * (0 < size < len(new))
        journal.append("checked", i=size)
        journal.close()
        assert read(folder) == journal.events
        goes_on(folder, journal.events)
        shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["changed", "removed"])
def test_a_lost_snapshot_is_made_up_for_by_the_archive_and_refused_without_it(folder: Path, how: str) -> None:
    events = lived(folder)
    start(folder, limits=SMALL).close()
    snapshot = folder / "snapshot.000002.jsonl"
    if how == "changed":
        flipped(snapshot, 30)
    else:
        snapshot.unlink()
    archived = folder / "archive" / NAME
    aside = archived.rename(folder.parent / "aside")
    for use in (start, read):
        with pytest.raises(StateBrokenError, match=r"snapshot.000002.jsonl: .*doit repair milestone --to 0`"):
            use(folder)
    aside.rename(archived)
    assert fold(read(folder)) == fold(events)
    journal = start(folder)
    assert [event.number for event in journal.events] == list(range(1, len(events) + 2))
    assert journal.warnings == ["a snapshot of milestone was lost; its segments were read instead"]
    journal.close()
    assert segments(folder) == [NAME, ANEW]
    goes_on(folder, journal.events)


def test_a_journal_whose_last_segment_is_gone_is_refused(folder: Path) -> None:
    events = lived(folder)
    start(folder, limits=SMALL).close()
    (folder / ANEW).unlink()
    why = f"journal.000002.jsonl: it is missing; .*doit repair milestone --to {len(events)}`"
    for use in (start, read):
        with pytest.raises(StateBrokenError, match=why):
            use(folder)
    assert cut(folder, len(events), at="now") == ["journal.corrupt.now.snapshot.000002.jsonl"]
    assert read(folder) == events
    goes_on(folder, events)


@pytest.mark.parametrize("record", range(1, 13))
def test_a_journal_is_kept_up_to_any_good_record_and_the_rest_put_aside(tmp_path: Path, record: int) -> None:
    source = tmp_path / "source"
    parts = segmented(source, 12)
    whole = b"".join(parts.values())
    events = read(source)
    lines = whole.splitlines(keepends=True)
    for to in range(record + 1):
        folder = tmp_path / f"to-{to}"
        shutil.copytree(source, folder)
        target = next(name for name in parts if b'{"n":%d,' % record in (folder / name).read_bytes())
        flipped(folder / target, (folder / target).read_bytes().index(lines[record - 1]) + 12)
        bad = b"".join((folder / name).read_bytes() for name in parts)
        trouble = inspect(folder)
        if record == 12:
            assert trouble is None  # a torn tail, which the next run puts aside
            continue
        assert trouble is not None
        assert (trouble.path, trouble.record, trouble.good, trouble.first) == (folder / target, record, record - 1, 1)
        assert sum(size for _, size in trouble.cut) == len(b"".join(lines[record - 1 :]))
        if to == record:
            with pytest.raises(UsageError, match=f"--to {record}: the journal of to-{to} can be kept up to record"):
                cut(folder, to, at="now")
            assert b"".join((folder / name).read_bytes() for name in parts) == bad
            continue
        made = cut(folder, to, at="now")
        assert read(folder) == events[:to]
        assert inspect(folder) is None
        aside = b"".join((folder / name).read_bytes() for name in [*made[:1], *reversed(made[1:])])
        if made[0] != "journal.corrupt.now":
            aside = b"".join((folder / name).read_bytes() for name in reversed(made))
        assert b"".join(lines[:to]) + aside == bad
        journal = start(folder)
        assert journal.append("done", i=99).number == to + 1
        journal.close()
        assert numbers(read(folder)) == [*range(1, to + 1), 99]


@pytest.mark.parametrize("to", [0, 24, 30])
def test_a_compacted_journal_is_kept_from_its_beginning_on_or_not_at_all(folder: Path, to: int) -> None:
    lived(folder)
    start(folder, limits=SMALL).close()
    events = lived(folder)
    path = folder / ANEW
    flipped(path, path.read_bytes().index(b'{"n":31,') + 12)
    before = everything(folder)
    for wrong in (1, 23, 31, 99):
        with pytest.raises(UsageError, match="record 24 to 30, or 0 for an empty journal"):
            cut(folder, wrong, at="now")
    assert everything(folder) == before
    cut(folder, to, at="now")
    assert everything(folder) == before
    assert read(folder) == [event for event in events if event.number <= to and to]
    journal = start(folder)
    assert journal.append("checked").number == to + 1
    journal.close()


def test_two_repairs_at_the_same_moment_keep_what_each_puts_aside(folder: Path) -> None:
    whole = filled(folder, 6)
    for _ in range(2):
        (folder / NAME).write_bytes(whole)
        flipped(folder / NAME, whole.index(b'{"n":3,') + 12)
        cut(folder, 2, at="now")
    assert (folder / "journal.corrupt.now").read_bytes() == (folder / "journal.corrupt.now-1").read_bytes()
    assert numbers(read(folder)) == [1, 2]


def test_a_whole_journal_and_one_of_a_newer_version_are_not_repaired(folder: Path) -> None:
    whole = filled(folder, 3)
    with pytest.raises(UsageError, match="is intact; there is nothing to repair"):
        cut(folder, 1, at="now")
    first = whole.splitlines()[0][:-15].replace(b'"v":1', b'"v":2')
    (folder / NAME).write_bytes(first + b',"c":"%08x"}\n' % zlib.crc32(first))
    trouble = inspect(folder)
    assert trouble is not None
    assert trouble.newer
    with pytest.raises(StateBrokenError, match="newer version"):
        cut(folder, 0, at="now")


@pytest.mark.parametrize("number", [None, errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", [*CALLS, *NAMING])
def test_a_repair_that_ends_at_any_call_is_done_by_the_next_one(tmp_path: Path, call: str, number: int | None) -> None:
    failure = Crash() if number is None else OSError(number, os.strerror(number))
    for when, to in itertools.product(["before", "half", "after"], [0, 2, 5]):
        for nth in itertools.count(1):
            folder = tmp_path / f"{when}-{to}-{nth}"
            segmented(folder, 12)
            events = read(folder)
            [path] = [folder / name for name in segments(folder) if b'{"n":7,' in (folder / name).read_bytes()]
            flipped(path, path.read_bytes().index(b'{"n":7,') + 12)
            lines = set(everything(folder))
            disk = FaultyDisk((call,), nth, failure, when, persistent=False)
            with suppress(Crash, StateBrokenError, StateFullError):
                cut(folder, to, at="one", disk=disk)
            close_what_a_crash_left_open(tmp_path)
            trouble = inspect(folder)
            if trouble is not None:
                cut(folder, min(to, trouble.good), at="two")
            found = read(folder)
            assert found == events[: len(found)]
            assert len(found) >= to
            assert lines <= set(everything(folder))
            if not disk.fired:
                assert len(found) == to
                break
        assert nth > 1 or call in {"unlink", "mkdir"}


def test_how_long_a_hundred_thousand_records_take(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    lines, check = [], 0
    for number in range(1, 100_001):
        needs = {"m/b": "sha256:" + "1" * 64, "m/c": "sha256:" + "2" * 64}
        data = {"check_key": "sha256:" + "0" * 64, "needs": needs, "revision": 1}
        fact = Record(number, "2026-01-01T00:00:00.000Z", "0f3c9a11", "run-1", "verified", f"i{number % 99}", data)
        lines.append(encode(fact, check))
        check = int(lines[-1][-11:-3], 16)
    (folder / NAME).write_bytes(b"".join(lines))
    took = []
    for limits in (Limits(compact_bytes=10**9, segment_bytes=10**9), Limits(), None):
        begin = time.perf_counter()
        start(folder, limits=limits).close()
        took.append(time.perf_counter() - begin)
    with capsys.disabled():
        sys.stdout.write(
            f"\n100,000 records, {sum(map(len, lines)) / MEBIBYTE:.0f} MiB: opened in {took[0]:.2f} s, "
            f"compacted in {took[1]:.2f} s, opened after that in {took[2]:.3f} s\n"
        )
    assert len(read(folder)) == 99 + 1
