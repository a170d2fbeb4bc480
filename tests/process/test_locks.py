from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from executor.process.locks import try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys, time
from pathlib import Path
from executor.process.locks import try_lock
held = try_lock(Path(sys.argv[1]))
print("none" if held is None else "held", flush=True)
if held is not None:
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.lock"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_is_held_by_one_owner_of_a_process(path: Path) -> None:
    held = try_lock(path)
    assert held is not None
    assert try_lock(path) is None
    assert try_lock(path) is None
    held.release()
    again = try_lock(path)
    assert again is not None
    again.release()


def test_another_spelling_of_the_path_is_the_same_lock(path: Path) -> None:
    held = try_lock(path)
    assert held is not None
    (path.parent / "link").symlink_to(path.parent)
    assert try_lock(path.parent / "link" / path.name) is None
    held.release()


def test_locks_of_different_names_do_not_touch_each_other(path: Path) -> None:
    one, other = try_lock(path), try_lock(path.with_name("other.lock"))
    assert one is not None
    assert other is not None
    one.release()
    assert try_lock(path.with_name("other.lock")) is None
    other.release()


def test_another_process_does_not_get_a_held_lock(path: Path) -> None:
    held = try_lock(path)
    assert held is not None
    other = subprocess.run(
        [sys.executable, "-c", HOLD, str(path)], capture_output=True, text=True, timeout=20, check=True
    )
    assert (other.stdout, other.stderr) == ("none\n", "")
    held.release()


def test_a_lock_held_by_another_process_is_refused_at_once(holder: subprocess.Popen[str], path: Path) -> None:
    begun = time.monotonic()
    assert try_lock(path) is None
    assert time.monotonic() - begun < 5
    assert holder.poll() is None


def test_a_killed_holder_frees_its_lock(holder: subprocess.Popen[str], path: Path) -> None:
    assert try_lock(path) is None
    holder.send_signal(signal.SIGKILL)
    assert holder.wait(20) == -signal.SIGKILL
    held = try_lock(path)
    assert held is not None
    held.release()


def test_releasing_twice_does_not_take_the_lock_from_the_next_owner(path: Path) -> None:
    first = try_lock(path)
    assert first is not None
    first.release()
    first.release()
    second = try_lock(path)
    assert second is not None
    first.release()
    assert try_lock(path) is None
    second.release()


def test_the_lock_file_stays_and_is_the_same_one(path: Path) -> None:
    held = try_lock(path)
    assert held is not None
    inode = path.stat().st_ino
    held.release()
    assert path.stat().st_ino == inode
    again = try_lock(path)
    assert again is not None
    again.release()
    assert path.stat().st_ino == inode


def test_what_stands_in_a_lock_file_is_not_destroyed(path: Path) -> None:
    path.write_text("somebody's notes\n", encoding="ascii")
    held = try_lock(path)
    assert held is not None
    held.release()
    assert path.read_text(encoding="ascii") == "somebody's notes\n"
