"""The nightly entry as text: one marked line per repository in a crontab, or a systemd service and timer. Pure.

The user's crontab: read, checked and replaced as a whole; foreign lines are preserved byte for byte.

The crontab library would reformat foreign lines, so it is used only to validate ours.

A file of NAME=VALUE lines: variables that cron does not set, readable only by the user.
"""

from __future__ import annotations

import shlex
import subprocess
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from crontab import CronTab
from dotenv.parser import parse_stream

from executor.errors import ExecutorError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "MOST",
    "cron_line",
    "daemon_runs",
    "marker",
    "ours",
    "read",
    "read_env_file",
    "replace",
    "spliced",
    "systemd_units",
    "valid",
]


MOST = 900
"""Maximum length of a line; some cron daemons refuse commands of a thousand characters."""
_NAME = "make-for-milestones"


def marker(folder: str) -> str:
    """Return the marker at the end of our line for a repository."""
    return f"# {_NAME}: {folder}".replace("%", r"\%")


def cron_line(when: str, folder: str, environment: Mapping[str, str], argv: Sequence[str]) -> str:
    """Return a crontab line that runs a command in a folder.

    Args:
        when: five fields, or ``@reboot``.
        folder: absolute path.
        environment: variables that cron does not set.
        argv: absolute program and its arguments.

    Raises:
        ValueError: it does not fit on one line, or is too long; the message is for people.
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
    """Return our lines of a crontab for a folder."""
    end = f" {marker(folder)}"
    return [line for line in text.split("\n") if line.endswith(end) and not line.startswith("#")]


def spliced(text: str, folder: str, lines: Sequence[str]) -> str:
    """Replace our lines for a folder in a crontab; every other byte is unchanged."""
    mine = set(ours(text, folder))
    kept = [line for line in text.split("\n") if line not in mine]
    if not lines:
        return "\n".join(kept)
    if kept and kept[-1] == "":
        kept.pop()
    return "\n".join([*kept, *lines, ""])


def systemd_units(at: str, folder: str, environment: Mapping[str, str], argv: Sequence[str]) -> str:
    """Return an equivalent service and timer for `~/.config/systemd/user/`."""
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


_NAMES = frozenset({"cron", "crond", "fcron", "dcron", "bcron-sched"})
_PATIENCE = 30.0


def read() -> str:
    """Return the user's crontab; empty if there is none.

    Raises:
        ExecutorError: there is no `crontab` command, or it fails.
    """
    done = _crontab("-l")
    if done.returncode == 0:
        return done.stdout
    if "no crontab for" in done.stderr:
        return ""
    raise ExecutorError(f"`crontab -l` failed: {done.stderr.strip()}")


def replace(text: str) -> None:
    """Replace the user's crontab.

    Raises:
        ExecutorError: `crontab` refuses it; the old one remains.
    """
    done = _crontab("-", text)
    if done.returncode != 0:
        raise ExecutorError(f"`crontab` refused the new entry: {done.stderr.strip()}; nothing was changed")


def valid(line: str) -> bool:
    """Return whether a line is a valid crontab entry."""
    jobs = list(CronTab(tab=f"{line}\n"))
    return len(jobs) == 1 and jobs[0].is_valid() and jobs[0].is_enabled()


def daemon_runs() -> bool:
    """Return whether a cron daemon is running."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text(encoding="utf-8", errors="replace").strip() in _NAMES:
                return True
        except OSError:
            continue
    return False


def _crontab(argument: str, given: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["crontab", argument],  # noqa: S607  (where the user's system has it)
            input=given,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise ExecutorError(
            "there is no `crontab` command here; install cron, or use the timer of `doit cron show --systemd`"
        ) from None
    except subprocess.TimeoutExpired:
        raise ExecutorError(f"`crontab {argument}` did not answer within {_PATIENCE:.0f} s") from None


def read_env_file(name: str) -> dict[str, str]:
    """Read the variables of a file with python-dotenv: comments, quotes, `export`; nothing is expanded.

    Raises:
        UsageError: it is unreadable, others can read it, or a line is not NAME=VALUE.
    """
    path = Path(name).expanduser()
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise UsageError(f"--env-file {path} can be read by others; `chmod 600` it")
    found: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key is not None and (binding.value is None or not binding.key.isidentifier())):
            blank = len(binding.original.string) - len(binding.original.string.lstrip("\n"))
            line = binding.original.line + blank
            raise UsageError(f"--env-file {path}, line {line}: expected NAME=VALUE")
        if binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    return found
