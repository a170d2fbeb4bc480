"""`doit cron`: the nightly entry in the user's crontab: install, remove or show it, with the last results.

The entry is one marked line, or a systemd service and timer. The crontab is read, checked and replaced as a whole, and
foreign lines stay as they are, byte for byte: the crontab library would reformat them, so it only validates our line.
Variables that cron does not set come from a file of NAME=VALUE lines.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from difflib import ndiff
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from executor.commands.base import JSON_OPTION, Command, Options, option, print_json, safe
from executor.config.project import compile_project, open_project
from executor.errors import ExecutorError, UsageError
from executor.model.clock import clock_time, deadline_of, next_at, zone_time
from executor.model.hints import counted
from executor.process.files import LOCAL, utcnow
from executor.report.nights import Nights, Schedule, night_json, night_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from executor.config.project import Project

__all__ = ["ENV_FILE", "MOST", "Cron", "cron_line", "marker", "ours", "read_env_file", "spliced", "systemd_units"]


ENV_FILE = option("env-file", "file with NAME=VALUE lines for agents and notifications, readable only by you")
_AT = option("at", "time of day at which it runs", default="01:30")
_UNTIL = option("until", "start no issue that is not expected to end by this time, for example 06:00")
_MILESTONE = option("milestone", "id of a milestone; may be repeated (default: all incomplete milestones)", list)
_SYSTEMD = option("systemd", "show a systemd service and timer instead", bool)


class Cron(Command):
    """Manages one marked line per repository; all other lines of the crontab stay unchanged."""

    name = "cron"
    doc_purpose = "install, remove or show the nightly entry"
    doc_usage = "install | remove | show"
    cmd_options = (_AT, _UNTIL, _MILESTONE, ENV_FILE, _SYSTEMD, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Run the subcommand."""
        actions: dict[str, Callable[[Project, Options], int]] = {
            "install": _install,
            "remove": _remove,
            "show": _show,
        }
        word = arguments[0] if arguments else "show"
        if word not in actions or len(arguments) > 1:
            words = " ".join(arguments)
            raise UsageError(f'expected `doit cron install`, `remove` or `show`, found "{words}"')
        return actions[word](open_project(), options)


def _install(project: Project, options: Options) -> int:
    schedule, lines = _entry(project, options)
    wrong = [line for line in lines if not _valid(line)]
    if wrong:
        raise UsageError(f"cron does not understand {wrong[0]}")
    before = _read()
    after = spliced(before, str(project.root), lines)
    nights = Nights(project.cache)
    kept = nights.schedule()
    if after != before:
        _write(after)
        # Some `crontab` commands drop or rewrite a line and still exit 0, so the table is read again.
        if ours(_read(), str(project.root)) != lines:
            raise UsageError("`crontab` changed or dropped the entry; it will not run")
    if kept is None or (kept.at, kept.until, kept.milestones) != (schedule.at, schedule.until, schedule.milestones):
        nights.keep(schedule)
    _tell_change(before, after, str(project.root))
    if not _daemon_runs():
        sys.stdout.write("note: no cron daemon is running here, so the entry runs only after you start one\n")
    sys.stdout.write(f"next run: {zone_time(next_at(clock_time(schedule.at), utcnow(), LOCAL), LOCAL)}\n")
    return 0


def _remove(project: Project, _options: Options) -> int:
    before = _read()
    after = spliced(before, str(project.root), [])
    if after != before:
        _write(after)
    Nights(project.cache).keep(None)
    _tell_change(before, after, str(project.root))
    return 0


def _show(project: Project, options: Options) -> int:
    if options["systemd"]:
        schedule, _ = _entry(project, options)
        sys.stdout.write(systemd_units(schedule.at, str(project.root), _environment(), _argv(schedule, options)))
        return 0
    lines = ours(_read(), str(project.root))
    nights = Nights(project.cache)
    outlook = nights.outlook(utcnow(), LOCAL)
    if options["json"]:
        print_json({"entries": lines, "daemon": _daemon_runs(), "nightly": night_json(outlook)})
        return 0
    texts = [f"  {line}" for line in lines] or ["no nightly entry; `doit cron install` creates one"]
    if lines and not _daemon_runs():
        texts.append("note: no cron daemon is running here")
    if lines and outlook is None:
        texts.append("the last run is unknown until the next run or `doit cron install`")
    texts += night_lines(outlook) if lines else []
    latest = nights.latest_log()
    if latest is not None:
        texts.append(f"last log: {latest.relative_to(project.root)}")
    sys.stdout.write("".join(f"{safe(line)}\n" for line in texts))
    return 0


