"""Agents and checks run behind a real sshd and a real Slurm on loopback; killed, neither leaves a process behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.features.test_hosts import SLEEPS, alive, declared, tree_of, until
from tests.support import CHECKOUT, Repo, issue

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_S = 600
"""Seconds that a daemon may take to come up on a busy machine."""


def found(*programs: str) -> list[str]:
    """Paths of programs, of which some are where only root looks; skips by name without one."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    for name in programs:
        if shutil.which(name, path=path) is None:
            pytest.skip(f"needs {name}")
    return [str(shutil.which(name, path=path)) for name in programs]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[list[str]]:
    program, _, _ = found("sshd", "ssh", "ssh-keygen")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    port = free_port()
    keys = tmp_path / "user.pub"
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {keys}\nStrictModes no\n"
        f"PidFile {tmp_path}/sshd.pid\nUsePAM no\nPermitRootLogin yes\n"
        f"SetEnv PYTHONPATH={CHECKOUT} HOST_SECRET=of-sshd\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with subprocess.Popen(
        [program, "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=subprocess.DEVNULL
    ) as server:
        known = f"-oUserKnownHostsFile={tmp_path}/known"
        try:
            assert until(lambda: _listens(port))
            yield [
                "ssh",
                "-F",
                "/dev/null",
                "-oBatchMode=yes",
                "-oStrictHostKeyChecking=no",
                known,
                f"-p{port}",
                f"-i{tmp_path}/user",
                "127.0.0.1",
            ]
        finally:
            server.terminate()


SLURM = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
InactiveLimit=20
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


