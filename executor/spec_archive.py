"""Texts of specs as they were built, so that a later change can be shown line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.adapters.files import read_json, write_json

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["keep_spec", "kept_spec"]


def keep_spec(folder: Path, key: str, spec: dict[str, Any]) -> None:
    """Keep a canonical spec in the folder of its milestone, under its key."""
    path = _path(folder, key)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_json(path, spec, durable=False)


def kept_spec(folder: Path, key: str) -> dict[str, Any] | None:
    """A canonical spec as it was kept when it was worked on, or None."""
    found = read_json(_path(folder, key))
    return found if isinstance(found, dict) else None


def _path(folder: Path, key: str) -> Path:
    return folder / "specs" / f"{key.removeprefix('sha256:')}.json"
