"""Plug-ins as another package would offer them: an agent, a check and a channel for notices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from executor.notify.notices import Notice

__all__ = ["ExampleAgent", "ExampleChannel", "ExampleCheck"]


class ExampleAgent:
    """Writes its brief into a file."""

    def profile(self) -> dict[str, Any]:
        """Keys of `[agent.NAME]`."""
        return {
            "command": ["sh", "-c", "cat > brief.txt; echo done > {file}"],
            "isolation": "none",
            "options": ["file"],
        }


class ExampleCheck:
    """Wants a certain file."""

    def check(self) -> dict[str, Any]:
        """Keys of `[check.NAME]`."""
        return {"run": ["test", "-s", "dodo.py"], "sabotage": "off", "sabotage_reason": "it looks at one file only"}


class ExampleChannel:
    """Appends titles to the file that the variable MFM_EXAMPLE_NOTICES names."""

    def send(self, notice: Notice, timeout: float) -> str:
        """Send a notice; returns why it was not sent."""
        _ = timeout
        place = os.environ.get("MFM_EXAMPLE_NOTICES")
        if place is None:
            return "MFM_EXAMPLE_NOTICES is not set"
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(f"{notice.kind} {notice.title}\n")
        return ""
