"""A candidate: the result of an attempt while it is judged and landed, and the message of its commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.git.diff import parse_diff
from executor.git.trailers import landing_message
from executor.model.titles import commit_token, described, header

if TYPE_CHECKING:
    from pathlib import Path

    from executor.engine.issue import IssueRun
    from executor.git.diff import Change
    from executor.git.trailers import Trailers
    from executor.state.model import Attempt

__all__ = ["Candidate", "assisted_by", "candidate_of", "issue_header", "result_message"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """The result of an attempt that is to land.

    Attributes:
        issue: the issue.
        attempt: whose result it is.
        change: what it changes on the attempt's base.
        logs: folder for the output of its checks.
    """

    issue: IssueRun
    attempt: Attempt
    change: Change
    logs: Path

    @property
    def base(self) -> str:
        """The commit that the attempt started from."""
        return self.attempt.base or self.issue.session.store.parent_of(self.attempt.commit)


def candidate_of(issue: IssueRun, attempt: Attempt) -> Candidate:
    """The candidate of an attempt that has built a commit."""
    session = issue.session
    change = parse_diff(session.store.diff(f"{attempt.commit}^", attempt.commit))
    return Candidate(issue, attempt, change, session.project.logs(issue.run.name, issue.id, attempt.number))


def result_message(
    issue: IssueRun,
    change: Change,
    trailers: Trailers,
    *,
    agent: str = "",
    notes: tuple[str, ...] = (),
    note: str = "",
) -> str:
    """The whole message of the commit that an issue's result becomes; the same arguments always give the same text.

    Args:
        issue: the issue.
        change: what it changes.
        trailers: what the commit says about itself.
        agent: name of the profile that worked; empty when nobody knows.
        notes: what changed, in the agent's words.
        note: a sentence of the executor's own, for unusual landings.
    """
    return landing_message(
        issue_header(issue),
        change,
        trailers,
        title=issue.declared.title,
        number=issue.declared.number,
        note=note,
        notes=notes,
        assisted=assisted_by(issue, agent),
    )


def issue_header(issue: IssueRun) -> str:
    """``feat(m4): title``: the first line of its commits."""
    rules, declared = issue.session.policy.forge, issue.declared
    token = commit_token(declared, issue.run.name, rules.commit_types)
    return header(token, described(declared.title, lower=rules.lower_case))


def assisted_by(issue: IssueRun, agent: str) -> str:
    """``AGENT:MODEL`` of a profile, as far as it is known; empty for one that always does the same, or by policy."""
    policy = issue.session.policy
    profile = policy.agents.get(agent)
    if profile is None or profile.deterministic or not policy.forge.assisted_by:
        return ""
    return f"{profile.name}:{profile.model}" if profile.model else profile.name
