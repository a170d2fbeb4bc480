"""Commands under the supervisor: real processes, real signals, nothing left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from executor.errors import BusyError
from executor.process.runner import Command, Ended, Supervisor, read_result, sane_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PATH = "/usr/bin:/bin"

# A process, a child, a grandchild in a session of its own and a daemon; none of them cares about SIGTERM.
TREE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def here():
    open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
    time.sleep(600)
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        here()
    here()
if (pid := os.fork()) == 0:
    os.setsid()
    if os.fork() == 0:
        here()
    os._exit(0)
os.waitpid(pid, 0)
if "leave" in sys.argv:
    while len(os.listdir(sys.argv[1])) < 3:
        time.sleep(0.01)
    sys.exit(0)
here()
"""

COORDINATOR = """
import os, signal, sys, threading, time
from pathlib import Path
from executor.process.runner import Command, Supervisor
here = Path(sys.argv[1])
def command(*argv, **more):
    env = {"PATH": "/usr/bin:/bin", "MARK": str(here)}
    return Command(argv, here, env, here / "log", result_file=here / "result", **more)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(tmp_path / "lock") as running:
        yield running


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Command]:
    """Build a command whose processes can be recognised by their environment."""

    def build(*argv: str, **more: Any) -> Command:
        values = {"cwd": tmp_path, "env": {"PATH": PATH, "MARK": str(tmp_path)}, "log": tmp_path / "log", **more}
        return Command(argv, **values)

    return build


def survivors(mark: Path) -> list[int]:
    """Every process that was started with this mark in its environment and is not a zombie."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def tree(tmp_path: Path, *more: str) -> tuple[str, ...]:
    """The argument list of the disobedient tree; each of its members puts a file into the folder ``up``."""
    (tmp_path / "up").mkdir(exist_ok=True)
    return sys.executable, "-I", "-S", "-c", TREE, str(tmp_path / "up"), *more


def members(tmp_path: Path) -> int:
    return len(list((tmp_path / "up").iterdir()))


