"""Finds secrets in lines with detect-secrets; results never contain the secret."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from detect_secrets.plugins.base import BasePlugin

__all__ = ["find_secrets"]

Finding = tuple[str, int, str]

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
_KEYWORD = re.compile(r"(?i)key|pass|pwd|secret")
_SHORTEST = 5  # letters of a password in a URL
_LONGEST_KEYWORD = 2_000


def find_secrets(lines: Iterable[Finding]) -> list[Finding]:
    """The lines with a secret: (path, number, kind).

    Args:
        lines: (path, number, text).
    """
    found: list[Finding] = []
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
            short = plugin.secret_type.startswith("Basic Auth") and len(secret) < _SHORTEST
            if not short and not _PLACEHOLDER.search(secret):
                kinds.append(plugin.secret_type)
                break
    if _is_keyword(text):
        kinds.append("Secret Keyword")
    return list(dict.fromkeys(kinds))


def _is_keyword(text: str) -> bool:
    """Whether a name such as `password` is given a value that looks made to be secret."""
    if len(text) > _LONGEST_KEYWORD or not _KEYWORD.search(text):
        return False
    return any(_looks_made(secret) for secret in _keywords().analyze_string(text))


def _looks_made(secret: str) -> bool:
    kinds = (any(char.isdigit() for char in secret), any(char.isalpha() for char in secret))
    plain = not any(char.isspace() or char in "/(){}[]<>:" for char in secret)
    return len(secret) >= 8 and all(kinds) and plain and not _PLACEHOLDER.search(secret)  # noqa: PLR2004  (usual minimum)


@cache
def _keywords() -> BasePlugin:
    from detect_secrets.plugins.keyword import KeywordDetector

    return KeywordDetector()


@cache
def _plugins() -> Sequence[BasePlugin]:
    """Those that know a secret by its own form; none that guesses from entropy."""
    from importlib import import_module

    modules = [import_module(f"detect_secrets.plugins.{name}") for name in _PLUGINS]
    return tuple(getattr(module, name)() for module, name in zip(modules, _PLUGINS.values(), strict=True))
