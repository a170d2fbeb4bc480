"""Answers of a forge: their shape is validated in one place, and every effect is looked up before and after.

A shape is ``str``, ``int`` or ``bool``; a list with the shape of its items; a tuple of alternative shapes; or a table
of keys, each of which may be absent or null unless it is `Needed`. A key without a shape may have any value.

Requests to a forge: retried if that is harmless, rate-limited, conditional, paged. Their meaning is unknown here.

Reads are retried after every transient failure. Writes are retried only if the forge reports that it did nothing (a
limit); a lost answer is reported to the caller, who checks before a retry.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from executor.errors import ExecutorError, ForgeRefusedError, ForgeUnavailableError
from executor.model.hints import found
from executor.process.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from executor.forge.hosts.credentials import Budget

    Fetch = Callable[[str], str]
    """Returns the end of a text at a path; empty if there is none."""
    Send = Callable[[str, str, dict[str, Any] | None, dict[str, str], Any], tuple[int, Mapping[str, Any], str | None]]
    """Sends verb, path, parameters, headers and body; returns status, headers and text."""

__all__ = ["GRAPHQL", "PAGE", "TIMEOUT", "TRIES", "Answer", "Api", "Needed", "checked", "effect", "log_reader"]


_WORDS = {str: "text", int: "a whole number", bool: "true or false", dict: "a table", list: "a list"}

T = TypeVar("T")
TRIES = 5
"""Maximum number of tries of a request."""


@dataclass(frozen=True, slots=True)
class Needed:
    """The shape of a required value."""

    shape: Any


def checked(value: Any, shape: Any, asked: str) -> Any:
    """Validate a value and return it.

    Args:
        value: the received JSON.
        shape: its required shape.
        asked: the request, for example ``GET /repos/a/b/pulls``.

    Raises:
        ForgeUnavailableError: the value has another shape.
    """
    problem = _problem(value, shape, "")
    if problem:
        raise ForgeUnavailableError(
            f"the forge's answer to {asked} cannot be read: {problem}; is base_url in rules/forge.toml right? "
            "Nothing is lost, run again later"
        )
    return value


def _problem(value: Any, shape: Any, place: str) -> str:
    """Return the first violation of the shape; empty without any."""
    if isinstance(shape, Needed):
        return _problem(value, shape.shape, place)
    if isinstance(shape, tuple):
        problems = [_problem(value, one, place) for one in shape]
        return problems[-1] if all(problems) else ""
    kind = shape if isinstance(shape, type) else type(shape)
    fits: bool = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if not fits:
        return f"{place or 'the whole'}: expected {_WORDS[kind]}, found {found(value)}"
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(shape, list):
        parts = [(f"{place}[{number}]", item, shape[0]) for number, item in enumerate(value)]
    elif isinstance(shape, dict):
        parts = [
            (f"{place}.{key}" if place else key, value.get(key), inner)
            for key, inner in shape.items()
            if value.get(key) is not None or isinstance(inner, Needed)
        ]
    return next(filter(None, (_problem(item, inner, where) for where, item, inner in parts)), "")


def effect(
    api: Api,
    what: str,
    probe: Callable[[], T | None],
    do: Callable[[], Answer],
    refusal: Callable[[Answer], str] = lambda answer: answer.message or f"status {answer.status}",
) -> T:
    """Apply an effect: look it up, do it, look again, until it exists or the forge refuses.

    Args:
        api: the forge.
        what: its name in messages.
        probe: looks it up; None while it does not exist.
        do: requests it.
        refusal: returns why an answer is a refusal; empty if it is none.

    Raises:
        ForgeRefusedError: the forge refuses.
        ForgeUnavailableError: repeated requests got no answer, and the effect does not exist.
    """
    for tries in range(TRIES):
        found = probe()
        if found is not None:
            return found
        answer = do()
        why = "" if answer.ok or answer.lost else refusal(answer)
        if why:
            raise ForgeRefusedError(f"the forge refuses to {what}: {why}")
        if not answer.ok or tries:
            api.wait(tries)
    found = probe()
    if found is None:
        raise ForgeUnavailableError(f"the forge did not say what came of this: {what}; run again later")
    return found


_TRIES = 6
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 300.0
TIMEOUT = 30
PAGE = 100
_LOG_END = 65_536
_LONGEST_LOG = 64 * 2**20
_MOST_PAGES = 1000
GRAPHQL = "/graphql"
_HALF = "\\ud"
"""Prefix of the JSON escape of a lone surrogate."""
_NEXT = re.compile(r'<[^<>]*[?&]page=([0-9]{1,9})(?:&[^<>]*)?>;[^,]*rel="next"')
_OK = range(200, 300)
_NOT_MODIFIED, _UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _GONE, _TOO_MANY = 304, 401, 403, 404, 410, 429
_SERVER = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request.

    Attributes:
        status: HTTP status; 0 without an answer.
        data: the JSON value; None without one.
        message: the forge's message of a refusal.
    """

    status: int
    data: Any = None
    message: str = ""

    @property
    def ok(self) -> bool:
        """Return whether the request succeeded."""
        return self.status in _OK

    @property
    def lost(self) -> bool:
        """Return whether the outcome is unknown."""
        return self.status == 0 or self.status >= _SERVER


