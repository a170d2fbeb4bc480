"""doit's own database, as what it is here: a cache. A damaged file is an empty one, a new one replaces it whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from doit.dependency import DatabaseException, JsonDB

from executor.adapters.files import write_atomic
from executor.errors import ExecutorError

__all__ = ["TolerantJson"]


class TolerantJson(JsonDB):  # type: ignore[misc]  # doit has no types
    """doit's JSON backend without its fragility."""

    desc = "JSON file that may be lost or damaged at any time"

    def _load(self) -> dict[str, Any]:
        try:
            found = super()._load()
        except (DatabaseException, OSError, UnicodeDecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    def dump(self) -> None:
        """Replace the file; failing to is not an error, the next run only checks a little more."""
        path = Path(os.path.abspath(self.name))  # noqa: PTH100  (doit's name may be relative to its working directory)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, self.codec.encode(self._db).encode(), durable=False)
        except (OSError, ExecutorError):
            return
