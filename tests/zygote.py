"""The command line as a fork of a process that has imported everything: a process of its own, a third of the time.

What a test sees is the same as with `python -m doit`: own folder, environment, output, exit code. As a script it is the
process that forks: JSON requests on stdin, JSON answers on stdout.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Forked", "Zygote", "load_everything", "zygote_for"]

CHECKOUT = Path(__file__).resolve().parents[1]
AT_START = ("PYTHON", "LC_ALL", "LC_CTYPE", "LANG", "COVERAGE_")
"""Beginnings of names of variables that Python and coverage look at when they start, which a fork is too late for."""
OTHERS = ("doit.doit_cmd", "tomlkit", "git", "jinja2", "rich.console", "detect_secrets.core.scan")


class Zygote:
    """The process that forks, for one caller at a time."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._start = _at_start(environment)
        self._free = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="zygote")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._start | {name: environment[name] for name in ("PATH", "HOME") if name in environment},
        )

    def run(
        self, cwd: Path, args: tuple[str, ...], environment: dict[str, str], timeout: float
    ) -> tuple[int, str, str] | None:
        """Exit code, output and errors of `doit ARGS`; None if it cannot be a fork of this process now.

        Raises:
            subprocess.TimeoutExpired: it took longer than that many seconds and was killed.
        """
        if _at_start(environment) != self._start or not self._free.acquire(blocking=False):
            return None
        try:
            out, err = (Path(self._folder.name) / name for name in ("out", "err"))
            code = self._ask("run", str(cwd), args, environment, str(out), str(err), timeout)
            if code is None:
                raise subprocess.TimeoutExpired(["doit", *args], timeout, out.read_bytes(), err.read_bytes())
            return code, *(path.read_text(encoding="utf-8") for path in (out, err))
        finally:
            self._free.release()

    def start(self, cwd: Path, args: tuple[str, ...], environment: dict[str, str]) -> Forked | None:
        """`doit ARGS`, which runs on, with output and errors in one pipe; None if it cannot be a fork."""
        if _at_start(environment) != self._start:
            return None
        with self._free:
            pipe = Path(self._folder.name) / "pipe"
            os.mkfifo(pipe)
            output = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(output, True)
            pid = self._ask("start", str(cwd), args, environment, str(pipe))
            pipe.unlink()
        return Forked(self, pid, args, output)

    def reap(self, pid: int) -> int:
        """The exit code of a started process that has ended."""
        with self._free:
            return int(self._ask("reap", pid))

    def _ask(self, *request: object) -> Any:
        asked, answers = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        asked.write(json.dumps(request) + "\n")
        asked.flush()
        return json.loads(answers.readline())

    def close(self) -> None:
        """End it."""
        cast("IO[str]", self._process.stdin).close()
        cast("IO[str]", self._process.stdout).close()
        self._process.wait()
        self._folder.cleanup()


class Forked:
    """A process that `Zygote.start` started; what tests use of `subprocess.Popen`."""

    def __init__(self, zygote: Zygote, pid: int, args: tuple[str, ...], output: int) -> None:
        self.pid, self.args = pid, args
        self.returncode: int | None = None
        self.stdout: IO[str] | None = os.fdopen(output, encoding="utf-8")
        self._zygote, self._watch = zygote, os.pidfd_open(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.wait()
        cast("IO[str]", self.stdout).close()

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if self.returncode is None and select.select([self._watch], [], [], 0)[0]:
            self._reap()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after that many seconds.
        """
        if self.returncode is None:
            if not select.select([self._watch], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(["doit", *self.args], timeout or 0)
            self._reap()
        return cast("int", self.returncode)

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """All that it still says until everybody who has its output has ended.

        Raises:
            subprocess.TimeoutExpired: that takes more than that many seconds.
        """
        output, found = cast("IO[str]", self.stdout), list[str]()
        reader = threading.Thread(target=lambda: found.append(output.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            raise subprocess.TimeoutExpired(["doit", *self.args], timeout or 0)
        output.close()
        self.wait(timeout)
        return found[0], None

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _reap(self) -> None:
        self.returncode = self._zygote.reap(self.pid)
        os.close(self._watch)


_zygotes: list[Zygote] = []


def zygote_for(usual: dict[str, str]) -> Zygote:
    """The zygote of this process, started with the usual environment of the tests when it is first needed.

    It never starts with the environment of one test: all others would then have to start an interpreter.
    """
    if not _zygotes:
        _zygotes.append(Zygote(usual))
        atexit.register(_zygotes[0].close)
    return _zygotes[0]


def _at_start(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(AT_START)}


def load_everything() -> None:
    """Import all that a command line may need, and keep the collector's hands off it."""
    import executor

    for module in pkgutil.walk_packages(executor.__path__, "executor."):
        importlib.import_module(module.name)
    for name in OTHERS:
        importlib.import_module(name)
    from executor.config.load_rules import load_policy
    from executor.stop_rules.view import compiled

    for rule in load_policy(Path(os.devnull)).stops:  # the packaged rules
        for pattern in rule.content:
            compiled(pattern)
    gc.freeze()


def _serve() -> None:
    load_everything()
    answers: dict[str, Callable[..., int | None]] = {"run": _run, "start": _start, "reap": _reap}
    for line in sys.stdin:
        what, *request = json.loads(line)
        sys.stdout.write(json.dumps(answers[what](*request)) + "\n")
        sys.stdout.flush()


def _run(cwd: str, args: list[str], environment: dict[str, str], out: str, err: str, timeout: float) -> int | None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return _wait(_fork(cwd, args, environment, os.open(out, flags), os.open(err, flags)), timeout)


def _start(cwd: str, args: list[str], environment: dict[str, str], pipe: str) -> int:
    output = os.open(pipe, os.O_WRONLY)
    return _fork(cwd, args, environment, output, os.dup(output))


def _reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(cwd: str, args: list[str], environment: dict[str, str], *outputs: int) -> int:
    pid = os.fork()
    if pid == 0:
        _become(cwd, args, environment, *outputs)
    for output in outputs:
        os.close(output)
    return pid


def _wait(pid: int, timeout: float) -> int | None:
    watch = os.pidfd_open(pid)
    try:
        ready = select.select([watch], [], [], timeout)[0]
        if not ready:
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code if ready else None
    finally:
        os.close(watch)


def _become(cwd: str, args: list[str], environment: dict[str, str], *outputs: int) -> NoReturn:
    code: Any = 70
    try:
        for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *outputs)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin = os.fdopen(0, closefd=False)  # the old one has read ahead; the others are known elsewhere by now
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        import doit
        from doit.doit_cmd import DoitMain

        sys.argv = [str(Path(doit.__file__).with_name("__main__.py")), *args]
        sys.path[0] = cwd
        code = DoitMain().run(args) or 0
    except SystemExit as error:
        code = 0 if error.code is None else error.code
    except BaseException:  # noqa: BLE001  (nothing may return from here into the loop)
        code = 1
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else 70)


if __name__ == "__main__":
    sys.path[0] = str(CHECKOUT)  # not this folder, whose packages have names such as `git`
    _serve()
