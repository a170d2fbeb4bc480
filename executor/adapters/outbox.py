"""What an agent may leave in its output folder for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.adapters.left import left_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["HANDOFF", "QUESTION_FILE", "question_in"]

HANDOFF = "handoff.md"
QUESTION_FILE = "question.md"
_MOST_QUESTION = 8_000


def question_in(out: Path, secrets: Iterable[str] = ()) -> str:
    """The question that an agent left for a person; empty when it left none."""
    data = left_file(out, QUESTION_FILE, secrets)
    return data.decode("utf-8", "replace").strip()[:_MOST_QUESTION] if isinstance(data, bytes) else ""
