"""Whether a process tree is alive, and since when it is not."""

from __future__ import annotations

import os
import time

from executor.adapters.supervisor.process_table import descendants

CPU_ALIVE = 0.002  # share of one core below which a tree counts as still; an event loop that waits uses less
HZ = os.sysconf("SC_CLK_TCK")


class Pulse:
    """Whether the tree of this keeper is alive: output, processor time or, in a watched folder, changed files."""

    def __init__(self, limit: float | None, silent: float | None, folder: str | None) -> None:
        self.limit = limit or float("inf")  # seconds
        self.silent = silent or float("inf")  # seconds
        self.folder = folder
        self.alive = self.cpu_since = time.monotonic()
        self.told = False  # of the present silence
        self.cpu = 0  # clock ticks
        first = min(self.limit, self.silent)
        self.due = self.alive + min(first / 10, 5.0) if first < float("inf") else first  # time of the next look

    def stopped(self, now: float) -> bool:
        """Whether nothing has moved for `limit` seconds."""
        cpu = round(sum(os.times()[2:4]) * HZ) + sum(process.ticks for process in descendants().values())
        if abs(cpu - self.cpu) >= max(1, CPU_ALIVE * HZ * (now - self.cpu_since)):
            self.alive, self.cpu_since, self.cpu = now, now, cpu
        enough = self.limit if self.told else min(self.limit, self.silent)
        if now - self.alive >= enough and self.folder:
            self.alive = max(self.alive, now - age(self.folder, enough))
        self.told = self.told and now - self.alive >= self.silent
        self.due = now + max(0.02, min(enough / 10, 5.0, self.alive + enough - now))
        return now - self.alive >= self.limit

    def silence(self, now: float) -> float:
        """Seconds since anything moved, when that has just become too many; else 0."""
        if self.told or now - self.alive < self.silent:
            return 0.0
        self.told = True
        return now - self.alive


def age(folder: str, enough: float) -> float:
    """Seconds since the last change below the folder; the search ends at one younger than `enough`."""
    now, youngest, todo = time.time(), float("inf"), [folder]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    youngest = min(youngest, max(0.0, now - entry.stat(follow_symlinks=False).st_ctime))
                    if youngest < enough:
                        return youngest
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
        except OSError:
            continue  # it went away or may not be read: no sign of life
    return youngest
