"""Redaction of secret values in bytes and in events."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from executor.process.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Redaction"]

_OUR_WORDS = frozenset(
    ("agent", "attempt", "base", "bound", "branch", "check_key", "commit", "failure", "level", "new", "old", "onto")
) | {"print", "result_key", "reviewer", "rule", "spec_key", "tip", "tree"}
"""Fields of events with a name, key or word of the executor's own, which a value that looks alike must not alter."""


class Redaction:
    """Takes the values of secrets out of whatever is kept; may be used by several threads."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secrets)
        self._redactor = Redactor(self._secrets)
        self._lock = threading.Lock()

    def redact(self, data: bytes) -> bytes:
        """Return the data with secret values redacted."""
        with self._lock:
            return self._redactor.redact(data)

    def redact_value(self, value: Any) -> Any:
        """Redact every text inside a JSON value; the executor's own names and keys stay."""
        if not self._secrets:
            return value
        if isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
            return self.redact(data).decode("utf-8", "surrogateescape")
        if isinstance(value, dict):
            return {key: item if key in _OUR_WORDS else self.redact_value(item) for key, item in value.items()}
        return [self.redact_value(item) for item in value] if isinstance(value, list | tuple) else value
