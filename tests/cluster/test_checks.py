"""Checks of a milestone run on workers that claim them; the tools of their hosts are part of the verdicts."""

from __future__ import annotations

import json
import os
import platform
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.cluster.dask_daemons import Daemons, certificates, free_port
from tests.cluster.test_dask import WORKER, cluster
from tests.cluster.test_workers import BRANCH, FAR, Far, alive, until
from tests.features.test_shared_verdicts import Team
from tests.support import CHECKOUT, Repo, issue

REPORT = '"<testsuite><testcase name=\\"one\\"/></testsuite>" > {report}'


@pytest.fixture
def far(repo: Repo, tmp_path: Path) -> Far:
    """A repository whose checks run on workers of a remote, and whose agents work here."""
    return Far(tmp_path, repo)


def declare(far: Far, run: str, rules: str = "isolated = true\n", kind: str = FAR) -> None:
    far.repo.write("rules/runners.toml", f"[runner.far]\n{kind}{rules}")
    far.repo.write(
        "rules/checks.toml",
        f"[check.there]\nrunner = \"far\"\nsabotage = \"off\"\nsabotage_reason = \"-\"\nrun = '''{run}'''\n",
    )
    far.repo.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nchecks = ["there"]\n')


def test_a_worker_does_a_check_and_its_verdict_is_used_again(far: Far) -> None:
    ran = far.folder / "ran"
    declare(
        far,
        f"echo $HOME $FAR_NAME >> {ran}; test -e dodo.py; echo printed there; echo {REPORT}",
        'isolated = true\nenv = ["FAR_NAME"]\n',
    )
    far.repo.milestone("m1", issue("a", "echo a > a"))
    with far.worker("box", FAR_NAME="of-the-host"):
        far.repo.doit("milestone:m1").check()
        lines = ran.read_text().splitlines()
        assert set(lines) == {f"{far.folder}/box of-the-host"}
        proofs = far.repo.doit("explain", "m1/a", "--json").check().json["proofs"]
        assert [(row["ok"], row["host"]) for row in proofs] == [(True, platform.node())]
        far.repo.doit("verify", "m1").check()
        assert ran.read_text().splitlines() == lines, "the verdict is used again"
        found = {item["subject"]: item for item in far.repo.doit("doctor", "--json").json}
        assert (found["runner far"]["kind"], f"checks: {platform.node()}" in found["runner far"]["text"]) == (
            "ok",
            True,
        )
    assert far.repo.landed(BRANCH) == ["a@1"]
    assert {item["host"] for item in far.events("checked")} == {platform.node()}
    assert far.refs() == []


@pytest.mark.long
def test_a_check_that_looks_at_another_checkout_of_its_host_is_blind_and_no_agent_starts(far: Far) -> None:
    other = far.folder / "other"
    other.mkdir()
    (other / "app.py").write_text("ONE = 1\n")
    far.repo.write("app.py", "ONE = 1\n")
    far.repo.commit("A module")
    declare(far, f'cd {other} && python3 -c "import app" && echo {REPORT}')
    rules = (far.repo.path / "rules/checks.toml").read_text()
    far.repo.write("rules/checks.toml", rules.replace('sabotage = "off"\nsabotage_reason = "-"\n', ""))
    far.repo.milestone("m1", issue("a", "echo ONE = 2 > app.py"))
    with far.worker("box"):
        far.repo.doit("milestone:m1").check(4)
    red = far.events("base-red")
    assert [item["word"] for item in red] == ["blind"]
    assert "runner far" in red[0]["reason"]
    assert not far.events("attempt-started")


@pytest.mark.long
def test_dask_starts_a_worker_for_a_check_on_a_host_with_its_conditions(far: Far) -> None:
    ran = far.folder / "ran"
    with cluster(free_port()) as address:
        rules = f'kind = "dask"\naddress = "{address}"\nworker = {json.dumps(WORKER)}\nisolated = true\npoll_s = 0.2\n'
        declare(far, f"echo ran >> {ran}; echo {REPORT}", rules, kind="")
        far.repo.milestone("m1", issue("a", "echo a > a"))
        far.repo.doit("milestone:m1").check()
        times = len(ran.read_text().splitlines())
        far.repo.doit("verify", "m1").check()
        assert len(ran.read_text().splitlines()) == times
        found = {item["subject"]: item for item in far.repo.doit("doctor", "--json").json}
        assert "checks: " in found["runner far"]["text"]
    assert {item["host"] for item in far.events("checked")} == {platform.node()}
    assert far.refs() == []


