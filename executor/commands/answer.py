"""`doit answer m4/4.3 "..."`: answer a question of an agent's; kept as a ref, and part of what is to be built."""

from __future__ import annotations

import sys
from typing import Any

from executor.adapters.identity import identity_of
from executor.adapters.kept_work import Answer, answers_trailer
from executor.adapters.refs import Refs
from executor.commands.base import Command
from executor.commands.person_marks import keep_mark
from executor.core.decide import Status
from executor.core.state import QUESTION
from executor.errors import UsageError
from executor.observe import observe
from executor.project import compile_project, open_project, prepare_cache
from executor.ref_names import ANSWERS

__all__ = ["AnswerCommand"]

_MOST = 20_000


class AnswerCommand(Command):
    """Records a person's answer; the next attempt is given it."""

    name = "answer"
    doc_purpose = "answer the question that an agent has asked about an issue"
    doc_usage = 'MILESTONE/ISSUE "ANSWER"'

    def run(self, _options: dict[str, Any], arguments: list[str]) -> int:
        """Record it."""
        if len(arguments) < 2:  # noqa: PLR2004  (issue and answer)
            raise UsageError('name the issue and the answer, for example `doit answer m4/4.3 "Use UTC."`')
        project = open_project()
        compiled = compile_project(project)
        ref = compiled.ref(arguments[0].removeprefix("issue:"))
        text = " ".join(arguments[1:]).strip()
        if not text or len(text) > _MOST:
            raise UsageError(f"expected an answer of 1 to {_MOST} characters, found {len(text)}")
        who = identity_of(project.repository)
        refs = Refs(project.repository, who)
        observer = observe(compiled, refs)
        decision, facts = observer.decision(ref), observer.facts(ref)
        stop = facts.state.stop
        if decision.status is not Status.REVIEW or stop is None or stop.rule != QUESTION:
            raise UsageError(f"{ref} is {decision.status} and waits for no answer; `doit explain {ref}` says for what")
        prepare_cache(project)
        milestone, _, issue = ref.partition("/")
        view = observer.views[milestone]
        question = "\n".join(stop.lines) or stop.reason
        answers = (*view.answers.get(issue, ()), Answer(question, text))
        message = (
            f"answer to {ref}\n\nMilestone: {milestone}\nIssue: {issue}\nAttempt: {stop.attempt}\n"
            f"{answers_trailer(answers)}\n"
        )
        name = f"{ANSWERS}/{ref}"
        keep_mark(project, refs, who, name, on=view.tip, message=message, what=f"answer {ref}", adding=True)
        sys.stdout.write(f"{ref} is answered; the next attempt is given it: doit issue:{ref}\n")
        return 0
