"""The nightly entry as text: one marked line per repository in a crontab, or a systemd service and timer. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MOST", "cron_line", "marker", "ours", "spliced", "systemd_units"]

MOST = 900
"""Longest line; some cron daemons refuse commands of a thousand characters."""
_NAME = "make-for-milestones"


def marker(folder: str) -> str:
    """The end of every line of ours for a repository, by which it is found again."""
    return f"# {_NAME}: {folder}".replace("%", r"\%")


def cron_line(when: str, folder: str, environment: Mapping[str, str], argv: Sequence[str]) -> str:
    """One line of a crontab that runs a command in a folder.

    Args:
        when: five fields, or ``@reboot``.
        folder: absolute path.
        environment: variables that cron does not give.
        argv: absolute program and its arguments.

    Raises:
        ValueError: it cannot be one line, or is too long for one; the message is for people.
    """
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    command = f"cd {shlex.quote(folder)} && {given} {shlex.join(argv)}".replace("%", r"\%")
    line = f"{when} {command} {marker(folder)}"
    if not line.isprintable():
        raise ValueError(f"a crontab has no room for control characters, found some in {line!a}")
    if len(line) > MOST:
        raise ValueError(
            f"the entry has {len(line)} characters, at most {MOST} are safe in a crontab; install it with a shorter "
            "PATH, for example `PATH=/usr/local/bin:/usr/bin:/bin doit cron install`"
        )
    return line


def ours(text: str, folder: str) -> list[str]:
    """The lines of a crontab that are ours for a folder."""
    end = f" {marker(folder)}"
    return [line for line in text.split("\n") if line.endswith(end) and not line.startswith("#")]


def spliced(text: str, folder: str, lines: Sequence[str]) -> str:
    """A crontab with our lines for a folder replaced by others; every other byte is as before."""
    mine = set(ours(text, folder))
    kept = [line for line in text.split("\n") if line not in mine]
    if not lines:
        return "\n".join(kept)
    if kept and kept[-1] == "":
        kept.pop()
    return "\n".join([*kept, *lines, ""])


def systemd_units(at: str, folder: str, environment: Mapping[str, str], argv: Sequence[str]) -> str:
    """A service and a timer for `~/.config/systemd/user/` that do the same."""
    given = "".join(f"Environment={_unit_quoted(f'{name}={value}')}\n" for name, value in environment.items())
    return (
        f"# ~/.config/systemd/user/{_NAME}.service\n"
        "[Unit]\n"
        f"Description=Nightly run of the milestones of {_unit_text(folder)}\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"WorkingDirectory={_unit_text(folder)}\n"
        f"{given}"
        f"ExecStart={' '.join(map(_unit_quoted, argv))}\n"
        "SuccessExitStatus=75\n"
        "\n"
        f"# ~/.config/systemd/user/{_NAME}.timer\n"
        "[Unit]\n"
        f"Description=Every night at {at}\n"
        "\n"
        "[Timer]\n"
        f"OnCalendar=*-*-* {at}:00\n"
        "Persistent=true\n"
        "\n"
        "[Install]\n"
        "WantedBy=timers.target\n"
    )


def _unit_text(text: str) -> str:
    return text.replace("%", "%%")


def _unit_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{_unit_text(escaped)}"'
