"""The forge's token: from the environment, or from where the forge's own command line tool keeps its login."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from executor.core.forge_rules import TOKENS
from executor.errors import ForgeRefusedError

__all__ = ["find_token", "repository_of"]

_OWN = "api.github.com"
_MOST = 64 * 1024
_REPOSITORY = re.compile(r"[:/]([A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+?)(?:\.git)?/?$")


def find_token(base_url: str) -> str:
    """The token for the forge at that address.

    Raises:
        ForgeRefusedError: there is none.
    """
    for name in TOKENS:
        if os.environ.get(name, "").strip():
            return os.environ[name].strip()
    host = urlsplit(base_url).hostname or ""
    host = "github.com" if host == _OWN else host
    for line_host, token in _logins(_config_folder() / "hosts.yml"):
        if line_host == host:
            return token
    raise ForgeRefusedError(
        f"there is no token for {host}: set {TOKENS[0]} or log in with `gh auth login`; "
        'kind = "local" in rules/forge.toml needs none'
    )


def repository_of(address: str) -> str:
    """``owner/name`` as the end of a remote's address says; empty when it does not."""
    found = _REPOSITORY.search(address)
    return found[1] if found else ""


def _config_folder() -> Path:
    if os.environ.get("GH_CONFIG_DIR"):
        return Path(os.environ["GH_CONFIG_DIR"])
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "gh"


def _logins(path: Path) -> list[tuple[str, str]]:
    """Hosts and tokens of a login file: a host at the margin, its ``oauth_token`` indented below it."""
    try:
        text = path.read_text(encoding="utf-8") if path.stat().st_size <= _MOST else ""
    except (OSError, UnicodeDecodeError):
        return []
    found: list[tuple[str, str]] = []
    host = ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            host = line.rstrip(": ").strip("\"'")
        elif line.strip().startswith("oauth_token:"):
            token = line.split(":", 1)[1].strip().strip("\"'")
            if token:
                found.append((host, token))
    return found
