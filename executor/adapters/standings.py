"""What git says of milestones as a whole: who was paused, and what was released, without `.cache/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.adapters.files import read_json, write_json
from executor.core.milestone_state import Pause, Released
from executor.errors import ExecutorError

if TYPE_CHECKING:
    from pathlib import Path

    from executor.adapters.refs import Kept, Refs

__all__ = ["PAUSED", "pause_in", "pause_of", "read_releases"]

PAUSED = "refs/executor/paused"
"""A milestone that a person paused: `<milestone>` below this."""
_VERSION = 1


def pause_of(refs: Refs, milestone: str) -> Pause | None:
    """The pause of one milestone, if it is paused."""
    return next(map(pause_in, refs.kept(f"{PAUSED}/{milestone}")), None)


def pause_in(kept: Kept) -> Pause:
    """The pause that a ref below `PAUSED` is."""
    return Pause(kept.trailers.get("Since", ""), kept.trailers.get("Reason", ""))


def read_releases(path: Path, refs: Refs, tip: str) -> dict[str, Released]:
    """The latest release of each milestone on the first-parent history of a base branch.

    Args:
        path: a cache file by base; used only if its tip is on that history, and not needed for anything.
        refs: the refs of the repository.
        tip: commit of the base.
    """
    cached = _cached(read_json(path))
    if cached is not None and cached[0] == tip:
        return cached[1]
    if cached is not None and refs.on_first_parents(cached[0], tip):
        found = cached[1] | refs.releases(tip, since=cached[0])
    else:
        found = refs.releases(tip)
    if path.parent.is_dir():
        rows = {name: [release.commit, release.tip] for name, release in found.items()}
        try:
            write_json(path, {"version": _VERSION, "tip": tip, "releases": rows}, durable=False)
        except ExecutorError:
            return found
    return found


def _cached(value: object) -> tuple[str, dict[str, Released]] | None:
    try:
        if not isinstance(value, dict) or value["version"] != _VERSION:
            return None
        return str(value["tip"]), {name: Released(*row) for name, row in value["releases"].items()}
    except (KeyError, TypeError):
        return None
