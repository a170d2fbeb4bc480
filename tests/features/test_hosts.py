"""Checks run on another host through a command prefix; its tools are part of the verdict, and it may fail."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from executor.cluster.runners import Hosts
from executor.config.load_rules import load_policy
from tests.support import CHECKOUT, Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable

SLEEPS = "run = '''setsid sleep 600 & echo $! > PID.new; mv PID.new PID; sleep 600'''"
WORKER = [sys.executable, "-m", "executor", "worker"]


def host(folder: Path, name: str, *, path: str = "") -> list[str]:
    """A prefix that is another host for its commands: an environment and a home of its own, nothing of this one."""
    home = folder / name
    home.mkdir(exist_ok=True)
    script = home / "enter"
    script.write_text(
        "#!/bin/sh\n"
        f'exec env -i HOME={home} PATH={path}{os.environ["PATH"]} PYTHONPATH={CHECKOUT} HOST_SECRET=of-the-host "$@"\n'
    )
    script.chmod(0o755)
    return [str(script)]


def declared(repo: Repo, prefix: list[str], check: str, **more: object) -> None:
    lines = [f"prefix = {json.dumps(prefix)}", f"worker = {json.dumps(WORKER)}", 'labels = ["big"]', "isolated = true"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    repo.write("rules/runners.toml", "[runner.box]\n" + "\n".join(lines) + "\n")
    repo.write(
        "rules/checks.toml", f'[check.there]\nrunner = "big"\nsabotage = "off"\nsabotage_reason = "-"\n{check}\n'
    )
    repo.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nchecks = ["there"]\n')


def test_a_check_runs_on_the_host_of_its_runner_with_its_own_variables(repo: Repo, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    report = '"<testsuite><testcase name=\\"one\\"/></testsuite>" > {report}'
    declared(
        repo,
        host(tmp_path, "box"),
        f"run = '''echo $HOME $HOST_SECRET >> {seen}; test -e dodo.py; echo printed there; echo {report}'''",
        env=["HOST_SECRET"],
    )
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1").check()
    assert {line.split()[0] for line in seen.read_text().splitlines()} == {str(tmp_path / "box")}
    assert {line.split()[1] for line in seen.read_text().splitlines()} == {"of-the-host"}
    logs = [path.read_text() for path in (repo.path / ".cache").rglob("check-1-there.log")]
    assert [text.strip() for text in logs] == ["printed there"] * len(logs)
    orders = [path for path in (repo.path / ".cache").rglob("*") if path.suffix in {".order", ".result"}]
    assert orders == []
    found = {item["subject"]: item for item in repo.doit("doctor", "--json").json}
    assert found["runner box"]["kind"] == "ok"
    proofs = repo.doit("explain", "m1/a", "--json").check().json["proofs"]
    assert [(row["ok"], row["by"], row["host"]) for row in proofs] == [(True, "", platform.node())]
    times = len(seen.read_text().splitlines())
    repo.doit("verify", "m1").check()
    assert len(seen.read_text().splitlines()) == times, "its verdict is used again"


def test_a_host_that_fails_costs_one_warning_and_the_check_runs_here(repo: Repo, tmp_path: Path) -> None:
    box = host(tmp_path, "box")
    count = tmp_path / "count"
    declared(repo, box, f'run = "echo $HOME >> {count}"')
    repo.milestone("m1", issue("a", "echo a > a"))
    Path(box[0]).write_text('#!/bin/sh\necho "no route to host" >&2\nexit 255\n')
    out = repo.doit("milestone:m1").check().out
    assert repo.landed("milestone/m1-test-m1") == ["a@1"]
    assert str(tmp_path / "box") not in count.read_text()
    found = {item["kind"]: item["text"] for item in repo.doit("doctor", "--json").json}
    assert "no route to host" in found["runner-broken"]
    # it answers, and fails while the check runs
    Path(box[0]).write_text(
        '#!/bin/sh\nread line\ncase $line in *describe*) echo \'{"protocol": 1, "host": "box", '
        '"conditions": {}}\';; *) exit 255;; esac\n'
    )
    count.unlink()
    repo.milestone("m2", issue("b", "echo b > b"))
    out = repo.doit("milestone:m2").check().out
    assert "runner box failed, there runs here" in out
    assert str(tmp_path / "box") not in count.read_text()


@pytest.mark.long
def test_a_tool_of_the_host_is_part_of_the_verdict(repo: Repo, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    tool = tools / "judge"
    tool.write_text(f"#!/bin/sh\necho ran >> {tmp_path}/ran\n")
    tool.chmod(0o755)
    declared(repo, host(tmp_path, "box", path=f"{tools}:"), 'run = ["judge"]')
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1").check()
    ran = tmp_path / "ran"
    before = ran.read_text()
    repo.doit("verify", "m1").check()
    assert ran.read_text() == before
    tool.write_text(f"#!/bin/sh\n# another version\necho ran >> {tmp_path}/ran\n")
    repo.doit("verify", "m1").check()
    assert ran.read_text() != before


def test_what_a_check_started_elsewhere_ends_with_the_run(repo: Repo, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    declared(
        repo,
        host(tmp_path, "box"),
        SLEEPS.replace("PID", str(pid)),
    )
    repo.milestone("m1", issue("a", "echo a > a"))
    process = repo.start("milestone:m1")
    try:
        assert until(pid.exists)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        child = int(pid.read_text())
        assert until(lambda: not alive(child))
    finally:
        process.kill()
        process.communicate()


CLIENT = """
import os, select, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[1])
ends = {0: there.fileno(), there.fileno(): 1}
while True:
    for fd in select.select(list(ends), [], [])[0]:
        data = os.read(fd, 65536)
        if not data and fd:
            sys.exit()
        if not data:
            del ends[fd]
        while data:
            data = data[os.write(ends[fd], data):]
