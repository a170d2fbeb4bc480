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
from typing import IO, Any, NoReturn, cast

__all__ = ["Zygote", "load_everything", "zygote_for"]

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
            request = [str(cwd), args, environment, str(out), str(err), timeout]
            asked, answers = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
            asked.write(json.dumps(request) + "\n")
            asked.flush()
            code = json.loads(answers.readline())
            if code is None:
                raise subprocess.TimeoutExpired(["doit", *args], timeout, out.read_bytes(), err.read_bytes())
            return code, *(path.read_text(encoding="utf-8") for path in (out, err))
        finally:
            self._free.release()

    def close(self) -> None:
        """End it."""
        cast("IO[str]", self._process.stdin).close()
        cast("IO[str]", self._process.stdout).close()
        self._process.wait()
        self._folder.cleanup()


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
    for line in sys.stdin:
        cwd, args, environment, out, err, timeout = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(cwd, args, environment, out, err)
        sys.stdout.write(json.dumps(_wait(pid, timeout)) + "\n")
        sys.stdout.flush()


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


def _become(cwd: str, args: list[str], environment: dict[str, str], out: str, err: str) -> NoReturn:
    code: Any = 70
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for number, descriptor in enumerate(
            (os.open(os.devnull, os.O_RDONLY), os.open(out, flags), os.open(err, flags))
        ):
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
