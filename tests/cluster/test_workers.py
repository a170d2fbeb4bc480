"""Agents of a milestone work on other hosts: folders with homes of their own, and a bare remote between them."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from executor.git.command import Repository
from executor.git.objects import Store
from executor.git.worktrees import ImportLimits, ImportRefusedError, Workspace
from executor.sandbox.bubblewrap import sandbox_problem
from tests.support import CHECKOUT, Repo, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


FAR = 'kind = "git"\nbeat_s = 0.3\npatience_s = 900.0\npoll_s = 0.2\n'
BRANCH = "milestone/m1-test-m1"


class Far:
    """A repository whose agents work on workers of a remote."""

    def __init__(self, folder: Path, repo: Repo, rules: str = "isolated = true\n") -> None:
        self.folder, self.repo, self.remote = folder, repo, folder / "origin.git"
        subprocess.run(["git", "init", "-q", "--bare", str(self.remote)], check=True)
        repo.git("remote", "add", "origin", str(self.remote))
        repo.write("rules/runners.toml", f"[runner.far]\n{FAR}{rules}")
        repo.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nrunner = "far"\n')

    def refs(self) -> list[str]:
        words = ["git", "-C", str(self.remote), "for-each-ref", "--format=%(refname)"]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()

    def start_worker(self, name: str, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a worker on a host: a folder with a home and an environment of its own."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), **variables}
        command = [sys.executable, "-m", "executor", "worker", "--remote", str(self.remote), "--poll", "0.2", *words]
        with (home / "said").open("ab") as said:
            return subprocess.Popen(command, cwd=home, env=env, stderr=said, start_new_session=True)

    @contextmanager
    def worker(self, name: str, *words: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """Have a worker during the block."""
        process = self.start_worker(name, *words, **variables)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(30)

    def events(self, kind: str, ref: str = "m1/a") -> list[Any]:
        lines = self.repo.doit("log", ref, "--events", "--json").check().out.splitlines()
        return [item for item in map(json.loads, lines) if item["event"] == kind]

    def said(self, name: str) -> str:
        return (self.folder / name / "said").read_text()


@pytest.fixture
def far(repo: Repo, tmp_path: Path) -> Far:
    return Far(tmp_path, repo)


def until(holds: Callable[[], bool], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_worker_elsewhere_does_an_issue_and_it_lands(far: Far) -> None:
    far.repo.milestone(
        "m1", issue("a", "echo $HOME > a; echo seen; head -c1 $EXECUTOR_BRIEF; git log --oneline; rm .gitignore")
    )
    with far.worker("box"):
        far.repo.doit("milestone:m1").check()
    assert far.repo.landed(BRANCH) == ["a@1"]
    assert far.repo.git("show", f"{BRANCH}:a") == str(far.folder / "box")
    assert far.repo.git("ls-tree", "--name-only", BRANCH, ".gitignore") == ""
    host = platform.node()
    log = far.repo.doit("log", "m1/a").check().out
    assert "seen" in log
    assert f"by script on {host}" in log
    assert far.repo.doit("explain", "m1/a", "--json").check().json["attempts"][0]["host"] == host
    assert far.repo.doit("sessions", "--json").check().json["sessions"][0]["hosts"] == [host]
    found = {item["subject"]: item["kind"] for item in far.repo.doit("doctor", "--json").json}
    assert found["runner far"] == "ok"
    assert [(item["runner"], item["attempt"]) for item in far.events("work-hosted")] == [("far", 1)]
    assert far.refs() == []
    assert not list((far.folder / "box/.cache/make-for-milestones/worker").glob("*/*/pending.json"))


@pytest.mark.long
def test_a_coordinator_that_was_killed_uses_the_result_of_the_worker(far: Far) -> None:
    """Nothing is paid for twice: the next run waits for the same attempt, which the worker goes on with."""
    paid, go = far.folder / "paid", far.folder / "go"
    far.repo.milestone(
        "m1", issue("a", f"echo paid >> {paid}; while [ ! -e {go} ]; do sleep 0.1; done; echo a > a; git log | head -1")
    )
    with far.worker("box"):
        first = far.repo.start("milestone:m1")
        assert until(paid.exists)
        assert until(lambda: bool(far.events("work-hosted")))
        assert f"agent script on {platform.node()}" in far.repo.doit("watch", "--once", "--json").check().out
        first.kill()
        first.communicate()
        go.touch()
        out = far.repo.doit("milestone:m1").check().out
    assert "attempt 1 continues on runner far" in out
    assert paid.read_text() == "paid\n"
    assert far.repo.landed(BRANCH) == ["a@1"]
    assert far.repo.attempts() == []
    assert far.refs() == []


@pytest.mark.long
def test_a_run_that_is_stopped_ends_the_processes_of_the_worker(far: Far) -> None:
    pid = far.folder / "pid"
    far.repo.milestone("m1", issue("a", f"setsid sleep 600 & echo $! > {pid}.new; mv {pid}.new {pid}; sleep 600"))
    with far.worker("box"):
        run = far.repo.start("milestone:m1")
        assert until(pid.exists)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
        assert until(lambda: not alive(int(pid.read_text())))
        assert until(lambda: "stopped m1/a/1" in far.said("box"))
    assert far.refs() == []
    assert [item["attempt"] for item in far.events("attempt-interrupted")] == [1]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.long
def test_another_worker_takes_over_from_a_frozen_one_that_wakes_late(far: Far) -> None:
    far.repo.write("rules/runners.toml", f"[runner.far]\n{FAR}isolated = true\n".replace("900.0", "8.0"))
    count = far.folder / "count"
    far.repo.milestone("m1", issue("a", f"echo $HOME >> {count}; echo $$ > $HOME/pid; sleep 2; echo $HOME > a"))
    with far.worker("one") as one:
        run = far.repo.start("milestone:m1")
        assert until(lambda: "claimed" in far.said("one") and (far.folder / "one/pid").exists())
        one.send_signal(signal.SIGSTOP)
        with far.worker("two"):
            out, _ = run.communicate(timeout=120)
            assert run.returncode == 0, out
            one.send_signal(signal.SIGCONT)
            assert until(lambda: "stopped m1/a/1" in far.said("one") or "late m1/a/1" in far.said("one"))
            assert until(lambda: not alive(int((far.folder / "one/pid").read_text())))
            (objects,) = (far.folder / "one/.cache/make-for-milestones/worker").glob("*/1/git")
            kept = ["git", "-C", str(objects), "show", "refs/late/m1/a/1/1:a"]
            assert until(lambda: subprocess.run(kept, capture_output=True, check=False).returncode == 0)
    assert far.repo.git("show", f"{BRANCH}:a") == str(far.folder / "two")
    assert len(far.events("work-hosted")) >= 2
    assert len(far.events("attempt-built")) == 1
    assert far.refs() == []


@pytest.mark.long
def test_a_worker_that_was_killed_leaves_nothing_and_its_successor_goes_on_at_once(far: Far) -> None:
    count, pid = far.folder / "count", far.folder / "pid"
    far.repo.milestone(
        "m1",
        issue(
            "a", f"test -e {count} || {{ setsid sleep 600 & echo $! > {pid}; touch {count}; sleep 600; }}; echo a > a"
        ),
    )
    worker = far.start_worker("box")
    run = far.repo.start("milestone:m1")
    try:
        assert until(count.exists)
        worker.kill()
        worker.wait()
        assert until(lambda: not alive(int(pid.read_text())))
        with far.worker("box"):
            out, _ = run.communicate(timeout=300)  # sooner than the patience of another worker
    finally:
        run.kill()
        worker.kill()
    assert run.returncode == 0, out
    assert [item["attempt"] for item in far.events("attempt-started")] == [1]
    assert far.refs() == []


HELD_THERE = "hidden-value-of-the-host"
NESTED = "git init -q inner; git -C inner -c user.name=a -c user.email=a@a commit -q --allow-empty -m x"
LIMITS = "attempts = 1\nimport_files = 6\nimport_file_bytes = 100000\nimport_bytes = 200000\n"


@pytest.mark.long
@pytest.mark.parametrize(
    ("run", "kind"),
    [
        ("ln -s /etc/passwd link", "import"),
        (NESTED, "import"),
        ("for n in 1 2 3 4 5 6 7 8; do echo $n > f$n; done", "import"),
        ("head -c 300000 /dev/zero > big", "import"),
        ("echo x $WORK_KEY > key", "known-secret"),
    ],
)
def test_what_cannot_land_is_refused_as_on_this_machine(far: Far, run: str, kind: str) -> None:
    far.repo.write("rules/limits.toml", LIMITS)
    far.repo.write("rules/agents.toml", '[agent.script]\nenv = ["WORK_KEY"]\n')
    far.repo.milestone("m1", issue("a", run))
    with far.worker("box", WORK_KEY=HELD_THERE):
        far.repo.doit("milestone:m1").check(4 if kind == "known-secret" else 1)
    failed = far.events("attempt-failed")
    assert [item["failure"] for item in failed] == [kind]
    everything = (
        subprocess.run(
            ["git", "cat-file", "--batch-all-objects", "--batch"], cwd=far.remote, capture_output=True, check=True
        ).stdout
        + "".join(path.read_text(errors="replace") for path in (far.repo.path / ".cache").rglob("*.log")).encode()
    )
    assert HELD_THERE.encode() not in everything


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[Workspace, Store, str]]:
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "git")], check=True)
    place = Repository(tmp_path, tmp_path / "git", tmp_path / "git")
    store = Store(place, tmp_path / "neutral")
    base = store.files_tree({"a": b"a", "in/b": b"b"})
    workspace = Workspace(tmp_path / "tree", tmp_path / "tree.index")
    workspace.prepare(store, base)
    yield workspace, store, base
    store.close()


def hostile(store: Store, *entries: tuple[str, bytes, bytes]) -> str:
    """A tree that no honest git makes: entries of any mode and name, with their content."""
    written = [
        (mode.encode(), name, data.decode() if mode == "160000" else store.write("blob", data))
        for mode, name, data in entries
    ]
    data = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in written)
    words = ["git", "hash-object", "--literally", "-t", "tree", "-w", "--stdin"]
    folder = store._folder.parent / "git"
    return subprocess.run(words, cwd=folder, input=data, capture_output=True, check=True).stdout.decode().strip()


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("160000", b"inner", b"1" * 40)], "submodule"),
        ([("120000", b"link", b"/etc/passwd")], "leads out"),
        ([("120000", b"link", b"../x")], "leads out"),
        ([("120000", b"link", b".git/config")], "leads out"),
        ([("100644", b".git", b"gitdir: /elsewhere")], "git does not check out"),
        ([("100644", b".GIT", b"gitdir: /elsewhere")], "git does not check out"),
        ([("100644", b"..", b"x")], "git does not check out"),
        ([("100644", f"f{n}".encode(), b"x") for n in range(9)], "more than 6 files"),
        ([("100644", b"big", b"x" * 2000)], "too large"),
        ([("100644", f"f{n}".encode(), b"%d" % n * 900) for n in range(4)], "too large"),
        ([("100755", b"fine", b"x")], ""),
    ],
)
def test_a_tree_from_another_host_is_imported_by_the_rules_of_this_one(
    desk: tuple[Workspace, Store, str], tmp_path: Path, entries: list[tuple[str, bytes, bytes]], reason: str
) -> None:
    workspace, store, base = desk
    excludes = tmp_path / "excludes"
    excludes.touch()
    limits = ImportLimits(6, 1000, 3000)

    def imported() -> str:
        workspace.receive(store, base, hostile(store, *entries), limits)
        return workspace.result(store, excludes, (), limits)

    if reason:
        with pytest.raises(ImportRefusedError, match=reason):
            imported()
    else:
        assert imported() != base
    assert sorted(path.name for path in tmp_path.iterdir()) == ["excludes", "git", "neutral", "tree", "tree.index"]


PREFIX = [sys.executable, "-m", "executor", "worker"]


def behind_a_prefix(far: Far, name: str, rules: str = "isolated = true\n", **variables: str) -> Path:
    """Have the runner be a host behind a command; returns the script that enters it."""
    home = far.folder / name
    home.mkdir(exist_ok=True)
    given = " ".join(f"{key}={value}" for key, value in variables.items())
    enter = home / "enter"
    enter.write_text(
        f'#!/bin/sh\nexec env -i HOME={home} PATH={os.environ["PATH"]} PYTHONPATH={CHECKOUT} {given} "$@"\n'
    )
    enter.chmod(0o755)
    words = f"prefix = {json.dumps([str(enter)])}\nworker = {json.dumps(PREFIX)}\n"
    far.repo.write("rules/runners.toml", f"[runner.far]\n{words}{rules}")
    return enter


def test_an_agent_works_behind_a_prefix_and_a_broken_host_costs_no_attempt(far: Far) -> None:
    enter = behind_a_prefix(far, "box", 'isolated = true\nenv = ["OF_HOST"]\n', OF_HOST="there")
    far.repo.write("rules/limits.toml", "backoff_s = 0.0\noutage_s = 0.5\nattempts = 1\n")
    script = enter.read_text()
    enter.write_text('#!/bin/sh\nrm "$0"; mv "$0.next" "$0"; echo no route to host >&2; exit 255\n')
    Path(f"{enter}.next").write_text(script)
    Path(f"{enter}.next").chmod(0o755)
    far.repo.milestone("m1", issue("a", "echo $HOME $OF_HOST > a; echo printed; echo '{}' > $EXECUTOR_OUT/report.json"))
    out = far.repo.doit("milestone:m1").check().out
    assert far.repo.git("show", f"{BRANCH}:a") == f"{far.folder / 'box'} there"
    assert [item["failure"] for item in far.events("attempt-failed")] == ["transient"]
    assert "no route to host" in out
    assert "printed" in far.repo.doit("log", "m1/a").check().out
    assert [path for path in (far.repo.path / ".cache").rglob("*") if path.suffix in {".order", ".result"}] == []


@pytest.mark.long
def test_a_host_that_lacks_something_says_so_and_costs_no_attempt(far: Far) -> None:
    far.repo.write("rules/limits.toml", "attempts = 1\nbackoff_s = 0.0\n")
    far.repo.write("rules/runners.toml", f'[runner.far]\n{FAR}isolated = true\nenv = ["OF_HOST"]\n')
    far.repo.milestone("m1", issue("a", "echo $OF_HOST > a"))
    with far.worker("bare"):
        out = far.repo.doit("milestone:m1").check(1).out
    assert f"{platform.node()} does not set OF_HOST" in out
    assert [item["failure"] for item in far.events("attempt-failed")] == ["host"]
    far.repo.doit("retry", "m1/a").check()
    with far.worker("rich", OF_HOST="there"):
        far.repo.doit("milestone:m1").check()
    assert far.repo.git("show", f"{BRANCH}:a") == "there"


@pytest.mark.long
def test_an_agent_works_in_the_sandbox_of_its_host_or_not_at_all(far: Far) -> None:
    far.repo.write("rules/runners.toml", f"[runner.far]\n{FAR}")
    far.repo.write("rules/agents.toml", '[agent.script]\nisolation = "bwrap"\n')
    (far.folder / "seen").write_text("of the host")
    far.repo.milestone(
        "m1", issue("a", f"cat {far.folder}/seen > a; git log -1 --format=%s >> a; head -1 $EXECUTOR_BRIEF")
    )
    if sandbox_problem():
        with far.worker("box"):
            out = far.repo.doit("milestone:m1").check(1).out
        assert "has no sandbox" in out
        return
    with far.worker("box"):
        far.repo.doit("milestone:m1").check()
    assert far.repo.git("show", f"{BRANCH}:a") == "start", "the file of the host was hidden, the history was not"


@pytest.mark.long
def test_limits_a_question_and_the_cost_of_an_agent_elsewhere(far: Far) -> None:
    far.repo.write(
        "rules/agents.toml",
        '[agent.script]\nidle = 2.0\n[agent.script.patterns]\nusage = "cost (?P<cost>[0-9.]+)"\n',
    )
    far.repo.write("rules/limits.toml", "attempts = 1\nidle_s = 3.0\n")
    far.repo.milestone(
        "m1",
        issue("a", "echo What colour? > $EXECUTOR_OUT/question.md; echo cost 0.25")
        + issue("b", "echo begins; sleep 600")
        + issue("c", 'echo c > c; echo \'{"notes": ["it is done"]}\' > $EXECUTOR_OUT/report.json; echo cost 0.5'),
    )
    with far.worker("box", "--slots", "3"):
        far.repo.doit("milestone:m1", "-n", "3")
    assert far.repo.statuses() == {"m1/a": "review", "m1/b": "failed", "m1/c": "landed"}
    assert "What colour?" in far.repo.doit("explain", "m1/a").out
    assert "idle" in far.events("attempt-failed", "m1/b")[0]["reason"]
    assert far.events("attempt-built", "m1/c")[0]["cost_usd"] == 0.5
    assert far.refs() == []


@pytest.mark.long
def test_steps_of_a_workflow_are_orders_and_go_on_after_a_kill(far: Far) -> None:
    paid, go = far.folder / "paid", far.folder / "go"
    far.repo.write(
        "rules/workflows/two.toml",
        '[phase.design]\nweight = 50\n[phase.design.step.plan]\ndoes = "Plan it."\noutputs = ["plan.md"]\n'
        '[phase.build]\nweight = 50\n[phase.build.step.code]\ndoes = "Build it."\n'
        'inputs = ["design.plan/plan.md"]\ntree = true\n',
    )
    far.repo.write("rules/routes.toml", '[route.default]\nagent = ["script"]\nrunner = "far"\nworkflow = "two"\n')
    run = (
        f"echo $EXECUTOR_STEP >> {paid}; case $EXECUTOR_STEP in design.plan) echo a plan > $EXECUTOR_OUT/plan.md; "
        f"sh $EXECUTOR_CHECK; while [ ! -e {go} ]; do sleep 0.1; done;; "
        "*) cat $EXECUTOR_IN/design.plan/plan.md > a;; esac"
    )
    far.repo.milestone("m1", issue("a", run))
    with far.worker("box"):
        first = far.repo.start("milestone:m1")
        assert until(lambda: paid.exists() and bool(far.events("work-hosted")))
        first.kill()
        first.communicate()
        go.touch()
        far.repo.doit("milestone:m1").check()
    assert far.repo.git("show", f"{BRANCH}:a") == "a plan"
    assert paid.read_text().split() == ["design.plan", "build.code"]
    assert far.refs() == []


@pytest.mark.long
def test_a_remote_that_is_away_for_a_time_loses_no_result_and_a_refused_one_is_named(far: Far) -> None:
    paid, go, away = far.folder / "paid", far.folder / "go", far.folder / "away"
    far.repo.write("rules/limits.toml", "attempts = 1\n")
    far.repo.milestone("m1", issue("a", f"echo >> {paid}; while [ ! -e {go} ]; do sleep 0.1; done; echo a > a"))
    with far.worker("box"):
        run = far.repo.start("milestone:m1")
        assert until(lambda: paid.exists() and bool(far.events("work-hosted")))
        far.remote.rename(away)
        go.touch()
        assert until(lambda: "the result of m1/a/1 waits" in far.said("box"))
        away.rename(far.remote)
        out, _ = run.communicate(timeout=300)
        assert run.returncode == 0, out
        assert paid.read_text() == "\n"
        hook = far.remote / "hooks/update"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text('#!/bin/sh\ncase "$1" in refs/work/results/*) ! git cat-file -e "$3:big";; esac\n')
        hook.chmod(0o755)
        far.repo.milestone("m2", issue("b", "echo b > big"))
        out = far.repo.doit("milestone:m2").check(1).out
    assert "does not take the result" in out
    assert [item["failure"] for item in far.events("attempt-failed", "m2/b")] == ["host"]
    assert far.refs() == []


@pytest.mark.long
def test_an_order_waits_for_a_remote_that_is_out_of_reach_when_it_is_published(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    off, ssh = far.folder / "off", far.folder / "ssh"
    refused = f'[ -e {off} ] && {{ echo "Connection refused" >&2; exit 255; }}'
    ssh.write_text(f'#!/bin/sh\n{refused}\nshift $(($# - 1)); exec sh -c "$1"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    far.repo.git("remote", "set-url", "origin", f"ssh://box{far.remote}")
    far.repo.milestone("m1", issue("a", "echo a > a"))
    off.touch()
    with far.worker("box"):
        run = far.repo.start("milestone:m1")
        assert run.stdout is not None
        assert any("m1/a/1 waits for far" in line for line in iter(run.stdout.readline, ""))
        off.unlink()
        out, _ = run.communicate(timeout=120)
        assert run.returncode == 0, out
    assert [item["attempt"] for item in far.events("attempt-started")] == [1]
    assert far.refs() == []
