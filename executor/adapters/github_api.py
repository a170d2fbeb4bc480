"""Requests to GitHub: retried where that is harmless, paced, conditional, in pages. Knows nothing of what they mean.

Reading is tried again after every passing fault. Writing is tried again only if the forge says that it did nothing
(a limit); a lost answer is told to the caller, who looks before doing it again.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from executor.adapters.files import read_json, write_json
from executor.errors import ExecutorError, ForgeRefusedError, ForgeUnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["Answer", "Api"]

_TRIES = 6
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 300.0
_TIMEOUT = 30
_MINUTE = 60.0
_PAGE = 100
_OK = range(200, 300)
_NOT_MODIFIED, _UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _GONE, _TOO_MANY = 304, 401, 403, 404, 410, 429
_SERVER = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP; 0 when no answer came.
        data: the JSON value; None when there is none.
        message: the forge's words, when it refused.
    """

    status: int
    data: Any = None
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.status in _OK

    @property
    def lost(self) -> bool:
        """Whether it is unknown if it was done."""
        return self.status == 0 or self.status >= _SERVER


class Api:
    """One forge, one token. Safe to call from several threads; requests go out one after the other.

    Args:
        base_url: of the REST interface.
        token: of the user.
        writes_per_minute: most requests that change something.
        cache: folder for answers that are asked for again with their tag; None keeps none.
        pause: waits for a number of seconds.

    Raises:
        UsageError: the library is not installed.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        writes_per_minute: int,
        cache: Path | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            from github import Auth
            from github.Requester import Requester
        except ImportError as error:
            raise UsageError(
                'kind = "github" in rules/forge.toml needs the extra `github`: '
                "pip install 'make-for-milestones[github]'"
            ) from error
        self._requester = Requester(
            Auth.Token(token),
            base_url,
            _TIMEOUT,
            "make-for-milestones",
            _PAGE,
            verify=True,
            retry=None,
            pool_size=None,
        )
        self._cache = cache
        self._pause = pause
        self._lock = threading.Lock()
        self._writes: deque[float] = deque()
        self._most_writes = writes_per_minute

    def get(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The JSON value at a path; None when there is nothing."""
        return self._read(path, parameters)[0]

    def pages(self, path: str, parameters: Mapping[str, Any], inside: str = "") -> Iterator[dict[str, Any]]:
        """Every item of a list that comes in pages; `inside` names the list where the answer wraps it."""
        asked: Mapping[str, Any] | None = {**parameters, "per_page": _PAGE, "page": 1}
        while asked is not None:
            data, link = self._read(path, asked)
            items = data.get(inside) if inside and isinstance(data, dict) else data
            yield from items if isinstance(items, list) else []
            following = _following(link)
            asked = None if following is None else {**parameters, "per_page": _PAGE, "page": following}

    def write(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """One request that changes something; whether it was done may be unknown afterwards."""
        status, headers, data = self._limited(verb, path, body=dict(body or {}))
        if status == _UNAUTHORISED:
            raise _refused(verb, path, status, data)
        _ = headers
        return Answer(status, data, _words(data))

    def graphql(self, query: str, variables: Mapping[str, Any]) -> Answer:
        """One mutation or query; a refusal is an answer of status 422 with the forge's words."""
        body = {"query": query, "variables": dict(variables)}
        status, _, data = self._limited("POST", self._requester.graphql_url, body=body)
        if status == _UNAUTHORISED:
            raise _refused("POST", "/graphql", status, data)
        errors = data.get("errors") if isinstance(data, dict) else None
        if status in _OK and errors:
            told = "; ".join(str(error.get("message", "")) for error in errors if isinstance(error, dict))
            return Answer(422, None, told)
        return Answer(status, data.get("data") if isinstance(data, dict) else None, _words(data))

    def wait(self, tries: int) -> None:
        """Wait before doing something for the n-th time, longer every time, never quite the same."""
        longest = _FIRST_PAUSE * 2**tries
        self._pause(random.uniform(longest / 2, longest))  # noqa: S311  (no secret)

    def _read(self, path: str, parameters: Mapping[str, Any] | None) -> tuple[Any, str]:
        """The value and the header that names further pages."""
        key = hashlib.sha256(f"{path}?{urlencode(sorted((parameters or {}).items()))}".encode()).hexdigest()
        known = read_json(self._cache / f"{key}.json") if self._cache is not None else None
        tag = known.get("tag") if isinstance(known, dict) else None
        told = ""
        for tries in range(_TRIES):
            status, headers, data = self._limited("GET", path, parameters=parameters, tag=tag)
            if status == _NOT_MODIFIED and isinstance(known, dict):
                return known["data"], known["link"]
            if status in _OK:
                self._keep(key, headers, data)
                return data, headers.get("link", "")
            if status in {_NOT_FOUND, _GONE}:
                return None, ""
            told = _words(data) or (f"status {status}" if status else "no answer")
            if status and status < _SERVER:
                raise _refused("GET", path, status, data)
            self.wait(tries)
        raise ForgeUnavailableError(f"the forge cannot be reached: {told}; nothing is lost, run again later")

    def _limited(
        self,
        verb: str,
        path: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        body: Any = None,
        tag: str | None = None,
    ) -> tuple[int, dict[str, str], Any]:
        """One request; where the forge says that it did nothing because of a limit, it is sent again later."""
        for tries in range(_TRIES):
            status, headers, data = self._sent(verb, path, parameters, body, tag)
            delay = _delay(status, headers, data)
            if delay is None:
                return status, headers, data
            if delay > _LONGEST_PAUSE:
                break
            if delay > 0:
                self._pause(delay + random.uniform(0, 0.5))  # noqa: S311  (no secret)
            else:
                self.wait(tries)
        raise ForgeUnavailableError("the forge's limit of requests is reached; nothing is lost, run again later")

    def _sent(
        self, verb: str, path: str, parameters: Mapping[str, Any] | None, body: Any, tag: str | None
    ) -> tuple[int, dict[str, str], Any]:
        with self._lock:
            if verb != "GET":
                self._pace()
            headers = {"If-None-Match": tag} if tag else {}
            try:
                status, told, text = self._requester.requestJson(
                    verb, path, dict(parameters) if parameters else None, headers, body
                )
            except OSError:
                return 0, {}, None
            except RuntimeError as error:
                raise ForgeRefusedError(f"{error}; see base_url in rules/forge.toml") from error
        return status, {str(key).lower(): str(value) for key, value in told.items()}, _value(text)

    def _pace(self) -> None:
        """Wait while as much was written within a minute as may be."""
        now = time.monotonic()
        while self._writes and now - self._writes[0] >= _MINUTE:
            self._writes.popleft()
        if len(self._writes) >= self._most_writes:
            self._pause(max(0.0, _MINUTE - (now - self._writes.popleft())))
        self._writes.append(time.monotonic())

    def _keep(self, key: str, headers: Mapping[str, str], data: Any) -> None:
        tag = headers.get("etag")
        if self._cache is None or not tag:
            return
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            value = {"tag": tag, "data": data, "link": headers.get("link", "")}
            write_json(self._cache / f"{key}.json", value, durable=False)
        except (OSError, ExecutorError):
            return


def _delay(status: int, headers: Mapping[str, str], data: Any) -> float | None:
    """Seconds to wait before the same request is sent again because of a limit; None when there was no limit."""
    limited = status == _TOO_MANY
    if status == _FORBIDDEN:
        limited = (
            headers.get("x-ratelimit-remaining") == "0"
            or "retry-after" in headers
            or "rate limit" in _words(data).lower()
        )
    if not limited:
        return None
    after = headers.get("retry-after", "")
    if after.isdecimal():
        return float(after)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return max(0.0, float(reset) - time.time())
    return 0.0


def _following(link: str) -> int | None:
    """Number of the next page, from a Link header."""
    for part in link.split(","):
        address, _, relation = part.partition(";")
        if 'rel="next"' in relation:
            page = parse_qs(urlsplit(address.strip(" <>")).query).get("page", [""])[0]
            return int(page) if page.isdecimal() else None
    return None


def _value(text: Any) -> Any:
    try:
        return json.loads(text) if text else None
    except (TypeError, ValueError):
        return None


def _words(data: Any) -> str:
    """The forge's own words about why not."""
    if not isinstance(data, dict):
        return ""
    told = [str(data.get("message", ""))]
    errors = data.get("errors")
    told += (
        str(error.get("message", "") if isinstance(error, dict) else error)
        for error in (errors if isinstance(errors, list) else [])
    )
    return ": ".join(dict.fromkeys(word for word in told if word))[:500]


def _refused(verb: str, path: str, status: int, data: Any) -> ForgeRefusedError:
    why = _words(data) or "no reason given"
    hint = "; is the token right, and may it do this?" if status in {_UNAUTHORISED, _FORBIDDEN} else ""
    return ForgeRefusedError(f"the forge refuses {verb} {path}: {status} {why}{hint}")
