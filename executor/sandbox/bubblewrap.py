"""Wraps a command so that it sees the system read-only, its own tree, and nothing else of the machine.

The client of bubblewrap. Other modules decide which commands are wrapped, and what happens without bubblewrap.

The command waits for processes that an agent left behind, because the sandbox ends with its first process. Outside of a
sandbox, the supervisor does the same (`linger` of `process.runner.Command`).
"""

from __future__ import annotations

import json
import os
import pty
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from executor.process.runner import sane_path
from executor.process.supervisor.launching import open_input
from executor.sandbox.layout import (
    KEYS,
    absolute,
    homes,
    layout,
    object_folders,
    private_folders,
    program_folders,
    refuse_links_out,
    system_folders,
    top_links,
    without_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = ["Sandbox", "find_sandbox", "object_folders", "probe", "sandbox_problem", "waiting_for_background"]

_PROBES = Path(__file__).with_name("probes.py")
_NO_BWRAP = "bubblewrap (bwrap) is not installed"
_PROCESSES = 4096  # RLIMIT_NPROC; the kernel does not apply it to root
_NAMESPACES = ("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A working bubblewrap on this machine.

    Attributes:
        program: absolute path of bwrap.
        env: absolute path of GNU env.
        prlimit: absolute path of util-linux' prlimit, for limits that bwrap cannot set; without it none are set.
    """

    program: Path
    env: Path = Path("/usr/bin/env")
    prlimit: Path | None = None

    def argv(
        self,
        command: Sequence[str],
        *,
        tree: Path,
        start: Path | None = None,
        writable: Sequence[Path] = (),
        readable: Sequence[Path] = (),
        hidden: Sequence[Path] = (),
        network: bool,
        env: Mapping[str, str],
        inherit_env: bool = False,
        copies: Sequence[tuple[Path, Path]] = (),
    ) -> tuple[str, ...]:
        """Return the wrapped command. Paths are equal inside and outside; of two nested paths the deeper one decides.

        Args:
            command: the program and its arguments; a name without a slash is searched in the PATH of `env`.
            tree: the working folder, read-write.
            start: the folder of the tree in which the program starts, if not its top.
            writable: further files and folders, read-write.
            readable: further ones, read-only: the trusted git objects (`object_folders`), the brief.
            hidden: paths that must be invisible even inside a visible folder; they need not exist.
            network: share the machine's network; otherwise the sandbox has only a private loopback.
            env: the whole environment (bwrap adds PWD). HOME and TMPDIR are empty unless in a given folder.
            copies: pairs of a file or folder and the other path at which it appears inside, read-write.
            inherit_env: omit the environment from the command line, which other users of the machine can read; the
                returned command must then be started with exactly `env` as its environment.

        Raises:
            ExecutorError: a given path inside a writable one is a symbolic link out of it.
        """
        tree = absolute(tree)
        write = [tree, *map(absolute, writable)]
        view = _view(command, write, [*map(absolute, readable)], [*map(absolute, hidden)], env)
        given = ({} if inherit_env else {**env}) | private_folders(env, [*write, *map(absolute, readable)])[1]
        return (
            *(str(self.env), *(() if inherit_env else ("-i",)), *(("--ignore-signal=TERM",) if self.prlimit else ())),
            *(str(self.program), *_NAMESPACES, *(("--share-net",) if network else ())),
            *(*view, *(part for copy, place in copies for part in ("--bind", str(copy), str(absolute(place))))),
            *("--remount-ro", "/", "--chdir", str(absolute(start or tree))),
            *(() if inherit_env else ("--clearenv",)),
            *(part for key, value in given.items() for part in ("--setenv", key, value)),
            *("--", *self._limits(), *command),
        )

    def _limits(self) -> tuple[str, ...]:
        if self.prlimit is None:
            return ()
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        processes = _PROCESSES if hard == resource.RLIM_INFINITY else min(hard, _PROCESSES)
        reset = (str(self.env), "--default-signal=TERM")
        return (*reset, str(self.prlimit), "--core=0", f"--nproc={processes}", "--")


def _view(
    command: Sequence[str], write: list[Path], read: list[Path], hidden: list[Path], env: Mapping[str, str]
) -> list[str]:
    """Return the options for visible paths; the first of `write` is the tree."""
    refuse_links_out([*write[1:], *read], write)
    private, _ = private_folders(env, [*write, *read])
    found = without_secrets(program_folders(command, env, write), homes(env), [*write, *read], hidden)
    binds = dict.fromkeys([*system_folders(), *found, *read], False) | dict.fromkeys(write, True)
    return [*top_links(), *layout(binds, private, [*KEYS, *hidden], write[0])]


@cache
def find_sandbox() -> Sandbox | None:
    """Return this machine's sandbox after a successful start; None without one, see `sandbox_problem`."""
    return _find()[0]


def sandbox_problem() -> str:
    """Return why there is no sandbox, as a sentence; empty if there is one."""
    return _find()[1]


@cache
def _find() -> tuple[Sandbox | None, str]:
    path = sane_path("/usr/bin:/bin:/usr/local/bin:" + os.environ.get("PATH", ""))
    program, env, true, prlimit = (shutil.which(name, path=path) for name in ("bwrap", "env", "true", "prlimit"))
    if program is None or env is None or true is None:
        return None, _NO_BWRAP
    sandbox = Sandbox(Path(program), Path(env), Path(prlimit) if prlimit else None)
    with tempfile.TemporaryDirectory() as tree:
        argv = sandbox.argv((true,), tree=Path(tree), network=False, env={})
        try:
            ended = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env={}, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return None, f"{program} does not run: {error}"
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip(" .\n") or f"exit {ended.returncode}"
        return None, f"{program} does not start a sandbox here: {said}"
    return sandbox, ""


def probe(sandbox: Sandbox, state: Path, repository: Path) -> list[str]:
    """Try forbidden actions from inside; returns a sentence for each that succeeded. Empty is good.

    Args:
        sandbox: result of `find_sandbox`.
        state: the state folder; a temporary folder is made in it.
        repository: git directory of the trusted repository.
    """
    token, state, repository = secrets.token_hex(16), absolute(state), absolute(repository)
    with (
        tempfile.TemporaryDirectory(prefix="probe-", dir=state) as folder,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as local,
    ):
        local.bind(f"\0{token}")
        local.listen()
        tree = Path(folder, "tree")
        for made in (tree, Path(folder, ".git")):
            made.mkdir()
        facts = _facts(state, repository) | {"port": tcp.getsockname()[1], "token": token}
        python = os.path.realpath(sys.executable)
        argv = sandbox.argv(
            (python, "-I", "-S", "-c", _PROBES.read_text(encoding="utf-8"), json.dumps(facts)),
            tree=tree,
            hidden=(state, repository),
            network=False,
            env={"PATH": "/usr/bin:/bin"},
        )
        brief = Path(folder, "brief")
        brief.write_bytes(b"brief")
        given = open_input(str(brief))
        try:
            return _tried(argv, {"EXECUTOR_PROBE": token}, given)
        finally:
            os.close(given)


def _facts(state: Path, repository: Path) -> dict[str, object]:
    """Return expected values for the probes."""
    return {
        "state": str(state),
        "repository": str(repository),
        "seen": {str(path): _identity(path) for path in (state, repository, *homes({}), Path("/root"))},
        "namespace": str(Path("/proc/self/ns/pid").readlink()),
        "coordinator": os.getpid(),
    }


def _tried(argv: tuple[str, ...], env: dict[str, str], given: int) -> list[str]:
    """Run the probes on a separate terminal, which they could take over, and with a descriptor like a brief's."""
    ours, theirs = pty.openpty()
    setsid = shutil.which("setsid", path="/usr/bin:/bin")
    start = (setsid, "--ctty", "--wait") if setsid else ()
    try:
        ended = subprocess.run(
            (*start, *argv), stdin=theirs, capture_output=True, env=env, timeout=10, check=False, pass_fds=(given,)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"the probes do not run: {error}"]
    finally:
        os.close(ours)
        os.close(theirs)
    try:
        return list(json.loads(ended.stdout)["succeeded"])
    except (ValueError, KeyError, TypeError):
        said = ended.stderr.decode(errors="replace").strip()[-300:] or f"exit {ended.returncode}"
        return [f"the probes do not run: {said}"]


def _identity(path: str | Path) -> list[int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  (text and path alike)
    except OSError:
        return None
    return [status.st_dev, status.st_ino]


_LOOKS_A_SECOND = 5  # a choice: a look reads one file for each process
_SCRIPT = """
"$@" || exit $?
quiet=0 last=
while [ $quiet -lt LOOKS ]; do
    seen=
    for stat in /proc/[0-9]*/stat; do
        pid=${stat#/proc/}
        pid=${pid%/stat}
        case $pid in 1 | $$) continue ;; esac
        { read -r line < "$stat"; } 2> /dev/null || continue
        set -- ${line##*) }
        [ "$1" = Z ] || seen="$seen $pid ${12} ${13}"
    done
    [ -n "$seen" ] || break
    if [ "$seen" = "$last" ]; then quiet=$((quiet + 1)); else quiet=0 last=$seen; fi
    sleep PAUSE
done
"""


def waiting_for_background(argv: tuple[str, ...], quiet_s: float) -> tuple[str, ...]:
    """Return a command that ends once `argv` and all other processes of its process namespace have ended.

    Processes without processor time for `quiet_s` seconds are not waited for; none is if `argv` fails. The exit code is
    that of `argv`.
    """
    if not quiet_s:
        return argv
    script = _SCRIPT.replace("LOOKS", str(max(1, round(quiet_s * _LOOKS_A_SECOND))))
    return ("sh", "-c", script.replace("PAUSE", str(1 / _LOOKS_A_SECOND)), "sh", *argv)