@pytest.mark.long
def test_the_next_run_uses_the_check_that_was_under_way_when_its_run_was_killed(far: Far) -> None:
    ran, go = far.folder / "ran", far.folder / "go"
    declare(far, f"test ! -e a || echo ran >> {ran}; while test -e a -a ! -e {go}; do sleep 0.1; done; echo {REPORT}")
    far.repo.milestone("m1", issue("a", "echo a > a"))
    with far.worker("box"):
        first = far.repo.start("milestone:m1")
        assert until(ran.exists)
        first.kill()
        first.communicate()
        assert [name for name in far.refs() if "/orders/m1/check/" in name]
        go.touch()
        far.repo.doit("milestone:m1").check()
        assert ran.read_text() == "ran\n", "the check ran once"
        assert far.refs() == []
    assert far.repo.landed(BRANCH) == ["a@1"]


@pytest.mark.long
def test_a_run_that_is_stopped_ends_its_check_and_one_that_is_not_wanted_any_more_goes(far: Far) -> None:
    pid = far.folder / "pid"
    declare(
        far,
        f"test ! -e a || {{ setsid sleep 600 & echo $! > {pid}.new; mv {pid}.new {pid}; sleep 600; }}; echo {REPORT}",
    )
    far.repo.milestone("m1", issue("a", "echo a > a"))
    with far.worker("box"):
        run = far.repo.start("milestone:m1")
        assert until(pid.exists)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
        assert until(lambda: not alive(int(pid.read_text())))
        assert far.refs() == []
        pid.unlink()
        run = far.repo.start("milestone:m1")
        assert until(pid.exists)
        run.kill()
        run.communicate()
        declare(far, f"echo {REPORT}")  # another check: nobody waits for the one before
        far.repo.doit("milestone:m1").check()
        assert until(lambda: not alive(int(pid.read_text())))
        assert far.refs() == []


@pytest.mark.long
def test_a_worker_that_is_killed_during_a_check_makes_it_no_red_check(far: Far) -> None:
    homes = far.folder / "homes"
    declare(far, f"test ! -e a || {{ echo $HOME >> {homes}; sleep 3; }}; echo {REPORT}")
    far.repo.write("rules/runners.toml", f"[runner.far]\n{FAR}isolated = true\n".replace("900.0", "6.0"))
    far.repo.milestone("m1", issue("a", "echo a > a"))
    with far.worker("one") as one:
        run = far.repo.start("milestone:m1")
        assert until(homes.exists)
        one.kill()
        with far.worker("two"):
            out, _ = run.communicate(timeout=120)
            assert run.returncode == 0, out
            assert far.refs() == []
    assert homes.read_text().split() == [f"{far.folder}/one", f"{far.folder}/two"]
    assert far.repo.landed(BRANCH) == ["a@1"]
    assert {item["ok"] for item in far.events("checked")} == {True}


@pytest.mark.long
def test_only_a_host_with_the_conditions_of_the_verdict_claims_a_check(far: Far) -> None:
    """Two of three hosts have the same tool; then it is replaced on all of them."""
    homes = far.folder / "homes"
    tools = {name: far.folder / name / "tools" for name in ("one", "two", "three")}

    def install(name: str, version: int) -> None:
        tools[name].mkdir(parents=True, exist_ok=True)
        tool = tools[name] / "judge"
        tool.write_text(f"#!/bin/sh\n# {version}\necho $HOME >> {homes}\n")
        tool.chmod(0o755)

    declare(far, "judge")
    far.repo.milestone("m1", "".join(issue(name, f"echo {name} > {name}") for name in "abc"))
    with ExitStack() as workers:
        for name, version in (("one", 1), ("two", 2), ("three", 2)):
            install(name, version)
            workers.enter_context(far.worker(name, PATH=f"{tools[name]}:{os.environ['PATH']}"))
        far.repo.doit("milestone:m1").check()
        before = homes.read_text().split()
        by = {Path(home).name for home in before}
        assert by == {"one"} or by <= {"two", "three"}, "no two of them gave verdicts"
        far.repo.doit("verify", "m1").check()
        again = homes.read_text().split()[len(before) :]
        assert by.isdisjoint({Path(home).name for home in again}), "a host with another tool may answer first"
        before += again
        for name in tools:
            install(name, 3)
        far.repo.doit("verify", "m1").check()
        assert len(homes.read_text().split()) > len(before), "another tool gives another verdict"
    assert far.refs() == []


