"""Tests a notification plug-in against its protocol; a package with such a plug-in runs this in its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.notify.phase_hook import Notice
from executor.notify.queue import NotificationPlugin

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NOTICES", "check"]

NOTICES = (
    Notice("review", "m4", "4.1", "m4/4.1:stopped:1", "m4/4.1 waits for a person", "Two lines.\nThe second."),
    Notice("digest", "", "", "digest:1", "Nothing happened", ""),
    Notice("failed", "m4", "4.2", "m4/4.2:failed:1", "Füge ein \N{PARTY POPPER}", "x" * 20_000),
    Notice("question", "m4", "4.3", "m4/4.3:question:1", '"; rm -rf / #', "${HOME} {title} %s"),
)
"""Notices of every shape for the test of a plug-in."""
_TIMEOUT = 20.0


def check(plugin: Any) -> list[str]:
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
        if not isinstance(said, str):
            yield f"it returns {type(said).__name__} for the notice {notice.event}, expected text"
        elif said:
            yield f"it does not send the notice {notice.event}: {said}"
