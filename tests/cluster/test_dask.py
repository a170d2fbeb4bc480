"""Dask starts workers for orders; whatever it loses, doubles or cancels costs a start and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from executor.cluster.dask_tasks import Asked, DaskStarter, due, lacking, places
from executor.config.load_rules import load_policy
from executor.errors import DeclarationError
from executor.git.remote import without_password
from executor.model.outward_rules import Runner
from tests.cluster.dask_daemons import Daemons, certificates, free_port
from tests.support import CHECKOUT, Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support import Process


WORKER = (sys.executable, "-m", "executor", "worker")
AGENTS = {"agent": 1.0}


@pytest.mark.parametrize(
    ("asked", "now", "again"),
    [
        (None, 0, True),
        (Asked("s", 0), 9, False),
        (Asked("s", 0), 10, True),
        (Asked("old", 0), 1, True),
        (Asked("s", 0, times=1), 19, False),
        (Asked("s", 0, times=1), 20, True),
        (Asked("s", 0, times=99), 319, False),
        (Asked("s", 0, times=99), 320, True),
        (Asked("s", 0, over=True), 1, False),
        (Asked("s", 0, over=True), 2, True),
        (Asked("s", 0, times=1, over=True), 3, False),
        (Asked("s", 0, times=9, over=True), 10, True),
    ],
)
def test_an_order_that_nobody_claims_is_asked_for_again_with_growing_pauses(
    asked: Asked | None, now: float, again: bool
) -> None:
    assert due(asked, "s", now=now, patience=10) is again


@pytest.mark.parametrize(
    ("workers", "wanted", "problem"),
    [
        ({}, AGENTS, "has no workers; start one with --resources 'agent=1'"),
        ({"a": {}}, AGENTS, "no worker offers agent=1 (workers: 1, their resources: none)"),
        ({"a": {"check": 2.0}, "b": {"check": 2.0}}, AGENTS, "(workers: 2, their resources: check=2)"),
        ({"a": {"agent": 0.5}}, AGENTS, "their resources: agent=0.5"),
        ({"a": {"gpu": 1.0}, "b": {"agent": 1.0}}, {"agent": 1.0, "gpu": 1.0}, "no worker offers agent=1 gpu=1"),
        ({"a": {"gpu": 1.0, "agent": 4.0}}, {"agent": 1.0, "gpu": 1.0}, ""),
        ({"a": {}}, {}, ""),
    ],
)
def test_a_task_needs_one_worker_with_all_of_its_resources(
    workers: dict[str, dict[str, float]], wanted: dict[str, float], problem: str
) -> None:
    found = lacking(workers, wanted) or ""
    assert problem in found
    assert bool(found) is bool(problem)


@pytest.mark.parametrize(
    ("workers", "wanted", "number"),
    [
        ({}, AGENTS, 0),
        ({"a": {"agent": 2.0}, "b": {"agent": 1.5}, "c": {"check": 4.0}}, AGENTS, 3),
        ({"a": {"agent": 4.0, "gpu": 1.0}}, {"agent": 1.0, "gpu": 0.5}, 2),
    ],
)
def test_as_many_tasks_are_given_to_dask_as_its_workers_have_places(
    workers: dict[str, dict[str, float]], wanted: dict[str, float], number: int
) -> None:
    assert places(workers, wanted) == number


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("https://me:token@example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://token@example.org:8443/a.git", "https://example.org:8443/a.git"),
        ("https://example.org/a@b.git", "https://example.org/a@b.git"),
        ("ssh://git@example.org/a.git", "ssh://git@example.org/a.git"),
        ("git@example.org:a.git", "git@example.org:a.git"),
        ("/srv/a@b.git", "/srv/a@b.git"),
    ],
)
def test_a_token_in_the_address_of_the_remote_does_not_travel(address: str, sent: str) -> None:
    assert without_password(address) == sent


@pytest.mark.parametrize(
    ("lines", "keys"),
    [
        ('kind = "dask"\naddress = "tcp://127.0.0.1:8786"', []),
        ('kind = "dask"\naddress = "tls://box:8786"\ntls = { ca = "/ca", cert = "/cert", key = "~/key" }', []),
        ('kind = "dask"\naddress = "tls://box:8786"', ["tls"]),
        ('kind = "dask"\naddress = "tls://box:8786"\ntls = { ca = "/ca", cert = "/cert" }', ["tls.key"]),
        ('kind = "dask"\naddress = "tls://box:8786"\ntls = { ca = "ca", cert = "/c", key = "/k" }', ["tls.ca"]),
        ('kind = "dask"\naddress = "tcp://box:8786"', ["address"]),
        ('kind = "dask"\naddress = "box"', ["address"]),
        ('kind = "dask"\naddress = "tls://box:port"', ["address"]),
        ('kind = "dask"', ["address"]),
        ('kind = "dask"\naddress = "tcp://[::1]:1"\nprefix = ["ssh", "box"]', ["prefix"]),
        ('kind = "dask"\naddress = "tcp://[::1]:1"\nresources = { agent = 0 }', ["resources.agent"]),
        ('prefix = ["ssh", "box"]\naddress = "tcp://127.0.0.1:1"\nstart_s = 3.0', ["address", "start_s"]),
        ("", ["prefix"]),
        ('kind = "ray"', ["kind"]),
    ],
)
def test_keys_of_a_runner_are_those_of_its_kind(tmp_path: Path, lines: str, keys: list[str]) -> None:
    (tmp_path / "runners.toml").write_text(f"[runner.box]\n{lines}\n")
    found: list[str] = []
    try:
        load_policy(tmp_path)
    except DeclarationError as error:
        found = [fault.key.removeprefix("runner.box.") for fault in error.faults]
    assert found == keys


def until(holds: Callable[[], object], seconds: float = 180) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


CLUSTER = """
import json, sys, time
from distributed import LocalCluster, Security
port, resources, folder = json.loads(sys.argv[1])
files = dict(tls_ca_file="ca.pem", tls_client_cert="box.pem", tls_client_key="box.key",
    tls_scheduler_cert="box.pem", tls_scheduler_key="box.key", tls_worker_cert="box.pem", tls_worker_key="box.key")
