"""A file of NAME=VALUE lines: the variables that cron does not give, kept where only the user can read them."""

from __future__ import annotations

from pathlib import Path

from executor.errors import UsageError

__all__ = ["read_env_file"]


def read_env_file(name: str) -> dict[str, str]:
    """The variables of a file; lines with # are comments, quotes around a value are left out.

    Raises:
        UsageError: it cannot be read, others can read it, or a line is not NAME=VALUE.
    """
    path = Path(name).expanduser()
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise UsageError(f"--env-file {path} can be read by others; `chmod 600` it")
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        variable, equals, value = line.strip().partition("=")
        if not variable or variable.startswith("#"):
            continue
        if not equals or not variable.isidentifier():
            raise UsageError(f"--env-file {path}, line {number}: expected NAME=VALUE")
        found[variable] = value.strip("\"'")
    return found
