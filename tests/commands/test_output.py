"""Output never ends or changes what a command with effects does, and never its exit code."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from executor.commands.output import Stream
from tests.support import DODO, Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READER_GONE = 'exec "$@" | true; exit ${PIPESTATUS[0]}'
CLOSED = 'exec "$@" >&-'
ALL_CLOSED = 'exec "$@" <&- >&- 2>&-'
FULL = 'exec "$@" > /dev/full'
ALL_FULL = 'exec "$@" > /dev/full 2>&1'
PLACES = [READER_GONE, CLOSED, ALL_CLOSED, FULL, ALL_FULL]
BRANCH = "milestone/good-test-good"
OWN = ["info x", "ignore x", "forget x", "reset-dep x", "clean x"]


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "Größe 日本")
    repo.milestone("good", issue("a", "echo a > a") + issue("b", "echo b > b", title="Füge ein: 日本"))
    repo.milestone("bad", issue("a", "echo a > c", accept=[{"run": "false"}], type="chore"))
    return repo


def into(repo: Repo, place: str, *words: str, **environment: str) -> int:
    """Exit code of a command whose output goes to such a place."""
    done = subprocess.run(
        ["bash", "-c", place, "bash", sys.executable, "-m", "doit", *words],
        cwd=repo.path,
        env=repo.environment() | environment,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode


@pytest.mark.parametrize("place", [READER_GONE, ALL_CLOSED, ALL_FULL])
def test_commands_with_effects_do_all_they_have_to_and_keep_their_exit_codes(repo: Repo, place: str) -> None:
    assert into(repo, place, "milestone:good") == 0
    assert repo.landed(BRANCH) == ["a@1", "b@1"]
    repo.write("rules/checks.toml", '[check.no]\nrun = "false"\n')
    repo.write("rules/routes.toml", '[route.feature]\nchecks = ["no"]\n')
    codes = {"milestone:bad": 1, "verify good": 1, "doctor m": 3}
    assert {words: into(repo, place, *words.split()) for words in codes} == codes
    assert [item["how"] for item in repo.doit("sessions", "--json").json["sessions"]] == ["done", "done"]


def test_doits_own_commands_do_all_they_have_to_as_well(repo: Repo) -> None:
    repo.write("dodo.py", f"{DODO}\ndef task_x():\n    return {{'actions': ['echo x']}}\n")
    assert {words: into(repo, ALL_CLOSED, *words.split()) for words in OWN} == dict.fromkeys(OWN, 0) | {"info x": 1}
    assert into(repo, ALL_FULL, "forget", "x") == 0


def test_a_view_ends_quietly_when_its_reader_has_gone_and_says_that_a_disk_is_full(repo: Repo) -> None:
    assert [into(repo, place, "list") for place in PLACES] == [0, 0, 0, 75, 75]


# repositories/test_small_things.py has the locale C without UTF-8.
@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
def test_no_command_fails_for_the_encoding_of_its_output(repo: Repo, environment: dict[str, str]) -> None:
    for words in ("list", "milestone:good", "pause good --reason Grüße→日", "unpause good", "report good --format md"):
        assert into(repo, 'exec "$@"', *words.split(), **environment) == 0, words


def test_a_reader_that_does_not_read_does_not_hold_a_run_up(repo: Repo) -> None:
    lines = "".join(issue(f"i{number}", f"echo {number} > f{number}", title="t" * 200) for number in range(2))
    repo.milestone("long", lines)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(writing, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "doit", "milestone:long"], cwd=repo.path, env=repo.environment(), stdout=writing
    )
    try:
        wait_until(lambda: [item.get("code") for item in repo.doit("sessions", "--json").json["sessions"]] == [0])
        assert process.poll() is None, "it waits for its reader now that everything is done"
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert b"2 landed" in pipe.read()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    import time

    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_slow_reader_of_a_non_blocking_pipe_gets_everything(repo: Repo) -> None:
    repo.milestone("long", "".join(issue(f"i{number}", "true", title="t" * 200) for number in range(300)))
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    words = [sys.executable, "-m", "doit", "list", "--json"]
    process = subprocess.Popen(words, cwd=repo.path, env=repo.environment(), stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    wait_until(lambda: len(select.select([reading], [], [], 1)[0]) == 1)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert len(json.loads(text)) == 303


def test_the_lines_of_a_run_can_go_to_a_file(repo: Repo) -> None:
    repo.doit("milestone:good", "--output-file", "lines.txt").check()
    assert "landed" in (repo.path / "lines.txt").read_text(encoding="utf-8")
    assert "--output-file no/folder: No such file" in repo.doit("milestone:bad", "-o", "no/folder").check(3).err


def test_a_stream_in_memory_is_written_to_in_order() -> None:
    out, err = io.StringIO(), io.StringIO()
    first, second = Stream(out), Stream(err)
    for number in range(100):
        first.write(f"{number}\n")
        second.write(f"{number}\n")
    Stream.wait()
    assert out.getvalue() == err.getvalue() == "".join(f"{number}\n" for number in range(100))


def test_a_stream_that_was_lost_takes_anything() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        stream = Stream(pipe)
        stream.write("a")
        Stream.wait()
        assert isinstance(stream.lost, BrokenPipeError)
        assert stream.write("b") == 1
        stream.flush()
