"""Both ends of a connection notice that the other one has gone, and neither blames it for a time of its own sleep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from executor.cluster import line
from executor.cluster.orders import Limits, Order, ProtocolError
from executor.cluster.worker import worker_header
from tests.features.test_hosts import alive, until
from tests.support import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Repo

LONG = 600.0


@pytest.fixture
def pack(repo: Repo) -> bytes:
    repo.write("a", "a\n")
    repo.commit("a")
    tip = repo.git("rev-parse", "HEAD")
    words = ["git", "pack-objects", "--revs", "--stdout", "-q"]
    done = subprocess.run(words, cwd=repo.path, input=f"{tip}\n".encode(), capture_output=True, check=True)
    return tip.encode() + b"\n" + done.stdout


class Worker:
    """A worker with an order, and both of its pipes in the hands of the test, which beats until it is hushed."""

    def __init__(self, folder: Path, pack: bytes, script: str, **header: object) -> None:
        folder.mkdir()
        self.pid = folder / "pid"
        order = Order("m/check/1", pack[:40].decode(), ("sh", "-c", script.replace("PID", str(self.pid))))
        order = replace(order, limits=Limits(LONG))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "executor", "worker"],
            cwd=CHECKOUT,
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.given, self.answer = self.process.stdin, self.process.stdout
        known = {"protocol": line.CONNECTION, "beat_s": 0.2, "patience_s": LONG, "size": len(pack)}
        self.given.write(json.dumps({**known, **header, "order": asdict(order)}).encode() + b"\n" + pack)
        self.given.flush()
        self._hushed = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        if header.get("protocol") is None:
            self._thread.start()

    def _beat(self) -> None:
        with suppress(OSError):
            while not self._hushed.wait(0.1):
                os.write(self.given.fileno(), b"\n")

    def hush(self) -> None:
        assert until(self.pid.exists)
        self._hushed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def end(self) -> tuple[int, str]:
        """Wait until it has ended with its child; returns its exit code and its output."""
        output = "" if self.answer.closed else self.answer.read().decode()
        code = self.process.wait(60)
        self.hush()
        assert until(lambda: not alive(int(self.pid.read_text())))
        assert [path.name for path in self.pid.parent.iterdir()] == ["pid"], "it removes its files"
        with suppress(BrokenPipeError):
            self.given.close()
        self.answer.close()
        return code, output


SLEEPS = "setsid sleep 600 & echo $! > PID.new; mv PID.new PID; sleep 600"
ENDS = "setsid sleep 600 & echo $! > PID.new; mv PID.new PID; sleep SECONDS"


def test_a_worker_ends_when_its_coordinator_is_silent_or_gone(tmp_path: Path, pack: bytes) -> None:
    silent = Worker(tmp_path / "silent", pack, SLEEPS, patience_s=4.0)
    left, closed, unread = (Worker(tmp_path / name, pack, SLEEPS) for name in ("left", "closed", "unread"))
    for worker in (silent, left, closed, unread):
        worker.hush()
    left.given.write(b"\nend\n")
    left.given.flush()
    closed.given.close()
    unread.answer.close()
    for worker in (left, closed, unread, silent):
        code, output = worker.end()
        assert (code, set(output.split("\n")) <= {"", line.BEAT.decode()}) == (1, True)


@pytest.mark.long
def test_a_worker_blames_nobody_for_its_own_sleep_and_an_older_coordinator_sends_no_heartbeats(
    tmp_path: Path, pack: bytes
) -> None:
    frozen = Worker(tmp_path / "frozen", pack, ENDS.replace("SECONDS", "12"), patience_s=6.0)
    older = Worker(tmp_path / "older", pack, ENDS.replace("SECONDS", "8"), protocol=1, beat_s=0, patience_s=6.0)
    older.given.close()
    assert until(frozen.pid.exists)
    frozen.process.send_signal(signal.SIGSTOP)
    time.sleep(9)
    frozen.process.send_signal(signal.SIGCONT)
    for worker, protocol in ((frozen, line.CONNECTION), (older, 1)):
        code, output = worker.end()
        assert code == 0
        answer = worker_header(output.encode(), "", "box")
        assert (answer["protocol"], line.BEAT.decode() in output) == (protocol, protocol != 1)
        assert isinstance(answer["result"], dict)
        assert answer["result"]["how"] == "exited"


def test_a_worker_refuses_an_order_that_stops_in_the_middle_and_a_terminal(pack: bytes) -> None:
    order = asdict(Order("m/check/1", pack[:40].decode(), ("true",)))
    header = {"protocol": line.CONNECTION, "beat_s": 0.2, "patience_s": 0.5, "size": len(pack), "order": order}
    worker = [sys.executable, "-m", "executor", "worker"]
    cut = json.dumps(header).encode() + b"\n" + pack[:-40]
    ended = subprocess.run(worker, cwd=CHECKOUT, input=cut, capture_output=True, check=False)
    assert (ended.returncode, b"in the middle" in ended.stderr) == (1, True)
    with subprocess.Popen(worker, cwd=CHECKOUT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(cut)
        process.stdin.flush()
        assert b"in the middle" in process.stderr.read()
    master, slave = os.openpty()
    ended = subprocess.run(worker, cwd=CHECKOUT, stdin=slave, capture_output=True, check=False)
    os.close(master)
    os.close(slave)
    assert (ended.returncode, b"found a terminal" in ended.stderr) == (3, True)


def relayed(folder: Path, script: str, order: bytes = b"order\n", *, patience: float = LONG) -> subprocess.Popen[bytes]:
    folder.mkdir()
    (folder / "order").write_bytes(order)
    files = [str(folder / "order"), str(folder / "answer"), "0.2", str(patience)]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", line.__file__, *files, "sh", "-c", script.replace("HERE", str(folder))],
        stderr=subprocess.PIPE,
    )


def test_the_coordinator_notices_a_silent_host_and_hides_nothing_of_its_end(tmp_path: Path) -> None:
    beat = f"echo; echo '{line.BEAT.decode()}'"
    silent = relayed(tmp_path / "silent", f"{beat}; exec sleep 600", patience=1.0)
    # before its first heartbeat, a host may wait in a queue for as long as it likes
    queued = relayed(tmp_path / "queued", f"echo motd; sleep 2; {beat}; echo answer; exit 7", patience=1.0)
    # a master of ssh stays in the background with the pipes of the first connection
    master = relayed(tmp_path / "master", "sleep 600 & echo $! > HERE/pid; echo answer; exit 3")
    # an order that nobody reads
    unread = relayed(tmp_path / "unread", "exec <&-; echo answer; exit 4", b"x" * 10**6)
    full = relayed(tmp_path / "full", "sleep 2; echo answer; exit 5", b"x" * 10**6)
    echoed = relayed(tmp_path / "echoed", "cat", b"x" * 10**6 + b"\n")
    answer = tmp_path / "echoed/answer"
    assert until(lambda: answer.exists() and answer.stat().st_size > 10**6 + 3)
    echoed.send_signal(signal.SIGTERM)
    codes = {
        "silent": (silent, 255),
        "queued": (queued, 7),
        "master": (master, 3),
        "unread": (unread, 4),
        "full": (full, 5),
        "echoed": (echoed, 0),
    }
    assert {name: process.wait(60) for name, (process, _) in codes.items()} == {
        name: code for name, (_, code) in codes.items()
    }
    os.kill(int((tmp_path / "master/pid").read_text()), signal.SIGKILL)
    for process, _ in codes.values():
        process.communicate()
    for name in ("queued", "master", "unread", "full"):
        assert (tmp_path / name / "answer").read_text().endswith("answer\n"), name
    with pytest.raises(ProtocolError, match="silent for 1 s"):
        worker_header((tmp_path / "silent/answer").read_bytes(), "", "box")
    assert (tmp_path / "echoed/answer").read_bytes().endswith(b"\nend\n"), "a farewell"
    missing = subprocess.run(
        [sys.executable, "-I", "-S", line.__file__, os.devnull, str(tmp_path / "none"), "1", "1", "no-such-program"],
        capture_output=True,
        check=False,
    )
    assert (missing.returncode, missing.stderr) == (127, b"no-such-program: No such file or directory\n")


@pytest.mark.long
def test_the_coordinator_blames_no_host_for_its_own_sleep(tmp_path: Path) -> None:
    beat = f"echo; echo '{line.BEAT.decode()}'"
    beats = f"for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1; {beat}; done"
    frozen = relayed(tmp_path / "frozen", f"{beat}; touch HERE/begun; {beats}", patience=6.0)
    assert until((tmp_path / "frozen/begun").exists)
    frozen.send_signal(signal.SIGSTOP)
    time.sleep(9)
    frozen.send_signal(signal.SIGCONT)
    assert frozen.wait(60) == 0
    frozen.communicate()


@pytest.mark.parametrize(
    ("output", "said", "expected"),
    [
        ("", "", "it said nothing"),
        ("", "a\nno route to host\n", "no route to host"),
        ("Welcome to box\n", "", "begins with 'Welcome to box'"),
        (
            "\r\n Last login: today\r\n$ ",
            "bash: python3: not found\n",
            "python3: not found; its standard output begins",
        ),
        ("x" * 5000, "", "'" + "x" * 200 + "'"),
        ('{"protocol": 2, "beat_s": 10.0, "order": {"id"', "", "without one (no -t)"),
        ('{"protocol": 1, "describe": []}\r\nTraceback', "", "without one (no -t)"),
        ('{"protocol": 3, "host": "box"}', "", "protocol 3, expected 2"),
        ('{"protocol": 2, "problem": "has been silent"}', "", "box has been silent"),
        ("[1]\n{}\n{'a'\n", "", "begins with '[1]'"),
        (f"\n{line.BEAT.decode()}\n", "killed\n", "killed"),
        ("\x00\xff\x1b[0m", "", "begins with"),
    ],
)
def test_whatever_is_no_answer_is_shown_in_one_message(output: str, said: str, expected: str) -> None:
    with pytest.raises(ProtocolError) as found:
        worker_header(output.encode("latin-1"), said, "box")
    assert expected in str(found.value)
    assert str(found.value).isprintable()


@pytest.mark.parametrize(
    "output",
    [
        '{"protocol": 1, "host": "box"}',
        'Welcome\r\nto the {box}\r\n{"protocol": 2, "host": "box"}\r\nlogout\r\n',
        '{"protocol": 2, "describe": []}\r\n\n{"protocol": 2, "host": "box"}\n\n',
        f'\n{line.BEAT.decode()}\n\n{{"protocol": 2, "host": "box"}}\n{{"a": 1}}\n',
    ],
)
def test_an_answer_is_found_among_lines_of_a_login_shell(output: str) -> None:
    assert worker_header(output.encode(), "", "box")["host"] == "box"