@pytest.mark.long
def test_without_a_worker_the_check_runs_here_after_one_warning(far: Far) -> None:
    """A worker that does not set a variable of the runner, or takes no checks, is none."""
    homes = far.folder / "homes"
    declare(far, f"echo $HOME >> {homes}", 'isolated = true\nenv = ["FAR_NAME"]\nclaim_s = 3.0\nconnect_s = 3.0\n')
    far.repo.milestone("m1", "".join(issue(name, f"echo {name} > {name}") for name in "ab"))
    run = far.repo.start("milestone:m1")
    assert until(lambda: any("/asks/m1/" in name for name in far.refs()))
    run.kill()
    run.communicate()
    with far.worker("box"), far.worker("agents", "--checks", "0", FAR_NAME="x"):
        out = far.repo.doit("milestone:m1").check().out
        found = {item["subject"]: item["kind"] for item in far.repo.doit("doctor", "--json").json}
    assert found["runner far"] == "runner-broken"
    assert out.count("runner far failed") == 1
    assert str(far.folder / "box") not in homes.read_text()
    assert sorted(far.repo.landed(BRANCH)) == ["a@1", "b@1"]
    assert not any("host" in item for item in far.events("checked"))
    assert far.refs() == []


@pytest.mark.long
def test_a_check_that_ends_every_worker_runs_here_after_a_few(far: Far) -> None:
    home = far.folder / "box"
    declare(far, f"test ! -e a || test $HOME != {home} || kill -9 $(cat $HOME/pid); echo {REPORT}")
    far.repo.milestone("m1", issue("a", "echo a > a"))
    run, begun = far.repo.start("milestone:m1"), 0
    while run.poll() is None and begun < 20:
        worker, begun = far.start_worker("box"), begun + 1
        (home / "pid").write_text(str(worker.pid))
        assert until(lambda worker=worker: worker.poll() is not None or run.poll() is not None)  # type: ignore[misc]
        worker.kill()
        worker.wait()
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0, out
    assert "workers started there and none finished it" in out
    assert 3 < begun < 10
    assert far.repo.landed(BRANCH) == ["a@1"]
    assert far.refs() == []


@pytest.mark.long
def test_a_verdict_of_this_machine_is_none_of_a_worker(far: Far) -> None:
    """Where a check moves to other hosts, it has to pass there; the other way round, too."""
    ran = far.folder / "ran"
    declare(far, f"echo $HOME >> {ran}; echo {REPORT}")
    far.repo.write(
        "rules/checks.toml",
        (checks := (far.repo.path / "rules/checks.toml").read_text()).replace('runner = "far"\n', ""),
    )
    far.repo.milestone("m1", issue("a", "echo a > a"))
    far.repo.doit("milestone:m1").check()
    assert str(far.folder / "box") not in ran.read_text()
    far.repo.write("rules/checks.toml", checks)
    with far.worker("box"):
        far.repo.doit("verify", "m1").check()
    assert str(far.folder / "box") in ran.read_text()


