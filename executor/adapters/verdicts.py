"""Verdicts kept by (tree, check key): the same check on the same tree never runs twice. Only a cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from executor.adapters.files import read_json, write_json
from executor.errors import StateFullError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Verdict", "Verdicts"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check said about a tree.

    Attributes:
        ok: whether it passed.
        reason: one sentence, empty when it passed.
        detail: the most useful part of its output, empty when it passed.
        seconds: how long it took.
        run: id of the run that made it.
    """

    ok: bool
    reason: str
    detail: str
    seconds: float
    run: str


class Verdicts:
    """The store of verdicts, shared by all milestones of a repository."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, tree: str, key: str) -> Verdict | None:
        """The verdict of a check on a tree, if it is known."""
        found = read_json(self._path(tree, key))
        try:
            return Verdict(**found) if isinstance(found, dict) else None
        except TypeError:
            return None

    def keep(self, tree: str, key: str, verdict: Verdict) -> None:
        """Remember a verdict; forgetting one costs time, never truth."""
        path = self._path(tree, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, asdict(verdict), durable=False)
        except (OSError, StateFullError):
            return

    def _path(self, tree: str, key: str) -> Path:
        return self._folder / tree[:2] / f"{tree}-{key.removeprefix('sha256:')[:32]}.json"
