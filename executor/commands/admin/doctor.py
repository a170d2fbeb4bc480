"""`doit doctor`: check machine, configuration and state, and say what to do about what is found. Spends nothing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from executor.commands.base import JSON_OPTION, Command, Options, none_but_options, print_json, table
from executor.config.project import Compiled
from executor.doctor.consistency import inconsistencies
from executor.doctor.health import Finding, configuration, machine
from executor.engine.milestone_run import hold
from executor.errors import BusyError, ExecutorError
from executor.process.locks import remove_holder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.config.project import Project

__all__ = ["Doctor"]

_REPAIR = {
    "name": "repair",
    "short": "",
    "long": "repair",
    "type": bool,
    "default": False,
    "help": "mend what can be mended without losing anything, and say what was done",
}
_WORST_FIRST = (74, 3, 75, 2, 4, 1)


class Doctor(Command):
    """Checks everything that a run depends on."""

    name = "doctor"
    doc_purpose = "check machine, configuration and state, and say what to do (--repair: mend what is safe)"
    doc_usage = ""
    cmd_options = (_REPAIR, JSON_OPTION)

    def run(self, options: Options, arguments: list[str]) -> int:
        """Print the findings; the exit code is that of the worst that is left."""
        none_but_options(self, arguments)
        looked = list(_look())
        project = next((item.project for item in looked if isinstance(item, Compiled)), None)
        findings = [item for item in looked if isinstance(item, Finding)]
        told = [_mended(project, item) if options["repair"] and project else (item, "", item.code) for item in findings]
        codes = {code for _, _, code in told}
        if options["json"]:
            print_json([_value(item, done, code) for item, done, code in told])
        else:
            rows = [[_word(item, done, code), item.subject, _text(item, done, code)] for item, done, code in told]
            sys.stdout.write(table(rows) + "\n")
            if not options["repair"] and any(item.mend is not None for item in findings):
                sys.stdout.write("doit doctor --repair mends what is marked so\n")
        return next((code for code in _WORST_FIRST if code in codes), 0)


def _look() -> Iterator[Finding | Compiled]:
    if not (yield from machine()):
        return
    for item in configuration():
        yield item
        if isinstance(item, Compiled):
            yield from inconsistencies(item)


def _mended(project: Project, finding: Finding) -> tuple[Finding, str, int]:
    """The finding, its repair, and the remaining exit code."""
    if finding.mend is None:
        return finding, "", finding.code
    try:
        if not finding.milestone:
            return finding, finding.mend(), 0
        lock = hold(project, finding.milestone, f"doctor-{os.getpid()}")
        try:
            return finding, finding.mend(), 0
        finally:
            remove_holder(project.state(finding.milestone))
            lock.release()
    except BusyError as error:
        return finding, f"not mended: {error}", error.exit_code
    except (ExecutorError, OSError) as error:
        return finding, f"not mended: {error}", finding.code or 1


def _word(finding: Finding, done: str, code: int) -> str:
    return "mended" if done and not code else finding.level


def _text(finding: Finding, done: str, code: int) -> str:
    if done:
        return f"{finding.text}: {done}"
    if finding.mend is not None:
        return f"{finding.text} (doit doctor --repair)"
    return f"{finding.text}; {finding.todo}" if finding.todo and code else finding.text


def _value(finding: Finding, done: str, code: int) -> dict[str, object]:
    return {
        "level": _word(finding, done, code),
        "kind": finding.kind,
        "subject": finding.subject,
        "text": finding.text,
        "todo": finding.todo,
        "repairable": finding.mend is not None,
        "done": done,
        "code": code,
    }