keys = {key: f"{folder}/{name}" for key, name in files.items()}
security = Security(require_encryption=True, **keys) if folder else None
LocalCluster(
    n_workers=1, threads_per_worker=4, processes=False, host="127.0.0.1", scheduler_port=port, security=security,
    protocol="tls" if folder else "tcp", dashboard_address=None, resources=resources, silence_logs=50,
)
print("ready", flush=True)
time.sleep(600)
"""


@contextmanager
def cluster(port: int, *, agents: int = 2, tls: Path | None = None) -> Iterator[str]:
    """A scheduler and one worker with four threads, in a process that is killed at the end."""
    pytest.importorskip("distributed", reason="needs dask's distributed")
    asked = json.dumps([port, {"agent": agents, "check": 1}, str(tls) if tls else ""])
    with subprocess.Popen([sys.executable, "-c", CLUSTER, asked], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield f"{'tls' if tls else 'tcp'}://127.0.0.1:{port}"
        finally:
            process.kill()


def stand_in(folder: Path, ends: str = "") -> tuple[str, ...]:
    """A worker's command that notes the order that it is started for."""
    script = folder / "worker"
    script.write_text(f'#!/bin/sh\necho $$ >> {folder}/children; echo "$4" >> {folder}/started\n{ends}\n')
    script.chmod(0o755)
    return (str(script),)


def starts(folder: Path) -> list[str]:
    started = folder / "started"
    return started.read_text().splitlines() if started.exists() else []


def test_a_worker_is_started_for_each_order_and_again_by_a_new_scheduler(tmp_path: Path) -> None:
    port = free_port()
    with cluster(port) as address:
        runner = Runner(
            name="farm", kind="dask", address=address, worker=stand_in(tmp_path, "sleep 600"), connect_s=1, start_s=600
        )
        starter = DaskStarter(runner, "origin.git")
        for order in ("m/a/1", "m/b/1", "m/c/1"):
            starter.want(order)
        assert until(lambda: len(starts(tmp_path)) == 2), starter.trouble
        assert set(starts(tmp_path)) < {"m/a/1", "m/b/1", "m/c/1"}, "two at once"
        for order in ("m/a/1", "m/b/1", "m/c/1"):
            starter.drop(order)
    starter.want("m/d/1")
    assert until(lambda: "broke off" in starter.trouble or "no Dask scheduler answers" in starter.trouble)
    with cluster(port):
        assert until(lambda: "m/d/1" in starts(tmp_path)), starter.trouble
        assert until(lambda: not starter.trouble)
        starter.close()
    for child in map(int, (tmp_path / "children").read_text().split()):
        os.killpg(os.getpgid(child), signal.SIGKILL)


