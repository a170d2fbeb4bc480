"""Sends a notice over a channel: to a command, a plug-in, or with Apprise to mail, chat, desktop or a webhook.

A failure is a sentence, never an exception: no error here may end a run.

Notices are sent in a separate thread, each once over each channel, and their delivery is recorded durably.

The record follows the delivery: if a run dies in between, the notice is sent again (at least once). A notice that
could not be sent is sent by a later run, which finds the issue waiting again.

`check_channel` holds a plug-in against its protocol; its package runs this in its tests.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import quote

from executor.agents.command import ordinary_environment
from executor.config.plugins import load
from executor.errors import ExecutorError, UsageError
from executor.model.fingerprint import IssueRef
from executor.model.outward_rules import VARIABLE
from executor.notify.phase_hook import DECIDING, Notice, event_id, of_completion, of_event, of_rest
from executor.process.redact import MARK
from executor.state.decide import Status
from executor.state.events import Notified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from executor.engine.session import Session
    from executor.model.outward_rules import Channel
    from executor.state.decide import Decision
    from executor.state.record import Record

__all__ = [
    "APPRISE_MISSING",
    "NOTICES",
    "NotificationPlugin",
    "Teller",
    "apprise_there",
    "check_channel",
    "notifying",
    "require_channels",
    "send",
    "sent_before",
]


APPRISE_MISSING = 'a url needs the extra "notify": pip install "make-for-milestones[notify]"; a command needs no extra'


@runtime_checkable
class NotificationPlugin(Protocol):
    """Sends notices; entry point group `make_for_milestones.notifications`."""

    def send(self, notice: Notice, timeout: float) -> str | None:
        """Send a notice; returns None, or the reason why it was not sent. An empty reason counts as sent.

        Called on the sending thread. An exception counts as a failed notice.

        Args:
            notice: the notice; secret values are already redacted.
            timeout: maximum seconds.
        """
        ...


def apprise_there() -> bool:
    """Return whether Apprise is available for urls."""
    return find_spec("apprise") is not None


def send(channel: Channel, notice: Notice) -> str | None:
    """Send a notice; returns why it was not sent, or None."""
    try:
        if channel.plugin:
            plugin: NotificationPlugin = load("notifications", channel.plugin, NotificationPlugin)
            return plugin.send(notice, channel.timeout)
        return _to_command(channel, notice) if channel.command else _to_url(channel, notice)
    except Exception as error:  # noqa: BLE001  (whatever a service's code raises, it is a message that was not sent)
        return f"{type(error).__name__}: {error}"


def _to_command(channel: Channel, notice: Notice) -> str | None:
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
        return None
    words = done.stderr.decode("utf-8", "replace").split()
    return f"{argv[0]} ended with {done.returncode}" + (f": {' '.join(words)[:200]}" if words else "")


def _filled(word: str, values: dict[str, str]) -> str:
    for key, text in values.items():
        if word == f"{{{key}}}":
            return text
    return word.format_map(values)


def _to_url(channel: Channel, notice: Notice) -> str | None:
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
    return (
        None if sent else _without_values(channel.url, f"not delivered: {' '.join(str(said.getvalue()).split())[:300]}")
    )


def _url(url: str) -> str:
    """Return the url with its variables; a value within a url is quoted, a complete url is used unchanged."""
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


PATIENCE, IN_A_HURRY = 30.0, 3.0
"""Seconds that the end of a run, and of an interrupted one, waits for pending notices."""
_FAILURES = 2
"""Consecutive failures after which a channel is skipped for the rest of the run."""
_NEWS = timedelta(days=1)
"""Maximum age of a blocker to report."""


class Teller:
    """Sends notices over the channels that subscribe to them."""

    def __init__(self, channels: Mapping[str, Channel], secrets: Iterable[str], warn: Callable[[str], None]) -> None:
        self._channels = channels
        self._secrets = tuple(secrets)
        self._warn = warn
        self._queue: SimpleQueue[tuple[Notice, str, Callable[[Notice, str], None]] | None] = SimpleQueue()
        self._asked: set[tuple[str, str]] = set()
        self._failures: dict[str, int] = {}
        self._thread = threading.Thread(target=self._work, name="teller", daemon=True)
        self._thread.start()

    def say(self, notice: Notice, sent: set[tuple[str, str]], record: Callable[[Notice, str], None]) -> None:
        """Queue a notice for every subscribed channel that has not received it; returns immediately.

        Args:
            notice: the notice.
            sent: (channel, event) of earlier deliveries.
            record: called with notice and channel after the delivery.
        """
        for name, channel in self._channels.items():
            place = (name, notice.event)
            if notice.kind in channel.events and place not in sent and place not in self._asked:
                self._asked.add(place)
                self._queue.put((notice, name, record))

    def close(self, patience: float = PATIENCE) -> None:
        """Send pending notices, within that many seconds."""
        self._queue.put(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            self._warn(f"not every notification could be sent within {patience:.0f} s; the next run sends the rest")
            with suppress(Empty):
                while True:
                    self._queue.get_nowait()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            notice, name, record = item
            if self._failures.get(name, 0) >= _FAILURES:
                continue
            problem = send(self._channels[name], self._redacted(notice))
            if problem:
                self._failures[name] = self._failures.get(name, 0) + 1
                self._warn(f"notification {name}: {problem}; the next run tries again")
                continue
            self._failures.pop(name, None)
            with suppress(ExecutorError):  # then it is sent once more, which is better than never
                record(notice, name)

    def _redacted(self, notice: Notice) -> Notice:
        title, body = notice.title, notice.body
        for secret in self._secrets:
            title, body = title.replace(secret, MARK.decode()), body.replace(secret, MARK.decode())
        return Notice(notice.kind, notice.milestone, notice.issue, notice.event, title, body)


def require_channels(channels: Mapping[str, Channel]) -> None:
    """Verify that every channel is usable.

    Raises:
        UsageError: a url is declared and Apprise is not installed, or a plug-in is unusable.
    """
    for channel in channels.values():
        if channel.plugin:
            load("notifications", channel.plugin, NotificationPlugin)
    wanting = [name for name, channel in channels.items() if channel.url]
    if wanting and not apprise_there():
        raise UsageError(f"rules/notify.toml: notify.{wanting[0]}: {APPRISE_MISSING}")


def sent_before(events: Iterable[Record]) -> set[tuple[str, str]]:
    """Return (channel, event) of every delivery in a journal."""
    return {(item.channel, item.of) for record in events if isinstance(item := record.event, Notified)}


@contextmanager
def notifying(session: Session) -> Iterator[None]:
    """Send notices about a session's runs inside the block.

    Raises:
        UsageError: a channel is unusable.
    """
    channels = session.policy.notify
    require_channels(channels)
    listener = _Listener(session, Teller(channels, session.secrets, lambda text: _warn(session, text)))
    session.listeners.append(listener.heard)
    session.resting.append(listener.rested)
    try:
        yield
        listener.completed()
    finally:
        session.listeners.remove(listener.heard)
        session.resting.remove(listener.rested)
        listener.teller.close(IN_A_HURRY if session.stopping.is_set() else PATIENCE)


def _warn(session: Session, text: str) -> None:
    for run in session.runs()[:1]:
        run.warn(text)


class _Listener:
    """Turns events of a session into notices."""

    def __init__(self, session: Session, teller: Teller) -> None:
        self.teller = teller
        self._session = session
        self._deciding: dict[str, str] = {}
        self._sent: dict[str, set[tuple[str, str]]] = {}
        recent = (datetime.now(UTC) - _NEWS).isoformat()
        for run in session.runs():
            self._sent[run.name] = sent_before(run.journal.events)
            for event in run.journal.events:
                if event.kind in DECIDING:
                    self._deciding[str(IssueRef(run.name, event.key))] = event_id(run.name, event)
                elif event.at >= recent:
                    self._about(run.name, event)

    def heard(self, milestone: str, event: Record) -> None:
        """Process an event of a milestone."""
        if event.kind in DECIDING:
            self._deciding[str(IssueRef(milestone, event.key))] = event_id(milestone, event)
        else:
            self._about(milestone, event)

    def rested(self, ref: str, decision: Decision) -> None:
        """Process the end of an issue in this run."""
        run = self._session.run_of(IssueRef.parse(ref).milestone)
        state = run.facts(ref).state
        rules = state.stop.rules if state.stop is not None else frozenset()
        event = self._deciding.get(ref) or f"{ref}:{decision.status}:{decision.attempt}"
        notice = of_rest(ref, run.issue(ref).title, decision, rules, event)
        if notice is not None:
            self._say(run.name, notice)

    def completed(self) -> None:
        """Send notices at the end of the run about milestones that have landed completely."""
        for run in self._session.runs():
            refs = [str(IssueRef(run.name, issue.id)) for issue in run.milestone.issues]
            if refs and all(run.decision(ref).status is Status.LANDED for ref in refs):
                milestone = run.milestone
                self._say(
                    run.name, of_completion(run.name, milestone.title, len(refs), str(milestone.branch), run.view.tip)
                )

    def _about(self, milestone: str, event: Record) -> None:
        notice = of_event(milestone, event)
        if notice is not None:
            self._say(milestone, notice)

    def _say(self, milestone: str, notice: Notice) -> None:
        def sent(found: Notice, channel: str) -> None:
            self._session.run_of(milestone).record(Notified(channel=channel, of=found.event), found.issue)

        self.teller.say(notice, self._sent[milestone], sent)


NOTICES = (
    Notice("review", "m4", "4.1", "m4/4.1:stopped:1", "m4/4.1 waits for a person", "Two lines.\nThe second."),
    Notice("digest", "", "", "digest:1", "Nothing happened", ""),
    Notice("failed", "m4", "4.2", "m4/4.2:failed:1", "Füge ein \N{PARTY POPPER}", "x" * 20_000),
    Notice("question", "m4", "4.3", "m4/4.3:question:1", '"; rm -rf / #', "${HOME} {title} %s"),
)
"""Notices of every shape for the test of a plug-in."""
_TIMEOUT = 20.0  # seconds for one notice; it is tried again later


def check_channel(plugin: Any) -> list[str]:
    """Return the promises of `NotificationPlugin` that a plug-in breaks; empty if it keeps all.

    Args:
        plugin: the plug-in, connected to a receiver that accepts every message.
    """
    return list(_problems(plugin))


def _problems(plugin: Any) -> Iterator[str]:
    if not isinstance(plugin, NotificationPlugin):
        yield "it has no method send(notice, timeout)"
        return
    for notice in NOTICES:
        try:
            said: Any = plugin.send(notice, _TIMEOUT)
        except Exception as error:  # noqa: BLE001  (whatever a stranger's plug-in raises is what is looked for)
            yield f"it raises {type(error).__name__} for the notice {notice.event}: {error}"
            continue
        if not isinstance(said, str | None):
            yield f"it returns {type(said).__name__} for the notice {notice.event}, expected None or the reason as text"
        elif said:
            yield f"it does not send the notice {notice.event}: {said}"
