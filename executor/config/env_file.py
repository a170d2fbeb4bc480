"""A file of NAME=VALUE lines: the variables that cron does not give, kept where only the user can read them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from executor.errors import UsageError

__all__ = ["read_env_file"]


def read_env_file(name: str) -> dict[str, str]:
    """The variables of a file, as python-dotenv reads it: comments, quotes, `export`; nothing is expanded.

    Raises:
        UsageError: it cannot be read, others can read it, or a line is not NAME=VALUE.
    """
    path = Path(name).expanduser()
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise UsageError(f"--env-file {path} can be read by others; `chmod 600` it")
    found: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key is not None and (binding.value is None or not binding.key.isidentifier())):
            blank = len(binding.original.string) - len(binding.original.string.lstrip("\n"))
            line = binding.original.line + blank
            raise UsageError(f"--env-file {path}, line {line}: expected NAME=VALUE")
        if binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    return found