LOADED = """
import sys
from executor.__main__ import main
code = main(sys.argv[1:])
words = [name for name in sys.modules if name.partition(".")[0] in {"distributed", "dask"} or ".cluster" in name]
print("loaded", code, sorted(word for word in words if word.startswith(("executor", "distributed", "dask"))))
"""


def test_a_runner_that_nothing_uses_is_not_imported(repo: Repo) -> None:
    repo.milestone("m1", issue("a", "echo a > a"))
    repo.write("rules/runners.toml", '[runner.farm]\nkind = "dask"\naddress = "tcp://127.0.0.1:1"\n')
    for words in (["list"], ["milestone:m1"]):
        argv = [sys.executable, "-c", LOADED, *words]
        done = subprocess.run(argv, cwd=repo.path, env=repo.environment(), check=True, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "loaded 0 []"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, a certificate of it, and one that nobody signed."""
    return certificates(tmp_path_factory.mktemp("tls"))


def files(tls: Path, *, ca: str = "ca", name: str = "box") -> dict[str, str]:
    return {"ca": f"{tls}/{ca}.pem", "cert": f"{tls}/{name}.pem", "key": f"{tls}/{name}.key"}


@pytest.mark.long
def test_doctor_tries_the_scheduler_its_certificate_and_a_worker(repo: Repo, tls: Path) -> None:
    port = free_port()
    address = f"tls://127.0.0.1:{port}"
    subprocess.run(["git", "init", "-q", "--bare", str(repo.path.parent / "origin.git")], check=True)
    repo.git("remote", "add", "origin", str(repo.path.parent / "origin.git"))

    def runner(kind: dict[str, str], **more: object) -> None:
        keys = {"kind": "dask", "address": address, "worker": WORKER, "connect_s": 3.0, **more}
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in kind.items())
        repo.write("rules/runners.toml", "\n".join(["[runner.farm]", *lines, f"tls = {{ {table} }}", ""]))

    def told() -> tuple[str, str]:
        found = next(item for item in repo.doit("doctor", "--json").json if item["subject"] == "runner farm")
        return found["kind"], found["text"]

    runner(files(tls))
    kind, text = told()
    assert (kind, f"no Dask scheduler answers at {address}" in text) == ("runner-broken", True), text
    with cluster(port, tls=tls):
        kind, text = told()
        assert kind == "ok", text
        assert "Python 3" in text
        for wrong, expected in (
            (files(tls, name="stranger"), "refuses the certificate"),
            (files(tls, ca="stranger"), "did not sign"),
            (files(tls, name="missing"), "does not exist"),
        ):
            runner(wrong)
            kind, text = told()
            assert kind == "runner-broken"
            assert expected in text
        runner(files(tls), worker=["nothing-of-this-name"])
        kind, text = told()
        assert (kind, "nothing-of-this-name" in text) == ("runner-broken", True), text
    with cluster(port, agents=0, tls=tls):
        runner(files(tls))
        kind, text = told()
        assert (kind, "no worker offers agent=1" in text) == ("runner-broken", True), text


class Farm(Daemons):
    """A scheduler with TLS and hosts with homes of their own, all of them processes that can be killed."""

    def __init__(self, folder: Path, tls: Path) -> None:
        super().__init__(tls)
        self.folder = folder

    def _home(self, name: str) -> tuple[Path, dict[str, str]]:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(home)}
        return home, env

    def start(self) -> subprocess.Popen[bytes]:
        return self.scheduler(*self._home("scheduler"))

    def host(self, name: str) -> subprocess.Popen[bytes]:
        return self.worker(name, *self._home(name), agents=2)

    def claimed(self) -> list[str]:
        """Ids of the orders that workers have claimed, as their refs say."""
        words = [
            "git",
            "-C",
            str(self.folder / "origin.git"),
            "for-each-ref",
            "--format=%(refname)",
            "refs/work/leases",
        ]
        found = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
        return [name.removeprefix("refs/work/leases/") for name in found]


@pytest.fixture
def farm(tmp_path: Path, tls: Path, repo: Repo) -> Iterator[Farm]:
    made = Farm(tmp_path, tls)
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "origin.git")], check=True)
    repo.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    keys = {"kind": "dask", "address": made.address, "worker": WORKER, "isolated": True, "start_s": 30.0}
    keys |= {"beat_s": 0.5, "patience_s": 5.0, "poll_s": 0.2, "connect_s": 5.0, "labels": ["big"]}
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in files(tls).items())
    repo.write("rules/runners.toml", "\n".join(["[runner.farm]", *lines, f"tls = {{ {table} }}", ""]))
    repo.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nrunner = "big"\n')
    yield made
    made.stop()


@contextmanager
def run_of(repo: Repo, *words: str) -> Iterator[Process]:
    """A run in the background, which ends with the block."""
    process = repo.start("milestone:m1", *words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def events(repo: Repo, ref: str, kind: str) -> list[Any]:
    lines = repo.doit("log", ref, "--events", "--json").check().out.splitlines()
    return [item for item in map(json.loads, lines) if item["event"] == kind]


@pytest.mark.long
def test_agents_work_on_hosts_that_dask_finds(repo: Repo, farm: Farm) -> None:
    farm.start()
    farm.host("left")
    repo.milestone("m1", "".join(issue(name, f"echo $HOME > {name}; sleep 3") for name in "abcd"))
    with run_of(repo, "-n", "4") as process:
        farm.host("right")
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    assert sorted(repo.landed("milestone/m1-test-m1")) == ["a@1", "b@1", "c@1", "d@1"]
    homes = {repo.git("show", f"milestone/m1-test-m1:{name}") for name in "abcd"}
    assert homes == {str(farm.folder / "left"), str(farm.folder / "right")}, "a host that joins later is used"
    assert farm.claimed() == []


@pytest.mark.long
def test_whatever_dask_does_an_agent_runs_once(repo: Repo, farm: Farm) -> None:
    started, go = farm.folder / "started", farm.folder / "go"
    scheduler, left = farm.start(), farm.host("left")
    farm.host("right")
    wait = f"echo NAME >> {started}; until test -e {go}; do sleep 0.1; done; echo NAME > NAME"
    repo.milestone("m1", "".join(issue(name, wait.replace("NAME", name)) for name in "abc"))
    with run_of(repo, "-n", "3") as process:
        assert until(lambda: started.exists() and len(started.read_text().split()) == 3)
        code = CANCELS.format(orders=farm.claimed(), worker=[*WORKER, "--remote", str(farm.folder / "origin.git")])
        argv = [sys.executable, "-c", code, farm.address, str(farm.tls)]
        assert "cancelled 3" in subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        farm.kill(left)  # Dask starts its tasks again elsewhere
        time.sleep(3)
        farm.kill(scheduler)
        farm.start()
        farm.host("third")
        time.sleep(8)  # more than the patience
        go.touch()
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    assert sorted(repo.landed("milestone/m1-test-m1")) == ["a@1", "b@1", "c@1"]
    assert sorted(started.read_text().split()) == ["a", "b", "c"]
    assert [len(events(repo, f"m1/{name}", "work-hosted")) for name in "abc"] == [1, 1, 1]
    assert farm.claimed() == []


CANCELS = """
import subprocess, sys, time
from distributed import Client, Future, Security
folder = sys.argv[2]
security = Security(tls_ca_file=f"{{folder}}/ca.pem", tls_client_cert=f"{{folder}}/box.pem",
    tls_client_key=f"{{folder}}/box.key", require_encryption=True)
client = Client(sys.argv[1], security=security)
keys = [key for keys in client.processing().values() for key in keys]
client.cancel([Future(key, client) for key in keys], force=True)
print("cancelled", len(keys))
for order in {orders}:
    for _ in range(2):
        client.submit(subprocess.Popen, [*{worker}, "--order", order], pure=False)
time.sleep(3)
"""


@pytest.mark.long
def test_an_order_whose_worker_is_killed_is_started_on_another_host(repo: Repo, farm: Farm) -> None:
    started = farm.folder / "started"
    farm.start()
    farm.host("left")
    script = f"test -e {started} || {{ echo $PPID > {started}; setsid sleep 600 & sleep 600; }}; echo a > a"
    repo.milestone("m1", issue("a", script))
    with run_of(repo) as process:
        assert until(lambda: started.exists() and started.read_text().strip())
        words = ["pgrep", "-f", f"worker --remote {farm.folder}/origin.git --order m1/a/1"]
        for found in subprocess.run(words, check=True, capture_output=True, text=True).stdout.split():
            os.kill(int(found), signal.SIGKILL)
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    assert repo.landed("milestone/m1-test-m1") == ["a@1"]
    assert len(events(repo, "m1/a", "work-hosted")) == 2
    words = ["pgrep", "-f", str(farm.folder / "left" / ".cache")]
    assert until(lambda: not subprocess.run(words, capture_output=True, check=False).stdout)
    assert farm.claimed() == []
