from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from executor.errors import StateBrokenError, StateFullError
from executor.process.files import fsync_dir, read_json, state_error, write_all, write_atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfakefs.fake_filesystem import FakeFilesystem


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def plain_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("new", [b"", b"new", b"\x00\xff" * 300_000])
def test_a_file_is_made_or_replaced_whole(tmp_path: Path, new: bytes, durable: bool) -> None:
    path = tmp_path / "file"
    write_atomic(path, new, durable=durable)
    assert path.read_bytes() == new
    write_atomic(path, b"second", durable=durable)
    assert path.read_bytes() == b"second"
    assert names(tmp_path) == ["file"]


def test_a_reader_that_has_the_old_file_open_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old content")
    with path.open("rb") as reader:
        write_atomic(path, b"new")
        assert reader.read() == b"old content"
    assert path.read_bytes() == b"new"


def test_a_symbolic_link_is_replaced_and_what_it_names_is_left_alone(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    write_atomic(link, b"new")
    assert target.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert link.read_bytes() == b"new"


@pytest.mark.usefixtures("plain_umask")
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_the_new_file_has_the_mode_that_was_asked_for(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"x", mode=mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.usefixtures("plain_umask")
def test_by_default_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_atomic(path, b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_missing_folder_is_a_broken_state(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"
    with pytest.raises(StateBrokenError, match="cannot be written: No such file or directory"):
        write_atomic(path, b"x")
    assert names(tmp_path) == []


def test_a_file_where_a_folder_should_be_is_a_broken_state_and_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").write_bytes(b"old")
    with pytest.raises(StateBrokenError, match="Not a directory"):
        write_atomic(tmp_path / "folder" / "file", b"x")
    assert (tmp_path / "folder").read_bytes() == b"old"
    assert names(tmp_path) == ["folder"]


def test_a_folder_in_the_way_of_the_file_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (path / "inner").mkdir(parents=True)
    with pytest.raises(StateBrokenError, match="Is a directory"):
        write_atomic(path, b"x")
    assert names(tmp_path) == ["file"]
    assert names(path) == ["inner"]


def test_a_name_that_is_too_long_is_a_broken_state(tmp_path: Path) -> None:
    with pytest.raises(StateBrokenError, match="File name too long"):
        write_atomic(tmp_path / ("x" * 255), b"x")
    assert names(tmp_path) == []


def test_a_full_disk_keeps_the_old_content_and_no_temporary_file(fs: FakeFilesystem) -> None:
    folder = Path("/state")
    fs.create_dir(folder)
    path = folder / "file"
    write_atomic(path, b"old")
    fs.set_disk_usage(10_000)  # until there is a limit, pyfakefs says that nothing is used
    fs.set_disk_usage(fs.get_disk_usage()[1] + 100)
    with pytest.raises(StateFullError, match=r"/state/file cannot be written: .*; free some space and run again"):
        write_atomic(path, b"n" * 1000)
    assert path.read_bytes() == b"old"
    assert names(folder) == ["file"]
    fs.set_disk_usage(10_000)
    write_atomic(path, b"n" * 1000)
    assert path.read_bytes() == b"n" * 1000


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_a_full_state(number: int) -> None:
    error = state_error(Path("/x/file"), OSError(number, "told so"))
    assert isinstance(error, StateFullError)
    assert str(error) == "/x/file cannot be written: told so; free some space and run again"


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT])
def test_everything_else_is_a_broken_state(number: int) -> None:
    error = state_error(Path("/x/file"), OSError(number, "told so"))
    assert isinstance(error, StateBrokenError)
    assert str(error) == "/x/file cannot be written: told so"


def test_an_error_without_a_number_is_reported_in_its_own_words() -> None:
    assert str(state_error(Path("/x/file"), OSError("odd"))) == "/x/file cannot be written: odd"


def test_more_than_a_pipe_holds_is_written_while_it_is_read() -> None:
    data = bytes(range(256)) * 4096
    reader, writer = os.pipe()

    def fill() -> None:
        try:
            write_all(writer, data)
        finally:
            os.close(writer)

    with ThreadPoolExecutor(1) as pool, os.fdopen(reader, "rb") as received:
        filled = pool.submit(fill)
        assert received.read() == data
        filled.result()


def test_making_the_names_of_a_folder_durable_needs_a_folder(tmp_path: Path) -> None:
    fsync_dir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        fsync_dir(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        fsync_dir(tmp_path / "missing")


@pytest.mark.parametrize("value", [None, [], {"a": [1, 2.5, "☃", "\udcff"]}, "text", 0])
def test_a_json_value_comes_back(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "cache.json", value, durable=False)
    assert read_json(tmp_path / "cache.json") == value


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"\xff\xfe\xfd", bytes(512), b"[1] 2", b"nul", b'{"a":1', b"[" * 100_000, b"9" * 5000]
)
def test_garbage_is_no_json_value(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "cache.json"
    path.write_bytes(garbage)
    assert read_json(path) is None
    assert path.read_bytes() == garbage


def test_a_missing_file_and_a_folder_are_no_json_value(tmp_path: Path) -> None:
    assert read_json(tmp_path / "missing.json") is None
    assert read_json(tmp_path / "missing" / "cache.json") is None
    assert read_json(tmp_path) is None
