"""`doit help`: the commands in groups, the first steps first. `doit version`: the installed versions."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from doit.cmd_help import Help as DoitHelp

import executor
from executor.commands import GROUPS
from executor.commands.base import JSON_OPTION, Command, Options, Output, guarded, none_but_options, print_json
from executor.errors import ExecutorError, UsageError
from executor.git.command import git_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from doit.cmd_base import Command as DoitCommand

__all__ = ["Help", "Version"]

_OWN_TASKS = "Tasks of your own (doit)"


class _UnknownWord(Exception):  # noqa: N818  (never leaves this module)
    """Raised for a word that is neither command nor task, for which doit would show the general help."""


class Help(DoitHelp):
    """Replaces doit's help in projects with milestones."""

    name = "help"
    doc_purpose = "show the commands, or the options of one"
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
            raise UsageError(f'"{args[0]}" is no command and no task{hint}') from None

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
            f"{program} issue:ID/ISSUE runs one issue and what it needs.",
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
