"""Where shared verdicts are kept: a folder, a cache server over HTTP, or refs of the git remote.

A store is not trusted: what comes out of it is bytes that `executor.checks.signed_verdict` believes or refuses.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from executor.checks.signed_verdict import StoreError, public_key, ref_name
from executor.errors import ExecutorError
from executor.git.refs import Move
from executor.process.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from email.message import Message
    from typing import IO

    from executor.checks.shared import VerdictStore
    from executor.git.command import Identity
    from executor.git.objects import Store
    from executor.git.remote import Remote
    from executor.model.outward_rules import VerdictRules

__all__ = ["FALLBACK", "REFS", "FolderStore", "HttpStore", "RefStore", "opened_store"]

REFS = "refs/verdicts"
"""Each writer has one ref below it, whose commit has no parent, so that what is too old is given up."""
FALLBACK = "refs/heads/_verdicts"
"""The same for a remote that takes nothing but branches."""
_MOST_BYTES = 32 * 1024 * 1024  # bytes; as the largest report (`checks/junit.py`)
_RACES = 5  # tries; another clone may push between fetch and push
_DAY = re.compile(r"v1/(\d{4}-\d{2}-\d{2})/((?:ac|cas)/[0-9a-f]{64})")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class FolderStore:
    """A folder that several clones can read and write, on this machine or on a network file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> bytes | None:
        """Return a file; None if there is none."""
        try:
            path = self._path(name)
            return path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be read: {error.strerror}") from error

    def put(self, name: str, data: bytes) -> None:
        """Write a file, over one of the same name."""
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data, durable=False, mode=0o644)
        except (OSError, ExecutorError) as error:
            raise StoreError(f"{self._folder} cannot be written: {error}") from error

    def flush(self) -> None:
        """Do nothing: each file is written at once."""

    def _path(self, name: str) -> Path:
        kind, _, digest = name.partition("/")
        return self._folder / kind / digest[:2] / digest


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token would go to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Refuse."""


class HttpStore:
    """A server with GET and PUT by key, as bazel-remote, nginx with WebDAV and object stores have it.

    bazel-remote accepts below ``/ac/`` nothing but an ActionResult of the Remote Execution API, so a statement travels
    as the standard output of one.

    Args:
        address: the address, with a path if the server has several caches.
        token: bearer token, or ``user:password``; empty without one.
        timeout: seconds for one answer.
    """

    def __init__(self, address: str, token: str, timeout: float) -> None:
        host = urlsplit(address).hostname or ""
        if token and not address.startswith("https://") and host not in _LOOPBACK:
            raise StoreError(f"{address}: a token is sent over https only")
        self._address, self._timeout = address, timeout
        self._headers = {}
        if token:
            word = f"Basic {base64.b64encode(token.encode()).decode()}" if ":" in token else f"Bearer {token}"
            self._headers["Authorization"] = word
        self._opener = urllib.request.build_opener(_NoRedirects)

    def get(self, name: str) -> bytes | None:
        """Return a file; None if there is none."""
        data = self._sent(name, None)
        return _output_of(data) if data is not None and name.startswith("ac/") else data

    def put(self, name: str, data: bytes) -> None:
        """Write a file, over one of the same name."""
        self._sent(name, _as_result(data) if name.startswith("ac/") else data)

    def flush(self) -> None:
        """Do nothing: each file is written at once."""

    def _sent(self, name: str, data: bytes | None) -> bytes | None:
        method = "GET" if data is None else "PUT"
        headers = {**self._headers, **({} if data is None else {"Content-Type": "application/octet-stream"})}
        request = urllib.request.Request(f"{self._address}/{name}", data, headers, method=method)  # noqa: S310
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                found: bytes = answer.read(_MOST_BYTES + 1)
                return found if len(found) <= _MOST_BYTES else None
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.client.NOT_FOUND and data is None:
                    return None
                raise StoreError(f"{self._address} answers {method} with {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise StoreError(f"{self._address} cannot be reached: {reason}") from error


_STDOUT_RAW = b"\x2a"
"""Field 5 of ActionResult, wire type 2."""


def _as_result(data: bytes) -> bytes:
    """Return an ActionResult (protobuf) with these bytes as its standard output."""
    length, size = bytearray(), len(data)
    while size > 0x7F:  # noqa: PLR2004  (seven bits in each byte)
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return _STDOUT_RAW + bytes(length) + data


def _output_of(data: bytes) -> bytes | None:
    """Return the standard output of an ActionResult; None without one. Servers add fields of their own."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80 or shift > 63:  # noqa: PLR2004  (the last byte, or too long for protobuf)
                return value

    try:
        while place < len(data):
            tag = varint()
            kind = tag & 7
            if kind == 2:  # noqa: PLR2004  (a length and that many bytes)
                length = varint()
                if tag == _STDOUT_RAW[0]:
                    return data[place : place + length]
                place += length
            elif kind == 0:
                varint()
            else:
                place += {1: 8, 5: 4}[kind]
    except (IndexError, KeyError):
        return None
    return None


