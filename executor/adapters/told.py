"""Reads what an agent printed, or left in a file of its own: never followed, never waited for, bounded."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from executor.core.agent_output import Told, read_output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from executor.core.profile import Agent

__all__ = ["read_told"]

_MOST_LINE = 8 * 2**20
_MOST_BYTES = 256 * 2**20
_NOISE = 16_000


def read_told(agent: Agent, log: Path, told_file: Path | None) -> Told:
    """What the output says.

    Args:
        agent: the profile of who wrote it.
        log: what it printed.
        told_file: where its structured output is instead, if it is not printed.
    """
    if told_file is None:
        return read_output(agent, _lines(log))
    printed = "".join(_lines(log))[-_NOISE:]
    told = read_output(agent, _lines(told_file))
    return replace(told, noise=printed)


def _lines(path: Path) -> Iterator[str]:
    """Lines of an ordinary file, those that are too long cut; none if it is something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        left = _MOST_BYTES
        while left > 0 and (line := file.readline(min(_MOST_LINE, left))):
            left -= len(line)
            yield line.decode("utf-8", "replace")
