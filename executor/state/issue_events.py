"""Events about an issue: its attempts, reviews, landings, stops and pull requests. Pure.

`executor.state.events` has the events about steps, milestones, runs and nights, and encodes and decodes all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from executor.state.model import NO_SPEND, Event, Spend, optional, wire

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AttemptBuilt",
    "AttemptFailed",
    "AttemptInterrupted",
    "AttemptLost",
    "AttemptStarted",
    "BaseRed",
    "Collision",
    "Landed",
    "LandingIntended",
    "Overlap",
    "PullChanged",
    "Refused",
    "Regenerated",
    "Retried",
    "Reviewed",
    "ReviewerCalled",
    "Snapshot",
    "Stopped",
    "Unsandboxed",
    "VerdictShared",
    "Verified",
    "WorkHosted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """An agent is chosen, money is reserved, and the attempt starts.

    Attributes:
        attempt: its number, counted from 1 for each issue.
        revision: revision of the issue that it would land as.
        spec_key: key of the spec to implement.
        base: commit that it starts from.
        agent: profile of the agent.
        account: billing account that pays.
        when: epoch seconds, the timestamp of its commits.
        reserved_usd: reserved money in US dollars.
        workflow: the workflow whose steps the attempt performs; omitted for a direct one.
    """

    KIND = "attempt-started"
    attempt: int
    revision: int
    spec_key: str
    base: str
    agent: str
    account: str
    when: int
    reserved_usd: float = optional(0.0)
    workflow: str = optional("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsandboxed(Event):
    """An agent that requires a sandbox runs without one, so its work waits for a person."""

    KIND = "unsandboxed"
    attempt: int
    agent: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkHosted(Event):
    """A worker on another host has claimed an attempt, or a step of it.

    Attributes:
        runner: the runner of the route.
        host: name of the host.
        step: the workflow step; omitted for a whole attempt.
    """

    KIND = "work-hosted"
    attempt: int
    runner: str
    host: str
    step: str = optional("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Event):
    """The agent ended successfully and its tree is in git.

    Attributes:
        tree: its tree.
        when: epoch seconds, the timestamp of the candidate's commit.
        seconds: working time of the agent.
    """

    KIND = "snapshot"
    attempt: int
    tree: str
    when: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost(Event):
    """The disk no longer has the result of an attempt; it is repeated and does not count."""

    KIND = "attempt-lost"
    attempt: int
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBuilt(Event):
    """An attempt has a candidate commit under ``refs/attempts/``.

    Attributes:
        commit: the candidate.
        result_key: digest of its change.
        pull: number of the local pull request; 0 on other forges.
        files: up to 100 changed paths.
        added: lines added.
        removed: lines removed.
        deviations: deviations from the spec that the agent reports.
        spend: money and tokens.
        notes: the changes that the agent reports.
    """

    KIND = "attempt-built"
    attempt: int
    commit: str
    result_key: str
    pull: int
    seconds: float
    files: tuple[str, ...]
    added: int
    removed: int
    deviations: tuple[str, ...]
    spend: Spend = NO_SPEND
    notes: tuple[str, ...] = optional(())


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(Event):
    """An attempt failed.

    Attributes:
        failure: class of the failure.
        reason: one sentence.
        detail: the most useful part of the output.
        fingerprint: equal for the same failure on the same tree.
        commit: commit that stores the result.
        step: step of a workflow that failed.
        until: epoch seconds at which a usage limit ends.
        rest_s: seconds of suspension of the account after an outage.
    """

    KIND = "attempt-failed"
    attempt: int
    failure: str
    reason: str
    detail: str
    fingerprint: str = wire("print")
    seconds: float
    commit: str
    step: str = optional("")
    until: float = optional(0.0)
    rest_s: float = optional(0.0)
    spend: Spend = NO_SPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInterrupted(Event):
    """An attempt was interrupted, or ended with a question; it does not count."""

    KIND = "attempt-interrupted"
    attempt: int
    commit: str
    spend: Spend = NO_SPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewerCalled(Event):
    """A reviewer was called; its cost counts for the attempt.

    Attributes:
        failure: class of failure of the call; empty for one that ended well.
        reason: why it failed, one sentence.
    """

    KIND = "reviewer-called"
    attempt: int
    reviewer: str
    failure: str = ""
    reason: str = ""
    spend: Spend = NO_SPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed(Event):
    """A reviewer answered.

    Attributes:
        findings: objects with ``description``, ``score``, ``file`` and ``line``.
        criteria: objects with ``criterion``, ``met`` and ``evidence``.
    """

    KIND = "reviewed"
    attempt: int
    reviewer: str
    findings: tuple[Mapping[str, Any], ...]
    criteria: tuple[Mapping[str, Any], ...] = optional(())


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingIntended(Event):
    """A proved commit is about to become the tip."""

    KIND = "landing"
    attempt: int
    commit: str
    onto: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed(Event):
    """The issue is on the milestone branch.

    Attributes:
        attempt: 0 for work that was merged by hand.
        check_key: key of the checks that proved it.
        needs: needed issue -> its result key at the time of the proof.
    """

    KIND = "landed"
    attempt: int
    commit: str
    revision: int
    result_key: str
    check_key: str
    needs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictShared(Event):
    """A verdict that another clone signed was ``used``, or was proved again and ``held`` or was ``refuted``."""

    KIND = "verdict-shared"
    check: str
    tree: str
    by: str
    host: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(Event):
    """A landed issue passes its checks on the current tip."""

    KIND = "verified"
    check_key: str
    needs: Mapping[str, str]
    revision: int
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """A landed issue fails its checks on the current tip."""

    KIND = "refused"
    reason: str
    detail: str
    check_key: str
    needs: Mapping[str, str]
    revision: int
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """A rule, a conflict or a question stops the issue.

    Attributes:
        level: ``hard`` waits for a person, ``soft`` skips the issue.
        rule: ids of the rules.
        bound: key of the exact change that an approval would clear; empty: any.
        needs: the action required of a person.
        lines: findings, one sentence each.
        paths: files in conflict.
        tip: tip that the candidate conflicts with.
    """

    KIND = "stopped"
    level: str
    rule: str
    reason: str
    spec_key: str
    attempt: int
    bound: str = optional("")
    needs: str = optional("")
    lines: tuple[str, ...] = optional(())
    paths: tuple[str, ...] = optional(())
    tip: str = optional("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Regenerated(Event):
    """A command wrote files in conflict again while a result was merged with the branch.

    Attributes:
        paths: the files in conflict.
        command: the command.
        reason: why the command failed; omitted if it ended well.
    """

    KIND = "regenerated"
    attempt: int
    paths: tuple[str, ...]
    command: str
    reason: str = optional("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap(Event):
    """An issue starts although it is expected to change files of running issues.

    Attributes:
        others: qualified ids of these issues.
        files: files or globs in which they are expected to meet.
    """

    KIND = "overlap"
    others: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collision(Event):
    """The changes of two results conflict before either has landed.

    Attributes:
        other: qualified id of the other issue.
        paths: files in conflict.
    """

    KIND = "collision"
    other: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRed(Event):
    """The base keeps an issue back before anything is done for it.

    Attributes:
        word: ``red``, ``blind``, ``vacuous`` or ``outside`` (docs/environments.md).
        check: name of the check, or the acceptance command.
        proof: ``check`` or ``acceptance``.
    """

    KIND = "base-red"
    tip: str
    check_key: str
    reason: str
    word: str = "red"
    check: str = ""
    proof: str = "check"
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullChanged(Event):
    """An issue's pull request changed.

    Attributes:
        state: ``draft``, ``open``, ``merged`` or ``closed``.
        head: branch of the pull request.
        commit: commit that it contains.
        waits: what it waits for.
        reason: one sentence for people.
        attempt: attempt that it belongs to.
        base: branch of the pull request that it is stacked on; empty if it goes to the milestone branch.
    """

    KIND = "pull"
    number: int
    state: str
    url: str
    head: str
    commit: str
    waits: str
    reason: str
    attempt: int = optional(0)
    base: str = optional("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried(Event):
    """A person clears a failed or stopped issue.

    Attributes:
        after: number of the last forgiven attempt.
    """

    KIND = "retried"
    reason: str
    after: int
