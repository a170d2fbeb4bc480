r"""Removes secrets from a stream of bytes, whatever its chunks.

A secret is searched in plain form and in the forms in which programs print it by accident: base64 at every alignment,
hexadecimal, URL-encoded, as the inside of a JSON string and with backslashes. Every form has an anchor, four of its
bytes that start with one that is rare in ordinary output. One compiled pattern finds anchors; only around a hit are
whole forms compared. A possible start of a form waits for the next chunk.

The supervisor loads this module at its start, which a run waits for, so it has few imports and none from this package.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64, hexlify
from bisect import bisect_right

TYPE_CHECKING = False  # importing typing would cost the supervisor more than all of this file
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MARK", "SHORTEST", "Redactor", "forms_of"]

MARK = b"[redacted]"
SHORTEST = 8  # characters; what is shorter is too likely to be an ordinary word
_WINDOW = 4  # bytes of an anchor
_ENOUGH = 200  # bytes of a form among which a rare one will be found
_COMMON_FIRST = b" etaoinsrlhdcumpfgbyvwk.-_/=,:0123456789()\"'\n[]TESAIPCRNFDOLMx"
_RARITY = dict(zip(reversed(_COMMON_FIRST), range(-1, -1 - len(_COMMON_FIRST), -1), strict=True))
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_URL_KEPT = (  # besides letters and digits: what well-known encoders leave as it is
    b"_.-~",  # RFC 3986, quote(safe="")
    b"_.-~/",  # quote()
    b"_.-~/:",
    b"_.-~/:@",
    b"_.-*",  # HTML forms
    b"_.-~!*'()",  # encodeURIComponent
    b"_.-~!*'();,/?:@&=+$#",  # encodeURI
    b"_.-~!*'();,/?:@&=+$#[]%",  # requests
    b"_.-~!*'();,&=+$",  # the user part of an address
    b"_.-~!*'();,&=+$:@/",  # its path
    b"*@-_+./",  # JavaScript's escape
    b"",  # everything but letters and digits
)
_UNICODE = re.compile(r"(?<!\\)((?:\\\\)*\\u)([0-9a-f]{4})")
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
_NOT_ASCII = re.compile(rb"[\x00-\x1f\x7f-\xff]")
_SHELL_KEPT = (b"_", b"_-./:=@%+", b"_-./:=@%+,", b"_-./:=@%+,~#^")


class Redactor:
    """Replaces secrets in a stream: feed the chunks in order, then end it. It can then be reused.

    Overlapping occurrences are replaced together by one mark. An occurrence that the end of the stream truncates is
    replaced if at least half of it and eight bytes remain. Secrets shorter than eight characters, and those that are
    part of the mark itself or only white space, are ignored.
    """

    def __init__(self, secrets: Iterable[str | bytes]) -> None:
        forms = {form for secret in secrets for form in forms_of(secret) if form not in MARK}
        self._forms = sorted(forms)
        self._longest = max(map(len, forms), default=0)
        self._anchored: dict[bytes, list[tuple[int, bytes]]] = {}  # anchor -> its place in the form, and the form
        for form in self._forms:
            place = _anchor(form)
            self._anchored.setdefault(form[place : place + _WINDOW], []).append((place, form))
        self._anchors = re.compile(_any_of(set(self._anchored))) if forms else None
        self._heads = re.compile(_any_of({form[:_WINDOW] for form in forms})) if forms else None
        self._held = b""
        self._covered = 0  # bytes at the start of what is held that belong to a mark already given out

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; returns all bytes that are decided."""
        if not self._forms:
            return chunk
        data = self._held + chunk if self._held else bytes(chunk)
        return self._release(data, self._undecided(data), self._spans(data))

    def end(self) -> bytes:
        """End the stream: returns the rest and resets the redactor."""
        data = self._held
        spans = self._spans(data)
        for start in range(len(data)):
            there = len(data) - start
            if there >= SHORTEST and any(len(form) <= 2 * there for form in self._begun(data[start:])):
                spans.append((start, len(data)))
                break
        return self._release(data, len(data), sorted(spans))

    def redact(self, text: bytes) -> bytes:
        """Return a text without its secrets; independent of the stream."""
        stream = self._held, self._covered
        self._held, self._covered = b"", 0
        result = self.feed(text) + self.end()
        self._held, self._covered = stream
        return result

    def _spans(self, data: bytes) -> list[tuple[int, int]]:
        """Return the positions of complete forms, by start; they may overlap."""
        spans = []
        at = 0
        while self._anchors is not None and (hit := self._anchors.search(data, at)) is not None:
            for place, form in self._anchored[hit.group()]:
                start = hit.start() - place
                if start >= 0 and data.startswith(form, start):
                    spans.append((start, start + len(form)))
            at = hit.start() + 1
        spans.sort()
        return spans

    def _undecided(self, data: bytes) -> int:
        """Return the first position from which the data may be the start of an incomplete form."""
        size = len(data)
        at = max(0, size - self._longest + 1)
        while self._heads is not None and (hit := self._heads.search(data, at)) is not None:
            if any(self._begun(data[hit.start() :])):
                return hit.start()
            at = hit.start() + 1
        for start in range(max(at, size - _WINDOW + 1), size):
            if any(self._begun(data[start:])):
                return start
        return size

    def _begun(self, rest: bytes) -> Iterator[bytes]:
        """Yield the longer forms that start with these bytes."""
        place = bisect_right(self._forms, rest)
        while place < len(self._forms) and self._forms[place].startswith(rest):
            yield self._forms[place]
            place += 1

    def _release(self, data: bytes, until: int, spans: list[tuple[int, int]]) -> bytes:
        """Return the data before `until`, with marks for the spans that start there, and keep the rest."""
        done = self._covered
        out = []
        for start, end in spans:
            if start >= until:
                break
            if start >= done:
                out += [data[done:start], MARK]
            done = max(done, end)
        out.append(data[done:until])
        self._covered = max(0, done - until)
        self._held = data[until:]
        return b"".join(out)


