"""Sends a notice over a channel: to a command, a plug-in, or with Apprise to mail, chat, desktop or a webhook.

A failure is a sentence, never an exception: nothing here may bring a run down.
"""

from __future__ import annotations

import logging
import os
import subprocess
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from urllib.parse import quote

from executor.agents.command import ordinary_environment
from executor.config.plugins import load
from executor.model.outward_rules import VARIABLE

if TYPE_CHECKING:
    from executor.model.outward_rules import Channel
    from executor.notify.notices import Notice

__all__ = ["APPRISE_MISSING", "NotificationPlugin", "apprise_there", "send"]

APPRISE_MISSING = 'a url needs the extra "notify": pip install "make-for-milestones[notify]"; a command needs nothing'


@runtime_checkable
class NotificationPlugin(Protocol):
    """Sends notices; entry point group `make_for_milestones.notifications`."""

    def send(self, notice: Notice, timeout: float) -> str:
        """Send a notice; returns why it was not sent, or an empty text.

        Called on a thread that only sends. An exception counts as a notice that was not sent.

        Args:
            notice: what to send; values of secrets are replaced already.
            timeout: seconds that it may take.
        """
        ...


def apprise_there() -> bool:
    """Whether urls can be sent to."""
    return find_spec("apprise") is not None


def send(channel: Channel, notice: Notice) -> str:
    """Send a notice; why it was not sent, or nothing."""
    try:
        if channel.plugin:
            plugin: NotificationPlugin = load("notifications", channel.plugin, NotificationPlugin)
            return plugin.send(notice, channel.timeout)
        return _to_command(channel, notice) if channel.command else _to_url(channel, notice)
    except Exception as error:  # noqa: BLE001  (whatever a service's code raises, it is a message that was not sent)
        return f"{type(error).__name__}: {error}"


def _to_command(channel: Channel, notice: Notice) -> str:
    values = {
        "kind": notice.kind,
        "milestone": notice.milestone,
        "issue": notice.issue,
        "event": notice.event,
        "title": notice.title,
        "body": notice.body,
    }
    argv = [_filled(word, values) for word in channel.command]
    environment = {
        **ordinary_environment(channel.env),
        **{f"NOTICE_{key.upper()}": text for key, text in values.items()},
    }
    try:
        done = subprocess.run(
            argv,
            input=notice.body.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=channel.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{argv[0]} did not end within {channel.timeout:g} s"
    except OSError as error:
        return f"{argv[0]} cannot be run: {error.strerror}"
    if done.returncode == 0:
        return ""
    words = done.stderr.decode("utf-8", "replace").split()
    return f"{argv[0]} ended with {done.returncode}" + (f": {' '.join(words)[:200]}" if words else "")


def _filled(word: str, values: dict[str, str]) -> str:
    for key, text in values.items():
        if word == f"{{{key}}}":
            return text
    return word.format_map(values)


def _to_url(channel: Channel, notice: Notice) -> str:
    missing = [name for name in VARIABLE.findall(channel.url) if name not in os.environ]
    if missing:
        return f"the environment variable {missing[0]} is not set"
    import apprise

    asset = apprise.AppriseAsset(app_id="make for milestones", async_mode=False)
    server = apprise.Apprise(asset=asset)
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as said:  # type: ignore[no-untyped-call]
        if not server.add(_url(channel.url)):
            return "its url is not understood by Apprise"
        sent = server.notify(body=notice.body, title=notice.title, body_format=apprise.NotifyFormat.TEXT)
        problem = "" if sent else f"not delivered: {' '.join(str(said.getvalue()).split())[:300]}"
    return _without_values(channel.url, problem)


def _url(url: str) -> str:
    """The url with its variables; a value that is only a part of it is quoted, a whole url is taken as it is."""
    whole = VARIABLE.fullmatch(url)
    if whole is not None:
        return os.environ[whole[1]]
    return VARIABLE.sub(lambda match: quote(os.environ[match[1]], safe=""), url)


def _without_values(url: str, text: str) -> str:
    for name in VARIABLE.findall(url):
        for value in (os.environ[name], quote(os.environ[name], safe="")):
            if value:
                text = text.replace(value, "[redacted]")
    return text
