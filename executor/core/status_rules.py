"""The rules of telling: a command that is told of each phase, and a file that is kept current. Pure."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from executor.core.event import Event

__all__ = ["StatusRules", "phase_of"]

_PHASES = {
    "run-started": "started",
    "attempt-started": "implement",
    "attempt-built": "verify",
    "attempt-failed": "failed",
    "attempt-interrupted": "interrupted",
    "stopped": "stopped",
    "base-red": "blocked",
    "landed": "landed",
    "verified": "verified",
    "refused": "refused",
    "release-intended": "release",
    "release-refused": "refused",
    "released": "released",
    "run-ended": "ended",
}
"""Kind of a fact -> the phase that begins with it."""
_PLACEHOLDERS = frozenset({"id", "milestone", "issue", "status", "phase"})


def _words(value: tuple[str, ...]) -> tuple[str, ...]:
    for word in value:
        try:
            names = {name for _, name, _, _ in string.Formatter().parse(word) if name is not None}
        except ValueError as error:
            raise ValueError(f"expected braces in pairs: {error}") from error
        if names - _PLACEHOLDERS:
            known = ", ".join(f"{{{name}}}" for name in sorted(_PLACEHOLDERS))
            raise ValueError(f"unknown placeholder {{{min(names - _PLACEHOLDERS)}}}; known: {known}")
    return value


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError("expected a relative path without ..")
    return value


class StatusRules(BaseModel):
    """Who is told how far things are.

    Attributes:
        command: argument list; ``{id}``, ``{milestone}``, ``{issue}``, ``{status}`` and ``{phase}`` are filled in;
            empty when nobody is told.
        env: names of environment variables that it is given besides the ordinary ones.
        timeout_s: seconds until it is ended.
        tracking: Markdown file in the repository whose sections are kept current at the end of each run; empty: none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Annotated[tuple[str, ...], AfterValidator(_words)] = ()
    env: tuple[str, ...] = ()
    timeout_s: Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)] = 10.0
    tracking: Annotated[str, AfterValidator(_inside)] = ""

    def argv(self, values: dict[str, str]) -> tuple[str, ...]:
        """The argument list with every placeholder filled in."""
        return tuple(word.format_map(values) for word in self.command)


def phase_of(event: Event) -> str:
    """The phase that begins with a fact; empty for facts that nobody is told of."""
    return _PHASES.get(event.kind, "")
