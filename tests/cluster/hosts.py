"""Hosts for the tests of work orders: folders with homes of their own, a bare remote, and a network that can fail.

`Campaign` gives them faults from a seed and judges from the outside: agents write each call into a file.
`python -m tests.cluster.hosts --issues 20 --faults 30 --seed 1` runs one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
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

from tests.support import CHECKOUT, CONFIG, DODO, issue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Call", "Campaign", "Farm", "Host", "Report"]

SSH = """#!/bin/sh
# stands in for ssh: runs the command here, unless the network is down
[ -e "{off}" ] || [ -e "{all_off}" ] && {{ echo "ssh: connect to host box port 22: Connection refused" >&2; exit 255; }}
shift $(($# - 1))
exec sh -c "$1"
"""
AGENT = """#!/bin/sh
# an agent that costs money: each call is counted
token="$(cat /proc/sys/kernel/random/uuid)"
echo "start $EXECUTOR_ISSUE $token $(date +%s.%N) $PWD" >> "{calls}"
if [ "$1" = inf ]; then while [ ! -e "{gate}" ]; do sleep 0.05; done; else sleep "$1"; fi
echo "$token" > "work_$EXECUTOR_ISSUE.txt"
echo "end $EXECUTOR_ISSUE $token $(date +%s.%N) $PWD" >> "{calls}"
"""


@dataclass
class Host:
    """A folder that stands for a machine: a home, a clone, workers, at times a coordinator."""

    name: str
    folder: Path
    env: dict[str, str]
    off: Path
    workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    coordinator: subprocess.Popen[bytes] | None = None
    began: float = 0.0

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
    """

    def __init__(self, folder: Path, issues: Mapping[str, float], *, rules: str, hosts: str = "abc") -> None:
        self.folder, self.origin, self.calls = folder, folder / "origin.git", folder / "calls"
        self.all_off, self.gate = folder / "off", folder / "gate"
        self.calls.touch()
        self.hosts = [self._host(name) for name in hosts]
        self.agent = folder / "agent.sh"
        self.agent.write_text(AGENT.format(calls=self.calls, gate=self.gate))
        run = f"sh {shlex.quote(str(self.agent))}"
        self._start("".join(issue(name, f"{run} {seconds}") for name, seconds in issues.items()), rules)

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
        }
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
            "rules/runners.toml": f'[runner.farm]\nkind = "git"\nisolated = true\n{rules}',
            "rules/routes.toml": '[route.default]\nagent = ["script"]\nrunner = "farm"\n',
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
        """End everything that was started here."""
        for host in self.hosts:
            host.off.unlink(missing_ok=True)
        self.all_off.unlink(missing_ok=True)
        processes = [p for host in self.hosts for p in (*host.workers.values(), host.coordinator) if p is not None]
        for process in processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def alive(self) -> list[int]:
        """Processes that belong to this farm, other than those that it knows."""
        known = {p.pid for host in self.hosts for p in (*host.workers.values(), host.coordinator) if p is not None}
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


@dataclass
class Call:
    """One call of an agent."""

    issue: str
    token: str
    host: str
    start: float
    end: float = 0.0


@dataclass
class Report:
    """What the campaign found."""

    issues: int = 0
    landed: int = 0
    landed_twice: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    finished: int = 0
    used: int = 0
    kept: int = 0
    superseded: int = 0
    lost: list[str] = field(default_factory=list)
    take_overs: list[float] = field(default_factory=list)
    late_leaders: list[int] = field(default_factory=list)
    children: int = 0
    refs_left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return (
            self.landed == self.issues
            and not self.landed_twice
            and not self.lost
            and not self.children
            and not self.refs_left
            and all(seconds < 60 for seconds in self.take_overs)
            and all(code in {0, 75} for code in self.late_leaders)  # 0: it had nothing left to do
        )


@dataclass
class _Disturbed:
    """From when to when a fault kept the workers of a host from delivering; an empty host: all hosts."""

    host: str
    start: float
    end: float


class Campaign:
    """Faults from a seed until every issue has landed.

    Args:
        folder: an empty folder.
        issues: how many issues.
        faults: at least so many faults.
        seed: of the faults.
        slots: places of workers, on all hosts.
        limit: seconds after which it gives up.
    """

    def __init__(
        self, folder: Path, *, issues: int, faults: int, seed: int, slots: int = 8, limit: float = 3600.0
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311  (faults, not secrets)
        self._wanted, self._limit, self._patience = faults, limit, 5.0
        names = [f"i{number:03}" for number in range(issues)]
        work = {name: self._random.choice((0.5, 1.0, 2.0, 3.0)) for name in names}
        self.farm = Farm(folder, work, rules=f"beat_s = 1.0\npatience_s = {self._patience}\npoll_s = 0.5\n")
        self.report = Report(issues=issues)
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._disturbed: list[_Disturbed] = []
        self._frozen: set[int] = set()
        self._awaited: tuple[float, str, int] | None = None
        self._late: list[subprocess.Popen[bytes]] = []
        self._places = [(host, number) for host in self.farm.hosts for number in range(1, 4)][:slots]

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Run the campaign to its end."""
        began = time.time()
        for host, number in self._places:
            self.farm.work(host, number)
        self._lead(self.farm.hosts[0])
        looked, fault_at = 0.0, time.time() + 5
        try:
            while time.time() - began < self._limit:
                self._act()
                now = time.time()
                if now - looked > 1:
                    looked = now
                    self._look()
                    if self._is_over():
                        break
                if now >= fault_at and self._count() < self._wanted + 50:
                    behind = self._count() < self._wanted * (self.report.landed + 5) / self.report.issues
                    self._fault()
                    fault_at = time.time() + self._random.uniform(0.2, 0.8) * (1 if behind else 4)
                time.sleep(0.05)
            self._finish()
        finally:
            self.farm.stop()
        self._judge()
        self.report.seconds = round(time.time() - began, 1)
        return self.report

    def _count(self) -> int:
        return sum(self.report.faults.values())

    def _act(self) -> None:
        due = [item for item in self._due if item[0] <= time.time()]
        self._due = [item for item in self._due if item[0] > time.time()]
        for _, action in sorted(due, key=lambda item: item[0]):
            action()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._due.append((time.time() + seconds, action))

    def _look(self) -> None:
        """Look at the remote; start a coordinator if none lives, as cron does."""
        self.report.landed = len(set(self.farm.landed()))
        run, _ = self.farm.leader()
        if self._awaited is not None and run and run != self._awaited[1]:
            self.report.take_overs.append(round(time.time() - self._awaited[0], 1))
            self._awaited = None
        for process in [item for item in self._late if item.poll() is not None]:
            self._late.remove(process)
            self.report.late_leaders.append(process.returncode)
        leading = [host for host in self.farm.hosts if host.leads() and not self._is_frozen(host.coordinator)]
        if not leading and not any("lead" in action.__name__ for _, action in self._due):
            self._lead(self._random.choice([host for host in self.farm.hosts if not host.leads()]))

    def _is_over(self) -> bool:
        return self.report.landed == self.report.issues and self._count() >= self._wanted and not self._due

    def _finish(self) -> None:
        """Let everything wake, and the last coordinator end."""
        for _, action in self._due:
            action()
        end = time.time() + 120
        while time.time() < end and any(host.leads() for host in self.farm.hosts):
            self._look_only()
            time.sleep(0.5)
        self._look_only()
        self.farm.hosts[0].doit("milestone:m1", "--take-over")
        time.sleep(3 * self._patience)  # workers that woke late push what they have
        self.farm.hosts[0].doit("gc")

    def _look_only(self) -> None:
        self.report.landed = len(set(self.farm.landed()))
        for process in [item for item in self._late if item.poll() is not None]:
            self._late.remove(process)
            self.report.late_leaders.append(process.returncode)

    # -- faults -------------------------------------------------------------------------------------------------------

    def _fault(self) -> None:
        kinds = {
            self._kill_worker: 34,
            self._freeze_worker: 14,
            self._cut_host: 12,
            self._cut_remote: 8,
            self._kill_coordinator: 12,
            self._kill_and_take_over: 6,
            self._kill_and_wait: 5,
            self._freeze_coordinator: 5,
            self._take_over_alive: 4,
        }
        kind = self._random.choices(list(kinds), list(kinds.values()))[0]
        if kind():
            name = kind.__name__.strip("_").replace("_", "-")
            self.report.faults[name] = self.report.faults.get(name, 0) + 1

    def _kill_worker(self) -> bool:
        host, number = self._random.choice(self._places)
        process = host.workers[number]
        if process.poll() is not None or process.pid in self._frozen:
            return False
        process.kill()
        process.wait()
        self._disturb(host.name, 0.0)
        self._later(self._random.uniform(0, 2), lambda: self._restart(host, number))
        return True

    def _restart(self, host: Host, number: int) -> None:
        if host.workers[number].poll() is not None:
            self.farm.work(host, number)

    def _freeze_worker(self) -> bool:
        host, number = self._random.choice(self._places)
        process = host.workers[number]
        if process.poll() is not None or process.pid in self._frozen:
            return False
        seconds = self._random.uniform(0.5, 3 * self._patience)
        process.send_signal(signal.SIGSTOP)
        self._frozen.add(process.pid)
        self._disturb(host.name, seconds)

        def wake() -> None:
            self._frozen.discard(process.pid)
            process.send_signal(signal.SIGCONT)

        self._later(seconds, wake)
        return True

    def _cut_host(self) -> bool:
        host = self._random.choice(self.farm.hosts)
        if host.off.exists():
            return False
        seconds = self._random.uniform(0.5, 2 * self._patience)
        host.off.touch()
        self._disturb(host.name, seconds)
        self._later(seconds, lambda: host.off.unlink(missing_ok=True))
        return True

    def _cut_remote(self) -> bool:
        if self.farm.all_off.exists():
            return False
        seconds = self._random.uniform(0.5, 1.5 * self._patience)
        self.farm.all_off.touch()
        self._disturb("", seconds)
        self._later(seconds, lambda: self.farm.all_off.unlink(missing_ok=True))
        return True

    def _leading(self) -> Host | None:
        late = {process.pid for process in self._late}
        found = [
            host
            for host in self.farm.hosts
            if host.leads() and not self._is_frozen(host.coordinator) and host.coordinator.pid not in late  # type: ignore[union-attr]
        ]
        return self._random.choice(found) if found and self._awaited is None else None

    def _is_frozen(self, process: subprocess.Popen[bytes] | None) -> bool:
        return process is not None and process.pid in self._frozen

    def _lead(self, host: Host, *words: str) -> None:
        if not host.leads():
            host.lead("milestone:m1", "-n", str(len(self._places)), *words)

    def _await(self) -> None:
        """Measure until another run leads, if one led."""
        run, fence = self.farm.leader()
        if run:
            self._awaited = (time.time(), run, fence)

    def _kill_coordinator(self) -> bool:
        host = self._leading()
        if host is None or host.coordinator is None:
            return False
        host.coordinator.kill()
        host.coordinator.wait()
        self._lead(host)
        return True

    def _kill_and_take_over(self, *words: str) -> bool:
        host = self._leading()
        others = [item for item in self.farm.hosts if item is not host and not item.leads() and not item.off.exists()]
        if host is None or host.coordinator is None or not others or not self.farm.leader()[0]:
            return False
        self._await()
        host.coordinator.kill()
        host.coordinator.wait()
        self._lead(self._random.choice(others), *(words or ("--take-over",)))
        return True

    def _kill_and_wait(self) -> bool:
        return self._kill_and_take_over("--plain")

    def _freeze_coordinator(self) -> bool:
        host = self._leading()
        others = [item for item in self.farm.hosts if item is not host and not item.leads() and not item.off.exists()]
        if host is None or host.coordinator is None or not others or not self.farm.leader()[0]:
            return False
        process = host.coordinator
        self._await()
        process.send_signal(signal.SIGSTOP)
        self._frozen.add(process.pid)
        self._lead(self._random.choice(others))

        def wake() -> None:
            if self._awaited is not None and process.poll() is None:
                self._later(1.0, wake)  # nobody has taken over yet
                return
            self._frozen.discard(process.pid)
            self._late.append(process)
            process.send_signal(signal.SIGCONT)

        self._later(self._random.uniform(5, 15), wake)
        return True

    def _take_over_alive(self) -> bool:
        host = self._leading()
        others = [item for item in self.farm.hosts if item is not host and not item.leads() and not item.off.exists()]
        if host is None or host.coordinator is None or not others or time.time() - host.began < 5:
            return False
        self._await()
        if self._awaited is not None:
            self._late.append(host.coordinator)
        self._lead(self._random.choice(others), "--take-over")
        return True

    def _disturb(self, host: str, seconds: float) -> None:
        self._disturbed.append(_Disturbed(host, time.time(), time.time() + seconds))

    # -- judging ------------------------------------------------------------------------------------------------------

    def calls(self) -> list[Call]:
        found: dict[str, Call] = {}
        for line in self.farm.calls.read_text().splitlines():
            word, name, token, when, place = line.split(" ", 4)
            if word == "start":
                host = re.search(r"/host-(\w+)/", place)
                found[token] = Call(name, token, host[1] if host else "", float(when))
            elif token in found:
                found[token].end = float(when)
        return list(found.values())

    def _judge(self) -> None:
        report, farm = self.report, self.farm
        began = time.time()
        while farm.alive() and time.time() - began < 60:
            time.sleep(0.5)
        report.children = len(farm.alive())
        landed = farm.landed()
        report.landed = len(set(landed))
        report.landed_twice = sorted({name for name in landed if landed.count(name) > 1})
        report.refs_left = farm.refs()
        calls = self.calls()
        finished = [call for call in calls if call.end]
        used = self._tokens_landed()
        kept = self._tokens_kept()
        report.calls, report.finished = len(calls), len(finished)
        report.used = sum(call.token in used for call in finished)
        report.kept = sum(call.token in kept - used for call in finished)
        for call in finished:
            if call.token in used or call.token in kept:
                continue
            if self._was_disturbed(call):
                report.superseded += 1
            else:
                report.lost.append(f"{call.issue} {call.token} on {call.host} {call.start:.1f}-{call.end:.1f}")

    def _was_disturbed(self, call: Call) -> bool:
        """Return whether a fault kept the worker of a call from delivering it in time."""
        last = call.end + 2.0
        return any(
            item.host in {"", call.host} and item.start <= last and item.end >= call.start for item in self._disturbed
        )

    def _tokens_landed(self) -> set[str]:
        branch = self.farm.branch()
        names = [name for name in self.farm.git("ls-tree", "--name-only", branch).split() if name.startswith("work_")]
        return {self.farm.git("show", f"{branch}:{name}").strip() for name in names}

    def _tokens_kept(self) -> set[str]:
        """Results that did not land and are kept: as attempts of a clone, or late ones by their workers."""
        found = set()
        for host in self.farm.hosts:
            places = (host.folder / "home/.cache/make-for-milestones/worker").glob("*/*/git")
            for folder, below in ((host.clone, "refs/attempts"), *((place, "refs/late") for place in places)):
                for ref in host.git("-C", str(folder), "for-each-ref", "--format=%(refname)", below).split():
                    found.add(host.git("-C", str(folder), "show", f"{ref}:work_{ref.split('/')[3]}.txt").strip())
        return found - {""}


def main() -> int:
    """Run a campaign in a folder that stays."""
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
    sys.stdout.write(f"{folder}\n{json.dumps(vars(report), indent=1)}\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
