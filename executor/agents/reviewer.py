"""Calls a reviewer: an agent with a brief and a tree that answers with a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.agents.call import AgentCaller, cost_of
from executor.agents.command import child_environment
from executor.environments.environment import FOLDER
from executor.environments.making import tree_environment
from executor.errors import InterruptedRunError, UsageError
from executor.process.files import scrub
from executor.sandbox.layout import take_back
from executor.state.events import ReviewerCalled

if TYPE_CHECKING:
    from pathlib import Path

    from executor.environments.environment import TreeEnvironment
    from executor.model.agent_profile import Agent
    from executor.process.runner import Command, Ended
    from executor.sandbox.policy import RunContext, Sandboxing

__all__ = ["REVIEW", "Question", "Reviewers"]

REVIEW = "review"
"""The route that defines the focus and tools of reviewers."""


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

    def ask(self, agent: Agent, question: Question) -> Ended:
        """Call an agent for a review and record the call; its answer is then in `out`, without secrets.

        Raises:
            InterruptedRunError: the run is being stopped.
            UsageError: its command line uses an option of an issue.
        """
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
        spend = cost_of(agent, question.log, None)
        self._context.record(ReviewerCalled(attempt=question.attempt, reviewer=agent.name, spend=spend), question.issue)
        if ended.reason in {"stopped", "lost"}:
            of = f" of {question.step}" if question.step else ""
            raise InterruptedRunError(f"{self._context.name}/{question.issue}: the review{of} was interrupted", 130)
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
