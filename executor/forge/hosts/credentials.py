"""The token of a forge: from the environment, or from the login of the forge's command line tool.

The request budget of a token: shared by all runs of this user on this machine, stored under a file lock.

Two limits apply. Writes are limited per minute. Reads and writes stop when the forge reports that its limit is
reached, or when only a reserve remains that a person with the same token may need. No request is sent until the reset,
and every run reports when it continues. This never counts as an attempt, and no issue fails because of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from executor.errors import ForgeRefusedError, ForgeUnavailableError
from executor.model.outward_rules import token_variables
from executor.process.files import write_json
from executor.process.locks import short_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from executor.model.outward_rules import Forge

    Fetch = Callable[[str], str]
    """Returns the end of a text at a path; empty if there is none."""

__all__ = ["TIMEOUT", "Budget", "Standing", "find_token", "log_reader", "repository_of", "retry_delay", "standings"]


_OWN = "api.github.com"
_PUBLIC = {"github": "github.com", "gitlab": "gitlab.com", "forgejo": "codeberg.org", "gitea": "gitea.com"}
_MOST = 64 * 1024  # bytes; a file of log-ins has some hundred
_NESTED = re.compile(r"^(?:[a-z+]+://[^/]+/|[^/:]+:)((?:[A-Za-z0-9_.-]+/)+[A-Za-z0-9_.-]+?)(?:\.git)?/?$")
_REPOSITORY = re.compile(r"[:/]([A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+?)(?:\.git)?/?$")


def find_token(rules: Forge) -> str:
    """Return the token for the declared forge.

    Raises:
        ForgeRefusedError: no token was found.
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
        f'no token for {host}: set {names[0]}{login}; kind = "local" in rules/forge.toml needs no token'
    )


def repository_of(address: str, *, nested: bool = False) -> str:
    """Return ``owner/name`` from the end of a remote's address; empty if it has none.

    Args:
        address: address of the remote.
        nested: the path may have more than two parts (``group/sub/name``): everything after the host.
    """
    found = (_NESTED if nested else _REPOSITORY).search(address)
    return found[1] if found else ""


def _config_folder() -> Path:
    if os.environ.get("GH_CONFIG_DIR"):
        return Path(os.environ["GH_CONFIG_DIR"])
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "gh"


def _logins(path: Path) -> list[tuple[str, str]]:
    """Return hosts and tokens of a login file: an unindented host, its ``oauth_token`` indented below."""
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


_MINUTE = 60.0  # seconds
_PATIENCE = 300.0
"""Seconds that a run waits for a limit to end; for a longer wait it ends with 75."""
_RESERVE = 50  # requests left for the person who has the same token
_FOLDER = "make-for-milestones/forges"


_FORBIDDEN, _TOO_MANY = 403, 429
_FURTHEST = 365 * 86_400.0
"""Seconds; a time further off cannot be shown, and no forge means it."""


def retry_delay(status: int, headers: Mapping[str, str], message: str) -> float | None:
    """Return the seconds to wait before a retry because of a limit; None without a limit."""
    limited = status == _TOO_MANY
    if status == _FORBIDDEN:
        limited = (
            headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers or "rate limit" in message.lower()
        )
    if not limited:
        return None
    after = headers.get("retry-after", "")
    if after.isdecimal():
        return min(float(after), _FURTHEST)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return min(max(0.0, float(reset) - time.time()), _FURTHEST)
    return 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """The known limits of a token at one forge.

    Attributes:
        host: address of the forge.
        limit: requests per period; 0 if unknown.
        remaining: remaining requests when last reported.
        reset: epoch seconds at which the period ends; 0 if unknown.
        closed_until: epoch seconds before which nothing is sent; 0 without a block.
        writes: epoch seconds of the writes within the last minute, or reserved ones.
    """

    host: str = ""
    limit: int = 0
    remaining: int = 0
    reset: float = 0.0
    closed_until: float = 0.0
    writes: tuple[float, ...] = field(default=())

    def describe(self, now: float) -> str:
        """Format the limits as one line for people."""
        text = f"{self.remaining} of {self.limit} requests left" if self.limit else "no limit was reported"
        if self.limit and self.reset > now:
            text += f" until {_clock(self.reset)}"
        if self.closed_until > now:
            text += f"; nothing is sent until {_clock(self.closed_until)}"
        return f"{self.host}: {text}"


def next_write(standing: Standing, now: float, most: int) -> float:
    """Return the seconds to wait before the next write."""
    recent = sorted(at for at in standing.writes if now - at < _MINUTE)
    return 0.0 if len(recent) < most else max(0.0, recent[-most] + _MINUTE - now)