def coordinator(tmp_path: Path, script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", COORDINATOR + script, str(tmp_path)], cwd=ROOT)


# --- what a command gets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 7, 127, 255])
def test_the_exit_code_arrives_as_it_was_given(supervisor: Supervisor, command: Any, code: int) -> None:
    ended = supervisor.run(command("sh", "-c", f"exit {code}"))
    assert (ended.code, ended.signal, ended.reason, ended.ok) == (code, None, "exited", code == 0)
    assert ended.describe() == ("exit 127 (command not found)" if code == 127 else f"exit {code}")


def test_the_signal_that_ended_a_command_is_reported(supervisor: Supervisor, command: Any) -> None:
    ended = supervisor.run(command("sh", "-c", "kill -SEGV $$"))
    assert (ended.code, ended.signal, ended.reason, ended.ok) == (None, signal.SIGSEGV, "exited", False)
    assert ended.describe() == "ended by SIGSEGV"


def test_stdout_and_stderr_go_to_one_private_log(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    ended = supervisor.run(command("sh", "-c", "echo one; echo two >&2; echo three"))
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree\n"
    assert ended.output_bytes == 14
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_stdin_is_the_file_given_or_empty(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    (tmp_path / "brief").write_text("do this")
    supervisor.run(command("cat", stdin=tmp_path / "brief"))
    assert (tmp_path / "log").read_text() == "do this"
    assert supervisor.run(command("cat")).output_bytes == 0


def test_a_command_cannot_write_into_the_file_behind_its_stdin(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "brief").write_text("do this")
    supervisor.run(command("sh", "-c", "echo forged > /proc/self/fd/0; cat", stdin=tmp_path / "brief"))
    assert (tmp_path / "brief").read_text() == "do this"
    assert (tmp_path / "log").read_text().endswith("do this")


def test_the_environment_is_exactly_the_one_given(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    env = {"PATH": PATH, "ODD": "a\nb", "BYTES": os.fsdecode(b"\xff\xfe"), "WORD": "größer"}
    supervisor.run(command("env", "-0", env=env))
    lines = (tmp_path / "log").read_bytes().rstrip(b"\0").split(b"\0")
    assert sorted(lines) == sorted(os.fsencode(f"{key}={value}") for key, value in env.items())


def test_a_command_cannot_see_the_environment_of_the_coordinator(
    tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_TOKEN", "canary")
    with Supervisor(tmp_path / "lock") as supervisor:
        supervisor.run(command("sh", "-c", "cat /proc/$PPID/environ"))
    assert b"canary" not in (tmp_path / "log").read_bytes()


def test_a_command_starts_with_clean_signals_and_descriptors(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    script = "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls -m /proc/self/fd; pwd; ps -o sid= -p $$; echo $$"
    supervisor.run(command("sh", "-c", script))
    blocked, ignored, open_files, folder, session, pid = (tmp_path / "log").read_text().split("\n")[:-1]
    assert int(blocked.split()[1], 16) == 0
    assert int(ignored.split()[1], 16) == 0
    assert open_files == "0, 1, 2, 3"  # the last one is the folder that ls reads
    assert folder == str(tmp_path)
    assert session.strip() == pid


def test_a_program_is_found_by_its_own_path_and_never_in_a_relative_folder(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    for folder in (tmp_path, tmp_path / "bin"):
        (folder / "tool").write_text(f"#!/bin/sh\necho {folder}\n")
        (folder / "tool").chmod(0o755)
    assert supervisor.run(command("tool", env={"PATH": f":.:bin:{PATH}"})).problem == "tool: command not found"
    assert supervisor.run(command("tool", env={"PATH": f":{tmp_path}/bin:{PATH}"})).ok
    assert (tmp_path / "log").read_text() == f"{tmp_path}/bin\n"
    assert supervisor.run(command("./tool", env={})).ok
    assert (tmp_path / "log").read_text() == f"{tmp_path}\n"


def test_sane_path_leaves_out_empty_and_relative_parts() -> None:
    assert sane_path(":/usr/bin::.:bin:/bin:") == "/usr/bin:/bin"
    assert sane_path("") == ""


# --- commands that cannot be started --------------------------------------------------------------------------------


def test_why_a_command_did_not_start_is_reported_in_words(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "orphan").write_text("#!/no/such/interpreter\n")
    (tmp_path / "orphan").chmod(0o755)
    (tmp_path / "link").symlink_to("elsewhere")
    os.mkfifo(tmp_path / "fifo")
    cases = {
        "pytest: command not found": command("pytest"),
        "./plain: Permission denied": command("./plain"),
        "./missing: No such file or directory": command("./missing"),
        f"{tmp_path}/orphan: its interpreter is missing": command("orphan", env={"PATH": str(tmp_path)}),
        f"{tmp_path}/gone: No such file or directory": command("true", cwd=tmp_path / "gone"),
        f"{tmp_path}/brief: No such file or directory": command("true", stdin=tmp_path / "brief"),
        f"{tmp_path}/fifo: not a regular file": command("true", stdin=tmp_path / "fifo"),
        f"{tmp_path}/link: Too many levels of symbolic links": command("true", log=tmp_path / "link"),
    }
    for problem, case in cases.items():
        ended = supervisor.run(case)
        assert (ended.code, ended.signal, ended.reason, ended.problem) == (None, None, "not-started", problem)
        assert ended.describe() == f"not started: {problem}"


# --- limits ---------------------------------------------------------------------------------------------------------


def test_after_the_timeout_nothing_is_left_of_a_tree_that_ignores_sigterm(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    ended = supervisor.run(command(*tree(tmp_path), timeout=1.5, grace=0.2))
    assert members(tmp_path) == 4
    assert survivors(tmp_path) == []
    assert (ended.reason, ended.signal, ended.leftovers) == ("timeout", signal.SIGKILL, 3)
    assert ended.describe() == f"killed after {ended.seconds:.0f} s (timeout)"
    assert ended.seconds < 300


def test_a_command_that_obeys_sigterm_is_given_the_time_to_clean_up(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    script = "trap 'sleep 0.2; echo clean; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    ended = supervisor.run(command("sh", "-c", script, timeout=1, grace=600))
    assert (tmp_path / "log").read_text().endswith("clean\n")
    assert (ended.code, ended.reason, ended.ok, ended.leftovers) == (3, "timeout", False, 0)


def test_silence_without_processor_time_is_idle(supervisor: Supervisor, command: Any) -> None:
    ended = supervisor.run(command("sleep", "600", idle=0.4))
    assert ended.reason == "idle"
    assert 0.4 <= ended.seconds < 300
    assert survivors(command().cwd) == []


def test_output_or_processor_time_or_a_changed_file_is_life(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "tree" / "src").mkdir(parents=True)
    busy = "import time; end = time.monotonic() + 1.2\nwhile time.monotonic() < end: pass"
    loud = "import time\nfor _ in range(8): print(1, flush=True); time.sleep(0.15)"
    writes = "import time\nfor _ in range(8): open('tree/src/f', 'w').close(); time.sleep(0.15)"
    cases = [
        command(sys.executable, "-ISc", busy, idle=0.5, log=tmp_path / "1"),
        command(sys.executable, "-ISc", loud, idle=0.5, log=tmp_path / "2"),
        command(sys.executable, "-ISc", writes, idle=0.5, log=tmp_path / "3", watch=tmp_path / "tree"),
        command(sys.executable, "-ISc", writes, idle=0.5, log=tmp_path / "4"),
    ]
    with ThreadPoolExecutor(4) as pool:
        assert [ended.reason for ended in pool.map(supervisor.run, cases)] == ["exited", "exited", "exited", "idle"]


def test_output_above_the_cap_keeps_head_and_tail(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    everything = "".join(f"{number}\n" for number in range(1, 100001)).encode()
    ended = supervisor.run(command("seq", "100000", output_cap=1001))
    left_out = b"\n... %d bytes left out ...\n" % (len(everything) - 1001)
    assert (tmp_path / "log").read_bytes() == everything[:500] + left_out + everything[-501:]
    assert ended.output_bytes == len(everything)


@pytest.mark.parametrize("cap", [588895, 588896, 700000])
def test_output_up_to_the_cap_is_kept_whole(supervisor: Supervisor, command: Any, tmp_path: Path, cap: int) -> None:
    supervisor.run(command("seq", "100000", output_cap=cap))
    assert (tmp_path / "log").read_bytes() == "".join(f"{number}\n" for number in range(1, 100001)).encode()


def test_a_flood_takes_neither_disk_nor_memory(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    script = "head -c 200M /dev/zero; sleep 0.1; grep VmHWM /proc/$PPID/status"  # the peak memory of the keeper
    ended = supervisor.run(command("sh", "-c", script, output_cap=2**20))
    log = (tmp_path / "log").read_bytes()
    assert ended.output_bytes > 200 * 2**20
    assert len(log) < 2**20 + 100
    assert int(log.rpartition(b"VmHWM:")[2].split()[0]) < 32 * 1024  # KiB


def test_output_above_the_limit_kills_at_once(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    ended = supervisor.run(command("yes", output_cap=1000, output_limit=10**6, grace=600))
    assert ended.reason == "output-limit"
    assert 10**6 < ended.output_bytes < 3 * 10**6
    assert ended.seconds < 300  # no grace
    assert survivors(tmp_path) == []


# --- leftovers and results ------------------------------------------------------------------------------------------


def test_what_a_successful_command_leaves_behind_is_killed_and_counted(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    ended = supervisor.run(command(*tree(tmp_path, "leave")))
    assert survivors(tmp_path) == []
    assert (ended.ok, ended.leftovers) == (True, 3)
    assert ended.describe() == "exit 0; 3 leftover processes killed"


def test_a_process_that_forks_and_exits_all_the_time_is_caught(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    comet = "import os\nwhile True:\n  if os.fork(): os._exit(0)\n  os.setsid()"
    ended = supervisor.run(command(sys.executable, "-ISc", comet))
    assert survivors(tmp_path) == []
    assert ended.leftovers >= 1


def test_no_daemon_writes_after_the_result(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    script = "(setsid sh -c 'while :; do echo x >> file; done' &) ; while [ ! -s file ]; do sleep 0.01; done"
    assert supervisor.run(command("sh", "-c", script)).leftovers >= 1
    size = (tmp_path / "file").stat().st_size
    time.sleep(0.1)
    assert (tmp_path / "file").stat().st_size == size


def test_the_result_is_stored_and_replaces_that_of_an_earlier_attempt(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    place = tmp_path / "result"
    assert read_result(place) is None
    for code in (0, 5):
        ended = supervisor.run(command("sh", "-c", f"test ! -e result || exit 99; exit {code}", result_file=place))
        assert ended.code == code
        assert read_result(place) == ended


def test_a_result_that_cannot_be_stored_is_not_a_success(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    ended = supervisor.run(command("true", result_file=tmp_path / "gone" / "result"))
    assert (ended.reason, ended.ok) == ("lost", False)
    assert ended.problem == f"its result could not be stored: {tmp_path}/gone/result: No such file or directory"


# --- who dies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", ["", "\nif os.fork() == 0: time.sleep(4); os._exit(0)\n"], ids=["alone", "forked"])
def test_when_the_coordinator_is_killed_nothing_is_left_and_the_lock_is_free(tmp_path: Path, extra: str) -> None:
    argv = tree(tmp_path)
    script = f"""
running = Supervisor(here / "lock").__enter__()
threading.Thread(target=running.run, args=(command(*{argv!r}, grace=600.0),)).start()
{extra}
time.sleep(60)
"""
    process = coordinator(tmp_path, script)
    wait_until(lambda: members(tmp_path) == 4)
    assert len(survivors(tmp_path)) == 4
    process.kill()
    process.wait()
    started = time.monotonic()
    with Supervisor(tmp_path / "lock"):  # whoever has the lock knows that nothing of an earlier run is alive
        assert survivors(tmp_path) == []
    assert time.monotonic() - started < 300  # no grace
    assert not (tmp_path / "result").exists()


def test_a_killed_keeper_loses_its_command_but_leaves_no_process(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(supervisor.run, command(*tree(tmp_path), grace=60.0))
        other = pool.submit(supervisor.run, command("sh", "-c", "sleep 1; exit 4", env={"PATH": PATH}))
        wait_until(lambda: members(tmp_path) == 4)
        os.kill(parent_of_root(tmp_path), signal.SIGKILL)
        assert waiting.result(5).describe() == "lost: its supervisor process died"
        assert survivors(tmp_path) == []
        assert other.result(5).code == 4


def parent_of_root(mark: Path) -> int:
    """The keeper: the parent of all processes with this mark that is not one of them."""
    pids = survivors(mark)
    parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids}
    (keeper,) = parents - set(pids)
    return keeper


def test_a_killed_supervisor_loses_its_commands_but_leaves_no_process(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    assert supervisor._process is not None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(supervisor.run, command(*tree(tmp_path), grace=60.0))
        wait_until(lambda: members(tmp_path) == 4)
        supervisor._process.kill()
        assert waiting.result(5).reason == "lost"
        assert survivors(tmp_path) == []
    wait_until(lambda: supervisor._gone)
    assert supervisor.run(command("true")).describe() == "lost: the supervisor of child processes died"


def test_exit_codes_are_right_when_the_coordinator_ignores_sigchld(tmp_path: Path) -> None:
    script = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with Supervisor(here / "lock") as running:
    (here / "code").write_text(str(running.run(command("sh", "-c", "exit 7")).code))
"""
    coordinator(tmp_path, script).wait()
    assert (tmp_path / "code").read_text() == "7"


# --- many at once, stopping -----------------------------------------------------------------------------------------


def test_sixteen_threads_get_their_own_results(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    def one(number: int) -> bool:
        log = tmp_path / f"log{number}"
        padding = {"PATH": PATH, "PADDING": "x" * 20_000}  # requests longer than a pipe takes at once
        ended = supervisor.run(command("sh", "-c", f"echo {number}; exit {number}", log=log, env=padding))
        return ended.code == number and log.read_text() == f"{number}\n"

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(160)))


def test_stop_asks_every_command_to_end_and_starts_no_more(
    supervisor: Supervisor, command: Any, tmp_path: Path
) -> None:
    script = "trap 'echo clean; exit 0' TERM; echo > up/$1; while :; do sleep 0.05; done"
    (tmp_path / "up").mkdir()
    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(supervisor.run, command("sh", "-c", script, "sh", name, log=tmp_path / name))
            for name in ("a", "b", "c")
        ]
        wait_until(lambda: members(tmp_path) == 3)
        supervisor.stop()
        ended = [job.result(5) for job in jobs]
    assert [(one.reason, one.code, one.ok) for one in ended] == [("stopped", 0, False)] * 3
    assert all((tmp_path / name).read_text().endswith("clean\n") for name in ("a", "b", "c"))
    assert supervisor.run(command("true")).describe() == "stopped before it started"


def test_kill_waits_for_no_grace(supervisor: Supervisor, command: Any, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(supervisor.run, command(*tree(tmp_path), grace=60.0))
        wait_until(lambda: members(tmp_path) == 4)
        supervisor.stop()
        time.sleep(0.1)
        assert not job.done()
        supervisor.kill()
        assert job.result(2).reason == "stopped"
    assert survivors(tmp_path) == []


def test_leaving_the_context_ends_what_other_threads_still_run(tmp_path: Path, command: Any) -> None:
    results: list[Ended] = []
    with Supervisor(tmp_path / "lock") as supervisor:
        stubborn = command(*tree(tmp_path), grace=60.0)
        thread = threading.Thread(target=lambda: results.append(supervisor.run(stubborn)))
        thread.start()
        wait_until(lambda: members(tmp_path) == 4)
    thread.join(5)
    assert [ended.reason for ended in results] == ["stopped"]
    assert survivors(tmp_path) == []
    assert supervisor.run(command("true")).reason == "stopped"
    supervisor.close()


def test_a_signal_handler_may_stop_the_command_that_its_own_thread_waits_for(tmp_path: Path) -> None:
    script = """
with Supervisor(here / "lock") as running:
    signal.signal(signal.SIGALRM, lambda *_: running.stop())
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    (here / "reason").write_text(running.run(command("sleep", "60")).reason)
"""
    coordinator(tmp_path, script).wait(10)
    assert (tmp_path / "reason").read_text() == "stopped"


def test_entering_waits_for_an_earlier_run_but_not_for_ever(tmp_path: Path, command: Any) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError) as caught, Supervisor(tmp_path / "lock", lock_patience=0):
            pass
        timer = threading.Timer(0.2, lambda: fcntl.flock(lock, fcntl.LOCK_UN))
        timer.start()
        with Supervisor(tmp_path / "lock") as supervisor:
            assert supervisor.run(command("true")).ok
        timer.join()
    assert str(caught.value) == (
        "the supervisor of child processes does not start: "
        f"{tmp_path}/lock: processes of an earlier run still hold it after 0 s"
    )


PARTING = """
trap 'echo bye > bye; exit 0' TERM
sh -c 'trap "echo hit > hit" TERM; touch up; while true; do sleep 0.1; done' &
wait
"""
DEAF = "trap '' TERM; touch up; while true; do sleep 0.1; done"


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_only_a_command_with_a_farewell_is_asked_to_end(
    supervisor: Supervisor, command: Any, tmp_path: Path, how: str
) -> None:
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(supervisor.run, command("sh", "-c", PARTING, farewell=120.0))
        wait_until((tmp_path / "up").exists, 60)
        getattr(supervisor, how)()
        assert ended.result().reason == "stopped"
    assert (tmp_path / "bye").exists()
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize(("what", "farewell", "said"), [(PARTING, 120.0, True), (DEAF, 0.3, False)])
def test_a_command_may_say_farewell_for_a_time_when_the_coordinator_is_killed(
    tmp_path: Path, what: str, farewell: float, *, said: bool
) -> None:
    script = f"""
running = Supervisor(here / "lock").__enter__()
threading.Thread(target=running.run, args=(command("sh", "-c", {what!r}, farewell={farewell}),)).start()
time.sleep(60)
"""
    process = coordinator(tmp_path, script)
    wait_until((tmp_path / "up").exists, 60)
    process.kill()
    process.wait()
    with Supervisor(tmp_path / "lock", lock_patience=60):
        assert survivors(tmp_path) == []
    assert (tmp_path / "bye").exists() is said
    assert not (tmp_path / "hit").exists()
