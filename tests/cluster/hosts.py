"""Hosts for the tests of work orders: folders with homes of their own, a bare remote, and a network that can fail.

`python -m tests.cluster.hosts --issues 20 --faults 30 --seed 1` runs the campaign of `tests.cluster.faults`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.dask_daemons import Daemons, certificates
from tests.support import CHECKOUT, CONFIG, DODO, issue

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PACE", "Farm", "Host"]

TLS = {"ca": "ca.pem", "cert": "box.pem", "key": "box.key"}

SSH = """#!/bin/sh
# stands in for ssh: runs the command here, unless the network is down
[ -e "{off}" ] || [ -e "{all_off}" ] && {{ echo "ssh: connect to host box port 22: Connection refused" >&2; exit 255; }}
shift $(($# - 1))
exec sh -c "$1"
"""
AGENT = """#!/bin/sh
# an agent that costs money: each call is counted, with the processes above it
token="$(cat /proc/sys/kernel/random/uuid)"
above=$$ process=$$
while [ "$process" -gt 1 ]; do
    while read -r key value; do [ "$key" = PPid: ] && process=$value; done < /proc/$process/status
    above=$above,$process
done
echo "start $EXECUTOR_ISSUE $token $(date +%s.%N) $above $PWD" >> "{calls}"
if [ "$1" = inf ]; then while [ ! -e "{gate}" ]; do sleep 0.05; done; else sleep "$1"; fi
echo "$token" > "work_$EXECUTOR_ISSUE.txt"
echo "end $EXECUTOR_ISSUE $token $(date +%s.%N) $above $PWD" >> "{calls}"
"""
UNANSWERED = """#!/bin/sh
# a push has arrived: at times its connection dies before the answer
mv "{mute}" "{mute}.done" 2>/dev/null && kill -9 $PPID
exit 0
"""
FARM, GRID = ('agent = ["script"]\nrunner = "{name}"\n'.replace("{name}", name) for name in ("farm", "grid"))
ROUTES = f"""
[route.far]
{FARM}
[route.far-checked]
{FARM}checks = ["far"]
[route.dask]
{GRID}
[route.dask-checked]
{GRID}checks = ["dask"]
"""
CHECK = """
[check.{name}]
run = "test -f dodo.py"
runner = "{runner}"
sabotage = "off"
sabotage_reason = "it looks for a file"
"""
CHECKS = CHECK.format(name="far", runner="farm") + CHECK.format(name="dask", runner="grid")
PACE = "beat_s = 1.0\npatience_s = 5.0\npoll_s = 0.5\n"


@dataclass
class Host:
    """A folder that stands for a machine: a home, a clone, workers, at times a coordinator and a worker of Dask."""

    name: str
    folder: Path
    env: dict[str, str]
    off: Path
    workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    coordinator: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    dask: subprocess.Popen[bytes] | None = None
    dask_starts: int = 0

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.clone, env=self.env, capture_output=True, text=True, check=False
        )
        return done.stdout

    def lead(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a coordinator."""
        with (self.folder / "coordinator.log").open("ab") as log:
            log.write(f"--- {time.time():.2f} {words}\n".encode())
            log.flush()
            self.coordinator = subprocess.Popen(
                [sys.executable, "-m", "doit", *words],
                cwd=self.clone,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.began = time.time()
        return self.coordinator

    def doit(self, *words: str, timeout: float = 120) -> tuple[int, str]:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "doit", *words],
            cwd=self.clone,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        return done.returncode, done.stdout + done.stderr

    def leads(self) -> bool:
        return self.coordinator is not None and self.coordinator.poll() is None


class Farm:
    """Hosts and a bare remote.

    Args:
        folder: an empty folder.
        issues: seconds of each issue's agent; with infinity it works until there is the file `gate`.
        rules: more lines for the runner.
        hosts: their names, of one letter each.
        dask: places of a Dask cluster with TLS on each host, by its name. Every second issue is routed there, one of
            eight has a check there, and one of eight a
            check that other workers do. The worker of Dask on the second host has no nanny.
    """

    def __init__(
        self,
        folder: Path,
        issues: Mapping[str, float],
        *,
        rules: str,
        hosts: str = "abc",
        dask: Mapping[str, int] | None = None,
    ) -> None:
        self.folder, self.origin, self.calls = folder, folder / "origin.git", folder / "calls"
        self.all_off, self.gate, self.mute = folder / "off", folder / "gate", folder / "mute"
        self.agents = dict(dask or {})
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.daemons: Daemons | None = None
        if self.agents:
            (folder / "tls").mkdir()
            self.daemons = Daemons(certificates(folder / "tls"))
        self.calls.touch()
        self.hosts = [self._host(name) for name in hosts]
        self.agent = folder / "agent.sh"
        self.agent.write_text(AGENT.format(calls=self.calls, gate=self.gate))
        run = f"sh {shlex.quote(str(self.agent))}"
        kinds = ["far", "dask", "far", "dask", "far-checked", "dask", "far", "dask-checked"] if self.agents else [""]
        lines = [
            issue(name, f"{run} {seconds}", **({"type": kind} if (kind := kinds[number % len(kinds)]) else {}))
            for number, (name, seconds) in enumerate(issues.items())
        ]
        self._start("".join(lines), rules)
        hook = self.origin / "hooks" / "post-update"
        hook.write_text(UNANSWERED.format(mute=self.mute))
        hook.chmod(0o755)

    @property
    def url(self) -> str:
        return f"ssh://box{self.origin}"

    def _host(self, name: str) -> Host:
        folder = self.folder / f"host-{name}"
        (folder / "home").mkdir(parents=True)
        off, ssh = folder / "off", folder / "ssh"
        ssh.write_text(SSH.format(off=off, all_off=self.all_off))
        ssh.chmod(0o755)
        (folder / "home" / ".gitconfig").write_text("[user]\nname = Tester\nemail = tester@example.org\n")
        env = {
            "HOME": str(folder / "home"),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_SSH_COMMAND": str(ssh),
            "LANG": "C.UTF-8",
            "TMPDIR": str(folder / "tmp"),
        }
        (folder / "tmp").mkdir()
        return Host(name, folder, env, off)

    def _start(self, milestone: str, rules: str) -> None:
        """Fill the remote with a project, and clone it on every host."""
        first = self.hosts[0]
        self._git(first, "init", "-q", "--bare", "-b", "main", str(self.origin))
        self._git(first, "clone", "-q", self.url, str(first.clone))
        files = {
            "dodo.py": DODO,
            "pyproject.toml": CONFIG,
            ".gitignore": ".cache/\n__pycache__/\n",
            "rules/limits.toml": "backoff_s = 0.0\nattempts = 100\nparallel = 8\n",
            "rules/forge.toml": 'remote = "origin"\n',
            "rules/runners.toml": f'[runner.farm]\nkind = "git"\nisolated = true\n{rules}{self._dask_rules(rules)}',
            "rules/routes.toml": f"[route.default]\n{FARM}" + (ROUTES if self.daemons else ""),
            **({"rules/checks.toml": CHECKS} if self.daemons else {}),
            "milestones/m1.toml": f'[milestone]\nid = "m1"\ntitle = "Farm"\n{milestone}',
        }
        for name, text in files.items():
            path = first.clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for words in (("add", "-A"), ("commit", "-q", "-m", "start"), ("push", "-q", "origin", "HEAD:main")):
            self._git(first, "-C", str(first.clone), *words)
        for host in self.hosts[1:]:
            self._git(host, "clone", "-q", self.url, str(host.clone))

    def _dask_rules(self, rules: str) -> str:
        if self.daemons is None:
            return ""
        tls = ", ".join(f'{key} = "{self.daemons.tls}/{name}"' for key, name in TLS.items())
        worker = json.dumps([sys.executable, "-m", "executor", "worker"])
        return (
            f'[runner.grid]\nkind = "dask"\naddress = "{self.daemons.address}"\ntls = {{ {tls} }}\nworker = {worker}\n'
            f'needs = ["dask"]\nisolated = true\nconnect_s = 5.0\nstart_s = 15.0\n{rules}'
        )

    def schedule(self) -> None:
        """Start the scheduler of Dask, at the same address each time."""
        if self.daemons is not None:
            home = self.folder / "scheduler"
            home.mkdir(exist_ok=True)
            env = {name: value for name, value in self.hosts[0].env.items() if not name.startswith("GIT")}
            env |= {"HOME": str(home), "TMPDIR": str(home), "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s"}
            self.scheduler = self.daemons.scheduler(home, env)

    def join(self, host: Host) -> None:
        """Start the worker of Dask of a host. Its name is new: a scheduler may still know the one before."""
        if self.daemons is not None and self.agents.get(host.name):
            host.dask_starts += 1
            name, nanny = f"{host.name}{host.dask_starts}", host is not self.hosts[1]
            host.dask = self.daemons.worker(name, host.folder, host.env, agents=self.agents[host.name], nanny=nanny)

    def ordered(self) -> list[tuple[Host, int]]:
        """Processes that do one order, which Dask has started, with their hosts."""
        homes = {f"HOME={host.env['HOME']}\0".encode(): host for host in self.hosts}
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                if words[1:4] == [b"-m", b"executor", b"worker"] and b"--order" in words:
                    given = (entry / "environ").read_bytes()
                    found += [(host, int(entry.name)) for home, host in homes.items() if home in given]
        return sorted(found, key=lambda item: item[1])

    @staticmethod
    def _git(host: Host, *words: str) -> None:
        subprocess.run(["git", *words], env=host.env, check=True, capture_output=True)

    def work(self, host: Host, number: int, slots: int = 1, *, poll: float = 0.5) -> subprocess.Popen[bytes]:
        """Start a worker of a host."""
        words = ["worker", "--remote", self.url, "--slots", str(slots), "--poll", str(poll)]
        with (host.folder / f"worker-{number}.log").open("ab") as log:
            log.write(f"--- {time.time():.2f}\n".encode())
            log.flush()
            host.workers[number] = subprocess.Popen(
                [sys.executable, "-m", "executor", *words],
                cwd=host.folder,
                env=host.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return host.workers[number]

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", "-C", str(self.origin), *words], capture_output=True, text=True, check=False)
        return done.stdout

    def refs(self) -> list[str]:
        return [name for name in self.git("for-each-ref", "--format=%(refname)").split() if "work" in name]

    def branch(self) -> str:
        return next(iter(self.git("for-each-ref", "--format=%(refname)", "refs/heads/milestone").split()), "")

    def landed(self) -> list[str]:
        """Issues that have landed on the remote, oldest first."""
        branch = self.branch()
        if not branch:
            return []
        form = "%(trailers:key=Issue,valueonly,separator=)"
        return [name for name in self.git("log", "--reverse", f"--format={form}", branch).splitlines() if name]

    def leader(self) -> tuple[str, int]:
        """Run and fence of the lease of the milestone; empty without one."""
        for space in ("refs/work", "refs/heads/_work"):
            text = self.git("log", "-1", "--format=%b", f"{space}/runs/m1")
            if text.strip():
                value = json.loads(text)
                return str(value["worker"]), int(value["fence"])
        return "", 0

    def stop(self) -> None:
        """End everything that was started here; what Dask's tasks have started ends by itself."""
        for host in self.hosts:
            host.off.unlink(missing_ok=True)
        self.all_off.unlink(missing_ok=True)
        processes = [p for host in self.hosts for p in (*host.workers.values(), host.coordinator) if p is not None]
        for pid in [process.pid for process in processes] + self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for process in processes:
            process.terminate()
        if self.daemons is not None:
            self.daemons.stop()
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def alive(self) -> list[int]:
        """Processes that belong to this farm, other than those that it knows."""
        known = {p.pid for host in self.hosts for p in (*host.workers.values(), host.coordinator) if p is not None}
        known |= {p.pid for p in self.daemons.running} if self.daemons is not None else set()
        mark, found = str(self.folder).encode(), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in {os.getpid(), *known}:
                with suppress(OSError):
                    if mark in (entry / "environ").read_bytes() or mark in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
        return [pid for pid in found if not _is_zombie(pid)]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def main() -> int:
    """Run a campaign in a folder that stays; exit code 1 if a bound is broken."""
    from tests.cluster.faults import Campaign

    parser = argparse.ArgumentParser()
    parser.add_argument("--issues", type=int, default=200)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3600.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="three-hosts-"))
    campaign = Campaign(
        folder,
        issues=options.issues,
        faults=options.faults,
        seed=options.seed,
        slots=options.slots,
        limit=options.limit,
    )
    report = campaign.run()
    sys.stdout.write(f"{folder}\n{json.dumps(vars(report), indent=1)}\n{report.text()}\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
