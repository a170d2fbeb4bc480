"""`doit cron`: the nightly entry in the user's crontab: install, remove or show it, with the last results."""

from __future__ import annotations

import os
import sys
from difflib import ndiff
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.commands.base import JSON_OPTION, Command, Options, print_json, safe
from executor.config.project import compile_project, open_project
from executor.errors import UsageError
from executor.model.clock import clock_time, deadline_of, next_at, zone_time
from executor.model.hints import counted
from executor.nightly.schedule import Nights, Schedule, cron_line, ours, read_env_file, spliced, systemd_units
from executor.process.files import LOCAL, utcnow

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.config.project import Project
    from executor.nightly.schedule import Outlook
    from executor.status.rows import NightRow

__all__ = ["ENV_FILE", "Cron", "night_json", "night_lines"]


def _option(name: str, text: str, kind: type = str, default: Any = "") -> dict[str, object]:
    return {"name": name, "short": "", "long": name, "type": kind, "default": default, "help": text}


ENV_FILE = _option("env-file", "file with NAME=VALUE lines for agents and notifications, readable only by you")
_AT = _option("at", "time of day at which it runs", default="01:30")
_UNTIL = _option("until", "start no issue that is not expected to end by this time, for example 06:00")
_MILESTONE = _option("milestone", "id of a milestone; may be repeated (default: all incomplete milestones)", list, [])
_SYSTEMD = _option("systemd", "show a systemd service and timer instead", bool, default=False)


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
    from executor.nightly.schedule import daemon_runs, read, valid, write

    schedule, lines = _entry(project, options)
    wrong = [line for line in lines if not valid(line)]
    if wrong:
        raise UsageError(f"cron does not understand {wrong[0]}")
    before = read()
    after = spliced(before, str(project.root), lines)
    nights = Nights(project.cache)
    kept = nights.schedule()
    if after != before:
        write(after)
        if ours(read(), str(project.root)) != lines:
            raise UsageError("`crontab` changed or dropped the entry; it will not run")
    if kept is None or (kept.at, kept.until, kept.milestones) != (schedule.at, schedule.until, schedule.milestones):
        nights.keep(schedule)
    _tell_change(before, after, str(project.root))
    if not daemon_runs():
        sys.stdout.write("note: no cron daemon is running here, so the entry runs only after you start one\n")
    sys.stdout.write(f"next run: {zone_time(next_at(clock_time(schedule.at), utcnow(), LOCAL), LOCAL)}\n")
    return 0


def _remove(project: Project, _options: Options) -> int:
    from executor.nightly.schedule import read, write

    before = read()
    after = spliced(before, str(project.root), [])
    if after != before:
        write(after)
    Nights(project.cache).keep(None)
    _tell_change(before, after, str(project.root))
    return 0


def _show(project: Project, options: Options) -> int:
    if options["systemd"]:
        schedule, _ = _entry(project, options)
        sys.stdout.write(systemd_units(schedule.at, str(project.root), _environment(), _argv(schedule, options)))
        return 0
    from executor.nightly.schedule import daemon_runs, read

    lines = ours(read(), str(project.root))
    nights = Nights(project.cache)
    outlook = nights.outlook(utcnow(), LOCAL)
    if options["json"]:
        print_json({"entries": lines, "daemon": daemon_runs(), "nightly": night_json(outlook)})
        return 0
    texts = [f"  {line}" for line in lines] or ["no nightly entry; `doit cron install` creates one"]
    if lines and not daemon_runs():
        texts.append("note: no cron daemon is running here")
    if lines and outlook is None:
        texts.append("the last run is unknown until the next run or `doit cron install`")
    texts += night_lines(outlook) if lines else []
    latest = nights.latest_log()
    if latest is not None:
        texts.append(f"last log: {latest.relative_to(project.root)}")
    sys.stdout.write("".join(f"{safe(line)}\n" for line in texts))
    return 0


def night_lines(outlook: Outlook | None) -> list[str]:
    """Return the lines of `doit status` and `doit cron show` about nights; empty without an entry."""
    if outlook is None:
        return []
    last = outlook.last
    if last is None:
        before = "never ran yet"
    elif outlook.alive:
        before = f"at work since {zone_time(last.started, LOCAL)}"
    elif last.code is None:
        before = f"last run {zone_time(last.started, LOCAL)} died before its end; the next one continues from there"
    else:
        before = f"last run {zone_time(last.started, LOCAL)}, exit {last.code}"
    lines = [f"nightly: {before}; next {zone_time(next_at(clock_time(outlook.schedule.at), utcnow(), LOCAL), LOCAL)}"]
    if outlook.missed:
        nights = ", ".join(zone_time(due, LOCAL) for due in outlook.missed[-5:])
        many = len(outlook.missed)
        lines.append(
            f"nightly: {many} run{'s' if many > 1 else ''} missed: {nights}; "
            "check that the machine was on; `doit nightly` does the work now"
        )
    return lines


def night_json(outlook: Outlook | None) -> NightRow | None:
    """Return the nightly entry as JSON."""
    if outlook is None:
        return None
    last = outlook.last
    return {
        "at": outlook.schedule.at,
        "until": outlook.schedule.until,
        "milestones": list(outlook.schedule.milestones),
        "since": outlook.schedule.since.isoformat(),
        "next": next_at(clock_time(outlook.schedule.at), utcnow(), LOCAL).isoformat(),
        "running": outlook.alive,
        "last": None
        if last is None
        else {
            "started": last.started.isoformat(),
            "ended": last.ended.isoformat() if last.ended else None,
            "code": last.code,
            "milestones": dict(last.results),
        },
        "missed": [due.isoformat() for due in outlook.missed],
    }


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
