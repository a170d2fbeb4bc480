"""Signs of life of an attempt: when something was last written to its logs, and by whom. Reads times, not contents."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["last_sign"]


def last_sign(folder: Path) -> tuple[float, str]:
    """When the newest log of an attempt was last written to (seconds since 1970) and its name; 0 without any."""
    newest, name = 0.0, ""
    for pattern in ("*.log", "*/*.log"):
        for path in folder.glob(pattern):
            try:
                written = path.stat().st_mtime
            except OSError:
                continue
            if written >= newest:
                newest, name = written, path.stem
    return newest, name
