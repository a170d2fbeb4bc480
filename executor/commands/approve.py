"""`doit approve m4/4.3 --reason "..."`: clear a stop for exactly this change; kept as a ref."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from executor.adapters.identity import identity_of
from executor.adapters.refs import Refs
from executor.commands.base import JSON_OPTION, REASON_OPTION, Command, print_json, safe
from executor.commands.person_marks import keep_mark
from executor.core.decide import Status
from executor.core.message import one_line
from executor.errors import UsageError
from executor.observe import observe
from executor.project import compile_project, open_project, prepare_cache
from executor.ref_names import APPROVED

if TYPE_CHECKING:
    from executor.core.state import Stop

__all__ = ["Approve"]

_SHOW = {
    "name": "show",
    "short": "",
    "long": "show",
    "type": bool,
    "default": False,
    "help": "only show what would be approved of",
}


class Approve(Command):
    """Records that a person approves of a change that a rule stopped."""

    name = "approve"
    doc_purpose = "clear a stop for exactly this change (--show: look at it first)"
    doc_usage = "MILESTONE/ISSUE"
    cmd_options = (REASON_OPTION, _SHOW, JSON_OPTION)

    def run(self, options: dict[str, Any], arguments: list[str]) -> int:
        """Record it, or show what stopped the issue."""
        if len(arguments) != 1:
            raise UsageError('name one issue, for example `doit approve m4/4.3 --reason "..."`')
        project = open_project()
        compiled = compile_project(project)
        ref = compiled.ref(arguments[0].removeprefix("issue:"))
        who = identity_of(project.repository)
        refs = Refs(project.repository, who)
        observer = observe(compiled, refs)
        facts, decision = observer.facts(ref), observer.decision(ref)
        stop = facts.state.stop
        if decision.status not in {Status.REVIEW, Status.SKIPPED} or stop is None:
            raise UsageError(f"{ref} is {decision.status}, expected review or skipped; there is nothing to approve of")
        if not stop.bound:
            raise UsageError(f"{ref} was stopped by {stop.rule}, which has no change to approve of; `doit retry {ref}`")
        if options["show"]:
            _show(ref, stop, as_json=options["json"])
            return 0
        if not one_line(options["reason"]):
            raise UsageError(f'say why: doit approve {ref} --reason "..."; `--show` shows what stopped it')
        prepare_cache(project)
        milestone, _, issue = ref.partition("/")
        approved = sorted({*facts.approved, stop.bound})
        message = (
            f"approve {ref}: {stop.rule}\n\n{one_line(options['reason'])}\n\n"
            f"Milestone: {milestone}\nIssue: {issue}\nRule: {stop.rule}\nApproved: {' '.join(approved)}\n"
        )
        view = observer.views[milestone]
        name = f"{APPROVED}/{ref}"
        keep_mark(project, refs, who, name, on=view.tip, message=message, what=f"approve {ref}", adding=True)
        sys.stdout.write(f"{ref} is cleared of {stop.rule} for exactly this change: doit issue:{ref}\n")
        return 0


def _show(ref: str, stop: Stop, *, as_json: bool) -> None:
    if as_json:
        value = {
            "ref": ref,
            "level": stop.level,
            "rule": stop.rule,
            "reason": stop.reason,
            "needs": stop.needs,
            "lines": list(stop.lines),
            "attempt": stop.attempt,
            "bound": stop.bound,
        }
        print_json(value)
        return
    lines = [f"{ref} was stopped by {stop.rule}: {stop.reason}", *(f"  {line}" for line in stop.lines)]
    if stop.needs:
        lines.append(f"needed: {stop.needs}")
    if stop.attempt:
        lines.append(f"the change: git show refs/attempts/{ref}/{stop.attempt}")
    sys.stdout.write("".join(f"{safe(line)}\n" for line in lines))