class Api:
    """One forge with one token. Thread-safe; requests are sent one after the other.

    Args:
        send: sends a request and returns the answer.
        fetch: reads a text that is not JSON; None if unavailable.
        budget: request budget of the token, shared by all runs on this machine.
        cache: folder for answers, which are requested again with their ETag; None for no cache.
        pause: waits for a number of seconds.
    """

    def __init__(
        self,
        send: Send,
        *,
        fetch: Fetch | None = None,
        budget: Budget | None = None,
        cache: Path | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._send = send
        self._fetch = fetch
        self._budget = budget
        self._cache = cache
        self._pause = pause
        self._lock = threading.Lock()

    def get(self, path: str, shape: Any) -> Any:
        """Return the JSON value at a path, with a shape as in `github_answers`; None for no content."""
        data = self._read(path, None)[0]
        return None if data is None else checked(data, shape, f"GET {path}")

    def pages(self, path: str, parameters: Mapping[str, Any], shape: Any, inside: str = "") -> Iterator[dict[str, Any]]:
        """Yield every item of a paged list, each of a shape; `inside` names the list within the answer."""
        page: int | None = 1
        for _ in range(_MOST_PAGES):
            data, link = self._read(path, {**parameters, "per_page": PAGE, "page": page})
            if data is None:
                return
            whole = {inside: Needed([shape])} if inside else [shape]
            items = checked(data, whole, f"GET {path}")
            yield from items[inside] if inside else items
            page = _following(link)
            if page is None:
                return
        raise ForgeUnavailableError(f"the forge's answer to GET {path} has no end; nothing is lost, run again later")

    def text(self, path: str) -> str:
        """Return the end of a text, for example a log; empty if it does not exist or cannot be read now."""
        if self._fetch is None:
            return ""
        with self._lock:
            return self._fetch(path)

    def write(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Send one request with a change; its outcome may be unknown afterwards."""
        status, _, data = self._limited(verb, path, body=dict(body or {}))
        if status == _UNAUTHORISED:
            raise _refused(verb, path, status, data)
        return Answer(status, data, _words(data))

    def graphql(self, query: str, variables: Mapping[str, Any]) -> Answer:
        """Send one mutation or query; a refusal is an answer of status 422 with the forge's message."""
        body = {"query": query, "variables": dict(variables)}
        status, _, data = self._limited("POST", GRAPHQL, body=body)
        if status == _UNAUTHORISED:
            raise _refused("POST", GRAPHQL, status, data)
        if status in _OK and isinstance(data, dict) and data.get("errors"):
            return Answer(422, None, _words(data))
        return Answer(status, data.get("data") if isinstance(data, dict) else None, _words(data))

    def wait(self, tries: int) -> None:
        """Wait before the n-th try, with increasing and randomised delays."""
        longest = _FIRST_PAUSE * 2**tries
        self._pause(random.uniform(longest / 2, longest))  # noqa: S311  (no secret)

    def _read(self, path: str, parameters: Mapping[str, Any] | None) -> tuple[Any, str]:
        """Return the value and the header that names further pages."""
        key = hashlib.sha256(f"{path}?{urlencode(sorted((parameters or {}).items()))}".encode()).hexdigest()
        known = self._kept(key)
        tag = str(known["tag"]) if known is not None else None
        text = ""
        for tries in range(_TRIES):
            status, headers, data = self._limited("GET", path, parameters=parameters, tag=tag)
            if status == _NOT_MODIFIED and known is not None:
                return known["data"], str(known["link"])
            if status in _OK and data is not None:
                self._keep(key, headers, data)
                return data, headers.get("link", "")
            if status in {_NOT_FOUND, _GONE}:
                return None, ""
            unread = "its answer is no JSON" if status in _OK else f"status {status}" if status else "no answer"
            text = _words(data) or unread
            if status and status not in _OK and status < _SERVER:
                raise _refused("GET", path, status, data)
            self.wait(tries)
        raise ForgeUnavailableError(f"the forge cannot be reached: {text}; nothing is lost, run again later")

    def _limited(
        self,
        verb: str,
        path: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        body: Any = None,
        tag: str | None = None,
    ) -> tuple[int, dict[str, str], Any]:
        """Send one request; if the forge reports that it did nothing because of a limit, send it again later."""
        for tries in range(_TRIES):
            status, headers, data = self._sent(verb, path, parameters, body, tag)
            delay = _delay(status, headers, data)
            if delay is None:
                return status, headers, data
            if delay > _LONGEST_PAUSE:
                when = time.strftime("%H:%M %Z", time.localtime(time.time() + delay))
                raise ForgeUnavailableError(
                    f"the forge's limit of requests is reached until {when}; nothing is lost, run again then"
                )
            if delay > 0:
                self._pause(delay + random.uniform(0, 0.5))  # noqa: S311  (no secret)
            else:
                self.wait(tries)
        raise ForgeUnavailableError("the forge's limit of requests is reached; nothing is lost, run again later")

    def _sent(
        self, verb: str, path: str, parameters: Mapping[str, Any] | None, body: Any, tag: str | None
    ) -> tuple[int, dict[str, str], Any]:
        with self._lock:
            if self._budget is not None:
                self._budget.before(writes=verb != "GET", pause=self._pause)
            headers = {"If-None-Match": tag} if tag else {}
            try:
                status, answer, text = self._send(verb, path, dict(parameters) if parameters else None, headers, body)
            except OSError:
                return 0, {}, None
            except RuntimeError as error:
                raise ForgeRefusedError(f"{error}; see base_url in rules/forge.toml") from error
            lowered = {str(key).lower(): str(value) for key, value in answer.items()}
            data = _value(text)
            if self._budget is not None:
                self._budget.after(lowered, _delay(status, lowered, data))
        return status, lowered, data

    def _kept(self, key: str) -> dict[str, Any] | None:
        known = read_json(self._cache / f"{key}.json") if self._cache is not None else None
        return known if isinstance(known, dict) and {"tag", "data", "link"} <= known.keys() else None

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


def log_reader(base_url: str, headers: Mapping[str, str]) -> Fetch:
    """Return a reader of the ends of logs. A redirect to another host is followed without the token."""

    def fetch(path: str) -> str:
        import requests

        try:
            with requests.get(f"{base_url}{path}", headers=dict(headers), timeout=TIMEOUT, stream=True) as answer:
                if answer.status_code not in _OK:
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


_FURTHEST = 365 * 86_400.0
"""Seconds; a time further off cannot be shown, and no forge means it."""


def _delay(status: int, headers: Mapping[str, str], data: Any) -> float | None:
    """Return the seconds to wait before a retry because of a limit; None without a limit."""
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
        return min(float(after), _FURTHEST)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return min(max(0.0, float(reset) - time.time()), _FURTHEST)
    return 0.0


def _following(link: str) -> int | None:
    """Return the number of the next page from a Link header."""
    found = _NEXT.search(link)
    return int(found[1]) if found is not None else None


def _value(text: Any) -> Any:
    """Parse JSON whose texts are all encodable; None if it is invalid."""
    try:
        value = json.loads(text) if text else None
        return _whole(value) if text and _HALF in text.lower() else value
    except (TypeError, ValueError, RecursionError):
        return None


def _whole(value: Any) -> Any:
    """Return the value without lone surrogates."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case list():
            return [_whole(item) for item in value]
        case dict():
            return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def _words(data: Any) -> str:
    """Return the forge's message about a refusal."""
    if not isinstance(data, dict):
        return ""
    lines = [*_texts(data.get("message")), *_texts(data.get("error_description") or data.get("error"))]
    errors = data.get("errors")
    for error in errors if isinstance(errors, list) else []:
        lines += _texts(error.get("message") if isinstance(error, dict) else error)
    return ": ".join(dict.fromkeys(word for word in lines if word))[:500]


def _texts(value: Any) -> list[str]:
    """Return the texts in a message: one, a list of them, or lists by field."""
    match value:
        case None:
            return []
        case list():
            return [text for item in value for text in _texts(item)]
        case dict():
            return [f"{key} {text}" if key != "base" else text for key, item in value.items() for text in _texts(item)]
    return [str(value)]


def _refused(verb: str, path: str, status: int, data: Any) -> ForgeRefusedError:
    why = _words(data) or "no reason given"
    hint = "; is the token right, and may it do this?" if status in {_UNAUTHORISED, _FORBIDDEN} else ""
    return ForgeRefusedError(f"the forge refuses {verb} {path}: {status} {why}{hint}")