class RefStore:
    """Refs of the remote: all verdicts come with one fetch, and go with one push when the run ends.

    Args:
        remote: the remote.
        objects: objects of the trusted repository.
        who: the committer.
        days: age in days from which a verdict is given up.
        writer: name of this clone's ref; empty if it only reads.
        readers: names of the refs that are read: those of trusted keys.
    """

    def __init__(
        self, remote: Remote, objects: Store, who: Identity, days: int, writer: str, readers: Sequence[str]
    ) -> None:
        self._remote, self._objects, self._who, self._days, self._writer = remote, objects, who, days, writer
        self._readers = tuple(dict.fromkeys([*readers, *([writer] if writer else [])]))
        self._lock = threading.Lock()
        self._found: dict[str, tuple[str, str]] | None = None
        self._new: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        """Return a file; None if there is none."""
        with self._lock:
            if name in self._new:
                return self._new[name]
            if self._found is None:
                self._found = self._listed(self._tips())
            place = self._found.get(name)
            return self._objects.blob(*place) if place is not None else None

    def put(self, name: str, data: bytes) -> None:
        """Collect a file for `flush`."""
        with self._lock:
            self._new[name] = data

    def flush(self) -> None:
        """Push what was collected, beside what other clones with the same key have pushed."""
        with self._lock:
            if not self._new:
                return
            reason = ""
            for _ in range(_RACES):
                tips = self._tips()
                for space in (REFS, FALLBACK):
                    name = f"{space}/{self._writer}"
                    done = self._remote.push([Move(name, tips.get(name), self._commit(tips.get(name)))])
                    if done.ok:
                        self._new.clear()
                        return
                    reason = done.reason
                    if done.moved:
                        break
            raise StoreError(f"{self._remote.name} does not take them: {reason}")

    def _commit(self, there: str | None) -> str:
        oldest = time.strftime("%Y-%m-%d", time.gmtime(time.time() - self._days * 86_400))
        today = time.strftime("%Y-%m-%d", time.gmtime())
        paths = self._objects.paths(self._objects.tree_of(there)) if there is not None else ()
        found = [match for path in paths if (match := _DAY.fullmatch(path)) is not None]
        kept = [match[0] for match in found if match[1] >= oldest and match[2] not in self._new]
        files = {path: self._objects.blob(there or "", path) or b"" for path in kept}
        files |= {f"v1/{today}/{name}": data for name, data in self._new.items()}
        return self._objects.commit(self._objects.files_tree(files), [], "Verdicts\n", self._who, int(time.time()))

    def _tips(self) -> dict[str, str]:
        try:
            names = [f"{space}/{name}" for space in (REFS, FALLBACK) for name in self._readers]
            tips = self._remote.tips(*names) if names else {}
            if tips:
                self._remote.fetch(*tips)
        except ExecutorError as error:
            raise StoreError(str(error)) from error
        return tips

    def _listed(self, tips: dict[str, str]) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        for commit in tips.values():
            for path in sorted(self._objects.paths(self._objects.tree_of(commit))):
                match = _DAY.fullmatch(path)
                if match is not None:
                    found[match[2]] = (commit, path)
        return found


def opened_store(rules: VerdictRules, remote: Remote | None, objects: Store, who: Identity) -> VerdictStore:
    """Return the store that the rules name.

    Args:
        rules: `rules/verdicts.toml`; `store` is not empty.
        remote: the remote of `rules/forge.toml`; None without one.
        objects: objects of the trusted repository.
        who: the committer.

    Raises:
        StoreError: the rules contradict the environment or other rules.
    """
    if rules.store == "remote":
        if remote is None:
            raise StoreError('rules/verdicts.toml: store = "remote", but rules/forge.toml names no remote')
        writer = ref_name(public_key(Path(rules.key).expanduser())) if rules.key else ""
        readers = [ref_name(key.key) for key in rules.trusted.values()]
        return RefStore(remote, objects, who, rules.days, writer, readers)
    if rules.store.startswith(("/", "~")):
        return FolderStore(Path(rules.store).expanduser())
    token = os.environ.get(rules.token, "") if rules.token else ""
    if rules.token and not token:
        raise StoreError(f"rules/verdicts.toml: token: the environment variable {rules.token} is not set")
    return HttpStore(rules.store, token, rules.timeout_s)
