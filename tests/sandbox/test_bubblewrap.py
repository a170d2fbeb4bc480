"""The sandbox with a real bubblewrap: work goes on as usual, and nothing else of the machine is there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.errors import ExecutorError
from executor.process.runner import Command, Supervisor
from executor.sandbox import probes as sandbox_probes
from executor.sandbox.bubblewrap import Sandbox, find_sandbox, object_folders, probe, sandbox_problem
from executor.sandbox.layout import layout, program_folders

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FOUND = find_sandbox()
real = pytest.mark.skipif(FOUND is None, reason=f"no sandbox: {sandbox_problem()}")
BOX = FOUND or Sandbox(Path("/usr/bin/bwrap"), prlimit=Path("/usr/bin/prlimit"))
PATH = "/usr/local/bin:/usr/bin:/bin"
ENV = {"PATH": PATH, "LANG": "C.UTF-8"}
PYTHON = sys.executable
ROOT = Path(__file__).parents[2]
SENTENCES = (  # of the attempts with a fixed sentence; those about folders that can be seen are counted
    "the repository's config can be written",
    "the repository's hooks can be written",
    "the repository's refs can be written",
    "the repository's objects can be written",
    "the .git beside the tree can be replaced",
    "the .git beside the tree can be removed",
    "the state folder can be written",
    "processes of the machine can be seen",
    "processes of the machine can be signalled",
    "a network connection to the machine can be made",
    "an abstract socket of the machine can be reached",
    "another network interface can be seen",
    "the user can be changed",
    "su works",
    "a file system can be mounted",
    "characters can be put into the terminal",
    "the coordinator's environment can be read",
    "/etc can be written",
    "/etc/passwd can be written",
    "/usr can be written",
    "settings of the kernel can be written",
    "the kernel can be controlled",
    "device nodes can be created",
    "the parent can be traced",
    "capabilities are left",
    "set-user-id programs work",
    "a file can be written through a descriptor",
)


def run(command: Sequence[str], tree: Path, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in the sandbox, with what a session would hide and show."""
    env: Mapping[str, str] = options.pop("env", ENV)
    options.setdefault("network", False)
    argv = BOX.argv(command, tree=tree, env=env, **options)
    ended = subprocess.run(argv, input=stdin, capture_output=True, env=dict(env), timeout=20, check=False)
    return subprocess.CompletedProcess(command, ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def said(command: Sequence[str], tree: Path, **options: Any) -> str:
    """Standard output of a command that must succeed in the sandbox."""
    ended = run(command, tree, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def git(where: Path, *arguments: str) -> str:
    """Run git outside the sandbox."""
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(where), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree where a session has them: in the state folder, in the user's checkout."""
    folder = tmp_path / "checkout" / ".cache" / "state" / "trees" / "1" / "tree"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def checkout(tmp_path: Path, tree: Path) -> Path:
    """The user's checkout, a repository with one commit, around the tree that borrows its objects."""
    top = tmp_path / "checkout"
    git(top, "init", "-q")
    (top / "secret.txt").write_text("canary")
    git(top, "add", "secret.txt")
    git(top, "commit", "-qm", "first")
    git(tree, "init", "-q")
    (tree / ".git" / "objects" / "info" / "alternates").write_text(f"{top / '.git' / 'objects'}\n")
    git(tree, "update-ref", "HEAD", git(top, "rev-parse", "HEAD"))
    git(tree, "reset", "-q", "--hard")
    return top


@pytest.fixture
def listener() -> Iterator[int]:
    """The port of a listener on the machine's loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@real
def test_git_works_on_borrowed_objects_and_the_checkout_is_not_there(checkout: Path, tree: Path) -> None:
    shown = object_folders(checkout / ".git" / "objects")
    script = (
        "git log --format=%s; echo new > file; git add file; git -c user.name=a -c user.email=a@b commit -qm second;"
        " git status --short; git log --format=%s; git fsck --strict"
    )
    env = {**ENV, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    out = said(("sh", "-ec", script), tree, readable=shown, hidden=(checkout, checkout / ".git"), env=env)
    assert out.split() == ["first", "second", "first"]
    denied = f"echo x > {checkout}/.git/objects/x; ls {checkout}/.git; cat {checkout}/secret.txt"
    ended = run(("sh", "-c", denied), tree, readable=shown, hidden=(checkout, checkout / ".git"))
    assert ended.stdout == "objects\n"
    assert ended.stderr.count("Read-only file system") == 1
    assert ended.stderr.count("No such file") == 1
    assert git(checkout, "log", "--format=%s") == "first"
    assert not (checkout / ".git" / "objects" / "x").exists()


@real
def test_an_agents_alternates_make_nothing_visible(tmp_path: Path, tree: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("canary")
    info = tree / ".git" / "objects" / "info"
    info.mkdir(parents=True)
    (info / "alternates").write_text(f"{secret}\n")
    (tree / "python").symlink_to(secret / "key")
    (tree / "tool").write_text(f"#!{secret}/key\n")
    env = {**ENV, "PATH": f"{tree}:{PATH}", "VIRTUAL_ENV": str(tree)}
    assert run(("cat", str(secret / "key")), tree, env=env).returncode != 0
    for program in ("./tool", str(tree / "tool"), "tool", "python"):
        assert str(secret) not in BOX.argv((program,), tree=tree, network=False, env=env)


@real
def test_a_folder_of_the_tree_that_became_a_link_out_of_it_is_refused(tmp_path: Path, tree: Path) -> None:
    (tree / "inside").mkdir()
    (tree / "good").symlink_to("inside")
    (tree / "tests").symlink_to(tmp_path)
    assert run(("sh", "-c", "echo x > good/x"), tree, readable=(tree / "good",)).returncode != 0
    with pytest.raises(ExecutorError, match="leads out of"):
        run(("true",), tree, readable=(tree / "tests",))
    with pytest.raises(ExecutorError, match="leads out of"):
        run(("true",), tree, writable=(tree / "tests" / "checkout",))


@real
def test_python_of_a_virtual_environment_works(tree: Path) -> None:
    code = "import sys, ssl, sqlite3, hypothesis; print(sys.prefix)"
    for command in ((PYTHON, "-c", code), ("python", "-c", code)):
        env = {**ENV, "PATH": f"{Path(PYTHON).parent}:{PATH}"}
        assert said(command, tree, env=env) == sys.prefix


@real
def test_a_new_virtual_environment_in_a_hidden_checkout_works_and_cannot_be_written(checkout: Path, tree: Path) -> None:
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(checkout / ".venv")], check=True)
    env = {**ENV, "PATH": f"{checkout}/.venv/bin:{checkout}:{PATH}"}
    out = run(
        (
            "sh",
            "-c",
            "python -c 'import sys; print(sys.prefix)'; echo x > ../../../../../.venv/x; ls -A ../../../../..",
        ),
        tree,
        env=env,
        hidden=(checkout,),
    )
    assert out.stdout.split() == [f"{checkout}/.venv", ".cache", ".venv"]
    assert "Read-only file system" in out.stderr


@real
def test_files_and_temporary_files_are_written(tmp_path: Path, tree: Path) -> None:
    extra, brief = tmp_path / "out", tmp_path / "brief.md"
    extra.mkdir()
    brief.write_text("do it")
    env = {**ENV, "TMPDIR": "/scratch/of/somebody", "HOME": "/root"}
    script = f"cat {brief} > copy; mktemp >> copy; echo x > {extra}/report; echo x > ~/note; echo y > /tmp/note; pwd"
    assert said(("sh", "-ec", script), tree, env=env, writable=(extra,), readable=(brief,)) == str(tree)
    assert (tree / "copy").read_text().startswith("do it/scratch/of/somebody/tmp.")
    assert (extra / "report").read_text() == "x\n"
    assert not Path("/tmp/note").exists()  # noqa: S108
    assert run(("sh", "-c", f"echo x > {brief}"), tree, readable=(brief,)).returncode != 0


@real
def test_a_home_that_is_named_is_kept(tmp_path: Path, tree: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".agentrc").write_text("setting")
    env = {**ENV, "HOME": str(home)}
    assert said(("sh", "-c", 'cat "$HOME/.agentrc"'), tree, env=env, readable=(home,)) == "setting"
    assert said(("ls", "-A", str(home)), tree, env=env) == ""


@real
def test_stdin_exit_codes_and_signals_pass_through(tree: Path) -> None:
    assert run(("cat",), tree, b"the brief").stdout == "the brief"
    assert run(("sh", "-c", "exit 7"), tree).returncode == 7
    assert run(("sh", "-c", "kill -9 $$"), tree).returncode == 128 + signal.SIGKILL
    assert run(("no-such-program",), tree).returncode != 0


@real
def test_under_the_supervisor_sigterm_leaves_time_to_tidy_up_and_nothing_is_left(tmp_path: Path, tree: Path) -> None:
    polite = "trap 'echo tidy > tidy; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with Supervisor(tmp_path / "lock") as supervisor:

        def supervised(script: str, **limits: float) -> Any:
            argv = BOX.argv(("sh", "-c", script), tree=tree, network=False, env=ENV)
            return supervisor.run(Command(argv, tree, ENV, tmp_path / "log", **limits))  # type: ignore[arg-type]

        assert supervised("echo out; exit 3").describe() == "exit 3"
        ended = supervised(polite, timeout=0.5, grace=600.0)
        assert (ended.reason, ended.seconds < 300) == ("timeout", True)
        assert (tree / "tidy").exists()
        stubborn = supervised("trap '' TERM; while :; do sleep 0.05; done", timeout=0.3, grace=0.3)
        assert (stubborn.reason, stubborn.seconds < 300) == ("timeout", True)
        long = f"600.{os.getpid()}"  # nobody else on the machine sleeps for exactly this time
        daemon = supervised(f"setsid sleep {long} >/dev/null 2>&1 & echo started")
        assert daemon.code == 0
        assert daemon.seconds < 300
    assert not marked(f"sleep\x00{long}")


@real
@pytest.mark.parametrize("inherit", [False, True])
def test_the_environment_is_exactly_the_given_one(tree: Path, monkeypatch: pytest.MonkeyPatch, inherit: bool) -> None:
    monkeypatch.setenv("FORGE_TOKEN", "canary")
    env = {"PATH": PATH, "HOME": "/home/me", "A": "b=c\nd", "EMPTY": "", "-x": "--share-net"}
    argv = BOX.argv(("env", "-0"), tree=tree, network=False, env=env, inherit_env=inherit)
    outside = env if inherit else None
    out = subprocess.run(argv, capture_output=True, text=True, check=True, env=outside).stdout
    inside = dict(line.split("=", 1) for line in out.split("\0") if line)
    assert inside.pop("PWD") == str(tree)
    assert inside == env
    assert inherit == ("b=c\nd" not in argv)
    reads = BOX.argv(("sh", "-c", "cat /proc/*/environ"), tree=tree, network=False, env=env, inherit_env=inherit)
    assert b"canary" not in subprocess.run(reads, capture_output=True, check=True, env=outside).stdout


@real
@pytest.mark.parametrize("network", [False, True])
def test_the_network_is_there_only_when_asked_for(tree: Path, listener: int, network: bool) -> None:
    code = f"import socket; socket.create_connection(('127.0.0.1', {listener}), 1)"
    assert (run((PYTHON, "-c", code), tree, network=network).returncode == 0) == network


@real
def test_hidden_folders_are_invisible_under_every_name(tmp_path: Path, tree: Path) -> None:
    shown, secret = tmp_path / "shown", tmp_path / "shown" / "a" / "secret"
    secret.mkdir(parents=True)
    (secret / "key").write_text("canary")
    (shown / "file").write_text("canary")
    (tmp_path / "alias").symlink_to(shown)
    (tree / "link").symlink_to(secret)
    for name in (shown, tmp_path / "alias"):
        hidden = (tmp_path / "alias" / "a" / "secret", shown / "file", tmp_path / "absent")
        out = run(("sh", "-c", f"find {name}/; cat {name}/file; ls link/"), tree, readable=(name,), hidden=hidden)
        assert "key" not in out.stdout
        assert "canary" not in out.stdout
        assert run(("sh", "-c", f"echo x > {name}/a/secret/x"), tree, readable=(name,), hidden=hidden).returncode != 0
    assert (secret / "key").read_text() == "canary"


@pytest.fixture(scope="module")
def breaches(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return probe(BOX, *_places(tmp_path_factory.mktemp("probe")))


def _places(folder: Path) -> tuple[Path, Path]:
    subprocess.run(["git", "init", "-q", str(folder / "repo")], check=True)
    (folder / "state").mkdir()
    return folder / "state", folder / "repo" / ".git"


@real
@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_must_not_be_possible_is_not(breaches: list[str], sentence: str) -> None:
    assert sentence not in breaches


@real
def test_no_probe_succeeds_and_they_are_quick(tmp_path: Path) -> None:
    state, repository = _places(tmp_path)
    start = time.perf_counter()
    assert probe(BOX, state, repository) == []
    seconds = time.perf_counter() - start
    print(f"all probes: {seconds:.3f} s")  # noqa: T201
    assert seconds < 5  # 0.3 s on a machine at rest
    assert list(state.iterdir()) == []


def test_every_probe_has_a_test(tmp_path: Path) -> None:
    found = sandbox_probes.attempts(
        {"state": "/s", "repository": "/r", "token": "t", "seen": {}, "namespace": "", "coordinator": 1, "port": 1}
    )
    assert tuple(found) == SENTENCES
    assert len(SENTENCES) >= 13
    _ = tmp_path


class Open(Sandbox):
    """No sandbox at all: the control."""

    def argv(self, command: Sequence[str], *, tree: Path, **_: Any) -> tuple[str, ...]:
        return ("env", "-C", str(tree), *command)


@pytest.mark.skipif(shutil.which("setsid") is None, reason="the probes need a process between them and this one")
def test_without_a_sandbox_the_probes_succeed(tmp_path: Path) -> None:
    state, repository = _places(tmp_path)
    found = set(probe(Open(Path("/nothing")), state, repository))
    ordinary = {*SENTENCES[:7], *SENTENCES[7:11], "the coordinator's environment can be read", f"{state} can be seen"}
    assert ordinary <= found
    if os.getuid() == 0 and FOUND is not None:  # and not in somebody's container
        assert {"the user can be changed", "capabilities are left", "/etc/passwd can be written"} <= found
    assert list(state.iterdir()) == []


@real
def test_a_first_process_that_was_stopped_by_tracing_does_not_hold_the_command_up(tmp_path: Path, tree: Path) -> None:
    trace = "import ctypes; print(ctypes.CDLL(None).ptrace(16, 1, None, None), flush=True)"  # attach, and exit
    argv = BOX.argv((sys.executable, "-I", "-S", "-c", trace), tree=tree, network=False, env=ENV)
    command = Command(argv, tree, ENV, tmp_path / "log", timeout=60.0, idle=15.0)
    with Supervisor(tmp_path / "lock") as supervisor:
        reason = supervisor.run(command).reason
    assert (tmp_path / "log").read_text() in {"0\n", "-1\n"}  # a kernel may forbid it
    assert reason == "exited"


@real
def test_a_first_process_that_stops_after_it_reaped_its_child_does_not_hold_the_command_up(
    tmp_path: Path, tree: Path
) -> None:
    # The child cannot choose that moment, so the first process is stopped from outside once it is alone.
    argv = BOX.argv(("/bin/true",), tree=tree, network=False, env=ENV)
    stop = (
        "import os, signal, subprocess, sys, time\n"
        "box = subprocess.Popen(sys.argv[1:])\n"
        "children = lambda pid: open(f'/proc/{pid}/task/{pid}/children').read().split()\n"
        "first = []\n"
        "while not first and box.poll() is None: first = children(box.pid)\n"
        "if first: os.kill(int(first[0]), signal.SIGSTOP)\n"
        "print(len(first), flush=True)\n"
        "sys.exit(box.wait())\n"
    )
    outer = (sys.executable, "-I", "-S", "-c", stop, *argv)
    command = Command(outer, tree, ENV, tmp_path / "log", timeout=60.0, idle=15.0)
    with Supervisor(tmp_path / "lock") as supervisor:
        reason = supervisor.run(command).reason
    assert reason == "exited"


@real
@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("-i", "the coordinator's environment can be read"),
        ("--new-session", "characters can be put into the terminal"),
    ],
)
def test_without_one_of_its_options_a_probe_succeeds(tmp_path: Path, option: str, sentence: str) -> None:
    class Weaker(Sandbox):
        def argv(self, *command: Any, **options: Any) -> tuple[str, ...]:
            return tuple(part for part in Sandbox.argv(self, *command, **options) if part != option)

    if option == "--new-session" and Path("/proc/sys/dev/tty/legacy_tiocsti").read_text() == "0\n":
        pytest.skip("this kernel does not know TIOCSTI any more")
    assert sentence in probe(Weaker(BOX.program, BOX.env, BOX.prlimit), *_places(tmp_path))


def test_a_sandbox_that_does_not_start_is_said_to_fail(tmp_path: Path) -> None:
    found = probe(Sandbox(Path("/nothing/bwrap")), *_places(tmp_path))
    assert len(found) == 1
    assert found[0].startswith("the probes do not run: ")


def marked(mark: str) -> list[int]:
    """The processes of the machine whose command line contains `mark`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def until(seconds: float, mark: str, *, least: int = 0, most: int = 10**6) -> bool:
    """Wait until there are that many processes with the mark."""
    end = time.monotonic() + seconds
    while not least <= len(marked(mark)) <= most:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


BOMB = """
import os, time
for _ in range(200):
    if os.fork() == 0:
        os.setsid()
        break
time.sleep(600)
"""


@real
def test_a_fork_bomb_ends_with_the_sandbox(tree: Path) -> None:
    mark = uuid.uuid4().hex
    argv = BOX.argv((PYTHON, "-c", BOMB, mark), tree=tree, network=False, env=ENV)
    with subprocess.Popen(argv) as process:
        assert until(10, mark, least=200)
        process.send_signal(signal.SIGKILL)
        start = time.perf_counter()
        assert until(5, mark, most=0)
        print(f"200 processes gone after {time.perf_counter() - start:.3f} s")  # noqa: T201


@real
def test_limits_are_set(tree: Path) -> None:
    if BOX.prlimit is None:
        pytest.skip("no prlimit")
    assert said(("sh", "-c", "ulimit -c; ulimit -Hc"), tree) == "0\n0"
    assert int(said(("bash", "-c", "ulimit -Hu"), tree)) <= 4096


@real
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user")
def test_it_works_for_an_ordinary_user() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        tree = Path(name)
        os.chown(tree, 65534, 65534)
        become = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        env = {"PATH": PATH, "HOME": "/"}
        script = "id -u; echo x > file; cat /etc/shadow /root/* 2>/dev/null; ls /root /proc/2; echo $HOME; kill -9 -1"
        argv = BOX.argv(("sh", "-c", script), tree=tree, network=False, env=env)
        ended = subprocess.run((*become, *argv), capture_output=True, text=True, check=False)
        assert ended.stdout.split()[:1] == ["65534"], ended.stderr
        assert "/home/sandbox" in ended.stdout
        assert ended.stderr.count("ls: cannot access '/root'") == 1
        assert (tree / "file").stat().st_uid == 65534


@real
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user")
def test_no_probe_succeeds_for_an_ordinary_user() -> None:
    python = shutil.which("python3", path="/usr/bin")  # ours may be in root's home
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; from pathlib import Path; from executor.sandbox.bubblewrap import *;"
        "d = Path(sys.argv[2]); print(probe(find_sandbox(), d / 'state', d / 'repo' / '.git'))"
    )
    old = "import sys; sys.exit(sys.version_info < (3, 11))"
    if python is None or subprocess.run((python, "-c", old), check=False).returncode:
        pytest.skip("no Python that another user can run")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # where the other user can go too
        _places(Path(name))
        package = Path(name, "package")
        shutil.copytree(Path(sandbox_probes.__file__).parents[1], package / "executor")
        for path in (Path(name), *Path(name).rglob("*")):
            os.chown(path, 65534, 65534)
        command = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", code, package, name)
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": PATH}, cwd="/")
        assert ended.stdout == "[]\n", ended.stderr


@real
def test_where_user_namespaces_are_forbidden_the_reason_is_said() -> None:
    code = "from executor.sandbox.bubblewrap import *; print(find_sandbox(), sandbox_problem())"
    forbid = ("bwrap", "--unshare-user", "--disable-userns", "--dev-bind", "/", "/")
    ended = subprocess.run((*forbid, PYTHON, "-c", code), capture_output=True, text=True, check=False, cwd=ROOT)
    if "Unknown option" in ended.stderr:
        pytest.skip("this bwrap cannot forbid them")
    assert ended.stdout.startswith("None /usr/bin/bwrap does not start a sandbox here: "), ended.stderr


ARITY = {"--unshare-all": 0, "--die-with-parent": 0, "--new-session": 0, "--share-net": 0, "--clearenv": 0}
ARITY |= {"--cap-drop": 1, "--proc": 1, "--dev": 1, "--tmpfs": 1, "--remount-ro": 1, "--chdir": 1}
ARITY |= {"--symlink": 2, "--ro-bind": 2, "--bind": 2, "--setenv": 2}


def parsed(argv: tuple[str, ...]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The options as bwrap reads them, and what it will run."""
    rest, options = argv[argv.index("/usr/bin/bwrap") + 1 :], []
    while rest[0] != "--":
        count = ARITY[rest[0]] + 1
        options.append(rest[:count])
        rest = rest[count:]
    return options, rest[1:]


NAMES = st.one_of(
    st.sampled_from(["-", "--", "--share-net", "--bind", "-c", "--cap-add", "--dev-bind / /", "--args", "a=b", "\n-"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
).filter(lambda name: name not in {".", ".."})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(NAMES, min_size=4, max_size=4, unique=True), st.lists(NAMES, min_size=1, max_size=3), st.booleans())
def test_no_name_becomes_an_option(tmp_path: Path, names: list[str], command: list[str], absolute: bool) -> None:
    tree, write, read, hide = (tmp_path / name if absolute else Path(name) for name in names)
    box = Sandbox(Path("/usr/bin/bwrap"), prlimit=Path("/usr/bin/prlimit"))
    env = {"PATH": "/usr/bin", "-x": names[0]}
    argv = box.argv(command, tree=tree, writable=(write,), readable=(read,), hidden=(hide,), network=False, env=env)
    options, run_by_it = parsed(argv)
    assert ("--share-net",) not in options
    assert list(run_by_it[-len(command) - 1 :]) == ["--", *command]
    assert {option[1] for option in options if option[0] == "--bind"} == {os.path.abspath(p) for p in (tree, write)}  # noqa: PTH100
    assert all(option[2].startswith("/") for option in options if len(option) == 3 and option[0] != "--setenv")
    bare = Sandbox(Path("/usr/bin/bwrap")).argv(command, tree=tree, network=True, env=env)
    assert list(parsed(bare)[1]) == command


@real
def test_odd_names_work(tmp_path: Path) -> None:
    for name in ("--share-net", "- -", "a=b", "new\nline", "\udce9"):
        tree = tmp_path / name
        tree.mkdir()
        (tree / "-run").write_text("#!/bin/sh\necho $1\n")
        (tree / "-run").chmod(0o755)
        assert said(("-run", "--version"), tree, env={"PATH": f"{tree}:{PATH}"}) == "--version"
        assert said((f"{tree}/-run", "-x"), tree) == "-x"


@real
def test_nothing_is_writable_but_the_tree_and_what_is_in_memory(tree: Path) -> None:
    script = "find / -maxdepth 3 -writable -not -type l 2>/dev/null"
    found = {Path(line) for line in run(("sh", "-c", script), tree).stdout.splitlines()}
    allowed = {Path(path) for path in ("/tmp", "/var/tmp", "/home/sandbox", "/proc/pressure", "/dev")}  # noqa: S108
    others = {path for path in found if not allowed & {path, *path.parents}}
    assert not {path for path in others if not (path.parts[1] == "proc" and (path.parts[2] + "0")[0] in "0123456789st")}


def test_inner_folders_lie_on_top_of_outer_ones() -> None:
    binds = {Path("/p/a/b"): True, Path("/p"): False}
    options = layout(binds, [Path("/p/a")], [])
    order = [part for part in options if part == "/p" or part.startswith("/p/")]
    assert order == ["/p", "/p", "/p/a", "/p/a/b", "/p/a/b"]


def test_a_home_on_the_path_is_never_shown(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for folder in ("bin", ".local/bin", ".local/lib/python3.11/site-packages", "tree"):
        (home / folder).mkdir(parents=True)
    env = {"HOME": str(home), "PATH": f"{home}:{tmp_path}:{home}/bin:{home}/.local/bin:relative::/usr/bin"}
    argv = BOX.argv(("true",), tree=home / "tree", network=False, env=env)
    shown = {
        argv[at + 1] for at, part in enumerate(argv) if part == "--ro-bind" and argv[at + 1].startswith(str(tmp_path))
    }
    assert shown == {f"{home}/bin", f"{home}/.local/bin"}


def test_links_and_interpreters_of_a_program_are_shown(tmp_path: Path) -> None:
    tools, versions, python = tmp_path / "bin", tmp_path / "versions" / "2", tmp_path / "python"
    for folder in (tools, versions, python / "bin", python / "lib" / "python3.11"):
        folder.mkdir(parents=True)
    (python / "bin" / "python3").touch()
    (python / "lib" / "python3.11" / "os.py").touch()
    (versions / "agent").write_text(f"#!{python}/bin/python3 -I\n")
    (tools / "agent").symlink_to("../versions/2/agent")
    assert program_folders((str(tools / "agent"),), {}) == [tools, versions, python]
    assert program_folders((str(tools / "agent"),), {}, [tmp_path]) == []


def test_objects_borrowed_by_the_trusted_repository_are_found(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "objects", tmp_path / "b" / "objects"
    for folder in (first, second):
        (folder / "info").mkdir(parents=True)
    (first / "info" / "alternates").write_text(f"# note\n{second}\n/absent\n")
    (second / "info" / "alternates").write_text("../../a/objects\n")
    assert object_folders(first) == (first, second)


@real
def test_launching_costs_little(tree: Path) -> None:
    def seconds(argv: Sequence[str]) -> float:
        start = time.perf_counter()
        subprocess.run(argv, check=True, env=ENV)
        return time.perf_counter() - start

    argv = BOX.argv(("true",), tree=tree, network=False, env=ENV)
    inside, outside = (sorted(seconds(a) for _ in range(20))[10] for a in (argv, ("true",)))
    start = time.perf_counter()
    BOX.argv(("true",), tree=tree, network=False, env=ENV)
    built = time.perf_counter() - start
    print(json.dumps({"launch_ms": round((inside - outside) * 1e3, 1), "argv_ms": round(built * 1e3, 2)}))  # noqa: T201
    assert inside - outside < 1


def test_what_npm_installed_is_seen_as_a_whole(tmp_path: Path) -> None:
    modules = tmp_path / "node_modules"
    script = modules / "@some" / "agent" / "bin" / "agent.js"
    script.parent.mkdir(parents=True)
    script.write_text("#!/usr/bin/env node\n")
    (modules / ".bin").mkdir()
    (modules / ".bin" / "agent").symlink_to("../@some/agent/bin/agent.js")
    assert program_folders(("agent",), {"PATH": str(modules / ".bin")}) == [modules]
