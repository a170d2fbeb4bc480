"""The token of a forge: from the environment, or from where the forge's own command line tool keeps its login."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from executor.errors import ForgeRefusedError
from executor.model.outward_rules import token_variables

if TYPE_CHECKING:
    from executor.model.outward_rules import Forge

__all__ = ["find_token", "repository_of"]

_OWN = "api.github.com"
_PUBLIC = {"github": "github.com", "gitlab": "gitlab.com", "forgejo": "codeberg.org", "gitea": "gitea.com"}
_MOST = 64 * 1024
_NESTED = re.compile(r"^(?:[a-z+]+://[^/]+/|[^/:]+:)((?:[A-Za-z0-9_.-]+/)+[A-Za-z0-9_.-]+?)(?:\.git)?/?$")
_REPOSITORY = re.compile(r"[:/]([A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+?)(?:\.git)?/?$")


def find_token(rules: Forge) -> str:
    """The token for the forge that the rules declare.

    Raises:
        ForgeRefusedError: there is none.
    """
    names = token_variables(rules.kind)
    for name in names:
        if os.environ.get(name, "").strip():
            return os.environ[name].strip()
    host = urlsplit(rules.base_url or "").hostname or _PUBLIC.get(rules.kind, rules.kind)
    host = "github.com" if host == _OWN else host
    login = ""
    if rules.kind == "github":
        login = " or log in with `gh auth login`"
        for line_host, token in _logins(_config_folder() / "hosts.yml"):
            if line_host == host:
                return token
    raise ForgeRefusedError(
        f'there is no token for {host}: set {names[0]}{login}; kind = "local" in rules/forge.toml needs none'
    )


def repository_of(address: str, *, nested: bool = False) -> str:
    """``owner/name`` as the end of a remote's address says; empty when it does not.

    Args:
        address: of the remote.
        nested: the path may have more than two parts (``group/sub/name``): all after the host is meant.
    """
    found = (_NESTED if nested else _REPOSITORY).search(address)
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
