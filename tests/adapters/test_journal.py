from __future__ import annotations

import errno
import itertools
import json
import os
import re
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from executor.adapters.files import JOURNAL, NO_SPACE, stamp
from executor.adapters.journal import Disk, Journal, read
from executor.errors import ExecutorError, StateBrokenError, StateFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyfakefs.fake_filesystem import FakeFilesystem

    from executor.core.event import Event

T = TypeVar("T")

NAME = "journal.000001.jsonl"
BALLAST = "journal.ballast"
MEBIBYTE = 1024 * 1024
CALLS = ("open", "write", "fsync", "truncate", "fsync_dir")
TORN = b'{"n":6'


class Crash(BaseException):
    """The process ends here."""


class FaultyDisk(Disk):
    """Fails the n-th of the named calls, and all later ones if it is persistent, before, halfway or after its work."""

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

    def _step(self, name: str, work: Callable[[], T], half: Callable[[], T] | None = None) -> T:
        self.seen += name in self.calls
        due = self.seen == self.nth or (self.persistent and self.seen > self.nth)
        if name not in self.calls or not due or self.healed:
            return work()
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


class SlowDisk(Disk):
    """Takes seven bytes at a time."""

    def write(self, descriptor: int, data: bytes) -> int:
        return super().write(descriptor, data[:7])


def start(folder: Path, run: str = "run-1", disk: Disk | None = None) -> Journal:
    ticks = itertools.count()
    return Journal.open(folder, run=run, now=lambda: f"2026-01-01T00:00:{next(ticks):02d}Z", boot="0f3c9a11", disk=disk)


def filled(folder: Path, count: int) -> bytes:
    journal = start(folder)
    for number in range(1, count + 1):
        journal.append("done", f"issue-{number}", i=number)
    journal.close()
    return (folder / NAME).read_bytes()


def numbers(facts: Iterable[Event]) -> list[int]:
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
    assert warning.startswith(f"the last {len(whole) - cut - offset} bytes of milestone/{NAME} were cut off by a crash")
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
        why = "somebody else wrote to it"
    left = {place: place.read_bytes() for place in folder.parent.rglob("*") if place.is_file()}
    with pytest.raises(StateBrokenError, match=why):
        journal.append("done", i=2)
    if how != "folder-removed":
        path.write_bytes(before)
        left[path] = before
    with pytest.raises(StateBrokenError, match=f"not written any more: {why}"):
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
    for run in ("run-1", "run-2"):
        journal = start(folder, run, disk)
        written = len(journal.events)
        with pytest.raises(StateFullError, match="nothing is lost, free some space and run again"):  # noqa: PT012
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


def test_a_disk_too_full_to_begin_a_journal_is_told_as_such(fs: FakeFilesystem) -> None:
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
