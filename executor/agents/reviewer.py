"""Calls a reviewer: an agent with a brief and a tree that answers with a file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.agents.command import AgentCaller, child_environment, cost_of, failure_of
from executor.environments.environment import FOLDER
from executor.environments.making import tree_environment
from executor.errors import InterruptedRunError, UsageError
from executor.model.fingerprint import IssueRef
from executor.process.files import clock_after, scrub
from executor.sandbox.policy import take_back
from executor.state.budget import Suspension
from executor.state.events import ReviewerCalled

if TYPE_CHECKING:
    from pathlib import Path

    from executor.agents.errors import Diagnosis
    from executor.environments.environment import TreeEnvironment
    from executor.model.agent_profile import Agent
    from executor.process.runner import Command, Ended
    from executor.sandbox.policy import RunContext, Sandboxing

__all__ = ["REVIEW", "Answered", "Question", "Reviewers"]

REVIEW = "review"
"""The route that defines the focus and tools of reviewers."""
_RESTS = frozenset({"transient", "limit"})


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a review.

    Attributes:
        problem: why there is no answer, one sentence; empty if the call ended well.
        seconds: how long the last call took.
        rests: the account of the reviewer is suspended, so the review waits and costs nothing meanwhile.
    """

    problem: str
    seconds: float = 0.0
    rests: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A request to a reviewer.

    Attributes:
        issue: id of the issue.
        attempt: number of the reviewed attempt.
        tree: tree that the reviewer may read.
        text: its brief.
        home: folder for the brief, the log, and the answer in `out`.
        answer: name of the answer file in `out`.
        step: the gate that requests it; empty for a change.
        given: a folder with additional readable files.
    """

    issue: str
    attempt: int
    tree: str
    text: str
    home: Path
    answer: str
    step: str = ""
    given: Path | None = None

    @property
    def out(self) -> Path:
        """The folder for its answer."""
        return self.home / "out"

    @property
    def brief(self) -> Path:
        """The file with its brief."""
        return self.home / "brief.md"

    @property
    def log(self) -> Path:
        """The log of its output."""
        return self.home / "reviewer.log"


class Reviewers:
    """Calls reviewers in one milestone."""

    def __init__(self, context: RunContext, agents: AgentCaller, sandboxing: Sandboxing) -> None:
        self._context = context
        self._agents = agents
        self._sandboxing = sandboxing

    def ask(self, agent: Agent, question: Question) -> Answered:
        """Have an agent review; its answer is then in `out`, without secrets.

        After a failure of its service, or without memory, it is called again after a pause, as often as the limits say.
        A service that still fails, or a limit, suspends its account.

        Raises:
            InterruptedRunError: the run is being stopped.
            UsageError: its command line uses an option of an issue.
        """
        limits, ref = self._context.policy.limits, str(IssueRef(self._context.name, question.issue))
        most = {"transient": limits.transient, "resource": limits.attempts - 1}
        turn = 0
        while True:
            ended = self._call(agent, question)
            finding = failure_of(self._context, agent, ended, question.log)
            last = finding is None or turn >= most.get(finding.kind, 0)
            self._record(agent, question, finding, rests=last)
            if finding is None or last:
                problem = "" if finding is None else finding.reason
                rests = finding is not None and finding.kind in _RESTS
                return Answered(problem, ended.seconds, rests)
            seconds = min(limits.backoff_s * 2**turn, limits.backoff_most_s)
            self._context.tell("again", ref, f"reviewer: {finding.reason}; call {turn + 2} {clock_after(seconds)}")
            if self._context.stopping.wait(seconds):
                raise _interrupted(self._context, question)
            turn += 1

    def ask_until_answered(self, agent: Agent, question: Question) -> Answered:
        """Have an agent review like `ask`, but wait in place for an account that rests.

        The total wait is `outage_wait_s` for a failing service, and `wait_s` for a limit.
        """
        limits = self._context.policy.limits
        left = {"outage": limits.outage_wait_s, "limit": limits.wait_s}
        while True:
            answered = self.ask(agent, question)
            wait = self._context.accounts.review_wait(agent.name) if answered.rests else None
            seconds = 0.0 if wait is None or wait.until is None else max(0.0, wait.until - time.time())
            if wait is None or seconds > left.get(wait.kind, 0.0):
                return answered
            left[wait.kind] -= seconds
            if self._context.stopping.wait(seconds + 0.05):
                raise _interrupted(self._context, question)

    def _record(self, agent: Agent, question: Question, finding: Diagnosis | None, *, rests: bool) -> None:
        """Record a call with its cost; `rests`: a failure of the service suspends the account."""
        if rests:
            self._context.accounts.reviewed(agent, _suspension(finding))
        spend = cost_of(agent, question.log, None)
        event = ReviewerCalled(
            attempt=question.attempt,
            reviewer=agent.name,
            failure="" if finding is None else finding.kind,
            reason="" if finding is None else finding.reason,
            spend=spend,
        )
        self._context.record(event, question.issue)

    def _call(self, agent: Agent, question: Question) -> Ended:
        question.out.mkdir(parents=True, exist_ok=True)
        (question.out / question.answer).unlink(missing_ok=True)
        question.brief.write_text(question.text, encoding="utf-8", errors="surrogateescape")
        with self._context.pool.slot() as slot:
            slot.work.prepare(self._context.store, question.tree)
            env = child_environment((), {}, slot.work.folder)
            store, rules = self._context.project.cache / FOLDER, self._context.policy.environments
            environment = tree_environment(
                self._context.project.repository, slot.work, slot.number, env, store, rules
            ).without_steps()
            try:
                ended = self._context.supervisor.run(
                    self._command(agent, question, slot.work.folder, slot.number, environment)
                )
            finally:
                take_back(agent, question.out.with_name("private"))
        scrub(question.out, self._context.redact)
        if ended.reason in {"stopped", "lost"}:
            self._record(agent, question, None, rests=False)
            raise _interrupted(self._context, question)
        return ended

    def _command(
        self, agent: Agent, question: Question, tree: Path, slot: int, environment: TreeEnvironment
    ) -> Command:
        """Return the command of an agent for a review; its permissions are those of the route `review`."""
        route = self._context.policy.routes.get(REVIEW)
        values = self._agents.values(agent, question.brief, question.out)
        try:
            argv = agent.argv({**values, "tools": ",".join(route.tools) if route else ""})
        except KeyError as error:
            raise UsageError(f"agent {agent.name} cannot review: it needs the option {error} of an issue") from error
        variables = {
            "EXECUTOR_MILESTONE": self._context.name,
            "EXECUTOR_ISSUE": question.issue,
            "EXECUTOR_ATTEMPT": str(question.attempt),
            "EXECUTOR_SLOT": str(slot),
            "EXECUTOR_BRIEF": str(question.brief),
            "EXECUTOR_OUT": str(question.out),
        }
        if agent.model:
            variables["EXECUTOR_MODEL"] = agent.model
        if question.given is not None:
            variables["EXECUTOR_IN"] = str(question.given)
        if question.step:
            variables["EXECUTOR_STEP"] = question.step
        env = environment.environment({**child_environment(agent.env, variables, tree), **agent.variables})
        boxed = self._sandboxing.wrap_agent(
            agent,
            argv,
            issue=question.issue,
            attempt=question.attempt,
            tree=tree,
            writable=[question.out],
            readable=[question.brief, *([question.given] if question.given else []), *environment.readable],
            env=env,
            private=question.out.with_name("private"),
        )
        return self._agents.command(agent, boxed, tree=tree, env=env, brief=question.brief, log=question.log)


def _suspension(finding: Diagnosis | None) -> Suspension | None:
    if finding is None or finding.kind not in _RESTS:
        return None
    return Suspension(finding.until, finding.reason, outage=finding.kind == "transient", rest_s=finding.rest_s)


def _interrupted(context: RunContext, question: Question) -> InterruptedRunError:
    of = f" of {question.step}" if question.step else ""
    return InterruptedRunError(f"{context.name}/{question.issue}: the review{of} was interrupted", 130)
