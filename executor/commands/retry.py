"""`doit retry m4/4.3`: clear a skipped or failed issue, so that the next run tries it again."""

from __future__ import annotations

import sys
from typing import Any

from executor.adapters.journal import Journal
from executor.adapters.refs import Refs
from executor.commands.base import REASON_OPTION, Command
from executor.core.decide import Status
from executor.errors import UsageError
from executor.observe import observe
from executor.project import compile_project, open_project, prepare_cache

__all__ = ["Retry"]


class Retry(Command):
    """Gives an issue its attempts back."""

    name = "retry"
    doc_purpose = "clear a skipped or failed issue; the next run tries it again"
    doc_usage = "MILESTONE/ISSUE ..."
    cmd_options = (REASON_OPTION,)

    def run(self, options: dict[str, Any], arguments: list[str]) -> int:
        """Record it."""
        from executor.milestone_lock import hold
        from executor.outside import now

        if not arguments:
            raise UsageError("name at least one issue, for example `doit retry m4/4.3`")
        project = open_project()
        compiled = compile_project(project)
        prepare_cache(project)
        refs = [compiled.ref(name.removeprefix("issue:")) for name in arguments]
        observer = observe(compiled, Refs(project.repository))
        for ref in refs:
            status = observer.decision(ref).status
            if status not in {Status.FAILED, Status.SKIPPED, Status.REVIEW}:
                raise UsageError(f"{ref} is {status}, expected failed, skipped or review; there is nothing to retry")
        for name in dict.fromkeys(ref.partition("/")[0] for ref in refs):
            lock = hold(project, name, "retry")
            try:
                journal = Journal.open(project.state(name), run="retry", now=now)
                for ref in refs:
                    if ref.partition("/")[0] == name:
                        issue = ref.partition("/")[2]
                        last = observer.views[name].states[issue].last()
                        journal.append("retried", issue, reason=options["reason"], after=last)
                journal.close()
            finally:
                lock.release()
        sys.stdout.write("".join(f"{ref} will be tried again: doit issue:{ref}\n" for ref in refs))
        return 0
