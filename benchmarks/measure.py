"""Measuring commands: wall time and peak memory; contenders take turns, so that noise is everybody's."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Command", "Result", "as_installed", "race"]

_UNUSUAL = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONOPTIMIZE", "PYTHONPROFILEIMPORTTIME"}
"""Variables of a shell that would make each start compile modules, or each line a write."""


def as_installed() -> dict[str, str]:
    """Return the environment in which Python keeps its bytecode, as it does for an installed package."""
    return {name: value for name, value in os.environ.items() if name not in _UNUSUAL}


@dataclass(frozen=True)
class Command:
    """A contender.

    Attributes:
        name: what it is called in the table.
        argv: its command.
        cwd: where it runs.
        env: variables on top of ours.
    """

    name: str
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Median seconds and greatest peak memory (bytes) of a contender's runs; `times` in the order of the rounds."""

    seconds: float
    peak: int
    times: tuple[float, ...]

    def over(self, peer: Result) -> float:
        """Median of the ratios within each round: a machine that changes its pace does so for both."""
        return statistics.median(mine / other for mine, other in zip(self.times, peer.times, strict=True))


def race(commands: Sequence[Command], rounds: int) -> dict[str, Result]:
    """Run every contender once to warm up, then `rounds` times in turns; by name."""
    times: dict[str, list[float]] = {command.name: [] for command in commands}
    peaks: dict[str, int] = dict.fromkeys(times, 0)
    for number in range(rounds + 1):
        for command in commands:
            seconds, peak = _once(command)
            peaks[command.name] = max(peaks[command.name], peak)
            if number:
                times[command.name].append(seconds)
    return {name: Result(statistics.median(found), peaks[name], tuple(found)) for name, found in times.items()}


def _once(command: Command) -> tuple[float, int]:
    began = time.perf_counter()
    child = subprocess.Popen(
        command.argv,
        cwd=command.cwd,
        env={**as_installed(), **command.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert child.stderr is not None
    words = child.stderr.read()
    child.stderr.close()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"{command.name}: exit {child.returncode}: {words.decode(errors='replace')[-2000:]}")
    return seconds, usage.ru_maxrss * 1024
