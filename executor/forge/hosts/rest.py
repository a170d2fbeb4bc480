"""Requests to a forge: retried if that is harmless, rate-limited, conditional, paged. Their meaning is unknown here.

Reads are retried after every transient failure. Writes are retried only if the forge reports that it did nothing (a
limit); a lost answer is reported to the caller, who checks before a retry. Each answer is read into a typed value, a
`Received` or a list of them; the types that GitHub, Forgejo and Gitea share are here.
"""

from __future__ import annotations

import hashlib
import random
import re
import threading
import time
from dataclasses import dataclass
from types import GenericAlias
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from pydantic import Field, model_validator

from executor.config.schema import Received, UnreadableError, json_of, received
from executor.errors import ExecutorError, ForgeRefusedError, ForgeUnavailableError, UsageError
from executor.forge.hosts.credentials import TIMEOUT, retry_delay
from executor.process.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from executor.forge.hosts.credentials import Budget, Fetch

    Send = Callable[[str, str, dict[str, Any] | None, dict[str, str], Any], tuple[int, Mapping[str, Any], str | None]]
    """Sends verb, path, parameters, headers and body; returns status, headers and text."""

__all__ = [
    "GRAPHQL",
    "PAGE",
    "TIMEOUT",
    "TRIES",
    "Answer",
    "Api",
    "Issue",
    "Pull",
    "Status",
    "missing_extra",
    "parsed",
    "understood",
]


T = TypeVar("T")


def parsed(value: Any, kind: type[T], asked: str, *, forge: str = "the forge", inside: str = "") -> T:
    """Read received JSON into a typed value.

    Args:
        value: the received JSON.
        kind: its type, for example a `Received` or a list of them.
        asked: the request, for example ``GET /repos/a/b/pulls``.
        forge: the forge that answered, for the message.
        inside: key of the value in the answer, for the message; empty for the whole answer.

    Raises:
        ForgeUnavailableError: the value has another shape.
    """
    try:
        return received(value, kind, inside)
    except UnreadableError as error:
        raise ForgeUnavailableError(
            f"{forge}'s answer to {asked} cannot be read: {error}; "
            "check base_url in rules/forge.toml; nothing is lost; run again later"
        ) from error


def understood(value: Any, kind: type[T]) -> T | None:
    """Read the answer to a write; None if it has another shape, because the effect is then looked up."""
    try:
        return received(value, kind)
    except UnreadableError:
        return None


def missing_extra(kind: str, extra: str) -> UsageError:
    """Return the error for a kind of forge whose library is not installed."""
    return UsageError(
        f"kind = \"{kind}\" in rules/forge.toml needs the extra `{extra}`: pip install 'make-for-milestones[{extra}]'"
    )


TRIES = 5
"""Maximum number of tries of a request."""


_TRIES = 6  # tries; with the pauses below up to 16 s in all
_FIRST_PAUSE = 0.25  # seconds, doubled at each try; a choice
_LONGEST_PAUSE = 300.0  # seconds; a run waits no longer for a limit, it says when to run again
PAGE = 100  # items; the most that GitHub and GitLab give at once
_MOST_PAGES = 1000  # pages; ends only a list without end
GRAPHQL = "/graphql"
_NEXT = re.compile(r'<[^<>]*[?&]page=([0-9]{1,9})(?:&[^<>]*)?>;[^,]*rel="next"')
_OK = range(200, 300)
_NOT_MODIFIED, _UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _GONE = 304, 401, 403, 404, 410
_SERVER = 500  # HTTP: from here on a fault of the server, the outcome is unknown


class Label(Received):
    name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _only_its_name(cls, value: Any) -> Any:
        """GitHub lists the labels of an issue as tables or as names."""
        return {"name": value} if isinstance(value, str) else value


class Fork(Received):
    full_name: str = ""


class Head(Received):
    """A branch; GitHub's has the name of its repository, Forgejo's the number."""

    ref: str
    sha: str = ""
    repo: Fork = Fork()
    repo_id: int = 0


class User(Received):
    login: str = ""


class Pull(Received):
    """A pull request of GitHub, Forgejo or Gitea."""

    number: int
    state: str
    head: Head
    base: Head
    draft: bool = False
    merged_at: str = ""
    merged: bool = False
    """In a list, GitHub gives only the time of the merge."""
    title: str = ""
    body: str = ""
    html_url: str = ""
    merge_commit_sha: str = ""
    user: User = User()
    labels: list[Label] = Field(default_factory=list)
    node_id: str = ""
    auto_merge: Any = None
    """Null unless GitHub was asked to merge it later."""