"""


class Stubborn:
    """A host that keeps a worker and its pipes when the client dies, as Slurm and Kubernetes do, and can vanish."""

    def __init__(self, folder: Path) -> None:
        home = folder / "far"
        home.mkdir()
        self._env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
        self._listening = socket.socket(socket.AF_UNIX)
        self._place = tempfile.mkdtemp(prefix="far-", dir="/tmp")  # a short path for a socket
        self._listening.bind(f"{self._place}/s")
        self._listening.listen()
        self.prefix = [sys.executable, "-c", CLIENT, f"{self._place}/s"]
        self.vanished = threading.Event()
        self.workers: list[subprocess.Popen[bytes]] = []
        threading.Thread(target=self._serve, daemon=True).start()
        self._clients: list[socket.socket] = []

    def close(self) -> None:
        """Close what is open in this process."""
        self._listening.close()
        shutil.rmtree(self._place)
        for worker, client in zip(self.workers, self._clients, strict=True):
            worker.kill()
            worker.communicate()
            client.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            worker = subprocess.Popen(WORKER, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            self.workers.append(worker)
            self._clients.append(client)
            assert worker.stdin is not None
            assert worker.stdout is not None
            for source, target in ((client.fileno(), worker.stdin.fileno()), (worker.stdout.fileno(), client.fileno())):
                threading.Thread(target=self._pump, args=(source, target, client), daemon=True).start()

    def _pump(self, source: int, target: int, client: socket.socket) -> None:
        with suppress(OSError):
            while data := os.read(source, 65536):
                if not self.vanished.is_set():
                    os.write(target, data)
            if source != client.fileno() and not self.vanished.is_set():
                client.shutdown(socket.SHUT_RDWR)


@pytest.mark.long
def test_a_host_and_a_run_that_vanish_without_a_word_cost_the_patience_and_leave_nothing(
    repo: Repo, tmp_path: Path
) -> None:
    far, pid = Stubborn(tmp_path), tmp_path / "pid"
    sleeps = SLEEPS.removeprefix("run = '''").removesuffix("'''").replace("PID", str(pid))
    script = f"case $HOME in */far) {sleeps};; esac"
    declared(repo, far.prefix, f"run = '''{script}'''", beat_s=0.5, patience_s=5.0)
    repo.milestone("m1", issue("a", "echo a > a"))
    process = repo.start("milestone:m1")
    try:
        assert until(pid.exists)
        far.vanished.set()
        out = process.communicate()[0]
        assert "runner box failed, there runs here" in out
        assert "the host has been silent for 5 s (patience_s)" in out, out
        assert repo.landed("milestone/m1-test-m1") == ["a@1"]
        assert until(lambda: not alive(int(pid.read_text())))
        far.vanished.clear()
        pid.unlink()
        repo.milestone("m2", issue("b", "echo b > b"))
        process = repo.start("milestone:m2")
        assert until(pid.exists)
        everything = tree_of(process.pid)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # as if the power failed: nobody says farewell
            for one in everything:
                with suppress(ProcessLookupError):
                    os.kill(one, number)
        assert until(lambda: not alive(int(pid.read_text())))
        assert until(lambda: all(worker.poll() is not None for worker in far.workers))
    finally:
        far.close()
        process.kill()
        process.communicate()


def tree_of(process: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found = [process]
    for one in found:
        found += parents.get(one, [])
    return found


@pytest.mark.parametrize(
    ("more", "rules", "label", "boxed", "there"),
    [
        ("isolated = true", "", "big", True, True),
        ("isolated = true", "", "box", True, True),
        ("", "", "big", False, True),
        ("", "", "big", True, False),
        ("isolated = true", "", "small", False, False),
        ("isolated = true", 'include = [".env"]', "big", False, False),
    ],
)
def test_a_check_that_needs_the_sandbox_or_files_that_do_not_travel_runs_here(
    tmp_path: Path, more: str, rules: str, label: str, boxed: bool, there: bool
) -> None:
    (tmp_path / "runners.toml").write_text(f'[runner.box]\nprefix = ["ssh", "box"]\nlabels = ["big"]\n{more}\n')
    (tmp_path / "setup.toml").write_text(f"{rules}\n")
    assert (Hosts(load_policy(tmp_path)).host_for(label, boxed=boxed) is not None) is there


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(holds: Callable[[], bool], seconds: float = 180) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