@pytest.fixture
def slurm() -> Iterator[list[str]]:
    """A prefix that runs the worker as a job of a cluster of one node, with Debian's slurm-wlm and munge."""
    munged, controller, node, srun, _ = found("munged", "slurmctld", "slurmd", "srun", "sinfo")
    if os.geteuid() != 0:
        pytest.skip("slurmd needs root")
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:  # a short path for a socket
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "key").write_bytes(os.urandom(64))
        (folder / "key").chmod(0o400)
        text = SLURM.format(
            host=socket.gethostname().partition(".")[0],
            port=free_port(),
            node_port=free_port(),
            folder=folder,
            user="root",
        )
        (folder / "slurm.conf").write_text(text)
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        key = [f"--key-file={folder}/key", f"--seed-file={folder}/seed", f"--pid-file={folder}/munged.pid"]
        munge = [munged, "--foreground", "--force", *key, f"--socket={folder}/munge.socket", f"--log-file={folder}/log"]
        daemons = []
        try:
            for argv in (munge, [controller, "-D", "-c"], [node, "-D", "-c"]):
                daemons.append(subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                time.sleep(0.2)
            assert until(lambda: _is_idle(env), MOST_S), (folder / "slurmctld.log").read_text()
            yield ["env", f"SLURM_CONF={folder}/slurm.conf", srun, "--quiet"]
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(60)


def _is_idle(env: dict[str, str]) -> bool:
    done = subprocess.run(["sinfo", "-h", "-o", "%t"], env=env, capture_output=True, text=True, check=False)
    return done.stdout.strip() == "idle"


@pytest.fixture(params=["ssh", pytest.param("slurm", marks=pytest.mark.campaign)])
def box(request: pytest.FixtureRequest) -> list[str]:
    """A prefix of a real host."""
    return list(request.getfixturevalue({"ssh": "sshd", "slurm": "slurm"}[request.param]))


def killed(repo: Repo, milestone: str, pid: Path, box: list[str], *, at_once: bool) -> None:
    """Kill a run while its command sleeps on the host; nothing of it may be left there.

    Args:
        at_once: kill all processes of the run together, so that nobody says farewell to the host.
    """
    process = repo.start(f"milestone:{milestone}")
    try:
        assert until(pid.exists)
        if at_once:
            everything = tree_of(process.pid)
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for one in everything:
                    with suppress(ProcessLookupError):
                        os.kill(one, number)
        process.kill()
        process.wait(30)
        assert until(lambda: not alive(int(pid.read_text())))
        assert until(lambda: not jobs(box))
    finally:
        process.kill()
        process.communicate()
    pid.unlink()


def jobs(box: list[str]) -> str:
    """Return the jobs of a Slurm; an sshd has none."""
    if box[0] == "ssh":
        return ""
    return subprocess.run([*box[:2], "squeue", "-h"], capture_output=True, text=True, check=True).stdout


@pytest.mark.long
def test_a_check_runs_on_a_real_host_and_ends_with_the_run(repo: Repo, tmp_path: Path, box: list[str]) -> None:
    seen, pid = tmp_path / "seen", tmp_path / "pid"
    secret = "HOST_SECRET" if box[0] == "ssh" else "SLURM_JOB_ID"
    declared(repo, box, f"run = '''echo ${secret} >> {seen}'''", env=[secret])
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.doit("milestone:m1").check()
    words = set(seen.read_text().split())
    assert words == {"of-sshd"} or (box[0] != "ssh" and words and all(map(str.isdigit, words)))
    assert "runner box" in {item["subject"] for item in repo.doit("doctor", "--json").json if item["kind"] == "ok"}
    for milestone, times in {"m2": {}, "m3": {"beat_s": 1.0, "patience_s": 10.0}}.items():
        declared(repo, box, SLEEPS.replace("PID", str(pid)), **times)
        repo.milestone(milestone, issue("b", "echo b > b"))
        killed(repo, milestone, pid, box, at_once=bool(times))


@pytest.mark.long
def test_an_agent_works_on_a_real_host_and_ends_with_the_run(repo: Repo, tmp_path: Path, box: list[str]) -> None:
    pid = tmp_path / "pid"
    secret = "HOST_SECRET" if box[0] == "ssh" else "SLURM_JOB_ID"
    declared(repo, box, 'run = "true"', env=[secret])
    routes = '[route.default]\nagent = ["script"]\nrunner = "big"\n'
    repo.write("rules/routes.toml", routes)
    repo.milestone("m1", issue("a", f'test -n "${secret}" && echo a > a && rm -f .gitignore'))
    repo.doit("milestone:m1").check()
    assert repo.landed("milestone/m1-test-m1") == ["a@1"]
    assert repo.git("show", "milestone/m1-test-m1:a") == "a"
    sleeps = SLEEPS.removeprefix("run = '''").removesuffix("'''").replace("PID", str(pid))
    for milestone, times in {"m2": {}, "m3": {"beat_s": 1.0, "patience_s": 10.0}}.items():
        declared(repo, box, 'run = "true"', **times)
        repo.write("rules/routes.toml", routes)
        repo.milestone(milestone, issue("b", sleeps))
        killed(repo, milestone, pid, box, at_once=bool(times))


@pytest.mark.long
def test_a_host_that_vanishes_is_an_outage_and_the_agent_starts_again(
    repo: Repo, tmp_path: Path, sshd: list[str]
) -> None:
    pid, again = tmp_path / "pid", tmp_path / "again"
    declared(repo, sshd, 'run = "true"', beat_s=1.0, patience_s=10.0)
    repo.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nrunner = "big"\n')
    repo.write("rules/limits.toml", "attempts = 1\noutage_s = 0.5\n")
    sleeps = SLEEPS.removeprefix("run = '''").removesuffix("'''").replace("PID", str(pid))
    repo.milestone("m1", issue("a", f"test -e {again} || {{ touch {again}; {sleeps}; }}; echo a > a"))
    process = repo.start("milestone:m1")
    sessions: list[int] = []
    try:
        assert until(pid.exists)
        sessions = tree_of(int((tmp_path / "sshd.pid").read_text()))[1:2]
        os.kill(sessions[0], signal.SIGSTOP)  # it closes nothing, and forwards nothing
        assert until(lambda: not alive(int(pid.read_text())))
        out = process.communicate()[0]
    finally:
        process.kill()
        for session in sessions:
            os.kill(session, signal.SIGKILL)
    assert "the host has been silent for 10 s (patience_s)" in out
    assert repo.landed("milestone/m1-test-m1") == ["a@1"], "its one attempt was not spent"
