"""The journals as a stream of events, one JSON object a line (docs/events.md); takes no lock."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from executor.adapters.files import segments
from executor.adapters.tail import Tail
from executor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.core.event import Event
    from executor.project import Project

__all__ = ["event_value", "stream"]

_EVERY = 0.3


def stream(project: Project, wanted: Sequence[str], *, follow: bool) -> None:
    """Print the events of these milestones or issues, or of all; then, if asked to, those that come.

    Args:
        project: whose journals.
        wanted: ids of milestones, ``m4``, and of issues, ``m4/4.1``; empty for everything.
        follow: go on until interrupted.

    Raises:
        UsageError: an unknown milestone.
        StateBrokenError: a journal is corrupt.
    """
    whole = {name for name in wanted if "/" not in name}
    names = list(dict.fromkeys(name.partition("/")[0] for name in wanted))
    for name in names:
        if not (project.milestones / f"{name}.toml").exists() and not segments(project.state(name)):
            raise UsageError(f'unknown milestone "{name}"; `doit status` shows those that there are')
    tails: dict[str, Tail] = {}
    while True:
        for name in names or _journals(project):
            tails.setdefault(name, Tail(project.state(name)))
        found = [(event, name) for name, tail in tails.items() for event in tail.read()]
        found.sort(key=lambda item: item[0].at)  # stable: one milestone's stay in their order
        for event, name in found:
            if name in names and name not in whole and f"{name}/{event.key}" not in wanted:
                continue
            sys.stdout.write(json.dumps(event_value(name, event)) + "\n")
        sys.stdout.flush()
        if not follow:
            return
        time.sleep(_EVERY)


def event_value(milestone: str, event: Event) -> dict[str, Any]:
    """A record as the stream has it."""
    return {
        "number": event.number,
        "at": event.at,
        "milestone": milestone,
        "issue": event.key,
        "event": event.kind,
        "run": event.run,
        "boot": event.boot,
        **event.data,
    }


def _journals(project: Project) -> list[str]:
    return sorted(path.name for path in project.cache.glob("[!_]*") if segments(path))
