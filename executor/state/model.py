"""The state of an issue as values: attempts, stop, pull request, proofs.

They are folded from events (`state/fold.py`); status is never stored, it is computed from these and git.

The base of all events is here, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.state.steps import StepState

__all__ = [
    "DONE_ALREADY",
    "FALLS_BACK",
    "FINDINGS",
    "NO_SPEND",
    "PERMANENT",
    "QUESTION",
    "UNSANDBOXED",
    "UNSPENT",
    "Attempt",
    "AttemptState",
    "Criterion",
    "Event",
    "Finding",
    "IssueState",
    "Proof",
    "Pull",
    "Red",
    "Refusal",
    "Review",
    "Spend",
    "Stop",
    "Unknown",
    "optional",
    "wire",
]

UNSANDBOXED = "unsandboxed"
UNKNOWN_AGENT = "?"
"""Replaces the agent that worked without a sandbox, if it is unknown."""
"""Id of the stop for a change of an agent that worked without its required sandbox."""

FINDINGS = "review-findings"
"""Id of the stop for a change with findings of a reviewer."""

QUESTION = "question"
DONE_ALREADY = "done-already"
"""Stop of an issue whose work its base seems to contain, although no record says so."""
"""Rule, and outcome of an attempt, of an agent that asks a question."""
UNSPENT = frozenset({"limit", "refusal", "authentication", "missing", "transient", "dependency", "host"})
"""Classes of failure that do not count as an attempt, because they are not about the issue."""
PERMANENT = frozenset({"refusal", "authentication", "missing", "setup", "dependency", "host"})
"""Classes of failure for which a retry does not help."""
FALLS_BACK = UNSPENT
"""Classes after which the next agent of an ordered list works."""


@dataclass(frozen=True, slots=True)
class Spend:
    """Money and tokens of a call; both are omitted from a record if the agent does not report them.

    Attributes:
        cost_usd: US dollars; None if unknown.
        tokens: tokens by kind, for example ``input`` and ``output``.
    """

    cost_usd: float | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether the agent reported anything."""
        return self.cost_usd is not None or bool(self.tokens)


NO_SPEND = Spend()


def optional(default: object, wire: str = "") -> Any:
    """Declare a field that is omitted from the record while it has its default."""
    return field(default=default, metadata={"optional": True, "wire": wire})


def wire(name: str) -> Any:
    """Declare a field with a different name in the record, for compatibility with existing journals."""
    return field(metadata={"wire": name})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact about a milestone or one of its issues."""

    KIND: ClassVar[str] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Event):
    """A record of a kind unknown to this version."""

    kind: str
    data: Mapping[str, Any]


class AttemptState(StrEnum):
    """The progress of an attempt."""

    STARTED = "started"
    BUILT = "built"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LANDED = "landed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt at an issue.

    Attributes:
        number: sequence number within the issue, from 1.
        revision: the revision that it would land as.
        spec_key: key of the spec that it implements.
        base: commit it started from.
        state: its progress.
        commit: the candidate commit with its result; empty before it exists.
        landing: the commit that was about to become the branch's tip; empty before that.
        result_key: stable identity of its change; empty before it exists.
        kind: class of its failure (``agent``, ``empty``, ``checks``, ``patch``, ``limit``, ...), empty otherwise.
        reason: one sentence.
        detail: the most useful part of the failing output, truncated.
        print: fingerprint of the failure; the same one twice means that a retry does not help.
        seconds: working time of the agent.
        started_at: ISO-8601 time; empty if it is only known from git.
        cost_usd: the known part of the money spent.
        cost_known: whether the agent reported its cost.
        reserved_usd: money reserved at its start.
        tokens: `input` (with the cached ones), `cached` and `output`.
        agent: name of the agent's profile.
        account: billing account of the agent.
        run: id of the run that started it.
        until: epoch seconds until which its account is suspended, after a limit or a failing service; 0 otherwise.
        rest_s: for a failing service: seconds of the suspension, which grow from one outage to the next.
        deviations: deviations from the plan that the agent reports.
        notes: the changes that the agent reports.
        boot: boot id of the machine at its start.
        tree: the tree of its agent once it is safe in git; empty before.
        when: time of that in seconds since the epoch; the timestamp of all commits made from it.
        unsandboxed: name of the agent that required a sandbox but had none; empty otherwise.
        sandbox: the sandbox according to its commit; empty if only the journal knows.
        step: the workflow step that failed; empty otherwise.
        pull: number of its local pull request; 0 without one.
        runner, host: the runner on whose host it works, and the host once one has claimed it; empty for this machine.
    """

    number: int
    revision: int
    spec_key: str
    base: str = ""
    state: AttemptState = AttemptState.STARTED
    commit: str = ""
    landing: str = ""
    result_key: str = ""
    kind: str = ""
    reason: str = ""
    detail: str = ""
    print: str = ""
    seconds: float = 0.0
    started_at: str = ""
    cost_usd: float = 0.0
    cost_known: bool = False
    reserved_usd: float = 0.0
    tokens: Mapping[str, int] = field(default_factory=dict)
    agent: str = ""
    account: str = ""
    run: str = ""
    until: float = 0.0
    rest_s: float = 0.0
    deviations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    boot: str = ""
    tree: str = ""
    when: int = 0
    unsandboxed: str = ""
    sandbox: str = ""
    step: str = ""
    pull: int = 0
    runner: str = ""
    host: str = ""

    @property
    def open(self) -> bool:
        """Return whether its end is unknown."""
        return self.state in {AttemptState.STARTED, AttemptState.INTERRUPTED}


