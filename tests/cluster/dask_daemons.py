"""A Dask scheduler with TLS and workers of it: processes that can be killed, frozen and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Daemons", "certificates", "free_port"]

SIGNED = """
set -e; cd "$1"
make() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $1.key -subj /CN=$1 "${@:2}"; }
make ca -x509 -out ca.pem -days 2; make stranger -x509 -out stranger.pem -days 2; make box -out box.csr
openssl x509 -req -in box.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out box.pem -days 2
"""


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def certificates(folder: Path) -> Path:
    """Write an authority, a certificate of it, and one that nobody signed, into a folder."""
    if shutil.which("openssl") is None or shutil.which("bash") is None:
        pytest.skip("needs openssl and bash")
    subprocess.run(["bash", "-c", SIGNED, "bash", str(folder)], check=True, capture_output=True)
    return folder


class Daemons:
    """A scheduler with TLS at one address, and its workers.

    Args:
        tls: the folder with the certificates.
    """

    def __init__(self, tls: Path) -> None:
        pytest.importorskip("distributed", reason="needs dask's distributed")
        self.tls, self.port = tls, free_port()
        self.address = f"tls://127.0.0.1:{self.port}"
        self.running: list[subprocess.Popen[bytes]] = []

    def scheduler(self, home: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        words = ["--protocol=tls", "--host=127.0.0.1", f"--port={self.port}"]
        return self._started("dask_scheduler", home, env, *words)

    def worker(
        self, name: str, home: Path, env: Mapping[str, str], *, agents: int, nanny: bool = True
    ) -> subprocess.Popen[bytes]:
        """Start a worker of Dask; with a nanny, the worker is its child."""
        words = ["--host=127.0.0.1", f"--name={name}", "--nthreads=4", f"--resources=agent={agents} check=2"]
        return self._started("dask_worker", home, env, self.address, *words, "--nanny" if nanny else "--no-nanny")

    def _started(self, program: str, home: Path, env: Mapping[str, str], *words: str) -> subprocess.Popen[bytes]:
        tls = [f"--tls-ca-file={self.tls}/ca.pem", f"--tls-cert={self.tls}/box.pem", f"--tls-key={self.tls}/box.key"]
        argv = [sys.executable, "-m", f"distributed.cli.{program}", *words, "--no-dashboard", *tls]
        with (home / "said").open("ab") as said:
            made = subprocess.Popen(argv, cwd=home, env=dict(env), stdout=said, stderr=said, start_new_session=True)
        self.running.append(made)
        return made

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """Kill a daemon with its children of Dask; what a task has started is in a session of its own, and lives."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def stop(self) -> None:
        for process in self.running:
            with suppress(ProcessLookupError):
                self.kill(process)
