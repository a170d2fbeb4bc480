"""Finds secrets in lines with detect-secrets; results never contain the secret.

Secrets of known value in everything that a change adds: text, binary content and names. Pure.

The values are those of the variables that agent profiles pass on. The search covers the plain value, every form in
which output is redacted, and further simple encodings.
"""

from __future__ import annotations

import base64
import codecs
import re
from functools import cache
from typing import TYPE_CHECKING

from executor.process.redact import MARK, SHORTEST, forms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from detect_secrets.plugins.base import BasePlugin

    from executor.git.diff import FileChange, Finding

__all__ = ["blotted", "find_secrets", "known_secrets", "secret_forms"]


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
