"""`doit help`: the commands in groups, beginning with where to start. `doit version`: what is installed."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

from doit.cmd_help import Help as DoitHelp

import executor
from executor.commands import GROUPS
from executor.commands.base import JSON_OPTION, Command, Options, Output, guarded, none_but_options, print_json
from executor.errors import ExecutorError
from executor.git.command import git_version

__all__ = ["Help", "Version"]

_OWN_TASKS = "Tasks of your own (doit)"


class Help(DoitHelp):
    """Replaces doit's help in projects with milestones."""

    name = "help"
    doc_purpose = "show the commands, or the options of one"
    doc_usage = "[COMMAND | TASK]"

    def parse_execute(self, in_args: list[str]) -> int:
        """Show what is asked for; a closed output is no error."""
        action = super().parse_execute
        return guarded(lambda: action(in_args) or 0, Output.VIEW)

    def print_usage(self, cmds: dict[str, Any]) -> None:
        """The commands in groups; called by doit."""
        ours = {name for group in GROUPS.values() for name in group}
        groups = {title: [name for name in names if name in cmds] for title, names in GROUPS.items()}
        groups[_OWN_TASKS] = sorted(name for name in cmds if name not in ours)
        width = max(map(len, cmds))
        lines = ["make for milestones: milestones of this repository, landed issue by issue", ""]
        for title, names in groups.items():
            if names:
                lines += [title, *(f"  {name:<{width}}  {cmds[name].doc_purpose}" for name in names), ""]
        lines += [
            f"{self.bin_name} milestone:ID runs a milestone.",
            f"{self.bin_name} issue:ID/ISSUE runs one issue and what it needs.",
            f"{self.bin_name} help COMMAND lists the options of a command.",
        ]
        sys.stdout.write("\n".join(lines) + "\n")


class Version(Command):
    """Versions of everything that a report of an error should name."""

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
