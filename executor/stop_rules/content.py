"""Content of a change that a rule or a reader cannot see, and secrets in it. Pure.

A rule says nothing about a file that it cannot read. So a text file with a NUL byte, a line beyond the limit, bytes in
no known encoding, or an excessive size is itself a stop, as are bidirectional controls and invisible characters in
code and file names.

detect-secrets finds secrets in lines. The values of the variables that agent profiles pass on are also searched for in
binary content and names: the plain value, every form in which output is redacted, and further simple encodings. No
result contains the secret.
"""

from __future__ import annotations

import base64
import codecs
import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from executor.git.diff import LONGEST_LINE
from executor.model.paths import is_documentation, is_test, suffix_of
from executor.process.redact import MARK, SHORTEST, forms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from detect_secrets.plugins.base import BasePlugin

    from executor.git.diff import FileChange, Finding

__all__ = ["LARGEST", "MEDIA", "blotted", "find_secrets", "known_secrets", "secret_forms", "unlookable"]

LARGEST = 5_000_000
"""Maximum bytes of a file that rules read."""
MEDIA = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".webp",
        ".avif",
        ".bmp",
        ".ico",
        ".icns",
        ".tif",
        ".tiff",
        ".psd",
        ".mp3",
        ".mp4",
        ".m4a",
        ".ogg",
        ".opus",
        ".wav",
        ".flac",
        ".webm",
        ".mov",
        ".avi",
        ".woff",
        ".woff2",
        ".ttf",
        ".otf",
        ".eot",
        ".pdf",
        ".xls",
        ".xlsx",
        ".doc",
        ".docx",
        ".ppt",
        ".pptx",
        ".odt",
        ".ods",
        ".epub",
        ".mo",
        ".npy",
        ".npz",
        ".parquet",
        ".sqlite",
        ".db",
        ".bin",
        ".dat",
        ".pt",
        ".onnx",
        ".safetensors",
        ".h5",
        ".hdf5",
        ".glb",
        ".blend",
        ".dds",
        ".ktx",
        ".swf",
        ".heic",
    ]
)
"""Suffixes of files that are neither text nor executable."""
_PACKED = frozenset(
    [
        ".zip",
        ".gz",
        ".bz2",
        ".xz",
        ".tgz",
        ".tar",
        ".7z",
        ".rar",
        ".zst",
        ".jar",
        ".war",
        ".whl",
        ".egg",
        ".nupkg",
        ".gem",
        ".crate",
        ".apk",
        ".deb",
        ".rpm",
    ]
)
_RUNS = frozenset(
    [".so", ".dll", ".dylib", ".exe", ".o", ".a", ".class", ".pyc", ".pyd", ".node", ".wasm", ".elf", ".com", ".msi"]
)
_DATA = frozenset({".json", ".jsonl", ".csv", ".tsv", ".txt", ".xml"})
_INVISIBLE = frozenset(
    "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff\u00ad\u180e\u3164\uffa0\u115f\u1160\u2800"
)
_JOINERS = frozenset("\u200c\u200d")  # part of ordinary writing in several scripts and of emoji
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_HIGH = re.compile(rb"[\x80-\xff]")
_TAGS = range(0xE0000, 0xE0080)


def unlookable(files: Sequence[FileChange], content: Callable[[str, bool], bytes | None]) -> Iterator[Finding]:
    """Yield every place of a change that rules or people cannot see as it is executed."""
    for file in files:
        if odd := _odd(file.path):
            yield file.path, 0, f"its name has {odd}"
        if file.kind in {"deleted", "mode"} or file.new_mode in {"120000", "160000"}:
            continue
        data = content(file.path, True)  # noqa: FBT003  (the engine's own shape)
        if data is None:
            continue
        old = content(file.path, False) if file.kind != "created" else None  # noqa: FBT003
        before = set(_unread(file, old or b""))
        yield from ((file.path, 0, text) for text in _unread(file, data) if text not in before)
        if not is_documentation(file.path) and not _is_data_of_tests(file.path) and b"\0" not in data:
            for line in file.lines:
                if line.added and not line.text.isascii() and (odd := _odd(line.text.removeprefix("\ufeff"))):
                    yield file.path, line.number, f"{odd} in the line"


def _is_data_of_tests(path: str) -> bool:
    """Return whether a file is data for tests: odd characters in it are what a test is about, and nothing runs them."""
    return is_test(path) and suffix_of(path) in _DATA