class Issue(Received):
    """An issue of GitHub, Forgejo or Gitea, or a pull request in a list of issues."""

    number: int
    state: str
    title: str = ""
    body: str = ""
    labels: list[Label] = Field(default_factory=list)
    html_url: str = ""
    pull_request: Any = None
    """Present only in pull requests."""


class Status(Received):
    """A status of a commit; Forgejo has the word in `status`."""

    context: str = ""
    state: str = ""
    status: str = ""
    description: str = ""
    target_url: str = ""


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
        forge: name of the forge in messages.
    """

    def __init__(
        self,
        send: Send,
        *,
        fetch: Fetch | None = None,
        budget: Budget | None = None,
        cache: Path | None = None,
        pause: Callable[[float], None] = time.sleep,
        forge: str = "the forge",
    ) -> None:
        self._send = send
        self.forge = forge
        self._fetch = fetch
        self._budget = budget
        self._cache = cache
        self._pause = pause
        self._lock = threading.Lock()

    def get(self, path: str, kind: type[T]) -> T | None:
        """Return the value at a path; None for no content.

        Raises:
            ForgeUnavailableError: the forge cannot be reached, or the value has another shape.
            ForgeRefusedError: the forge refuses.
        """
        data = self._read(path, None)[0]
        return None if data is None else parsed(data, kind, f"GET {path}", forge=self.forge)

    def pages(self, path: str, parameters: Mapping[str, Any], kind: type[T], inside: str = "") -> Iterator[T]:
        """Yield every item of a paged list; `inside` names the list within the answer. Raises as `get`."""
        page: int | None = 1
        for _ in range(_MOST_PAGES):
            data, link = self._read(path, {**parameters, "per_page": PAGE, "page": page})
            if data is None:
                return
            asked = f"GET {path}"
            if inside:
                data = parsed(data, dict[str, object], asked, forge=self.forge).get(inside)
            items: type[list[T]] = GenericAlias(list, (kind,))  # type: ignore[assignment]  # made at run time
            yield from parsed(data, items, asked, forge=self.forge, inside=inside)
            page = _following(link)
            if page is None:
                return
        raise ForgeUnavailableError(
            f"{self.forge}'s answer to GET {path} has too many pages; nothing is lost; run again later"
        )

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

    def effect(
        self,
        what: str,
        probe: Callable[[], T | None],
        do: Callable[[], Answer],
        refusal: Callable[[Answer], str] = lambda answer: answer.message or f"status {answer.status}",
    ) -> T:
        """Apply an effect: look it up, do it, look again, until it exists or the forge refuses.

        Args:
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
                self.wait(tries)
        found = probe()
        if found is None:
            raise ForgeUnavailableError(f"the forge did not report the result: {what}; run again later")
        return found

    def wait(self, tries: int) -> None:
        """Wait before the n-th try, with increasing and randomised delays."""
        longest = _FIRST_PAUSE * 2**tries
        self._pause(random.uniform(longest / 2, longest))  # noqa: S311  (no secret)

    def _read(self, path: str, parameters: Mapping[str, Any] | None) -> tuple[Any, str]:
        """Return the value and the header that names the other pages."""
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
            unread = "its answer is not JSON" if status in _OK else f"status {status}" if status else "no answer"
            text = _words(data) or unread
            if status and status not in _OK and status < _SERVER:
                raise _refused("GET", path, status, data)
            self.wait(tries)
        raise ForgeUnavailableError(f"the forge cannot be reached: {text}; nothing is lost; run again later")

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
            delay = retry_delay(status, headers, _words(data))
            if delay is None:
                return status, headers, data
            if delay > _LONGEST_PAUSE:
                when = time.strftime("%H:%M %Z", time.localtime(time.time() + delay))
                raise ForgeUnavailableError(
                    f"the forge's rate limit is reached until {when}; nothing is lost; run again then"
                )
            if delay > 0:
                self._pause(delay + random.uniform(0, 0.5))  # noqa: S311  (no secret)
            else:
                self.wait(tries)
        raise ForgeUnavailableError("the forge's rate limit is reached; nothing is lost; run again later")

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
            data = json_of(text)
            if self._budget is not None:
                self._budget.after(lowered, retry_delay(status, lowered, _words(data)))
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


def _following(link: str) -> int | None:
    """Return the number of the next page from a Link header."""
    found = _NEXT.search(link)
    return int(found[1]) if found is not None else None


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
    hint = "; check the token and its permissions" if status in {_UNAUTHORISED, _FORBIDDEN} else ""
    return ForgeRefusedError(f"the forge refuses {verb} {path}: {status} {why}{hint}")
