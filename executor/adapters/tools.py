"""Versions of the tools that checks use, asked from the tools and remembered by the stat data of their files."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from executor.adapters.files import read_json, write_json
from executor.adapters.processes import sane_path
from executor.errors import ExecutorError

if TYPE_CHECKING:
    from pathlib import Path

    from executor.core.check_rules import Check

__all__ = ["ABSENT", "ToolVersions"]

ABSENT = "absent"
"""What stands for the version of a tool that is not installed."""
_TIMEOUT = 30


class ToolVersions:
    """Answers "which version would run?"; one process per tool and change of its program file."""

    def __init__(self, cache: Path) -> None:
        self._path = cache / "_tools.json"
        self._lock = threading.Lock()
        self._known: dict[str, Any] | None = None

    def version(self, check: Check) -> str:
        """Version text of a check's tool; empty when the check does not say how to ask, `ABSENT` when it is missing."""
        if not check.version:
            return ""
        program = shutil.which(check.version[0], path=sane_path(os.environ.get("PATH", "")))
        if program is None:
            return ABSENT
        facts = os.stat(program)  # noqa: PTH116  (one call, on a hot path)
        key = " ".join([program, *check.version[1:], str(facts.st_mtime_ns), str(facts.st_size)])
        with self._lock:
            if self._known is None:
                found = read_json(self._path)
                self._known = found if isinstance(found, dict) else {}
            if key not in self._known:
                self._known[key] = self._ask(program, check.version[1:])
                self._keep()
            return str(self._known[key])

    def _ask(self, program: str, arguments: tuple[str, ...]) -> str:
        try:
            done = subprocess.run(
                [program, *arguments],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ABSENT
        return (done.stdout or done.stderr).strip()[:200]

    def _keep(self) -> None:
        if self._path.parent.is_dir():
            try:
                write_json(self._path, self._known, durable=False)
            except ExecutorError:
                return
