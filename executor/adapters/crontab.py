"""The user's crontab: read, checked and replaced as a whole; what is not ours stays as it is, byte for byte.

The library would write other people's lines in its own words, so it only says whether ours are right.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from crontab import CronTab

from executor.errors import ExecutorError

__all__ = ["daemon_runs", "read", "replace", "valid"]

_NAMES = frozenset({"cron", "crond", "fcron", "dcron", "bcron-sched"})
_PATIENCE = 30.0


def read() -> str:
    """The user's crontab; empty if there is none.

    Raises:
        ExecutorError: there is no `crontab` command, or it refuses.
    """
    done = _crontab("-l")
    if done.returncode == 0:
        return done.stdout
    if "no crontab for" in done.stderr:
        return ""
    raise ExecutorError(f"`crontab -l` failed: {done.stderr.strip()}")


def replace(text: str) -> None:
    """Make this the user's crontab.

    Raises:
        ExecutorError: `crontab` refuses it; the old one stays.
    """
    done = _crontab("-", text)
    if done.returncode != 0:
        raise ExecutorError(f"`crontab` refused the new entry: {done.stderr.strip()}; nothing was changed")


def valid(line: str) -> bool:
    """Whether a line is an entry that cron understands."""
    jobs = list(CronTab(tab=f"{line}\n"))
    return len(jobs) == 1 and jobs[0].is_valid() and jobs[0].is_enabled()


def daemon_runs() -> bool:
    """Whether there is a cron daemon to take notice of the entry."""
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
