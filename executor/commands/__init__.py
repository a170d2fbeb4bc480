"""The command line: the table of commands, and their entry points for doit.

A repository names its commands in its own configuration, as `plan = "executor.commands:Plan"`. These names are stable,
wherever the classes move. A command is imported on first use, so `doit list` stays instant.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["COMMANDS", "GROUPS"]

GROUPS: dict[str, dict[str, str]] = {
    "Start here": {
        "init": "admin.scaffold:Init",
        "doctor": "admin.maintain:Doctor",
        "list": "list:List",
        "run": "run:Run",
        "help": "list:Help",
        "version": "list:Version",
    },
    "Look": {
        "plan": "inspect.report:Plan",
        "status": "inspect.status:Status",
        "watch": "inspect.status:Watch",
        "explain": "inspect.explain:Explain",
        "log": "inspect.log:Log",
        "sessions": "inspect.report:Sessions",
        "report": "inspect.report:Report",
        "digest": "admin.nightly:DigestCommand",
    },
    "Decide": {
        "approve": "decisions:Approve",
        "answer": "decisions:AnswerCommand",
        "retry": "decisions:Retry",
        "accept": "decisions:Accept",
        "pause": "decisions:Pause",
        "unpause": "decisions:Unpause",
    },
    "Write and exchange plans": {
        "new": "admin.scaffold:New",
        "schema": "admin.scaffold:Schema",
        "import": "admin.exchange:Import",
        "export": "admin.exchange:Export",
        "mcp": "admin.mcp:Mcp",
    },
    "Maintain": {
        "verify": "inspect.explain:Verify",
        "cron": "admin.cron:Cron",
        "nightly": "admin.nightly:Nightly",
        "gc": "admin.maintain:Gc",
        "repair": "admin.maintain:Repair",
    },
    "Your own tasks (doit)": {
        "info": "list:Info",
        "clean": "list:Clean",
        "forget": "list:Forget",
        "ignore": "list:Ignore",
        "reset-dep": "list:ResetDep",
        "strace": "list:Strace",
        "dumpdb": "list:DumpDB",
    },
}
"""Commands by the headings of `doit help`: name -> module below this package, and class."""
_PLACES = {place.partition(":")[2]: place.partition(":")[0] for group in GROUPS.values() for place in group.values()}
COMMANDS = {name: f"{__name__}:{place.partition(':')[2]}" for group in GROUPS.values() for name, place in group.items()}
"""Content of `[tool.doit.plugins.command]` in a repository: name -> location in doit's format."""


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
