"""`rules/notify.toml`: who is told of what, and how. Pure."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from executor.core.declaration import Seconds
from executor.core.hints import quoted

__all__ = ["VARIABLE", "Channel", "NoticeKind", "channel_problems"]

NoticeKind = Literal["review", "failed", "skipped", "question", "blocker", "complete", "released", "digest"]
_USUAL: tuple[NoticeKind, ...] = ("review", "failed", "question", "blocker", "complete", "released", "digest")
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A variable of the environment in a url."""
_PASSWORD = re.compile(r"://[^/@:?]*:[^/@?]+@")
_PLACES = frozenset({"kind", "milestone", "issue", "title", "body", "event"})
_WORD = re.compile(r"\{([^{}]*)\}")


class Channel(BaseModel):
    """One way to somebody.

    Attributes:
        name: what it is called.
        url: where to, as Apprise writes it; ``${NAME}`` stands for a variable of the environment.
        command: argument list that is given the text on standard input; ``{title}``, ``{body}``, ``{kind}``,
            ``{milestone}``, ``{issue}`` and ``{event}`` are filled in.
        events: what is told.
        env: names of variables that the command is given besides the ordinary ones.
        timeout: seconds that one message may take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    url: str = ""
    command: tuple[str, ...] = ()
    events: tuple[NoticeKind, ...] = _USUAL
    env: tuple[str, ...] = ()
    timeout: Seconds = 20.0


def channel_problems(channel: Channel) -> list[tuple[str, str]]:
    """What is wrong with a channel: (key, problem)."""
    found: list[tuple[str, str]] = []
    if bool(channel.url) == bool(channel.command):
        found.append(("", "expected either a url or a command"))
    if _PASSWORD.search(VARIABLE.sub("", channel.url)):
        found.append(
            ("url", "expected no password in the file; write ${NAME} and put it into the environment variable NAME")
        )
    for word in channel.command:
        unknown = [name for name in _WORD.findall(word) if name not in _PLACES]
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in sorted(_PLACES))
            found.append(("command", f"unknown placeholder in {quoted(word)}; known are {known}"))
    return found