@dataclass(frozen=True, slots=True)
class Pull:
    """The last known state of an issue's pull request.

    Attributes:
        number: number on the forge; 0 while only its branch exists.
        state: ``draft``, ``open``, ``closed`` or ``merged``; empty while only a branch exists.
        url: its address for people.
        head: short name of its branch.
        commit: the last commit that the executor pushed.
        waits: status of the issue while the pull request blocks it: ``open`` if time alone can change that, ``review``
            if a person must act; empty otherwise.
        reason: the cause, one sentence.
        run: id of the run that saw it; the next run checks again.
        attempt: number of the attempt that it belongs to; 0 in events without one.
        base: short name of the branch of the pull request that it is stacked on; empty if it goes to the milestone
            branch.
    """

    number: int
    state: str
    url: str
    head: str
    commit: str
    waits: str = ""
    reason: str = ""
    run: str = ""
    attempt: int = 0
    base: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """A rule that stopped the issue until a person clears it, the declaration changes or the issue is retried.

    Attributes:
        level: ``soft`` (skipped) or ``hard`` (waits for a person).
        rule: ids of the rules, for example ``merge-conflict``, separated by commas.
        reason: one sentence.
        spec_key: key of the spec at the time of the stop.
        attempt: number of the stopped attempt; 0 before the first.
        bound: the key that an approval is bound to: of the change, or of the spec before a change exists.
        needs: the action required of a person.
        lines: the lines that triggered it, for example ``src/auth.py:12: def login():``.
    """

    level: str
    rule: str
    reason: str
    spec_key: str
    attempt: int
    bound: str = ""
    needs: str = ""
    lines: tuple[str, ...] = ()

    @property
    def rules(self) -> frozenset[str]:
        """The ids of the rules."""
        return frozenset(self.rule.split(", "))


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of a reviewer; `score` is 0 to 100, `line` is 0 if unknown."""

    description: str
    score: int
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Criterion:
    """A reviewer's verdict on one acceptance criterion in words."""

    criterion: str
    met: bool
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    """The review of an attempt.

    Attributes:
        reviewer: name of its profile.
        findings: all findings, whatever the score.
        criteria: its verdicts on the acceptance criteria in words.
        at: ISO-8601 time.
    """

    reviewer: str
    findings: tuple[Finding, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    at: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """A successful proof of a landed issue on a tip.

    Attributes:
        check_key: key of the checks that proved it.
        needs: result key of each needed issue at that time, by qualified id.
        revision: the landed revision that was proved.
    """

    check_key: str
    needs: Mapping[str, str]
    revision: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A failed proof of a landed issue on a tip; the issue must be implemented again."""

    check_key: str
    needs: Mapping[str, str]
    revision: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Red:
    """A check of the issue that fails before any work.

    Attributes:
        tip: commit on which it fails.
        check_key: the issue's check key.
        reason: one sentence.
        run: id of the run that saw it; the next run checks again.
        word: ``red``, ``blind``, ``vacuous`` or ``outside``.
        check: name of the check.
        proof: ``check`` or ``acceptance``.
        detail: the last lines of its output.
    """

    tip: str
    check_key: str
    reason: str
    run: str
    word: str = "red"
    check: str = ""
    proof: str = "check"
    detail: str = ""


@dataclass(slots=True)
class IssueState:
    """The journal's information about one issue."""

    attempts: dict[int, Attempt] = field(default_factory=dict)
    forgiven: int = 0
    """Attempts up to this number do not count, because a person asked for a retry after them."""
    stop: Stop | None = None
    red: Red | None = None
    proof: Proof | None = None
    refusal: Refusal | None = None
    steps: dict[str, StepState] = field(default_factory=dict)
    pull: Pull | None = None
    reviews: dict[int, Review] = field(default_factory=dict)
    """Reviews by number of the attempt."""
    seconds: float = 0.0
    cost_usd: float = 0.0

    def last(self) -> int:
        """Return the number of the latest attempt; 0 before the first."""
        return max(self.attempts, default=0)

    @property
    def built(self) -> bool:
        """Whether the latest attempt has a result that has not landed."""
        last = self.attempts.get(self.last())
        return last is not None and last.state is AttemptState.BUILT

    def spent(self) -> int:
        """Return the number of attempts that count; attempts that a limit or a failed login ended do not."""
        return sum(attempt.kind not in UNSPENT for attempt in self.attempts.values())

    def counted(self, spec_key: str) -> list[Attempt]:
        """Return the attempts at this spec since the last retry, oldest first."""
        return [
            attempt
            for number, attempt in sorted(self.attempts.items())
            if number > self.forgiven and attempt.spec_key == spec_key
        ]