def _entry(project: Project, options: Options) -> tuple[Schedule, list[str]]:
    """Return the schedule and the crontab lines for the options."""
    compiled = compile_project(project)
    if not compiled.loaded.milestones:
        raise UsageError(f"no milestones are declared in {project.milestones}; the nightly run would do nothing")
    if options["env-file"]:
        read_env_file(options["env-file"])
    names = tuple(compiled.milestone(name.removeprefix("milestone:")).id for name in list(options["milestone"]))
    now = utcnow()
    try:
        at = f"{clock_time(options['at']):%H:%M}"
    except ValueError as error:
        raise UsageError(f"--at: {error}") from error
    try:
        if options["until"]:
            deadline_of(f"{clock_time(options['until']):%H:%M}", now, LOCAL)
    except ValueError as error:
        raise UsageError(f"--until: {error}") from error
    schedule = Schedule(at, options["until"], names, now)
    hour, _, minute = at.partition(":")
    argv = _argv(schedule, options)
    whens = {f"{int(minute)} {int(hour)} * * *": argv}
    if compiled.policy.limits.catch_up == "at-boot":
        whens["@reboot"] = [*argv, "--catch-up"]
    try:
        lines = [cron_line(when, str(project.root), _environment(), words) for when, words in whens.items()]
    except ValueError as error:
        raise UsageError(str(error)) from error
    return schedule, lines


def _argv(schedule: Schedule, options: Options) -> list[str]:
    words = [sys.executable, "-m", "doit", "nightly", "--at", schedule.at]
    if schedule.until:
        words += ["--until", schedule.until]
    if options["env-file"]:
        words += ["--env-file", str(Path(options["env-file"]).expanduser().absolute())]
    return [*words, *schedule.milestones]


def _environment() -> dict[str, str]:
    """Return variables that cron lacks: the existing part of PATH, UTF-8, and the import path of the executor."""
    folders = [part for part in os.environ.get("PATH", "").split(os.pathsep) if part.startswith("/")]
    given = {"PATH": os.pathsep.join(dict.fromkeys(part for part in folders if Path(part).is_dir())), "PYTHONUTF8": "1"}
    if os.environ.get("PYTHONPATH"):
        given["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return given


def _tell_change(before: str, after: str, folder: str) -> None:
    changes = [line for line in ndiff(before.splitlines(), after.splitlines()) if line.startswith(("- ", "+ "))]
    others = len([line for line in after.splitlines() if line and line not in ours(after, folder)])
    rest = f"{counted(others, 'other line')} of the crontab left unchanged"
    head = [] if changes else ["nothing to change"]
    sys.stdout.write("".join(f"{safe(line)}\n" for line in [*head, *changes, rest]))


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
    # For cron an unescaped % ends the command, even within quotes.
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    command = f"cd {shlex.quote(folder)} && {given} {shlex.join(argv)}".replace("%", r"\%")
    line = f"{when} {command} {marker(folder)}"
    if not line.isprintable():
        raise ValueError(f"a crontab cannot contain control characters, found some in {line!a}")
    if len(line) > MOST:
        raise ValueError(
            f"the entry has {len(line)} characters, but at most {MOST} are safe in a crontab; install it with a "
            "shorter PATH, for example `PATH=/usr/local/bin:/usr/bin:/bin doit cron install`"
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
    # The empty part behind the last newline would become a blank line before ours.
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
_PATIENCE = 30.0  # seconds; `crontab` edits one small file


def _read() -> str:
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


def _write(text: str) -> None:
    """Replace the user's crontab.

    Raises:
        ExecutorError: `crontab` refuses it; the old one remains.
    """
    done = _crontab("-", text)
    if done.returncode != 0:
        raise ExecutorError(f"`crontab` refused the new entry: {done.stderr.strip()}; nothing was changed")


def _valid(line: str) -> bool:
    """Return whether a line is a valid crontab entry."""
    from crontab import CronTab

    jobs = list(CronTab(tab=f"{line}\n"))
    return len(jobs) == 1 and jobs[0].is_valid() and jobs[0].is_enabled()


def _daemon_runs() -> bool:
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
            errors="surrogateescape",  # lines of the user in another encoding come back byte for byte
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise ExecutorError(
            "the command `crontab` is missing; install cron, or use the timer of `doit cron show --systemd`"
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
    from dotenv.parser import parse_stream

    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key is not None and (binding.value is None or not binding.key.isidentifier())):
            # python-dotenv counts blank lines before a binding as a part of it.
            blank = len(binding.original.string) - len(binding.original.string.lstrip("\n"))
            line = binding.original.line + blank
            raise UsageError(f"--env-file {path}, line {line}: expected NAME=VALUE")
        if binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    return found
