"""Shared by the commands: options anywhere on the line, one clear message for an error, tables and JSON.

doit's own database is a cache here: a damaged file counts as empty, and writes replace the file.

Which milestone a command is about when none is named.
"""

from __future__ import annotations

import errno
import getopt
import json
import os
import sys
import traceback
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict
from unicodedata import combining, east_asian_width

from doit.cmd_base import Command as DoitCommand
from doit.dependency import DatabaseException, JsonDB

from executor.commands.output import as_text, complain, discard, may_refuse, prepare, protected
from executor.commands.user_code import user_fault
from executor.errors import DeclarationError, ExecutorError, StateFullError, UsageError
from executor.process.files import write_atomic
from executor.status.summary_cache import index_of, is_held

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from executor.config.project import Compiled, Project
    from executor.errors import Fault

    Options = TypedDict(
        "Options",
        {
            "accept": list[str],
            "agent": str,
            "all": bool,
            "at": str,
            "attempt": int,
            "base": bool,
            "body": str,
            "brief": bool,
            "budget": str,
            "catch-up": bool,
            "dep_file": str,
            "default_tasks": list[str],
            "done_as_landed": str,
            "dry_run": bool,
            "edit": bool,
            "encoding": str,
            "env-file": str,
            "events": bool,
            "file": str,
            "follow": bool,
            "force": bool,
            "format": str,
            "formats": bool,
            "from_": str,
            "id": str,
            "interval": float,
            "json": bool,
            "open": bool,
            "milestone": str | list[str],  # import takes one, cron several
            "moved": bool,
            "needs": str,
            "num_process": int,
            "once": bool,
            "output": str,
            "overwrite": bool,
            "plain": bool,
            "raw": bool,
            "reason": str,
            "refresh": bool,
            "repair": bool,
            "quiet": bool,
            "show": bool,
            "since": str,
            "skip_unknown_needs": bool,
            "split": bool,
            "subtasks": bool,
            "systemd": bool,
            "tag": str,
            "take_over": bool,
            "tasks": bool,
            "to": str,
            "trust": bool,
            "type": str,
            "until": str,
        },
        total=False,
    )
    """Values of the options of all commands by name; doit gives each command the options that it declares.
    `default_tasks`, `dep_file`, `num_process`, `quiet` and `subtasks` are doit's own.
    """
else:  # at run time the class would cost each command a millisecond
    Options = dict

__all__ = [
    "JSON_OPTION",
    "REASON_OPTION",
    "Command",
    "Options",
    "Output",
    "TolerantJson",
    "asks_help",
    "ending_of",
    "guarded",
    "meant_milestone",
    "none_but_options",
    "option",
    "permuted",
    "print_json",
    "report_faults",
    "require_here",
    "safe",
    "show_help",
    "table",
    "worse",
]


def option(name: str, text: str, kind: type = str, *, default: object = None, short: str = "") -> dict[str, object]:
    """Return an option in doit's form; without a default, it is the empty value of its type.

    A name with an underscore at its end is a word that Python reserves: `from_` is ``--from``.
    """
    given, long = kind() if default is None else default, name.rstrip("_").replace("_", "-")
    return {"name": name, "short": short, "long": long, "type": kind, "default": given, "help": text}


JSON_OPTION = option("json", "print JSON instead of a table", bool)

REASON_OPTION = option("reason", "reason, stored with the decision")


class Output(StrEnum):
    """The effect of unwritable output on a command."""

    PROTECTED = "protected"
    """It continues, and its exit code reports its work: for commands with effects."""
    VIEW = "view"
    """It ends, silently if its reader has ended: for commands that only show something."""
    FOREIGN = "foreign"
    """doit handles it: for the user's tasks."""


class Command(DoitCommand):
    """A command that needs no tasks. Subclasses implement `run` and return an exit code."""

    output = Output.PROTECTED
    has_files = False  # whether words may name files; others are text

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line, options anywhere on it, and run; an expected error becomes one message and its exit code."""
        words = as_typed(self.name, in_args, sys.argv[1:])
        if asks_help(words):
            return guarded(lambda: show_help(self), Output.VIEW)
        action = super().parse_execute
        return guarded(lambda: action(permuted(self, words if self.has_files else as_text(words))), self.output)

    def execute(self, opt_values: Options, pos_args: list[str]) -> int:
        """Called by doit."""
        return self.run(opt_values, pos_args)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Run the command and return its exit code."""
        raise NotImplementedError