def _unread(file: FileChange, data: bytes) -> Iterator[str]:
    """Yield why a content cannot be examined."""
    suffix = suffix_of(file.path)
    if suffix in _RUNS or suffix in _PACKED:
        if data:
            yield f"a {'program' if suffix in _RUNS else 'packed file'} that cannot be inspected"
        return
    if suffix in MEDIA:
        return
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return
    if b"\0" in data:
        yield "a NUL byte: it looks like a program"
    elif len(data) > LARGEST:
        yield f"larger than {LARGEST // 1_000_000} MB: too large to inspect"
    elif not _is_text(data):
        yield "bytes in an unknown encoding"
    if any(len(line) >= LONGEST_LINE for line in data.split(b"\n")):
        yield f"a line of {LONGEST_LINE} characters or more: too long to inspect"


def _is_text(data: bytes) -> bool:
    """Return whether it is UTF-8, or in a single-byte encoding with few control characters."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        start = data[:100_000]
        return not _CONTROLS.search(start) and 3 * len(_HIGH.findall(start)) < len(start)
    return True


def _odd(text: str) -> str:
    """Describe the unusual character of a text as a phrase; empty without any."""
    for place, char in enumerate(text):
        if char in _DIRECTION:
            return f"a control of writing direction (U+{ord(char):04X})"
        if ord(char) in _TAGS or (char in _INVISIBLE and not (char in _JOINERS and _joins(text, place))):
            return f"an invisible character (U+{ord(char):04X})"
        if unicodedata.category(char) == "Cc" and char not in "\t\f\r\x1b":
            return f"a control character (U+{ord(char):04X})"
    return ""


def _joins(text: str, place: int) -> bool:
    """Return whether a joiner is between letters or signs of a script that requires it."""
    before = text[place - 1] if place else ""
    return ord(before or "\0") > 0x2FF  # noqa: PLR2004  (beyond Latin)


AddedLine = tuple[str, int, str]

_OWN = {
    "Anthropic or OpenAI key": re.compile(r"\bsk-(?:ant-|proj-)[A-Za-z0-9_-]{20,}"),
    "GitHub fine-grained token": re.compile(r"\bgithub_pat_[A-Za-z0-9_]{50,}"),
    "Google API key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z]{34}\b"),
    "Stripe webhook secret": re.compile(r"\bwhsec_[A-Za-z0-9]{32,}"),
    "DigitalOcean token": re.compile(r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
}
_PLUGINS = {
    "artifactory": "ArtifactoryDetector",
    "aws": "AWSKeyDetector",
    "azure_storage_key": "AzureStorageKeyDetector",
    "basic_auth": "BasicAuthDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "jwt": "JwtTokenDetector",
    "mailchimp": "MailchimpDetector",
    "npm": "NpmDetector",
    "openai": "OpenAIDetector",
    "private_key": "PrivateKeyDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}
_PLACEHOLDER = re.compile(
    r"(?i)x{4,}|\*{3,}|\.{3}|example|sample|dummy|fake|placeholder|change.?me|your|<[^>]+>|^\$\{?\w+\}?$|^\$[({]|\{\w*\}|^%\(|redacted"
    r"|^(secret|pass(wd|word|phrase)?|hunter|s3cret|letmein|postgres|mysql|redis|rabbitmq|docker|minio|admin|root|user|guest|test\w*|foo\w*|bar\w*|token|value)\d*$"
)
_QUOTED = re.compile(r"%[0-9A-Fa-f]{2}")
"""A part of a URL, as tests of URLs have it."""
_KEYWORD = re.compile(r"(?i)key|pass|pwd|secret")
_NOWHERE = re.compile(
    r"@(\[::1\]|127\.0\.0\.1|[a-z](?![\w-])|([\w-]+\.)*(example(\.(com|org|net))?|localhost|test|invalid|foo|bar|baz)\b)"
    r"(?![\w.-]*\.\w)"
)
"""A URL whose host does not exist, is this machine, or has a name of examples."""
_SHORTEST = 5  # letters of a password in a URL
_LONGEST_KEYWORD = 2_000  # characters of a line; a choice: longer ones are data


def find_secrets(lines: Iterable[AddedLine]) -> list[AddedLine]:
    """Return the lines with a secret: (path, number, kind).

    Args:
        lines: (path, number, text).
    """
    found: list[AddedLine] = []
    for path, number, text in lines:
        kinds = _kinds(text)
        if kinds:
            found.append((path, number, ", ".join(kinds)))
    return found


def _kinds(text: str) -> list[str]:
    if len(text) < 12:  # noqa: PLR2004  (no secret is shorter)
        return []
    kinds = [name for name, pattern in _OWN.items() if pattern.search(text)]
    for plugin in _plugins():
        for secret in plugin.analyze_string(text):
            in_url = plugin.secret_type.startswith("Basic Auth")
            harmless = in_url and (len(secret) < _SHORTEST or _NOWHERE.search(text))
            if not harmless and not _PLACEHOLDER.search(secret):
                kinds.append(plugin.secret_type)
                break
    if _is_keyword(text):
        kinds.append("Secret Keyword")
    return list(dict.fromkeys(kinds))


def _is_keyword(text: str) -> bool:
    """Return whether a name such as `password` is assigned a value that looks like a generated secret."""
    if len(text) > _LONGEST_KEYWORD or not _KEYWORD.search(text):
        return False
    return any(_looks_made(secret) for secret in _keywords().analyze_string(text))


def _looks_made(secret: str) -> bool:
    kinds = (any(char.isdigit() for char in secret), any(char.isalpha() for char in secret))
    plain = not any(char.isspace() or char in "/(){}[]<>:" for char in secret)
    plain = plain and not _QUOTED.search(secret)
    return len(secret) >= 8 and all(kinds) and plain and not _PLACEHOLDER.search(secret)  # noqa: PLR2004  (usual minimum)


@cache
def _keywords() -> BasePlugin:
    from detect_secrets.plugins.keyword import KeywordDetector

    return KeywordDetector()


@cache
def _plugins() -> Sequence[BasePlugin]:
    """Return the plugins that recognise a secret by its format; none that guesses from entropy."""
    from importlib import import_module

    modules = [import_module(f"detect_secrets.plugins.{name}") for name in _PLUGINS]
    return tuple(getattr(module, name)() for module, name in zip(modules, _PLUGINS.values(), strict=True))


_JOINS = re.compile(rb"[\"'`\s+\\.,;()\[\]{}&|<>=:_#*/-]+")
_ENOUGH = 16
"""Minimum length of a value for a search across quotes and line ends; a shorter one would match by chance."""


def secret_forms(value: str) -> tuple[bytes, ...]:
    """Return every form of a value to search for; none if it is too short to be a secret."""
    if len(value) < SHORTEST or value.isspace():
        return ()
    raw = value.encode("utf-8", "surrogateescape")
    text = raw.decode("utf-8", "replace")
    more = {
        base64.b32encode(raw).rstrip(b"="),
        base64.b32encode(raw).rstrip(b"=").lower(),
        base64.b85encode(raw),
        base64.a85encode(raw),
        raw[::-1],
        base64.b64encode(raw[::-1]).rstrip(b"="),
        codecs.encode(text, "rot13").encode("utf-8", "replace"),
        text.encode("utf-16-le"),
        text.encode("utf-16-be"),
        str(list(raw)).encode(),
        str(list(raw)).replace(" ", "").encode(),
        b",".join(b"0x%02x" % byte for byte in raw),
        b", ".join(b"0x%02x" % byte for byte in raw),
    }
    return tuple(sorted({*forms_of(value), *more}, key=lambda form: (-len(form), form)))


def known_secrets(
    files: Sequence[FileChange], content: Callable[[str, bool], bytes | None], values: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield files, and names of files, with a known value that they did not contain before.

    Args:
        files: files of the change.
        content: returns a file's whole content before (False) or after (True).
        values: name of a variable -> its value. Findings contain the name and never the value.
    """
    forms = {name: secret_forms(value) for name, value in values.items()}
    for file in files:
        if file.kind == "deleted":
            continue
        path = file.path.encode("utf-8", "surrogateescape")
        new = content(file.path, True) or b""  # noqa: FBT003  (the engine's own shape)
        for name, value in values.items():
            if not forms[name]:
                continue
            if any(form in path for form in forms[name]):
                yield file.path, 0, f"its name holds the value of {name}"
                continue
            at = _place(new, forms[name], value)
            if at >= 0 and _place(content(file.path, False) or b"", forms[name], value) < 0:  # noqa: FBT003
                yield file.path, new.count(b"\n", 0, at) + 1, f"the value of {name}"


def blotted(data: bytes, values: Mapping[str, str]) -> bytes:
    """Return a content without the known values in all forms that can be removed; other forms remain."""
    for value in values.values():
        for form in secret_forms(value):
            data = data.replace(form, MARK)
    return data


def _place(data: bytes, forms: Sequence[bytes], value: str) -> int:
    """Return the offset of a value in a content; -1 if absent."""
    for form in forms:
        if (at := data.find(form)) >= 0:
            return at
    raw = value.encode("utf-8", "surrogateescape")
    plain = _JOINS.sub(b"", raw)
    if len(plain) >= _ENOUGH and len(data) <= 5_000_000 and plain in _JOINS.sub(b"", data):  # noqa: PLR2004
        return max(data.find(plain[:4]), 0)
    return -1
