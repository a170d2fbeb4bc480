"""`doit accept m4/4.3`: keep landed work under a changed spec. Kept as a ref, so that it outlives `.cache/`."""

from __future__ import annotations

import sys
from typing import Any

from executor.adapters.identity import identity_of
from executor.adapters.refs import Refs
from executor.commands.base import REASON_OPTION, Command
from executor.commands.person_marks import keep_mark
from executor.core.message import one_line
from executor.errors import UsageError
from executor.observe import observe
from executor.project import compile_project, open_project, prepare_cache
from executor.ref_names import ACCEPTED

__all__ = ["Accept"]


class Accept(Command):
    """Records that a person keeps what has landed."""

    name = "accept"
    doc_purpose = "keep the landed work of an issue although its spec has changed"
    doc_usage = "MILESTONE/ISSUE"
    cmd_options = (REASON_OPTION,)

    def run(self, options: dict[str, Any], arguments: list[str]) -> int:
        """Record it."""
        if len(arguments) != 1:
            raise UsageError("name one issue, for example `doit accept m4/4.3`")
        project = open_project()
        compiled = compile_project(project)
        ref = compiled.ref(arguments[0].removeprefix("issue:"))
        prepare_cache(project)
        who = identity_of(project.repository)
        refs = Refs(project.repository, who)
        facts = observe(compiled, refs).facts(ref)
        landing = facts.landing
        if landing is None:
            raise UsageError(f"{ref} has not landed, there is nothing to keep")
        if facts.spec_key == landing.trailers.spec_key or facts.spec_key in facts.accepted:
            raise UsageError(f"{ref} has landed with the spec that is declared now, there is nothing to accept")
        message = (
            f"accept {ref} under a changed spec\n\n{one_line(options['reason'])}\n\n"
            f"Milestone: {ref.partition('/')[0]}\nIssue: {ref.partition('/')[2]}\n"
            f"Landing: {landing.commit}\nSpec-Key: {facts.spec_key}\n"
        )
        name = f"{ACCEPTED}/{ref}"
        keep_mark(project, refs, who, name, on=landing.commit, message=message, what=f"accept {ref}", adding=False)
        sys.stdout.write(f"{ref} stays landed as {landing.commit[:10]} under the spec that is declared now\n")
        return 0