_INTERRUPTED = 130
"""Exit code of a shell command that SIGINT ended."""


def guarded(action: Callable[[], Any], output: Output = Output.PROTECTED) -> int:
    """Run an action that returns an exit code; errors become messages on standard error and their exit codes."""
    prepare()
    with protected() if output is Output.PROTECTED or may_refuse() else nullcontext():
        try:
            code = int(action())
            if output is Output.VIEW:
                sys.stdout.flush()
        except Exception as error:
            if isinstance(error, OSError) and output is not Output.PROTECTED and _is_output(error):
                return _unwritten(error, output)
            if error.__class__.__module__.startswith("doit."):
                raise
            return _reported(error)
        except KeyboardInterrupt:
            return _INTERRUPTED  # nothing else happens here, because a second signal may come at any moment
        except SystemExit as error:
            if not user_fault(error, Path.cwd()):
                raise
            return _reported(error)
    return code


def ending_of(error: BaseException, root: Path) -> tuple[int, str]:
    """Return exit code and message for an exception that ends a command.

    Args:
        error: the exception.
        root: folder of the user's dodo.py.
    """
    match error:
        case ExecutorError():
            found = error.exit_code, str(error)
        case KeyboardInterrupt():
            found = _INTERRUPTED, "SIGINT"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            found = StateFullError.exit_code, f"{error}; nothing is lost; free some space and run again"
        case _ if fault := user_fault(error, root):
            found = UsageError.exit_code, fault
        case _ if type(error).__module__.startswith("doit."):
            found = UsageError.exit_code, str(error)
        case _:
            found = ExecutorError.exit_code, f"{type(error).__name__}: {error}"
    return found


def _reported(error: BaseException) -> int:
    """Print why a command ends; returns its exit code."""
    code, why = ending_of(error, Path.cwd())
    if code == ExecutorError.exit_code and not isinstance(error, ExecutorError):
        complain("".join(traceback.format_exception(error)))
        why = "The executor itself failed; nothing that has landed is affected. Please report the lines above."
    if not isinstance(error, KeyboardInterrupt):
        complain("".join(f"{safe(line)}\n" for line in why.splitlines()))
    return code


def _is_output(error: OSError) -> bool:
    """Return whether standard output is unwritable; an error with a file name is about that file."""
    return error.filename is None and (isinstance(error, BrokenPipeError) or error.errno in {errno.ENOSPC, errno.EIO})


def _unwritten(error: OSError, output: Output) -> int:
    if output is Output.FOREIGN:
        raise error
    discard(1)
    if isinstance(error, BrokenPipeError):
        return 0
    complain(f"standard output: {error.strerror}\n")
    return StateFullError.exit_code


def asks_help(words: list[str]) -> bool:
    """Return whether the command line requests help."""
    return not {"-h", "--help"}.isdisjoint(words)


def show_help(command: Any) -> int:
    """Print the output of `doit help COMMAND`; returns the exit code."""
    sys.stdout.write(f"{command.help()}\n")
    return 0


def report_faults(faults: Sequence[Fault]) -> int:
    """Print the faults of omitted milestones; returns the resulting exit code."""
    sys.stderr.write("".join(f"{safe(str(fault))}\n" for fault in faults))
    return DeclarationError.exit_code if faults else 0


def none_but_options(command: Any, arguments: list[str]) -> None:
    """Refuse arguments other than options.

    Raises:
        UsageError: an argument was given.
    """
    if arguments:
        raise UsageError(f'`doit {command.name}` takes no arguments, found "{arguments[0]}"')


def as_typed(name: str, words: list[str], line: list[str]) -> list[str]:
    """Return the words of a command, with those that doit took for variables because they contain an equals sign.

    A text such as `set TIMEOUT=5` is an answer or a reason, and none of our commands has variables (doit's
    `DoitMain.process_args` removes them before it looks for the command).

    Args:
        name: the command.
        words: what doit handed over.
        line: the whole command line.
    """
    typed = line[line.index(name) + 1 :] if name in line else words
    return typed if [word for word in typed if word.startswith("-") or "=" not in word] == words else words


def require_here(params: Mapping[str, object]) -> None:
    """Verify that doit's options name no other folder: milestones are those of the folder with the configuration.

    Raises:
        UsageError: `--dir` or `--file` leads elsewhere.
    """
    folder, file = str(params.get("cwdPath") or "."), str(params.get("dodoFile") or "dodo.py")
    for option, found, place in (("--dir", folder, Path(folder)), ("--file", file, Path(file).parent)):
        if place.resolve() != Path.cwd():
            raise UsageError(
                f"{option} {found}: milestones run in the folder of their configuration; change to that folder, or run "
                "`make-for-milestones COMMAND` in any folder of that repository"
            )
    if not Path(file).is_file():
        raise UsageError(f"--file {file}: no such file")


