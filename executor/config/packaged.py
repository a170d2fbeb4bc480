"""Where the packaged rules are. Apart from their reader, because `doit list` needs only this and loads no pydantic."""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["packaged_rules"]


@cache
def packaged_rules() -> Path:
    """Folder of the packaged rules: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_rules"
    return installed if installed.is_dir() else package.parent / "rules"
