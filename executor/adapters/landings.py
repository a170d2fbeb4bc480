"""Landings read from git history, with a cache by tip so that a long history is walked once."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from executor.adapters.files import read_json, write_json
from executor.core.message import Landing, Trailers
from executor.errors import ExecutorError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from executor.adapters.refs import Refs

__all__ = ["read_landings"]

_VERSION = 3


def read_landings(
    folder: Path, refs: Refs, tip: str, milestone: str, recognised: Mapping[str, Trailers] | None = None
) -> list[Landing]:
    """Landings of a milestone on the first-parent history of `tip`, oldest first.

    The cache is a file in `folder`; it is used only if its tip is on that history, and is not needed for anything.
    `recognised` are commits that are landings although their messages do not say so.
    """
    path = folder / "landings.json"
    extra = sorted(recognised or {})
    cached = _cached(read_json(path), extra)
    if cached is not None and cached[0] == tip:
        return cached[1]
    if cached is not None and _goes_on(refs, cached[0], tip, milestone):
        known = cached[1]
        fresh = refs.landings(tip, milestone, since=cached[0], recognised=recognised)
        found = known + [
            Landing(item.commit, item.tree, len(known) + item.position, item.time, item.trailers) for item in fresh
        ]
    else:
        found = refs.landings(tip, milestone, recognised=recognised)
    _keep(path, tip, found, extra)
    return found


def _goes_on(refs: Refs, known: str, tip: str, milestone: str) -> bool:
    """Whether what landed up to `known` has landed on `tip` too, and nothing but what follows it has to be read."""
    return refs.on_first_parents(known, tip) and milestone not in refs.releases(tip, since=known)


def _cached(value: Any, recognised: list[str]) -> tuple[str, list[Landing]] | None:
    try:
        if value["version"] != _VERSION or value["recognised"] != recognised:
            return None
        rows = [
            Landing(row["commit"], row["tree"], place, row["time"], Trailers(**row["trailers"]))
            for place, row in enumerate(value["landings"])
        ]
        return value["tip"], rows
    except (KeyError, TypeError):
        return None


def _keep(path: Path, tip: str, found: list[Landing], recognised: list[str]) -> None:
    if not path.parent.is_dir():
        return
    try:
        write_json(
            path,
            {"version": _VERSION, "tip": tip, "recognised": recognised, "landings": [asdict(item) for item in found]},
            durable=False,
        )
    except ExecutorError:
        return
