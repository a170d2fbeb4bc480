"""`doit list`: the pending issues in execution order; without milestones, doit's own list.

doit's own commands on tasks: for tasks of milestones they work, or say what to use instead.

`doit help`: the commands in groups, the first steps first. `doit version`: the installed versions.
"""

from __future__ import annotations

import dbm
import json
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.cmd_clean import Clean as DoitClean
from doit.cmd_dumpdb import DumpDB as DoitDumpDB
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_help import Help as DoitHelp
from doit.cmd_ignore import Ignore as DoitIgnore
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList
from doit.cmd_resetdep import ResetDep as DoitResetDep
from doit.cmd_strace import Strace as DoitStrace
from doit.exceptions import InvalidCommand, InvalidTask

import executor
from executor.commands import GROUPS
from executor.commands.base import (
    JSON_OPTION,
    Command,
    Options,
    Output,
    asks_help,
    guarded,
    none_but_options,
    option,
    permuted,
    print_json,
    report_faults,
    require_here,
    safe,
    show_help,
    table,
    unproved_note,
)
from executor.config.project import has_milestones, open_project
from executor.errors import ExecutorError, UsageError
from executor.git.command import git_version
from executor.model.fingerprint import IssueRef
from executor.process.files import read_json
from executor.status.summary_cache import StatusIndex, index_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from doit.cmd_base import Command as DoitCommand

    from executor.status.rows import IssueRow, ListedIssue

__all__ = ["Clean", "DumpDB", "Forget", "Help", "Ignore", "Info", "List", "ResetDep", "Strace", "Version"]

_TASKS = option("tasks", "list doit's tasks instead", bool)


class _PresentOutput:
    """Lets a command of doit write to the present standard output.

    doit 0.37 keeps the stream of the start (DoitCmdBase.__init__). It may be closed, and then it is None; and a lost
    reader must not end a command half way, for which `guarded` replaces the stream.
    """

    @property
    def outstream(self) -> Any:
        """The stream that doit writes to."""
        return sys.stdout

    @outstream.setter
    def outstream(self, _stream: Any) -> None:
        """Called by doit."""