@pytest.mark.long
def test_another_clone_takes_the_check_over_and_a_third_one_believes_its_verdict(tmp_path: Path) -> None:
    """The first clone is killed while its check runs on a worker; the second one uses the result and signs it."""
    team = Team(tmp_path, str(tmp_path / "store"))
    ran, go = tmp_path / "ran", tmp_path / "go"
    checks = (
        '[check.there]\nrunner = "far"\nsabotage = "off"\nsabotage_reason = "-"\n'
        f"run = '''test ! -e a || echo ran >> {ran}; while test -e a -a ! -e {go}; do sleep 0.1; done; "
        f"echo {REPORT}'''\n"
    )
    team.first.write("rules/checks.toml", checks)
    team.first.write("rules/runners.toml", f"[runner.far]\n{FAR}isolated = true\n")
    team.first.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nchecks = ["there"]\n')
    team.first.milestone("m1", issue("a", "echo a > a"))
    team.first.commit("a runner")
    team.first.git("push", "-q", "origin", "main")
    second = team.clone("second")
    far = Far.__new__(Far)
    far.folder, far.repo, far.remote = tmp_path, team.first, tmp_path / "origin.git"
    with far.worker("box"):
        run = team.first.start("milestone:m1")
        assert until(ran.exists)
        run.kill()
        run.communicate()
        go.touch()
        second.doit("milestone:m1", "--take-over").check()
        assert ran.read_text() == "ran\n", "the check ran once"
        third = team.clone("third")
        said = third.doit("verify", "m1", "--json").check()
        assert (said.json[0]["ok"], ran.read_text()) == (True, "ran\n")
        proofs = third.doit("explain", "m1/a", "--json").check().json["proofs"]
        assert [(row["by"], row["host"]) for row in proofs] == [("ci", platform.node())]
        assert [name for name in far.refs() if "/work/" in name] == []


@pytest.mark.long
def test_dask_gives_a_check_to_hosts_with_its_conditions_and_to_others_once_they_are_gone(
    far: Far, tmp_path_factory: pytest.TempPathFactory
) -> None:
    homes, tools = far.folder / "homes", {}
    daemons, running = Daemons(certificates(tmp_path_factory.mktemp("tls"))), {}
    for name in ("one", "two"):
        tools[name] = far.folder / name / "tools"
        tools[name].mkdir(parents=True)
        judge = tools[name] / "judge"
        judge.write_text(f"#!/bin/sh\n# {name}\necho $$ $HOME >> {homes}\ntest ! -e b || sleep 3\n")
        judge.chmod(0o755)
    tls = f'ca = "{daemons.tls}/ca.pem", cert = "{daemons.tls}/box.pem", key = "{daemons.tls}/box.key"'
    rules = f'kind = "dask"\naddress = "{daemons.address}"\ntls = {{ {tls} }}\nworker = {json.dumps(WORKER)}\n'
    rules += "isolated = true\npoll_s = 0.2\nbeat_s = 0.5\npatience_s = 5.0\n"
    declare(far, "judge", rules, kind="")
    far.repo.milestone("m1", issue("a", "echo a > a") + issue("b", "echo b > b", needs=["a"]))
    try:
        (far.folder / "scheduler").mkdir()
        base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
        daemons.scheduler(far.folder / "scheduler", {**base, "HOME": str(far.folder / "scheduler")})
        for name, folder in tools.items():
            env = {**base, "HOME": str(far.folder / name), "PATH": f"{folder}:{base['PATH']}"}
            running[name] = daemons.worker(name, far.folder / name, env, agents=1)
        run = far.repo.start("milestone:m1")
        assert until(lambda: far.repo.git("show", f"{BRANCH}:a", check=False) == "a")
        seen = homes.read_text().splitlines()
        assert len({line.split()[1] for line in seen}) == 1, "one of the hosts has the conditions"
        first = Path(seen[0].split()[1])
        assert until(lambda: len(homes.read_text().splitlines()) > len(seen))
        daemons.kill(running[first.name])  # the host is gone, with all of its processes
        for process in processes_of(first):
            os.kill(process, signal.SIGKILL)
        out, _ = run.communicate(timeout=120)
        assert run.returncode == 0, out
    finally:
        daemons.stop()
    assert far.repo.landed(BRANCH) == ["a@1", "b@1"]
    assert {line.split()[1] for line in homes.read_text().splitlines()} == {str(far.folder / name) for name in tools}
    assert "runner far failed" not in out
    assert far.refs() == []


def processes_of(home: Path) -> list[int]:
    """Return the processes with this home."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"HOME={home}".encode() in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found