def learnt(standing: Standing, headers: Mapping[str, str], delay: float | None, now: float) -> Standing:
    """Return the limits after an answer.

    Args:
        standing: the limits before it.
        headers: headers of the answer, names in lower case.
        delay: seconds after which the forge accepts the request again; None without a limit.
        now: epoch seconds.
    """
    limit = _number(headers, "x-ratelimit-limit", "ratelimit-limit")
    remaining = _number(headers, "x-ratelimit-remaining", "ratelimit-remaining")
    reset = _number(headers, "x-ratelimit-reset", "ratelimit-reset")
    if limit is not None and remaining is not None:
        standing = replace(standing, limit=limit, remaining=remaining, reset=float(reset or 0))
    until = 0.0 if delay is None else now + max(delay, 1.0)
    reserve = min(_RESERVE, standing.limit // 20)
    if remaining is not None and remaining <= reserve and standing.reset > now and standing.limit:
        until = max(until, standing.reset)
    return replace(standing, closed_until=max(until, standing.closed_until if standing.closed_until > now else 0.0))


class Budget:
    """The request budget of one token at one forge.

    Args:
        path: its file.
        host: address of the forge, for messages.
        writes_per_minute: maximum number of requests with changes.
    """

    def __init__(self, path: Path, host: str, *, writes_per_minute: int) -> None:
        self._path = path
        self._host = host
        self._most = writes_per_minute

    @classmethod
    def of(cls, base_url: str, token: str, *, writes_per_minute: int) -> Budget:
        """Return the budget of a token; its file reveals nothing about the token."""
        name = hashlib.sha256(f"{base_url}\0{token}".encode()).hexdigest()[:24]
        return cls(_folder() / f"{name}.json", base_url, writes_per_minute=writes_per_minute)

    def before(self, *, writes: bool, pause: Callable[[float], None] = time.sleep) -> None:
        """Wait until a request may be sent, and count it.

        Raises:
            ForgeUnavailableError: the limit lasts longer than a run waits.
        """
        with self._lock():
            now = time.time()
            known = self._read()
            wait = max(known.closed_until - now, next_write(known, now, self._most) if writes else 0.0)
            if wait > _PATIENCE:
                raise ForgeUnavailableError(
                    f"the rate limit of {self._host} is reached until {_clock(now + wait)}; nothing is lost and "
                    "no attempt was used up; run again then"
                )
            if writes:
                recent = (at for at in known.writes if now - at < _MINUTE)
                self._write(replace(known, host=self._host, writes=(*recent, now + max(0.0, wait))))
        if wait > 0:
            pause(wait)

    def after(self, headers: Mapping[str, str], delay: float | None) -> None:
        """Update the remaining requests from an answer."""
        if delay is None and not any("ratelimit-remaining" in name for name in headers):
            return
        with self._lock():
            known = self._read()
            self._write(learnt(replace(known, host=self._host), headers, delay, time.time()))

    def _lock(self) -> AbstractContextManager[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return short_lock(self._path.with_suffix(".lock"))

    def _read(self) -> Standing:
        return _read(self._path)

    def _write(self, standing: Standing) -> None:
        write_json(self._path, asdict(standing), durable=False)


def standings() -> list[Standing]:
    """Return every request budget of this user on this machine, for `doit doctor`."""
    return [found for path in sorted(_folder().glob("*.json")) if (found := _read(path)).host]


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / _FOLDER


def _read(path: Path) -> Standing:
    """Read the file; a missing or damaged file is empty, because it is only a cache."""
    try:
        value: Any = json.loads(path.read_bytes())
        return Standing(
            str(value["host"]),
            int(value["limit"]),
            int(value["remaining"]),
            float(value["reset"]),
            float(value["closed_until"]),
            tuple(float(at) for at in value["writes"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Standing()


def _number(headers: Mapping[str, str], *names: str) -> int | None:
    found = next((headers[name] for name in names if headers.get(name, "").isdecimal()), None)
    return None if found is None else int(found)


def _clock(at: float) -> str:
    return time.strftime("%H:%M %Z", time.localtime(at))


TIMEOUT = 30  # seconds for one request; a choice, reads are tried again
_LOG_END = 65_536  # bytes at the end of a log; the failure stands there
_LONGEST_LOG = 64 * 2**20  # bytes; bounds the time for a log that does not end


def log_reader(base_url: str, headers: Mapping[str, str]) -> Fetch:
    """Return a reader of the ends of logs. A redirect to another host is followed without the token."""

    def fetch(path: str) -> str:
        import requests

        try:
            with requests.get(f"{base_url}{path}", headers=dict(headers), timeout=TIMEOUT, stream=True) as answer:
                if answer.status_code not in range(200, 300):
                    return ""
                kept, size = b"", 0
                for chunk in answer.iter_content(65536):
                    size += len(chunk)
                    kept = (kept + chunk)[-_LOG_END:]
                    if size > _LONGEST_LOG:
                        break
        except (OSError, requests.RequestException):
            return ""
        return kept.decode("utf-8", "replace")

    return fetch