def permuted(command: Any, words: list[str]) -> list[str]:
    """Return the arguments with options first, as doit's parser expects.

    Raises:
        UsageError: an unknown option, one without its value, or one with an invalid number.
    """
    parser = command.cmdparser
    try:
        options, rest = getopt.gnu_getopt(words, parser.get_short(), parser.get_long())
    except getopt.GetoptError as error:
        raise UsageError(f"{error}; `doit help {command.name}` lists the options") from error
    flat: list[str] = []
    for name, value in options:
        kind = parser.get_option(name)[0].type
        _require_number(name, value, kind)
        if not name.startswith("--"):
            flat.append(name + value)
        else:
            flat.append(name if kind is bool else f"{name}={value}")
    return [*flat, "--", *rest]


def _require_number(option: str, value: str, kind: type) -> None:
    if kind not in {int, float}:
        return
    try:
        kind(value)
    except ValueError:
        number = "a whole number" if kind is int else "a number"
        raise UsageError(f'{option}: expected {number}, found "{value}"') from None


def safe(text: str) -> str:
    """Return text for a terminal, without control, format and bidirectional characters."""
    return "".join(char if char.isprintable() else "�" for char in text)


def print_json(value: object) -> None:
    """Print a JSON value."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def table(rows: list[list[str]]) -> str:
    """Format rows as aligned columns; the last column is not padded."""
    if not rows:
        return ""
    widths = [max(_cells(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [safe(cell) + " " * (width - _cells(cell)) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, safe(row[-1])]).rstrip())
    return "\n".join(lines)


def unproved_note(refs: Sequence[str]) -> str:
    """Format a line about issues without any proof; empty without any."""
    if not refs:
        return ""
    more = f" and {len(refs) - _UNPROVED} more" if len(refs) > _UNPROVED else ""
    names = ", ".join(map(safe, refs[:_UNPROVED]))
    return f"unproved: {names}{more}: add an acceptance command, or a check to the route\n"


_UNPROVED = 5
"""Maximum number of issues in one line."""


def _cells(text: str) -> int:
    """Return the number of terminal cells of a text: wide letters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in {"W", "F"} else 1 for char in text)


def worse(*codes: int) -> int:
    """Return the most severe exit code: executor error, failure, person needed, time needed, success."""
    return max(codes, key=(0, 75, 4, 1, 2).index)


class TolerantJson(JsonDB):
    """doit's JSON backend that tolerates a damaged file."""

    desc = "JSON file that may be lost or damaged at any time"

    def _load(self) -> dict[str, object]:
        try:
            found = super()._load()
        except (DatabaseException, OSError, UnicodeDecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    def dump(self) -> None:
        """Replace the file; a failure is harmless, the next run only checks more."""
        path = Path(os.path.abspath(self.name))  # noqa: PTH100  (doit's name may be relative to its working directory)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, self.codec.encode(self._db).encode(), durable=False)
        except (OSError, ExecutorError):
            return


def meant_milestone(compiled: Compiled, names: Sequence[str], command: str) -> str:
    """Return the named milestone, or the default one.

    Args:
        compiled: the declarations.
        names: names on the command line, with or without ``milestone:``.
        command: the command, for the message.

    Raises:
        UsageError: more than one is named, or none and the default is ambiguous, or it does not exist.
    """
    if len(names) > 1:
        raise UsageError(f"name one milestone, for example `doit {command} {names[0]}`")
    if names:
        return compiled.milestone(names[0].removeprefix("milestone:")).id
    return _meant(compiled.project, command)


def _meant(project: Project, command: str) -> str:
    """Return the running milestone, else the only incomplete one.

    Raises:
        UsageError: there is no such milestone.
    """
    items = index_of(project).milestones
    for found in (
        [item["id"] for item in items if is_held(project, item["id"])],
        [item["id"] for item in items if item["landed"] < item["total"]],
        [item["id"] for item in items],
    ):
        if len(found) == 1:
            return str(found[0])
        if found:
            raise UsageError(
                f"name one milestone, for example `doit {command} {found[0]}`; there are {', '.join(found)}"
            )
    raise UsageError("milestones/ declares no milestone; `doit new` creates one")