class List(_PresentOutput, DoitList):
    """Replaces doit's list in projects with milestones."""

    name = "list"
    doc_purpose = "list pending issues in the order they would run (--all: every issue)"
    doc_usage = "[MILESTONE ...]"
    cmd_options = (*DoitList.cmd_options, JSON_OPTION, _TASKS)

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line, options anywhere on it, and run."""
        if asks_help(in_args):
            return guarded(lambda: show_help(self), Output.VIEW)
        action = super().parse_execute
        return guarded(lambda: action(permuted(self, in_args)) or 0, Output.VIEW)

    def execute(self, params: Options, args: list[str]) -> int:
        """Called by doit."""
        tasks, here = params.pop("tasks"), has_milestones(Path.cwd())
        if tasks or not here:
            params.pop("json")
            code = int(super().execute(params, args) or 0)
            if not tasks:
                sys.stderr.write("no milestone is declared; write milestones/ID.toml, or `doit import PLAN`\n")
            return code
        require_here(params)
        index = index_of(open_project())
        rows = _wanted(index, index.rows() if params["subtasks"] else index.pending, args)
        if params["json"]:
            print_json([_public(row) for row in rows])
        elif params["quiet"]:
            sys.stdout.write("".join(f"{row['ref']}\n" for row in rows))
        else:
            sys.stdout.write(_text(index, rows, args, every=params["subtasks"]))
        return report_faults(index.faults)


def _wanted(index: StatusIndex, rows: list[IssueRow], names: list[str]) -> list[IssueRow]:
    wanted = {name.removeprefix("milestone:") for name in names}
    single = next((name for name in names if name.startswith(("issue:", "step:", "release:")) or "/" in name), "")
    if single:
        ref = "/".join(single.rpartition(":")[2].split("/")[:2])
        raise UsageError(f"expected a milestone, found {single}; `doit explain {ref}` and `doit info {single}` show it")
    index.require(wanted)
    return [row for row in rows if not wanted or IssueRef.parse(row["ref"]).milestone in wanted]


def _public(row: IssueRow) -> ListedIssue:
    return {
        "id": row["ref"],
        "ref": row["ref"],
        "status": row["status"],
        "title": row["title"],
        "reason": row["reason"],
        "hint": row["hint"],
        "revision": row["revision"],
        "commit": row["commit"],
        "attempts": row["attempts"],
        "unproved": row["unproved"],
    }


def _text(index: StatusIndex, rows: list[IssueRow], names: list[str], *, every: bool) -> str:
    known = [item for item in index.milestones if not names or item["id"] in names]
    gone = [
        ["landed", f"{item['id']}/{safe(left['id'])}", "-", f"landed as {left['commit'][:10]}; no longer declared"]
        for item in (known if every else ())
        for left in item["removed"]
    ]
    text = "".join(f"{item['id']}: {safe(item['reason'])}; {item['hint']}\n" for item in known if item["pause"])
    drafts = [item for item in index.drafts if not names or item["id"] in names]
    text += "".join(f"{item['id']}: draft: {safe(item['reason'])}\n" for item in drafts)
    if rows or gone:
        shown = [[row["status"], row["ref"], row["title"], row["reason"]] for row in rows]
        return table([*shown, *gone]) + "\n" + text + unproved_note([row["ref"] for row in rows if row["unproved"]])
    landed, total = sum(item["landed"] for item in known), sum(item["total"] for item in known)
    return f"nothing is pending: {landed} of {total} issues have landed\n{text}"


_GROUPS = ("issue:", "step:", "milestone:", "release:")
_INSTEAD = {
    "clean": "`doit gc` removes what is no longer needed",
    "forget": "landings are in git; `doit retry ISSUE` implements an issue again",
    "ignore": '`doit pause MILESTONE` or `hold = "REASON"` in an issue holds it back',
    "reset-dep": "landings are in git; `doit accept ISSUE` keeps a landing whose spec changed",
    "strace": "`doit log ISSUE --raw` prints the output of an agent and its checks",
}


class Info(_PresentOutput, DoitInfo):
    """doit's facts about a task: dependencies, targets, status. Issues can be named without `issue:`."""

    name = "info"

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line and run; called by doit."""
        return guarded(lambda: super(Info, self).parse_execute(_with_groups(in_args)) or 0, Output.VIEW)

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:  # noqa: FBT001, FBT002  (called by name)
        names = [task.name for task in self.task_list]
        if len(pos_args) == 1 and pos_args[0] not in names:
            raise UsageError(_unknown(pos_args[0], names))
        return int(super()._execute(pos_args, hide_status))

    @staticmethod
    def get_reasons(reasons: dict[str, list[tuple[object, object, object]]]) -> str:
        """Return why a task is not up to date, with names of functions instead of their addresses."""
        asked: list[tuple[object, object, object]] = [
            (_callable_name(item), args, kwargs) for item, args, kwargs in reasons["uptodate_false"]
        ]
        shown = reasons.copy()  # doit's has defaults
        shown["uptodate_false"] = asked
        return str(DoitInfo.get_reasons(shown)).replace(" (args=[], kwargs={})", "")


class Clean(_PresentOutput, DoitClean):
    """Cleans the user's own tasks; tasks of milestones have nothing to clean."""

    name = "clean"

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line and run; called by doit."""
        return guarded(lambda: _on_own_tasks(self.name, in_args, super(Clean, self).parse_execute))


class Forget(_PresentOutput, DoitForget):
    """Forgets the runs of the user's own tasks; doit's memory decides nothing about milestones."""

    name = "forget"

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line and run; called by doit."""
        return guarded(lambda: _on_own_tasks(self.name, in_args, super(Forget, self).parse_execute))

    def _execute(self, *, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> None:
        if not forget_all and not self.sel_tasks:
            raise UsageError("name the tasks to forget, or --all; `doit list --tasks` shows them")
        super()._execute(forget_sub, forget_disable_default, forget_all)


class Ignore(_PresentOutput, DoitIgnore):
    """Has the user's own tasks skipped; milestones and issues are held back in their declaration."""

    name = "ignore"

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line and run; called by doit."""
        return guarded(lambda: _on_own_tasks(self.name, in_args, super(Ignore, self).parse_execute))

    def _execute(self, pos_args: list[str]) -> None:
        if not pos_args:
            raise UsageError("name the tasks to ignore; `doit list --tasks` shows them")
        super()._execute(pos_args)


class ResetDep(_PresentOutput, DoitResetDep):
    """Records the state of the files of the user's own tasks, without a run."""

    name = "reset-dep"

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line and run; called by doit."""
        return guarded(lambda: _on_own_tasks(self.name, in_args, super(ResetDep, self).parse_execute))

    def _execute(self, pos_args: list[str] | None = None) -> None:
        own = [task.name for task in self.task_list if task.name.partition(":")[0] not in _KINDS]
        if pos_args or own:
            super()._execute(pos_args or own)


class Strace(_PresentOutput, DoitStrace):
    """Lists the files that one of the user's own tasks opens."""

    name = "strace"

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line and run; called by doit."""
        return guarded(lambda: _on_own_tasks(self.name, in_args, super(Strace, self).parse_execute), Output.FOREIGN)

    def execute(self, params: Options, args: list[str]) -> int:
        """Called by doit."""
        if shutil.which("strace") is None:
            raise UsageError("strace is not installed; it is a package of the same name")
        return int(super().execute(params, args) or 0)


class DumpDB(DoitDumpDB):
    """Prints what doit remembers of the runs of tasks; nothing about milestones depends on it."""

    name = "dumpdb"

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse the line and run; called by doit."""
        return guarded(lambda: super(DumpDB, self).parse_execute(in_args) or 0, Output.VIEW)

    def execute(self, opt_values: Options, pos_args: list[str]) -> int:
        """Called by doit."""
        place = next((path for path in (Path(opt_values["dep_file"]), _MEMORY) if path.exists()), None)
        found = None if place is None else read_json(place)
        if isinstance(found, dict):
            sys.stdout.write("".join(f"{key} -> {json.dumps(value, sort_keys=True)}\n" for key, value in found.items()))
            return 0
        if not dbm.whichdb(opt_values["dep_file"]):
            raise UsageError(f"neither {opt_values['dep_file']} nor {_MEMORY} records a run of a task")
        return int(super().execute(opt_values, pos_args) or 0)


_KINDS = {group.rstrip(":") for group in _GROUPS}
_MEMORY = Path(".cache/doit.json")


def _callable_name(item: object) -> str:
    """Return the name of an `uptodate` function; other values unchanged."""
    name = getattr(item, "__qualname__", "")
    return f"{name.replace('.<locals>', '')}()" if name else str(item)


def _with_groups(words: list[str]) -> list[str]:
    """Write `m4/4.1` as `issue:m4/4.1`."""
    return [f"issue:{word}" if "/" in word and ":" not in word and word[:1] != "-" else word for word in words]


def _on_own_tasks(command: str, words: list[str], action: Callable[[list[str]], int | None]) -> int:
    """Run one of doit's commands, unless it names a task of a milestone.

    Raises:
        UsageError: it does, or doit refuses the command line.
    """
    own = next((word for word in _with_groups(words) if word.startswith(_GROUPS) or word in _KINDS), "")
    if own:
        raise UsageError(f"`doit {command}` works only on your own tasks, found {own}: {_INSTEAD[command]}")
    try:
        return int(action(words) or 0)
    except (InvalidCommand, InvalidTask) as error:
        raise UsageError(f"{str(error).rstrip('.')}; `doit list --tasks` shows the tasks") from error


def _unknown(name: str, names: list[str]) -> str:
    from executor.model.hints import did_you_mean

    if name.startswith("step:"):
        return f"{name} has nothing to do or does not exist; `doit explain {name[5:].rpartition('/')[0]}` says why"
    return f'"{name}" is not a task{did_you_mean(name, names) or "; `doit list --tasks` shows them"}'


_OWN_TASKS = "Your own tasks (doit)"


class _UnknownWord(Exception):  # noqa: N818  (never leaves this module)
    """Raised for a word that is neither command nor task, for which doit would show the general help."""


class Help(DoitHelp):
    """Replaces doit's help in projects with milestones."""

    name = "help"
    doc_purpose = "list the commands, or the options of one"
    doc_usage = "[COMMAND | TASK]"
    _asked = False

    def parse_execute(self, in_args: list[str]) -> int:
        """Show the requested help; a closed output is no error."""
        self._asked = bool(in_args)
        action = super().parse_execute
        return guarded(lambda: action(in_args) or 0, Output.VIEW)

    def execute(self, params: Options, args: list[str]) -> int:
        """Show the requested help; called by doit."""
        try:
            return int(super().execute(params, args) or 0)
        except _UnknownWord:
            from executor.model.hints import did_you_mean

            hint = did_you_mean(args[0], self.cmds) or "; `doit help` lists the commands"
            raise UsageError(f'"{args[0]}" is neither a command nor a task{hint}') from None

    def print_usage(self, cmds: Mapping[str, type[DoitCommand]]) -> None:
        """Print the commands in groups; called by doit, also for an unknown word."""
        if self._asked:
            raise _UnknownWord
        ours = {name for group in GROUPS.values() for name in group}
        groups = {title: [name for name in names if name in cmds] for title, names in GROUPS.items()}
        groups[_OWN_TASKS] = sorted(name for name in cmds if name not in ours or name in GROUPS[_OWN_TASKS])
        width = max(map(len, cmds))
        lines = ["make for milestones: milestones of this repository, landed issue by issue", ""]
        for title, names in groups.items():
            if names:
                lines += [title, *(f"  {name:<{width}}  {cmds[name].doc_purpose}" for name in names), ""]
        program = executor.DISTRIBUTION if self.bin_name == executor.DISTRIBUTION else "doit"
        lines += [
            f"{program} milestone:ID runs a milestone.",
            f"{program} issue:ID/ISSUE runs one issue and the issues it needs.",
            f"{program} help COMMAND lists the options of a command.",
        ]
        sys.stdout.write("\n".join(lines) + "\n")


class Version(Command):
    """Prints all versions for a bug report."""

    output = Output.VIEW
    name = "version"
    doc_purpose = "show the versions of this program, doit, Python and git"
    doc_usage = ""
    cmd_options = (JSON_OPTION,)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print them."""
        none_but_options(self, arguments)
        found = {
            executor.DISTRIBUTION: metadata.version(executor.DISTRIBUTION),
            "doit": metadata.version("doit"),
            "python": platform.python_version(),
            "git": _git(),
        }
        if options["json"]:
            print_json(found)
        else:
            sys.stdout.write("".join(f"{name} {version}\n" for name, version in found.items()))
        return 0


def _git() -> str:
    try:
        return ".".join(map(str, git_version()))
    except ExecutorError:
        return "not found"