def forms_of(secret: str | bytes) -> tuple[bytes, ...]:
    """Return every form of a secret to search for, the longest first; empty if it is too short."""
    raw = secret.encode("utf-8", "surrogateescape") if isinstance(secret, str) else secret
    found: set[bytes] = set()
    for value in (raw, raw.strip(), raw.replace(b"\n", b"\r\n")):  # a file's last newline; a terminal's newlines
        text = value.decode("utf-8", "surrogateescape")
        if len(text) >= SHORTEST and not text.isspace():
            found.update((value, *_base64(value), *_hex(value), *_url(value), *_json(text), *_backslash(value)))
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def _base64(value: bytes) -> Iterator[bytes]:
    """Yield, for every alignment, the characters that depend only on the secret, and the form at the end of data."""
    for lead, first in enumerate((0, 2, 3)):
        text = b2a_base64(bytes(lead) + value, newline=False)[first:]
        whole = (lead + len(value)) * 8 // 6 - first
        for form in (text[:whole], text.rstrip(b"="), text):
            yield form
            yield form.translate(bytes.maketrans(b"+/", b"-_"))
            for width in (64, 76) if lead == 0 else ():  # what openssl(1) and base64(1) make of the secret alone
                yield b"\n".join(form[at : at + width] for at in range(0, len(form), width))


def _hex(value: bytes) -> Iterator[bytes]:
    for digits in (hexlify(value), hexlify(value).upper()):
        pairs = [digits[at : at + 2] for at in range(0, len(digits), 2)]
        yield digits
        yield from (between.join(pairs) for between in (b" ", b":"))
        yield from (before + before.join(pairs) for before in (b"\\x", b"%"))
    yield b"".join(b"\\%03o" % byte for byte in value)


def _url(value: bytes) -> Iterator[bytes]:
    for kept in _URL_KEPT:
        for escape in (b"%%%02X", b"%%%02x"):
            text = b"".join(bytes((byte,)) if byte in _LETTERS or byte in kept else escape % byte for byte in value)
            yield text
            yield text.replace(b"%20", b"+")


def _json(text: str) -> Iterator[bytes]:
    """Yield its forms inside a JSON string, and inside a nested one."""
    once = {json.dumps(text, ensure_ascii=only)[1:-1] for only in (True, False)}
    once |= {_UNICODE.sub(lambda found: found[1] + found[2].upper(), form) for form in once}
    once |= {form.replace("/", "\\/") for form in once}
    for unsafe in ("<>&", "<>&'", "<>&'+"):  # Go and others think of HTML
        for escape in ("\\u%04x", "\\u%04X"):
            table = {ord(character): escape % ord(character) for character in unsafe}
            once |= {form.translate(table) for form in list(once)}
    twice = {json.dumps(form, ensure_ascii=only)[1:-1] for form in once for only in (True, False)}
    for form in once | twice:
        yield form.encode("utf-8", "surrogateescape")


def _backslash(value: bytes) -> Iterator[bytes]:
    """Yield its forms in the quotes of programming languages and shells, and outside of quotes."""
    special = set(range(128)) - set(_LETTERS)
    for kept in _SHELL_KEPT:
        yield _backslashed(value, special.difference(kept))
    yield re.escape(value)
    for inner in (b"'\\''", b"'\"'\"'"):
        yield value.replace(b"'", inner)
    for quotes in (b"", b"'", b'"', b"'\"", b'"$`', b'"$`!'):
        text = _backslashed(value, {ord("\\"), *quotes})
        yield text
        yield text.replace(b"\n", b"\\n").replace(b"\r", b"\\r").replace(b"\t", b"\\t")
        yield _without_controls(text, _NOT_ASCII)
        yield _without_controls(text, _CONTROLS)
    yield value.decode("utf-8", "surrogateescape").encode("unicode_escape")


def _backslashed(value: bytes, special: set[int]) -> bytes:
    return b"".join(b"\\%c" % byte if byte in special else b"%c" % byte for byte in value)


def _without_controls(text: bytes, pattern: re.Pattern[bytes]) -> bytes:
    """Escape the pattern's matches as `repr` does."""
    return pattern.sub(lambda found: repr(found[0])[2:-1].encode(), text)


def _anchor(form: bytes) -> int:
    """Return the start of a form's anchor: at the rarest of its first bytes; forms prefer the same bytes."""
    places = range(min(len(form) - _WINDOW + 1, _ENOUGH))
    return max(places, key=lambda place: (_RARITY.get(form[place], 0), -form[place], -place))


def _any_of(words: set[bytes]) -> bytes:
    """Return a pattern for words of one length that decides byte by byte."""
    groups: dict[bytes, set[bytes]] = {}
    for word in words:
        groups.setdefault(word[:1], set()).add(word[1:])
    parts = [re.escape(first) + (_any_of(rest) if any(rest) else b"") for first, rest in sorted(groups.items())]
    return parts[0] if len(parts) == 1 else b"(?:" + b"|".join(parts) + b")"
