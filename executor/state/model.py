"""The state of an issue as values: attempts, stop, pull request, proofs.

They are folded from events (`state/fold.py`); status is never stored, it is computed from these and git.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.state.steps import StepState

__all__ = [
    "FALLS_BACK",
    "FINDINGS",
    "PERMANENT",
    "QUESTION",
    "UNSANDBOXED",
    "UNSPENT",
    "Attempt",
    "AttemptState",
    "Criterion",
    "Finding",
    "IssueState",
    "Proof",
    "Pull",
    "Red",
    "Refusal",
    "Review",
    "Stop",
]

UNSANDBOXED = "unsandboxed"
UNKNOWN_AGENT = "?"
"""Who worked without a sandbox, where that is not known any more."""
"""Id of the stop for a change of an agent that was to work in a sandbox and did without."""

FINDINGS = "review-findings"
"""Id of the stop for a change in which a reviewer found something."""

QUESTION = "question"
"""Rule, and outcome of an attempt, of an agent that asks a person."""
UNSPENT = frozenset({"limit", "refusal", "authentication", "missing", "transient", "dependency"})
"""Classes of failure that do not count as an attempt: the issue is not what they are about."""
PERMANENT = frozenset({"refusal", "authentication", "missing", "setup", "dependency"})
"""Classes of failure that a retry does not help."""
FALLS_BACK = UNSPENT
"""Classes after which the next agent of an ordered list is asked."""


class AttemptState(StrEnum):
    """How far an attempt has come."""

    STARTED = "started"
    BUILT = "built"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LANDED = "landed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at an issue.

    Attributes:
        number: counts up over the life of the issue, from 1.
        revision: the revision that it would become.
        spec_key: spec that it implements.
        base: commit it started from.
        state: how far it has come.
        commit: the candidate commit with its result, empty before there is one.
        landing: the commit that was about to become the branch's tip, empty before that.
        result_key: stable identity of its change, empty before there is one.
        kind: class of its failure (``agent``, ``empty``, ``checks``, ``patch``, ``limit``, ...), empty otherwise.
        reason: one sentence.
        detail: the most useful part of the failing output, bounded.
        print: fingerprint of the failure; the same one twice means that a retry does not help.
        seconds: how long the agent worked.
        started_at: ISO-8601 time, empty when it is only known from git.
        cost_usd: money spent, as far as it is known.
        cost_known: whether the agent reported its cost.
        reserved_usd: money that was set aside for it when it was begun.
        tokens: `input` (with the cached ones), `cached` and `output`.
        agent: name of the profile that worked.
        account: who pays for that.
        run: id of the run that began it.
        until: epoch seconds until which its account rests, after a limit or a failing service; 0 otherwise.
        rest_s: for a failing service: seconds that the account rests, which grow from one outage to the next.
        deviations: deviations from the plan that the agent reports.
        notes: what the agent reports that it changed.
        boot: boot id of the machine when it was started.
        tree: the tree that its agent left, once that is safe in git; empty before.
        when: time of that in seconds since the epoch; commits made of it carry this time, whenever they are made.
        unsandboxed: name of the agent that wanted a sandbox for it and had none; empty when all was as it should be.
        sandbox: what its commit says of the sandbox that it was made in; empty when only the journal knows.
        step: the step of a workflow at which it failed, empty for everything else.
        pull: number of its local pull request, 0 when it has none.
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

    @property
    def open(self) -> bool:
        """Whether its end is unknown."""
        return self.state in {AttemptState.STARTED, AttemptState.INTERRUPTED}


@dataclass(frozen=True, slots=True)
class Pull:
    """The last known state of an issue's pull request.

    Attributes:
        number: on the forge; 0 while only its branch exists.
        state: ``draft``, ``open``, ``closed`` or ``merged``; empty while there is only a branch.
        url: where a person looks at it.
        head: short name of its branch.
        commit: the last commit that the executor pushed.
        waits: status of the issue while the pull request keeps it from going on: ``open`` when time alone can change
            that, ``review`` when a person has to; empty when nothing keeps it.
        reason: why, one sentence.
        run: id of the run that saw it; the next one looks again.
        attempt: number of the attempt that it shows; 0 in events that do not say.
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


@dataclass(frozen=True, slots=True)
class Stop:
    """A rule that stopped the issue until a person clears it, the declaration changes or it is retried.

    Attributes:
        level: ``soft`` (skipped) or ``hard`` (waits for a person).
        rule: ids of the rules, for example ``merge-conflict``, separated by commas.
        reason: one sentence.
        spec_key: the spec under which it was stopped.
        attempt: number of the attempt that was stopped, 0 before the first.
        bound: the key that an approval is bound to: of the change, or of the spec before a change exists.
        needs: the action that a person has to take.
        lines: lines that triggered it, for example ``src/auth.py:12: def login():``.
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
    """One thing that a reviewer found; `score` is 0 to 100, `line` 0 where it names none."""

    description: str
    score: int
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Criterion:
    """What a reviewer says of one acceptance criterion in words."""

    criterion: str
    met: bool
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    """What the reviewer of an attempt left.

    Attributes:
        reviewer: name of its profile.
        findings: everything that it found, whatever the score.
        criteria: what it says of the acceptance criteria in words.
        at: ISO-8601 time.
    """

    reviewer: str
    findings: tuple[Finding, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    at: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """The checks of a landed issue passed on a tip.

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
    """The checks of a landed issue failed on a tip, so that it has to be implemented again."""

    check_key: str
    needs: Mapping[str, str]
    revision: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Red:
    """A check of the issue fails before anything was done for it.

    Attributes:
        tip: commit on which it fails.
        check_key: the issue's check key.
        reason: one sentence.
        run: id of the run that saw it; the next one looks again.
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
    """Everything the journal knows of one issue."""

    attempts: dict[int, Attempt] = field(default_factory=dict)
    forgiven: int = 0
    """Attempts up to this number no longer count: a person asked for a retry after them."""
    stop: Stop | None = None
    red: Red | None = None
    proof: Proof | None = None
    refusal: Refusal | None = None
    steps: dict[str, StepState] = field(default_factory=dict)
    pull: Pull | None = None
    reviews: dict[int, Review] = field(default_factory=dict)
    """By number of the attempt."""
    seconds: float = 0.0
    cost_usd: float = 0.0

    def last(self) -> int:
        """Number of the latest attempt, 0 before the first."""
        return max(self.attempts, default=0)

    @property
    def built(self) -> bool:
        """Whether the latest attempt has a result that has not landed."""
        last = self.attempts.get(self.last())
        return last is not None and last.state is AttemptState.BUILT

    def spent(self) -> int:
        """How many attempts there were that count; those that a limit or a failed login ended at once do not."""
        return sum(attempt.kind not in UNSPENT for attempt in self.attempts.values())

    def counted(self, spec_key: str) -> list[Attempt]:
        """Attempts at this spec since the last retry, oldest first."""
        return [
            attempt
            for number, attempt in sorted(self.attempts.items())
            if number > self.forgiven and attempt.spec_key == spec_key
        ]
