"""Faults from a seed for three hosts, until every issue has landed, and a judgement from the outside.

Agents write each call into a file, with the processes above them. A result is lost if its agent ended, the worker that
had it lived on for long enough to push it or to keep it, and it neither landed nor was kept: as an attempt of a clone,
as a late result of its worker, or as a result that its worker's place still has to push. No other fault excuses it:
not a remote or a host that was cut off, not a frozen worker, not a dead coordinator, nothing that Dask did. A result
whose worker was killed before it could be pushed died with it, and is counted apart.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from executor.process.files import read_json
from tests.cluster.hosts import PACE, Farm

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence

    from tests.cluster.hosts import Host

__all__ = ["PUSH_S", "Call", "Campaign", "Report", "fate"]

PUSH_S = 10.0
"""Seconds after the end of an agent in which its worker makes a commit of what it left, on a busy machine."""


@dataclass
class Call:
    """One call of an agent."""

    issue: str
    token: str
    host: str
    start: float
    above: frozenset[int] = frozenset()
    end: float = 0.0


@dataclass
class Report:
    """What the campaign found.

    Attributes:
        issues, landed, landed_twice: issues, those that landed, and those that landed more than once.
        wanted, faults: faults that were asked for, and those that were done, by kind.
        calls, finished: agents that began, and that ended.
        used, kept, died, lost: results that landed, that were kept, that died with their worker, and that were lost.
        paid_twice: issues of which more than one agent ended.
        take_overs: seconds until another run led, in order of time.
        late_leaders: exit codes of runs that woke after another one had taken over.
        children: processes that lived a minute after the end.
        refs_left: refs of work on the remote at the end.
        seconds: length of the campaign.
    """

    issues: int = 0
    landed: int = 0
    landed_twice: list[str] = field(default_factory=list)
    wanted: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    finished: int = 0
    used: int = 0
    kept: int = 0
    died: int = 0
    lost: list[str] = field(default_factory=list)
    paid_twice: list[str] = field(default_factory=list)
    take_overs: list[float] = field(default_factory=list)
    late_leaders: list[int] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    refs_left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def broken(self) -> list[str]:
        """Bounds that do not hold."""
        bounds = {
            "all issues landed": self.landed == self.issues,
            "all faults were done": sum(self.faults.values()) >= self.wanted,
            "nothing landed twice": not self.landed_twice,
            "no result was lost": not self.lost,
            "no process lived a minute after the end": not self.children,
            "no ref was left": not self.refs_left,
            "each take-over took less than 60 s": all(seconds < 60 for seconds in self.take_overs),
            # 0: it had nothing left to do
            "runs that woke late moved nothing": all(code in {0, 75} for code in self.late_leaders),
        }
        return [text for text, holds in bounds.items() if not holds]

    @property
    def holds(self) -> bool:
        return not self.broken

    def text(self) -> str:
        """The report for people."""
        kinds = ", ".join(f"{name} {number}" for name, number in sorted(self.faults.items()))
        ended = f"{self.used} results landed, {self.kept} were kept, {self.died} died with their worker"
        longest = f"the longest {max(self.take_overs, default=0.0):.0f} s"
        lines = [
            f"{self.landed} of {self.issues} issues landed in {self.seconds:.0f} s, {len(self.landed_twice)} twice",
            f"{sum(self.faults.values())} faults: {kinds}",
            f"{self.calls} agents began, {self.finished} ended: {ended}, {len(self.lost)} were lost",
            f"{len(self.paid_twice)} issues had more than one agent that ended",
            f"{len(self.take_overs)} take-overs, {longest}; late runs ended with {sorted(self.late_leaders)}",
            f"{len(self.children)} processes a minute after the end, {len(self.refs_left)} refs left",
            *(f"BROKEN: {text}" for text in self.broken),
        ]
        return "\n".join(lines)


def fate(
    call: Call, used: set[str], kept: set[str], killed: Mapping[int, float], froze: Sequence[tuple[int, float, float]]
) -> str:
    """Return what became of the result of an agent that ended: used, kept, died, or lost. Pure.

    Args:
        call: the call of the agent.
        used, kept: results that landed, and that are kept.
        killed: workers that were killed, and when.
        froze: workers that were frozen, from when to when.
    """
    if call.token in used | kept:
        return "used" if call.token in used else "kept"
    last = call.end + PUSH_S
    for pid, start, end in sorted(froze, key=lambda item: item[1]):
        last = max(last, end + PUSH_S) if pid in call.above and start <= last and end >= call.end else last
    return "died" if any(call.start <= killed.get(pid, 0.0) <= last for pid in call.above) else "lost"


class Campaign:
    """Faults from a seed until every issue has landed.

    Args:
        folder: an empty folder.
        issues: how many issues.
        faults: at least so many faults.
        seed: of the faults.
        slots: places of workers, on all hosts; half of them are those of Dask.
        limit: seconds after which it gives up.
    """

    def __init__(
        self, folder: Path, *, issues: int, faults: int, seed: int, slots: int = 8, limit: float = 3600.0
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311  (faults, not secrets)
        self._limit, self._patience = limit, 5.0
        names = [f"i{number:03}" for number in range(issues)]
        work = {name: self._random.choice((0.5, 1.0, 2.0, 3.0)) for name in names}
        dask = {"a": 1, "b": max(1, slots // 2 - 2), "c": 1}
        self.farm = Farm(folder, work, rules=PACE, dask=dask)
        self._slots = slots
        places = [(host, number) for number in range(1, slots) for host in self.farm.hosts]
        self._places = places[: max(1, slots - sum(dask.values()))]
        self.report = Report(issues=issues, wanted=faults)
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._killed: dict[int, float] = {}
        self._froze: list[tuple[int, float, float]] = []
        self._frozen: set[int] = set()
        self._awaited: tuple[float, str, int] | None = None
        self._late: list[subprocess.Popen[bytes]] = []
        self._taking_over: tuple[subprocess.Popen[bytes], Host] | None = None

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Run the campaign to its end."""
        began = time.time()
        self.farm.schedule()
        for host in self.farm.hosts:
            self.farm.join(host)
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
                if now >= fault_at and self._count() < self.report.wanted + 50:
                    behind = self._count() < self.report.wanted * (self.report.landed + 5) / self.report.issues
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
        """Look at the remote; start what has ended, as an init system does."""
        self._start_again()
        self.report.landed = len(set(self.farm.landed()))
        run, _ = self.farm.leader()
        if self._awaited is not None and run and run != self._awaited[1]:
            self.report.take_overs.append(round(time.time() - self._awaited[0], 1))
            self._awaited = None
        self._forget_failed_take_over(run)
        for process in [item for item in self._late if item.poll() is not None]:
            self._late.remove(process)
            self.report.late_leaders.append(process.returncode)
        leading = [host for host in self.farm.hosts if host.leads() and not self._is_frozen(host.coordinator)]
        if not leading and not any("lead" in action.__name__ for _, action in self._due):
            self._lead(self._random.choice([host for host in self.farm.hosts if not host.leads()]))

    def _start_again(self) -> None:
        farm = self.farm
        for host in farm.hosts:
            if host.dask is not None and host.dask.poll() is not None:
                farm.join(host)
        due = any("schedule" in action.__name__ for _, action in self._due)
        if farm.scheduler is not None and farm.scheduler.poll() is not None and not due:
            farm.schedule()

    def _is_over(self) -> bool:
        return self.report.landed == self.report.issues and self._count() >= self.report.wanted and not self._due

    def _finish(self) -> None:
        """Let everything wake, and the last coordinator end."""
        for _, action in self._due:
            action()
        end = time.time() + 120
        while time.time() < end and any(host.leads() for host in self.farm.hosts):
            self._start_again()
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
            self._kill_worker: 20,
            self._freeze_worker: 9,
            self._kill_order_worker: 10,
            self._freeze_order_worker: 5,
            self._kill_scheduler: 6,
            self._freeze_scheduler: 3,
            self._kill_dask_host: 4,
            self._kill_dask_worker: 4,
            self._kill_dask_nanny: 2,
            self._freeze_dask_host: 4,
            self._cut_host: 9,
            self._cut_remote: 7,
            self._lose_answer: 8,
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
        self._killed[process.pid] = time.time()
        process.kill()
        process.wait()
        self._later(self._random.uniform(0, 2), lambda: self._restart(host, number))
        return True

    def _restart(self, host: Host, number: int) -> None:
        if host.workers[number].poll() is not None:
            self.farm.work(host, number)

    def _freeze_worker(self) -> bool:
        host, number = self._random.choice(self._places)
        process = host.workers[number]
        return process.poll() is None and self._freeze(process.pid)

    def _freeze(self, pid: int, *, group: bool = False) -> bool:
        """Stop a process, or its group, that goes on after a time."""
        if pid in self._frozen:
            return False
        send = os.killpg if group else os.kill
        seconds = self._random.uniform(0.5, 3 * self._patience)
        try:
            send(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        self._frozen.add(pid)
        self._froze.append((pid, time.time(), time.time() + seconds))

        def wake() -> None:
            self._frozen.discard(pid)
            with suppress(ProcessLookupError):
                send(pid, signal.SIGCONT)

        self._later(seconds, wake)
        return True

    def _order_worker(self) -> int | None:
        found = [pid for _, pid in self.farm.ordered() if pid not in self._frozen]
        return self._random.choice(found) if found else None

    def _kill_order_worker(self) -> bool:
        pid = self._order_worker()
        if pid is None:
            return False
        self._killed[pid] = time.time()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def _freeze_order_worker(self) -> bool:
        pid = self._order_worker()
        return pid is not None and self._freeze(pid)

    def _kill_scheduler(self) -> bool:
        process = self.farm.scheduler
        if process is None or process.poll() is not None or process.pid in self._frozen:
            return False
        process.kill()
        process.wait()

        def schedule() -> None:
            if self.farm.scheduler is process:
                self.farm.schedule()

        self._later(self._random.uniform(0, 3), schedule)
        return True

    def _freeze_scheduler(self) -> bool:
        process = self.farm.scheduler
        return process is not None and process.poll() is None and self._freeze(process.pid)

    def _dask_host(self, *, nanny: bool = False) -> subprocess.Popen[bytes] | None:
        found = [
            host.dask
            for host in self.farm.hosts
            if host.dask is not None and host.dask.poll() is None and host.dask.pid not in self._frozen
            if not nanny or host is not self.farm.hosts[1]
        ]
        return self._random.choice(found) if found else None

    def _kill_dask_host(self) -> bool:
        """Kill a nanny and its worker of Dask; the processes that do orders live on."""
        process = self._dask_host()
        if process is None or self.farm.daemons is None:
            return False
        self.farm.daemons.kill(process)
        return True

    def _kill_dask_worker(self) -> bool:
        """Kill a worker of Dask below its nanny, which starts another one."""
        process = self._dask_host(nanny=True)
        below = [pid for pid in _children(process.pid) if b"spawn_main" in _words(pid)] if process is not None else []
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(below)

    def _kill_dask_nanny(self) -> bool:
        process = self._dask_host(nanny=True)
        if process is None:
            return False
        process.kill()
        process.wait()
        return True

    def _freeze_dask_host(self) -> bool:
        process = self._dask_host()
        return process is not None and self._freeze(process.pid, group=True)

    def _lose_answer(self) -> bool:
        """Let one push arrive whose answer does not."""
        if self.farm.mute.exists():
            return False
        self.farm.mute.touch()
        return True

    def _cut_host(self) -> bool:
        host = self._random.choice(self.farm.hosts)
        if host.off.exists():
            return False
        seconds = self._random.uniform(0.5, 2 * self._patience)
        host.off.touch()
        self._later(seconds, lambda: host.off.unlink(missing_ok=True))
        return True

    def _cut_remote(self) -> bool:
        if self.farm.all_off.exists():
            return False
        seconds = self._random.uniform(0.5, 1.5 * self._patience)
        self.farm.all_off.touch()
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
            host.lead("milestone:m1", "-n", str(self._slots), *words)

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
        other = self._random.choice(others)
        if self._awaited is not None:
            self._late.append(host.coordinator)
            self._taking_over = (host.coordinator, other)
        self._lead(other, "--take-over")
        return True

    def _forget_failed_take_over(self, run: str) -> None:
        """Await a take-over from a living run no longer if its command ended: the remote was out of reach."""
        if self._taking_over is None:
            return
        leader, other = self._taking_over
        if self._awaited is None or run != self._awaited[1]:
            self._taking_over = None
        elif not other.leads() and leader.poll() is None:
            self._awaited = self._taking_over = None
            self._late.remove(leader)

    # -- judging ------------------------------------------------------------------------------------------------------

    def calls(self) -> list[Call]:
        found: dict[str, Call] = {}
        for line in self.farm.calls.read_text().splitlines():
            word, name, token, when, above, place = line.split(" ", 5)
            if word == "start":
                host = re.search(r"/host-(\w+)/", place)
                above_it = frozenset(map(int, above.split(",")))
                found[token] = Call(name, token, host[1] if host else "", float(when), above_it)
            elif token in found:
                found[token].end = float(when)
        return list(found.values())

    def _judge(self) -> None:
        report, farm = self.report, self.farm
        began = time.time()
        while farm.alive() and time.time() - began < 60:
            time.sleep(0.5)
        report.children = [f"{pid} {_words(pid).decode(errors='replace')}" for pid in farm.alive()]
        landed = farm.landed()
        report.landed = len(set(landed))
        report.landed_twice = sorted({name for name in landed if landed.count(name) > 1})
        report.refs_left = farm.refs()
        calls = self.calls()
        finished = [call for call in calls if call.end]
        used, kept = self._tokens_landed(), self._tokens_kept()
        report.calls, report.finished = len(calls), len(finished)
        names = [call.issue for call in finished]
        report.paid_twice = sorted({name for name in names if names.count(name) > 1})
        fates = [fate(call, used, kept, self._killed, self._froze) for call in finished]
        report.used, report.kept, report.died = (fates.count(word) for word in ("used", "kept", "died"))
        report.lost = [
            f"{call.issue} {call.token} on {call.host} {call.start:.1f}-{call.end:.1f}"
            for call, word in zip(finished, fates, strict=True)
            if word == "lost"
        ]

    def _tokens_landed(self) -> set[str]:
        branch = self.farm.branch()
        names = [name for name in self.farm.git("ls-tree", "--name-only", branch).split() if name.startswith("work_")]
        return {self.farm.git("show", f"{branch}:{name}").strip() for name in names}

    def _tokens_kept(self) -> set[str]:
        """Results that did not land and are kept: attempts of a clone, late ones, and those that wait for a push."""
        found = set()
        for host in self.farm.hosts:
            places = list((host.folder / "home/.cache/make-for-milestones/worker").glob("*/*/git"))
            for folder, below in ((host.clone, "refs/attempts"), *((place, "refs/late") for place in places)):
                for ref in host.git("-C", str(folder), "for-each-ref", "--format=%(refname)", below).split():
                    found.add(host.git("-C", str(folder), "show", f"{ref}:work_{ref.split('/')[3]}.txt").strip())
            for place in places:
                pending = read_json(place.parent / "pending.json")
                if isinstance(pending, dict):
                    name = json.loads(pending["lease"])["order"].split("/")[1]
                    found.add(host.git("-C", str(place), "show", f"{pending['result']}:work_{name}.txt").strip())
        return found - {""}


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        threads = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return []


def _words(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return b""
